/* ops.h - every op of berth: what it means, its operands, and its kernels' calling convention.
 *
 * The program speaks in these ops, the checker and the cost model know them, and each backend gives one kernel for
 * each. A kernel sees shapes, memory and a team of threads; no model, device name or strategy. kernels/ref/ is the
 * definition (plain loops); kernels/cpu/ must agree with it.
 *
 * Rules for all: tensors are row-major and contiguous, data 64-byte aligned unless it is a weight (weights lie in their
 * file: element-aligned at best, so load unaligned). Activations are fp32, or, through berth_kernels_run, fp16 or bf16
 * (the fp32 op on widened operands, its result rounded to nearest even, fp16 overflowing to infinity at 65520); weights
 * fp32, fp16 or bf16 as stored; sums in fp32 or wider. The same bits on every run and for every number of threads.
 * A row's bits (a token's, in ATTENTION_PAGED) do not depend on the other rows of a call either: prefill in chunks,
 * decode and batches agree exactly within one set of kernels; sets of different vector widths differ in the last bits.
 * The one exception: cuBLAS, which a GPU takes for products of many rows unless asked to be batch invariant.
 * Shapes are checked when the program is checked, so kernels trust them; nothing allocates: scratch comes from the
 * context. Below, n = all leading dimensions of a tensor multiplied; `in[i]`, `out[i]` in the order listed. */
#ifndef BERTH_KERNELS_OPS_H
#define BERTH_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

typedef enum berth_op_kind {
    /* in: x; out: y. The same bytes on another device. Not a kernel: the transport carries it out. */
    BERTH_OP_COPY,

    /* in: pixels [n_tiles, 3, S, S]; out: [n_tiles, n_patches, 3*p*p]; attrs.patch = p. Patches in reading order, each
     * flattened (channel, y, x). */
    BERTH_OP_PATCHIFY,

    /* in: x [n, in], w [out, in], (bias [out]); out: y [n, out], y = x w^T + bias. x's and y's dims may be split
     * further (heads): only products count: in = w.dims[1], out = w.dims[0]. fp32 accumulation. */
    BERTH_OP_LINEAR,

    /* in: patches [n_tiles, P, C], cls [C], pos [1+P, C]; out: [n_tiles, 1+P, C]: row 0 = cls + pos[0], row 1+i = patch
     * i + pos[1+i]. */
    BERTH_OP_VISION_EMBED,

    /* in: x [n, c], w [c], b [c]; out: y. Biased variance; attrs.eps. Rows are the last dimension. y may be x. */
    BERTH_OP_LAYER_NORM,

    /* in: x [n, c], w [c]; out: y[i] = x[i] * w[i] / sqrt(mean(x^2) + eps). Rows are the last dimension (head_dim for
     * per-head norms). y may be x. */
    BERTH_OP_RMS_NORM,

    /* in: q, k, v [n_tiles, T, C]; out: o [n_tiles, T, C]. Full softmax attention inside each tile, attrs.n_heads, head
     * h owns columns [h*d, (h+1)*d), scores times attrs.scale. All T x T scores are never held at once for long T. */
    BERTH_OP_ATTENTION_FULL,

    /* in: x [n, c], delta [n, c], scale [c]; out: y = x + scale * delta. y may be x. */
    BERTH_OP_SCALE_ADD,

    /* in: a, b, same shape; out: a + b; out may be a. */
    BERTH_OP_ADD,

    /* in: x; out: 0.5 x (1 + erf(x / sqrt 2)), the exact form (absolute error <= 1e-6 * max(1, |x|)); y may be x. */
    BERTH_OP_GELU,

    /* in: gate, up, same shape; out: gate / (1 + exp(-gate)) * up; out may be gate. */
    BERTH_OP_SILU_MUL,

    /* in: x [n_tiles, 1+P, C]; out: [n_tiles, P, C] without row 0 of each tile. */
    BERTH_OP_DROP_CLS,

    /* in: x [n_tiles, P, C], P = g*g, reading order; out: [n_tiles, P/f^2, f*f*C], attrs.factor = f:
     * z[i*(g/f)+j][(di*f+dj)*C + c] = x[(f*i+di)*g + (f*j+dj)][c]; attrs.transposed: token order j*(g/f)+i instead
     * (InternVL ps_version v1). */
    BERTH_OP_PIXEL_SHUFFLE,

    /* in: ids i32 [n_tokens], table [V, D]; out: [n_tokens, D] fp32. Ids are in range (checked by the engine before the
     * run). */
    BERTH_OP_EMBED,

    /* in: x [n_tokens, D], features [cap, D], src_rows i32 [n_rows], dst_rows i32 [n_rows]; out: y = x with
     * y[dst_rows[i]] = features[src_rows[i]]; y may be x. */
    BERTH_OP_SCATTER_ROWS,

    /* in: x [n, D], rows i32 [n_rows]; out: y[i] = x[rows[i]]. */
    BERTH_OP_GATHER_ROWS,

    /* in: x [n, D], rows i32 [n]; out (also read: a state): store [cap, D], store[rows[i]] = x[i]. */
    BERTH_OP_STORE_ROWS,

    /* in: positions i32 [n_tokens], token_seq i32 [n_tokens], inv_freq fp32 [n_seqs, d/2]; out: [n_tokens, 2, d/2]: cos
     * then sin of the fp32 product (float)position * inv_freq[token_seq][j]. Source: transformers modeling_qwen2 (angle
     * in fp32). */
    BERTH_OP_ROPE_TABLE,

    /* in: x [n_tokens, heads, d], table [n_tokens, 2, d/2]; out: y[j] = x[j]*cos - x[j+d/2]*sin, y[j+d/2] =
     * x[j+d/2]*cos + x[j]*sin (rotate half). y may be x. */
    BERTH_OP_ROPE,

    /* in: k, v [n_tokens, kv_heads, d], slots i32 [n_tokens]; out (a state): kv [n_blocks, 2, kv_heads, block, d],
     * attrs.block tokens a block; slot s is block s / block, row s % block; k goes to [.., 0, ..], v to [.., 1, ..]. */
    BERTH_OP_KV_APPEND,

    /* in: q [n_tokens, heads, d], kv (state, as above), positions i32 [n_tokens], token_seq i32 [n_tokens], block_table
     * i32 [n_seqs, max_blocks]; out: o [n_tokens, heads, d]. Token t attends to positions 0..positions[t] of its
     * sequence: position p is row p % block of block block_table[token_seq[t]][p / block]. Head h reads kv head h /
     * (heads / kv_heads). Scores times attrs.scale. Tokens of one sequence stand together in ascending position. Scores
     * are never all held at once for long contexts. */
    BERTH_OP_ATTENTION_PAGED,

    /* in: logits [n, V]; out: fp32 [n, BERTH_LOGIT_STATS]: see berth_logit_stat. argmax as torch: lowest index on ties,
     * NaN wins. MIN and MAX are of what is not NaN, infinities included; both NaN where all is. Columns behind ARGMAX
     * are 0. */
    BERTH_OP_LOGIT_STATS,

    /* in: logits [n, V], rows i32 [m], scales fp32 [m]; out: fp32 [m, BERTH_LOGIT_BEST]: of row rows[i], what a sampler needs
     * to choose among its largest logits, see berth_logit_best. Values in descending order, of equal ones the lower index
     * first; zeros may lose their sign. Where V < BERTH_BEST the rest are -infinity with index -1. The sum is within 4e-6
     * of its size. A row that holds NaN, or a scale that makes them, gives anything. */
    BERTH_OP_LOGIT_BEST,

    /* in: x, fp32, fp16 or bf16; out: y, the same shape in another of these, each element rounded to nearest even. Any
     * device widens what it cannot compute with. */
    BERTH_OP_CONVERT,

    BERTH_OP_KIND_COUNT
} berth_op_kind;

