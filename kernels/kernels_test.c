/* kernels_test.c - every op of every set of kernels against the reference, in odd sizes, on 1 to 3 threads, with the same bits each time.
 * One table of cases; a set that this machine cannot run is skipped by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/test_bed.h"
#include "kernels/test_team.h"

/* Largest |got - ref| / max(1, |ref|). The reference sums in double; inputs are such that outputs are about 1. */
#define EXACT            0.0  /* ops that move values, or make one rounding that the reference makes too */
#define ROUNDING         3e-7 /* a few fp32 roundings */
#define SUM_TOLERANCE    2e-6 /* fp32 sums of up to some thousand terms in lanes */
#define GELU_TOLERANCE   1e-6 /* ops.h */
#define WEIGHT_TOLERANCE 3e-6 /* attention: a sum in the scores, an exp, another sum */

enum { MAX_THREADS = 3, PARAMETERS = 7 };

typedef struct op_case {
    const char *name;
    berth_op_kind kind;
    void (*build)(berth_bed *b, const int64_t *p, berth_dtype dtype);
    int64_t p[PARAMETERS];
    berth_dtype dtype;
    double tolerance;
} op_case;

extern const berth_kernels berth_cpu_set_lanes16; /* lanes16_test_set.c */

/* ---- builders; the meaning of p stands beside each -------------------------------------------------------------------- */

static void build_linear(berth_bed *b, const int64_t *p, berth_dtype dtype) /* rows, in, out, bias */
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

static void build_attention_full(berth_bed *b, const int64_t *p, berth_dtype dtype) /* tiles, T, heads, d */
{
    (void)dtype;
    for (int i = 0; i < 3; i++) berth_bed_activation(b, -1, 1, BERTH_DIMS(p[0], p[1], p[2] * p[3]));
    berth_bed_out(b, BERTH_DIMS(p[0], p[1], p[2] * p[3]));
    b->attrs.n_heads = (int32_t)p[2];
    b->attrs.scale = 2.0f / sqrtf((float)p[3]);
}

/* heads, kv heads, d, block, sequences, tokens of each sequence, length of the first (the next are 5 longer each) */
static void build_attention_paged(berth_bed *b, const int64_t *p, berth_dtype dtype)
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

/* ---- cases ------------------------------------------------------------------------------------------------------------ */

#define LINEAR(rows, in, out, bias, dtype)                                                                             \
    {                                                                                                                  \
        "linear " #rows "x" #in "x" #out " " #dtype, BERTH_OP_LINEAR, build_linear, {rows, in, out, bias}, dtype,      \
            SUM_TOLERANCE                                                                                              \
    }

static const op_case cases[] = {
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
    {"attention_full 1 row", BERTH_OP_ATTENTION_FULL, build_attention_full, {1, 1, 1, 8}, BERTH_F32, WEIGHT_TOLERANCE},
    {"attention_full 17", BERTH_OP_ATTENTION_FULL, build_attention_full, {2, 17, 5, 8}, BERTH_F32, WEIGHT_TOLERANCE},
    {"attention_full 65", BERTH_OP_ATTENTION_FULL, build_attention_full, {1, 65, 2, 20}, BERTH_F32, WEIGHT_TOLERANCE},
    {"attention_full 101", BERTH_OP_ATTENTION_FULL, build_attention_full, {2, 101, 3, 13}, BERTH_F32, WEIGHT_TOLERANCE},
    {"attention_full 581", BERTH_OP_ATTENTION_FULL, build_attention_full, {1, 581, 1, 24}, BERTH_F32, WEIGHT_TOLERANCE},
    {"attention_paged first token",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
     {6, 2, 8, 4, 1, 1, 1},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged prefill 37",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
     {7, 1, 20, 16, 1, 37, 37},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged prefill 131",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
     {6, 3, 64, 32, 1, 131, 140},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged decode x5",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
     {4, 2, 16, 8, 5, 1, 67},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged decode long",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
     {6, 1, 128, 16, 1, 1, 1541},
     BERTH_F32,
     WEIGHT_TOLERANCE},
    {"attention_paged chunks x3 long",
     BERTH_OP_ATTENTION_PAGED,
     build_attention_paged,
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
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* ---- running them ----------------------------------------------------------------------------------------------------- */

static berth_team *teams[MAX_THREADS + 1]; /* [0] is NULL: a call without a team */

/* The case's call, and for ops that write into a state what the state holds before (else NULL); caller frees both. */
static float *prepare(berth_bed *b, const op_case *c)
{
    berth_bed_init(b, c->kind, 7);
    c->build(b, c->p, c->dtype);
    if (!berth_op_infos[c->kind].writes_state) return NULL;
    float *state = malloc(berth_bed_out_floats(b) * sizeof *state);
    for (size_t i = 0; i < berth_bed_out_floats(b); i++) state[i] = berth_bed_random(b, -1, 1);
    return state;
}

static void check_close(const op_case *c, const char *set, const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) && isnan(got[i])) continue;
        if (got[i] == want[i]) continue;
        double error = fabs((double)got[i] - (double)want[i]) / fmax(1, fabs((double)want[i]));
        if (!(error <= worst)) worst = error;
    }
    if (!(worst <= c->tolerance)) fail_msg("%s, %s: error %.3g, tolerance %.3g", set, c->name, worst, c->tolerance);
}

