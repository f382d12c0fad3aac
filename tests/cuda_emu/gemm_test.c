/* gemm_test.c - products by cuBLAS on the emulator: right values for every dtype, queued and in graphs, in stream order
 * only; each call fails; what gemm.h refuses, and what the emulated cuBLAS refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control.h"
#include "cuda/cublas.h"
#include "cuda/gemm.h"

static emu_control emulator;

enum { WORKSPACE = 64 << 10, ARENA = 1 << 20, BIAS_OFFSET = 32 };

typedef struct bench { /* one GPU with a stream, cuBLAS and memory */
    berth_cuda *cuda;
    berth_gpu *gpu;
    berth_gpu_stream *s, *other;
    berth_gpu_event *uploaded;
    berth_gpu_graph *graph;
    berth_gemm *gemm;
    berth_gemm_call call;
    berth_gpu_ptr bias; /* [n_out], when call.bias is one */
} bench;

static berth_status set_up(bench *b, const char *config, const berth_gemm_shape *shape, berth_error *err)
{
    memset(b, 0, sizeof *b);
    emulator.reset(config);
    b->call.shape = *shape;
    b->call.workspace_bytes = WORKSPACE;
    berth_status st = berth_cuda_open(NULL, &b->cuda, err);
    if (st == BERTH_OK) st = berth_gpu_open(b->cuda, 0, ARENA, &b->gpu, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(b->gpu, &b->s, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(b->gpu, &b->other, err);
    if (st == BERTH_OK) st = berth_gpu_event_create(b->gpu, &b->uploaded, err);
    if (st == BERTH_OK) st = berth_gemm_open(b->gpu, NULL, &b->gemm, err);
    if (st == BERTH_OK) st = berth_gemm_prepare(b->gemm, b->s, err);
    const struct {
        berth_gpu_ptr *at;
        size_t elements;
        berth_dtype dtype;
    } operands[] = {{&b->call.x, (size_t)(shape->rows * shape->n_in), shape->x},
                    {&b->call.w, (size_t)(shape->n_out * shape->n_in), shape->w},
                    {&b->call.y, (size_t)(shape->rows * shape->n_out), shape->y}};
    for (size_t i = 0; i < 3 && st == BERTH_OK; i++)
        st = berth_gpu_take(b->gpu, operands[i].elements * berth_dtype_size(operands[i].dtype), operands[i].at, err);
    if (st == BERTH_OK) st = berth_gpu_take(b->gpu, WORKSPACE, &b->call.workspace, err);
    if (st == BERTH_OK)
        st = berth_gpu_take(b->gpu, (size_t)shape->n_out * berth_dtype_size(shape->y) + BIAS_OFFSET, &b->bias, err);
    return st;
}

static void tear_down(bench *b)
{
    if (b->s) (void)berth_gpu_stream_wait(b->s, NULL);
    berth_gemm_close(b->gemm);
    berth_gpu_stream_destroy(b->s);
    berth_gpu_stream_destroy(b->other);
    berth_gpu_graph_destroy(b->graph);
    berth_gpu_event_destroy(b->uploaded);
    berth_gpu_close(b->gpu);
    berth_cuda_close(b->cuda);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

enum { MOST = 4096 };

typedef struct values {
    float x[MOST], w[MOST], bias[MOST], y[MOST]; /* as the dtypes hold them; y: before, then the result */
} values;

/* Small fractions, which every dtype holds exactly; `which` tells operands apart. */
static void fill(float *v, size_t n, uint32_t which)
{
    for (size_t i = 0; i < n; i++) v[i] = (float)((int)((i * 2654435761u + which * 40503u) >> 7 & 63) - 32) / 16;
}

static berth_status upload(bench *b, berth_gpu_stream *s, berth_gpu_ptr at, const float *v, size_t n, berth_dtype dtype,
                           berth_error *err)
{
    uint8_t bytes[MOST * 4];
    berth_narrow_f32(bytes, v, dtype, n);
    (void)b;
    return berth_gpu_upload(s, at, bytes, n * berth_dtype_size(dtype), err);
}

static berth_status upload_all(bench *b, berth_gpu_stream *s, values *v, berth_error *err)
{
    const berth_gemm_shape *g = &b->call.shape;
    const size_t n_x = (size_t)(g->rows * g->n_in), n_w = (size_t)(g->n_out * g->n_in),
                 n_y = (size_t)(g->rows * g->n_out);
    assert_true(n_x <= MOST && n_w <= MOST && n_y <= MOST);
    fill(v->x, n_x, 1);
    fill(v->w, n_w, 2);
    fill(v->y, n_y, 3);
    berth_status st = upload(b, s, b->call.x, v->x, n_x, g->x, err);
    if (st == BERTH_OK) st = upload(b, s, b->call.w, v->w, n_w, g->w, err);
    if (st == BERTH_OK) st = upload(b, s, b->call.y, v->y, n_y, g->y, err);
    if (b->call.bias) fill(v->bias, (size_t)g->n_out, 4);
    if (st == BERTH_OK && b->call.bias) st = upload(b, s, b->call.bias, v->bias, (size_t)g->n_out, g->y, err);
    return st;
}

static bool is_right(const bench *b, const values *v, const float *was)
{
    const berth_gemm_shape *g = &b->call.shape;
    const double unit = g->y == BERTH_F32 ? 1e-6 : g->y == BERTH_F16 ? 1.0 / 2048 : 1.0 / 256;
    for (int64_t r = 0; r < g->rows; r++) {
        for (int64_t o = 0; o < g->n_out; o++) {
            double want = b->call.adds ? was[r * g->n_out + o] : v->bias[o], size = fabs(want);
            for (int64_t i = 0; i < g->n_in; i++) {
                const double product = (double)v->x[r * g->n_in + i] * v->w[o * g->n_in + i];
                want += product;
                size += fabs(product);
            }
            if (!(fabs(v->y[r * g->n_out + o] - want) <= unit * fabs(want) + 1e-6 * size)) return false;
        }
    }
    return true;
}

/* Uploads on another stream, multiplies, downloads. `graph`: the product is captured, and launched twice. */
static berth_status multiply(bench *b, bool waits, bool graph, bool *out_right, berth_error *err)
{
    values *v = calloc(1, sizeof *v);
    float was[MOST];
    uint8_t bytes[MOST * 4];
    const size_t n_y = (size_t)(b->call.shape.rows * b->call.shape.n_out);
    berth_status st = upload_all(b, b->other, v, err), queued = BERTH_OK;
    memcpy(was, v->y, sizeof was);
    if (st == BERTH_OK) st = berth_gpu_event_record(b->uploaded, b->other, err);
    if (st == BERTH_OK && waits) st = berth_gpu_stream_await(b->s, b->uploaded, err);
    if (st == BERTH_OK && graph) st = berth_gpu_capture_begin(b->s, err);
    if (st == BERTH_OK) {
        queued = berth_gemm_run(b->gemm, b->s, &b->call, err);
        if (graph) st = berth_gpu_capture_end(b->s, &b->graph, queued == BERTH_OK ? err : NULL);
    }
    if (queued != BERTH_OK) st = queued;
    for (int i = 0; i < 2 && graph && st == BERTH_OK; i++) st = berth_gpu_graph_launch(b->s, b->graph, err);
    if (st == BERTH_OK) st = berth_gpu_download(b->s, bytes, b->call.y, n_y * berth_dtype_size(b->call.shape.y), err);
    if (st == BERTH_OK) {
        berth_widen_f32(v->y, bytes, b->call.shape.y, n_y);
        *out_right = is_right(b, v, was);
    }
    free(v);
    return st;
}

static const berth_gemm_shape shapes[] = {
    {1, 1, 1, BERTH_F32, BERTH_F32, BERTH_F32},      {7, 13, 33, BERTH_F32, BERTH_F32, BERTH_F32},
    {64, 32, 48, BERTH_F32, BERTH_F32, BERTH_F32},   {9, 24, 40, BERTH_BF16, BERTH_BF16, BERTH_BF16},
    {16, 16, 64, BERTH_BF16, BERTH_BF16, BERTH_F32}, {33, 17, 8, BERTH_F16, BERTH_F16, BERTH_F16},
    {5, 40, 96, BERTH_F16, BERTH_F16, BERTH_F32},    {2, 3, 1000, BERTH_BF16, BERTH_BF16, BERTH_BF16},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static void products_are_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * N_SHAPES; i++) {
        bench b;
        berth_error err = {0};
        bool right = false;
        char config[64];
        snprintf(config, sizeof config, "mem=2MiB;seed=%zu;driver=%d", i, i % 2 ? 13000 : 12040);
        assert_int_equal(set_up(&b, config, &shapes[i % N_SHAPES], &err), BERTH_OK);
        assert_int_equal(berth_gemm_version(b.gemm), i % 2 ? 130400 : 120400);
        b.call.adds = i / N_SHAPES % 2;
        const bool graph = i / N_SHAPES / 2;
        if (multiply(&b, true, graph && !b.call.adds, &right, &err) != BERTH_OK) fail_msg("%s", err.message);
        if (!right) fail_msg("shape %zu, adds %d: wrong", i % N_SHAPES, (int)b.call.adds);
        tear_down(&b);
        emu_control_tidy(&emulator, "products");
    }
}

/* The same shape three times: chosen once, kept, and chosen anew for a bias that lies otherwise. */
static void biases_are_added(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        bench b;
        berth_error err = {0};
        char config[64];
        snprintf(config, sizeof config, "mem=2MiB;seed=%zu;driver=%d", i, i % 2 ? 13000 : 12040);
        assert_int_equal(set_up(&b, config, &shapes[i], &err), BERTH_OK);
        assert_int_equal(berth_gemm_takes_bias(b.gemm, &shapes[i]), shapes[i].x == shapes[i].y);
        for (int times = 0; times < 4; times++) {
            bool right = false;
            b.call.bias = times < 2 ? b.bias : b.bias + BIAS_OFFSET;
            const berth_status st = multiply(&b, true, times == 3, &right, &err);
            if (shapes[i].x != shapes[i].y) {
                assert_int_equal(st, BERTH_INVALID_ARGUMENT);
                assert_non_null(strstr(err.message, "ask berth_gemm_takes_bias first"));
                break;
            }
            if (st != BERTH_OK) fail_msg("%s", err.message);
            if (!right) fail_msg("shape %zu, time %d: wrong", i, times);
        }
        tear_down(&b);
        emu_control_tidy(&emulator, "products");
    }
}

static void a_bias_that_cannot_be_added_is_said(void **state)
{
    (void)state;
    bench b;
    berth_error err = {0};
    bool right = false;
    assert_int_equal(set_up(&b, "mem=2MiB;cublaslt=0", &shapes[2], &err), BERTH_OK);
    b.call.bias = b.bias;
    assert_int_equal(multiply(&b, true, false, &right, &err), BERTH_UNSUPPORTED);
    assert_int_equal(err.status, BERTH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cublasLtMatmulAlgoGetHeuristic failed: CUBLAS_STATUS_NOT_SUPPORTED"));
    b.call.bias = 0;
    assert_int_equal(multiply(&b, true, false, &right, &err), BERTH_OK);
    assert_true(right);
    tear_down(&b);
    emu_control_tidy(&emulator, "products");
}

/* More shapes than are kept. */
static void many_shapes_are_chosen_in_turn(void **state)
{
    (void)state;
    bench b;
    berth_error err = {0};
    assert_int_equal(set_up(&b, "mem=2MiB", &shapes[2], &err), BERTH_OK);
    b.call.bias = b.bias;
    for (int i = 0; i < 300; i++) {
        bool right = false;
        b.call.shape.rows = 1 + i * 7 % 64;
        b.call.shape.n_in = 1 + i * 5 % 48;
        assert_int_equal(multiply(&b, true, false, &right, &err), BERTH_OK);
        assert_true(right);
    }
    tear_down(&b);
    emu_control_tidy(&emulator, "products");
}

/* Without the wait for its operands a product is wrong on some seed: it is carried out in the order of its stream and
 * of nothing else. */
static void a_wait_left_out_is_found(void **state)
{
    (void)state;
    int n_wrong = 0;
    for (int seed = 0; seed < 40; seed++) {
        bench b;
        berth_error err = {0};
        bool right = false;
        char config[64];
        snprintf(config, sizeof config, "mem=2MiB;seed=%d", seed);
        assert_int_equal(set_up(&b, config, &shapes[1], &err), BERTH_OK);
        assert_int_equal(multiply(&b, false, false, &right, &err), BERTH_OK);
        n_wrong += !right;
        tear_down(&b);
    }
    assert_true(n_wrong > 0);
}

static void each_call_may_fail(void **state)
{
    (void)state;
    uint64_t n_calls = 1, n_failed = 0;
    for (uint64_t call = 0; call <= n_calls; call++) {
        for (int c = 0; c < N_FAULT_CODES; c++) {
            const int code = fault_codes[c].code;
            bench b;
            berth_error err = {0};
            bool right = false;
            char config[64];
            snprintf(config, sizeof config, "mem=2MiB;fail=%llu:%d", (unsigned long long)call, code);
            berth_status st = set_up(&b, config, &shapes[1], &err);
            if (st == BERTH_OK) st = multiply(&b, true, false, &right, &err);
            b.call.bias = b.bias;
            if (st == BERTH_OK) st = multiply(&b, true, true, &right, &err);
            tear_down(&b);
            const emu_report r = emu_control_tidy(&emulator, config);
            if (call == 0) n_calls = r.calls;
            n_failed += st != BERTH_OK;
            if (st == BERTH_OK ? !right : err.native_code == 0 || strlen(err.message) < 20)
                fail_msg("call %llu, code %d: status %d: %s", (unsigned long long)call, code, (int)st, err.message);
        }
    }
    assert_true(n_calls > 60 && n_failed > n_calls * 3);
}

/* ---- what gemm.h refuses --------------------------------------------------------------------------------------------- */

static void what_is_wrong_is_one_line(void **state)
{
    (void)state;
    bench b;
    berth_error err = {0};
    assert_int_equal(set_up(&b, "gpus=2;mem=2MiB", &shapes[2], &err), BERTH_OK);
    berth_gemm_call bad = b.call;
    bad.x += 8;
    assert_int_equal(berth_gemm_run(b.gemm, b.s, &bad, &err), BERTH_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "operands at multiples of 16"));
    bad = b.call;
    bad.workspace_bytes = (16 << 10) - 1;
    assert_int_equal(berth_gemm_run(b.gemm, b.s, &bad, &err), BERTH_INVALID_ARGUMENT);
    bad = b.call;
    bad.shape.w = BERTH_BF16;
    assert_int_equal(berth_gemm_run(b.gemm, b.s, &bad, &err), BERTH_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "x f32 [64, 48], w bf16"));
    assert_int_equal(berth_gemm_run(b.gemm, b.other, &b.call, &err), BERTH_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "berth_gemm_prepare has not seen"));
    berth_gemm_forget(b.gemm, b.s);
    berth_gemm_forget(b.gemm, b.s);
    assert_int_equal(berth_gemm_run(b.gemm, b.s, &b.call, &err), BERTH_INVALID_ARGUMENT);
    berth_gpu *second = NULL;
    berth_gpu_stream *far = NULL;
    assert_int_equal(berth_gpu_open(b.cuda, 1, 0, &second, &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_create(second, &far, &err), BERTH_OK);
    assert_int_equal(berth_gemm_prepare(b.gemm, far, &err), BERTH_INVALID_ARGUMENT);
    berth_gpu_stream_destroy(far);
    berth_gpu_close(second);
    berth_gemm *none = NULL;
    assert_int_equal(berth_gemm_open(b.gpu, "no/such/libcublas.so", &none, &err), BERTH_NOT_FOUND);
    assert_null(none);
    tear_down(&b);
    emu_control_tidy(&emulator, "products");
}

