/* device_call.c - see device_call.h. */
#include "tests/cuda_emu/device/device_call.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Half a unit in the last place of the storage dtype, relative: the one rounding that 16-bit results have beyond the case's tolerance; and fp16's half step
 * under its normal range. */
static const double half_ulp[BERTH_DTYPE_COUNT] = {[BERTH_F16] = 1.0 / 2048, [BERTH_BF16] = 1.0 / 256};
#define F16_HALF_STEP 3e-8

void *device_bytes(device_call *d, size_t bytes, bool writable)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes ? bytes : 1), 0);
    memset(p, 0xFF, bytes);
    d->ranges[d->n_ranges] = (emu_range){p, bytes, writable};
    return d->owned[d->n_ranges++] = p;
}

size_t tensor_bytes(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

/* Tables of positions stay fp32 whatever the activations are. */
static bool is_activation(const berth_op_call *call, int32_t i)
{
    if (call->in[i].dtype != BERTH_F32 || berth_op_infos[call->kind].weights >> i & 1) return false;
    return call->kind != BERTH_OP_ROPE_TABLE && !(call->kind == BERTH_OP_ROPE && i == 1) &&
           !(call->kind == BERTH_OP_LOGIT_BEST && i == 2);
}

/* k and v share a dtype. */
static berth_dtype dtype_of(const berth_op_call *call, dtype_mix mix, int32_t i)
{
    bool shares = call->kind == BERTH_OP_KV_APPEND;
    return i == 0 || shares ? mix.first : mix.others;
}

static bool has_fp32_output(berth_op_kind kind)
{
    return kind == BERTH_OP_ROPE_TABLE || kind == BERTH_OP_LOGIT_STATS || kind == BERTH_OP_LOGIT_BEST;
}

void device_call_init(device_call *d, const berth_bed *b, const float *state, dtype_mix mix)
{
    *d = (device_call){.call = b->call};
    d->call.attrs = &b->attrs;
    for (int32_t i = 0; i < b->call.n_in; i++) {
        berth_tensor *t = &d->call.in[i];
        size_t n = (size_t)berth_tensor_elements(t);
        berth_dtype dtype = dtype_of(&b->call, mix, i);
        bool narrowed = is_activation(&b->call, i) && dtype != BERTH_F32;
        if (narrowed) t->dtype = dtype;
        t->data = device_bytes(d, tensor_bytes(t), false);
        if (narrowed)
            berth_narrow_f32(t->data, b->call.in[i].data, dtype, n);
        else
            memcpy(t->data, b->call.in[i].data, tensor_bytes(t));
    }
    berth_tensor *out = &d->call.out;
    out->dtype = has_fp32_output(b->call.kind) ? BERTH_F32 : mix.out;
    out->data = device_bytes(d, tensor_bytes(out), true);
    if (state) berth_narrow_f32(out->data, state, out->dtype, (size_t)berth_tensor_elements(out));
    d->call.workspace_bytes = berth_cuda_workspace(&d->call);
    d->call.workspace = device_bytes(d, d->call.workspace_bytes, true);
}

void device_call_deinit(device_call *d)
{
    for (size_t i = 0; i < d->n_ranges; i++) free(d->owned[i]);
}

void make_in_place(device_call *d)
{
    int32_t input = berth_op_infos[d->call.kind].inplace;
    d->ranges[input].writable = true;
    d->call.out.data = d->call.in[input].data;
}

void run_launches(const device_call *d, const char *name, const berth_cuda_launch *launches, int32_t n, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++) {
        const berth_cuda_launch *l = &launches[i];
        emu_launch_config config = {.kernel = emu_find_kernel(l->kernel),
                                    .grid = {l->grid[0], l->grid[1], l->grid[2]},
                                    .block = {l->block[0], l->block[1], l->block[2]},
                                    .shared_bytes = l->shared_bytes,
                                    .args = l->args,
                                    .ranges = d->ranges,
                                    .n_ranges = d->n_ranges,
                                    .seed = seed};
        char error[EMU_ERROR_BYTES];
        if (!config.kernel) fail_msg("%s: there is no kernel %s", name, l->kernel);
        assert_int_equal(config.kernel->args_bytes, l->args_bytes);
        if (!emu_launch(&config, error)) fail_msg("%s: %s", name, error);
    }
}

/* What a block may ask for at most. Source: CUDA C programming guide, technical specifications per compute capability. */
static uint32_t most_shared(int32_t capability)
{
    switch (capability) {
    case 70: return 96 << 10;
    case 75: return 64 << 10;
    case 80: return 163 << 10;
    case 86:
    case 89: return 99 << 10;
    default: return 227 << 10;
    }
}

void run_on_emulator(const device_call *d, const char *name, int32_t capability, uint64_t seed)
{
    berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
    int32_t n = berth_cuda_launches(&d->call, capability, launches);
    if (n < 0) fail_msg("%s: no kernel", name);
    for (int32_t i = 0; i < n; i++)
        if (launches[i].shared_bytes > most_shared(capability))
            fail_msg("%s: %s asks for %u bytes of shared memory on sm_%d", name, launches[i].kernel,
                     launches[i].shared_bytes, (int)capability);
    run_launches(d, name, launches, n, seed);
}

float *widened_output(const device_call *d)
{
    size_t n = (size_t)berth_tensor_elements(&d->call.out);
    float *f = malloc(n * sizeof *f + 1);
    berth_widen_f32(f, d->call.out.data, d->call.out.dtype, n);
    return f;
}

float *reference(berth_bed *b, float *state, dtype_mix mix)
{
    size_t n_out = berth_bed_out_floats(b);
    for (int32_t i = 0; i < b->call.n_in + 1; i++) {
        bool is_state = i == b->call.n_in;
        if (is_state ? !state : !is_activation(&b->call, i)) continue;
        float *f = is_state ? state : b->call.in[i].data;
        size_t n = is_state ? n_out : (size_t)berth_tensor_elements(&b->call.in[i]);
        berth_dtype dtype = is_state ? mix.out : dtype_of(&b->call, mix, i);
        uint16_t *rounded = malloc(n * sizeof(float) + 1);
        berth_narrow_f32(rounded, f, dtype, n);
        berth_widen_f32(f, rounded, dtype, n);
        free(rounded);
    }
    return berth_bed_run(b, berth_kernels_ref(), NULL, state, false);
}

void check_output(const berth_op_case *c, berth_dtype dtype, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) && isnan(got[i])) continue;
        if (got[i] == want[i]) continue;
        double size = fabs((double)want[i]), step = half_ulp[dtype] * size * 1.001,
               error = fabs((double)got[i] - (double)want[i]);
        uint32_t stored[1];
        float rounded;
        berth_narrow_f32(stored, &want[i], dtype, 1);
        berth_widen_f32(&rounded, stored, dtype, 1);
        if (c->tolerance == 0 && got[i] == rounded) continue; /* exact but for the storage */
        /* Tensor cores are given attention's weights rounded, each by half a step; values are at most 1. */
        if (c->kind == BERTH_OP_ATTENTION_FULL || c->kind == BERTH_OP_ATTENTION_PAGED) step += half_ulp[dtype];
        double allowed = c->tolerance * fmax(1, size) + step + (dtype == BERTH_F16 ? F16_HALF_STEP : 0);
        if (c->tolerance == 0 || !(error <= allowed))
            fail_msg("%s, %s: element %zu is %.9g, not %.9g", c->name, berth_dtype_name(dtype), i, (double)got[i],
                     (double)want[i]);
    }
}
