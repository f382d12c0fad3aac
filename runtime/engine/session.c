/* session.c - what is kept between the requests of a conversation: its keys and its KV blocks, on one replica.
 *
 * An idle session's blocks belong to its replica's loop, which gives up the longest idle ones when running requests
 * need room. What other threads ask for is done on that loop, between two turns. */
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"

/* ---- idle sessions, by last use --------------------------------------------------------------------------------- */

static void unlink_idle(berth_replica *r, berth_core_session *s)
{
    if (s->older)
        s->older->newer = s->newer;
    else if (r->oldest == s)
        r->oldest = s->newer;
    if (s->newer)
        s->newer->older = s->older;
    else if (r->newest == s)
        r->newest = s->older;
    s->older = s->newer = NULL;
}

void berth_session_settle(berth_replica *r, berth_core_session *s)
{
    s->older = r->newest;
    s->newer = NULL;
    if (r->newest)
        r->newest->newer = s;
    else
        r->oldest = s;
    r->newest = s;
    atomic_store(&s->home, r->index);
}

static void forget(berth_replica *r, berth_core_session *s)
{
    unlink_idle(r, s);
    berth_block_table_give_back(&s->kv, &r->kv);
    berth_block_table_deinit(&s->kv);
    s->n_rows = 0;
    s->is_pinned = false;
    atomic_store(&s->home, -1);
}

/* Blocks that nobody but the session has: kept or given back, its next request can count on them. */
static int32_t own_blocks(const berth_core_session *s, const berth_replica *r)
{
    int32_t n = 0;
    if (!s || atomic_load(&s->home) != r->index) return 0;
    for (int32_t i = 0; i < s->kv.n_blocks; i++) n += r->kv.blocks[s->kv.blocks[i]].n_users == 1;
    return n;
}

void berth_sessions_forget_all(berth_replica *r)
{
    while (r->oldest) forget(r, r->oldest);
}

bool berth_session_make_room(berth_replica *r, const berth_core_session *but, int32_t n_blocks)
{
    berth_core_session *s = r->oldest;
    while (s && berth_blocks_available(&r->kv) + own_blocks(but, r) < n_blocks) {
        berth_core_session *next = s->newer;
        if (s != but && !s->is_pinned) forget(r, s);
        s = next;
    }
    return berth_blocks_available(&r->kv) + own_blocks(but, r) >= n_blocks;
}

void berth_session_let_go(berth_core_session *s, const berth_replica *r)
{
    if (atomic_load(&s->home) == r->index) s->is_pinned = false;
    atomic_store(&s->is_busy, false);
}

/* ---- to a request and back -------------------------------------------------------------------------------------- */

int64_t berth_session_lend(berth_core_session *s, berth_active *a)
{
    berth_replica *r = a->replica;
    if (atomic_load(&s->home) != r->index) return 0;
    int64_t common = berth_prefix_common(s->keys, s->n_rows, a->keys, a->request->n_ids - 1);
    unlink_idle(r, s);
    int64_t kept = berth_block_table_keep(&s->kv, &r->kv, common);
    a->is_foreign = s->is_foreign && kept > 0;
    berth_block_table_deinit(&a->kv);
    a->kv = s->kv;
    s->kv = (berth_block_table){0};
    s->n_rows = 0;
    s->is_pinned = false;
    atomic_store(&s->home, -1);
    return kept;
}