/* A handle needs memory besides the arena. */
static void an_arena_of_everything_leaves_no_room(void **state)
{
    (void)state;
    bench b;
    berth_error err = {0};
    assert_int_equal(set_up(&b, "mem=1MiB", &shapes[2], &err), BERTH_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "cuda:0: cublasCreate failed: CUBLAS_STATUS_ALLOC_FAILED (3)"));
    tear_down(&b);
    emu_control_tidy(&emulator, "products");
}

/* ---- what the emulated cuBLAS refuses -------------------------------------------------------------------------------- */

typedef struct raw { /* a handle on GPU 0 of two, with everything set up for a product of fp32 [8, 8] matrices */
    berth_cu_driver cu;
    berth_cublas blas;
    berth_cublas_handle h;
    berth_cu_context context[2];
    berth_cu_stream stream;
    berth_cu_ptr a, b, c, workspace;
    int dtype, lda, compute;
} raw;

static void *pointer(berth_cu_ptr at)
{
    return (void *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr)
}

static void begin(raw *r, const char *config)
{
    memset(r, 0, sizeof *r);
    emulator.reset(config);
    assert_int_equal(berth_cu_driver_open(&r->cu, NULL, NULL), BERTH_OK);
    assert_int_equal(berth_cublas_open(&r->blas, NULL, 12000, 80, NULL), BERTH_OK);
    for (int g = 1; g >= 0; g--) {
        assert_int_equal(r->cu.cuDevicePrimaryCtxRetain(&r->context[g], g), 0);
        assert_int_equal(r->cu.cuCtxPushCurrent(r->context[g]), 0);
    }
    berth_cu_ptr *all[] = {&r->a, &r->b, &r->c, &r->workspace};
    for (size_t i = 0; i < 4; i++) assert_int_equal(r->cu.cuMemAlloc(all[i], i < 3 ? 256 : 32 << 10), 0);
    assert_int_equal(r->cu.cuStreamCreate(&r->stream, BERTH_CU_STREAM_NON_BLOCKING), 0);
    assert_int_equal(r->blas.cublasCreate(&r->h), 0);
    assert_int_equal(r->blas.cublasSetStream(r->h, r->stream), 0);
    assert_int_equal(r->blas.cublasSetWorkspace(r->h, pointer(r->workspace), 32 << 10), 0);
    r->dtype = BERTH_CUBLAS_F32;
    r->lda = 8;
    r->compute = BERTH_CUBLAS_COMPUTE_32F;
}

