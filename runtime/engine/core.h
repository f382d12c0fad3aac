/* core.h - the insides of an engine: what its files share.
 *
 * engine.c      life: devices, stores, replicas            loop.c      a replica's thread: one turn after another
 * queue.c       requests that wait                         schedule.c  who is carried by the next pass
 * active.c      a request under way: its memory, its end   pass.c      filling, starting and finishing a pass
 * tokens.c      what a finished pass gives its requests    session.c   what is kept between requests
 * choose.c      the next token from a row of logits
 * numeric.c     where bad numbers began                    submit.c    the ways in
 * stages.c      where the vision tower ends              lost.c      devices that are lost
 * stats.c       what goes on
 *
 * All of a replica but what is marked otherwise belongs to its loop thread, so no step takes a lock. */
#ifndef BERTH_ENGINE_CORE_H
#define BERTH_ENGINE_CORE_H

#include <pthread.h>

#include "base/buffer.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/prefix.h"
#include "engine/queue.h"
#include "exec/executor.h"
#include "plan/store.h"

typedef struct berth_replica berth_replica;

/* ---- a request under way ---------------------------------------------------------------------------------------- */

typedef enum berth_phase { BERTH_PHASE_ENCODE, BERTH_PHASE_PREFILL, BERTH_PHASE_DECODE, BERTH_PHASE_OVER } berth_phase;

typedef enum berth_tile_state {
    BERTH_TILE_UNUSED,
    BERTH_TILE_WANTED,
    BERTH_TILE_FLYING,
    BERTH_TILE_DONE
} berth_tile_state;

enum { BERTH_ENCODE, BERTH_STEP }; /* the two programs */

typedef struct berth_active {
    berth_replica *replica;
    berth_job *job;
    const berth_core_request *request;
    berth_phase phase;                      /* OVER: ends as soon as no pass carries it */
    int32_t n_flying;                       /* passes in flight that carry it */
    struct berth_pass *newest;              /* the one started last, while n_flying > 0 */
    int32_t *ids;                           /* owned; [n_ids + limit + draft + 1] prompt, answer, guesses */
    uint64_t *keys;                         /* owned; [n_ids + limit] */
    int64_t n_known, n_started, n_computed; /* ids; rows whose pass was started; rows whose KV is there */
    int64_t most_rows;                      /* KV rows it has blocks for */
    int32_t limit;                          /* new tokens at most */
    bool keeps;                             /* its KV may be taken from and left to its session */
    bool shares;                            /* ... and, with features, from and to others */
    bool is_foreign;                        /* it stands on KV out of a file, which nobody but its session believes */
    berth_block_table kv;
    berth_prefix_chain chain;
    int32_t *tile_blocks;   /* owned; [n_tiles] block in the feature store; -1 = none */
    uint8_t *tile_state;    /* owned; [n_tiles] berth_tile_state */
    int32_t n_tiles_left;   /* wanted or flying */
    float *inv_freq;        /* owned; [head_dim / 2] */
    berth_sampler *sampler; /* NULL: argmax */
    int32_t n_draft;        /* guesses behind n_known */
    uint8_t *wanted[2];     /* owned; tap: values of each program */
    int64_t n_passes[2];    /* finished, of each program */
    int64_t sick_first;     /* bad logits came from rows [sick_first, sick_first + n_sick); n_sick = 0: none did */
    int32_t n_sick;
    float sick_stats[BERTH_LOGIT_STATS];
    berth_core_result result;
    berth_status status;
    berth_error error;
    int64_t started_ns, encoded_ns, prefilled_ns;
    int64_t projected_ns; /* up to when its projecting was counted */
} berth_active;

/* active.c. Blocks were made sure of (berth_active_needs); fails only for memory. */
berth_status berth_active_create(berth_replica *r, berth_job *job, berth_active **out, berth_error *err);
void berth_active_end(berth_active *a); /* gives everything back and tells the end; frees */
/* Its devices were lost before it had told anything, and another replica may try: once. */
bool berth_active_may_move(const berth_active *a);
void berth_active_move(berth_active *a); /* back to the queue as it came, with its session; frees */
typedef struct berth_needs {             /* what a request takes of its replica at most */
    int64_t rows;                        /* of KV */
    int32_t limit;                       /* new tokens */
} berth_needs;
berth_needs berth_active_needs(const berth_core *core, const berth_core_request *q);
void berth_active_fail(berth_active *a, berth_status st, const berth_error *why); /* the first failure stays */
void berth_active_finish(berth_active *a, berth_finish finish);
bool berth_active_is_stop(const berth_active *a, int32_t id);

/* ---- a pass ----------------------------------------------------------------------------------------------------- */

typedef struct berth_pass_item {
    berth_active *who;
    int32_t tile;  /* encode */
    int64_t first; /* step: rows [first, first + n) */
    int32_t n, n_logits, n_best;
} berth_pass_item;

