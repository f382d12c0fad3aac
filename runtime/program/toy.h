/* toy.h - for tests: a small module tree and a program over it, on three devices. */
#ifndef BERTH_PROGRAM_TOY_H
#define BERTH_PROGRAM_TOY_H

#include "program/passes.h"

enum {
    TOY_ROOT,
    TOY_VISION,  /* "vision_model" */
    TOY_PROJ,    /* "vision_model.proj" */
    TOY_PROJ_W,  /* .weight */
    TOY_PROJ_B,  /* .bias */
    TOY_TEXT,    /* "language_model" */
    TOY_LAYERS,  /* "language_model.layers" */
    TOY_LAYER0,  /* ".0", not to be split */
    TOY_NORM0,   /* ".norm" */
    TOY_NORM0_W, /* ".weight" */
    TOY_LAYER1,  /* ".1", not to be split */
    TOY_NORM1,
    TOY_NORM1_W,
    TOY_HEAD, /* "lm_head" */
    TOY_HEAD_W,
    TOY_NODES
};

extern const berth_node_view toy_nodes[TOY_NODES];
extern const char *const toy_devices[3]; /* "cpu:0" .. */
berth_strategy_input toy_input(void);

/* device_of by node for a placement named "toy"; the caller destroys. */
berth_placement *toy_placement(const int32_t device_of[TOY_NODES]);
/* vision on `vision`, layer 0 on `layer0`, the rest on `rest`. */
berth_placement *toy_split(int32_t vision, int32_t layer0, int32_t rest);
berth_pass_env toy_env(const berth_placement *placement);

/* pixels [tiles,3,4,4] -> patches -> proj "vision.a" [tiles,4,6] -> layer 0: norm "layer.0.n", gelu "layer.0.g", add
 * "layer.0" -> layer 1: the same, and "layer.1.b" = "layer.1" + "vision.a" -> head "logits" [tiles,4,5], an output.
 * Values' names as quoted; "layer.0" and "layer.1" are traced. */
berth_program *toy_program(void);

/* toy_program through place, route and check; through allot and check_memory too. Fail the test when one refuses. */
berth_program *toy_routed(const berth_pass_env *env);
berth_program *toy_allotted(const berth_pass_env *env, const berth_allot_options *options);

/* Index of the op that makes value `name`. Fails the test when there is none. */
int32_t toy_op(const berth_program *p, const char *name);

#endif
