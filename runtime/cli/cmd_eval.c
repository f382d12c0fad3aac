/* cmd_eval.c - berth eval: a labelled set answered under each placement; what is right, how fast, and whether all
 * placements say the same. Rows are read once; each placement gets an engine of its own, one after the other. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "cli/eval_score.h"
#include "cli/lines.h"
#include "cli/placements.h"
#include "cli/rows.h"

enum { DEFAULT_PARALLEL = 4, AHEAD = 512 /* requests that wait, at most; the engine takes 1024 */ };

typedef struct eval_row {
    size_t number;
    berth_json *json; /* owned; the line */
    cli_conversation conversation;
    char *answer; /* of this placement; owned, NULL = failed */
    char **first; /* [arithmetics] of the first placement of each; owned, all of them */
} eval_row;

typedef struct eval_set {
    const cli_args *args;
    cli_prompts prompts;
    const cli_prompt *named; /* or NULL */
    eval_row *rows;
    size_t n, cap;
    int32_t n_images;
    int32_t parallel;
    int32_t n_placements;
} eval_set;

typedef struct eval_run { /* one placement */
    const cli_placement *placement;
    berth_status status; /* of the placement as a whole */
    berth_error error;
    char strategy[96]; /* what "auto" took */
    eval_score score;
    int64_t n_failed, n_same, n_tokens, ns;
    char arithmetic[160]; /* placements of one must say the same */
    int32_t first;        /* the first placement of this arithmetic; may be this one */
    char first_failure[400];
    size_t first_other; /* line whose answer is another than the first placement's */
} eval_run;

/* ---- labels ---------------------------------------------------------------------------------------------------------- */

/* What is asked: the command line's word, else the row's. */
static const char *question_of(const eval_set *s, const berth_json_node *row)
{
    if (s->named != NULL) return s->named->user;
    if (s->args->set[OPT_PROMPT]) return s->args->text[OPT_PROMPT];
    return berth_json_as_string(berth_json_get(row, "question"));
}

static berth_status make_conversation(eval_set *s, eval_row *r, const char *labels_file, berth_error *err)
{
    const berth_json_node *row = berth_json_root(r->json);
    const char *file = berth_json_as_string(berth_json_get(row, "file")), *question = question_of(s, row);
    if (berth_json_type_of(berth_json_get(row, "fields")) != BERTH_JSON_OBJECT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "no \"fields\"; a label is {\"file\": ..., \"fields\": {...}}");
    if (question == NULL)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "no \"question\"; give one, or --prompt or --prompts for all");
    if (file != NULL && cli_is_url(file))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a URL is not supported; download the picture", file);
    char *path = file != NULL ? cli_picture_path(labels_file, file) : NULL;
    if (file != NULL && path == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a file name");
    const char *const images[] = {path};
    const char *system = s->named != NULL ? s->named->system : NULL;
    if (s->args->set[OPT_SYSTEM]) system = s->args->text[OPT_SYSTEM];
    berth_status st =
        cli_conversation_make(system, images, file != NULL, question, strlen(question), &r->conversation, err);
    if (st == BERTH_OK && s->named != NULL) cli_conversation_advise(&r->conversation, s->named);
    s->n_images += file != NULL;
    free(path);
    return st;
}

static berth_status add_row(eval_set *s, const cli_lines *l, size_t number, const char *file, berth_error *err)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 64;
        eval_row *more = realloc(s->rows, cap * sizeof *more);
        if (more == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the labels");
        s->rows = more;
        s->cap = cap;
    }
    eval_row *r = &s->rows[s->n++];
    *r = (eval_row){.number = number};
    if (l->too_long) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: line %zu is too long", file, number);
    char what[48];
    snprintf(what, sizeof what, "line %zu", number);
    berth_status st = berth_json_parse(l->line.data, l->line.len, what, &r->json, err);
    if (st == BERTH_OK) {
        st = make_conversation(s, r, file, err);
        if (st != BERTH_OK) berth_error_prefix(err, "line %zu: ", number);
    }
    if (st != BERTH_OK) berth_error_prefix(err, "%s: ", file);
    return st;
}

