/* gpu_check.c - every op on a real GPU against the reference: the cases of kernels/test_cases.c in each dtype that the GPU has,
 * once with cuBLAS allowed and once with berth's own kernels only.
 *
 *   gpu_check [--device N] [--own] [--every N]
 *
 * --own: berth's own kernels only, as compute-sanitizer wants them; --every N: one case in N. What the tests show on emulated GPUs (cuda_code_test) is here
 * shown on one that is there. Prints a line for each case that is wrong, then how many there were; exit code 1 if any was. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/code.h"
#include "kernels/test_cases.h"

/* Two roundings to the storage dtype of values that are near each other may lie one step apart. */
static const double step[BERTH_DTYPE_COUNT] = {[BERTH_F16] = 1.0 / 1024, [BERTH_BF16] = 1.0 / 128};
#define F16_STEP 6e-8

typedef struct checking {
    berth_cuda *cuda;
    berth_gpu *gpu; /* what the code is loaded on */
    berth_gpu_code *code;
    berth_gpu_code_target target;
    int32_t ordinal, every, n_cases, n_wrong, n_refused;
} checking;

static void must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "gpu_check: %s\n", err->message);
    exit(1);
}

static size_t bytes_of(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

static void *host_memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes / 64 + 1) * 64);
    if (!p) exit(1);
    return p;
}

/* The tensor in a dtype and in memory of its own. */
static void narrow(berth_tensor *t, berth_dtype dtype)
{
    const size_t n = (size_t)berth_tensor_elements(t);
    void *to = host_memory(n * sizeof(float));
    if (t->data) berth_narrow_f32(to, t->data, dtype, n);
    t->data = to;
    t->dtype = dtype;
}

/* Angles and statistics are fp32 whatever the activations are; weights have the case's dtype. */
static bool is_activation(const berth_op_call *call, int32_t i)
{
    if (call->in[i].dtype != BERTH_F32 || berth_op_infos[call->kind].weights >> i & 1) return false;
    return call->kind != BERTH_OP_ROPE_TABLE && !(call->kind == BERTH_OP_ROPE && i == 1) &&
           !(call->kind == BERTH_OP_LOGIT_BEST && i == 2);
}

/* ---- on the GPU --------------------------------------------------------------------------------------------------- */

static void *as_pointer(berth_gpu_ptr p)
{
    return (void *)(uintptr_t)p; // NOLINT(performance-no-int-to-ptr): as code.h takes device memory
}

/* Queues the call with its operands on the GPU; gives the output's bytes, or NULL where there is no kernel. */
static void *on_gpu(checking *c, const berth_op_call *of_host)
{
    berth_error err;
    berth_gpu *gpu;
    berth_gpu_stream *s;
    berth_gpu_ptr at;
    berth_op_call call = *of_host;
    call.workspace_bytes = berth_gpu_code_workspace(&call, &c->target);
    if (!berth_gpu_code_has(&call, &c->target)) return NULL;
    size_t bytes = bytes_of(&call.out) + call.workspace_bytes + (BERTH_OP_INPUTS + 3) * (size_t)BERTH_GPU_ALIGN;
    for (int32_t i = 0; i < call.n_in; i++) bytes += bytes_of(&call.in[i]);
    must(berth_gpu_open(c->cuda, c->ordinal, bytes, &gpu, &err), &err);
    must(berth_gpu_stream_create(gpu, &s, &err), &err);
    must(berth_gpu_code_prepare(c->code, s, &err), &err);
    for (int32_t i = 0; i <= call.n_in; i++) {
        berth_tensor *t = i < call.n_in ? &call.in[i] : &call.out;
        must(berth_gpu_take(gpu, bytes_of(t), &at, &err), &err);
        must(berth_gpu_upload(s, at, t->data, bytes_of(t), &err), &err);
        t->data = as_pointer(at);
    }
    must(berth_gpu_take(gpu, call.workspace_bytes, &at, &err), &err);
    call.workspace = as_pointer(at);
    must(berth_gpu_code_run(c->code, s, &call, &err), &err);
    void *out = host_memory(bytes_of(&call.out));
    must(berth_gpu_download(s, out, (berth_gpu_ptr)(uintptr_t)call.out.data, bytes_of(&call.out), &err), &err);
    must(berth_gpu_stream_wait(s, &err), &err);
    berth_gpu_code_forget(c->code, s);
    berth_gpu_stream_destroy(s);
    berth_gpu_close(gpu);
    return out;
}

/* ---- against the reference ---------------------------------------------------------------------------------------- */

static void run_reference(berth_op_call *call)
{
    call->workspace_bytes = berth_kernels_workspace(berth_kernels_ref(), call, 1);
    call->workspace = host_memory(call->workspace_bytes);
    berth_kernels_run(berth_kernels_ref(), call);
    free(call->workspace);
}

