/* narrow.c - ops on fp16 and bf16 activations, bit for bit what a device with 16-bit storage and fp32 accumulation
 * computes.
 *
 * An op on narrow operands is the fp32 op on their widened values, its result rounded once, to nearest even. So any
 * set's kernel serves: operands are widened into the workspace, the kernel runs, the result is rounded. Ops that only
 * move rows of stores that outlive a run (KV, features) would widen the whole store for a few rows; they, and
 * attention over a narrow KV cache, have loops of their own. Easy to get wrong: the output may take over an input's
 * memory, so inputs are widened before anything is written. */
#include "kernels/narrow.h"

#include <string.h>

enum { CHUNK = 256, GRAIN = 65536 };

static size_t count(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t);
}

void berth_narrow_convert(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n)
{
    if (to == from) {
        if (dst != src && n) memcpy(dst, src, n * berth_dtype_size(to));
    } else if (to == BERTH_F32) {
        berth_widen_f32(dst, src, from, n);
    } else if (from == BERTH_F32) {
        berth_narrow_f32(dst, src, to, n);
    } else {
        float wide[CHUNK];
        for (size_t i = 0; i < n; i += CHUNK) {
            size_t m = berth_cpu_min(CHUNK, n - i);
            berth_widen_f32(wide, (const char *)src + 2 * i, from, m);
            berth_narrow_f32((char *)dst + 2 * i, wide, to, m);
        }
    }
}

typedef struct conversion {
    char *dst;
    const char *src;
    berth_dtype to, from;
} conversion;

static void convert_range(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const conversion *c = arg;
    berth_narrow_convert(c->dst + begin * berth_dtype_size(c->to), c->to, c->src + begin * berth_dtype_size(c->from),
                         c->from, end - begin);
}

static void convert_all(const berth_op_call *call, void *dst, berth_dtype to, const void *src, berth_dtype from,
                        size_t n)
{
    conversion c = {dst, src, to, from};
    berth_cpu_parallel(call, n, GRAIN, convert_range, &c);
}

/* ---- ops with loops of their own -------------------------------------------------------------------------------- */

static void copy_row(const berth_tensor *to, size_t to_row, const berth_tensor *from, size_t from_row, size_t d)
{
    berth_narrow_convert((char *)to->data + to_row * d * berth_dtype_size(to->dtype), to->dtype,
                         (const char *)from->data + from_row * d * berth_dtype_size(from->dtype), from->dtype, d);
}

static void store_rows(const berth_op_call *call)
{
    const int32_t *rows = call->in[1].data;
    size_t d = (size_t)berth_tensor_last(&call->out), n = count(&call->in[1]);
    for (size_t i = 0; i < n; i++) copy_row(&call->out, (size_t)rows[i], &call->in[0], i, d);
}

static void scatter_rows(const berth_op_call *call)
{
    const int32_t *src = call->in[2].data, *dst = call->in[3].data;
    size_t d = (size_t)berth_tensor_last(&call->out), n = count(&call->in[2]);
    convert_all(call, call->out.data, call->out.dtype, call->in[0].data, call->in[0].dtype, count(&call->out));
    for (size_t i = 0; i < n; i++) copy_row(&call->out, (size_t)dst[i], &call->in[1], (size_t)src[i], d);
}

static void kv_append(const berth_op_call *call)
{
    const int32_t *slots = call->in[2].data;
    size_t n = count(&call->in[2]), kv_heads = (size_t)call->out.dims[2];
    size_t block = (size_t)call->out.dims[3], d = (size_t)call->out.dims[4];
    for (size_t t = 0; t < n; t++)
        for (size_t part = 0; part < 2; part++)
            for (size_t h = 0; h < kv_heads; h++) {
                size_t slot = (size_t)slots[t];
                size_t row = (((slot / block) * 2 + part) * kv_heads + h) * block + slot % block;
                copy_row(&call->out, row, &call->in[part], t * kv_heads + h, d);
            }
}

