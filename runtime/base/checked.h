/* checked.h - size arithmetic that says when it overflowed. No size from a file is added or multiplied outside it. */
#ifndef BERTH_BASE_CHECKED_H
#define BERTH_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool berth_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool berth_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Rounds up to a multiple of `align` (a power of two). */
static inline bool berth_round_up(size_t a, size_t align, size_t *out)
{
    size_t sum;
    if (!berth_add_size(a, align - 1, &sum)) return false;
    *out = sum & ~(align - 1);
    return true;
}

/* a*b with a and b known to fit (sizes already checked at load); saturates instead of wrapping. */
static inline size_t berth_mul_sat(size_t a, size_t b)
{
    size_t r;
    return berth_mul_size(a, b, &r) ? r : SIZE_MAX;
}

#endif