typedef struct berth_pass { /* one of those that may be in flight, with memory of its own */
    berth_replica *replica;
    berth_bound bound[2];      /* encode.program NULL: text only */
    berth_batch_inputs inputs; /* of step */
    float *pixels;             /* encode's inputs in host memory; NULL: text only */
    int32_t *feature_rows;
    const float *stats, *best; /* step's outputs in host memory; best: of the rows that were asked for */
    const float *logits;       /* [n_logits, vocab] on device logits_on, for as long as the pass is not filled again */
    int32_t logits_on;
    berth_run *run;
    uint64_t *edge_bytes;      /* owned; [2][n_edges] of the pass under way, and behind them nanoseconds */
    berth_pass_item *items;    /* owned; [max(n_seqs, tiles)] */
    berth_batch_item *batch;   /* owned; [n_seqs] */
    berth_block_table *tables; /* owned; [n_seqs] feature blocks of each item */
    int32_t n_items, n_units;  /* units: tokens or tiles */
    int which;                 /* BERTH_ENCODE, BERTH_STEP */
    berth_watch watch;
    bool in_flight;
    uint64_t order;                 /* of starting */
    const struct berth_pass *after; /* the pass whose rows it follows, as long as that is of after_order */
    uint64_t after_order;
    char label[160];   /* for tools: what it carries, where they are told */
    uint64_t range;    /* its range for tools, while in flight */
    int32_t tower_end; /* of encode: its last op before the projector; BERTH_NO_OP */
} berth_pass;

/* pass.c */
berth_status berth_pass_init(berth_pass *p, berth_replica *r, berth_error *err); /* all but the bounds */
void berth_pass_deinit(berth_pass *p);
void berth_pass_begin(berth_pass *p, int which);
void berth_pass_add_tile(berth_pass *p, berth_active *a, int32_t tile);
void berth_pass_add_rows(berth_pass *p, berth_active *a, int64_t first, int32_t n, berth_want_logits logits);
berth_status berth_pass_start(berth_pass *p, const berth_pass *after, const berth_watch *watch, berth_error *err);
berth_status berth_pass_finish(berth_pass *p, berth_error *err);

/* schedule.c: fills the pass with what is to be done next; false: nothing. *out_after: the pass whose rows it follows. */
bool berth_schedule(berth_replica *r, berth_pass *p, const berth_pass **out_after);

/* tokens.c: the requests of a finished pass go on from what it gave. */
void berth_tokens_take(berth_pass *p);

/* choose.c: a row of a finished step's logits, of request `who`. */
typedef struct berth_logit_row {
    const berth_pass *pass;
    berth_active *who;
    int64_t index;             /* among the pass's rows of logits */
    const float *stats, *best; /* best: NULL = was not asked for */
    const float *whole;        /* [vocab]; NULL = not looked at yet */
} berth_logit_row;
berth_status berth_row_choose(berth_logit_row *row, int32_t *out_id, berth_error *err);
/* Lets row->whole be the row, until the next row's is asked for. Errors: what reading from the device gives. */
berth_status berth_row_read(berth_logit_row *row, berth_error *err);
/* Where rows that the host cannot read in place are brought: of r, once its passes are made. */
berth_status berth_rows_init(berth_replica *r, berth_error *err);
void berth_rows_deinit(berth_replica *r);

/* stages.c: the last op of the vision tower, as the projector reads it; BERTH_NO_OP where there is no projector. */
int32_t berth_stages_tower_end(const berth_model_data *m, const berth_program *encode);

/* numeric.c: the error for a's bad logits, with the op where they began. No pass is in flight. */
void berth_numeric_diagnose(berth_active *a);
bool berth_numeric_is_bad(const float *stats, int32_t vocab); /* one row of LOGIT_STATS */

/* draft.c: up to `most` tokens that followed the last ones of ids [n] where these stood before. */
int32_t berth_draft(const int32_t *ids, int64_t n, int32_t most, int32_t *out);

/* ---- sessions --------------------------------------------------------------------------------------------------- */

struct berth_core_session {
    berth_core *core;
    _Atomic bool is_busy; /* a request holds it, or another call */
    _Atomic int32_t home; /* replica that holds its KV; -1 = none. What follows is that replica's */
    uint64_t *keys;       /* owned; [n_rows] */
    int64_t n_rows;       /* whose KV is in the table */
    berth_block_table kv;
    bool is_pinned;
    bool is_foreign;                   /* some of it came out of a file */
    berth_core_session *older, *newer; /* idle ones of the replica, by last use */
};

/* session.c, on the loop's thread. */
int64_t berth_session_lend(berth_core_session *s, berth_active *a);   /* its common beginning goes to a; rows covered */
void berth_session_take_back(berth_core_session *s, berth_active *a); /* what a computed; may keep nothing */
/* Are as many blocks to be had, what `but` alone holds included? Idle sessions give way. */
bool berth_session_make_room(berth_replica *r, const berth_core_session *but, int32_t n_blocks);
void berth_session_settle(berth_replica *r, berth_core_session *s); /* it holds KV of r now, and is idle */
void berth_sessions_forget_all(berth_replica *r); /* the idle ones of a replica that is lost: all is computed again */
void berth_session_let_go(berth_core_session *s, const berth_replica *r); /* its request is over */

