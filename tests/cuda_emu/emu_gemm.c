/* emu_gemm.c - see emu_gemm.h. Sums are in fp32, in an order that is the same for the same shape and another for
 * another number of columns (split-k does that on hardware), so that who counts on more than cuBLAS promises is found
 * out. The workspace is overwritten. */
#include "emu_gemm.h"

#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"

typedef struct product {
    int refs;
    const emu_door *door;
    int gpu;
    emu_gemm g;
    uint64_t workspace;
    size_t workspace_bytes;
} product;

static void *allocated(void *p)
{
    if (!p) abort();
    return p;
}

void *emu_gemm_new(const emu_door *door, int gpu, const emu_gemm *g, uint64_t workspace, size_t workspace_bytes)
{
    product *p = allocated(malloc(sizeof *p));
    *p = (product){1, door, gpu, *g, workspace, workspace_bytes};
    return p;
}

void *emu_gemm_again(void *user)
{
    ((product *)user)->refs++;
    return user;
}

void emu_gemm_end(void *user)
{
    if (--((product *)user)->refs == 0) free(user);
}

static berth_dtype dtype_of(int dtype)
{
    return dtype == BERTH_CUBLAS_F16 ? BERTH_F16 : dtype == BERTH_CUBLAS_BF16 ? BERTH_BF16 : BERTH_F32;
}

static uint8_t *host(const product *p, const emu_matrix *x)
{
    const size_t elements = ((size_t)x->cols - 1) * (size_t)x->ld + (size_t)x->rows;
    return p->door->host(p->gpu, x->at, elements * berth_dtype_size(dtype_of(x->dtype)));
}

/* op(x) or its transpose as fp32 [outer, k], each row of k together; the caller frees it. */
static float *gather(const product *p, const emu_matrix *x, int outer, int k, bool k_is_row)
{
    const berth_dtype dtype = dtype_of(x->dtype);
    const size_t size = berth_dtype_size(dtype);
    const uint8_t *from = host(p, x);
    float *out = allocated(malloc((size_t)outer * (size_t)k * sizeof *out));
    for (int o = 0; o < outer; o++) {
        float *row = out + (size_t)o * (size_t)k;
        if (k_is_row) {
            berth_widen_f32(row, from + (size_t)o * (size_t)x->ld * size, dtype, (size_t)k);
            continue;
        }
        for (int i = 0; i < k; i++)
            berth_widen_f32(row + i, from + ((size_t)i * (size_t)x->ld + (size_t)o) * size, dtype, 1);
    }
    return out;
}

static float dot(const float *a, const float *b, int n)
{
    float lanes[8] = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int l = 0; l < 8; l++) lanes[l] += a[i + l] * b[i + l];
    }
    for (; i < n; i++) lanes[i % 8] += a[i] * b[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/* k in parts, as many as the number of columns wants. */
static float sum(const float *a, const float *b, int k, int n_parts)
{
    float total = 0;
    for (int part = 0; part < n_parts; part++) {
        const int from = (int)((int64_t)k * part / n_parts), to = (int)((int64_t)k * (part + 1) / n_parts);
        total += dot(a + from, b + from, to - from);
    }
    return total;
}

int emu_gemm_run(void *user)
{
    const product *p = user;
    const emu_gemm *g = &p->g;
    uint8_t *c = host(p, &g->c), *workspace = p->door->host(p->gpu, p->workspace, p->workspace_bytes);
    const uint8_t *bias = g->bias.at ? host(p, &g->bias) : NULL;
    if (!c || !workspace || (g->bias.at && !bias) || !host(p, &g->a) || !host(p, &g->b))
        return p->door->misuse(BERTH_CU_ILLEGAL_ADDRESS, "cublasGemmEx: an operand was freed while it was queued");
    memset(workspace, 0xE5, p->workspace_bytes < 1 << 20 ? p->workspace_bytes : 1 << 20);
    float *a = gather(p, &g->a, g->m, g->k, g->a_transposed), *b = gather(p, &g->b, g->n, g->k, !g->b_transposed);
    const berth_dtype dtype = dtype_of(g->c.dtype);
    const size_t size = berth_dtype_size(dtype);
    const int n_parts = 1 + g->n % 3;
    for (int j = 0; j < g->n; j++) {
        for (int i = 0; i < g->m; i++) {
            uint8_t *at = c + ((size_t)j * (size_t)g->c.ld + (size_t)i) * size;
            float value = g->alpha * sum(a + (size_t)i * (size_t)g->k, b + (size_t)j * (size_t)g->k, g->k, n_parts);
            float was = 0;
            if (g->beta != 0) berth_widen_f32(&was, at, dtype, 1);
            if (g->beta != 0) value += g->beta * was;
            if (bias) berth_widen_f32(&was, bias + (size_t)i * size, dtype, 1);
            if (bias) value += was;
            berth_narrow_f32(at, &value, dtype, 1);
        }
    }
    free(a);
    free(b);
    return 0;
}
