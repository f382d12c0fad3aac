/* test_cases.c - see test_cases.h. */
#include "kernels/test_cases.h"

#include <math.h>
#include <stdlib.h>

/* Largest |got - ref| / max(1, |ref|). The reference sums in double; inputs are such that outputs are about 1. */
#define EXACT            0.0  /* ops that move values, or make one rounding that the reference makes too */
#define ROUNDING         3e-7 /* a few fp32 roundings */
#define SUM_TOLERANCE    2e-6 /* fp32 sums of up to some thousand terms in lanes */
#define GELU_TOLERANCE   1e-6 /* ops.h */
#define BEST_TOLERANCE   4e-6 /* ops.h; indices of these rows differ by more */
#define WEIGHT_TOLERANCE 3e-6 /* attention: a sum in the scores, an exp, another sum */

/* ---- builders; the meaning of p stands beside each -------------------------------------------------------------- */

void berth_build_linear(berth_bed *b, const int64_t *p, berth_dtype dtype) /* rows, in, out, bias */
{
    float width = 1.7f / sqrtf((float)p[1]);
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1]));
    berth_bed_weight(b, dtype, -width, width, BERTH_DIMS(p[2], p[1]));
    if (p[3]) berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[2]));
}

static void build_norm(berth_bed *b, const int64_t *p, berth_dtype dtype) /* rows, c, has bias */
{
    berth_bed_activation(b, -1, 3, BERTH_DIMS(p[0], p[1]));
    berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[1]));
    if (p[2]) berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[1]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1]));
    b->attrs.eps = 1e-6f;
}

static void build_unary(berth_bed *b, const int64_t *p, berth_dtype dtype) /* n, c, half width */
{
    (void)dtype;
    berth_bed_activation(b, (float)-p[2], (float)p[2], BERTH_DIMS(p[0], p[1]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1]));
}

static void build_binary(berth_bed *b, const int64_t *p, berth_dtype dtype) /* n, c, half width of the first */
{
    build_unary(b, p, dtype);
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1]));
}

static void build_scale_add(berth_bed *b, const int64_t *p, berth_dtype dtype) /* n, c, half width */
{
    build_binary(b, p, dtype);
    berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[1]));
}

static void build_patchify(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tiles, grid, patch */
{
    (void)dtype;
    berth_bed_activation(b, -2, 2, BERTH_DIMS(p[0], 3, p[1] * p[2], p[1] * p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1] * p[1], 3 * p[2] * p[2]));
    b->attrs.patch = (int32_t)p[2];
}

static void build_vision_embed(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tiles, patches, c */
{
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], p[2]));
    berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[2]));
    berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(1 + p[1], p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], 1 + p[1], p[2]));
}

static void build_drop_cls(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tiles, patches, c */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], 1 + p[1], p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1], p[2]));
}

static void build_pixel_shuffle(berth_bed *b, const int64_t *p,
                                berth_dtype dtype) /* tiles, grid, c, factor, transposed */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1] * p[1], p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1] * p[1] / (p[3] * p[3]), p[3] * p[3] * p[2]));
    b->attrs.factor = (int32_t)p[3];
    b->attrs.transposed = p[4] != 0;
}

static void fill_ints(berth_bed *b, int32_t *out, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++) out[i] = (int32_t)berth_bed_random(b, 0, (float)below - 0.01f);
}

/* n different numbers under `below`, in no order: i * step mod below with a step that shares no factor with it. */
static void fill_distinct(int32_t *out, int64_t n, int64_t below)
{
    int64_t step = below > 7 && below % 7 ? 7 : 1;
    for (int64_t i = 0; i < n; i++) out[i] = (int32_t)((i * step + 1) % below);
}

static void build_embed(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tokens, vocabulary, d */
{
    fill_ints(b, berth_bed_ints(b, BERTH_DIMS(p[0])), p[0], p[1]);
    berth_bed_weight(b, dtype, -1, 1, BERTH_DIMS(p[1], p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[2]));
}

static void build_scatter(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tokens, d, features, rows */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1]));
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[2], p[1]));
    fill_ints(b, berth_bed_ints(b, BERTH_DIMS(p[3])), p[3], p[2]);
    fill_distinct(berth_bed_ints(b, BERTH_DIMS(p[3])), p[3], p[0]);
    berth_bed_out(b, BERTH_DIMS(p[0], p[1]));
}

