/* test_bed.c - see test_bed.h. */
#include "kernels/test_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 64-byte aligned, exactly `bytes` long, so that a sanitizer sees the first byte too many. */
static void *aligned_bytes(size_t bytes, int fill)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes ? bytes : 1), 0);
    memset(p, fill, bytes);
    return p;
}

static void *own(berth_bed *b, void *p)
{
    assert_true(b->n_blocks < BERTH_BED_BLOCKS);
    return b->blocks[b->n_blocks++] = p;
}

void berth_bed_init(berth_bed *b, berth_op_kind kind, uint64_t seed)
{
    *b = (berth_bed){.call = {.kind = kind}, .seed = seed * 0x9E3779B97F4A7C15u + 1};
}

void berth_bed_deinit(berth_bed *b)
{
    while (b->n_blocks > 0) free(b->blocks[--b->n_blocks]);
}

static uint32_t next_random(berth_bed *b)
{
    b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->seed >> 33);
}

float berth_bed_random(berth_bed *b, float low, float high)
{
    return low + (high - low) * (float)(next_random(b) >> 7) / 16777216.0f;
}

static size_t shape(berth_tensor *t, berth_dtype dtype, const int64_t *dims)
{
    t->dtype = dtype;
    for (t->n_dims = 0; dims[t->n_dims] >= 0; t->n_dims++) t->dims[t->n_dims] = dims[t->n_dims];
    return (size_t)berth_tensor_elements(t);
}

float *berth_bed_activation(berth_bed *b, float low, float high, const int64_t *dims)
{
    berth_tensor *t = &b->call.in[b->call.n_in++];
    size_t n = shape(t, BERTH_F32, dims);
    float *data = t->data = own(b, aligned_bytes(n * sizeof(float), 0));
    for (size_t i = 0; i < n; i++) data[i] = berth_bed_random(b, low, high);
    return data;
}

void berth_bed_weight(berth_bed *b, berth_dtype dtype, float low, float high, const int64_t *dims)
{
    berth_tensor *t = &b->call.in[b->call.n_in++];
    size_t n = shape(t, dtype, dims), size = berth_dtype_size(dtype);
    char *data = own(b, aligned_bytes(n * size + 1, 0));
    t->data = ++data;
    for (size_t i = 0; i < n; i++) {
        float f = berth_bed_random(b, low, high);
        uint16_t h = dtype == BERTH_BF16 ? berth_f32_to_bf16(f) : berth_f32_to_f16(f);
        memcpy(data + i * size, dtype == BERTH_F32 ? (void *)&f : (void *)&h, size);
    }
}

int32_t *berth_bed_ints(berth_bed *b, const int64_t *dims)
{
    berth_tensor *t = &b->call.in[b->call.n_in++];
    size_t n = shape(t, BERTH_I32, dims);
    return t->data = own(b, aligned_bytes(n * sizeof(int32_t), 0));
}

void berth_bed_out(berth_bed *b, const int64_t *dims)
{
    shape(&b->call.out, BERTH_F32, dims);
}

size_t berth_bed_out_floats(const berth_bed *b)
{
    return (size_t)berth_tensor_elements(&b->call.out);
}

float *berth_bed_run(const berth_bed *b, const berth_kernels *set, berth_team *team, const float *state, bool in_place)
{
    berth_op_call call = b->call;
    size_t bytes = berth_bed_out_floats(b) * sizeof(float);
    float *out = aligned_bytes(bytes, 0xFF);
    call.attrs = &b->attrs;
    call.team = team;
    call.out.data = out;
    if (state) memcpy(out, state, bytes);
    if (in_place) {
        int32_t input = berth_op_infos[call.kind].inplace;
        memcpy(out, call.in[input].data, bytes);
        call.in[input].data = out;
    }
    if (set->workspace[call.kind]) call.workspace_bytes = set->workspace[call.kind](&call, team ? team->n_threads : 1);
    call.workspace = aligned_bytes(call.workspace_bytes, 0xFF);
    set->run[call.kind](&call);
    free(call.workspace);
    return out;
}
