/* narrow.h - what the files of 16-bit activations share. */
#ifndef BERTH_KERNELS_NARROW_H
#define BERTH_KERNELS_NARROW_H

#include "kernels/cpu/cpu_internal.h"

static inline bool berth_is_narrow(berth_dtype dtype)
{
    return dtype == BERTH_F16 || dtype == BERTH_BF16;
}

/* n elements from one float dtype to another; the two do not overlap unless equal and of one dtype. */
void berth_narrow_convert(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n);

/* ATTENTION_PAGED over 16-bit keys and values; q and o of any float dtype. */
void berth_narrow_attention_paged(const berth_op_call *call);
size_t berth_narrow_attention_paged_workspace(const berth_op_call *shapes, int32_t n_threads);

#endif
