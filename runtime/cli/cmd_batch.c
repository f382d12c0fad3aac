/* cmd_batch.c - berth batch: lines of requests in, lines of answers out, many in flight, and nothing lost or doubled when
 * it is killed and started again. The parts are in batch.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "cli/batch.h"
#include "cli/rows.h"
#include "cli/stop.h"

enum { DEFAULT_PARALLEL = 4, AHEAD = 512 /* requests that wait, at most; the engine takes 1024 */ };

typedef struct batch {
    const cli_args *args;
    batch_defaults defaults;
    cli_lines lines;
    cli_stop stop;
    cli_setup setup;
    berth_engine *engine;
    berth_queue *queue;
    batch_journal *journal;
    batch_ids seen; /* in this input */
    batch_found found;
    int32_t parallel;
    size_t number; /* of the last line read */
    bool input_over, stopped;
    int32_t n_flying;
    size_t n_answered, n_failed, n_skipped;
    int64_t n_begun, n_written; /* jobs of this run, in order of their lines */
    char **ready;               /* --ordered: [window] answers that wait for those before them; slot = seq % window */
    int64_t window;
    int64_t begin_ns, shown_ns;
    bool show; /* progress */
    char first_failure[256];
} batch;

/* ---- answers out ----------------------------------------------------------------------------------------------------- */

static void put_result(berth_buffer *b, const berth_result *r)
{
    berth_buffer_puts(b, ",\"text\":");
    cli_put_string(b, r->text, strlen(r->text));
    berth_buffer_printf(b, ",\"finish_reason\":\"%s\",\"prompt_tokens\":%d,\"tokens\":%d,\"tiles\":%d}\n",
                        r->finish_reason, (int)r->n_prompt_tokens, (int)r->n_tokens, (int)r->n_tiles);
}

static void put_failure(batch *b, berth_buffer *out, size_t number, const berth_error *why)
{
    berth_buffer_printf(out, ",\"status\":\"%s\",\"error\":", berth_status_name(why->status));
    cli_put_string(out, why->message, strlen(why->message));
    berth_buffer_puts(out, "}\n");
    if (b->n_failed++ == 0)
        snprintf(b->first_failure, sizeof b->first_failure, "line %zu: %.200s", number, why->message);
}

/* Writes an answer, or keeps it until those before it are written. `line` is owned from the call on. */
static berth_status hand_out(batch *b, int64_t seq, char *line, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (b->ready == NULL) {
        st = batch_journal_append(b->journal, line, strlen(line), err);
        free(line);
        b->n_written++;
        return st;
    }
    b->ready[seq % b->window] = line;
    while (st == BERTH_OK && b->ready[b->n_written % b->window] != NULL) {
        char **slot = &b->ready[b->n_written++ % b->window];
        st = batch_journal_append(b->journal, *slot, strlen(*slot), err);
        free(*slot);
        *slot = NULL;
    }
    return st;
}

