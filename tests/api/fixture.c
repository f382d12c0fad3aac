/* fixture.c - see fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void must(berth_status st, const berth_error *err, const char *what)
{
    if (st != BERTH_OK) fail_msg("%s: %s: %s", what, berth_status_name(st), err->message);
}

berth_engine *fixture_engine(berth_model *model, const fixture_options *o)
{
    berth_error err = {0};
    berth_plan *plan = NULL;
    berth_engine *engine = NULL;
    const berth_plan_options plan_options = {.struct_size = sizeof plan_options,
                                             .devices = o->devices,
                                             .strategy = o->strategy,
                                             .n_seqs = o->n_seqs,
                                             .context = o->context > 0 ? o->context : 256};
    must(berth_plan_create(model, &plan_options, &plan, &err), &err, "plan");
    berth_engine_options engine_options = o->engine;
    engine_options.struct_size = sizeof engine_options;
    must(berth_engine_create(plan, &engine_options, &engine, &err), &err, "engine");
    return engine;
}

fixture fixture_open(const fixture_options *o)
{
    static const fixture_options defaults;
    if (o == NULL) o = &defaults;
    berth_error err = {0};
    fixture f = {0};
    char dir[512];
    snprintf(dir, sizeof dir, "%s%s", FIXTURE_MODELS, o->model != NULL ? o->model : "qwen2-text");
    must(berth_runtime_create(o->runtime, &f.rt, &err), &err, "runtime");
    must(berth_model_open(f.rt, dir, NULL, &f.model, &err), &err, "model");
    f.engine = fixture_engine(f.model, o);
    return f;
}

void fixture_close(fixture *f)
{
    berth_engine_destroy(f->engine);
    berth_model_close(f->model);
    berth_runtime_destroy(f->rt);
    *f = (fixture){0};
}

berth_stats stats_of(const fixture *f)
{
    berth_stats s = {.struct_size = sizeof s};
    berth_error err = {0};
    must(berth_engine_get_stats(f->engine, &s, &err), &err, "stats");
    return s;
}

void await_running(const fixture *f, int32_t n)
{
    for (berth_stats s = stats_of(f); s.n_running != n || s.n_waiting > 0; s = stats_of(f)) sleep_us(100);
}

void ask(asking *a, const char *text, int32_t max_new)
{
    memset(a, 0, sizeof *a);
    a->content[0] = (berth_content){.kind = BERTH_CONTENT_TEXT, .data = text, .size = strlen(text)};
    a->turn = (berth_turn){.role = "user", .content = a->content, .n_content = 1};
    berth_request_init(&a->request);
    a->request.turns = &a->turn;
    a->request.n_turns = 1;
    a->request.max_new_tokens = max_new;
    a->request.ignore_stop = 1;
}

void ask_picture(asking *a, const char *path, const char *text, int32_t max_new)
{
    ask(a, text, max_new);
    a->content[1] = a->content[0];
    a->content[0] = (berth_content){.kind = BERTH_CONTENT_IMAGE_FILE, .data = path};
    a->turn.n_content = 2;
}

berth_result run_request(berth_engine *e, const berth_request *r)
{
    berth_result result = {.struct_size = sizeof result};
    berth_error err = {0};
    must(berth_engine_run(e, r, &result, &err), &err, "run");
    return result;
}

berth_completion wait_end(berth_queue *q, uint64_t id)
{
    berth_error err = {0};
    for (;;) {
        berth_completion c = {.struct_size = sizeof c};
        must(berth_queue_next(q, -1, &c, &err), &err, "next");
        if (c.kind == BERTH_COMPLETION_END && (id == 0 || c.id == id)) return c;
        berth_completion_deinit(&c);
    }
}

void sleep_us(int64_t us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

int64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long long total = 0, resident = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lld %lld", &total, &resident), 2);
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

int32_t open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int32_t n = 0;
    assert_non_null(d);
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}
