/* session_file.c - a session's rows to bytes and back, independent of placement: keys, then each layer's keys and
 * values row by row, [2, n_kv_heads, head_dim] of the layer's dtype.
 *
 * Numbers are little-endian, as every machine berth runs on has them. The bytes come from strangers: every size is
 * checked against what is there before anything is taken. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sha256.h"
#include "engine/core.h"

typedef struct file_head {
    char magic[8];
    uint32_t version, n_layers, n_kv_heads, head_dim;
    uint64_t n_rows;
    uint8_t model[32]; /* fingerprint */
} file_head;

static const char magic[8] = "berthKV";

enum { VERSION = 1, SAMPLE = 64 };

/* ---- which model ------------------------------------------------------------------------------------------------ */

typedef struct tensor_print {
    int32_t role, layer, dtype, n_dims;
    int64_t dims[2];
    uint8_t sample[SAMPLE]; /* first bytes of its weights */
} tensor_print;

/* Of every parameter its place, shape and first bytes: two models that agree in these have the same keys and values. */
berth_status berth_core_fingerprint(const berth_core *core, uint8_t out[32], berth_error *err)
{
    const berth_model_data *m = core->plan->model;
    size_t n = (size_t)berth_model_data_n_params(m);
    tensor_print *all = calloc(n + 1, sizeof *all);
    if (!all) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a model's fingerprint");
    for (size_t i = 0; i < n; i++) {
        const berth_param *p = berth_model_data_param(m, (int32_t)i);
        all[i] =
            (tensor_print){(int32_t)p->role, p->layer, (int32_t)p->dtype, p->n_dims, {p->dims[0], p->dims[1]}, {0}};
        size_t want = p->n_bytes < SAMPLE ? p->n_bytes : SAMPLE;
        if (p->shard < 0) continue;
        int fd = berth_model_data_shard(m, p->shard)->fd;
        if (pread(fd, all[i].sample, want, (off_t)p->offset) != (ssize_t)want) memset(all[i].sample, 0, SAMPLE);
    }
    bool ok = berth_sha256(all, n * sizeof *all, out);
    free(all);
    return ok ? BERTH_OK : BERTH_FAIL(err, BERTH_INTERNAL, "SHA-256 failed");
}

/* ---- a layer's rows --------------------------------------------------------------------------------------------- */

typedef struct layer_rows {
    uint8_t *base; /* the store */
    berth_dtype dtype;
    size_t part;         /* bytes of a head's part of a row */
    size_t heads, block; /* of a store's block: [2, heads, block, part] */
    int32_t device;
} layer_rows;

static bool find_layer(const berth_replica *r, int32_t layer, layer_rows *out)
{
    const berth_program *p = r->passes[0].bound[BERTH_STEP].program;
    const berth_text_config *text = &r->core->config->text;
    int32_t v = berth_program_find_state(p, BERTH_STATE_KV, layer);
    if (v < 0) return false;
    *out = (layer_rows){.base = r->passes[0].bound[BERTH_STEP].data[v],
                        .dtype = p->values[v].dtype,
                        .part = (size_t)text->head_dim * berth_dtype_size(p->values[v].dtype),
                        .heads = (size_t)text->n_kv_heads,
                        .block = (size_t)r->kv.block,
                        .device = p->values[v].device};
    return true;
}

/* Strict mode: while the host copies, no op runs in the whole engine, and the device of the layer at hand is open. */
static void begin_copies(berth_core *core)
{
    if (!core->exec.strict) return;
    pthread_mutex_lock(&core->strict_turn);
    pthread_mutex_lock(&core->exec.strict_lock);
}

static void open_layer(berth_core *core, const layer_rows *l)
{
    if (!core->exec.strict) return;
    berth_strict_only(core->exec.strict, BERTH_DEVICE_HOST);
    berth_strict_open(core->exec.strict, l->device, true);
}

static void end_copies(berth_core *core)
{
    if (!core->exec.strict) return;
    berth_strict_only(core->exec.strict, BERTH_DEVICE_HOST);
    pthread_mutex_unlock(&core->exec.strict_lock);
    pthread_mutex_unlock(&core->strict_turn);
}

static size_t row_bytes(const layer_rows *l)
{
    return 2 * l->heads * l->part;
}

static size_t block_bytes(const layer_rows *l)
{
    return l->block * row_bytes(l);
}

/* Row `row` of a block between the block's memory and the session's bytes. */
static void copy_row(const layer_rows *l, uint8_t *block, int64_t row, uint8_t *bytes, bool to_store)
{
    for (size_t i = 0; i < 2 * l->heads; i++) {
        uint8_t *store = block + (i * l->block + (size_t)row) * l->part;
        memcpy(to_store ? store : bytes, to_store ? bytes : store, l->part);
        bytes += l->part;
    }
}