static int product(raw *r)
{
    const float one = 1, zero = 0;
    return r->blas.cublasGemmEx(r->h, BERTH_CUBLAS_OP_T, BERTH_CUBLAS_OP_N, 8, 8, 8, &one, pointer(r->a), r->dtype,
                                r->lda, pointer(r->b), r->dtype, 8, &zero, pointer(r->c), r->dtype, 8, r->compute,
                                BERTH_CUBLAS_GEMM_DEFAULT);
}

static int columns_longer_than_the_leading_dimension(raw *r)
{
    r->lda = 7;
    return product(r);
}

static int operand_past_its_allocation(raw *r)
{
    r->lda = 9;
    return product(r);
}

static int operand_of_nobody(raw *r)
{
    r->a += 1 << 16;
    return product(r);
}

static int operand_freed_while_queued(raw *r)
{
    product(r);
    return r->cu.cuMemFree(r->b);
}

static int workspace_freed_while_queued(raw *r)
{
    product(r);
    return r->cu.cuMemFree(r->workspace);
}

static int result_on_an_operand(raw *r)
{
    r->c = r->b;
    return product(r);
}

static int workspace_on_an_operand(raw *r)
{
    r->a = r->workspace;
    return product(r);
}

static int misaligned_operand(raw *r)
{
    r->a += 2;
    return product(r);
}

