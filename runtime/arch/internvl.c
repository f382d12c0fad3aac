/* internvl.c - InternVL3 and InternVL3.5: a ViT tower, pixel shuffle and projector as the program `encode`, and the
 * decoder as `step`.
 *
 * encode's last op stores the features with the embedding that will read them, so that they cross devices once a
 * picture and not once a step. Easy to get wrong: the tower ends without a norm; q and k norms (6B) run over all of
 * C, before heads are cut. Source: InternVL modeling_intern_vit.py, modeling_internvl_chat.py. */
#include <math.h>

#include "arch/arch_internal.h"

typedef struct tower {
    berth_emitter e;
    const berth_vision_config *c;
    berth_shape stream; /* [tiles, 1 + P, C] */
} tower;

#define TILES BERTH_SYM(1, BERTH_SYM_TILES)

static int32_t module(const tower *t, berth_module_role role, int32_t layer)
{
    return berth_model_data_module(t->e.m, role, layer);
}

static int32_t embed(tower *t)
{
    berth_emitter *e = &t->e;
    const berth_vision_config *c = t->c;
    berth_dim side = BERTH_NUM(c->image_size), patches = BERTH_NUM(c->n_patches);
    e->node = module(t, BERTH_M_VISION_EMBED, -1);
    e->prefix = "vision";
    int32_t pixels = berth_emit_input(e, "pixel_values", BERTH_INPUT_PIXELS, BERTH_F32,
                                      BERTH_SHAPE(TILES, BERTH_NUM(3), side, side));
    int32_t patch_w = berth_emit_weight(e, BERTH_V_PATCH_W);
    if (e->status == BERTH_OK) e->node = e->p->values[patch_w].node; /* cutting patches runs where they are projected */
    berth_emit_op cut = {.kind = BERTH_OP_PATCHIFY,
                         .leaf = "pixels",
                         .shape = BERTH_SHAPE(TILES, patches, BERTH_NUM((int64_t)3 * c->patch * c->patch)),
                         .in = {pixels},
                         .n_in = 1,
                         .attrs.patch = c->patch};
    berth_emit_op project = {.kind = BERTH_OP_LINEAR,
                             .leaf = "patches",
                             .shape = BERTH_SHAPE(TILES, patches, BERTH_NUM(c->hidden)),
                             .in = {berth_emit(e, &cut), patch_w},
                             .n_in = 2};
    if (berth_emit_has(e, BERTH_V_PATCH_B)) project.in[project.n_in++] = berth_emit_weight(e, BERTH_V_PATCH_B);
    int32_t x = berth_emit(e, &project), cls = berth_emit_weight(e, BERTH_V_CLS),
            pos = berth_emit_weight(e, BERTH_V_POS);
    berth_emit_op add = {
        .kind = BERTH_OP_VISION_EMBED, .leaf = "embed", .shape = t->stream, .in = {x, cls, pos}, .n_in = 3};
    x = berth_emit(e, &add);
    berth_emit_mark_traced(e, x);
    return x;
}

static int32_t attention(tower *t, int32_t h)
{
    berth_emitter *e = &t->e;
    const berth_vision_config *c = t->c;
    int32_t q = berth_emit_linear(e, "q", h, BERTH_V_Q_W, BERTH_V_Q_B, t->stream);
    int32_t k = berth_emit_linear(e, "k", h, BERTH_V_K_W, BERTH_V_K_B, t->stream);
    int32_t v = berth_emit_linear(e, "v", h, BERTH_V_V_W, BERTH_V_V_B, t->stream);
    if (c->qk_norm) {
        q = berth_emit_norm(e, "q_norm", q, BERTH_NORM_RMS, BERTH_V_QNORM_W, BERTH_ROLE_COUNT, c->qk_norm_eps);
        k = berth_emit_norm(e, "k_norm", k, BERTH_NORM_RMS, BERTH_V_KNORM_W, BERTH_ROLE_COUNT, c->qk_norm_eps);
    }
    berth_emit_op attend = {
        .kind = BERTH_OP_ATTENTION_FULL, .leaf = "context", .shape = t->stream, .in = {q, k, v}, .n_in = 3};
    attend.attrs = (berth_op_attrs){.n_heads = c->n_heads, .n_kv_heads = c->n_heads, .head_dim = c->head_dim};
    attend.attrs.scale = (float)(1.0 / sqrt((double)c->head_dim));
    return berth_emit_linear(e, "attn", berth_emit(e, &attend), BERTH_V_O_W, BERTH_V_O_B, t->stream);
}

static int32_t mlp(tower *t, int32_t h)
{
    berth_emitter *e = &t->e;
    berth_shape wide = BERTH_SHAPE(TILES, BERTH_NUM(1 + (int64_t)t->c->n_patches), BERTH_NUM(t->c->ffn));
    int32_t x = berth_emit_linear(e, "fc1", h, BERTH_V_FC1_W, BERTH_V_FC1_B, wide);
    x = berth_emit_same(e, BERTH_OP_GELU, "gelu", x, BERTH_NO_VALUE);
    return berth_emit_linear(e, "mlp", x, BERTH_V_FC2_W, BERTH_V_FC2_B, t->stream);
}

/* x + scale * delta */
static int32_t residual(tower *t, const char *leaf, int32_t x, int32_t delta, berth_role scale)
{
    berth_emit_op op = {.kind = BERTH_OP_SCALE_ADD,
                        .leaf = leaf,
                        .shape = t->stream,
                        .in = {x, delta, berth_emit_weight(&t->e, scale)},
                        .n_in = 3};
    return berth_emit(&t->e, &op);
}