/* The first n_rows of the table's blocks. A block that the host does not reach goes through `scratch` [block_bytes]. */
static berth_status copy_rows(const berth_core *core, const layer_rows *l, const berth_block_table *t, int64_t n_rows,
                              uint8_t *bytes, uint8_t *scratch, bool to_store, berth_error *err)
{
    berth_unit *u = &core->exec.units[l->device];
    berth_status st = BERTH_OK;
    for (int64_t row = 0; st == BERTH_OK && row < n_rows; row += t->block) {
        uint8_t *store = l->base + (size_t)t->blocks[row / t->block] * block_bytes(l);
        uint8_t *block = u->backend->is_host ? store : scratch;
        int64_t n = n_rows - row < t->block ? n_rows - row : t->block;
        if (block == scratch) st = u->backend->read(u, scratch, store, block_bytes(l), err);
        for (int64_t i = 0; st == BERTH_OK && i < n; i++, bytes += row_bytes(l)) copy_row(l, block, i, bytes, to_store);
        if (st == BERTH_OK && block == scratch && to_store)
            st = u->backend->write(u, store, scratch, block_bytes(l), err);
    }
    return st;
}

/* Every layer's rows, `bytes` from behind the keys. */
static berth_status copy_layers(berth_replica *r, const berth_block_table *t, int64_t n_rows, uint8_t *bytes,
                                bool to_store, berth_error *err)
{
    layer_rows l;
    if (!find_layer(r, 0, &l)) return BERTH_OK;
    uint8_t *scratch = malloc(block_bytes(&l) * sizeof(float)); /* layers may differ in dtype */
    berth_status st =
        scratch ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a block of %zu bytes", block_bytes(&l));
    begin_copies(r->core);
    for (int32_t i = 0; st == BERTH_OK && i < r->core->config->text.n_layers; i++) {
        if (!find_layer(r, i, &l)) continue;
        open_layer(r->core, &l);
        uint32_t dtype = (uint32_t)l.dtype;
        if (!to_store) memcpy(bytes, &dtype, sizeof dtype);
        bytes += sizeof dtype;
        st = copy_rows(r->core, &l, t, n_rows, bytes, scratch, to_store, err);
        bytes += (size_t)n_rows * row_bytes(&l);
    }
    end_copies(r->core);
    free(scratch);
    return st;
}

/* Bytes behind the head for n rows: keys, and each layer's dtype and rows. False: overflow. */
static bool body_bytes(const berth_replica *r, uint64_t n_rows, size_t *out)
{
    size_t rows = (size_t)n_rows, total, some;
    *out = 0;
    if (!berth_mul_size(rows, sizeof(uint64_t), &total)) return false;
    for (int32_t i = 0; i < r->core->config->text.n_layers; i++) {
        layer_rows l;
        if (!find_layer(r, i, &l) || !berth_mul_size(rows, row_bytes(&l), &some) ||
            !berth_add_size(total, some, &total) || !berth_add_size(total, sizeof(uint32_t), &total))
            return false;
    }
    *out = total;
    return true;
}

/* ---- saving ----------------------------------------------------------------------------------------------------- */

typedef struct file_call {
    berth_core_session *session;
    file_head head;
    uint8_t *bytes;
    size_t n_bytes;
    berth_status status;
    berth_error *err;
} file_call;

static void save_on_loop(berth_replica *r, void *arg)
{
    file_call *c = arg;
    const berth_core_session *s = c->session;
    size_t body;
    if (atomic_load(&s->home) != r->index) return;
    c->head.n_rows = (uint64_t)s->n_rows;
    if (!body_bytes(r, c->head.n_rows, &body) || !(c->bytes = malloc(sizeof c->head + body))) {
        c->status = BERTH_FAIL(c->err, BERTH_OUT_OF_MEMORY, "a session of %lld tokens", (long long)s->n_rows);
        return;
    }
    c->n_bytes = sizeof c->head + body;
    uint8_t *at = c->bytes + sizeof c->head;
    memcpy(at, s->keys, (size_t)s->n_rows * sizeof *s->keys);
    at += (size_t)s->n_rows * sizeof *s->keys;
    c->status = copy_layers(r, &s->kv, s->n_rows, at, false, c->err);
}

static berth_status make_head(const berth_core *core, file_head *out, berth_error *err)
{
    const berth_text_config *text = &core->config->text;
    *out = (file_head){.version = VERSION,
                       .n_layers = (uint32_t)text->n_layers,
                       .n_kv_heads = (uint32_t)text->n_kv_heads,
                       .head_dim = (uint32_t)text->head_dim};
    memcpy(out->magic, magic, sizeof magic);
    return berth_core_fingerprint(core, out->model, err);
}

