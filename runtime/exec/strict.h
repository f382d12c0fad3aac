/* strict.h - separate address spaces made of page protection: while an op runs, only its own device's memory can be
 * reached.
 *
 * Owners are device indices and -1 for the host's input region; each has areas (arena, weight mappings). A forbidden
 * access is a fault, which the guard turns into a result. Page protection belongs to the whole process and so does the
 * fault handler: both are used only by engines made with `strict`. The handler is put in with the first of them and
 * taken out with the last, hands every fault that is not its own to the handler before it, and must not be replaced in
 * between. One op at a time: the caller serialises. */
#ifndef BERTH_EXEC_STRICT_H
#define BERTH_EXEC_STRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct berth_strict berth_strict;

berth_status berth_strict_create(int32_t n_devices, berth_strict **out, berth_error *err);
void berth_strict_destroy(berth_strict *s); /* opens all areas again first */

/* An area of `owner` (page-aligned). `writable` = as open as it ever gets. */
berth_status berth_strict_add(berth_strict *s, int32_t owner, void *base, size_t length, bool writable,
                              berth_error *err);

/* Runs in flight have a host area each, and an op must not reach its own run's: from here on, the owner -1 means the area
 * at `base` only, and the others stay as they are (open for whoever fills or reads them). NULL = all, as at first. */
void berth_strict_take_host(berth_strict *s, const void *base);

void berth_strict_only(berth_strict *s, int32_t owner); /* opens `owner`, closes all others */
void berth_strict_close_all(berth_strict *s);
void berth_strict_open(berth_strict *s, int32_t owner, bool writable); /* besides what is open */

/* Whose area holds `address`; false = nobody's. */
bool berth_strict_owner(const berth_strict *s, const void *address, int32_t *out_owner);

/* Calls fn(arg) on this thread; false when it touched memory it may not, *out_address then says where, and fn did not
 * return. */
bool berth_strict_guard(void (*fn)(void *arg), void *arg, void **out_address);

#endif