static berth_status read_labels(eval_set *s, berth_error *err)
{
    const char *file = s->args->text[OPT_LABELS];
    const size_t limit = s->args->set[OPT_LIMIT] ? (size_t)s->args->number[OPT_LIMIT] : SIZE_MAX;
    cli_lines l = {.what = file, .fd = open(file, O_RDONLY | O_CLOEXEC)};
    if (l.fd < 0)
        return BERTH_FAIL_ERRNO(err, errno == ENOENT ? BERTH_NOT_FOUND : BERTH_IO_ERROR, errno,
                                "--labels %s cannot be read", file);
    size_t number = 0;
    bool any;
    berth_status st;
    while ((st = cli_lines_next(&l, &any, err)) == BERTH_OK && any && s->n < limit) {
        number++;
        if (!cli_lines_blank(&l)) st = add_row(s, &l, number, file, err);
        if (st != BERTH_OK) break;
    }
    cli_lines_deinit(&l);
    close(l.fd);
    if (st == BERTH_OK && s->n == 0) st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s holds no labels", file);
    return st;
}

static berth_status read_set(const cli_args *a, eval_set *s, berth_error *err)
{
    *s = (eval_set){.args = a};
    s->parallel = a->set[OPT_PARALLEL] ? (int32_t)a->number[OPT_PARALLEL] : DEFAULT_PARALLEL;
    if (!a->set[OPT_MODEL] || !a->set[OPT_LABELS])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s is required\nusage: %s",
                          a->set[OPT_MODEL] ? "--labels FILE" : "-m DIR", cli_commands[CMD_EVAL].usage);
    if (a->set[OPT_PROMPT] && (a->set[OPT_PROMPTS] || a->set[OPT_PROMPT_NAME]))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--prompt and --prompts both say what is asked; give one");
    if (a->set[OPT_PROMPT_NAME] && !a->set[OPT_PROMPTS])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--prompt-name names a prompt of a file; give --prompts FILE");
    berth_status st = cli_request_check(a, err);
    if (st == BERTH_OK && a->set[OPT_PROMPTS]) {
        st = cli_prompts_read(a->text[OPT_PROMPTS], &s->prompts, err);
        if (st == BERTH_OK)
            st = cli_prompts_find(&s->prompts, a->set[OPT_PROMPT_NAME] ? a->text[OPT_PROMPT_NAME] : NULL, &s->named,
                                  err);
    }
    return st == BERTH_OK ? read_labels(s, err) : st;
}

static void set_deinit(eval_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        berth_json_destroy(s->rows[i].json);
        cli_conversation_deinit(&s->rows[i].conversation);
        free(s->rows[i].answer);
        for (int32_t k = 0; s->rows[i].first != NULL && k < s->n_placements; k++) free(s->rows[i].first[k]);
        free(s->rows[i].first);
    }
    free(s->rows);
    cli_prompts_deinit(&s->prompts);
}

/* ---- one placement --------------------------------------------------------------------------------------------------- */

static void note_failure(eval_run *run, size_t line, const char *message)
{
    if (run->n_failed++ == 0)
        snprintf(run->first_failure, sizeof run->first_failure, "line %zu: %.360s", line, message);
}

static void land(eval_run *run, berth_completion *l)
{
    eval_row *row = l->user;
    if (l->status == BERTH_OK) {
        free(row->answer); /* of a placement that failed on its way */
        row->answer = strdup(l->result->text);
        run->n_tokens += l->result->n_tokens;
    } else {
        note_failure(run, row->number, l->error->message);
    }
}

/* The first placement of an arithmetic sets what the others must say. Takes the row's answer. */
static void compare_answer(eval_run *run, int32_t index, eval_row *row)
{
    if (run->first == index) {
        row->first[index] = row->answer;
        run->n_same++;
    } else {
        const char *first = row->first[run->first] != NULL ? row->first[run->first] : "";
        const bool same = strcmp(first, row->answer != NULL ? row->answer : "") == 0;
        run->n_same += same;
        if (!same && run->first_other == 0) run->first_other = row->number;
        free(row->answer);
    }
    row->answer = NULL;
}

