/* kernel_tape.h - lists of op calls shaped like a model's: a language model's step and a vision tower, with random
 * weights. */
#ifndef BERTH_BENCH_KERNEL_TAPE_H
#define BERTH_BENCH_KERNEL_TAPE_H

#include "kernels/ops.h"

enum { KERNEL_TAPE_CALLS = 512, KERNEL_TAPE_TENSORS = 1024 };

typedef struct kernel_tape {
    const berth_kernels *set;
    berth_team *team;
    berth_dtype dtype; /* of the weights */
    berth_op_call calls[KERNEL_TAPE_CALLS];
    berth_op_attrs attrs[KERNEL_TAPE_CALLS];
    int32_t n_calls;
    void *owned[KERNEL_TAPE_TENSORS];
    int32_t n_owned;
    char *weights; /* one piece of memory, taken from in order */
    size_t weight_bytes, weights_used;
    double flops; /* of products, attention's included */
} kernel_tape;

typedef struct kernel_language_shape {
    int64_t hidden, heads, kv_heads, head_dim, ffn, vocab, n_layers, n_tokens,
        n_before; /* n_before tokens stand in the cache */
} kernel_language_shape;

typedef struct kernel_vision_shape {
    int64_t c, heads, ffn, side, patch, n_layers, n_tiles, text_hidden; /* side: pixels */
} kernel_vision_shape;

/* Exits with a message when memory cannot be had: these are programs that measure. Weights, where given, are used as
 * they are. */
void kernel_tape_language(kernel_tape *t, const kernel_language_shape *s, const kernel_tape *share_weights);
void kernel_tape_vision(kernel_tape *t, const kernel_vision_shape *s);
size_t kernel_language_weight_bytes(const kernel_language_shape *s, berth_dtype dtype);
void kernel_tape_run(const kernel_tape *t);
void kernel_tape_deinit(kernel_tape *t);

#endif
