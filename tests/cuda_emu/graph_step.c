/* graph_step.c - see graph_step.h. */
#include "graph_step.h"

enum { BYTES = STEP_N * 4, STEPS = 4 };

berth_status step_set_up(step *p, berth_cuda *cuda, int first, int second, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int g = 0; g < 2 && st == BERTH_OK; g++) {
        st = berth_gpu_open(cuda, g == 0 ? first : second, 4096, &p->gpu[g], err);
        if (st == BERTH_OK) st = berth_gpu_module_load(p->gpu[g], p->image, &p->module[g], err);
        if (st == BERTH_OK) st = berth_gpu_kernel_find(p->module[g], "scale", 0, &p->scale[g], err);
    }
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->x, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->y, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->z, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[1], BYTES, &p->far, err);
    for (int i = 0; i < N_STREAMS && st == BERTH_OK; i++) {
        st = berth_gpu_stream_create(p->gpu[i == FAR], &p->stream[i], err);
        if (st == BERTH_OK) st = berth_gpu_event_create(p->gpu[i == FAR], &p->reached[i], err);
    }
    if (st == BERTH_OK) st = berth_gpu_event_create_as(p->gpu[0], BERTH_GPU_EVENT_SLEEPS, &p->done, err);
    void *memory = NULL;
    if (st == BERTH_OK) st = berth_gpu_pin(p->gpu[0], 2 * (size_t)BYTES, &memory, err);
    p->in = memory;
    p->out = memory ? p->in + STEP_N : NULL;
    return st;
}

void step_tear_down(step *p)
{
    for (int i = 0; i < N_STREAMS; i++) berth_gpu_stream_destroy(p->stream[i]);
    berth_gpu_graph_destroy(p->graph);
    for (int i = 0; i < N_STREAMS; i++) berth_gpu_event_destroy(p->reached[i]);
    berth_gpu_event_destroy(p->done);
    if (p->in) berth_gpu_unpin(p->gpu[0], p->in);
    for (int i = 0; i < 2; i++) berth_gpu_module_unload(p->module[i]);
    for (int i = 0; i < 2; i++) berth_gpu_close(p->gpu[i]);
}

/* to = from * a + b; `from` and `to` may be one. The arguments are gone when the kernel runs. */
berth_status step_scale(step *p, int stream, berth_gpu_ptr from, berth_gpu_ptr to, uint32_t a, uint32_t b,
                        berth_error *err)
{
    uint32_t n = STEP_N;
    void *params[] = {&from, &to, &a, &b, &n};
    const berth_gpu_grid grid = {.blocks = {1}, .threads = {32}};
    const berth_status st = berth_gpu_launch(p->stream[stream], &p->scale[stream == FAR], &grid, params, err);
    from = to = 0;
    a = b = n = 0;
    return st;
}

/* `stream` awaits what `other` has queued so far. */
berth_status step_follow(step *p, int dropped, int stream, int other, berth_error *err)
{
    if (p->dropped == dropped) return BERTH_OK;
    const berth_status st = berth_gpu_event_record(p->reached[other], p->stream[other], err);
    return st == BERTH_OK ? berth_gpu_stream_await(p->stream[stream], p->reached[other], err) : st;
}

/* x = in; left: y = 3x + 1; right: z = 5x, then z = 2y once y is made; far = z on the other GPU, far = 7 far; z = far;
 * out = z */
static berth_status queue_step(step *p, berth_error *err)
{
    berth_status st = berth_gpu_upload(p->stream[MAIN], p->x, p->in, BYTES, err);
    if (st == BERTH_OK) st = step_follow(p, -2, LEFT, MAIN, err);
    if (st == BERTH_OK) st = step_follow(p, -2, RIGHT, MAIN, err);
    if (st == BERTH_OK) st = step_follow(p, -2, FAR, MAIN, err);
    if (st == BERTH_OK) st = step_scale(p, LEFT, p->x, p->y, 3, 1, err);
    if (st == BERTH_OK) st = step_scale(p, RIGHT, p->x, p->z, 5, 0, err);
    if (st == BERTH_OK) st = step_follow(p, JOIN_LEFT, RIGHT, LEFT, err);
    if (st == BERTH_OK) st = step_scale(p, RIGHT, p->y, p->z, 2, 0, err);
    if (st == BERTH_OK) st = step_follow(p, JOIN_RIGHT, FAR, RIGHT, err);
    if (st == BERTH_OK) st = berth_gpu_copy_peer(p->stream[FAR], p->gpu[1], p->far, p->gpu[0], p->z, BYTES, err);
    if (st == BERTH_OK) st = step_scale(p, FAR, p->far, p->far, 7, 0, err);
    if (st == BERTH_OK) st = step_follow(p, JOIN_FAR, MAIN, FAR, err);
    if (st == BERTH_OK) st = berth_gpu_copy_peer(p->stream[MAIN], p->gpu[0], p->z, p->gpu[1], p->far, BYTES, err);
    if (st == BERTH_OK) st = berth_gpu_download(p->stream[MAIN], p->out, p->z, BYTES, err);
    /* All come back, whatever was left out: a capture needs it. */
    for (int i = LEFT; i <= FAR && st == BERTH_OK; i++) st = step_follow(p, -2, MAIN, i, err);
    return st;
}

berth_status step_capture(step *p, berth_error *err)
{
    berth_status st = berth_gpu_capture_begin(p->stream[MAIN], err);
    if (st != BERTH_OK) return st;
    const berth_status queued = queue_step(p, err);
    st = berth_gpu_capture_end(p->stream[MAIN], &p->graph, queued == BERTH_OK ? err : NULL);
    return queued == BERTH_OK ? st : queued;
}

berth_status step_replay(step *p, bool *out_right, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out_right = true;
    for (uint32_t s = 0; s < STEPS && st == BERTH_OK; s++) {
        for (uint32_t i = 0; i < STEP_N; i++) p->in[i] = s * 1000 + i;
        st = berth_gpu_graph_launch(p->stream[MAIN], p->graph, err);
        if (st == BERTH_OK) st = berth_gpu_event_record(p->done, p->stream[MAIN], err);
        if (st == BERTH_OK && p->dropped != JOIN_HOST) st = berth_gpu_event_wait_asking(p->done, 3, err);
        for (uint32_t i = 0; i < STEP_N && st == BERTH_OK; i++)
            *out_right = *out_right && p->out[i] == ((s * 1000 + i) * 3 + 1) * 2 * 7;
    }
    return st;
}

berth_status step_run(berth_cuda *cuda, const void *image, int first, int second, int dropped, bool *out_right,
                      berth_error *err)
{
    step p = {.image = image, .dropped = dropped};
    *out_right = false;
    berth_status st = step_set_up(&p, cuda, first, second, err);
    if (st == BERTH_OK) st = step_capture(&p, err);
    if (st == BERTH_OK) st = step_replay(&p, out_right, err);
    step_tear_down(&p);
    return st;
}