/* The function that takes narrow operands as they are; NULL = widen them all. */
static berth_kernel_fn own_loops(const berth_op_call *call)
{
    switch (call->kind) {
    case BERTH_OP_STORE_ROWS: return store_rows;
    case BERTH_OP_SCATTER_ROWS: return scatter_rows;
    case BERTH_OP_KV_APPEND: return kv_append;
    case BERTH_OP_ATTENTION_PAGED: return berth_is_narrow(call->in[1].dtype) ? berth_narrow_attention_paged : NULL;
    default: return NULL;
    }
}

/* ---- all others: widen, run, round ------------------------------------------------------------------------------ */

static bool is_activation(const berth_op_call *call, int32_t i)
{
    return !(berth_op_infos[call->kind].weights >> i & 1);
}

static bool has_narrow(const berth_op_call *call)
{
    bool narrow = berth_is_narrow(call->out.dtype);
    for (int32_t i = 0; i < call->n_in; i++)
        narrow = narrow || (is_activation(call, i) && berth_is_narrow(call->in[i].dtype));
    return narrow;
}

/* Where a narrow operand's fp32 values stand in the workspace, and what is used of it so far. */
static float *take(char *workspace, size_t *used, const berth_tensor *t)
{
    float *at = (float *)(void *)(workspace + *used);
    *used += berth_cpu_line(count(t) * sizeof *at);
    return at;
}

static void run_widened(const berth_kernels *set, const berth_op_call *call)
{
    berth_op_call wide = *call;
    char *workspace = call->workspace;
    size_t used = 0;
    for (int32_t i = 0; i < call->n_in; i++) {
        const berth_tensor *t = &call->in[i];
        if (!is_activation(call, i) || !berth_is_narrow(t->dtype)) continue;
        wide.in[i].dtype = BERTH_F32;
        wide.in[i].data = take(workspace, &used, t);
        convert_all(call, wide.in[i].data, BERTH_F32, t->data, t->dtype, count(t));
    }
    bool rounds = berth_is_narrow(call->out.dtype);
    wide.out.dtype = BERTH_F32;
    if (rounds) wide.out.data = take(workspace, &used, &call->out);
    wide.workspace = workspace + used;
    wide.workspace_bytes = call->workspace_bytes - used;
    set->run[call->kind](&wide);
    if (rounds) convert_all(call, call->out.data, call->out.dtype, wide.out.data, BERTH_F32, count(&call->out));
}

static size_t widened_workspace(const berth_kernels *set, const berth_op_call *shapes, int32_t n_threads)
{
    berth_op_call wide = *shapes;
    size_t used = 0;
    for (int32_t i = 0; i < shapes->n_in; i++) {
        if (!is_activation(shapes, i) || !berth_is_narrow(shapes->in[i].dtype)) continue;
        used += berth_cpu_line(count(&shapes->in[i]) * sizeof(float));
        wide.in[i].dtype = BERTH_F32;
    }
    if (berth_is_narrow(shapes->out.dtype)) used += berth_cpu_line(count(&shapes->out) * sizeof(float));
    wide.out.dtype = BERTH_F32;
    berth_workspace_fn fn = set->workspace[shapes->kind];
    return used + (fn ? fn(&wide, n_threads) : 0);
}

void berth_kernels_run(const berth_kernels *set, const berth_op_call *call)
{
    if (call->kind == BERTH_OP_CONVERT) {
        convert_all(call, call->out.data, call->out.dtype, call->in[0].data, call->in[0].dtype, count(&call->out));
    } else if (!has_narrow(call)) {
        set->run[call->kind](call);
    } else {
        berth_kernel_fn fn = own_loops(call);
        if (fn)
            fn(call);
        else
            run_widened(set, call);
    }
}

size_t berth_kernels_workspace(const berth_kernels *set, const berth_op_call *shapes, int32_t n_threads)
{
    if (shapes->kind == BERTH_OP_COPY || shapes->kind == BERTH_OP_CONVERT) return 0;
    if (!has_narrow(shapes)) return set->workspace[shapes->kind] ? set->workspace[shapes->kind](shapes, n_threads) : 0;
    berth_kernel_fn fn = own_loops(shapes);
    if (fn == berth_narrow_attention_paged) return berth_narrow_attention_paged_workspace(shapes, n_threads);
    return fn ? 0 : widened_workspace(set, shapes, n_threads);
}
