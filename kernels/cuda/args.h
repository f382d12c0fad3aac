/* args.h - what each CUDA kernel is given: one struct by value, the same text for the C that builds launches and for device code (no header of either).
 * Pointers are device memory, 16-byte aligned (activations, weights and states in an arena; the uploader aligns weights). */
#ifndef BERTH_CUDA_ARGS_H
#define BERTH_CUDA_ARGS_H

/* y[i] of n elements; `c` is the row's length where an input has one row only. */
typedef struct berth_cuda_elementwise {
    const void *a, *b, *w;
    void *y;
    long long n;
    int c;
} berth_cuda_elementwise;

typedef struct berth_cuda_norm {
    const void *x, *w, *b; /* x [rows, c]; w, b [c] */
    void *y;
    int c;
    float eps;
} berth_cuda_norm;

/* dst row dst_rows[i] = src row src_rows[i]; a NULL list means i. */
typedef struct berth_cuda_rows {
    const void *src;
    void *dst;
    const int *src_rows, *dst_rows;
    long long n_rows;
    int units; /* a row's length in the kernel's unit (or, in embed_rows, in elements) */
} berth_cuda_rows;

typedef struct berth_cuda_drop_cls {
    const void *x;
    void *y;
    int patches, units; /* rows of a tile without the first; a row's length in units */
} berth_cuda_drop_cls;

typedef struct berth_cuda_pixel_shuffle {
    const void *x;
    void *y;
    int grid, factor, transposed, units; /* units of one run: factor * C elements */
} berth_cuda_pixel_shuffle;

typedef struct berth_cuda_kv_append {
    const void *k, *v;
    const int *slots;
    void *kv;
    int kv_heads, block, units; /* units of one head's row */
} berth_cuda_kv_append;

typedef struct berth_cuda_patchify {
    const void *pixels;
    void *y;
    long long n; /* elements */
    int channels, height, width, patch;
} berth_cuda_patchify;

typedef struct berth_cuda_vision_embed {
    const void *patches, *cls, *pos;
    void *y;
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
    const void *x;
    const float *table;
    void *y;
    long long n; /* tokens * heads * half */
    int heads, half;
} berth_cuda_rope;

typedef struct berth_cuda_linear {
    const void *x, *w, *bias; /* bias may be NULL */
    void *y;
    int rows, n_in, n_out;
} berth_cuda_linear;

typedef struct berth_cuda_logit_stats {
    const void *x;
    float *y;
    int v;
} berth_cuda_logit_stats;

typedef struct berth_cuda_attention_full {
    const void *q, *k, *v;
    void *o;
    int rows, heads, d;
    float scale;
} berth_cuda_attention_full;

typedef struct berth_cuda_attention_paged {
    const void *q, *kv;
    const int *positions, *token_seq, *block_table;
    void *o;
    float *partial; /* [tokens, heads, n_splits, d + 2]: sums, then the maximum and the denominator */
    int heads, kv_heads, d, block, max_blocks, n_splits, n_tokens;
    float scale;
} berth_cuda_attention_paged;

/* Positions one block of the paged decode takes: fixed, so that a token's bits do not depend on the call's other tokens. */
enum { BERTH_CUDA_SPLIT = 256 };
/* Rows and threads of kernels, which their launches must match. */
enum {
    BERTH_CUDA_THREADS = 256,
    BERTH_CUDA_LINEAR_THREADS = 128,
    BERTH_CUDA_LINEAR_WARP_OUTS = 2,
    BERTH_CUDA_ATTENTION_THREADS = 128
};
enum { BERTH_CUDA_TILE = 32, BERTH_CUDA_MAX_HEAD = 128 };
/* Query heads that one block of the decode carries at a time. */
enum { BERTH_CUDA_HEADS = 8 };

#endif
