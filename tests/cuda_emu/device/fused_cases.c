/* fused_cases.c - see fused_cases.h. Each case has its ops, and memory of exactly the operands' sizes; what the ops write between themselves must be untouched
 * when they are one. */
#include "tests/cuda_emu/device/fused_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/launches.h"
#include "tests/cuda_emu/device/emu.h"

enum { MOST_TENSORS = EMU_MAX_RANGES, MOST_OPS = 5, TOUCHED = 0xFF };

typedef struct bed {
    emu_range ranges[MOST_TENSORS];
    int32_t n_ranges;
    uint64_t random;
    berth_op_attrs attrs;
    berth_op_call ops[MOST_OPS]; /* norm, products, then: those that are there */
    int32_t n_ops;
    berth_fused_call fused;
} bed;

typedef struct shape {
    const char *name;
    int64_t rows, n_in;
    int64_t outs[BERTH_FUSED_LINEARS]; /* 0 = no such product */
    bool has_norm, has_bias;
    berth_op_kind then; /* COPY = none */
    const char *kernel; /* its name's beginning */
} shape;

typedef struct dtypes {
    berth_dtype stream, compute, weights;
} dtypes;

static float next(bed *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(b->random >> 40) / (float)(1 << 22) - 2.0f;
}

/* In memory of the device: random numbers about `width`, or, 0, what is never read before it is written. */
static berth_tensor tensor(bed *b, berth_dtype dtype, int64_t rows, int64_t columns, float width)
{
    const size_t n = (size_t)(rows * columns);
    berth_tensor t = {.dtype = dtype, .n_dims = rows > 1 ? 2 : 1, .dims = {rows > 1 ? rows : columns, columns}};
    const size_t bytes = n * berth_dtype_size(dtype);
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes), 0);
    memset(p, TOUCHED, bytes);
    for (size_t i = 0; width > 0 && i < n; i++) {
        const float f = next(b) * width;
        berth_narrow_f32((char *)p + i * berth_dtype_size(dtype), &f, dtype, 1);
    }
    t.data = p;
    assert_true(b->n_ranges < MOST_TENSORS);
    b->ranges[b->n_ranges++] = (emu_range){p, bytes, width == 0};
    return t;
}

static berth_op_call *add_op(bed *b, berth_op_kind kind)
{
    berth_op_call *op = &b->ops[b->n_ops++];
    *op = (berth_op_call){.kind = kind, .attrs = &b->attrs};
    return op;
}

static void bed_init(bed *b, const shape *s, const dtypes *t, uint64_t seed)
{
    *b = (bed){.random = seed, .attrs.eps = 1e-5f};
    const bool adds = s->then == BERTH_OP_ADD;
    berth_tensor x = tensor(b, s->has_norm ? t->stream : t->compute, s->rows, s->n_in, 1.5f);
    if (s->has_norm) {
        berth_op_call *norm = add_op(b, BERTH_OP_RMS_NORM);
        norm->n_in = 2;
        norm->in[0] = x;
        norm->in[1] = tensor(b, t->weights, 1, s->n_in, 0.7f);
        norm->out = x = tensor(b, t->compute, s->rows, s->n_in, 0);
        b->fused.norm = norm;
    }
    for (int32_t i = 0; i < BERTH_FUSED_LINEARS && s->outs[i]; i++) {
        berth_op_call *linear = add_op(b, BERTH_OP_LINEAR);
        linear->n_in = s->has_bias ? 3 : 2;
        linear->in[0] = x;
        linear->in[1] = tensor(b, t->weights, s->outs[i], s->n_in, 0.05f);
        linear->in[1].n_dims = 2;
        linear->in[1].dims[0] = s->outs[i], linear->in[1].dims[1] = s->n_in;
        if (s->has_bias) linear->in[2] = tensor(b, t->weights, 1, s->outs[i], 1);
        linear->out = tensor(b, adds ? t->stream : t->compute, s->rows, s->outs[i], 0);
        b->fused.linear[b->fused.n_linears++] = linear;
    }
    if (s->then == BERTH_OP_COPY) return;
    berth_op_call *then = add_op(b, s->then);
    then->n_in = 2;
    then->in[adds] = b->fused.linear[0]->out;
    then->in[!adds] = adds ? tensor(b, t->stream, s->rows, s->outs[0], 1) : b->fused.linear[1]->out;
    then->out = tensor(b, adds ? t->stream : t->compute, s->rows, s->outs[0], 0);
    b->fused.then = then;
}

