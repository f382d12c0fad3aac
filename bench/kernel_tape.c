/* kernel_tape.c - see kernel_tape.h. */
#include "bench/kernel_tape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *need(void *p)
{
    if (p) return p;
    fprintf(stderr, "kernel_bench: not enough memory\n");
    exit(1);
}

static void *memory(kernel_tape *t, size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, (bytes + 63) & ~(size_t)63) != 0 || t->n_owned == KERNEL_TAPE_TENSORS) need(NULL);
    memset(p, 0, bytes);
    return t->owned[t->n_owned++] = p;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

static berth_tensor shaped(berth_dtype dtype, int64_t a, int64_t b, int64_t c)
{
    berth_tensor t = {.dtype = dtype, .n_dims = c ? 3 : b ? 2 : 1, .dims = {a, b, c}};
    return t;
}

static berth_tensor activation(kernel_tape *t, int64_t a, int64_t b, int64_t c)
{
    berth_tensor x = shaped(BERTH_F32, a, b, c);
    x.data = memory(t, (size_t)berth_tensor_elements(&x) * sizeof(float));
    return x;
}

static berth_tensor random_activation(kernel_tape *t, int64_t a, int64_t b, int64_t c)
{
    berth_tensor x = activation(t, a, b, c);
    uint64_t seed = 99;
    for (int64_t i = 0; i < berth_tensor_elements(&x); i++)
        ((float *)x.data)[i] = (float)(next_random(&seed) >> 40) / 8388608.0f - 1;
    return x;
}

static berth_tensor ints(kernel_tape *t, int64_t n, int32_t first, int32_t step)
{
    berth_tensor x = shaped(BERTH_I32, n, 0, 0);
    x.data = memory(t, (size_t)n * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) ((int32_t *)x.data)[i] = first + (int32_t)i * step;
    return x;
}

static berth_tensor weight(kernel_tape *t, int64_t rows, int64_t cols)
{
    berth_tensor w = shaped(t->dtype, rows, cols, 0);
    size_t bytes = (size_t)berth_tensor_elements(&w) * berth_dtype_size(t->dtype);
    if (t->weights_used + bytes > t->weight_bytes) need(NULL);
    w.data = t->weights + t->weights_used;
    t->weights_used += bytes;
    return w;
}

/* Fills with weights of +-1/64 or so: any bits will do for time, but sums must stay finite. */
static void fill_weights(char *data, size_t bytes, berth_dtype dtype)
{
    uint64_t seed = 7;
    size_t size = berth_dtype_size(dtype);
    for (size_t i = 0; i < bytes / size; i++) {
        float f = ((float)(next_random(&seed) >> 40) / 8388608.0f - 1) / 32;
        uint16_t h = dtype == BERTH_BF16 ? berth_f32_to_bf16(f) : berth_f32_to_f16(f);
        memcpy(data + i * size, size == 4 ? (void *)&f : (void *)&h, size);
    }
}