static void check_bits(const op_case *c, const char *set, const char *what, const float *got, const float *want,
                       size_t n)
{
    if (n && memcmp(got, want, n * sizeof *got) != 0) fail_msg("%s, %s: other bits %s", set, c->name, what);
}

static void run_case(const op_case *c, const berth_kernels *set)
{
    berth_bed b;
    float *state = prepare(&b, c);
    size_t n = berth_bed_out_floats(&b);
    float *want = berth_bed_run(&b, berth_kernels_ref(), NULL, state, false);
    float *got = berth_bed_run(&b, set, NULL, state, false);
    check_close(c, set->name, got, want, n);
    for (int threads = 0; threads <= MAX_THREADS; threads++) {
        float *again = berth_bed_run(&b, set, teams[threads], state, false);
        check_bits(c, set->name, "with another number of threads", again, got, n);
        free(again);
    }
    if (berth_op_infos[c->kind].inplace >= 0) {
        float *in_place = berth_bed_run(&b, set, teams[2], state, true);
        check_bits(c, set->name, "in place", in_place, got, n);
        free(in_place);
    }
    free(want);
    free(got);
    free(state);
    berth_bed_deinit(&b);
}

static void run_cases(const berth_kernels *set)
{
    if (!set) skip();
    for (size_t i = 0; i < N_CASES; i++) run_case(&cases[i], set);
}

static void ref_agrees_with_itself_in_place(void **state)
{
    (void)state;
    run_cases(berth_kernels_ref());
}

static void generic_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("generic"));
}

static void avx2_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("avx2"));
}

static void avx512_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("avx512"));
}

static const berth_kernels *lanes16(void)
{
    return berth_kernels_cpu("avx2") ? &berth_cpu_set_lanes16 : NULL;
}

static void sixteen_lanes_agree_with_ref(void **state)
{
    (void)state;
    run_cases(lanes16());
}

static const berth_kernels *set_of(int i)
{
    switch (i) {
    case 0: return berth_kernels_cpu("generic");
    case 1: return berth_kernels_cpu("avx2");
    case 2: return berth_kernels_cpu("avx512");
    case 3: return lanes16();
    default: return NULL;
    }
}

/* ---- a row's bits do not depend on its company ------------------------------------------------------------------------ */

/* Rows of a product computed alone, in threes, or all at once. */
static void linear_rows_are_independent(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{40, 1543, 37, 1}, {205, 96, 70, 0}, {13, 512, 9, 1}};
    for (int s = 0; s < 4; s++)
        for (size_t i = 0; set_of(s) && i < sizeof shapes / sizeof shapes[0]; i++) {
            berth_bed b;
            berth_bed_init(&b, BERTH_OP_LINEAR, i);
            build_linear(&b, shapes[i], BERTH_BF16);
            float *all = berth_bed_run(&b, set_of(s), teams[2], NULL, false);
            int64_t rows = shapes[i][0], n_in = shapes[i][1], n_out = shapes[i][2];
            float *x = b.call.in[0].data;
            for (int64_t t = 0, step = 1; t < rows; t += step, step = step % 8 + 1) {
                if (step > rows - t) step = rows - t;
                b.call.in[0].data = x + t * n_in;
                b.call.in[0].dims[0] = b.call.out.dims[0] = step;
                float *some = berth_bed_run(&b, set_of(s), teams[1], NULL, false);
                assert_memory_equal(some, all + t * n_out, (size_t)(step * n_out) * sizeof(float));
                free(some);
            }
            free(all);
            berth_bed_deinit(&b);
        }
}