void berth_session_take_back(berth_core_session *s, berth_active *a)
{
    berth_replica *r = a->replica;
    if (a->keeps && a->status == BERTH_OK && a->n_computed > 0) {
        if (atomic_load(&s->home) >= 0) forget(r, s); /* it was not lent: nothing of it fitted */
        s->n_rows = berth_block_table_keep(&a->kv, &r->kv, a->n_computed);
        s->kv = a->kv;
        s->is_foreign = a->is_foreign;
        a->kv = (berth_block_table){0};
        free(s->keys);
        s->keys = a->keys;
        a->keys = NULL;
        berth_session_settle(r, s);
    }
    berth_session_let_go(s, r);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static berth_core_session *new_session(berth_core *core)
{
    berth_core_session *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->core = core;
    atomic_init(&s->home, -1);
    atomic_fetch_add(&core->n_sessions, 1);
    return s;
}

berth_status berth_core_session_create(berth_core *core, berth_core_session **out, berth_error *err)
{
    *out = new_session(core);
    return *out ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a session");
}

typedef struct session_call {
    berth_core_session *session, *other;
    const uint64_t *keys;
    int64_t n, covered;
    bool pin;
    berth_status status;
    berth_error *err;
} session_call;

/* Does `fn` on the loop of the replica that holds the session's KV; false: none does. */
static bool call_home(berth_core_session *s, void (*fn)(berth_replica *r, void *arg), session_call *call)
{
    int32_t home = atomic_load(&s->home);
    if (home < 0) return false;
    call->session = s;
    berth_replica_call(&s->core->replicas[home], fn, call);
    return true;
}

static bool is_home(const berth_core_session *s, const berth_replica *r)
{
    return atomic_load(&s->home) == r->index;
}

static void forget_on_loop(berth_replica *r, void *arg)
{
    session_call *c = arg;
    if (is_home(c->session, r)) forget(r, c->session);
}

void berth_core_session_destroy(berth_core_session *s)
{
    if (!s) return;
    call_home(s, forget_on_loop, &(session_call){0});
    atomic_fetch_sub(&s->core->n_sessions, 1);
    free(s->keys);
    free(s);
}

/* ---- looking and sharing ---------------------------------------------------------------------------------------- */

static void count_on_loop(berth_replica *r, void *arg)
{
    session_call *c = arg;
    c->covered = is_home(c->session, r) ? c->session->n_rows : 0;
}

berth_core_session_info berth_core_session_get_info(berth_core_session *s)
{
    session_call c = {0};
    call_home(s, count_on_loop, &c);
    return (berth_core_session_info){
        .n_tokens = (int32_t)c.covered, .replica = atomic_load(&s->home), .busy = atomic_load(&s->is_busy)};
}

static void cover_on_loop(berth_replica *r, void *arg)
{
    session_call *c = arg;
    if (!is_home(c->session, r)) return;
    int64_t common = berth_prefix_common(c->session->keys, c->session->n_rows, c->keys, c->n - 1);
    c->covered = common / r->kv.block * r->kv.block; /* a shared last block would not be kept */
    c->session->is_pinned = c->pin;
}

int32_t berth_core_session_covers(berth_core_session *s, const berth_core_request *q, bool pin)
{
    const berth_model_config *config = s->core->config;
    const berth_prefix_tokens tokens = {.ids = q->ids,
                                        .n = q->n_ids,
                                        .image_id = q->n_tiles > 0 ? q->image_token_id : -1,
                                        .tile_digests = q->tile_digests,
                                        .n_tiles = q->n_tiles,
                                        .tokens_per_tile = config->has_vision ? config->vision.tokens_per_tile : 0};
    if (q->n_ids < 1 || (q->n_tiles > 0 && !q->tile_digests)) return 0;
    uint64_t *keys = calloc((size_t)q->n_ids, sizeof *keys);
    session_call c = {.keys = keys, .n = q->n_ids, .pin = pin};
    if (keys && berth_prefix_keys(&tokens, keys, NULL) == BERTH_OK) call_home(s, cover_on_loop, &c);
    free(keys);
    return (int32_t)c.covered;
}

static void unpin_on_loop(berth_replica *r, void *arg)
{
    session_call *c = arg;
    if (is_home(c->session, r)) c->session->is_pinned = false;
}

void berth_core_session_unpin(berth_core_session *s)
{
    call_home(s, unpin_on_loop, &(session_call){0});
}

static void fork_on_loop(berth_replica *r, void *arg)
{
    session_call *c = arg;
    const berth_core_session *s = c->session;
    berth_core_session *t = c->other;
    if (!is_home(s, r) || s->n_rows == 0) return;
    t->keys = malloc((size_t)s->n_rows * sizeof *t->keys);
    if (!t->keys) {
        c->status = BERTH_FAIL(c->err, BERTH_OUT_OF_MEMORY, "a session of %lld tokens", (long long)s->n_rows);
        return;
    }
    memcpy(t->keys, s->keys, (size_t)s->n_rows * sizeof *t->keys);
    c->status = berth_block_table_init(&t->kv, &r->kv, r->core->plan->config.context, c->err);
    if (c->status != BERTH_OK) return;
    t->is_foreign = s->is_foreign;
    t->n_rows = berth_block_table_fork(&t->kv, &r->kv, &s->kv, s->n_rows);
    berth_session_settle(r, t);
}

berth_status berth_core_session_fork(berth_core_session *s, berth_core_session **out, berth_error *err)
{
    *out = NULL;
    if (atomic_exchange(&s->is_busy, true))
        return BERTH_FAIL(err, BERTH_BUSY, "the session has a request under way; wait for its end, then fork");
    session_call c = {.other = new_session(s->core), .err = err};
    if (!c.other)
        c.status = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a session");
    else
        call_home(s, fork_on_loop, &c);
    atomic_store(&s->is_busy, false);
    if (c.status == BERTH_OK)
        *out = c.other;
    else
        berth_core_session_destroy(c.other);
    return c.status;
}