static void take_weights(kernel_tape *t, size_t bytes, const kernel_tape *share)
{
    t->weight_bytes = (bytes + 4095) & ~(size_t)4095;
    if (share) {
        t->weights = share->weights;
        t->weight_bytes = share->weight_bytes;
        return;
    }
    t->weights = mmap(NULL, t->weight_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->weights == MAP_FAILED) need(NULL);
    fill_weights(t->weights, t->weight_bytes, t->dtype);
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static berth_op_call *call(kernel_tape *t, berth_op_kind kind, berth_tensor out, int32_t n_in, const berth_tensor *in)
{
    if (t->n_calls == KERNEL_TAPE_CALLS) need(NULL);
    berth_op_call *c = &t->calls[t->n_calls];
    *c = (berth_op_call){.kind = kind, .attrs = &t->attrs[t->n_calls], .n_in = n_in, .out = out, .team = t->team};
    memcpy(c->in, in, (size_t)n_in * sizeof *in);
    t->attrs[t->n_calls++].eps = 1e-6f;
    return c;
}
#define CALL(t, kind, out, ...)                                                                                        \
    call(t, kind, out, (int32_t)(sizeof((berth_tensor[]){__VA_ARGS__}) / sizeof(berth_tensor)),                        \
         (berth_tensor[]){__VA_ARGS__})

static berth_tensor linear(kernel_tape *t, berth_tensor x, int64_t n_out, bool bias)
{
    int64_t n_in = berth_tensor_last(&x), rows = berth_tensor_rows(&x);
    berth_tensor y = activation(t, rows, n_out, 0), w = weight(t, n_out, n_in);
    if (bias)
        CALL(t, BERTH_OP_LINEAR, y, x, w, weight(t, n_out, 0));
    else
        CALL(t, BERTH_OP_LINEAR, y, x, w);
    t->flops += 2.0 * (double)rows * (double)n_in * (double)n_out;
    return y;
}

static void share_workspace(kernel_tape *t)
{
    size_t bytes = 64;
    for (int32_t i = 0; i < t->n_calls; i++) {
        berth_workspace_fn fn = t->set->workspace[t->calls[i].kind];
        size_t need_bytes = fn ? fn(&t->calls[i], t->team->n_threads) : 0;
        if (need_bytes > bytes) bytes = need_bytes;
    }
    void *workspace = memory(t, bytes);
    for (int32_t i = 0; i < t->n_calls; i++) t->calls[i].workspace = workspace, t->calls[i].workspace_bytes = bytes;
}

/* ---- a language model ------------------------------------------------------------------------------------------- */

size_t kernel_language_weight_bytes(const kernel_language_shape *s, berth_dtype dtype)
{
    int64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    int64_t layer = 2 * s->hidden + (q + 2 * kv) * (s->hidden + 1) + s->hidden * q + 3 * s->hidden * s->ffn;
    return (size_t)(s->n_layers * layer + s->hidden + s->vocab * s->hidden) * berth_dtype_size(dtype);
}

typedef struct language_state {
    berth_tensor positions, token_seq, block_table, slots, rope;
    int64_t block, n_blocks;
} language_state;

static berth_tensor language_attention(kernel_tape *t, const kernel_language_shape *s, const language_state *state,
                                       berth_tensor h)
{
    berth_tensor q = linear(t, h, s->heads * s->head_dim, true), k = linear(t, h, s->kv_heads * s->head_dim, true);
    berth_tensor v = linear(t, h, s->kv_heads * s->head_dim, true);
    CALL(t, BERTH_OP_ROPE, q, q, state->rope);
    CALL(t, BERTH_OP_ROPE, k, k, state->rope);
    berth_tensor kv = random_activation(t, state->n_blocks * 2 * s->kv_heads * state->block, s->head_dim, 0);
    kv.n_dims = 5;
    kv.dims[0] = state->n_blocks, kv.dims[1] = 2, kv.dims[2] = s->kv_heads, kv.dims[3] = state->block,
    kv.dims[4] = s->head_dim;
    CALL(t, BERTH_OP_KV_APPEND, kv, k, v, state->slots);
    berth_tensor o = activation(t, s->n_tokens, s->heads * s->head_dim, 0);
    CALL(t, BERTH_OP_ATTENTION_PAGED, o, q, kv, state->positions, state->token_seq, state->block_table);
    t->attrs[t->n_calls - 1].scale = 1.0f / sqrtf((float)s->head_dim);
    double seen = (double)s->n_tokens * ((double)s->n_before + ((double)s->n_tokens + 1) / 2); /* causal pairs */
    t->flops += 4.0 * seen * (double)(s->heads * s->head_dim);
    return linear(t, o, s->hidden, false);
}

static void language_layer(kernel_tape *t, const kernel_language_shape *s, const language_state *state, berth_tensor x)
{
    berth_tensor h = activation(t, s->n_tokens, s->hidden, 0);
    CALL(t, BERTH_OP_RMS_NORM, h, x, weight(t, s->hidden, 0));
    CALL(t, BERTH_OP_ADD, x, x, language_attention(t, s, state, h));
    CALL(t, BERTH_OP_RMS_NORM, h, x, weight(t, s->hidden, 0));
    berth_tensor gate = linear(t, h, s->ffn, false), up = linear(t, h, s->ffn, false);
    CALL(t, BERTH_OP_SILU_MUL, gate, gate, up);
    CALL(t, BERTH_OP_ADD, x, x, linear(t, gate, s->hidden, false));
}

void kernel_tape_language(kernel_tape *t, const kernel_language_shape *s, const kernel_tape *share)
{
    take_weights(t, kernel_language_weight_bytes(s, t->dtype), share);
    language_state state = {.block = 32};
    int64_t len = s->n_before + s->n_tokens;
    state.n_blocks = (len + state.block - 1) / state.block;
    state.positions = ints(t, s->n_tokens, (int32_t)s->n_before, 1);
    state.slots = ints(t, s->n_tokens, (int32_t)s->n_before, 1);
    state.token_seq = ints(t, s->n_tokens, 0, 0);
    state.block_table = ints(t, state.n_blocks, 0, 1);
    state.block_table.n_dims = 2, state.block_table.dims[1] = state.n_blocks, state.block_table.dims[0] = 1;
    state.rope = activation(t, s->n_tokens, 2, s->head_dim / 2);
    CALL(t, BERTH_OP_ROPE_TABLE, state.rope, state.positions, state.token_seq,
         random_activation(t, 1, s->head_dim / 2, 0));
    berth_tensor x = random_activation(t, s->n_tokens, s->hidden, 0);
    for (int64_t i = 0; i < s->n_layers; i++) language_layer(t, s, &state, x);
    berth_tensor last = activation(t, 1, s->hidden, 0);
    CALL(t, BERTH_OP_GATHER_ROWS, last, x, ints(t, 1, (int32_t)s->n_tokens - 1, 0));
    CALL(t, BERTH_OP_RMS_NORM, last, last, weight(t, s->hidden, 0));
    berth_tensor logits = linear(t, last, s->vocab, false);
    CALL(t, BERTH_OP_LOGIT_STATS, activation(t, 1, BERTH_LOGIT_STATS, 0), logits);
    share_workspace(t);
}

/* ---- a vision tower --------------------------------------------------------------------------------------------- */

static void vision_layer(kernel_tape *t, const kernel_vision_shape *s, berth_tensor x)
{
    int64_t rows = x.dims[1];
    berth_tensor h = activation(t, s->n_tiles, rows, s->c), o = activation(t, s->n_tiles, rows, s->c);
    CALL(t, BERTH_OP_LAYER_NORM, h, x, weight(t, s->c, 0), weight(t, s->c, 0));
    berth_tensor q = linear(t, h, s->c, true), k = linear(t, h, s->c, true), v = linear(t, h, s->c, true);
    q.n_dims = k.n_dims = v.n_dims = 3;
    memcpy(q.dims, x.dims, sizeof q.dims);
    memcpy(k.dims, x.dims, sizeof k.dims);
    memcpy(v.dims, x.dims, sizeof v.dims);
    CALL(t, BERTH_OP_ATTENTION_FULL, o, q, k, v);
    t->attrs[t->n_calls - 1].n_heads = (int32_t)s->heads;
    t->attrs[t->n_calls - 1].scale = sqrtf((float)s->heads / (float)s->c);
    t->flops += 4.0 * (double)s->n_tiles * (double)rows * (double)rows * (double)s->c;
    CALL(t, BERTH_OP_SCALE_ADD, x, x, linear(t, o, s->c, true), weight(t, s->c, 0));
    CALL(t, BERTH_OP_LAYER_NORM, h, x, weight(t, s->c, 0), weight(t, s->c, 0));
    berth_tensor u = linear(t, h, s->ffn, true);
    CALL(t, BERTH_OP_GELU, u, u);
    CALL(t, BERTH_OP_SCALE_ADD, x, x, linear(t, u, s->c, true), weight(t, s->c, 0));
}

void kernel_tape_vision(kernel_tape *t, const kernel_vision_shape *s)
{
    int64_t grid = s->side / s->patch, n_patches = grid * grid, flat = 3 * s->patch * s->patch;
    int64_t layer = 4 * s->c * (s->c + 1) + 2 * s->c * s->ffn + s->ffn + 7 * s->c;
    int64_t ends = (flat + 3 + n_patches) * s->c + 8 * s->c + (4 * s->c + s->text_hidden + 2) * s->text_hidden;
    take_weights(t, (size_t)(s->n_layers * layer + ends) * berth_dtype_size(t->dtype), NULL);
    berth_tensor pixels = random_activation(t, s->n_tiles, 3, s->side * s->side);
    pixels.n_dims = 4, pixels.dims[2] = pixels.dims[3] = s->side;
    berth_tensor patches = activation(t, s->n_tiles, n_patches, flat),
                 x = activation(t, s->n_tiles, 1 + n_patches, s->c);
    CALL(t, BERTH_OP_PATCHIFY, patches, pixels);
    t->attrs[t->n_calls - 1].patch = (int32_t)s->patch;
    berth_tensor embedded = linear(t, patches, s->c, true);
    embedded.n_dims = 3, embedded.dims[0] = s->n_tiles, embedded.dims[1] = n_patches, embedded.dims[2] = s->c;
    CALL(t, BERTH_OP_VISION_EMBED, x, embedded, weight(t, s->c, 0), weight(t, 1 + n_patches, s->c));
    for (int64_t i = 0; i < s->n_layers; i++) vision_layer(t, s, x);
    berth_tensor rest = activation(t, s->n_tiles, n_patches, s->c),
                 z = activation(t, s->n_tiles, n_patches / 4, 4 * s->c);
    CALL(t, BERTH_OP_DROP_CLS, rest, x);
    CALL(t, BERTH_OP_PIXEL_SHUFFLE, z, rest);
    t->attrs[t->n_calls - 1].factor = 2;
    CALL(t, BERTH_OP_LAYER_NORM, z, z, weight(t, 4 * s->c, 0), weight(t, 4 * s->c, 0));
    berth_tensor u = linear(t, z, s->text_hidden, true);
    CALL(t, BERTH_OP_GELU, u, u);
    linear(t, u, s->text_hidden, true);
    share_workspace(t);
}

void kernel_tape_run(const kernel_tape *t)
{
    for (int32_t i = 0; i < t->n_calls; i++) t->set->run[t->calls[i].kind](&t->calls[i]);
}

void kernel_tape_deinit(kernel_tape *t)
{
    while (t->n_owned > 0) free(t->owned[--t->n_owned]);
}