/* The end of a job: with a result, or with the reason why there is none. */
static berth_status answer(batch *b, const batch_job *job, const berth_result *result, const berth_error *why,
                           berth_error *err)
{
    berth_buffer out = {0};
    berth_buffer_printf(&out, "{\"id\":%s", job->id);
    if (result != NULL) {
        put_result(&out, result);
        b->n_answered++;
    } else {
        put_failure(b, &out, job->number, why);
    }
    char *line = berth_buffer_take(&out);
    if (line == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer to line %zu", job->number);
    return hand_out(b, job->seq, line, err);
}

/* What would fail for every other line too ends the run; a line is then asked again another time. */
static bool is_fatal(berth_status st)
{
    return st == BERTH_OUT_OF_MEMORY || st == BERTH_DEVICE_ERROR || st == BERTH_DEVICE_LOST || st == BERTH_INTERNAL ||
           st == BERTH_BUSY || st == BERTH_AFFINITY;
}

static void drop_job(void *job)
{
    batch_job_deinit(job);
    free(job);
}

static berth_status land(batch *b, const berth_completion *c, berth_error *err)
{
    batch_job *job = c->user;
    berth_status st = BERTH_OK;
    b->n_flying--;
    if (c->status != BERTH_OK && is_fatal(c->status)) {
        *err = *c->error;
        st = c->status;
        berth_error_prefix(err, "line %zu: ", job->number);
    } else {
        st = answer(b, job, c->status == BERTH_OK ? c->result : NULL, c->error, err);
    }
    drop_job(job);
    return st;
}

/* ---- requests in ----------------------------------------------------------------------------------------------------- */

/* A job whose id another line of this input has gets the id of its line, and an error. */
static berth_status check_id(batch *b, batch_job *job, berth_error *why)
{
    size_t first;
    berth_status st = batch_ids_add(&b->seen, job->id, job->number, &first, why);
    if (st != BERTH_OK || first == job->number) return st;
    BERTH_FAIL(why, BERTH_BAD_FILE, "the id %.100s is that of line %zu too; ids must differ", job->id, first);
    free(job->id);
    job->id = batch_line_id(job->number, b->lines.line.data, b->lines.line.len);
    return job->id != NULL ? BERTH_BAD_FILE : BERTH_FAIL(why, BERTH_OUT_OF_MEMORY, "no memory for an id");
}

static berth_status launch(batch *b, batch_job *job, berth_status read, const berth_error *why, berth_error *err)
{
    if (batch_journal_has(b->journal, job->id)) {
        b->n_skipped++;
        batch_job_deinit(job);
        return BERTH_OK;
    }
    job->seq = b->n_begun++;
    if (read != BERTH_OK) {
        berth_status st = answer(b, job, NULL, why, err);
        batch_job_deinit(job);
        return st;
    }
    batch_job *kept = malloc(sizeof *kept);
    if (kept == NULL) {
        batch_job_deinit(job);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for line %zu", b->number);
    }
    *kept = *job;
    uint64_t id;
    berth_status st = berth_engine_submit(b->engine, &kept->request, b->queue, kept, &id, err);
    if (st == BERTH_OK) {
        cli_conversation_deinit(&kept->conversation); /* it was copied */
        b->n_flying++;
        return BERTH_OK;
    }
    if (!is_fatal(st)) st = answer(b, kept, NULL, err, err);
    drop_job(kept);
    return st;
}

/* One line, if a whole one is there. */
static berth_status take_line(batch *b, berth_error *err)
{
    bool any;
    berth_status st = cli_lines_try(&b->lines, &any, err);
    if (st != BERTH_OK || !any) {
        b->input_over = b->lines.over;
        return st;
    }
    b->number++;
    if (cli_lines_blank(&b->lines)) return BERTH_OK;
    batch_job job;
    berth_error why = {0};
    berth_status read = batch_job_read(&b->defaults, &b->lines, b->number, &job, &why);
    if (job.id != NULL && read != BERTH_OUT_OF_MEMORY) {
        berth_error twice = {0};
        berth_status id = check_id(b, &job, &twice);
        if (id != BERTH_OK) {
            read = id;
            why = twice;
        }
    }
    if (read == BERTH_OUT_OF_MEMORY) {
        if (job.id != NULL) batch_job_deinit(&job);
        *err = why;
        return read;
    }
    return launch(b, &job, read, &why, err);
}

/* ---- the loop -------------------------------------------------------------------------------------------------------- */

static void show_progress(batch *b, bool last)
{
    const int64_t now = berth_now_ns();
    if (!b->show || (!last && now - b->shown_ns < 100000000)) return;
    b->shown_ns = now;
    const double minutes = (double)(now - b->begin_ns) / 60e9;
    fprintf(stderr, "\r%zu answered, %zu failed, %d running, %.0f a minute\033[K", b->n_answered, b->n_failed,
            (int)b->n_flying, minutes > 0 ? (double)(b->n_answered + b->n_failed) / minutes : 0.0);
    if (last) fputs("\r\033[K", stderr);
}

static bool may_take(const batch *b)
{
    return !b->input_over && b->n_flying < b->parallel + AHEAD && b->n_flying < 2 * b->parallel &&
           (b->ready == NULL || b->n_begun - b->n_written < b->window);
}

static berth_status wait_for_something(batch *b, short *out_input, berth_error *err)
{
    struct pollfd fds[3] = {{.fd = b->stop.fd, .events = POLLIN},
                            {.fd = berth_queue_descriptor(b->queue), .events = POLLIN},
                            {.fd = may_take(b) ? b->lines.fd : -1, .events = POLLIN}};
    *out_input = 0;
    if (poll(fds, 3, b->show ? 1000 : -1) < 0)
        return errno == EINTR ? BERTH_OK : BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "waiting for requests failed");
    *out_input = fds[2].revents;
    return BERTH_OK;
}

