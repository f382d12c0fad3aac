/* args.h - what each CUDA kernel is given: one struct by value, the same text for the C that builds launches and for device code (no header of either).
 * Pointers are device memory, 16-byte aligned (activations, weights and states in an arena; the uploader aligns weights). */
#ifndef BERTH_CUDA_ARGS_H
#define BERTH_CUDA_ARGS_H

/* A float operand and its dtype, a berth_dtype: BERTH_CUDA_F32, F16 or BF16. One kernel takes every mix: the choice is the same for all threads, and costs an
 * op that waits for memory nothing. */
enum { BERTH_CUDA_F32, BERTH_CUDA_F16, BERTH_CUDA_BF16 };
typedef struct berth_cuda_in {
    const void *at;
    int dtype;
} berth_cuda_in;
typedef struct berth_cuda_out {
    void *at;
    int dtype;
} berth_cuda_out;

/* y[i] of n elements; b may be NULL; w [c], c the row's length. */
typedef struct berth_cuda_elementwise {
    berth_cuda_in a, b, w;
    berth_cuda_out y;
    long long n;
    int c;
} berth_cuda_elementwise;

typedef struct berth_cuda_norm {
    berth_cuda_in x, w, b; /* x [rows, c]; w, b [c] */
    berth_cuda_out y;
    int c;
    float eps;
} berth_cuda_norm;

/* dst row dst_rows[i] = src row src_rows[i]; a NULL list means i. `units`, here and below: a row's length in the kernel's unit, or in elements where the
 * kernel (..._mix) converts. */
typedef struct berth_cuda_rows {
    berth_cuda_in src;
    berth_cuda_out dst;
    const int *src_rows, *dst_rows;
    long long n_rows;
    int units;
} berth_cuda_rows;

typedef struct berth_cuda_drop_cls {
    berth_cuda_in src;
    berth_cuda_out dst;
    int patches, units; /* rows of a tile without the first */
} berth_cuda_drop_cls;

typedef struct berth_cuda_pixel_shuffle {
    berth_cuda_in src;
    berth_cuda_out dst;
    int grid, factor, transposed, units; /* units of one run: factor * C elements */
} berth_cuda_pixel_shuffle;

typedef struct berth_cuda_kv_append {
    berth_cuda_in src, v; /* src: k; both of one dtype */
    const int *slots;
    berth_cuda_out dst;
    int kv_heads, block, units; /* units of one head's row */
} berth_cuda_kv_append;

typedef struct berth_cuda_patchify {
    berth_cuda_in pixels;
    berth_cuda_out y;
    long long n; /* elements */
    int channels, height, width, patch;
} berth_cuda_patchify;

typedef struct berth_cuda_vision_embed {
    berth_cuda_in patches, cls, pos;
    berth_cuda_out y;
    long long n; /* elements of y */
    int n_patches, c;
} berth_cuda_vision_embed;

typedef struct berth_cuda_rope_table {
    const int *positions, *token_seq;
    const float *inv_freq;
    float *y;
    long long n; /* tokens * half */
    int half;
} berth_cuda_rope_table;

typedef struct berth_cuda_rope {
    berth_cuda_in x;
    const float *table;
    berth_cuda_out y;
    long long n; /* tokens * heads * runs of a half */
    int heads, half;
} berth_cuda_rope;

typedef struct berth_cuda_linear {
    berth_cuda_in x, w, bias; /* bias may be NULL */
    berth_cuda_out y;
    int rows, n_in, n_out;
    int tile_rows;      /* rows of a block, where the launch may choose: 1 to 16 */
    int product_dtype;  /* with `plus`: what the product is rounded to before */
    berth_cuda_in plus; /* [rows, n_out], may be y; NULL = none. Thin kernels only */
} berth_cuda_linear;

/* One of the products of linear_normed_*: y [rows, n_out]. */
typedef struct berth_cuda_product {
    berth_cuda_in w, bias; /* w [n_out, n_in]; bias may be NULL */
    berth_cuda_out y;
    int n_out,
        end_block; /* its blocks of the grid end before this one; they begin where those of the one before it end */
} berth_cuda_product;

/* Products of RMSNorm(x), which every block makes for itself. linear_gated_* take two, round both to product_dtype, and write silu(first) * second to the
 * first one's y. */
typedef struct berth_cuda_normed_linear {
    berth_cuda_in x, scale; /* x [rows, n_in], scale [n_in] */
    berth_cuda_product of[3];
    int rows, n_in, product_dtype;
    float eps;
} berth_cuda_normed_linear;

