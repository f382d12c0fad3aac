/* isolated.c - asking a plug-in that runs in a process of its own: the request, and what its answer or its end means. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/checked.h"
#include "base/text.h"
#include "plugin/plugin_internal.h"

#define MEMORY_BYTES ((uint64_t)2 << 30) /* of the child, besides its request and its answer */

typedef struct asked {
    const char *path, *host;
    const berth_strategy_input *in; /* NULL: only words were asked for */
    int32_t timeout_ms;
    size_t most; /* bytes of a reply */
} asked;

/* ---- a child that ended without an answer ---- */

static const char *phase_name(berth_plugin_phase phase)
{
    static const char *const names[BERTH_PLUGIN_PHASES] = {
        [BERTH_PLUGIN_LOADING] = "while it was loaded",
        [BERTH_PLUGIN_CHECKING] = "in check",
        [BERTH_PLUGIN_PLACING] = "in place",
        [BERTH_PLUGIN_ANSWERING] = "after place",
    };
    return names[phase];
}

static berth_status name_signal(const asked *a, const char *phase, int sig, berth_error *err)
{
    const char *words = sigdescr_np(sig);
    return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s crashed %s: signal %d (%s)", a->path, phase, sig,
                      words ? words : "unknown");
}

static berth_status name_exit(const asked *a, const char *phase, int status, berth_error *err)
{
    if (status == BERTH_HOST_NO_PIPE)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s closed the descriptor for its answer, %s", a->path, phase);
    if (status == BERTH_HOST_NO_REQUEST)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "the program %s is not of this version of berth (%s)", a->host,
                          BERTH_VERSION);
    return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s ended its process %s, with exit status %d and without an answer",
                      a->path, phase, status);
}

static berth_status name_end(const asked *a, const berth_reply *r, const berth_child_end *end, berth_error *err)
{
    const char *phase = phase_name(r->phase);
    if (end->too_much)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s answered with more than the %zu bytes that an answer can have; it was ended",
                          a->path, a->most);
    if (r->is_garbage)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s answered with bytes that are no answer; it was ended",
                          a->path);
    if (end->timed_out)
        return BERTH_FAIL(err, BERTH_DEADLINE,
                          "plug-in %s gave no answer within %d ms (%s); it was ended; --strategy-timeout "
                          "(strategy_timeout_ms) gives it longer",
                          a->path, (int)a->timeout_ms, phase);
    if (end->reaped_by_other)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s: its process ended %s without an answer", a->path, phase);
    if (WIFSIGNALED(end->wait_status)) return name_signal(a, phase, WTERMSIG(end->wait_status), err);
    return name_exit(a, phase, WEXITSTATUS(end->wait_status), err);
}

/* ---- answers ---- */

static berth_status bad_answer(const asked *a, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s answered with bytes that are no answer", a->path);
}

static void take_text(char *out, size_t n, const char *text)
{
    char raw[256];
    snprintf(raw, sizeof raw, "%.*s", (int)(n - 1), text);
    berth_quote(out, n, raw, strlen(raw));
}

static berth_status take_words(const asked *a, const berth_reply *r, berth_plugin_words *out, berth_error *err)
{
    berth_plugin_words said;
    if (!r->words) return bad_answer(a, err);
    memcpy(&said, r->words, sizeof said);
    take_text(out->name, sizeof out->name, said.name);
    take_text(out->about, sizeof out->about, said.about);
    take_text(out->source, sizeof out->source, said.source);
    return BERTH_OK;
}

static berth_status take_failure(const asked *a, const berth_reply *r, berth_error *err)
{
    int32_t status;
    memcpy(&status, r->data, sizeof status);
    if (status <= BERTH_OK || status >= BERTH_STATUS_COUNT) return bad_answer(a, err);
    const char *message = r->data + sizeof status;
    int len = (int)strnlen(message, r->size - sizeof status);
    return BERTH_FAIL(err, (berth_status)status, "%.*s", len, message);
}

static berth_status take_placement(const asked *a, const berth_reply *r, berth_plugin_answer *out, berth_error *err)
{
    if (!a->in) return bad_answer(a, err);
    memcpy(&out->n_replicas, r->data, sizeof out->n_replicas);
    bool is_count = out->n_replicas >= 1 && out->n_replicas <= a->in->n_devices;
    size_t head = sizeof out->n_replicas + sizeof out->note;
    size_t rows = is_count ? (size_t)out->n_replicas * (size_t)a->in->n_nodes * sizeof *out->device_of : 0;
    if (r->size != head + rows) return bad_answer(a, err);
    memcpy(out->note, r->data + sizeof out->n_replicas, sizeof out->note);
    if (rows == 0) return BERTH_OK;
    out->device_of = malloc(rows);
    if (!out->device_of) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer of plug-in %s", a->path);
    memcpy(out->device_of, r->data + head, rows);
    return BERTH_OK;
}

static berth_status take_reply(const asked *a, const berth_reply *r, berth_plugin_words *words,
                               berth_plugin_answer *out, berth_error *err)
{
    berth_status st;
    switch (r->kind) {
    case BERTH_REPLY_FAILED: return take_failure(a, r, err);
    case BERTH_REPLY_INPUTS:
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s wrote to its inputs (%s), which are not its own; it was ended", a->path,
                          phase_name(r->phase));
    case BERTH_REPLY_DONE: return a->in ? bad_answer(a, err) : take_words(a, r, words, err);
    default: st = take_words(a, r, words, err); return st == BERTH_OK ? take_placement(a, r, out, err) : st;
    }
}

/* ---- asking ---- */

static berth_status ask(asked *a, berth_plugin_words *words, berth_plugin_answer *out, berth_error *err)
{
    berth_flat *request;
    berth_status st = berth_flat_make(a->in, a->in ? BERTH_PLUGIN_PLACE : BERTH_PLUGIN_DESCRIBE, &request, err);
    if (st != BERTH_OK) return st;
    berth_buffer bytes = {0};
    berth_child_end end;
    request->memory_bytes = MEMORY_BYTES + a->most + request->size;
    st = berth_child_run(a->host, a->path, request, (size_t)request->size, a->most, a->timeout_ms, &bytes, &end, err);
    if (st == BERTH_OK) {
        berth_reply r;
        berth_reply_read(bytes.data, bytes.len, &r);
        if (r.is_whole && !end.too_much) {
            st = take_reply(a, &r, words, out, err);
        } else {
            st = name_end(a, &r, &end, err);
            if (end.words[0] != '\0') berth_error_append(err, "; it wrote: %s", end.words);
        }
    }
    berth_buffer_deinit(&bytes);
    free(request);
    return st;
}

berth_status berth_plugin_ask(const char *path, const berth_plugin_options *o, const berth_strategy_input *in,
                              berth_plugin_words *out_words, berth_plugin_answer *out, berth_error *err)
{
    asked a = {.path = path,
               .in = in,
               .timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : BERTH_PLUGIN_TIMEOUT_MS,
               .most = BERTH_REPLY_SLACK};
    size_t rows;
    if (in && (!berth_mul_size((size_t)in->n_nodes, (size_t)in->n_devices, &rows) ||
               !berth_mul_size(rows, sizeof(int32_t), &rows) || !berth_add_size(a.most, rows, &a.most)))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d modules on %d devices are too many for one answer",
                          (int)in->n_nodes, (int)in->n_devices);
    char *host;
    berth_status st = berth_host_path(o->host, &host, err);
    if (st != BERTH_OK) return st;
    a.host = host;
    st = ask(&a, out_words, out, err);
    free(host);
    return st;
}