static void build_gather(berth_bed *b, const int64_t *p, berth_dtype dtype) /* n, d, rows */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1]));
    fill_ints(b, berth_bed_ints(b, BERTH_DIMS(p[2])), p[2], p[0]);
    berth_bed_out(b, BERTH_DIMS(p[2], p[1]));
}

static void build_store(berth_bed *b, const int64_t *p, berth_dtype dtype) /* capacity, d, rows */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[2], p[1]));
    fill_distinct(berth_bed_ints(b, BERTH_DIMS(p[2])), p[2], p[0]);
    berth_bed_out(b, BERTH_DIMS(p[0], p[1]));
}

static void build_rope_table(berth_bed *b, const int64_t *p,
                             berth_dtype dtype) /* tokens, half, sequences, first position */
{
    (void)dtype;
    int32_t *positions = berth_bed_ints(b, BERTH_DIMS(p[0])), *token_seq = berth_bed_ints(b, BERTH_DIMS(p[0]));
    for (int64_t i = 0; i < p[0]; i++) positions[i] = (int32_t)(p[3] + 37 * i), token_seq[i] = (int32_t)(i % p[2]);
    float *inv_freq = berth_bed_activation(b, 0, 1, BERTH_DIMS(p[2], p[1]));
    for (int64_t seq = 0; seq < p[2]; seq++)
        for (int64_t j = 0; j < p[1]; j++)
            inv_freq[seq * p[1] + j] = powf(1e6f, -(float)j / (float)p[1]) * (float)(1 + seq);
    berth_bed_out(b, BERTH_DIMS(p[0], 2, p[1]));
}

static void build_rope(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tokens, heads, half */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], 2 * p[2]));
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], 2, p[2]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1], 2 * p[2]));
}

static void build_kv_append(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tokens, kv heads, d, blocks, block */
{
    (void)dtype;
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], p[2]));
    berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], p[2]));
    fill_distinct(berth_bed_ints(b, BERTH_DIMS(p[0])), p[0], p[3] * p[4]);
    berth_bed_out(b, BERTH_DIMS(p[3], 2, p[1], p[4], p[2]));
}

void berth_build_attention_full(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tiles, T, heads, d */
{
    (void)dtype;
    for (int i = 0; i < 3; i++) berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], p[2] * p[3]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1], p[2] * p[3]));
    b->attrs.n_heads = (int32_t)p[2];
    b->attrs.scale = 2.0f / sqrtf((float)p[3]);
}

/* heads, kv heads, d, block, sequences, tokens of each sequence, length of the first (the next are 5 longer each) */
void berth_build_attention_paged(berth_bed *b, const int64_t *p, berth_dtype dtype)
{
    (void)dtype;
    int64_t n_seqs = p[4], n_tokens = n_seqs * p[5], longest = p[6] + 5 * (n_seqs - 1);
    int64_t max_blocks = (longest + p[3] - 1) / p[3] + 1, n_blocks = n_seqs * max_blocks + 3;
    berth_bed_activation(b, -2, 2, BERTH_DIMS(n_tokens, p[0], p[2]));
    float *kv = berth_bed_activation(b, -1, 1, BERTH_DIMS(n_blocks, 2, p[1], p[3], p[2]));
    int32_t *positions = berth_bed_ints(b, BERTH_DIMS(n_tokens)), *token_seq = berth_bed_ints(b, BERTH_DIMS(n_tokens));
    int32_t *table = berth_bed_ints(b, BERTH_DIMS(n_seqs, max_blocks));
    fill_distinct(table, n_seqs * max_blocks, n_blocks);
    for (int64_t t = 0; t < n_tokens; t++) {
        token_seq[t] = (int32_t)(t / p[5]);
        positions[t] = (int32_t)(p[6] + 5 * token_seq[t] - p[5] + t % p[5]);
    }
    /* What lies behind a sequence's end is nobody's: NaN there must not be read as a number. */
    for (int64_t s = 0; s < n_seqs; s++)
        for (int64_t pos = p[6] + 5 * s; pos < max_blocks * p[3]; pos++)
            for (int64_t i = 0; i < 2 * p[1]; i++)
                kv[((table[s * max_blocks + pos / p[3]] * 2 * p[1] + i) * p[3] + pos % p[3]) * p[2]] = NAN;
    berth_bed_out(b, BERTH_DIMS(n_tokens, p[0], p[2]));
    b->attrs.scale = 1.0f / sqrtf((float)p[2]);
}

