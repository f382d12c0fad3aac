/* decoder.c - the Qwen2 / Qwen3 decoder as a `step` program: token ids, and image features where there is a vision
 * tower, to logits.
 *
 * One program serves prefill chunks and decode rows of many sequences together; lengths, positions and block tables
 * are data. Easy to get wrong: Qwen3 normalises each head of q and k before rope. Source: transformers
 * modeling_qwen2, modeling_qwen3. */
#include <math.h>

#include "arch/arch_internal.h"

/* What every layer reads. */
typedef struct decoder {
    berth_emitter e;
    const berth_text_config *c;
    int32_t positions, token_seq, slots, block_table, rope;
} decoder;

#define TOKENS BERTH_SYM(1, BERTH_SYM_TOKENS)

static int32_t module(const decoder *d, berth_module_role role, int32_t layer)
{
    return berth_model_data_module(d->e.m, role, layer);
}

/* Token embeddings, image rows replaced by features: text.embed. */
static int32_t embed(decoder *d)
{
    berth_emitter *e = &d->e;
    bool vision = berth_model_data_config(e->m)->has_vision;
    berth_shape rows = BERTH_SHAPE(BERTH_SYM(1, BERTH_SYM_IMAGE_ROWS));
    e->prefix = "text";
    int32_t table = berth_emit_weight(e, BERTH_T_EMBED);
    if (e->status == BERTH_OK)
        e->node = e->p->values[table].node; /* features are scattered where they are stored: with the table */
    int32_t ids = berth_emit_input(e, "token_ids", BERTH_INPUT_TOKEN_IDS, BERTH_I32, BERTH_SHAPE(TOKENS));
    berth_emit_op op = {.kind = BERTH_OP_EMBED,
                        .leaf = vision ? "tokens" : "embed",
                        .shape = BERTH_SHAPE(TOKENS, BERTH_NUM(d->c->hidden)),
                        .in = {ids, table},
                        .n_in = 2};
    int32_t x = berth_emit(e, &op);
    if (vision) {
        int32_t features = berth_emit_features(e);
        int32_t src = berth_emit_input(e, "image_src", BERTH_INPUT_IMAGE_SRC, BERTH_I32, rows);
        int32_t dst = berth_emit_input(e, "image_dst", BERTH_INPUT_IMAGE_DST, BERTH_I32, rows);
        berth_emit_op scatter = {.kind = BERTH_OP_SCATTER_ROWS,
                                 .leaf = "embed",
                                 .shape = op.shape,
                                 .in = {x, features, src, dst},
                                 .n_in = 4};
        x = berth_emit(e, &scatter);
    }
    berth_emit_mark_traced(e, x);
    return x;
}

/* Inputs of attention, and the table of angles: made on every device that reads it rather than carried there. */
static void prepare(decoder *d)
{
    berth_emitter *e = &d->e;
    berth_shape tokens = BERTH_SHAPE(TOKENS);
    berth_dim seqs = BERTH_SYM(1, BERTH_SYM_SEQS);
    d->positions = berth_emit_input(e, "positions", BERTH_INPUT_POSITIONS, BERTH_I32, tokens);
    d->token_seq = berth_emit_input(e, "token_seq", BERTH_INPUT_TOKEN_SEQ, BERTH_I32, tokens);
    d->slots = berth_emit_input(e, "kv_slots", BERTH_INPUT_SLOTS, BERTH_I32, tokens);
    d->block_table = berth_emit_input(e, "block_table", BERTH_INPUT_BLOCK_TABLE, BERTH_I32,
                                      BERTH_SHAPE(seqs, BERTH_NUM(e->options->max_blocks)));
    int32_t freq = berth_emit_input(e, "inv_freq", BERTH_INPUT_INV_FREQ, BERTH_F32,
                                    BERTH_SHAPE(seqs, BERTH_NUM(d->c->head_dim / 2)));
    e->node = module(d, d->c->n_layers > 0 ? BERTH_M_TEXT_ATTN : BERTH_M_TEXT, d->c->n_layers > 0 ? 0 : -1);
    e->prefix = "text";
    berth_emit_op op = {.kind = BERTH_OP_ROPE_TABLE,
                        .leaf = "rope",
                        .shape = BERTH_SHAPE(TOKENS, BERTH_NUM(2), BERTH_NUM(d->c->head_dim / 2)),
                        .in = {d->positions, d->token_seq, freq},
                        .n_in = 3,
                        .replicate = true};
    d->rope = berth_emit(e, &op);
}

