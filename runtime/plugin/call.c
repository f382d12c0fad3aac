/* call.c - calling a plug-in's check and place, the same way in the host and in a child process, and judging what is
 * left behind.
 *
 * The plug-in writes into storage with guards around it and an error of its own; what it says is copied out and
 * believed in nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"
#include "plugin/plugin_internal.h"

enum { GUARD = 64, GUARD_VALUE = 0x5AB7E11D }; /* int32_t on either side of device_of */

void berth_plugin_answer_deinit(berth_plugin_answer *a)
{
    free(a->device_of);
    *a = (berth_plugin_answer){0};
}

/* ---- storage with guards ---- */

static int32_t *make_storage(size_t n)
{
    size_t all, bytes;
    if (!berth_add_size(n, 2 * GUARD, &all) || !berth_mul_size(all, sizeof(int32_t), &bytes)) return NULL;
    int32_t *s = malloc(bytes);
    for (size_t i = 0; s && i < all; i++) s[i] = i < GUARD || i >= GUARD + n ? GUARD_VALUE : -1;
    return s;
}

static bool is_guarded(const int32_t *s, size_t n)
{
    for (size_t i = 0; i < GUARD; i++)
        if (s[i] != GUARD_VALUE || s[GUARD + n + i] != GUARD_VALUE) return false;
    return true;
}

/* ---- one function ---- */

static void tell(const berth_plugin_call *c, berth_plugin_phase phase)
{
    if (c->on_phase) c->on_phase(c->user, phase);
}

static berth_status check_inputs(const berth_plugin_call *c, berth_error *err)
{
    if (!c->pristine || memcmp(c->live, c->pristine, c->size) == 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE,
                      "plug-in %s wrote to its inputs, which are not its own; its answer is not used", c->path);
}

/* The plug-in's refusal in words of ours: its message may have no end, and its pointers go when it is closed. */
static berth_status refusal(const berth_plugin_call *c, const char *function, int said, const berth_error *its,
                            berth_error *err)
{
    if (said <= BERTH_OK || said >= BERTH_STATUS_COUNT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s: %s returned %d, which is no status", c->path, function,
                          said);
    int len = (int)strnlen(its->message, sizeof its->message);
    if (len == 0)
        return BERTH_FAIL(err, (berth_status)said, "plug-in %s: %s refused (%s) and gave no reason", c->path, function,
                          berth_status_name((berth_status)said));
    berth_status st = BERTH_FAIL(err, (berth_status)said, "plug-in %s: %.*s", c->path, len, its->message);
    if (err) err->device = its->device < 0 || its->device >= c->in->n_devices ? -1 : its->device;
    return st;
}

static berth_status call_check(const berth_plugin_call *c, berth_error *err)
{
    if (!c->strategy->check) return BERTH_OK;
    berth_error its = {.device = -1};
    tell(c, BERTH_PLUGIN_CHECKING);
    int said = (int)c->strategy->check(c->in, &its);
    berth_status st = check_inputs(c, err);
    if (st != BERTH_OK || said == BERTH_OK) return st;
    return refusal(c, "check", said, &its, err);
}

static berth_status call_place(const berth_plugin_call *c, int32_t *storage, size_t n, berth_plugin_answer *out,
                               berth_error *err)
{
    berth_error its = {.device = -1};
    const berth_strategy_output given = {
        .struct_size = sizeof given, .device_of = storage + GUARD, .max_replicas = c->in->n_devices};
    berth_strategy_output said_out = given;
    tell(c, BERTH_PLUGIN_PLACING);
    int said = (int)c->strategy->place(c->in, &said_out, &its);
    tell(c, BERTH_PLUGIN_ANSWERING);
    berth_status st = check_inputs(c, err);
    if (st != BERTH_OK) return st;
    if (!is_guarded(storage, n))
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s wrote outside of device_of, which has room for %d replicas of %d modules",
                          c->path, (int)given.max_replicas, (int)c->in->n_nodes);
    if (said != BERTH_OK) return refusal(c, "place", said, &its, err);
    if (said_out.struct_size != given.struct_size || said_out.device_of != given.device_of ||
        said_out.max_replicas != given.max_replicas)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s changed struct_size, device_of or max_replicas of its output; it fills what "
                          "device_of points to, "
                          "n_replicas and note",
                          c->path);
    out->n_replicas = said_out.n_replicas;
    memcpy(out->note, said_out.note, sizeof out->note);
    return BERTH_OK;
}

