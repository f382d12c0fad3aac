/* pieces.c - see pieces.h. Files are read, not mapped: a read into pinned memory is one copy without page faults, and a
 * file that was cut short is an error instead of a signal. */
#include "exec/pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernels/ops.h"

enum { WIDE = 4096 }; /* values rounded at a time */
#define F16_MAX 65504.0f

static const berth_param *param_at(const berth_pieces *p, int32_t i)
{
    return berth_model_data_param(p->weights->model, p->list[i].param);
}

static const berth_model_shard *shard_at(const berth_pieces *p, int32_t i)
{
    return berth_model_data_shard(p->weights->model, param_at(p, i)->shard);
}

/* ---- cutting ---------------------------------------------------------------------------------------------------- */

typedef struct cut {
    int32_t param, shard;
    size_t offset;
} cut;

static int by_place(const void *a, const void *b)
{
    const cut *x = a, *y = b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static size_t elements_of(const berth_param *p)
{
    return p->n_bytes / berth_dtype_size(p->dtype);
}

/* Elements of a piece of the parameter. */
static size_t most_elements(const berth_weights *w, const berth_param *p, size_t most_bytes)
{
    return most_bytes / berth_dtype_size(berth_weights_dtype(w, p));
}

static void add_pieces(berth_pieces *p, int32_t index, size_t most_bytes)
{
    const berth_weights *w = p->weights;
    const berth_param *param = berth_model_data_param(w->model, index);
    const size_t from = berth_dtype_size(param->dtype), to = berth_dtype_size(berth_weights_dtype(w, param));
    const size_t all = elements_of(param), most = most_elements(w, param, most_bytes);
    p->converts = p->converts || berth_weights_dtype(w, param) != param->dtype;
    for (size_t first = 0, n; first < all; first += n) {
        n = all - first < most ? all - first : most;
        p->list[p->n++] = (berth_piece){.param = index,
                                        .first = first,
                                        .n = n,
                                        .offset = param->offset + first * from,
                                        .file_bytes = n * from,
                                        .dst = (uint8_t *)(uintptr_t)w->data[index] + first * to,
                                        .bytes = n * to};
    }
}

static berth_status find_cuts(const berth_weights *w, size_t most_bytes, cut *cuts, int32_t *out_n, size_t *out_pieces,
                              berth_error *err)
{
    *out_n = 0;
    *out_pieces = 0;
    for (int32_t i = 0; i < berth_model_data_n_params(w->model); i++) {
        const berth_param *p = berth_model_data_param(w->model, i);
        if (!w->own_place[i]) continue;
        if (p->shard < 0 || p->shard >= berth_model_data_n_shards(w->model))
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the model was opened without its weights", p->tensor);
        const size_t most = most_elements(w, p, most_bytes);
        *out_pieces += elements_of(p) / most + (elements_of(p) % most != 0);
        cuts[(*out_n)++] = (cut){i, p->shard, p->offset};
    }
    if (*out_pieces > INT32_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%zu pieces of weights; make them larger", *out_pieces);
    return BERTH_OK;
}

berth_status berth_pieces_init(berth_pieces *p, const berth_weights *w, size_t most_bytes, berth_error *err)
{
    *p = (berth_pieces){.weights = w};
    cut *cuts = calloc((size_t)berth_model_data_n_params(w->model) + 1, sizeof *cuts);
    if (!cuts) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of weights to read");
    int32_t n_cuts;
    size_t n_pieces;
    berth_status st = find_cuts(w, most_bytes, cuts, &n_cuts, &n_pieces, err);
    if (st == BERTH_OK) p->list = calloc(n_pieces + 1, sizeof *p->list);
    if (st == BERTH_OK && !p->list) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of weights to read");
    if (st == BERTH_OK) {
        qsort(cuts, (size_t)n_cuts, sizeof *cuts, by_place);
        for (int32_t i = 0; i < n_cuts; i++) add_pieces(p, cuts[i].param, most_bytes);
    }
    free(cuts);
    return st;
}

void berth_pieces_deinit(berth_pieces *p)
{
    free(p->list);
    *p = (berth_pieces){0};
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static berth_status read_bytes(const berth_model_shard *shard, size_t offset, void *out, size_t n, berth_error *err)
{
    for (size_t at = 0; at < n;) {
        const ssize_t got = pread(shard->fd, (char *)out + at, n - at, (off_t)(offset + at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            const int code = errno;
            return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "%s: cannot read the weight file", shard->name);
        }
        if (got == 0)
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: %zu bytes long when it was opened, now it ends at %zu; it was changed meanwhile",
                              shard->name, shard->size, offset + at);
        at += (size_t)got;
    }
    return BERTH_OK;
}

/* Which of them, and how large: what is not finite in the file is found when it does harm. */
static void find_too_large(const float *x, size_t n, berth_too_large *out)
{
    for (size_t i = 0; i < n; i++) {
        const float size = fabsf(x[i]);
        if (!(size > F16_MAX) || isinf(size)) continue;
        out->n++;
        if (size > out->largest) out->largest = size;
    }
}

static void round_some(const uint8_t *from, berth_dtype stored, uint8_t *out, berth_dtype to, size_t n,
                       berth_too_large *too_large)
{
    const berth_kernels *kernels = berth_kernels_cpu(NULL);
    for (size_t i = 0; i < n; i += WIDE) {
        const size_t m = n - i < WIDE ? n - i : WIDE;
        const uint8_t *at = from + i * berth_dtype_size(stored);
        const bool may_be_too_large = kernels->round(out + i * berth_dtype_size(to), to, at, stored, m);
        if (!may_be_too_large || to != BERTH_F16) continue; /* nearly always */
        float wide[WIDE];
        berth_widen_f32(wide, at, stored, m);
        find_too_large(wide, m, too_large);
    }
}

berth_status berth_piece_read(const berth_pieces *p, int32_t i, uint8_t *scratch, uint8_t *out,
                              berth_too_large *too_large, berth_error *err)
{
    const berth_piece *piece = &p->list[i];
    const berth_param *param = param_at(p, i);
    const berth_dtype to = berth_weights_dtype(p->weights, param);
    if (to == param->dtype) return read_bytes(shard_at(p, i), piece->offset, out, piece->file_bytes, err);
    const size_t from_size = berth_dtype_size(param->dtype), to_size = berth_dtype_size(to);
    const size_t most = BERTH_PIECE_SCRATCH / from_size;
    berth_status st = BERTH_OK;
    for (size_t at = 0, n; st == BERTH_OK && at < piece->n; at += n) {
        n = piece->n - at < most ? piece->n - at : most;
        st = read_bytes(shard_at(p, i), piece->offset + at * from_size, scratch, n * from_size, err);
        if (st == BERTH_OK) round_some(scratch, param->dtype, out + at * to_size, to, n, too_large);
    }
    return st;
}

static bool is_cached(int fd, size_t offset)
{
    char byte;
    const struct iovec one = {&byte, 1};
    return preadv2(fd, &one, 1, (off_t)offset, RWF_NOWAIT) == 1;
}

/* Both ends are looked at: what is read ahead, or given up, is given in runs. */
bool berth_piece_is_cold(const berth_pieces *p, int32_t i)
{
    const berth_piece *piece = &p->list[i];
    const int fd = shard_at(p, i)->fd;
    return piece->file_bytes > 0 &&
           !(is_cached(fd, piece->offset) && is_cached(fd, piece->offset + piece->file_bytes - 1));
}

void berth_piece_read_ahead(const berth_pieces *p, int32_t i)
{
    const berth_piece *piece = &p->list[i];
    /* advice: a refusal changes nothing */
    (void)posix_fadvise(shard_at(p, i)->fd, (off_t)piece->offset, (off_t)piece->file_bytes, POSIX_FADV_WILLNEED);
}

berth_status berth_too_large_check(const berth_pieces *p, int32_t param, const berth_too_large *t, berth_error *err)
{
    const berth_param *of = berth_model_data_param(p->weights->model, param);
    if (t->n == 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                      "weight %s: %lld of its %zu values are over 65504 in magnitude (the largest is %g), which fp16, "
                      "the dtype of the device, cannot hold; use dtype fp32, or a device with bf16",
                      of->tensor, (long long)t->n, elements_of(of), (double)t->largest);
}