static berth_status serve(batch *b, berth_error *err)
{
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && !(b->stopped = cli_stop_came(&b->stop) != 0)) {
        berth_completion end = {.struct_size = sizeof end};
        st = berth_queue_next(b->queue, 0, &end, err);
        if (st != BERTH_OK) break;
        show_progress(b, false);
        if (end.kind == BERTH_COMPLETION_END) {
            st = land(b, &end, err);
            berth_completion_deinit(&end);
            continue;
        }
        short input = 0;
        const bool at_hand = may_take(b) && cli_lines_buffered(&b->lines);
        if (b->input_over && b->n_flying == 0) break;
        if (!at_hand) st = wait_for_something(b, &input, err);
        if (st == BERTH_OK && (at_hand || input != 0)) st = take_line(b, err);
    }
    show_progress(b, true);
    return st;
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

static berth_status check_options(const cli_args *a, batch_sync *out_sync, berth_error *err)
{
    *out_sync = BATCH_SYNC_SECOND;
    if (!a->set[OPT_MODEL] || !a->set[OPT_IN])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s\nusage: %s",
                          a->set[OPT_MODEL] ? "no requests given; --in FILE is required, - is standard input"
                                            : "no model given; -m DIR is required",
                          cli_commands[CMD_BATCH].usage);
    const char *sync = a->set[OPT_SYNC] ? a->text[OPT_SYNC] : "second";
    if (strcmp(sync, "line") == 0) {
        *out_sync = BATCH_SYNC_LINE;
    } else if (strcmp(sync, "end") == 0) {
        *out_sync = BATCH_SYNC_END;
    } else if (strcmp(sync, "second") != 0) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--sync %s: expected line, second or end", sync);
    }
    if (a->set[OPT_RETRY_FAILED] && (!a->set[OPT_OUT] || strcmp(a->text[OPT_OUT], "-") == 0))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--retry-failed needs the file of answers; give --out FILE");
    return cli_request_check(a, err);
}

/* Opened before the model, so that a wrong name costs nothing. */
static berth_status open_files(batch *b, batch_sync sync, berth_error *err)
{
    const cli_args *a = b->args;
    const char *in = a->text[OPT_IN];
    struct stat s, o;
    b->lines = (cli_lines){.fd = STDIN_FILENO, .what = "standard input"};
    if (strcmp(in, "-") != 0) {
        b->lines.what = in;
        b->lines.fd = open(in, O_RDONLY | O_CLOEXEC);
        if (b->lines.fd < 0)
            return BERTH_FAIL_ERRNO(err, errno == ENOENT ? BERTH_NOT_FOUND : BERTH_IO_ERROR, errno,
                                    "--in %s cannot be read", in);
    }
    if (fstat(b->lines.fd, &s) == 0 && S_ISDIR(s.st_mode))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "--in %s is a folder; name a file of requests", in);
    if (a->set[OPT_OUT] && S_ISREG(s.st_mode) && stat(a->text[OPT_OUT], &o) == 0 && o.st_ino == s.st_ino &&
        o.st_dev == s.st_dev)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--in and --out are the same file, %s", in);
    berth_status st = batch_defaults_read(a, in, &b->defaults, err);
    if (st != BERTH_OK) return st;
    return batch_journal_open(a->set[OPT_OUT] ? a->text[OPT_OUT] : NULL, sync, a->set[OPT_RETRY_FAILED], &b->journal,
                              &b->found, err);
}

static berth_status open_engine(batch *b, berth_error *err)
{
    cli_args a = *b->args;
    a.number[OPT_BATCH] = b->parallel;
    berth_status st = cli_setup_open(&a, false, false, 0, cli_parallel_tiles(&a, b->parallel), &b->setup, err);
    if (st == BERTH_OK) st = cli_stop_open(&b->stop, err);
    if (st == BERTH_OK) st = cli_engine_open(&a, &b->setup, &b->engine, err);
    if (st == BERTH_OK) st = berth_queue_create(b->setup.rt, &b->queue, err);
    if (st != BERTH_OK || !b->args->set[OPT_ORDERED]) return st;
    b->window = 8 * (int64_t)b->parallel + 64;
    b->ready = calloc((size_t)b->window, sizeof *b->ready);
    return b->ready != NULL ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for answers in order");
}

