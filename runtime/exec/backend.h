/* backend.h - what a kind of device is to the engine: one table of functions a kind, and the device while an engine lives.
 *
 * Plans ask the pure part (how memory is rounded, what workspace an op needs); engine.c makes and unmakes units through
 * it; the executor carries ops out through it, on the unit's lane; sessions and diagnosis read and write through it.
 * Addresses on a unit are `void *` whatever its kind; the host may follow them only where `is_host` says so.
 *
 * An op on a unit that does not queue is over when `run` returns. One that queues puts it on its run's stream and
 * returns: what was issued is over when a mark that was set behind it is. What a unit holds of a run in flight (a
 * stream, marks) is made once, with the run or its program's binding, so that a step allocates nothing. */
#ifndef BERTH_EXEC_BACKEND_H
#define BERTH_EXEC_BACKEND_H

#include "exec/arena.h"
#include "exec/lane.h"
#include "exec/load.h"
#include "machine/machine.h"
#include "transport/transport.h"

typedef struct berth_backend berth_backend;
typedef struct berth_stream berth_stream; /* work in order on a unit that queues: one for each run in flight */
typedef struct berth_mark berth_mark;     /* a point in a stream's work */
typedef struct berth_graph berth_graph;   /* work captured once, queued again and again */

typedef enum berth_mark_use {
    BERTH_MARK_FOR_STREAMS,
    BERTH_MARK_FOR_HOST, /* the host waits for it too, asleep unless it is almost over */
    BERTH_MARK_TIMED     /* its time can be asked for; streams wait for it as well */
} berth_mark_use;

typedef struct berth_device_bytes { /* of one device, all replicas on it */
    uint64_t weights, kv, features, activations, workspace, total, limit;
    uint64_t kv_per_token;
    uint64_t context; /* what a backend takes for itself, outside of limit and total */
} berth_device_bytes;

/* A device while an engine lives. Must not move in memory once it is open. */
typedef struct berth_unit {
    berth_lane lane;
    const berth_backend *backend;
    const berth_device *info; /* borrowed */
    berth_arena arena;
    berth_weights weights;
    berth_device_bytes allocated;
    const berth_kernels *kernels; /* cpu: the set its ops run on */
    berth_team *team;             /* cpu: owned */
    void *staging;                /* owned; the transport's, in host memory */
    size_t staging_bytes;
    int64_t spin_ns;
    berth_lane
        *waiter; /* where the unit queues: its items wait for marks, in the order of their setting; the backend's */
    void *own;   /* the backend's */
} berth_unit;

/* What decides how an op is computed on a device; known before the device is touched. */
typedef struct berth_op_target {
    const berth_kernels *kernels; /* the plan's set, for cpu devices */
    int32_t n_threads;            /* of a cpu device's team */
    int32_t capability;           /* of a GPU: 86 = 8.6 */
    bool batch_invariant;         /* a row's bits may not depend on the call's other rows (cpu: they never do) */
} berth_op_target;

typedef struct berth_unit_options {
    berth_cuda *cuda; /* the driver; cuda only */
    bool batch_invariant;
    size_t arena_bytes; /* all that will be taken out of the arena */
    size_t staging_bytes;
    const berth_kernels *kernels;
    const berth_memory_source *memory; /* of the arena; cpu only */
    const berth_thread_watch *threads;
    bool strict; /* one thread a unit, and memory that was never written holds NaN; cpu only */
    int32_t n_cores_present;
} berth_unit_options;

struct berth_backend {
    const char *name; /* "cpu" */
    berth_weight_rules weights;
    size_t align; /* every region of the arena begins at a multiple and is rounded up to one */
    bool is_host; /* the host can follow its addresses */
    bool queues;  /* see above; then what stands under "queueing" is there, else it is NULL */

    /* ---- pure: for plans ------------------------------------------------------------------------------------------ */

    /* Bytes of scratch of an op; monotone in every dimension. */
    size_t (*workspace)(const berth_op_target *target, const berth_op_call *shapes);
    /* Whether the op can be computed in these dtypes and shapes; NULL = always. */
    bool (*has)(const berth_op_target *target, const berth_op_call *shapes);

    /* ---- life: on the thread that makes the engine, in this order ------------------------------------------------- */