static void build_logit_stats(berth_bed *b, const int64_t *p, berth_dtype dtype) /* rows, v, kind of trouble */
{
    (void)dtype;
    float *x = berth_bed_activation(b, -9, 9, BERTH_DIMS(p[0], p[1]));
    for (int64_t t = 0; t < p[0]; t++, x += p[1]) {
        if (p[2] == 1) x[p[1] / 2] = x[p[1] - 1] = 10; /* a tie */
        if (p[2] == 2) x[p[1] / 3] = -INFINITY, x[p[1] - 1] = INFINITY;
        if (p[2] == 3) x[p[1] - 1 - t % 2] = NAN, x[0] = INFINITY;
        for (int64_t i = 0; p[2] >= 4 && i < p[1]; i++) x[i] = p[2] == 4 ? -INFINITY : p[2] == 5 ? NAN : 1.5f;
    }
    berth_bed_out(b, BERTH_DIMS(p[0], BERTH_LOGIT_STATS));
}

/* rows, v, rows asked for, kind: 1 = many ties, 2 = ascending, 3 = the best stand together, 4 = all alike but one, 5 = zeros of both signs */
static void build_logit_best(berth_bed *b, const int64_t *p, berth_dtype dtype)
{
    (void)dtype;
    int64_t n = p[0] * p[1];
    float *x = berth_bed_activation(b, -9, 9, BERTH_DIMS(p[0], p[1]));
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i % p[1];
        if (p[3] == 1) x[i] = (float)(int)x[i];
        if (p[3] == 2) x[i] = (float)at / (float)p[1] * 8 - 4;
        if (p[3] == 3 && at >= 300 && at < 420) x[i] += 20;
        if (p[3] == 4) x[i] = at == p[1] - 1 ? 2.5f : 1.5f;
        if (p[3] == 5) x[i] = at % 3 == 0 ? -1.0f : at % 3 == 1 ? -0.0f : 0.0f;
    }
    int32_t *rows = berth_bed_ints(b, BERTH_DIMS(p[2]));
    float *scales = berth_bed_activation(b, 0.5f, 2, BERTH_DIMS(p[2]));
    for (int64_t i = 0; i < p[2]; i++) rows[i] = (int32_t)((p[0] - 1 - i % p[0])), scales[i] *= i == 1 ? 10 : 1;
    berth_bed_out(b, BERTH_DIMS(p[2], BERTH_LOGIT_BEST));
}

/* ---- cases ------------------------------------------------------------------------------------------------------ */

#define LINEAR(rows, in, out, bias, dtype)                                                                             \
    {                                                                                                                  \
        "linear " #rows "x" #in "x" #out " " #dtype, BERTH_OP_LINEAR, berth_build_linear, {rows, in, out, bias},       \
            dtype, SUM_TOLERANCE                                                                                       \
    }

