/* arch_internal.h - the pen that architecture files write programs with, and the parts they share.
 *
 * The emitter goes on after a failure (out of memory, a parameter the model lacks) and remembers it: builders emit in
 * one go and ask once, at berth_emit_done. */
#ifndef BERTH_ARCH_INTERNAL_H
#define BERTH_ARCH_INTERNAL_H

#include "arch/arch.h"

extern const berth_arch berth_arch_internvl, berth_arch_qwen;

#define BERTH_NUM(x)    ((berth_dim){.n = (x)})
#define BERTH_SYM(x, s) ((berth_dim){.n = (x), .sym = (s)})

/* A shape: n dims, as a literal: BERTH_SHAPE(BERTH_SYM(1, BERTH_SYM_TOKENS), BERTH_NUM(D)). */
typedef struct berth_shape {
    int32_t n;
    berth_dim dims[BERTH_VALUE_DIMS];
} berth_shape;
#define BERTH_SHAPE_COUNT(...) ((int32_t)(sizeof((berth_dim[]){__VA_ARGS__}) / sizeof(berth_dim)))
#define BERTH_SHAPE(...)       ((berth_shape){.n = BERTH_SHAPE_COUNT(__VA_ARGS__), .dims = {__VA_ARGS__}})

typedef struct berth_emitter {
    const berth_model_data *m;
    const berth_build_options *options;
    berth_program *p;
    int32_t node;       /* module of the ops that follow, unless they have a weight of their own */
    int32_t layer;      /* of the ops and values that follow; -1 = outside layers */
    const char *prefix; /* "text.layer"; with a layer, names become "text.layer.3.q" */
    berth_status status;
    berth_error *err;
} berth_emitter;

/* Begins a program; the caller sets node, layer and prefix as it goes. */
void berth_emit_begin(berth_emitter *e, const char *name, const berth_model_data *m, const berth_build_options *options,
                      berth_error *err);
/* Ends it: the program, which the caller owns, or why there is none. */
berth_status berth_emit_done(berth_emitter *e, berth_program **out);

/* Everything below gives a value's index, or -1 after a failure. Names: `leaf` alone names "prefix.layer.leaf"
 * ("prefix.layer" when leaf is ""), or "prefix.leaf" outside layers, or "leaf" when there is no prefix either. */
int32_t berth_emit_input(berth_emitter *e, const char *name, berth_input_key key, berth_dtype dtype, berth_shape shape);
int32_t berth_emit_state(berth_emitter *e, const char *leaf, berth_state_key key, berth_shape shape);
int32_t berth_emit_weight(berth_emitter *e,
                          berth_role role); /* of the current layer; an error when the model has none */
bool berth_emit_has(const berth_emitter *e, berth_role role);

/* One op with fp32 output of `shape`, in module e->node; weights among `in` decide the module: that of the first. */
typedef struct berth_emit_op {
    berth_op_kind kind;
    const char *leaf;
    berth_shape shape;
    int32_t in[BERTH_OP_INPUTS], n_in;
    berth_op_attrs attrs;
    bool replicate;
} berth_emit_op;
int32_t berth_emit(berth_emitter *e, const berth_emit_op *op);

/* As berth_emit, writing state `state`. */
void berth_emit_into(berth_emitter *e, const berth_emit_op *op, int32_t state);

/* y = x w^T (+ bias when the model has one; bias BERTH_ROLE_COUNT = never). */
int32_t berth_emit_linear(berth_emitter *e, const char *leaf, int32_t x, berth_role w, berth_role bias,
                          berth_shape shape);
/* LayerNorm or RMSNorm of `x` over its last dimension. */
int32_t berth_emit_norm(berth_emitter *e, const char *leaf, int32_t x, berth_norm norm, berth_role w, berth_role b,
                        float eps);
/* Same shape as in[0]. */
int32_t berth_emit_same(berth_emitter *e, berth_op_kind kind, const char *leaf, int32_t a, int32_t b);

void berth_emit_mark_traced(berth_emitter *e, int32_t value); /* and output, when tracing */
void berth_emit_mark_output(berth_emitter *e, int32_t value);
void berth_emit_mark_kept(berth_emitter *e, int32_t value);
berth_shape berth_emit_shape_of(const berth_emitter *e, int32_t value);

/* decoder.c: the language model of both architectures: token ids (and features) to logits. */
berth_status berth_build_decoder(const berth_model_data *m, const berth_build_options *options, berth_program **out,
                                 berth_error *err);

/* The feature store as both programs see it. */
int32_t berth_emit_features(berth_emitter *e);

#endif