/* In the order of the rows, whatever the order of their ends was. */
static berth_status score_all(eval_set *s, eval_run *run, int32_t index, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (size_t i = 0; i < s->n; i++) {
        eval_row *row = &s->rows[i];
        const berth_json_node *label = berth_json_root(row->json);
        if (st == BERTH_OK)
            st = eval_score_add(&run->score, berth_json_get(label, "fields"),
                                berth_json_as_string(berth_json_get(label, "answer")),
                                row->answer != NULL ? row->answer : "", s->named != NULL ? s->named->fields : NULL,
                                s->named != NULL ? s->named->n_fields : 0, err);
        compare_answer(run, index, row);
    }
    return st;
}

static void show_progress(const eval_set *s, size_t done)
{
    if (s->args->set[OPT_QUIET] || !isatty(STDERR_FILENO)) return;
    if (done < s->n) {
        fprintf(stderr, "\r%zu of %zu\033[K", done, s->n);
    } else {
        fputs("\r\033[K", stderr);
    }
}

/* As many wait as run: enough to be ready in time, and few pictures in memory. */
static bool may_begin(const eval_set *s, size_t n_flying)
{
    const size_t n = (size_t)s->parallel;
    return n_flying < 2 * n && n_flying < n + AHEAD;
}

static berth_status answer_all(eval_set *s, berth_engine *engine, berth_queue *queue, eval_run *run, berth_error *err)
{
    size_t begun = 0, done = 0;
    berth_status st = BERTH_OK;
    const int64_t begin = berth_now_ns();
    while (st == BERTH_OK && done < s->n) {
        while (st == BERTH_OK && begun < s->n && may_begin(s, begun - done)) {
            berth_request r;
            cli_request_init(s->args, &s->rows[begun].conversation, &r);
            r.quiet = 1;
            uint64_t id;
            st = berth_engine_submit(engine, &r, queue, &s->rows[begun++], &id, err);
        }
        berth_completion end = {.struct_size = sizeof end};
        if (st == BERTH_OK) st = berth_queue_next(queue, -1, &end, err);
        if (st != BERTH_OK || end.kind != BERTH_COMPLETION_END) continue;
        land(run, &end);
        berth_completion_deinit(&end);
        show_progress(s, ++done);
    }
    run->ns = berth_now_ns() - begin;
    return st;
}

static int32_t first_alike(const eval_run *runs, int32_t index)
{
    for (int32_t k = 0; k < index; k++) {
        if (runs[k].status == BERTH_OK && strcmp(runs[k].arithmetic, runs[index].arithmetic) == 0) return runs[k].first;
    }
    return index;
}

static berth_status run_placement(eval_set *s, eval_run *runs, int32_t index, berth_error *err)
{
    eval_run *run = &runs[index];
    cli_setup setup = {0};
    berth_engine *engine = NULL;
    berth_queue *queue = NULL;
    cli_args a = cli_placement_args(s->args, run->placement);
    a.number[OPT_BATCH] = s->parallel;
    berth_status st = cli_setup_open(&a, false, false, 0, cli_parallel_tiles(&a, s->parallel), &setup, err);
    if (st == BERTH_OK) st = cli_engine_open(&a, &setup, &engine, err);
    if (st == BERTH_OK) {
        const berth_plan *plan = berth_engine_plan(engine);
        snprintf(run->strategy, sizeof run->strategy, "%s", berth_plan_strategy(plan));
        cli_placement_arithmetic(plan, run->placement, run->arithmetic, sizeof run->arithmetic);
        run->first = first_alike(runs, index);
        st = berth_queue_create(setup.rt, &queue, err);
    }
    if (st == BERTH_OK) st = answer_all(s, engine, queue, run, err);
    if (st == BERTH_OK) st = score_all(s, run, index, err);
    berth_engine_destroy(engine);
    berth_queue_destroy(queue);
    cli_setup_close(&setup);
    return st;
}

/* ---- report ---------------------------------------------------------------------------------------------------------- */

static double per_minute(const eval_set *s, const eval_run *r)
{
    return r->ns > 0 ? (double)s->n_images * 60e9 / (double)r->ns : 0;
}

static void put_rates(berth_buffer *b, const eval_field *f)
{
    berth_buffer_printf(b, "\"accuracy\": %.6f, \"precision\": %.6f, \"recall\": %.6f, \"f1\": %.6f", eval_accuracy(f),
                        eval_precision(f), eval_recall(f), eval_f1(f));
}

