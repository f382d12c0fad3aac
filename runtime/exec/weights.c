#include "exec/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

enum { READ_AHEAD = 64 << 20 }; /* asked for between two reports of progress */

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

/* One mapping a shard, over all that is used of it in place. */
static berth_status map_shards(berth_weights *w, const bool *wanted, berth_error *err)
{
    for (int32_t s = 0; s < w->n_maps; s++) {
        size_t first = SIZE_MAX, end = 0;
        for (int32_t i = 0; i < berth_model_data_n_params(w->model); i++) {
            const berth_param *p = berth_model_data_param(w->model, i);
            if (!wanted[i] || p->shard != s || is_copied(p, w->compute, w->rules)) continue;
            if (p->offset < first) first = p->offset;
            if (p->offset + p->n_bytes > end) end = p->offset + p->n_bytes;
        }
        if (end <= first) continue;
        berth_status st = map_shard(w, s, first, end, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- placing ---------------------------------------------------------------------------------------------------- */

static berth_status place_param(berth_weights *w, berth_arena *arena, int32_t i, berth_error *err)
{
    const berth_param *p = berth_model_data_param(w->model, i);
    const uint64_t bytes = bytes_on_device(p, w->compute, w->rules);
    w->bytes += bytes;
    if (is_copied(p, w->compute, w->rules)) {
        void *place;
        berth_status st = berth_arena_take(arena, bytes, &place, err);
        w->data[i] = place;
        w->own_place[i] = st == BERTH_OK;
        return st;
    }
    if (p->shard < 0 || p->shard >= w->n_maps || !w->maps[p->shard].base)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the model was opened without its weights", p->tensor);
    w->data[i] = w->maps[p->shard].base + (p->offset - w->maps[p->shard].offset);
    return berth_arena_charge(arena, p->n_bytes, err);
}

/* Starts reading what is not in memory yet. What is costs nothing here: its pages are entered when first touched, many
 * at a time. */
static void read_ahead(const berth_weights *w, const berth_load_watch *watch)
{
    for (int32_t s = 0; s < w->n_maps; s++) {
        const berth_weight_map *m = &w->maps[s];
        for (size_t at = 0; at < m->length; at += READ_AHEAD) {
            size_t n = m->length - at < READ_AHEAD ? m->length - at : READ_AHEAD;
            madvise(m->base + at, n, MADV_WILLNEED); /* advice: a refusal changes nothing */
            if (watch && watch->seen) watch->seen(watch->user, n);
        }
    }
}

berth_status berth_weights_init(berth_weights *w, const berth_model_data *model, const bool *wanted,
                                berth_dtype compute, const berth_weight_rules *rules, berth_arena *arena,
                                const berth_load_watch *watch, berth_error *err)
{
    *w =
        (berth_weights){.model = model, .compute = compute, .rules = rules, .n_maps = berth_model_data_n_shards(model)};
    int32_t n = berth_model_data_n_params(model);
    w->maps = calloc((size_t)w->n_maps + 1, sizeof *w->maps);
    w->data = calloc((size_t)n + 1, sizeof *w->data);
    w->own_place = calloc((size_t)n + 1, sizeof *w->own_place);
    if (!w->maps || !w->data || !w->own_place)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "table of %d weights", (int)n);
    berth_status st = map_shards(w, wanted, err);
    for (int32_t i = 0; st == BERTH_OK && i < n; i++) {
        if (!wanted[i]) continue;
        int32_t twin = twin_before(model, wanted, i);
        if (twin >= 0 && w->data[twin])
            w->data[i] = w->data[twin];
        else
            st = place_param(w, arena, i, err);
    }
    if (st == BERTH_OK) read_ahead(w, watch);
    return st;
}

void berth_weights_deinit(berth_weights *w)
{
    for (int32_t s = 0; w->maps && s < w->n_maps; s++)
        if (w->maps[s].base) munmap(w->maps[s].base, w->maps[s].length);
    free(w->maps);
    free(w->data);
    free(w->own_place);
    *w = (berth_weights){0};
}

berth_dtype berth_weights_dtype(const berth_weights *w, const berth_param *p)
{
    return dtype_on_device(p, w->compute);
}