static int stream_set_after_the_workspace(raw *r)
{
    r->blas.cublasSetStream(r->h, r->stream);
    return product(r);
}

static int small_workspace(raw *r)
{
    return r->blas.cublasSetWorkspace(r->h, pointer(r->workspace), 8 << 10);
}

static int misaligned_workspace(raw *r)
{
    return r->blas.cublasSetWorkspace(r->h, pointer(r->workspace + 128), 16 << 10);
}

static int unknown_compute_type(raw *r)
{
    r->compute = 77; /* CUBLAS_COMPUTE_32F_FAST_TF32 */
    return product(r);
}

static int unknown_dtype(raw *r)
{
    r->dtype = 3; /* int8 */
    return product(r);
}

static int default_stream(raw *r)
{
    return r->blas.cublasSetStream(r->h, NULL);
}

static int another_context(raw *r)
{
    berth_cu_context popped;
    r->cu.cuCtxPopCurrent(&popped);
    return product(r);
}

static int destroyed_handle(raw *r)
{
    r->blas.cublasDestroy(r->h);
    return product(r);
}

static int handle_made_in_a_capture(raw *r)
{
    berth_cublas_handle h;
    r->cu.cuStreamBeginCapture(r->stream, BERTH_CU_CAPTURE_THREAD_LOCAL);
    return r->blas.cublasCreate(&h);
}