static bool is_near(const berth_op_case *c, berth_dtype dtype, float got, float want)
{
    if (got == want || (isnan(got) && isnan(want))) return true;
    const double size = fabs((double)want), error = fabs((double)got - (double)want);
    return error <= c->tolerance * fmax(1, size) + step[dtype] * size + (dtype == BERTH_F16 ? F16_STEP : 0);
}

static void compare(checking *k, const berth_op_case *c, const berth_tensor *want_tensor, const void *got_bytes)
{
    const size_t n = (size_t)berth_tensor_elements(want_tensor);
    const berth_dtype dtype = want_tensor->dtype;
    float *got = host_memory(n * sizeof *got), *want = host_memory(n * sizeof *want);
    berth_widen_f32(got, got_bytes, dtype, n);
    berth_widen_f32(want, want_tensor->data, dtype, n);
    size_t first = 0;
    while (first < n && is_near(c, dtype, got[first], want[first])) first++;
    if (first < n) {
        printf("WRONG %s, %s%s: element %zu is %.9g, not %.9g\n", c->name, berth_dtype_name(dtype),
               k->target.batch_invariant ? ", own kernels" : "", first, (double)got[first], (double)want[first]);
        k->n_wrong++;
    }
    free(got);
    free(want);
}

static void check_case(checking *k, const berth_op_case *c, berth_dtype dtype)
{
    berth_bed bed;
    float *state = berth_op_case_prepare(&bed, c);
    berth_op_call call = bed.call;
    bool is_owned[BERTH_OP_INPUTS] = {false};
    call.attrs = &bed.attrs;
    for (int32_t i = 0; i < call.n_in; i++) {
        is_owned[i] = is_activation(&bed.call, i);
        if (is_owned[i]) narrow(&call.in[i], dtype);
    }
    call.out.data = state;
    const bool exact =
        c->kind == BERTH_OP_ROPE_TABLE || c->kind == BERTH_OP_LOGIT_STATS || c->kind == BERTH_OP_LOGIT_BEST;
    narrow(&call.out, exact ? BERTH_F32 : dtype);
    void *got = on_gpu(k, &call);
    k->n_cases++;
    if (got) {
        run_reference(&call);
        compare(k, c, &call.out, got);
    } else {
        printf("REFUSED %s, %s\n", c->name, berth_dtype_name(dtype));
        k->n_refused++;
    }
    for (int32_t i = 0; i < call.n_in; i++)
        if (is_owned[i]) free(call.in[i].data);
    free(call.out.data);
    free(got);
    free(state);
    berth_bed_deinit(&bed);
}

static void check_all(checking *k, bool own)
{
    berth_error err;
    const berth_gpu_code_options options = {.batch_invariant = own};
    k->target.batch_invariant = own;
    must(berth_gpu_code_load(k->gpu, &options, &k->code, &err), &err);
    const berth_gpu_code_facts *facts = berth_gpu_code_about(k->code);
    printf("%s: %d kernels, %s cuBLAS%s%s\n", own ? "own kernels" : "fast", (int)facts->n_kernels,
           facts->has_cublas ? "with" : "without", facts->note[0] ? "; " : "", facts->note);
    for (int t = 0; t <= BERTH_BF16; t++) {
        if (t == BERTH_BF16 && k->target.capability < 80) continue;
        for (size_t i = 0; i < berth_n_op_cases; i += (size_t)(k->every > 1 ? k->every : 1)) {
            if (t != BERTH_F32 && berth_op_cases[i].kind == BERTH_OP_ROPE_TABLE) continue; /* has no narrow operand */
            check_case(k, &berth_op_cases[i], (berth_dtype)t);
        }
    }
    berth_gpu_code_unload(k->code);
}

int main(int argc, char **argv)
{
    checking k = {.every = 1};
    bool own_only = false;
    berth_error err;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) k.ordinal = atoi(argv[++i]);
        if (strcmp(argv[i], "--every") == 0 && i + 1 < argc) k.every = atoi(argv[++i]);
        if (strcmp(argv[i], "--own") == 0) own_only = true;
    }
    must(berth_cuda_open(NULL, &k.cuda, &err), &err);
    must(berth_gpu_open(k.cuda, k.ordinal, 0, &k.gpu, &err), &err);
    k.target.capability = berth_gpu_about(k.gpu)->capability;
    if (!own_only) check_all(&k, false);
    check_all(&k, true);
    printf("%d cases on cuda:%d (%s), %d wrong, %d without a kernel\n", (int)k.n_cases, (int)k.ordinal,
           berth_gpu_about(k.gpu)->name, (int)k.n_wrong, (int)k.n_refused);
    berth_gpu_close(k.gpu);
    berth_cuda_close(k.cuda);
    return k.n_wrong || k.n_refused ? 1 : 0;
}