/* q or k of the current layer: projected, normalised by head where the model does, rotated. */
static int32_t rotated(decoder *d, int32_t h, bool is_q)
{
    berth_emitter *e = &d->e;
    berth_shape shape =
        BERTH_SHAPE(TOKENS, BERTH_NUM(is_q ? d->c->n_heads : d->c->n_kv_heads), BERTH_NUM(d->c->head_dim));
    int32_t x = is_q ? berth_emit_linear(e, "q", h, BERTH_T_Q_W, BERTH_T_Q_B, shape)
                     : berth_emit_linear(e, "k", h, BERTH_T_K_W, BERTH_T_K_B, shape);
    if (d->c->qk_norm)
        x = berth_emit_norm(e, is_q ? "q_norm" : "k_norm", x, BERTH_NORM_RMS, is_q ? BERTH_T_QNORM_W : BERTH_T_KNORM_W,
                            BERTH_ROLE_COUNT, d->c->rms_eps);
    berth_emit_op rope = {
        .kind = BERTH_OP_ROPE, .leaf = is_q ? "q_rope" : "k_rope", .shape = shape, .in = {x, d->rope}, .n_in = 2};
    return berth_emit(e, &rope);
}

static int32_t attention(decoder *d, int32_t h)
{
    berth_emitter *e = &d->e;
    const berth_text_config *c = d->c;
    int64_t block = e->options->block;
    int32_t q = rotated(d, h, true), k = rotated(d, h, false);
    int32_t v = berth_emit_linear(e, "v", h, BERTH_T_V_W, BERTH_T_V_B,
                                  BERTH_SHAPE(TOKENS, BERTH_NUM(c->n_kv_heads), BERTH_NUM(c->head_dim)));
    int32_t kv = berth_emit_state(e, "kv", BERTH_STATE_KV,
                                  BERTH_SHAPE(BERTH_NUM(e->options->n_blocks), BERTH_NUM(2), BERTH_NUM(c->n_kv_heads),
                                              BERTH_NUM(block), BERTH_NUM(c->head_dim)));
    berth_op_attrs attrs = {
        .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .block = e->options->block};
    attrs.scale = (float)(1.0 / sqrt((double)c->head_dim));
    berth_emit_op append = {.kind = BERTH_OP_KV_APPEND, .in = {k, v, d->slots}, .n_in = 3, .attrs = attrs};
    berth_emit_into(e, &append, kv);
    berth_emit_op attend = {.kind = BERTH_OP_ATTENTION_PAGED,
                            .leaf = "context",
                            .shape = BERTH_SHAPE(TOKENS, BERTH_NUM(c->n_heads), BERTH_NUM(c->head_dim)),
                            .in = {q, kv, d->positions, d->token_seq, d->block_table},
                            .n_in = 5,
                            .attrs = attrs};
    return berth_emit_linear(e, "attn", berth_emit(e, &attend), BERTH_T_O_W, BERTH_ROLE_COUNT,
                             BERTH_SHAPE(TOKENS, BERTH_NUM(c->hidden)));
}

static int32_t mlp(decoder *d, int32_t h)
{
    berth_emitter *e = &d->e;
    berth_shape wide = BERTH_SHAPE(TOKENS, BERTH_NUM(d->c->ffn));
    int32_t gate = berth_emit_linear(e, "gate", h, BERTH_T_GATE_W, BERTH_ROLE_COUNT, wide);
    int32_t up = berth_emit_linear(e, "up", h, BERTH_T_UP_W, BERTH_ROLE_COUNT, wide);
    int32_t act = berth_emit_same(e, BERTH_OP_SILU_MUL, "act", gate, up);
    return berth_emit_linear(e, "mlp", act, BERTH_T_DOWN_W, BERTH_ROLE_COUNT,
                             BERTH_SHAPE(TOKENS, BERTH_NUM(d->c->hidden)));
}