static int graph_of_freed_memory(raw *r)
{
    berth_cu_graph graph;
    berth_cu_graph_exec exec;
    r->cu.cuStreamBeginCapture(r->stream, BERTH_CU_CAPTURE_THREAD_LOCAL);
    product(r);
    r->cu.cuStreamEndCapture(r->stream, &graph);
    r->cu.cuGraphInstantiate(&exec, graph, 0);
    r->cu.cuMemFree(r->workspace);
    return r->cu.cuGraphLaunch(exec, r->stream);
}

static const struct {
    const char *name;
    int (*act)(raw *r);
} misuses[] = {
#define ROW(name)                                                                                                      \
    {                                                                                                                  \
#name, name                                                                                                    \
    }
    ROW(columns_longer_than_the_leading_dimension),
    ROW(operand_past_its_allocation),
    ROW(operand_of_nobody),
    ROW(operand_freed_while_queued),
    ROW(workspace_freed_while_queued),
    ROW(result_on_an_operand),
    ROW(workspace_on_an_operand),
    ROW(misaligned_operand),
    ROW(stream_set_after_the_workspace),
    ROW(small_workspace),
    ROW(misaligned_workspace),
    ROW(unknown_compute_type),
    ROW(unknown_dtype),
    ROW(default_stream),
    ROW(another_context),
    ROW(destroyed_handle),
    ROW(handle_made_in_a_capture),
    ROW(graph_of_freed_memory),
#undef ROW
};