/* Inputs whose products tensor cores sum in one chain; the chains' sums are added in order. Fixed, so that every tiling gives an output the same bits. */
enum { BERTH_CUDA_CHAIN = 256 };
/* Stages of a tile's pipeline; bytes of a row in one (32 inputs). */
enum { BERTH_CUDA_STAGES = 4, BERTH_CUDA_STAGE_ROW = 64 };

typedef struct berth_cuda_logit_stats {
    berth_cuda_in x;
    float *y;
    struct berth_cuda_logit_seen *parts; /* [rows, n_parts] of scratch */
    int v, n_parts;
} berth_cuda_logit_stats;

/* What has been seen of a row of logits: counts, the first NaN's place and the largest value's, the smallest value and the largest. */
typedef struct berth_cuda_logit_seen {
    int n_nan, n_inf, first_nan, best;
    float low, high;
} berth_cuda_logit_seen;

/* Of the rows a.rows names: y [rows, BERTH_CUDA_BEST_ROW]. */
typedef struct berth_cuda_logit_best {
    berth_cuda_in x;
    const int *rows;
    const float *scales;
    float *y;
    unsigned long long *keys; /* [rows, n_parts, BERTH_CUDA_BEST] of scratch */
    float *seen;              /* [rows, n_parts, 2] of scratch: a part's largest logit, the sum of its exponentials */
    int v, n_parts;
} berth_cuda_logit_best;

typedef struct berth_cuda_attention_full {
    berth_cuda_in q, k, v;
    berth_cuda_out o;
    int rows, heads, d;
    float scale;
} berth_cuda_attention_full;

typedef struct berth_cuda_attention_paged {
    berth_cuda_in q;
    const void *kv;
    const int *positions, *token_seq, *block_table;
    berth_cuda_out o;
    float *partial; /* [tokens, heads, n_splits, d + 2]: sums, then the maximum and the denominator */
    int heads, kv_heads, d, block, max_blocks, n_splits, n_tokens;
    unsigned per_block; /* 2^32 / block rounded up, 0 of block 1: divides positions while position * block < 2^32 */
    int whole;          /* a block takes all of a token's splits and writes o; else each writes its part of `partial` */
    float scale;
} berth_cuda_attention_paged;

/* Positions one block of the paged decode takes: fixed, so that a token's bits do not depend on the call's other tokens; keys of
 * a warp on tensor cores. */
enum { BERTH_CUDA_SPLIT = 256, BERTH_CUDA_UNIT = 64 };
/* Tokens of a call up to which splits go to blocks of their own, through scratch; query rows of a tile on tensor cores. */
enum { BERTH_CUDA_SPLIT_TOKENS = 64, BERTH_CUDA_ATTENTION_ROWS = 64 };
/* Shared memory of one of its warps, for heads of d: outputs of 16 query heads in fp32 and what they saw; where ldmatrix turns values (sm_75 on), its keys' values,
 * which are more. */
#define BERTH_CUDA_DECODE_REGION(d, capability) ((capability) < 75 ? 16 * 4 * (d) + 16 * 8 : BERTH_CUDA_UNIT * 2 * (d))
/* Rows and threads of kernels, which their launches must match. */
enum {
    BERTH_CUDA_THREADS = 256,
    BERTH_CUDA_LINEAR_THREADS = 128,
    BERTH_CUDA_LINEAR_WARP_OUTS = 2,
    BERTH_CUDA_ATTENTION_THREADS = 128
};
enum { BERTH_CUDA_TILE = 32, BERTH_CUDA_MAX_HEAD = 128 };
/* Logits of a row that one block takes. */
enum { BERTH_CUDA_LOGITS = 8192 };
/* Columns of LOGIT_BEST: what stands before the values, values (as many are indices), all; parts of a row at most. */
enum {
    BERTH_CUDA_BEST_HEAD = 8,
    BERTH_CUDA_BEST = 128,
    BERTH_CUDA_BEST_ROW = BERTH_CUDA_BEST_HEAD + 2 * BERTH_CUDA_BEST,
    BERTH_CUDA_BEST_PARTS = 64
};
/* Bytes between the normed rows that a block keeps; floats of scratch for the sums of each. */
enum { BERTH_CUDA_NORMED_PAD = 64, BERTH_CUDA_NORM_SUMS = BERTH_CUDA_THREADS / 32 };
/* Query heads that one block of the decode carries at a time. */
enum { BERTH_CUDA_HEADS = 8 };

#endif
