/* cpu_internal.h - what the files of the CPU kernels share: work sharing in a team, scratch, and the sets there are.
 *
 * How the kernels are cut: move.c holds the ops that only move or look up (any processor, no vector code). All that
 * computes stands in headers that are compiled once per vector width, each into a set of its own: generic.c (4 lanes),
 * avx2.c (8), avx512.c (16). simd.h is the only header that knows instructions. */
#ifndef BERTH_KERNELS_CPU_INTERNAL_H
#define BERTH_KERNELS_CPU_INTERNAL_H

#include "kernels/ops.h"

/* Work on items [begin, end); `thread` < n_threads selects this thread's scratch. */
typedef void (*berth_cpu_range_fn)(void *arg, size_t begin, size_t end, int32_t thread);

/* Calls fn for pieces of at most `grain` items until [0, n) is done; whoever is free takes the next piece, so one slow
 * core does not hold the others up. Which thread does a piece never changes its result. One piece stays on the calling
 * thread. */
void berth_cpu_parallel(const berth_op_call *call, size_t n, size_t grain, berth_cpu_range_fn fn, void *arg);

static inline int32_t berth_cpu_threads(const berth_op_call *call)
{
    return call->team ? call->team->n_threads : 1;
}

/* Rounds a byte count up to whole cache lines, so that the scratch of two threads shares none. */
static inline size_t berth_cpu_line(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static inline size_t berth_cpu_min(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t berth_cpu_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Elements of cheap work (a few operations each) that pay for waking another thread. */
enum { BERTH_CPU_GRAIN = 16384 };

bool berth_cpu_round(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n); /* a berth_round_fn */

void berth_cpu_patchify(const berth_op_call *call);
void berth_cpu_vision_embed(const berth_op_call *call);
size_t berth_cpu_vision_embed_workspace(const berth_op_call *shapes, int32_t n_threads);
void berth_cpu_drop_cls(const berth_op_call *call);
void berth_cpu_pixel_shuffle(const berth_op_call *call);
void berth_cpu_embed(const berth_op_call *call);
void berth_cpu_scatter_rows(const berth_op_call *call);
void berth_cpu_gather_rows(const berth_op_call *call);
void berth_cpu_store_rows(const berth_op_call *call);
void berth_cpu_rope_table(const berth_op_call *call);
void berth_cpu_kv_append(const berth_op_call *call);

extern const berth_kernels berth_cpu_set_generic;
extern const berth_kernels berth_cpu_set_avx2;
extern const berth_kernels berth_cpu_set_avx512;

#endif
