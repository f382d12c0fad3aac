/* accelerate_pending.h - what accelerate's placer still has to place, and the largest layer in it.
 *
 * Entries of the tree in order, kept as links: an entry is in the list at most once, and never together with one of its
 * ancestors, so "the listed entry that owns a name" is a walk up the tree. */
#ifndef BERTH_STRATEGIES_ACCELERATE_PENDING_H
#define BERTH_STRATEGIES_ACCELERATE_PENDING_H

#include "strategies/accelerate.h"

typedef struct berth_pending {
    const berth_tree *t;
    int32_t n_entries, head; /* head: the first; -1 = empty */
    int32_t *next, *prev;    /* [n_entries]; -1 = none; next = BERTH_PENDING_NOT where the entry is not in the list */
    int64_t *bits;           /* [n_entries] */
    bool *is_float;          /* [n_entries]: the size is a float in Python, as is the one below */
    bool *is_no_split;       /* [n_modules] */
    int64_t largest_bits;
    bool largest_is_float;
    int32_t *largest, n_largest; /* [n_entries]: names of the largest layer that are not placed yet */
} berth_pending;

enum { BERTH_PENDING_NOT = -2 };

/* Lists the root's parts, and finds the largest of their layers. False: out of memory; deinit is right then too. */
bool berth_pending_init(berth_pending *p, const berth_accelerate_request *req);
void berth_pending_deinit(berth_pending *p);

bool berth_pending_has(const berth_pending *p, int32_t e);
void berth_pending_insert(berth_pending *p, int32_t before, int32_t e); /* behind `before`; -1: at the front */
void berth_pending_take_out(berth_pending *p, int32_t e);

/* A module with children that may be placed apart. */
bool berth_pending_can_divide(const berth_pending *p, int32_t e);
/* Lists a module's own parameters, then its children, behind `before`; gives the last one listed. Its buffers are
 * forgotten: an accelerate defect (issue 4014). */
int32_t berth_pending_list_parts(berth_pending *p, int32_t module, int32_t before);
/* Puts a listed module's parts in its place. */
void berth_pending_divide(berth_pending *p, int32_t module);

void berth_pending_find_largest(berth_pending *p, bool with_tensors);
/* The entry taken no longer counts; when no name of the largest layer is left, the next largest is looked for, among
 * modules only. */
void berth_pending_update_largest(berth_pending *p, int32_t taken);

#endif
