/* load.h - weights on their way from files to the places where devices read them, by several threads.
 *
 * A device whose weights are not all used in place adds what it wants, and one call then loads all devices at the same
 * time. Each device has readers of its own, which take its pieces one after the other in the order of the files, so that
 * what comes from a disk comes in long runs; a reader reads its piece, rounds it to the device's dtype where that is
 * another, and leaves it in its place or sends it there. Readers share nothing but their device's list: on a GPU each has
 * pinned memory and a stream of its own, so copies begin in the order in which pieces are ready.
 *
 * Threads: one thread makes, fills, runs and destroys it, and is the only one that `watch` is called on. */
#ifndef BERTH_EXEC_LOAD_H
#define BERTH_EXEC_LOAD_H

#include "exec/team.h"
#include "exec/weights.h"

typedef struct berth_load berth_load;

typedef struct berth_load_options { /* zero means the default */
    int32_t n_readers;  /* of a device; 0 = its cores, shared with the other devices, 12 at most; 1: the calling thread
                        * reads, one device after the other */
    int32_t n_cores;    /* that this process may use */
    size_t piece_bytes; /* read and sent at once; 0 = 2 MiB */
    berth_load_watch watch; /* told of bytes that have been read */
    berth_thread_watch threads;
} berth_load_options;

/* A reader's way into memory that the host does not reach; made and used on its thread. */
typedef struct berth_load_way {
    berth_status (*open)(void *user, size_t piece_bytes, void **out_lane, berth_error *err);
    berth_status (*next)(void *lane, void **out, berth_error *err);              /* host memory for the next piece */
    berth_status (*send)(void *lane, void *dst, size_t bytes, berth_error *err); /* the last `next`'s first bytes */
    berth_status (*close)(void *lane, berth_error *err); /* all that was sent has arrived, or never will */
} berth_load_way;

typedef struct berth_load_target {
    const char *name;     /* of the device, for errors and threads; borrowed until destroy */
    const int32_t *cores; /* readers are bound to them; NULL = anywhere. Borrowed until destroy */
    int32_t n_cores;
    const berth_load_way *way; /* NULL: the host writes there. Borrowed until destroy */
    void *user;                /* of way->open */
} berth_load_target;

berth_status berth_load_create(const berth_load_options *options, berth_load **out, berth_error *err);
void berth_load_destroy(berth_load *l);

/* What lies at `w`'s own places is to be read; `w` is borrowed until destroy. Nothing is read yet. Errors: those of
 * berth_pieces_init. */
berth_status berth_load_add(berth_load *l, const berth_weights *w, const berth_load_target *target, berth_error *err);

/* Reads all of it, and returns when it is there or after the first error, with all readers ended. Errors, with the device's
 * name: the way's, BERTH_BAD_FILE (a file is shorter than when it was opened), BERTH_IO_ERROR, BERTH_UNSUPPORTED (a
 * weight that fp16 cannot hold), BERTH_OUT_OF_MEMORY, BERTH_DEVICE_ERROR (no thread). */
berth_status berth_load_run(berth_load *l, berth_error *err);

uint64_t berth_load_bytes(const berth_load *l); /* read so far; not while it runs */

/* The watch, for bytes that need no reading. */
const berth_load_watch *berth_load_watched(const berth_load *l);

#endif