berth_status berth_plugin_run(const berth_plugin_call *c, berth_plugin_answer *out, berth_error *err)
{
    *out = (berth_plugin_answer){0};
    size_t n;
    int32_t *storage = NULL;
    if (berth_mul_size((size_t)c->in->n_nodes, (size_t)c->in->n_devices, &n)) storage = make_storage(n);
    if (!storage) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer of plug-in %s", c->path);
    berth_status st = call_check(c, err);
    if (st == BERTH_OK) st = call_place(c, storage, n, out, err);
    if (st == BERTH_OK) memmove(storage, storage + GUARD, n * sizeof *storage);
    if (st == BERTH_OK) out->device_of = storage;
    if (st != BERTH_OK) free(storage);
    return st;
}

/* ---- in process ---- */

static berth_status run_here(const berth_plugin *p, const char *path, const berth_strategy_input *in,
                             berth_plugin_answer *out, berth_error *err)
{
    berth_flat *live;
    berth_status st = berth_flat_make(in, BERTH_PLUGIN_PLACE, &live, err);
    if (st != BERTH_OK) return st;
    size_t size = (size_t)live->size;
    void *pristine = malloc(size);
    if (!pristine) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a copy of the inputs of plug-in %s", path);
    } else if (!berth_flat_resolve(live, size)) {
        st = BERTH_FAIL(err, BERTH_INTERNAL, "the copy of the inputs of plug-in %s is not whole", path);
    } else {
        memcpy(pristine, live, size);
        st = berth_plugin_run(&(berth_plugin_call){.strategy = berth_plugin_strategy(p),
                                                   .path = path,
                                                   .in = &live->in,
                                                   .live = live,
                                                   .pristine = pristine,
                                                   .size = size},
                              out, err);
    }
    free(pristine);
    free(live);
    return st;
}

static void take_words(const berth_strategy *s, berth_plugin_words *out)
{
    snprintf(out->name, sizeof out->name, "%s", s->name);
    berth_quote(out->about, sizeof out->about, s->about, strlen(s->about));
    berth_quote(out->source, sizeof out->source, s->source ? s->source : "", s->source ? strlen(s->source) : 0);
}

static berth_status answer_here(const char *path, const berth_strategy_input *in, berth_plugin_words *words,
                                berth_plugin_answer *out, berth_error *err)
{
    berth_plugin *p;
    berth_status st = berth_plugin_open(path, &p, err);
    if (st != BERTH_OK) return st;
    take_words(berth_plugin_strategy(p), words);
    if (in) st = run_here(p, path, in, out, err);
    berth_plugin_close(p);
    return st;
}

/* ---- both ways ---- */

static berth_status check_options(const berth_plugin_options *o, berth_error *err)
{
    if (o->timeout_ms >= 0 && o->timeout_ms <= BERTH_PLUGIN_TIMEOUT_MS_MOST) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "strategy_timeout_ms = %d is out of range; give 0 (%d ms) to %d",
                      (int)o->timeout_ms, BERTH_PLUGIN_TIMEOUT_MS, BERTH_PLUGIN_TIMEOUT_MS_MOST);
}

berth_status berth_plugin_place(const char *path, const berth_plugin_options *o, const berth_strategy_input *in,
                                berth_placement **out, berth_error *err)
{
    *out = NULL;
    berth_plugin_answer answer = {0};
    berth_plugin_words words = {0};
    berth_status st = check_options(o, err);
    if (st == BERTH_OK)
        st = o->isolated ? berth_plugin_ask(path, o, in, &words, &answer, err)
                         : answer_here(path, in, &words, &answer, err);
    if (st == BERTH_OK) {
        char who[256], shown[128];
        snprintf(who, sizeof who, "strategy %s (%s)", words.name, berth_quote(shown, sizeof shown, path, strlen(path)));
        st = berth_placement_accept(&(berth_placement_answer){.strategy = words.name,
                                                              .who = who,
                                                              .n_replicas = answer.n_replicas,
                                                              .device_of = answer.device_of,
                                                              .note = answer.note},
                                    in, out, err);
    }
    berth_plugin_answer_deinit(&answer);
    return st;
}

berth_status berth_plugin_describe(const char *path, const berth_plugin_options *o, berth_plugin_words *out,
                                   berth_error *err)
{
    *out = (berth_plugin_words){0};
    berth_status st = check_options(o, err);
    if (st != BERTH_OK) return st;
    return o->isolated ? berth_plugin_ask(path, o, NULL, out, NULL, err) : answer_here(path, NULL, out, NULL, err);
}