static int32_t block(tower *t, int32_t i, int32_t x)
{
    berth_emitter *e = &t->e;
    e->layer = i;
    e->prefix = "vision.layer";
    int32_t h = berth_emit_norm(e, "norm1", x, t->c->norm, BERTH_V_NORM1_W, BERTH_V_NORM1_B, t->c->norm_eps);
    e->node = module(t, BERTH_M_VISION_ATTN, i);
    int32_t a = attention(t, h);
    if (i == 0) berth_emit_mark_traced(e, a);
    x = residual(t, "mid", x, a, BERTH_V_LS1);
    h = berth_emit_norm(e, "norm2", x, t->c->norm, BERTH_V_NORM2_W, BERTH_V_NORM2_B, t->c->norm_eps);
    e->node = module(t, BERTH_M_VISION_MLP, i);
    int32_t m = mlp(t, h);
    if (i == 0) berth_emit_mark_traced(e, m);
    x = residual(t, "", x, m, BERTH_V_LS2);
    berth_emit_mark_traced(e, x);
    return x;
}

static int32_t project(tower *t, int32_t x)
{
    berth_emitter *e = &t->e;
    const berth_vision_config *c = t->c;
    int64_t wide = (int64_t)c->downsample * c->downsample * c->hidden;
    berth_dim rows = BERTH_NUM(c->tokens_per_tile);
    berth_shape out = BERTH_SHAPE(TILES, rows, BERTH_NUM(berth_model_data_config(e->m)->text.hidden));
    if (e->status == BERTH_OK)
        e->node = e->p->ops[e->p->n_ops - 1].node; /* dropping a row is the last block's affair */
    e->layer = -1;
    e->prefix = "vision";
    berth_emit_op drop = {.kind = BERTH_OP_DROP_CLS,
                          .leaf = "out",
                          .shape = BERTH_SHAPE(TILES, BERTH_NUM(c->n_patches), BERTH_NUM(c->hidden)),
                          .in = {x},
                          .n_in = 1};
    x = berth_emit(e, &drop);
    berth_emit_mark_traced(e, x);
    e->node = module(t, BERTH_M_PROJECTOR, -1);
    berth_emit_op shuffle = {.kind = BERTH_OP_PIXEL_SHUFFLE,
                             .leaf = "shuffled",
                             .shape = BERTH_SHAPE(TILES, rows, BERTH_NUM(wide)),
                             .in = {x},
                             .n_in = 1};
    shuffle.attrs = (berth_op_attrs){.factor = c->downsample, .transposed = c->shuffle_transposed};
    x = berth_emit(e, &shuffle);
    berth_emit_mark_traced(e, x);
    e->prefix = "projector";
    x = berth_emit_norm(e, "norm", x, BERTH_NORM_LAYER, BERTH_P_NORM_W, BERTH_P_NORM_B, c->projector_eps);
    x = berth_emit_linear(e, "fc1", x, BERTH_P_FC1_W, BERTH_P_FC1_B, out);
    if (e->status == BERTH_OK) e->node = e->p->values[x].node;
    x = berth_emit_same(e, BERTH_OP_GELU, "gelu", x, BERTH_NO_VALUE);
    x = berth_emit_linear(e, "out", x, BERTH_P_FC2_W, BERTH_P_FC2_B, out);
    berth_emit_mark_traced(e, x);
    return x;
}

static void store(tower *t, int32_t x)
{
    berth_emitter *e = &t->e;
    int32_t table = berth_model_data_find(e->m, BERTH_T_EMBED, -1);
    e->node = table >= 0 ? berth_model_data_param(e->m, table)->node : module(t, BERTH_M_EMBED, -1);
    e->prefix = "";
    int32_t features = berth_emit_features(e);
    int32_t rows = berth_emit_input(e, "feature_rows", BERTH_INPUT_FEATURE_ROWS, BERTH_I32,
                                    BERTH_SHAPE(BERTH_SYM(t->c->tokens_per_tile, BERTH_SYM_TILES)));
    berth_emit_op op = {.kind = BERTH_OP_STORE_ROWS, .in = {x, rows}, .n_in = 2};
    berth_emit_into(e, &op, features);
}

static berth_status build_tower(const berth_model_data *m, const berth_build_options *options, berth_program **out,
                                berth_error *err)
{
    tower t = {.c = &berth_model_data_config(m)->vision};
    t.stream = BERTH_SHAPE(TILES, BERTH_NUM(1 + (int64_t)t.c->n_patches), BERTH_NUM(t.c->hidden));
    berth_emit_begin(&t.e, "encode", m, options, err);
    int32_t x = embed(&t);
    for (int32_t i = 0; i < t.c->n_layers; i++) x = block(&t, i, x);
    store(&t, project(&t, x));
    return berth_emit_done(&t.e, out);
}

static bool can(const berth_model_config *config)
{
    return config->has_vision &&
           (config->layout == BERTH_LAYOUT_INTERNVL || config->layout == BERTH_LAYOUT_INTERNVL_CHAT);
}

static berth_status build(const berth_model_data *m, const berth_build_options *options, berth_programs *out,
                          berth_error *err)
{
    berth_status st = build_tower(m, options, &out->encode, err);
    return st == BERTH_OK ? berth_build_decoder(m, options, &out->step, err) : st;
}

const berth_arch berth_arch_internvl = {
    .name = "internvl",
    .about = "InternVL3 and InternVL3.5 (both layouts) with Qwen2 or Qwen3",
    .can = can,
    .build = build,
};