/* Ends what runs; its lines have no answer yet. */
static void close_queue(batch *b)
{
    berth_completion end = {.struct_size = sizeof end};
    while (b->queue != NULL && berth_queue_next(b->queue, 0, &end, NULL) == BERTH_OK &&
           end.kind != BERTH_COMPLETION_NONE) {
        if (end.kind == BERTH_COMPLETION_END) drop_job(end.user);
        berth_completion_deinit(&end);
        end = (berth_completion){.struct_size = sizeof end};
    }
    berth_queue_destroy(b->queue);
}

static void close_all(batch *b)
{
    cli_stop_close(&b->stop);
    berth_engine_destroy(b->engine);
    close_queue(b);
    cli_setup_close(&b->setup);
    for (int64_t i = 0; b->ready != NULL && i < b->window; i++) free(b->ready[i]);
    free(b->ready);
    cli_lines_deinit(&b->lines);
    if (b->lines.fd > STDIN_FILENO) close(b->lines.fd);
    batch_ids_deinit(&b->seen);
    batch_defaults_deinit(&b->defaults);
}

static void say_end(const batch *b)
{
    if (b->args->set[OPT_QUIET]) return;
    const double seconds = (double)(berth_now_ns() - b->begin_ns) / 1e9;
    const size_t done = b->n_answered + b->n_failed;
    fprintf(stderr, "berth: %zu answered, %zu failed", b->n_answered, b->n_failed);
    if (b->n_skipped) fprintf(stderr, ", %zu answered before", b->n_skipped);
    fprintf(stderr, "; %.1f s, %.0f a minute\n", seconds, seconds > 0 ? (double)done * 60 / seconds : 0.0);
}

static void say_begin(const batch *b)
{
    if (b->args->set[OPT_QUIET] || (b->found.n_lines == 0 && !b->found.cut && b->found.n_dropped == 0)) return;
    fprintf(stderr, "berth: going on: %zu answer%s there", b->found.n_lines, b->found.n_lines == 1 ? " is" : "s are");
    if (b->found.cut) fputs(", a torn line was cut off", stderr);
    if (b->found.n_dropped)
        fprintf(stderr, ", %zu failed line%s asked again", b->found.n_dropped,
                b->found.n_dropped == 1 ? " is" : "s are");
    fputs("\n", stderr);
}

static cli_exit finish(batch *b, berth_status st, berth_error *err)
{
    const bool journal_failed = st == BERTH_IO_ERROR && b->engine != NULL;
    close_all(b);
    berth_error closing = {0};
    berth_status closed = batch_journal_close(b->journal, &closing);
    if (st == BERTH_OK && closed != BERTH_OK) *err = closing;
    if (st != BERTH_OK || closed != BERTH_OK) {
        const cli_exit code = cli_fail(err);
        return journal_failed || st == BERTH_OK ? EXIT_RUN : code;
    }
    say_end(b);
    if (b->stopped) {
        fprintf(stderr, "berth: stopped by a signal; the same command goes on from here\n");
        return EXIT_RUN;
    }
    if (b->n_failed > 0)
        fprintf(stderr, "berth: %zu line%s failed; the first: %s\n", b->n_failed, b->n_failed == 1 ? "" : "s",
                b->first_failure);
    return b->n_failed + b->found.n_failed > 0 ? EXIT_RUN : EXIT_OK;
}

cli_exit cmd_batch(const cli_args *a)
{
    berth_error err = {0};
    batch_sync sync;
    berth_status st = check_options(a, &sync, &err);
    if (st != BERTH_OK) return cli_fail(&err);
    batch *b = calloc(1, sizeof *b);
    if (b == NULL) return BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "no memory for a batch"), cli_fail(&err);
    b->args = a;
    b->stop.fd = -1;
    b->parallel = a->set[OPT_PARALLEL] ? (int32_t)a->number[OPT_PARALLEL] : DEFAULT_PARALLEL;
    b->show = isatty(STDERR_FILENO) && !a->set[OPT_QUIET];
    b->begin_ns = berth_now_ns();
    st = open_files(b, sync, &err);
    if (st == BERTH_OK) say_begin(b);
    if (st == BERTH_OK) st = open_engine(b, &err);
    if (st == BERTH_OK) st = serve(b, &err);
    const cli_exit code = finish(b, st, &err);
    free(b);
    return code;
}