static void put_run(berth_buffer *b, const eval_set *s, const eval_run *r)
{
    const eval_score *k = &r->score;
    berth_buffer_puts(b, "{\"devices\": ");
    cli_put_string(b, r->placement->devices, strlen(r->placement->devices));
    berth_buffer_puts(b, ", \"strategy\": ");
    const char *strategy = r->strategy[0] ? r->strategy : r->placement->strategy;
    cli_put_string(b, strategy, strlen(strategy));
    berth_buffer_puts(b, ", \"dtype\": ");
    cli_put_string(b, r->placement->dtype, strlen(r->placement->dtype));
    if (r->status != BERTH_OK) {
        berth_buffer_printf(b, ", \"status\": \"%s\", \"error\": ", berth_status_name(r->status));
        cli_put_string(b, r->error.message, strlen(r->error.message));
        berth_buffer_puts(b, "}");
        return;
    }
    berth_buffer_printf(b,
                        ", \"rows\": %lld, \"failed\": %lld, \"objects\": %lld, \"exact\": %lld, \"with_text\": %lld, "
                        "\"exact_text\": %lld, \"same_as_first\": %lld, \"tokens\": %lld, \"images\": %d, "
                        "\"seconds\": %.3f, \"images_per_minute\": %.2f, ",
                        (long long)k->n_rows, (long long)r->n_failed, (long long)k->n_objects, (long long)k->n_exact,
                        (long long)k->n_with_text, (long long)k->n_exact_text, (long long)r->n_same,
                        (long long)r->n_tokens, (int)s->n_images, (double)r->ns / 1e9, per_minute(s, r));
    put_rates(b, &k->all);
    berth_buffer_puts(b, ", \"fields\": {");
    for (int32_t i = 0; i < k->n_fields; i++) {
        berth_buffer_puts(b, i ? ", " : "");
        cli_put_string(b, k->fields[i].name, strlen(k->fields[i].name));
        berth_buffer_puts(b, ": {");
        put_rates(b, &k->fields[i]);
        berth_buffer_puts(b, "}");
    }
    berth_buffer_printf(b, "}, \"other_fields\": %lld}", (long long)k->others.n_answered);
}

static void put_json(berth_buffer *b, const eval_set *s, const eval_run *runs, int32_t n)
{
    berth_buffer_puts(b, "{\"model\": ");
    cli_put_string(b, s->args->text[OPT_MODEL], strlen(s->args->text[OPT_MODEL]));
    berth_buffer_puts(b, ", \"labels\": ");
    cli_put_string(b, s->args->text[OPT_LABELS], strlen(s->args->text[OPT_LABELS]));
    berth_buffer_printf(b, ", \"parallel\": %d, \"placements\": [", (int)s->parallel);
    for (int32_t i = 0; i < n; i++) {
        berth_buffer_puts(b, i ? ", " : "");
        put_run(b, s, &runs[i]);
    }
    berth_buffer_puts(b, "]}\n");
}

static void put_fields(berth_buffer *b, const eval_run *r)
{
    berth_buffer_printf(b, "\n%s on %s, %s\n%-24s %9s %10s %8s %8s\n", r->strategy, r->placement->devices,
                        r->arithmetic, "field", "accuracy", "precision", "recall", "F1");
    for (int32_t i = 0; i < r->score.n_fields; i++) {
        const eval_field *f = &r->score.fields[i];
        berth_buffer_printf(b, "%-24s %9.4f %10.4f %8.4f %8.4f\n", f->name, eval_accuracy(f), eval_precision(f),
                            eval_recall(f), eval_f1(f));
    }
    if (r->score.others.n_answered)
        berth_buffer_printf(b, "%-24s %lld answered, in no label\n", "others", (long long)r->score.others.n_answered);
}