/* Columns of LOGIT_STATS; counts are exact (V < 2^24). */
typedef enum berth_logit_stat {
    BERTH_STAT_NAN,
    BERTH_STAT_INF,
    BERTH_STAT_MIN,
    BERTH_STAT_MAX,
    BERTH_STAT_ARGMAX,
    BERTH_LOGIT_STATS = 8
} berth_logit_stat;

/* Columns of LOGIT_BEST: the sum over the row of exp((x - largest) * scales[i]), zeros, BERTH_BEST values, their indices.
 * 128: transformers' own top-k is 50, and a penalty moves some of the best behind others. */
typedef enum berth_logit_best {
    BERTH_BEST_SUM,
    BERTH_BEST = 128,
    BERTH_BEST_VALUES = 8,
    BERTH_BEST_IDS = BERTH_BEST_VALUES + BERTH_BEST,
    BERTH_LOGIT_BEST = BERTH_BEST_IDS + BERTH_BEST
} berth_logit_best;

typedef struct berth_op_attrs {
    float eps;
    float scale;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t patch, factor, block;
    bool transposed;
} berth_op_attrs;

#define BERTH_TENSOR_DIMS 5
#define BERTH_OP_INPUTS   6

typedef struct berth_tensor {
    void *data;
    berth_dtype dtype;
    int32_t n_dims;
    int64_t dims[BERTH_TENSOR_DIMS];
} berth_tensor;

