#include "engine/weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

enum {
    READ_AHEAD = 64 << 20, /* asked for between two reports of progress */
    WIDE = 4096,           /* values rounded at a time */
};
#define F16_MAX 65504.0f

static berth_dtype dtype_on_device(const berth_param *p, berth_dtype compute)
{
    return compute == BERTH_F32 ? p->dtype : compute;
}

static bool is_copied(const berth_param *p, berth_dtype compute, const berth_weight_rules *rules)
{
    return rules->copies_all || p->offset % berth_dtype_size(p->dtype) != 0 || dtype_on_device(p, compute) != p->dtype;
}

static size_t n_elements(const berth_param *p)
{
    return p->n_bytes / berth_dtype_size(p->dtype);
}

/* Rounding up cannot overflow: the parameter lies in a file, and no dtype on a device is wider than in files. */
static uint64_t bytes_on_device(const berth_param *p, berth_dtype compute, const berth_weight_rules *rules)
{
    size_t bytes = n_elements(p) * berth_dtype_size(dtype_on_device(p, compute)), rounded = bytes;
    return is_copied(p, compute, rules) && berth_round_up(bytes, rules->align, &rounded) ? rounded : bytes;
}

/* Has an earlier wanted parameter the same bytes (a tied head)? The model names such twins by shard and offset. */
static int32_t twin_before(const berth_model_data *model, const bool *wanted, int32_t i)
{
    const berth_param *p = berth_model_data_param(model, i);
    if (p->role != BERTH_T_HEAD) return -1;
    int32_t e = berth_model_data_find(model, BERTH_T_EMBED, -1);
    if (e < 0 || e >= i || !wanted[e]) return -1;
    const berth_param *q = berth_model_data_param(model, e);
    return q->shard == p->shard && q->offset == p->offset && q->n_bytes == p->n_bytes &&
                   berth_model_data_nodes(model)[p->node].tied_to >= 0
               ? e
               : -1;
}

void berth_weights_measure(const berth_model_data *model, const bool *wanted, berth_dtype compute,
                           const berth_weight_rules *rules, uint64_t *out_bytes, uint64_t *out_copied)
{
    *out_bytes = *out_copied = 0;
    for (int32_t i = 0; i < berth_model_data_n_params(model); i++) {
        if (!wanted[i] || twin_before(model, wanted, i) >= 0) continue;
        const berth_param *p = berth_model_data_param(model, i);
        uint64_t bytes = bytes_on_device(p, compute, rules);
        *out_bytes += bytes;
        if (is_copied(p, compute, rules)) *out_copied += bytes;
    }
}

static berth_status map_shard(berth_weights *w, int32_t s, size_t first, size_t end, berth_error *err)
{
    const berth_model_shard *shard = berth_model_data_shard(w->model, s);
    struct stat now;
    if (fstat(shard->fd, &now) != 0) {
        int code = errno;
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "%s: cannot look at the weight file", shard->name);
    }
    if (now.st_size < 0 || (size_t)now.st_size < shard->size || end > shard->size)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: %zu bytes long when it was opened, now %lld; it was changed meanwhile", shard->name,
                          shard->size, (long long)now.st_size);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    berth_weight_map *m = &w->maps[s];
    m->offset = first / page * page;
    m->length = end - m->offset;
    void *p = mmap(NULL, m->length, PROT_READ, MAP_SHARED, shard->fd, (off_t)m->offset);
    if (p == MAP_FAILED) {
        int code = errno;
        m->length = 0;
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "%s: cannot map the weight file", shard->name);
    }
    m->base = p;
    return BERTH_OK;
}

