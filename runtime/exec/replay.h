/* replay.h - stretches of a lane's ops that are captured once as a graph and then queued at once: on a GPU, launching an op
 * takes the host some microseconds, and a decode step has hundreds of small ones.
 *
 * A segment is a run of ops of one queueing lane, one behind the other, of which none is a copy, none but the first waits
 * for another lane, and none but the last is waited for. What its ops are launched with depends on the binding and the
 * sizes of the run alone, so a graph is kept for each of the sizes seen last, and made when sizes come the second time.
 *
 * Threads: a segment is its lane's worker's. */
#ifndef BERTH_EXEC_REPLAY_H
#define BERTH_EXEC_REPLAY_H

#include "exec/backend.h"
#include "program/program.h"

enum { BERTH_SEGMENT_GRAPHS = 4 };

typedef struct berth_segment_graph {
    berth_sizes sizes;
    berth_graph *graph; /* owned; NULL: the sizes were seen once */
    uint64_t used;      /* the segment's clock then; 0 = free */
} berth_segment_graph;

typedef struct berth_segment {
    int32_t n;   /* ops */
    bool is_off; /* a capture failed: it is not tried again */
    uint64_t clock;
    berth_segment_graph graphs[BERTH_SEGMENT_GRAPHS];
} berth_segment;

/* Of a program bound to units. */
typedef struct berth_replay {
    const berth_unit *units; /* borrowed */
    berth_segment *segments; /* owned; [n_segments] */
    int32_t n_segments;
    int32_t *starts; /* owned; [n_ops] the segment that begins with this op; -1 */
    int32_t *lane;   /* owned; [n_segments] */
} berth_replay;

/* `lane_ops`, `lane_first`: as in berth_bound. `wakes` [n_ops]: nonzero where another lane waits. Only lanes that can
 * capture get segments. */
berth_status berth_replay_init(berth_replay *r, const berth_program *program, const berth_unit *units, int32_t n_units,
                               const int32_t *lane_ops, const int32_t *lane_first, const uint64_t *wakes,
                               berth_error *err);
void berth_replay_deinit(berth_replay *r); /* its graphs are over */

typedef struct berth_segment_run {
    const berth_backend *backend;
    berth_stream *stream;
    const berth_sizes *sizes;
    /* Queues the i-th op of the segment. */
    berth_status (*issue)(void *user, int32_t i, berth_error *err);
    void *user;
} berth_segment_run;

/* Queues the whole segment from a graph, which it may make first; *out_queued false: nothing was queued, and the ops are
 * to be queued one by one. The error is the launch's. */
berth_status berth_segment_queue(berth_segment *s, const berth_segment_run *run, bool *out_queued, berth_error *err);

#endif