const berth_op_case berth_op_cases[] = {
    LINEAR(1, 1, 1, 0, BERTH_F32),
    LINEAR(1, 7, 3, 1, BERTH_BF16),
    LINEAR(1, 64, 5, 0, BERTH_F16),
    LINEAR(1, 1543, 67, 1, BERTH_BF16),
    LINEAR(1, 1024, 130, 1, BERTH_F16),
    LINEAR(2, 515, 37, 1, BERTH_BF16),
    LINEAR(3, 96, 41, 0, BERTH_F32),
    LINEAR(5, 1031, 29, 1, BERTH_F16),
    LINEAR(8, 520, 33, 1, BERTH_BF16),
    LINEAR(9, 48, 11, 1, BERTH_F32),
    LINEAR(11, 13, 2, 0, BERTH_BF16),
    LINEAR(31, 1027, 71, 1, BERTH_BF16),
    LINEAR(33, 70, 9, 1, BERTH_F16),
    LINEAR(97, 588, 129, 1, BERTH_F16),
    LINEAR(199, 544, 66, 0, BERTH_F32),
    LINEAR(211, 36, 1, 1, BERTH_BF16),
    LINEAR(0, 36, 5, 1, BERTH_BF16),
    {"layer_norm 1x1024", BERTH_OP_LAYER_NORM, build_norm, {1, 1024, 1}, BERTH_BF16, SUM_TOLERANCE},
    {"layer_norm 37x41", BERTH_OP_LAYER_NORM, build_norm, {37, 41, 1}, BERTH_F32, SUM_TOLERANCE},
    {"layer_norm 500x129", BERTH_OP_LAYER_NORM, build_norm, {500, 129, 1}, BERTH_F16, SUM_TOLERANCE},
    {"layer_norm 3x5", BERTH_OP_LAYER_NORM, build_norm, {3, 5, 1}, BERTH_BF16, SUM_TOLERANCE},
    {"rms_norm 1x1536", BERTH_OP_RMS_NORM, build_norm, {1, 1536, 0}, BERTH_BF16, SUM_TOLERANCE},
    {"rms_norm 7x12", BERTH_OP_RMS_NORM, build_norm, {7, 12, 0}, BERTH_F32, SUM_TOLERANCE},
    {"rms_norm 800x67", BERTH_OP_RMS_NORM, build_norm, {800, 67, 0}, BERTH_F16, SUM_TOLERANCE},
    {"gelu 1x3", BERTH_OP_GELU, build_unary, {1, 3, 1}, BERTH_F32, GELU_TOLERANCE},
    {"gelu 123x331", BERTH_OP_GELU, build_unary, {123, 331, 8}, BERTH_F32, GELU_TOLERANCE},
    {"gelu far 1x2053", BERTH_OP_GELU, build_unary, {1, 2053, 40}, BERTH_F32, GELU_TOLERANCE},
    {"silu_mul 5x7", BERTH_OP_SILU_MUL, build_binary, {5, 7, 9}, BERTH_F32, ROUNDING},
    {"silu_mul 131x257", BERTH_OP_SILU_MUL, build_binary, {131, 257, 100}, BERTH_F32, ROUNDING},
    {"add 1x1", BERTH_OP_ADD, build_binary, {1, 1, 1}, BERTH_F32, EXACT},
    {"add 301x127", BERTH_OP_ADD, build_binary, {301, 127, 3}, BERTH_F32, EXACT},
    {"scale_add 1x9", BERTH_OP_SCALE_ADD, build_scale_add, {1, 9, 2}, BERTH_BF16, ROUNDING},
    {"scale_add 301x127", BERTH_OP_SCALE_ADD, build_scale_add, {301, 127, 2}, BERTH_F16, ROUNDING},
    {"patchify 2x(3x14)", BERTH_OP_PATCHIFY, build_patchify, {2, 3, 14}, BERTH_F32, EXACT},
    {"patchify 1x(17x5)", BERTH_OP_PATCHIFY, build_patchify, {1, 17, 5}, BERTH_F32, EXACT},
    {"vision_embed 1", BERTH_OP_VISION_EMBED, build_vision_embed, {1, 4, 7}, BERTH_BF16, EXACT},
    {"vision_embed 3", BERTH_OP_VISION_EMBED, build_vision_embed, {3, 121, 83}, BERTH_F16, EXACT},
    {"drop_cls", BERTH_OP_DROP_CLS, build_drop_cls, {3, 49, 173}, BERTH_F32, EXACT},
    {"pixel_shuffle 2", BERTH_OP_PIXEL_SHUFFLE, build_pixel_shuffle, {3, 14, 37, 2, 0}, BERTH_F32, EXACT},
    {"pixel_shuffle 3 transposed", BERTH_OP_PIXEL_SHUFFLE, build_pixel_shuffle, {2, 9, 5, 3, 1}, BERTH_F32, EXACT},
    {"embed bf16", BERTH_OP_EMBED, build_embed, {61, 97, 333}, BERTH_BF16, EXACT},
    {"embed f16", BERTH_OP_EMBED, build_embed, {1, 3, 5}, BERTH_F16, EXACT},
    {"embed f32", BERTH_OP_EMBED, build_embed, {2, 13, 48}, BERTH_F32, EXACT},
    {"scatter_rows", BERTH_OP_SCATTER_ROWS, build_scatter, {130, 151, 9, 19}, BERTH_F32, EXACT},
    {"scatter_rows none", BERTH_OP_SCATTER_ROWS, build_scatter, {3, 5, 2, 0}, BERTH_F32, EXACT},
    {"gather_rows", BERTH_OP_GATHER_ROWS, build_gather, {31, 555, 43}, BERTH_F32, EXACT},
    {"store_rows", BERTH_OP_STORE_ROWS, build_store, {57, 301, 31}, BERTH_F32, EXACT},
    {"rope_table", BERTH_OP_ROPE_TABLE, build_rope_table, {71, 21, 3, 0}, BERTH_F32, ROUNDING},
    {"rope_table far", BERTH_OP_ROPE_TABLE, build_rope_table, {3, 64, 1, 32000}, BERTH_F32, ROUNDING},
    {"rope 1", BERTH_OP_ROPE, build_rope, {1, 3, 10}, BERTH_F32, ROUNDING},
    {"rope 67", BERTH_OP_ROPE, build_rope, {67, 12, 37}, BERTH_F32, ROUNDING},
    {"kv_append 1", BERTH_OP_KV_APPEND, build_kv_append, {1, 2, 128, 3, 16}, BERTH_F32, EXACT},
    {"kv_append 67", BERTH_OP_KV_APPEND, build_kv_append, {67, 3, 61, 11, 9}, BERTH_F32, EXACT},
    {"attention_full 1 row",
     BERTH_OP_ATTENTION_FULL,
     berth_build_attention_full,
     {1, 1, 1, 8},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_full 17",
     BERTH_OP_ATTENTION_FULL,
     berth_build_attention_full,
     {2, 17, 5, 8},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_full 65",
     BERTH_OP_ATTENTION_FULL,
     berth_build_attention_full,
     {1, 65, 2, 20},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_full 101",
     BERTH_OP_ATTENTION_FULL,
     berth_build_attention_full,
     {2, 101, 3, 13},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_full 581",
     BERTH_OP_ATTENTION_FULL,
     berth_build_attention_full,
     {1, 581, 1, 24},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged first token",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {6, 2, 8, 4, 1, 1, 1},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged prefill 37",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {7, 1, 20, 16, 1, 37, 37},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged prefill 131",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {6, 3, 64, 32, 1, 131, 140},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged decode x5",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {4, 2, 16, 8, 5, 1, 67},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged decode long",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {6, 1, 128, 16, 1, 1, 1541},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged chunks x3 long",
     BERTH_OP_ATTENTION_PAGED,
     berth_build_attention_paged,
     {4, 4, 12, 7, 3, 13, 1019},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"logit_stats 1", BERTH_OP_LOGIT_STATS, build_logit_stats, {1, 1, 0}, BERTH_F32, EXACT},
    {"logit_stats plain", BERTH_OP_LOGIT_STATS, build_logit_stats, {3, 20011, 0}, BERTH_F32, EXACT},
    {"logit_stats tie", BERTH_OP_LOGIT_STATS, build_logit_stats, {2, 101, 1}, BERTH_F32, EXACT},
    {"logit_stats infinities", BERTH_OP_LOGIT_STATS, build_logit_stats, {2, 103, 2}, BERTH_F32, EXACT},
    {"logit_stats NaN", BERTH_OP_LOGIT_STATS, build_logit_stats, {2, 107, 3}, BERTH_F32, EXACT},
    {"logit_stats all -inf", BERTH_OP_LOGIT_STATS, build_logit_stats, {1, 37, 4}, BERTH_F32, EXACT},
    {"logit_stats all NaN", BERTH_OP_LOGIT_STATS, build_logit_stats, {1, 37, 5}, BERTH_F32, EXACT},
    {"logit_stats constant", BERTH_OP_LOGIT_STATS, build_logit_stats, {1, 64, 6}, BERTH_F32, EXACT},
    {"logit_best 1", BERTH_OP_LOGIT_BEST, build_logit_best, {1, 1, 1, 0}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best few", BERTH_OP_LOGIT_BEST, build_logit_best, {3, 101, 2, 0}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best none", BERTH_OP_LOGIT_BEST, build_logit_best, {3, 101, 0, 0}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best 128", BERTH_OP_LOGIT_BEST, build_logit_best, {2, 128, 2, 1}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best plain", BERTH_OP_LOGIT_BEST, build_logit_best, {5, 20011, 3, 0}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best ties", BERTH_OP_LOGIT_BEST, build_logit_best, {1, 16411, 2, 1}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best ascending", BERTH_OP_LOGIT_BEST, build_logit_best, {1, 40008, 1, 2}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best together", BERTH_OP_LOGIT_BEST, build_logit_best, {2, 8200, 2, 3}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best constant", BERTH_OP_LOGIT_BEST, build_logit_best, {1, 9000, 1, 4}, BERTH_F32, BEST_TOLERANCE},
    {"logit_best zeros", BERTH_OP_LOGIT_BEST, build_logit_best, {1, 701, 1, 5}, BERTH_F32, BEST_TOLERANCE},
};
const size_t berth_n_op_cases = sizeof berth_op_cases / sizeof berth_op_cases[0];

float *berth_op_case_prepare(berth_bed *b, const berth_op_case *c)
{
    berth_bed_init(b, c->kind, 7);
    c->build(b, c->p, c->dtype);
    if (!berth_op_infos[c->kind].writes_state) return NULL;
    float *state = malloc(berth_bed_out_floats(b) * sizeof *state);
    for (size_t i = 0; i < berth_bed_out_floats(b); i++) state[i] = berth_bed_random(b, -1, 1);
    return state;
}