berth_status berth_core_session_save(berth_core_session *s, uint8_t **out, size_t *out_size, berth_error *err)
{
    *out = NULL;
    *out_size = 0;
    file_call c = {.session = s, .err = err};
    berth_status st = make_head(s->core, &c.head, err);
    if (st != BERTH_OK) return st;
    if (atomic_exchange(&s->is_busy, true))
        return BERTH_FAIL(err, BERTH_BUSY, "the session has a request under way; wait for its end, then save");
    int32_t home = atomic_load(&s->home);
    if (home >= 0) berth_replica_call(&s->core->replicas[home], save_on_loop, &c);
    atomic_store(&s->is_busy, false);
    if (c.status == BERTH_OK && !c.bytes) { /* nothing is held */
        c.n_bytes = sizeof c.head;
        c.bytes = malloc(c.n_bytes);
        if (!c.bytes) c.status = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a session");
    }
    if (c.status != BERTH_OK) {
        free(c.bytes);
        return c.status;
    }
    memcpy(c.bytes, &c.head, sizeof c.head);
    *out = c.bytes;
    *out_size = c.n_bytes;
    return BERTH_OK;
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static berth_status check_layers(const berth_replica *r, const uint8_t *at, uint64_t n_rows, berth_error *err)
{
    for (int32_t i = 0; i < r->core->config->text.n_layers; i++) {
        layer_rows l = {0};
        uint32_t dtype;
        memcpy(&dtype, at, sizeof dtype);
        if (!find_layer(r, i, &l) || dtype != (uint32_t)l.dtype)
            return BERTH_FAIL(
                err, BERTH_UNSUPPORTED,
                "layer %d of the session was saved in dtype %u, this plan keeps it in %s; load it under a "
                "plan of the same dtype",
                (int)i, (unsigned)dtype, berth_dtype_name(l.dtype));
        at += sizeof dtype + (size_t)n_rows * row_bytes(&l);
    }
    return BERTH_OK;
}

static void load_on_loop(berth_replica *r, void *arg)
{
    file_call *c = arg;
    berth_core_session *s = c->session;
    int64_t n = (int64_t)c->head.n_rows;
    const uint8_t *at = c->bytes + sizeof c->head + (size_t)n * sizeof *s->keys;
    c->status = check_layers(r, at, c->head.n_rows, c->err);
    if (c->status == BERTH_OK)
        c->status = berth_block_table_init(&s->kv, &r->kv, r->core->plan->config.context, c->err);
    if (c->status != BERTH_OK) return;
    berth_session_make_room(r, s, (int32_t)((n + r->kv.block - 1) / r->kv.block));
    if (!berth_block_table_grow(&s->kv, &r->kv, n)) return; /* no room now: its first request computes it again */
    c->status = copy_layers(r, &s->kv, n, (uint8_t *)(uintptr_t)at, true, c->err);
    if (c->status != BERTH_OK) {
        berth_block_table_give_back(&s->kv, &r->kv);
        berth_block_table_deinit(&s->kv);
        return;
    }
    s->n_rows = n;
    s->is_foreign = true;
    berth_session_settle(r, s);
}

static berth_status check_file(const berth_core *core, const uint8_t *data, size_t size, file_head *out,
                               berth_error *err)
{
    file_head want;
    size_t body;
    if (size < sizeof *out || memcmp(data, magic, sizeof magic) != 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "not a saved session: %zu bytes without its mark", size);
    memcpy(out, data, sizeof *out);
    if (out->version != VERSION)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "a saved session of version %u; this berth reads version %d",
                          (unsigned)out->version, VERSION);
    berth_status st = make_head(core, &want, err);
    if (st != BERTH_OK) return st;
    if (memcmp(want.model, out->model, sizeof want.model) != 0 || want.n_layers != out->n_layers ||
        want.n_kv_heads != out->n_kv_heads || want.head_dim != out->head_dim)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "the session was saved with another model; open that one");
    if (out->n_rows > (uint64_t)core->plan->config.context)
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT, "the session has %llu tokens, this plan's context %lld",
                          (unsigned long long)out->n_rows, (long long)core->plan->config.context);
    if (out->n_rows > 0 && (!body_bytes(&core->replicas[0], out->n_rows, &body) || size != sizeof *out + body))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "a saved session of %llu tokens has %zu bytes, which does not agree",
                          (unsigned long long)out->n_rows, size);
    return BERTH_OK;
}

berth_status berth_core_session_load(berth_core *core, const uint8_t *data, size_t size, berth_core_session **out,
                                     berth_error *err)
{
    file_call c = {.bytes = (uint8_t *)(uintptr_t)data, .n_bytes = size, .err = err};
    *out = NULL;
    berth_status st = check_file(core, data, size, &c.head, err);
    if (st == BERTH_OK) st = berth_core_session_create(core, &c.session, err);
    if (st != BERTH_OK || c.head.n_rows == 0) {
        *out = c.session;
        return st;
    }
    c.session->keys = calloc((size_t)c.head.n_rows, sizeof *c.session->keys);
    if (!c.session->keys) {
        berth_core_session_destroy(c.session);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a session of %llu tokens", (unsigned long long)c.head.n_rows);
    }
    memcpy(c.session->keys, data + sizeof c.head, (size_t)c.head.n_rows * sizeof *c.session->keys);
    berth_replica *best = NULL;
    for (int32_t i = 0; i < core->n_replicas; i++) {
        berth_replica *r = &core->replicas[i];
        if (berth_replica_lives(r) && (!best || atomic_load(&r->load) < atomic_load(&best->load))) best = r;
    }
    if (best)
        berth_replica_call(best, load_on_loop, &c);
    else
        c.status = berth_lost_error(core, err);
    if (c.status != BERTH_OK) {
        berth_core_session_destroy(c.session);
        return c.status;
    }
    *out = c.session;
    return BERTH_OK;
}