    /* u->info and u->backend are set, all else is zero: memory, and what loading needs. BERTH_DOES_NOT_FIT,
     * BERTH_OUT_OF_MEMORY, BERTH_DEVICE_ERROR, and what the memory source gives. */
    berth_status (*open)(berth_unit *u, const berth_unit_options *options, berth_error *err);
    /* The wanted weights [n_params] get their places on the unit, in `compute`; those that are not there yet are added to
     * `load`, which brings them. Errors: those of berth_weights_init and berth_load_add. */
    berth_status (*load)(berth_unit *u, const berth_model_data *model, const bool *wanted, berth_dtype compute,
                         berth_load *load, berth_error *err);
    /* The lane's thread and those that help it. BERTH_DEVICE_ERROR, BERTH_OUT_OF_MEMORY. */
    berth_status (*start)(berth_unit *u, const berth_unit_options *options, berth_error *err);
    /* Ends the threads, which carry out what was added first. No run is in flight. Also where it never started. */
    void (*stop)(berth_unit *u);
    /* After all units have stopped. Also where opening failed half way, or never began. */
    void (*close)(berth_unit *u);

    /* ---- bytes: from any thread, done when they return; nothing that uses those bytes is under way ---------------- */

    berth_status (*read)(berth_unit *u, void *dst, const void *src, size_t bytes, berth_error *err);
    berth_status (*write)(berth_unit *u, void *dst, const void *src, size_t bytes, berth_error *err);

    /* ---- ops: on the lane's worker -------------------------------------------------------------------------------- */

    /* Carries out, or queues on `s`, an op that has something to do. Data and workspace lie on the unit; `call` may be
     * completed by it and lives until it returns. */
    berth_status (*run)(berth_unit *u, berth_stream *s, berth_op_call *call, berth_error *err);
    /* Whether these ops are better carried out as one, by run_fused, with the bits that they give apart; same for the same
     * shapes. Both NULL: never. Calls as of `run`, without workspace. */
    bool (*fuses)(const berth_unit *u, const berth_fused_call *call);
    berth_status (*run_fused)(berth_unit *u, berth_stream *s, const berth_fused_call *call, berth_error *err);
    /* Carries out, or queues on `s`, a copy between two units or a unit and the host (NULL), of which u is one. What it
     * reads is over, or queued before on `s` or on what `s` awaits. */
    berth_status (*copy)(berth_unit *u, berth_stream *s, const berth_transport *transport, berth_unit *from,
                         berth_unit *to, berth_copy *copy, berth_error *err);

    /* ---- queueing ------------------------------------------------------------------------------------------------- */

    berth_status (*stream_create)(berth_unit *u, berth_stream **out, berth_error *err);
    void (*stream_destroy)(berth_stream *s);                        /* NULL is fine; waits for its work */
    berth_status (*stream_wait)(berth_stream *s, berth_error *err); /* the host waits for all that was queued */

    berth_status (*mark_create)(berth_unit *u, berth_mark_use use, berth_mark **out, berth_error *err);
    void (*mark_destroy)(berth_mark *m); /* NULL is fine */
    /* The point that `s`, of the mark's unit, has come to. On an error it marks nothing new. */
    berth_status (*mark_set)(berth_mark *m, berth_stream *s, berth_error *err);
    /* What `s`, of any unit of the kind, queues from now on waits for the mark as it was set last. */
    berth_status (*mark_await)(berth_mark *m, berth_stream *s, berth_error *err);
    berth_status (*mark_wait)(berth_mark *m, berth_error *err); /* the host waits; from any thread */
    /* Nanoseconds between two timed marks of one unit that were set and are over. */
    berth_status (*mark_elapsed)(berth_mark *from, berth_mark *to, int64_t *out_ns, berth_error *err);

    /* What the thread queues on `s` between the two is not carried out but becomes a graph, whatever went wrong in
     * between; only `run` is called meanwhile. All four NULL: it cannot. */
    berth_status (*capture_begin)(berth_stream *s, berth_error *err);
    berth_status (*capture_end)(berth_stream *s, berth_graph **out, berth_error *err); /* *out NULL on an error */
    berth_status (*graph_launch)(berth_stream *s, berth_graph *g, berth_error *err);
    void (*graph_destroy)(berth_graph *g); /* what was launched from it is over; NULL is fine */

    /* Host memory that copies to and from the unit reach by themselves, zeroed, on a page of its own. */
    berth_status (*pin)(berth_unit *u, size_t bytes, void **out, berth_error *err);
    void (*unpin)(berth_unit *u, void *memory);
};

extern const berth_backend berth_backend_cpu;
extern const berth_backend berth_backend_cuda;

/* How many threads a cpu device's team has. */
int32_t berth_cpu_threads(const berth_device *device);

/* NULL: there is none of this kind in this build. */
const berth_backend *berth_backend_of(berth_device_kind kind);

#endif