/* One mapping a shard, over all that this device needs of it. */
static berth_status map_shards(berth_weights *w, const bool *wanted, berth_error *err)
{
    for (int32_t s = 0; s < w->n_maps; s++) {
        size_t first = SIZE_MAX, end = 0;
        for (int32_t i = 0; i < berth_model_data_n_params(w->model); i++) {
            const berth_param *p = berth_model_data_param(w->model, i);
            if (!wanted[i] || p->shard != s) continue;
            if (p->offset < first) first = p->offset;
            if (p->offset + p->n_bytes > end) end = p->offset + p->n_bytes;
        }
        if (end <= first) continue;
        berth_status st = map_shard(w, s, first, end, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* What fp16 cannot hold, of n widened values. */
static void find_too_large(const float *x, size_t n, int64_t *count, float *largest)
{
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        if (!(size > F16_MAX) || isinf(size)) continue; /* what is not finite in the file is found when it does harm */
        (*count)++;
        if (size > *largest) *largest = size;
    }
}

/* What a parameter's values are while they are rounded. */
typedef struct rounding {
    const berth_param *p;
    const uint8_t *at; /* as stored */
    berth_dtype to;
    int64_t n_too_large;
    float largest;
} rounding;

/* Elements [first, first + n) in the device's dtype. */
static void round_some(rounding *r, size_t first, size_t n, uint8_t *out)
{
    size_t from_size = berth_dtype_size(r->p->dtype), to_size = berth_dtype_size(r->to);
    if (r->to == r->p->dtype) {
        memcpy(out, r->at + first * from_size, n * from_size);
        return;
    }
    float wide[WIDE];
    for (size_t i = 0; i < n; i += WIDE) {
        size_t m = n - i < WIDE ? n - i : WIDE;
        berth_widen_f32(wide, r->at + (first + i) * from_size, r->p->dtype, m);
        if (r->to == BERTH_F16) find_too_large(wide, m, &r->n_too_large, &r->largest);
        berth_narrow_f32(out + i * to_size, wide, r->to, m);
    }
}

static berth_status check_rounded(const rounding *r, const berth_arena *arena, berth_error *err)
{
    if (r->n_too_large == 0) return BERTH_OK;
    return BERTH_FAIL(
        err, BERTH_UNSUPPORTED,
        "weight %s: %lld of its %zu values are over 65504 in magnitude (the largest is %g), which fp16, the dtype "
        "of device %s, cannot hold; use dtype fp32, or a device with bf16",
        r->p->tensor, (long long)r->n_too_large, n_elements(r->p), (double)r->largest, arena->name);
}

/* ---- placing ---------------------------------------------------------------------------------------------------- */

typedef struct loading {
    berth_weights *w;
    berth_arena *arena;
    const berth_weight_sender *sender;
    const berth_load_watch *watch;
} loading;

static void tell(const loading *l, uint64_t bytes)
{
    if (l->watch && l->watch->seen) l->watch->seen(l->watch->user, bytes);
}

static berth_status send_all(const loading *l, rounding *r, uint8_t *dst, berth_error *err)
{
    size_t size = berth_dtype_size(r->to), n = n_elements(r->p);
    berth_status st = BERTH_OK;
    for (size_t first = 0, m; st == BERTH_OK && first < n; first += m) {
        void *piece;
        size_t room;
        m = n - first;
        st = l->sender->next(l->sender->user, &piece, &room, err);
        if (st != BERTH_OK) break;
        if (m > room / size) m = room / size;
        round_some(r, first, m, piece);
        st = l->sender->send(l->sender->user, dst + first * size, m * size, err);
        tell(l, m * size);
    }
    return st;
}

static berth_status place_param(const loading *l, int32_t i, berth_error *err)
{
    berth_weights *w = l->w;
    const berth_param *p = berth_model_data_param(w->model, i);
    if (p->shard < 0 || p->shard >= w->n_maps || !w->maps[p->shard].base)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the model was opened without its weights", p->tensor);
    const uint8_t *at = w->maps[p->shard].base + (p->offset - w->maps[p->shard].offset);
    uint64_t bytes = bytes_on_device(p, w->compute, w->rules);
    w->bytes += bytes;
    if (!is_copied(p, w->compute, w->rules)) {
        w->data[i] = at;
        return berth_arena_charge(l->arena, p->n_bytes, err);
    }
    rounding r = {.p = p, .at = at, .to = dtype_on_device(p, w->compute)};
    void *copy;
    berth_status st = berth_arena_take(l->arena, bytes, &copy, err);
    if (st != BERTH_OK) return st;
    w->data[i] = copy;
    if (l->sender)
        st = send_all(l, &r, copy, err);
    else
        round_some(&r, 0, n_elements(p), copy);
    return st == BERTH_OK ? check_rounded(&r, l->arena, err) : st;
}

/* Starts reading what is not in memory yet. What is costs nothing here: its pages are entered when first touched, many
 * at a time. */
static void read_ahead(const loading *l)
{
    for (int32_t s = 0; s < l->w->n_maps; s++) {
        const berth_weight_map *m = &l->w->maps[s];
        for (size_t at = 0; at < m->length; at += READ_AHEAD) {
            size_t n = m->length - at < READ_AHEAD ? m->length - at : READ_AHEAD;
            madvise(m->base + at, n, MADV_WILLNEED); /* advice: a refusal changes nothing */
            if (!l->sender) tell(l, n);
        }
    }
}

static void unmap(berth_weights *w)
{
    for (int32_t s = 0; w->maps && s < w->n_maps; s++) {
        if (w->maps[s].base) munmap(w->maps[s].base, w->maps[s].length);
        w->maps[s] = (berth_weight_map){0};
    }
}

berth_status berth_weights_init(berth_weights *w, const berth_model_data *model, const bool *wanted,
                                berth_dtype compute, const berth_weight_rules *rules, berth_arena *arena,
                                const berth_weight_sender *sender, const berth_load_watch *watch, berth_error *err)
{
    const loading l = {.w = w, .arena = arena, .sender = sender, .watch = watch};
    *w =
        (berth_weights){.model = model, .compute = compute, .rules = rules, .n_maps = berth_model_data_n_shards(model)};
    int32_t n = berth_model_data_n_params(model);
    w->maps = calloc((size_t)w->n_maps + 1, sizeof *w->maps);
    w->data = calloc((size_t)n + 1, sizeof *w->data);
    if (!w->maps || !w->data) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "table of %d weights", (int)n);
    berth_status st = map_shards(w, wanted, err);
    if (st == BERTH_OK && sender) read_ahead(&l);
    for (int32_t i = 0; st == BERTH_OK && i < n; i++) {
        if (!wanted[i]) continue;
        int32_t twin = twin_before(model, wanted, i);
        if (twin >= 0 && w->data[twin])
            w->data[i] = w->data[twin];
        else
            st = place_param(&l, i, err);
    }
    if (st == BERTH_OK && !sender) read_ahead(&l);
    if (st == BERTH_OK && rules->copies_all) unmap(w);
    return st;
}

void berth_weights_deinit(berth_weights *w)
{
    unmap(w);
    free(w->maps);
    free(w->data);
    *w = (berth_weights){0};
}