static void bed_deinit(bed *b)
{
    for (int32_t i = 0; i < b->n_ranges; i++) free((void *)(uintptr_t)b->ranges[i].base);
}

static void launch(const bed *b, const berth_cuda_launch *l, const char *name, uint64_t seed)
{
    emu_launch_config config = {.kernel = emu_find_kernel(l->kernel),
                                .grid = {l->grid[0], l->grid[1], l->grid[2]},
                                .block = {l->block[0], l->block[1], l->block[2]},
                                .shared_bytes = l->shared_bytes,
                                .args = l->args,
                                .ranges = b->ranges,
                                .n_ranges = (size_t)b->n_ranges,
                                .seed = seed};
    char error[EMU_ERROR_BYTES];
    if (!config.kernel) fail_msg("%s: there is no kernel %s", name, l->kernel);
    assert_int_equal(config.kernel->args_bytes, l->args_bytes);
    if (!emu_launch(&config, error)) fail_msg("%s: %s", name, error);
}

static size_t bytes_of(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

/* Op i's result is of use after the fused ops. */
static bool is_result(const bed *b, int32_t i)
{
    return b->fused.then ? &b->ops[i] == b->fused.then : &b->ops[i] != b->fused.norm;
}

static void run_apart(bed *b, int32_t capability, const char *name, void *results[MOST_OPS])
{
    for (int32_t i = 0; i < b->n_ops; i++) {
        berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
        const int32_t n = berth_cuda_launches(&b->ops[i], capability, launches);
        assert_int_equal(n, 1);
        launch(b, launches, name, 1);
    }
    for (int32_t i = 0; i < b->n_ops; i++) {
        const size_t bytes = bytes_of(&b->ops[i].out);
        results[i] = malloc(bytes);
        memcpy(results[i], b->ops[i].out.data, bytes);
        memset(b->ops[i].out.data, TOUCHED, bytes);
    }
}

static void check_fused(const bed *b, const char *name, void *const results[MOST_OPS])
{
    for (int32_t i = 0; i < b->n_ops; i++) {
        const size_t bytes = bytes_of(&b->ops[i].out);
        const unsigned char *got = b->ops[i].out.data, *want = results[i];
        for (size_t k = 0; k < bytes; k++)
            if (got[k] != (is_result(b, i) ? want[k] : TOUCHED))
                fail_msg("%s: byte %zu of op %d is %02x, apart %02x%s", name, k, (int)i, got[k], want[k],
                         is_result(b, i) ? "" : ", and is not to be written");
        memset(b->ops[i].out.data, TOUCHED, bytes);
    }
}

/* Sums take over the memory of what they are added to; a gate's product that of nobody. */
static void run_in_place(bed *b, int32_t capability, const char *name, void *const results[MOST_OPS])
{
    berth_op_call *add = &b->ops[b->n_ops - 1];
    berth_cuda_launch l;
    const void *own = add->out.data;
    for (int32_t i = 0; i < b->n_ranges; i++)
        if (b->ranges[i].base == add->in[0].data) b->ranges[i].writable = true;
    add->out.data = add->in[0].data;
    assert_int_equal(berth_cuda_fused_launch(&b->fused, capability, &l), 1);
    launch(b, &l, name, 5);
    if (memcmp(add->out.data, results[b->n_ops - 1], bytes_of(&add->out)) != 0)
        fail_msg("%s: other bits in place", name);
    add->out.data = (void *)(uintptr_t)own;
}

static void run_shape(const shape *s, const dtypes *t, int32_t capability)
{
    bed b;
    char name[160];
    void *results[MOST_OPS] = {0};
    berth_cuda_launch l;
    snprintf(name, sizeof name, "%s, %s, %s, %s", s->name, berth_dtype_name(t->stream), berth_dtype_name(t->compute),
             berth_dtype_name(t->weights));
    bed_init(&b, s, t, (uint64_t)s->n_in);
    if (berth_cuda_fused_launch(&b.fused, capability, &l) != 1) fail_msg("%s: no kernel", name);
    if (strncmp(l.kernel, s->kernel, strlen(s->kernel)) != 0) fail_msg("%s: %s, not %s", name, l.kernel, s->kernel);
    run_apart(&b, capability, name, results);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        launch(&b, &l, name, seed);
        check_fused(&b, name, results);
    }
    if (s->then == BERTH_OP_ADD) run_in_place(&b, capability, name, results);
    for (int32_t i = 0; i < MOST_OPS; i++) free(results[i]);
    bed_deinit(&b);
}

