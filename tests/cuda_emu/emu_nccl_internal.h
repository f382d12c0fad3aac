/* emu_nccl_internal.h - what the files of the emulated NCCL share. All of it is under the emulated driver's lock, but
 * for the thread's own group. What was made is kept until the next reset: late callbacks and stale handles find it. */
#ifndef CUDA_EMU_EMU_NCCL_INTERNAL_H
#define CUDA_EMU_EMU_NCCL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/nccl.h"
#include "door.h"
#include "emu_nccl.h"

enum { MAX_RANKS = 8, MAX_PARTS = 4 };

typedef struct nccl_config {
    int version, progress, fail_code, async_code, lie_how, absent;
    uint64_t seed, fail_call, async_exchange, hang_exchange, lie_exchange;
} nccl_config;

typedef struct nccl_comm nccl_comm;
typedef struct nccl_launch nccl_launch;
typedef struct nccl_exchange nccl_exchange;

typedef struct nccl_clique { /* the ranks that were made with one id */
    uint64_t id;
    int n_ranks, n_joined, n_finalized;
    nccl_comm *ranks[MAX_RANKS];
    nccl_exchange *open; /* those that not all sides have come to, oldest first */
    struct nccl_clique *next;
} nccl_clique;

typedef struct nccl_job { /* what one group of calls began */
    int polls;            /* so often it is in progress yet */
    bool is_done;
    nccl_launch *launches; /* to be queued when it is done */
    struct nccl_job *next;
} nccl_job;

typedef enum nccl_phase { NCCL_JOINING, NCCL_READY, NCCL_FINALIZING, NCCL_FINALIZED, NCCL_GONE } nccl_phase;

struct nccl_comm {
    uintptr_t handle;
    nccl_clique *clique;
    int rank, gpu;
    bool blocking, aborted;
    nccl_phase phase;
    nccl_job *job;     /* in progress; NULL = none */
    int error;         /* from now on */
    nccl_launch *last; /* the newest that was queued */
    uint64_t n_sums;   /* queued */
    nccl_comm *next;
};

typedef enum nccl_kind { NCCL_SEND, NCCL_RECV, NCCL_ADD } nccl_kind;

typedef struct nccl_part { /* one call's */
    nccl_kind kind;
    uint64_t from, to; /* memory; 0 = none */
    size_t n, bytes;
    int dtype, peer;
    nccl_exchange *exchange;
} nccl_part;

struct nccl_launch { /* one rank's part of one group: a kernel */
    nccl_comm *comm;
    void *stream;
    nccl_part parts[MAX_PARTS];
    int n_parts;
    bool is_queued, has_arrived, is_over, is_gone; /* gone: dropped with its context */
    nccl_launch *before;                           /* of the same communicator */
    nccl_launch *of_job, *next;                    /* lists: the job's, all */
};

typedef struct nccl_side {
    nccl_launch *launch; /* NULL: it has not come */
    const nccl_part *part;
    uint8_t *taken; /* what `from` held when the bytes were taken; owned */
} nccl_side;

struct nccl_exchange { /* a copy: sides 0 sends, 1 receives; a sum: one side a rank */
    uint64_t number;   /* 0 = not all have come */
    bool is_sum, is_taken, is_void;
    int from, to;   /* ranks of a copy */
    uint64_t index; /* which of the clique's sums */
    nccl_side sides[MAX_RANKS];
    int n_sides, n_come, n_over;
    uint8_t *result;            /* of a sum; owned */
    nccl_exchange *open, *next; /* lists: the clique's, all */
};

typedef struct nccl_world {
    const emu_door *door;
    bool started;
    uint64_t generation;
    nccl_config config;
    nccl_comm *comms;
    nccl_clique *cliques;
    nccl_job *jobs;
    nccl_launch *launches;
    nccl_exchange *exchanges;
    uint64_t random, n_ids, n_handles;
    emu_nccl_report report;
} nccl_world;

extern nccl_world nccl;

/* emu_nccl_world.c */
int nccl_enter(void); /* the lock; a code when this call is to fail */
int nccl_leave(int code);
uint64_t nccl_random(void);
int nccl_misuse(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* and the last error */
void nccl_say(const char *text);                                                       /* the last error */
void *nccl_new(size_t bytes);                                                          /* zeroed */
nccl_comm *nccl_find(const void *handle); /* NULL, with a misuse: there is none, or it was destroyed */

/* emu_nccl_exchange.c */
size_t nccl_size(int dtype);    /* 0: not known to the emulator */
int nccl_queue(nccl_launch *l); /* matches and queues; an ncclResult_t */
bool nccl_is_idle(const nccl_comm *c);

#endif
