/* gemm_choice.c - which products cuBLAS can do, which it is given, and the workspace it is given for them. Pure. */
#include "base/checked.h"
#include "cuda/gemm.h"

static bool fits_int(int64_t n)
{
    return n >= 1 && n <= INT32_MAX;
}

bool berth_gemm_takes(const berth_gemm_shape *s)
{
    return berth_dtype_is_float(s->x) && s->w == s->x && (s->y == s->x || s->y == BERTH_F32) && fits_int(s->rows) &&
           fits_int(s->n_out) && fits_int(s->n_in);
}

/* The fewest rows at which cuBLAS is expected to win, by dtype, GPU and how large w is; the last fitting line counts.
 * PREDICTED, NOT MEASURED. In 16 bits our kernels are as fast while reading w is what costs: with few rows, and with w
 * in a cache (below 2 MiB). With many rows cuBLAS has the better tiles, from sm_90 on much better ones (wgmma, which
 * ours do not use). In fp32 ours read w again for every 8 rows. To be replaced by what bench/gpu.sh finds. */
static const struct choice {
    berth_dtype dtype;
    int32_t capability;   /* from this on */
    int64_t min_elements; /* of w */
    int64_t min_rows;
} choices[] = {
    {BERTH_F32, 70, 0, 128},        /* any w */
    {BERTH_F32, 70, 1 << 20, 32},   /* large w */
    {BERTH_F16, 70, 0, 256},        /* any w */
    {BERTH_F16, 70, 1 << 20, 128},  /* large w */
    {BERTH_F16, 90, 1 << 20, 65},   /* wgmma */
    {BERTH_BF16, 80, 0, 256},       /* before sm_80 cuBLAS has no bf16 */
    {BERTH_BF16, 80, 1 << 20, 128}, /* large w */
    {BERTH_BF16, 90, 1 << 20, 65},  /* wgmma */
};

/* Tiles of tensor cores are filled badly below. */
enum { MIN_SIDE = 16 };

bool berth_gemm_is_faster(const berth_gemm_shape *s, int32_t capability)
{
    if (!berth_gemm_takes(s) || s->n_out < MIN_SIDE || s->n_in < MIN_SIDE) return false;
    int64_t min_rows = INT64_MAX;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        const struct choice *c = &choices[i];
        if (c->dtype == s->x && capability >= c->capability && s->n_out * s->n_in >= c->min_elements)
            min_rows = c->min_rows;
    }
    return s->rows >= min_rows;
}

/* What cuBLAS asks for (reference, cublasSetWorkspace: 32 MiB on Hopper and Blackwell, 12 MiB on sm_12x, else 4 MiB),
 * but no more than partial sums of 8 parts need: small products would pay for large ones. Below 16 KiB it may fail. */
enum { LEAST = 64 << 10, PARTS = 8, HOPPER = 90, BLACKWELL_SMALL = 120, ALIGN = 256 };

size_t berth_gemm_workspace(const berth_gemm_shape *s, int32_t capability)
{
    if (!berth_gemm_takes(s)) return 0;
    const size_t most = capability == 0                ? 32u << 20
                        : capability < HOPPER          ? 4u << 20
                        : capability < BLACKWELL_SMALL ? 32u << 20
                                                       : 12u << 20;
    size_t bytes;
    if (!berth_mul_size((size_t)s->rows, (size_t)s->n_out, &bytes) ||
        !berth_mul_size(bytes, PARTS * sizeof(float), &bytes) || !berth_round_up(bytes, ALIGN, &bytes) || bytes > most)
        return most;
    return bytes < LEAST ? LEAST : bytes;
}