static void each_misuse_is_refused_and_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        raw r;
        emu_report report;
        begin(&r, "gpus=2;mem=1MiB");
        emulator.report(&report);
        assert_int_equal(report.misuses, 0);
        assert_int_equal(report.handles, 1);
        const int code = misuses[i].act(&r);
        emulator.report(&report);
        if (code == 0 || report.misuses == 0)
            fail_msg("%s: code %d, %d misuses", misuses[i].name, code, report.misuses);
        berth_cublas_close(&r.blas);
        berth_cu_driver_close(&r.cu);
        emulator.reset("");
    }
}

/* What this GPU or library cannot do. */
static void old_gpus_are_refused(void **state)
{
    (void)state;
    raw r;
    begin(&r, "gpus=2;mem=1MiB;cap=75");
    r.dtype = BERTH_CUBLAS_BF16;
    assert_int_equal(product(&r), BERTH_CUBLAS_ARCH_MISMATCH);
    r.dtype = BERTH_CUBLAS_F16;
    assert_int_equal(product(&r), 0);
    berth_cublas_close(&r.blas);
    emulator.reset("cap=70;driver=13000");
    berth_cu_context context;
    berth_cublas_handle h;
    assert_int_equal(r.cu.cuInit(0), 0);
    assert_int_equal(r.cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
    assert_int_equal(r.cu.cuCtxPushCurrent(context), 0);
    assert_int_equal(berth_cublas_open(&r.blas, NULL, 13000, 75, NULL), BERTH_OK); /* the wrong one for this GPU */
    assert_int_equal(r.blas.cublasCreate(&h), BERTH_CUBLAS_ARCH_MISMATCH);
    berth_cublas_close(&r.blas);
    berth_cu_driver_close(&r.cu);
    emulator.reset("");
}

int main(void)
{
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(biases_are_added),
        cmocka_unit_test(a_bias_that_cannot_be_added_is_said),
        cmocka_unit_test(many_shapes_are_chosen_in_turn),
        cmocka_unit_test(a_wait_left_out_is_found),
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(what_is_wrong_is_one_line),
        cmocka_unit_test(an_arena_of_everything_leaves_no_room),
        cmocka_unit_test(old_gpus_are_refused),
        cmocka_unit_test(each_misuse_is_refused_and_counted),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    return failed;
}
