/* handle.h - what every public handle begins with: who it is, whether it lives, and who still needs it.
 *
 * A handle has one owner outside, who ends it once, and is retained by what was made from it. Its magic number names
 * kind, state and address, so that another kind's, an ended, a copied and a stranger's memory are refused. What remains
 * of an ended handle goes through its runtime's quarantine before it is freed, so that a stale pointer is recognised for
 * a while longer; what is large is freed at once by its owner. Thread-safe. */
#ifndef BERTH_API_HANDLE_H
#define BERTH_API_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "berth/berth.h"

typedef enum berth_handle_kind {
    BERTH_HANDLE_RUNTIME,
    BERTH_HANDLE_MODEL,
    BERTH_HANDLE_PLAN,
    BERTH_HANDLE_ENGINE,
    BERTH_HANDLE_SESSION,
    BERTH_HANDLE_QUEUE
} berth_handle_kind;

typedef struct berth_handle {
    _Atomic uint64_t magic;
    atomic_int refs;
    berth_runtime *rt; /* retained; a runtime's own handle: itself, not retained */
    struct berth_handle *next;
    size_t size; /* these two: in the quarantine */
} berth_handle;

/* Makes a handle alive with one reference, its owner's. */
void berth_handle_begin(berth_handle *h, berth_handle_kind kind, berth_runtime *rt);

/* Is it alive, of this kind, and made in this process? NULL is not. */
bool berth_handle_is(const void *handle, berth_handle_kind kind);

/* Why it is refused; the message names the function. */
berth_status berth_handle_refuse(const char *function, berth_handle_kind kind, berth_error *err);

/* The owner ends it: true for the one call that may do so, which then gives up the owner's reference. */
bool berth_handle_end(void *handle, berth_handle_kind kind);

void berth_handle_retain(berth_handle *h);
/* True for the last: the caller frees what the object owns and then calls retire. */
bool berth_handle_release(berth_handle *h);
/* Gives the memory of the handle, `size` bytes from malloc, to the quarantine, and releases the runtime. */
void berth_handle_retire(berth_handle *h, size_t size);

/* Ended handles, oldest first, and the mark of the process. Part of the runtime. */
typedef struct berth_quarantine {
    pthread_mutex_t lock;
    berth_handle *oldest, *newest;
    int32_t n;
    size_t bytes;
    /* A page that a child process finds emptied; NULL where the kernel has no such pages: then the process id tells */
    volatile uint8_t *mark;
    long process;
} berth_quarantine;

berth_status berth_quarantine_init(berth_quarantine *q, berth_error *err);
void berth_quarantine_deinit(berth_quarantine *q);

#endif