/* Tokens of a long prefill, and the same tokens decoded one by one with splits shared among threads. */
static void attention_tokens_are_independent(void **state)
{
    (void)state;
    static const int64_t shape[] = {6, 2, 24, 16, 1, 90, 1100};
    for (int s = 0; s < 4; s++) {
        if (!set_of(s)) continue;
        berth_bed b;
        berth_bed_init(&b, BERTH_OP_ATTENTION_PAGED, 3);
        build_attention_paged(&b, shape, BERTH_F32);
        float *all = berth_bed_run(&b, set_of(s), teams[2], NULL, false);
        float *q = b.call.in[0].data;
        int32_t *positions = b.call.in[2].data, *token_seq = b.call.in[3].data;
        for (int64_t t = 0; t < shape[5]; t += 7) {
            size_t row = (size_t)(shape[0] * shape[2]);
            b.call.in[0].data = q + (size_t)t * row;
            b.call.in[2].data = positions + t;
            b.call.in[3].data = token_seq + t;
            b.call.in[0].dims[0] = b.call.in[2].dims[0] = b.call.in[3].dims[0] = b.call.out.dims[0] = 1;
            float *one = berth_bed_run(&b, set_of(s), teams[3], NULL, false);
            assert_memory_equal(one, all + (size_t)t * row, row * sizeof(float));
            free(one);
        }
        free(all);
        berth_bed_deinit(&b);
    }
}

/* ---- the table -------------------------------------------------------------------------------------------------------- */

static void every_op_is_in_every_set(void **state)
{
    (void)state;
    for (int kind = 0; kind < BERTH_OP_KIND_COUNT; kind++) {
        const berth_op_info *info = &berth_op_infos[kind];
        assert_non_null(info->name);
        assert_in_range(info->max_in, info->min_in, BERTH_OP_INPUTS);
        assert_true(info->inplace < info->min_in);
        bool tested = kind == BERTH_OP_COPY || kind == BERTH_OP_CONVERT; /* narrow_test.c */
        for (size_t i = 0; i < N_CASES; i++) tested |= (int)cases[i].kind == kind;
        if (!tested) fail_msg("%s has no case", info->name);
        if (kind == BERTH_OP_COPY || kind == BERTH_OP_CONVERT) continue;
        assert_non_null(berth_kernels_ref()->run[kind]);
        for (int s = 0; s < 4; s++)
            if (set_of(s)) assert_non_null(set_of(s)->run[kind]);
    }
}

static void workspace_grows_with_every_dimension(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++)
        for (int s = 0; s < 4; s++) {
            if (!set_of(s) || !set_of(s)->workspace[cases[i].kind]) continue;
            berth_bed b;
            free(prepare(&b, &cases[i]));
            b.call.attrs = &b.attrs;
            size_t before = set_of(s)->workspace[cases[i].kind](&b.call, 2);
            assert_true(set_of(s)->workspace[cases[i].kind](&b.call, 3) >= before);
            b.call.in[0].dims[0] += 100;
            b.call.in[2].dims[0] += 100 * (cases[i].kind == BERTH_OP_ATTENTION_PAGED);
            assert_true(set_of(s)->workspace[cases[i].kind](&b.call, 2) >= before);
            berth_bed_deinit(&b);
        }
}

static void sets_are_chosen_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(berth_kernels_cpu("ref"), berth_kernels_ref());
    assert_null(berth_kernels_cpu("avx1024"));
    const berth_kernels *chosen = berth_kernels_cpu(NULL);
    assert_non_null(chosen);
    assert_ptr_equal(chosen, berth_kernels_cpu(NULL));
    assert_ptr_not_equal(chosen, berth_kernels_ref());
}

static int make_teams(void **state)
{
    (void)state;
    for (int i = 1; i <= MAX_THREADS; i++)
        if (!(teams[i] = berth_test_team_create(i))) return -1;
    return 0;
}

static int end_teams(void **state)
{
    (void)state;
    for (int i = 1; i <= MAX_THREADS; i++) berth_test_team_destroy(teams[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_agrees_with_itself_in_place),
        cmocka_unit_test(generic_agrees_with_ref),
        cmocka_unit_test(avx2_agrees_with_ref),
        cmocka_unit_test(sixteen_lanes_agree_with_ref),
        cmocka_unit_test(avx512_agrees_with_ref),
        cmocka_unit_test(linear_rows_are_independent),
        cmocka_unit_test(attention_tokens_are_independent),
        cmocka_unit_test(every_op_is_in_every_set),
        cmocka_unit_test(workspace_grows_with_every_dimension),
        cmocka_unit_test(sets_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, make_teams, end_teams);
}
