/* graph_step.h - a step on two GPUs and four streams, captured once and replayed, with joins that can be left out: the
 * scenario of several tests. */
#ifndef CUDA_EMU_GRAPH_STEP_H
#define CUDA_EMU_GRAPH_STEP_H

#include "cuda/device.h"

enum { STEP_N = 32 };
enum { MAIN, LEFT, RIGHT, FAR, N_STREAMS };

/* Leaving out any of these must give wrong data on some seed. */
typedef enum join { JOIN_LEFT, JOIN_RIGHT, JOIN_FAR, JOIN_HOST, N_JOINS } join;

typedef struct step {
    const void *image; /* test_kernels */
    int dropped;       /* a join, or -1 */
    berth_gpu *gpu[2];
    berth_gpu_stream *stream[N_STREAMS];
    berth_gpu_event *reached[N_STREAMS], *done;
    berth_gpu_module *module[2];
    berth_gpu_kernel scale[2];
    berth_gpu_ptr x, y, z, far;
    uint32_t *in, *out; /* pinned; [STEP_N] */
    berth_gpu_graph *graph;
} step;

/* On a step of {.image, .dropped}; GPUs `first` and `second`, which may be one. */
berth_status step_set_up(step *p, berth_cuda *cuda, int first, int second, berth_error *err);
void step_tear_down(step *p);
/* to = from * a + b; `from` and `to` may be one. */
berth_status step_scale(step *p, int stream, berth_gpu_ptr from, berth_gpu_ptr to, uint32_t a, uint32_t b,
                        berth_error *err);
/* `stream` awaits what `other` has queued so far; not if this is the join `dropped` that is left out. */
berth_status step_follow(step *p, int dropped, int stream, int other, berth_error *err);
berth_status step_capture(step *p, berth_error *err);
/* Several times, with other data each. */
berth_status step_replay(step *p, bool *out_right, berth_error *err);

/* All of it, on a step of its own. *out_right: only after BERTH_OK. */
berth_status step_run(berth_cuda *cuda, const void *image, int first, int second, int dropped, bool *out_right,
                      berth_error *err);

#endif