static inline int64_t berth_tensor_elements(const berth_tensor *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
    return n;
}
static inline int64_t berth_tensor_last(const berth_tensor *t)
{
    return t->dims[t->n_dims - 1];
}
static inline int64_t berth_tensor_rows(const berth_tensor *t)
{
    return berth_tensor_last(t) ? berth_tensor_elements(t) / berth_tensor_last(t) : 0;
}

/* The threads of one device. run() calls fn(arg, i, n_threads) once for each i in [0, n_threads) and returns when all
 * are done; thread 0 is the caller. */
typedef struct berth_team berth_team;
struct berth_team {
    int32_t n_threads;
    void (*run)(berth_team *team, void (*fn)(void *arg, int32_t thread, int32_t n_threads), void *arg);
};

typedef struct berth_op_call {
    berth_op_kind kind;
    const berth_op_attrs *attrs;
    berth_tensor in[BERTH_OP_INPUTS];
    int32_t n_in;
    berth_tensor out; /* every op has exactly one output; a state written in place is the output */
    berth_team *team;
    void *workspace; /* 64-byte aligned, at least what `workspace` said for these shapes */
    size_t workspace_bytes;
} berth_op_call;

/* Ops that a device may carry out as one, with the bits that they give apart; results between them are not written.
 * Each call is as it would be alone. */
enum { BERTH_FUSED_LINEARS = 3 };
typedef struct berth_fused_call {
    /* RMS_NORM, whose result only the LINEARs read, as x. NULL = none: then there is one LINEAR, and `then` is ADD. */
    const berth_op_call *norm;
    const berth_op_call *linear[BERTH_FUSED_LINEARS];
    int32_t n_linears;
    /* The only reader of all their results: ADD of linear[0]'s and another value, or SILU_MUL of linear[0]'s and
     * linear[1]'s. NULL = none. */
    const berth_op_call *then;
} berth_fused_call;

typedef void (*berth_kernel_fn)(const berth_op_call *call);

/* Bytes of scratch for these shapes (data pointers are NULL; shapes are upper bounds) and `n_threads`. Monotone in
 * every dimension. NULL entry = none. */
typedef size_t (*berth_workspace_fn)(const berth_op_call *shapes, int32_t n_threads);

/* Rounds n elements of a float dtype at `src` to `to` (F16 or BF16) at `dst`: the bits of base/dtype.h's conversions, in
 * every set. Both stand at any byte, and do not overlap. Is the magnitude of one of them over 65504, fp16's largest, or
 * one not finite? */
typedef bool (*berth_round_fn)(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n);

typedef struct berth_kernels {
    const char *name; /* "ref", "cpu-avx2", ...: for reports */
    berth_kernel_fn run[BERTH_OP_KIND_COUNT];
    berth_workspace_fn workspace[BERTH_OP_KIND_COUNT];
    berth_round_fn round; /* no op: for weights on their way to a device */
} berth_kernels;

/* What each kind is called and how it may be used; one row a kind. */
typedef struct berth_op_info {
    const char *name; /* "linear"; for the printer and for errors */
    int32_t min_in, max_in;
    int32_t inplace;   /* index of the input whose memory the output may take over; -1 = none */
    bool writes_state; /* the output is a state and is only partly written */
    uint32_t weights;  /* bit i: in[i] is a weight, which kernels read in any float dtype */
} berth_op_info;
extern const berth_op_info berth_op_infos[BERTH_OP_KIND_COUNT];

/* Multiply-adds * 2 and bytes moved (weights, activations, KV) for these shapes: for prediction, reports and the choice
 * of threads. */
typedef struct berth_op_cost {
    double flops, bytes_read, bytes_written;
} berth_op_cost;
berth_op_cost berth_op_cost_of(const berth_op_call *shapes);

/* Runs the call on a set, whatever float dtypes its operands have: fp32 activations go to the set's kernel as they are,
 * narrower ones are widened, and the result is rounded (narrow.c). The call's workspace holds what
 * berth_kernels_workspace says for these shapes and dtypes. Sets' own tables know neither CONVERT nor 16-bit
 * activations. */
void berth_kernels_run(const berth_kernels *set, const berth_op_call *call);
size_t berth_kernels_workspace(const berth_kernels *set, const berth_op_call *shapes, int32_t n_threads);

/* The definition: plain loops, one thread. */
const berth_kernels *berth_kernels_ref(void);

/* The fastest set this machine can run: chosen once per process by cpuid, and by a short measurement where two are
 * plausible. `want` names one ("avx2", "avx512", "generic", "ref") or is NULL; NULL is returned for a name this machine
 * cannot run or nobody knows. Thread-safe. */
const berth_kernels *berth_kernels_cpu(const char *want);

#endif
