/* gpu_work.c - what products of cuBLAS and the launch of a kernel cost on a GPU, in its own time. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/status.h"
#include "cuda/code.h"
#include "probe/gpu_internal.h"

enum { ROUNDS = 5, PRODUCTS = 8, LAUNCHES = 512, SMALL = 1024, SLOW_NS = 40000000 };

typedef struct watch { /* GPU time of what is queued between start and stop */
    berth_gpu_event *from, *to;
} watch;

static berth_status watch_init(const bed *p, watch *w, berth_error *err)
{
    *w = (watch){0};
    berth_status st = berth_gpu_event_create_as(p->gpu, BERTH_GPU_EVENT_TIMED, &w->from, err);
    return st == BERTH_OK ? berth_gpu_event_create_as(p->gpu, BERTH_GPU_EVENT_TIMED, &w->to, err) : st;
}

static void watch_deinit(watch *w)
{
    berth_gpu_event_destroy(w->from);
    berth_gpu_event_destroy(w->to);
}

static berth_status watch_stop(const bed *p, watch *w, double *out_ns, berth_error *err)
{
    int64_t ns = 0;
    berth_status st = berth_gpu_event_record(w->to, p->stream, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(p->stream, err);
    if (st == BERTH_OK) st = berth_gpu_event_elapsed(w->from, w->to, &ns, err);
    *out_ns = (double)(ns > 0 ? ns : 1);
    return st;
}

static void keep_least(int round, double ns, double *least)
{
    if (round == 1 || (round > 1 && ns < *least)) *least = ns; /* round 0 warms up */
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

static berth_status lay_out(const bed *p, const berth_gemm_shape *s, berth_gemm_call *out, berth_error *err)
{
    const size_t rows = (size_t)s->rows, n_out = (size_t)s->n_out, n_in = (size_t)s->n_in;
    size_t x, w, y, end_a, end_b;
    *out =
        (berth_gemm_call){.shape = *s, .workspace_bytes = berth_gemm_workspace(s, berth_gpu_about(p->gpu)->capability)};
    const bool fits = berth_gemm_takes(s) && berth_mul_size(rows * berth_dtype_size(s->x), n_in, &x) &&
                      berth_mul_size(n_out * berth_dtype_size(s->w), n_in, &w) &&
                      berth_mul_size(rows * berth_dtype_size(s->y), n_out, &y) &&
                      berth_round_up(x, BERTH_GPU_ALIGN, &x) && berth_round_up(y, BERTH_GPU_ALIGN, &y) &&
                      berth_add_size(x, w, &end_a) && berth_add_size(y, out->workspace_bytes, &end_b) &&
                      end_a <= p->bytes && end_b <= p->bytes;
    if (!fits)
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT,
                          "cuda:%d: a product of %lldx%lld by %lld is larger than the probe's %zu bytes",
                          (int)p->ordinal, (long long)s->rows, (long long)s->n_in, (long long)s->n_out, p->bytes);
    out->x = p->a;
    out->w = p->a + x;
    out->y = p->b;
    out->workspace = out->workspace_bytes ? p->b + y : 0;
    return BERTH_OK;
}

/* *out_host_ns: what the first took, waited for. Where that is long, as on an emulated GPU, one more has to do. */
static berth_status time_products(const bed *p, berth_gemm *gemm, const berth_gemm_call *call, double *out,
                                  double *out_host_ns, berth_error *err)
{
    watch w;
    const int64_t begin = berth_now_ns();
    berth_status st = berth_gemm_run(gemm, p->stream, call, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(p->stream, err);
    *out_host_ns = (double)(berth_now_ns() - begin);
    const bool is_slow = *out_host_ns > SLOW_NS;
    const int rounds = is_slow ? 1 : ROUNDS, n = is_slow ? 1 : PRODUCTS;
    if (st == BERTH_OK) st = watch_init(p, &w, err);
    if (st != BERTH_OK) return st;
    for (int round = 1; st == BERTH_OK && round <= rounds; round++) {
        double ns = 0;
        st = berth_gpu_event_record(w.from, p->stream, err);
        for (int i = 0; st == BERTH_OK && i < n; i++) st = berth_gemm_run(gemm, p->stream, call, err);
        if (st == BERTH_OK) st = watch_stop(p, &w, &ns, err);
        keep_least(round, ns / n, out);
    }
    watch_deinit(&w);
    return st;
}

static berth_status probe_gemm(const bed *p, const berth_gemm_shape *shape, double *out_ns, double *out_host_ns,
                               berth_error *err)
{
    berth_gemm_call call;
    berth_gemm *gemm = NULL;
    *out_ns = *out_host_ns = 0;
    berth_status st = lay_out(p, shape, &call, err);
    if (st == BERTH_OK) st = berth_gemm_open(p->gpu, NULL, &gemm, err);
    if (st == BERTH_OK) st = berth_gemm_prepare(gemm, p->stream, err);
    if (st == BERTH_OK) st = time_products(p, gemm, &call, out_ns, out_host_ns, err);
    if (gemm) {
        berth_gpu_stream_wait(p->stream, NULL); /* after an error, before the handle goes */
        berth_gemm_forget(gemm, p->stream);
    }
    berth_gemm_close(gemm);
    return st;
}

berth_status berth_gpu_probe_gemm(const berth_gpu_probe *p, const berth_gemm_shape *shape, double *out_ns,
                                  berth_error *err)
{
    double host_ns;
    return probe_gemm(p, shape, out_ns, &host_ns, err);
}

berth_status berth_gpu_probe_flops(const berth_gpu_probe *p, berth_dtype dtype, double *out, berth_error *err)
{
    double ns = 0, host_ns = 0;
    berth_status st = BERTH_OK;
    *out = 0;
    for (int64_t n = 256; n <= 4096 && 8 * host_ns < SLOW_NS; n *= 2) { /* twice the side is eight times the work */
        const berth_gemm_shape shape = {.rows = n, .n_out = n, .n_in = n, .x = dtype, .w = dtype, .y = dtype};
        st = probe_gemm(p, &shape, &ns, &host_ns, err);
        if (st == BERTH_DOES_NOT_FIT && *out > 0) return BERTH_OK;
        if (st != BERTH_OK) return st;
        *out = 2.0 * (double)(n * n * n) * 1e9 / ns;
    }
    return st;
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

static void *at(berth_gpu_ptr address)
{
    return (void *)(uintptr_t)address; /* device memory as code.h takes it */
}

static berth_status queue_many(const bed *p, berth_gpu_code *code, berth_error *err)
{
    const berth_tensor t = {.data = at(p->a), .dtype = BERTH_F32, .n_dims = 2, .dims = {1, SMALL / 4}};
    berth_op_call call = {.kind = BERTH_OP_ADD, .in = {t, t}, .n_in = 2, .out = t};
    call.out.data = at(p->b);
    berth_status st = BERTH_OK;
    for (int i = 0; st == BERTH_OK && i < LAUNCHES; i++) st = berth_gpu_code_run(code, p->stream, &call, err);
    return st;
}

static berth_status time_stream(const bed *p, berth_gpu_code *code, watch *w, berth_launch_costs *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS; round++) {
        double ns = 0;
        st = berth_gpu_event_record(w->from, p->stream, err);
        const int64_t begin = berth_now_ns();
        if (st == BERTH_OK) st = queue_many(p, code, err);
        const double issue = (double)(berth_now_ns() - begin);
        if (st == BERTH_OK) st = watch_stop(p, w, &ns, err);
        keep_least(round, issue / LAUNCHES, &out->queue_ns);
        keep_least(round, ns / LAUNCHES, &out->kernel_ns);
    }
    return st;
}

static berth_status time_graph(const bed *p, berth_gpu_code *code, watch *w, double *out, berth_error *err)
{
    berth_gpu_graph *graph = NULL;
    berth_status st = berth_gpu_capture_begin(p->stream, err);
    if (st != BERTH_OK) return st;
    st = queue_many(p, code, err);
    const berth_status ended = berth_gpu_capture_end(p->stream, &graph, st == BERTH_OK ? err : NULL);
    if (st == BERTH_OK) st = ended;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS; round++) {
        double ns = 0;
        st = berth_gpu_event_record(w->from, p->stream, err);
        if (st == BERTH_OK) st = berth_gpu_graph_launch(p->stream, graph, err);
        if (st == BERTH_OK) st = watch_stop(p, w, &ns, err);
        keep_least(round, ns / LAUNCHES, out);
    }
    berth_gpu_stream_wait(p->stream, NULL);
    berth_gpu_graph_destroy(graph);
    return st;
}

berth_status berth_gpu_probe_launches(const berth_gpu_probe *p, berth_launch_costs *out, berth_error *err)
{
    watch w = {0};
    berth_gpu_code *code = NULL;
    *out = (berth_launch_costs){0};
    if (p->bytes < SMALL)
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT, "cuda:%d has no memory left to measure with", (int)p->ordinal);
    berth_status st = berth_gpu_code_load(p->gpu, NULL, &code, err);
    if (st == BERTH_OK) st = berth_gpu_code_prepare(code, p->stream, err);
    if (st == BERTH_OK) st = watch_init(p, &w, err);
    if (st == BERTH_OK) st = time_stream(p, code, &w, out, err);
    if (st == BERTH_OK) st = time_graph(p, code, &w, &out->node_ns, err);
    watch_deinit(&w);
    if (code) {
        berth_gpu_stream_wait(p->stream, NULL);
        berth_gpu_code_forget(code, p->stream);
    }
    berth_gpu_code_unload(code);
    return st;
}