/* ---- replicas --------------------------------------------------------------------------------------------------- */

typedef struct berth_loop_call { /* something to be done on the loop's thread, between turns */
    void (*fn)(berth_replica *r, void *arg);
    void *arg;
    bool is_over;
    struct berth_loop_call *next;
} berth_loop_call;

struct berth_replica {
    berth_core *core;
    int32_t index;
    unsigned long thread; /* its loop */
    bool runs;
    uint64_t lanes;       /* bit d: its programs use device d */
    _Atomic bool is_lost; /* lost.c: one of them is lost; it starts nothing any more */
    berth_event wake;     /* a request came, a pass is over, a call waits */
    berth_store *stores;  /* owned */
    int32_t n_stores;
    berth_blocks kv, features; /* features: a block is a tile */
    berth_pass *passes;        /* owned; [n_passes] */
    int32_t n_passes, n_flying;
    float *row;             /* owned; [vocab] choose.c's; NULL: rows are read in place */
    berth_unit *row_pinner; /* borrowed; it pinned `row`; NULL: malloc did */
    berth_active **actives; /* owned; [n_seqs] in the order of their start */
    int32_t n_actives;
    int32_t turn;         /* of the decode rows, who is next */
    bool last_was_encode; /* pictures and tokens take turns */
    uint64_t n_started;
    berth_core_session *oldest, *newest; /* idle sessions that hold KV here */
    _Atomic int32_t load;                /* n_actives, for the other loops */
    pthread_mutex_t calls_lock;          /* calls; not the loop's in a step: it looks at has_calls */
    pthread_cond_t calls_done;
    berth_loop_call *calls;
    _Atomic bool has_calls;
    /* for stats; written by the loop */
    _Atomic int64_t n_finished, n_encode_passes, n_step_passes, n_tiles, n_tiles_reused, n_prompt_tokens,
        n_reused_tokens, n_new_tokens, kv_used, kv_cached, loop_ns, busy_ns;
};

/* loop.c: a replica's thread, from the engine's creation until all requests are over and it ends. */
berth_status berth_replica_start(berth_replica *r, berth_error *err);
void berth_replica_join(berth_replica *r);
void berth_replica_call(berth_replica *r, void (*fn)(berth_replica *r, void *arg),
                        void *arg); /* waits until it is done */

/* lost.c. After a pass, or its start, failed with st and *err: whether this replica, and which of the others, can go on; what
 * can still be used is added to *err. */
void berth_lost_look(berth_replica *r, berth_status st, berth_error *err);
berth_status berth_lost_error(berth_core *core,
                              berth_error *err); /* BERTH_DEVICE_LOST: of the first loss, and what is left */
bool berth_replica_lives(const berth_replica *r);
int32_t berth_core_n_living(const berth_core *core);

static inline void berth_count(_Atomic int64_t *counter, int64_t n) /* of the only thread that writes it */
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* stats.c, on the loop's thread. */
void berth_replica_count_kv(berth_replica *r);                  /* as it stands */
void berth_replica_count_end(berth_replica *r, berth_job *job); /* before a job's end is told; gives it back */

/* ---- what GPUs' memory says ---------------------------------------------------------------------------------------- */

typedef struct berth_gauge {  /* of a GPU, at the first of its devices */
    struct berth_gpu *keeper; /* owned, while the engine is made: keeps the context */
    uint64_t free_before, used_before;
    bool is_known;
} berth_gauge;

/* measure.c: before the first device is opened; when all is made (fills plan->measured, may add notes); on a failure. */
void berth_measure_begin(berth_core *core);
void berth_measure_end(berth_core *core);
void berth_measure_close(berth_core *core);

struct berth_core {
    berth_core_plan *plan; /* owned */
    const berth_model_config *config;
    berth_core_options options;
    berth_exec exec;
    berth_replica *replicas; /* [plan->placement->n_replicas] */
    int32_t n_replicas;
    berth_job_queue queue;
    _Atomic bool is_ending;
    _Atomic uint64_t nonce; /* for pictures without digests */
    _Atomic int32_t n_sessions;
    pthread_mutex_t strict_turn;                /* strict mode: one pass at a time in the whole engine */
    pthread_mutex_t lost_lock;                  /* why_lost */
    berth_error why_lost;                       /* of the first loss; status BERTH_OK: none */
    uint64_t load_done, load_total, load_bytes; /* bytes: read, not used in place */
    int64_t load_ns;
    berth_gauge gauges[BERTH_MAX_DEVICES];
    bool tells_tools;   /* NVTX ranges were asked for, and somebody listens */
    berth_buffer notes; /* lines for the user */
};

void berth_core_wake(berth_core *core); /* all loops */

#endif
