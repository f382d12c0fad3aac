/* copy_times.h - how long copies take on devices that queue them: two marks around each, looked at when the run is over.
 *
 * Some microseconds a copy on the host and a little on the GPU, so only engines that were asked to (berth_exec's
 * times_copies) have them. The time is that between the marks on the stream that carries the copy: what it waits for
 * comes before the first one. */
#ifndef BERTH_EXEC_COPY_TIMES_H
#define BERTH_EXEC_COPY_TIMES_H

#include "exec/backend.h"
#include "program/program.h"

typedef struct berth_copy_time {
    berth_mark *from, *to; /* owned; NULL: no copy, or on a lane that does not queue */
    bool is_set;           /* both, in the run under way */
} berth_copy_time;

typedef struct berth_copy_times { /* of one binding of a program */
    const berth_program *program;
    berth_unit *units;     /* borrowed */
    berth_copy_time *list; /* owned; [n_ops]; NULL: nothing is timed */
} berth_copy_times;

berth_status berth_copy_times_init(berth_copy_times *t, const berth_program *program, berth_unit *units,
                                   berth_error *err);
void berth_copy_times_deinit(berth_copy_times *t); /* zero is fine */

/* On the lane's worker, before and after the copy is queued. Nothing where it is not timed. */
berth_status berth_copy_times_begin(const berth_copy_times *t, int32_t op, berth_stream *s, berth_error *err);
berth_status berth_copy_times_end(const berth_copy_times *t, int32_t op, berth_stream *s, berth_error *err);

/* Adds what each copy of these ops [n] took to its edge of `edge_ns` [(n_units + 1)^2] (NULL: only forgets them). They are
 * over. */
berth_status berth_copy_times_take(const berth_copy_times *t, const int32_t *ops, int32_t n, int32_t n_units,
                                   uint64_t *edge_ns, berth_error *err);

#endif