static void put_table(berth_buffer *b, const eval_set *s, const eval_run *runs, int32_t n)
{
    berth_buffer_printf(b, "%zu rows, %d pictures, %d at once\n\n", s->n, (int)s->n_images, (int)s->parallel);
    berth_buffer_printf(b, "%-18s %-22s %-5s %8s %9s %8s %8s %11s %11s\n", "strategy", "devices", "dtype", "fields",
                        "precision", "recall", "F1", "exact", "images/min");
    for (int32_t i = 0; i < n; i++) {
        const eval_run *r = &runs[i];
        berth_buffer_printf(b, "%-18s %-22s %-5s ", r->strategy[0] ? r->strategy : r->placement->strategy,
                            r->placement->devices, r->placement->dtype);
        if (r->status != BERTH_OK) {
            berth_buffer_printf(b, "%s\n", berth_status_name(r->status));
            continue;
        }
        char exact[32];
        snprintf(exact, sizeof exact, "%lld/%lld", (long long)r->score.n_exact, (long long)r->score.n_rows);
        berth_buffer_printf(b, "%8.4f %9.4f %8.4f %8.4f %11s %11.1f\n", eval_accuracy(&r->score.all),
                            eval_precision(&r->score.all), eval_recall(&r->score.all), eval_f1(&r->score.all), exact,
                            per_minute(s, r));
    }
    for (int32_t i = 0; i < n; i++) {
        if (runs[i].status == BERTH_OK && runs[i].first == i) put_fields(b, &runs[i]);
    }
}

/* What went wrong, on standard error, and the exit code it makes. */
static cli_exit judge(const eval_set *s, const eval_run *runs, int32_t n)
{
    cli_exit code = EXIT_OK;
    for (int32_t i = 0; i < n; i++) {
        const eval_run *r = &runs[i];
        const char *strategy = r->placement->strategy, *devices = r->placement->devices;
        if (r->status != BERTH_OK) {
            fprintf(stderr, "berth: %s on %s: %s\n", strategy, devices, r->error.message);
            if (code == EXIT_OK || code == EXIT_RUN) code = cli_exit_of(r->status);
        } else if (r->n_failed > 0) {
            fprintf(stderr, "berth: %s on %s: %lld of %zu rows failed; the first: %s\n", strategy, devices,
                    (long long)r->n_failed, s->n, r->first_failure);
            if (code == EXIT_OK) code = EXIT_RUN;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        if (runs[i].status != BERTH_OK || runs[i].first_other == 0) continue;
        fprintf(stderr, "berth: %s on %s answers %lld rows otherwise than %s on %s, from line %zu on\n",
                runs[i].placement->strategy, runs[i].placement->devices, (long long)((int64_t)s->n - runs[i].n_same),
                runs[runs[i].first].placement->strategy, runs[runs[i].first].placement->devices, runs[i].first_other);
        code = EXIT_MISMATCH;
    }
    return code;
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

static cli_exit evaluate(eval_set *s, const cli_placements *p, berth_error *err)
{
    eval_run *runs = calloc((size_t)p->n, sizeof *runs);
    bool ready = runs != NULL;
    s->n_placements = p->n;
    for (size_t i = 0; ready && i < s->n; i++)
        ready = (s->rows[i].first = calloc((size_t)p->n, sizeof *s->rows[i].first)) != NULL;
    if (!ready) {
        free(runs);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the placements"), cli_fail(err);
    }
    for (int32_t i = 0; i < p->n; i++) {
        eval_run *r = &runs[i];
        r->placement = &p->list[i];
        r->status = run_placement(s, runs, i, &r->error);
    }
    berth_buffer b = {0};
    (s->args->set[OPT_JSON] ? put_json : put_table)(&b, s, runs, p->n);
    const bool written = !b.failed && cli_write(b.data, b.len);
    cli_exit code = judge(s, runs, p->n);
    if (!written) code = EXIT_RUN;
    berth_buffer_deinit(&b);
    for (int32_t i = 0; i < p->n; i++) eval_score_deinit(&runs[i].score);
    free(runs);
    return code;
}

cli_exit cmd_eval(const cli_args *a)
{
    berth_error err = {0};
    eval_set set;
    cli_placements placements = {0};
    berth_status st = read_set(a, &set, &err);
    if (st == BERTH_OK) st = cli_placements_read(a, &placements, &err);
    const cli_exit code = st == BERTH_OK ? evaluate(&set, &placements, &err) : cli_fail(&err);
    cli_placements_deinit(&placements);
    set_deinit(&set);
    return code;
}