static int32_t layer(decoder *d, int32_t i, int32_t x)
{
    berth_emitter *e = &d->e;
    e->layer = i;
    e->prefix = "text.layer";
    int32_t whole = module(d, BERTH_M_TEXT_LAYER, i);
    int32_t h = berth_emit_norm(e, "norm1", x, BERTH_NORM_RMS, BERTH_T_NORM1_W, BERTH_ROLE_COUNT, d->c->rms_eps);
    e->node = module(d, BERTH_M_TEXT_ATTN, i);
    int32_t a = attention(d, h);
    if (i == 0) berth_emit_mark_traced(e, a);
    e->node = whole;
    x = berth_emit_same(e, BERTH_OP_ADD, "mid", x, a);
    h = berth_emit_norm(e, "norm2", x, BERTH_NORM_RMS, BERTH_T_NORM2_W, BERTH_ROLE_COUNT, d->c->rms_eps);
    e->node = module(d, BERTH_M_TEXT_MLP, i);
    int32_t m = mlp(d, h);
    if (i == 0) berth_emit_mark_traced(e, m);
    e->node = whole;
    x = berth_emit_same(e, BERTH_OP_ADD, "", x, m);
    berth_emit_mark_traced(e, x);
    return x;
}

/* The wanted rows first, on the last layer's device, so that only those are carried, normalised and projected. The logits
 * stay where they are made: what the host gets are their statistics, and the best of rows that are sampled from. */
static void head(decoder *d, int32_t x)
{
    berth_emitter *e = &d->e;
    berth_dim n = BERTH_SYM(1, BERTH_SYM_LOGITS);
    e->layer = -1;
    e->prefix = "text";
    int32_t rows = berth_emit_input(e, "logit_rows", BERTH_INPUT_LOGIT_ROWS, BERTH_I32, BERTH_SHAPE(n));
    if (d->c->n_layers == 0) e->node = module(d, BERTH_M_TEXT_NORM, -1);
    berth_emit_op gather = {.kind = BERTH_OP_GATHER_ROWS,
                            .leaf = "rows",
                            .shape = BERTH_SHAPE(n, BERTH_NUM(d->c->hidden)),
                            .in = {x, rows},
                            .n_in = 2};
    x = berth_emit_norm(e, "norm", berth_emit(e, &gather), BERTH_NORM_RMS, BERTH_T_NORM_W, BERTH_ROLE_COUNT,
                        d->c->rms_eps);
    berth_emit_mark_traced(e, x);
    e->node = module(d, BERTH_M_HEAD, -1);
    e->prefix = "";
    int32_t logits =
        berth_emit_linear(e, "logits", x, BERTH_T_HEAD, BERTH_ROLE_COUNT, BERTH_SHAPE(n, BERTH_NUM(d->c->vocab)));
    berth_emit_mark_traced(e, logits);
    berth_emit_mark_kept(e, logits);
    /* On the head's device, whatever its parts: the module of the head's own weight. */
    if (e->status == BERTH_OK) e->node = e->p->values[logits].node;
    berth_emit_op stats = {.kind = BERTH_OP_LOGIT_STATS,
                           .leaf = "logits.stats",
                           .shape = BERTH_SHAPE(n, BERTH_NUM(BERTH_LOGIT_STATS)),
                           .in = {logits},
                           .n_in = 1};
    berth_emit_mark_output(e, berth_emit(e, &stats));
    berth_dim m = BERTH_SYM(1, BERTH_SYM_BEST);
    int32_t best_rows = berth_emit_input(e, "best_rows", BERTH_INPUT_BEST_ROWS, BERTH_I32, BERTH_SHAPE(m));
    int32_t scales = berth_emit_input(e, "best_scales", BERTH_INPUT_BEST_SCALES, BERTH_F32, BERTH_SHAPE(m));
    berth_emit_op best = {.kind = BERTH_OP_LOGIT_BEST,
                          .leaf = "logits.best",
                          .shape = BERTH_SHAPE(m, BERTH_NUM(BERTH_LOGIT_BEST)),
                          .in = {logits, best_rows, scales},
                          .n_in = 3};
    berth_emit_mark_output(e, berth_emit(e, &best));
}

berth_status berth_build_decoder(const berth_model_data *m, const berth_build_options *options, berth_program **out,
                                 berth_error *err)
{
    decoder d = {.c = &berth_model_data_config(m)->text};
    berth_emit_begin(&d.e, "step", m, options, err);
    int32_t x = embed(&d);
    prepare(&d);
    for (int32_t i = 0; i < d.c->n_layers; i++) x = layer(&d, i, x);
    head(&d, x);
    return berth_emit_done(&d.e, out);
}
