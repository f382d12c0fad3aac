/* merges.h - which pairs of tokens become one, in what order; and the merging of a word.
 *
 * Merging is the reference's: the adjacent pair of lowest rank first, the leftmost of equals, until no pair is in the
 * table. Time n log n for n bytes, whatever they are. */
#ifndef BERTH_TEXT_MERGES_H
#define BERTH_TEXT_MERGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct berth_merge {
    int32_t left, right, id; /* left + right = id; the merge's index is its rank */
} berth_merge;

typedef struct berth_merge_slot {
    uint64_t pair; /* left << 32 | right; UINT64_MAX = free */
    uint32_t rank;
    int32_t id;
} berth_merge_slot;

typedef struct berth_merges {
    berth_merge *list;
    size_t n, cap;
    berth_merge_slot *slots;
    size_t n_slots; /* a power of two */
    uint64_t seed;
} berth_merges;

void berth_merges_deinit(berth_merges *m);
bool berth_merges_add(berth_merges *m, berth_merge merge); /* false: out of memory */

/* Makes the pairs findable. False: out of memory, or (with *out_twice < n) that merge's pair occurs before. */
bool berth_merges_index(berth_merges *m, size_t *out_twice);

/* Merges ids[0, n) in place; returns how many are left, or SIZE_MAX when memory ran out. n < 2^31. */
size_t berth_merges_apply(const berth_merges *m, int32_t *ids, size_t n);

#endif
