#include "golden.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

const char *const golden_names[] = {"ivl-native", "ivl-remote", "ivl-remote-6b", "ivl-rms-qknorm",
                                    "ivl-tied",   "ivl-qwen3",  "qwen2-text",    NULL};

void golden_must(berth_status st, const berth_error *err, const char *what)
{
    if (st != BERTH_OK) fail_msg("%s: %s: %s", what, berth_status_name(st), err->message);
}

static int32_t *ids_of(const berth_json_node *array, int32_t *out_n)
{
    int32_t n = (int32_t)berth_json_size(array), *ids = calloc((size_t)n + 1, sizeof *ids), i = 0;
    for (const berth_json_node *e = berth_json_first(array); e; e = berth_json_next(e)) {
        int64_t id = -1;
        assert_true(berth_json_as_i64(e, &id));
        ids[i++] = (int32_t)id;
    }
    if (out_n) *out_n = n;
    return ids;
}

static void open_case(golden_model *g, const berth_json_node *node)
{
    assert_true(g->n_cases < 4);
    golden_case *c = &g->cases[g->n_cases++];
    berth_error err = {0};
    snprintf(c->name, sizeof c->name, "%s", berth_json_as_string(berth_json_get(node, "name")));
    const char *file = berth_json_as_string(berth_json_get(node, "tensors"));
    golden_must(berth_safetensors_open(g->dir, file, &c->tensors, &err), &err, file);
    c->node = node;
    c->ids = ids_of(berth_json_get(node, "input_ids"), &c->n_ids);
    const berth_safetensor *pixels = golden_find(c, "pixel_values");
    if (pixels) {
        c->pixels = golden_read(c, pixels);
        c->n_tiles = (int32_t)pixels->dims[0];
    }
    const berth_json_node *penalty = berth_json_get(node, "greedy_repetition_penalty");
    c->greedy = ids_of(berth_json_get(berth_json_get(node, "greedy"), "ids"), &c->n_greedy);
    c->penalty_all = ids_of(berth_json_get(berth_json_get(penalty, "over_prompt_and_generated"), "ids"), NULL);
    c->penalty_new = ids_of(berth_json_get(berth_json_get(penalty, "over_generated_only"), "ids"), NULL);
}

static void home_of(const char *name, char *dir, size_t n)
{
    snprintf(dir, n, "%s/tests/golden/models/%s", BERTH_SOURCE_DIR, name);
}

void golden_open(golden_model *g, const char *name)
{
    char dir[sizeof g->dir];
    home_of(name, dir, sizeof dir);
    golden_open_at(g, name, dir);
}

void golden_open_at(golden_model *g, const char *name, const char *dir)
{
    memset(g, 0, sizeof *g);
    g->name = name;
    snprintf(g->dir, sizeof g->dir, "%s", dir);
    berth_error err = {0};
    const berth_model_data_options options = {0};
    golden_must(berth_model_data_open(g->dir, &options, &g->data, &err), &err, name);
    char *text = NULL;
    size_t n = 0;
    golden_must(berth_file_read_in(g->dir, "golden.json", 64 << 20, &text, &n, &err), &err, name);
    golden_must(berth_json_parse(text, n, "golden.json", &g->json, &err), &err, name);
    free(text);
    const berth_json_node *cases = berth_json_get(berth_json_root(g->json), "cases");
    for (const berth_json_node *c = berth_json_first(cases); c; c = berth_json_next(c)) open_case(g, c);
    assert_true(g->n_cases > 0);
}

void golden_close(golden_model *g)
{
    for (int32_t i = 0; i < g->n_cases; i++) {
        golden_case *c = &g->cases[i];
        berth_safetensors_close(c->tensors);
        free(c->ids);
        free(c->pixels);
        free(c->greedy);
        free(c->penalty_all);
        free(c->penalty_new);
    }
    berth_json_destroy(g->json);
    berth_model_data_release(g->data);
}

/* ---- damaged copies --------------------------------------------------------------------------------------------- */

static void for_each_file(const char *dir, void (*fn)(const char *dir, const char *name, void *arg), void *arg)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_type == DT_REG) fn(dir, e->d_name, arg);
    closedir(d);
}

static void copy_file(const char *dir, const char *name, void *arg)
{
    char *data = NULL, path[640];
    size_t n = 0;
    berth_error err = {0};
    golden_must(berth_file_read_in(dir, name, 64 << 20, &data, &n, &err), &err, name);
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    golden_must(berth_file_write(path, data, n, &err), &err, path);
    free(data);
}