/* Odd sizes: rows of one warp, of four and of eight; a last chain that is short; blocks with outputs that are not there. */
static const shape shapes[] = {
    {"norm, q, k, v", 1, 1288, {40, 16, 9}, true, true, BERTH_OP_COPY, "linear_normed"},
    {"norm, head", 3, 264, {67}, true, false, BERTH_OP_COPY, "linear_normed"},
    {"norm, two", 4, 64, {19, 33}, true, true, BERTH_OP_COPY, "linear_normed"},
    {"norm, gate, up", 1, 2056, {29, 29}, true, false, BERTH_OP_SILU_MUL, "linear_gated"},
    {"norm, gate, up", 4, 520, {16, 16}, true, true, BERTH_OP_SILU_MUL, "linear_gated"},
    {"product, sum", 1, 1032, {21}, false, true, BERTH_OP_ADD, "linear_"},
    {"product, sum", 19, 264, {37}, false, false, BERTH_OP_ADD, "linear_"},
};

/* Rows that go on behind the first four; only tensor cores take so many. */
static const shape more_rows[] = {
    {"norm, q, k, v of 8", 8, 520, {24, 8, 8}, true, true, BERTH_OP_COPY, "linear_normed"},
    {"norm, gate, up of 6", 6, 1040, {24, 24}, true, false, BERTH_OP_SILU_MUL, "linear_gated"},
};

void fused_bits_are_those_of_ops_apart(int32_t capability)
{
    static const dtypes mixes[] = {{BERTH_F32, BERTH_F32, BERTH_BF16},
                                   {BERTH_F32, BERTH_F32, BERTH_F32},
                                   {BERTH_F32, BERTH_F16, BERTH_F16},
                                   {BERTH_F16, BERTH_F16, BERTH_F16},
                                   {BERTH_BF16, BERTH_BF16, BERTH_BF16}};
    for (size_t m = 0; m < sizeof mixes / sizeof mixes[0]; m++) {
        if (mixes[m].compute == BERTH_BF16 && capability < 80) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) run_shape(&shapes[i], &mixes[m], capability);
        for (size_t i = 0; mixes[m].compute != BERTH_F32 && i < sizeof more_rows / sizeof more_rows[0]; i++)
            run_shape(&more_rows[i], &mixes[m], capability);
    }
}

static int32_t launches_of(const shape *s, const dtypes *t, int32_t capability)
{
    bed b;
    berth_cuda_launch l;
    bed_init(&b, s, t, 1);
    const int32_t n = berth_cuda_fused_launch(&b.fused, capability, &l);
    bed_deinit(&b);
    return n;
}

void what_does_not_fit_stays_apart(int32_t capability)
{
    static const dtypes fp16 = {BERTH_F32, BERTH_F16, BERTH_F16}, fp32 = {BERTH_F32, BERTH_F32, BERTH_F32},
                        mixed = {BERTH_F32, BERTH_F16, BERTH_BF16};
    static const struct {
        shape s;
        const dtypes *t;
    } rows[] = {
        {{"many rows", 9, 64, {16}, true, false, BERTH_OP_COPY, ""}, &fp16},
        {{"many rows in fp32", 5, 64, {16}, true, false, BERTH_OP_COPY, ""}, &fp32},
        {{"rows of no whole run", 1, 68, {16}, true, false, BERTH_OP_COPY, ""}, &fp16},
        {{"rows that fill shared memory", 8, 4096, {16}, true, false, BERTH_OP_COPY, ""}, &fp16},
        {{"no tensor cores for the mix", 1, 64, {16}, true, false, BERTH_OP_COPY, ""}, &mixed},
        {{"gate and up of two sizes", 1, 64, {16, 24}, true, false, BERTH_OP_SILU_MUL, ""}, &fp16},
        {{"a sum of many rows", 65, 64, {16}, false, false, BERTH_OP_ADD, ""}, &fp16},
        {{"a sum of rows of no whole run", 1, 62, {16}, false, false, BERTH_OP_ADD, ""}, &fp32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (launches_of(&rows[i].s, rows[i].t, capability) != -1) fail_msg("%s has a kernel", rows[i].s.name);
}