void golden_copy(const char *name, char *dir)
{
    char home[512];
    home_of(name, home, sizeof home);
    snprintf(dir, 64, "/tmp/berth-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for_each_file(home, copy_file, dir);
}

static void remove_file(const char *dir, const char *name, void *arg)
{
    char path[640];
    (void)arg;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    remove(path);
}

void golden_remove(const char *dir)
{
    for_each_file(dir, remove_file, NULL);
    remove(dir);
}

static void encode(berth_dtype dtype, float value, void *out)
{
    uint16_t half = dtype == BERTH_F16 ? berth_f32_to_f16(value) : berth_f32_to_bf16(value);
    memcpy(out, dtype == BERTH_F32 ? (const void *)&value : (const void *)&half, berth_dtype_size(dtype));
}

void golden_patch(const char *dir, berth_role role, int32_t layer, int64_t index, float value)
{
    berth_model_data *m = NULL;
    berth_error err = {0};
    const berth_model_data_options options = {0};
    golden_must(berth_model_data_open(dir, &options, &m, &err), &err, dir);
    int32_t found = berth_model_data_find(m, role, layer);
    if (found < 0) fail_msg("%s has no parameter of role %d in layer %d", dir, (int)role, (int)layer);
    const berth_param *p = berth_model_data_param(m, found);
    char path[640];
    snprintf(path, sizeof path, "%s/%s", dir, berth_model_data_shard(m, p->shard)->name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    size_t size = berth_dtype_size(p->dtype), n = p->n_bytes / size;
    for (size_t i = 0; i < n; i++) {
        if (index >= 0 && (int64_t)i != index) continue;
        unsigned char bytes[4];
        encode(p->dtype, value, bytes);
        assert_int_equal(fseek(f, (long)(p->offset + i * size), SEEK_SET), 0);
        assert_int_equal(fwrite(bytes, 1, size, f), size);
    }
    assert_int_equal(fclose(f), 0);
    berth_model_data_release(m);
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

double golden_tolerance(const golden_case *c, const char *tensor)
{
    double t;
    return berth_json_as_f64(berth_json_get(berth_json_get(c->node, "tolerance"), tensor), &t) ? t : -1;
}

const berth_safetensor *golden_find(const golden_case *c, const char *tensor)
{
    return berth_safetensors_find(c->tensors, tensor);
}

float *golden_read(const golden_case *c, const berth_safetensor *t)
{
    berth_error err = {0};
    assert_int_equal(t->dtype, BERTH_F32);
    float *data = malloc(t->n_bytes + 1);
    golden_must(berth_safetensors_read(c->tensors, t, data, &err), &err, t->name);
    return data;
}

static int64_t longest(const golden_model *g)
{
    int64_t most = 0;
    for (int32_t i = 0; i < g->n_cases; i++)
        if (g->cases[i].n_ids + g->cases[i].n_greedy > most) most = g->cases[i].n_ids + g->cases[i].n_greedy;
    return most;
}

berth_status golden_plan(golden_engine *e, const golden_model *g, const char *devices, const char *strategy,
                         const berth_plan_config *config, berth_error *err)
{
    memset(e, 0, sizeof *e);
    berth_plan_config c = config ? *config : (berth_plan_config){0};
    if (c.context == 0) c.context = longest(g);
    golden_must(berth_machine_parse(devices, &e->machine, err), err, devices);
    berth_status st = berth_core_plan_create(g->data, &e->machine, strategy, NULL, 0, &c, &e->plan, err);
    if (st != BERTH_OK) berth_machine_deinit(&e->machine);
    return st;
}

berth_status golden_start(golden_engine *e, const berth_core_options *options, berth_error *err)
{
    berth_core_plan *plan = e->plan;
    e->plan = NULL;
    berth_status st = berth_core_create(plan, options, &e->core, err);
    if (st == BERTH_OK) e->plan = plan;
    return st;
}

void golden_stop(golden_engine *e)
{
    if (e->core)
        berth_core_destroy(e->core);
    else
        berth_core_plan_destroy(e->plan);
    berth_machine_deinit(&e->machine);
    memset(e, 0, sizeof *e);
}

berth_core_request golden_request(const golden_case *c, int32_t max_new)
{
    return (berth_core_request){.ids = c->ids,
                                .n_ids = c->n_ids,
                                .image_token_id = c->pixels ? GOLDEN_IMAGE_TOKEN : -1,
                                .pixels = c->pixels,
                                .n_tiles = c->n_tiles,
                                .max_new = max_new,
                                .sampling = BERTH_SAMPLING_GREEDY};
}
