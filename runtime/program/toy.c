#include "program/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "program/placement_internal.h"

#define NODE(p, c, up, below, f)                                                                                       \
    {                                                                                                                  \
        .path = (p), .class_name = (c), .parent = (up), .n_descendants = (below), .flags = (f), .tied_to = -1          \
    }

const berth_node_view toy_nodes[TOY_NODES] = {
    [TOY_ROOT] = NODE("", "Toy", -1, TOY_NODES - 1, 0),
    [TOY_VISION] = NODE("vision_model", "Vision", TOY_ROOT, 3, 0),
    [TOY_PROJ] = NODE("vision_model.proj", "Linear", TOY_VISION, 2, 0),
    [TOY_PROJ_W] = NODE("vision_model.proj.weight", "", TOY_PROJ, 0, BERTH_NODE_TENSOR),
    [TOY_PROJ_B] = NODE("vision_model.proj.bias", "", TOY_PROJ, 0, BERTH_NODE_TENSOR),
    [TOY_TEXT] = NODE("language_model", "Text", TOY_ROOT, 7, 0),
    [TOY_LAYERS] = NODE("language_model.layers", "ModuleList", TOY_TEXT, 6, 0),
    [TOY_LAYER0] = NODE("language_model.layers.0", "Layer", TOY_LAYERS, 2, BERTH_NODE_NO_SPLIT),
    [TOY_NORM0] = NODE("language_model.layers.0.norm", "Norm", TOY_LAYER0, 1, 0),
    [TOY_NORM0_W] = NODE("language_model.layers.0.norm.weight", "", TOY_NORM0, 0, BERTH_NODE_TENSOR),
    [TOY_LAYER1] = NODE("language_model.layers.1", "Layer", TOY_LAYERS, 2, BERTH_NODE_NO_SPLIT),
    [TOY_NORM1] = NODE("language_model.layers.1.norm", "Norm", TOY_LAYER1, 1, 0),
    [TOY_NORM1_W] = NODE("language_model.layers.1.norm.weight", "", TOY_NORM1, 0, BERTH_NODE_TENSOR),
    [TOY_HEAD] = NODE("lm_head", "Linear", TOY_ROOT, 1, 0),
    [TOY_HEAD_W] = {.path = "lm_head.weight",
                    .class_name = "",
                    .parent = TOY_HEAD,
                    .flags = BERTH_NODE_TENSOR,
                    .tied_to = TOY_PROJ_W},
};

const char *const toy_devices[3] = {"cpu:0", "cpu:1", "cpu:2"};

static const berth_device_view views[3] = {{.name = "cpu:0", .budget_bytes = 1 << 30},
                                           {.name = "cpu:1", .budget_bytes = 1 << 30},
                                           {.name = "cpu:2", .budget_bytes = 1 << 30}};

berth_strategy_input toy_input(void)
{
    return (berth_strategy_input){.struct_size = sizeof(berth_strategy_input),
                                  .nodes = toy_nodes,
                                  .node_size = sizeof toy_nodes[0],
                                  .n_nodes = TOY_NODES,
                                  .devices = views,
                                  .device_size = sizeof views[0],
                                  .n_devices = 3};
}

berth_placement *toy_placement(const int32_t device_of[TOY_NODES])
{
    berth_strategy_input in = toy_input();
    berth_placement *p;
    berth_error err = {0};
    if (berth_placement_create(&in, 1, &p, &err) != BERTH_OK) fail_msg("%s", err.message);
    memcpy(p->device_of, device_of, TOY_NODES * sizeof *device_of);
    snprintf(p->strategy, sizeof p->strategy, "toy");
    return p;
}

berth_placement *toy_split(int32_t vision, int32_t layer0, int32_t rest)
{
    int32_t device_of[TOY_NODES];
    for (int i = 0; i < TOY_NODES; i++) device_of[i] = -1;
    device_of[TOY_VISION] = vision;
    device_of[TOY_LAYER0] = layer0;
    device_of[TOY_LAYER1] = device_of[TOY_HEAD] = rest;
    return toy_placement(device_of);
}

berth_pass_env toy_env(const berth_placement *placement)
{
    return (berth_pass_env){
        .nodes = toy_nodes, .n_nodes = TOY_NODES, .n_devices = 3, .device_names = toy_devices, .placement = placement};
}

static int32_t value(berth_program *p, const char *name, berth_value_kind kind, int32_t node, int32_t n,
                     const berth_dim *dims)
{
    berth_value v = {.kind = kind,
                     .n_dims = n,
                     .param = -1,
                     .layer = -1,
                     .node = node,
                     .device = BERTH_DEVICE_NONE,
                     .origin = BERTH_NO_VALUE,
                     .producer = BERTH_NO_OP};
    snprintf(v.name, sizeof v.name, "%s", name);
    memcpy(v.dims, dims, (size_t)n * sizeof *dims);
    if (kind == BERTH_VALUE_INPUT) v.input = BERTH_INPUT_PIXELS;
    return berth_program_add_value(p, &v);
}

static int32_t emit(berth_program *p, berth_op_kind kind, const char *name, int32_t node, int32_t layer,
                    const berth_dim shape[3], int32_t a, int32_t b, int32_t c)
{
    berth_op op = {.kind = kind, .in = {a, b, c}, .node = node, .layer = layer, .device = BERTH_DEVICE_NONE};
    op.n_in = 1 + (b >= 0) + (c >= 0);
    op.attrs = (berth_op_attrs){.patch = 2, .eps = 1e-6f};
    op.out = value(p, name, BERTH_VALUE_ACTIVATION, node, 3, shape);
    p->values[op.out].layer = layer;
    berth_program_add_op(p, &op);
    return op.out;
}

static int32_t layer(berth_program *p, int32_t i, int32_t x, const berth_dim six[3])
{
    char name[32];
    int32_t whole = i ? TOY_LAYER1 : TOY_LAYER0, tensor = i ? TOY_NORM1_W : TOY_NORM0_W;
    snprintf(name, sizeof name, "norm.%d.weight", i);
    int32_t w = value(p, name, BERTH_VALUE_WEIGHT, tensor, 1, &six[2]);
    snprintf(name, sizeof name, "layer.%d.n", i);
    int32_t n = emit(p, BERTH_OP_RMS_NORM, name, tensor, i, six, x, w, -1);
    snprintf(name, sizeof name, "layer.%d.g", i);
    int32_t g = emit(p, BERTH_OP_GELU, name, whole, i, six, n, -1, -1);
    snprintf(name, sizeof name, "layer.%d", i);
    int32_t y = emit(p, BERTH_OP_ADD, name, whole, i, six, x, g, -1);
    p->values[y].is_traced = true;
    return y;
}

berth_program *toy_program(void)
{
    const berth_dim tiles = {1, BERTH_SYM_TILES}, n3 = {3, 0}, n4 = {4, 0}, n5 = {5, 0}, n6 = {6, 0}, n12 = {12, 0};
    const berth_dim pixels[] = {tiles, n3, n4, n4}, patches[] = {tiles, n4, n12}, six[] = {tiles, n4, n6},
                    five[] = {tiles, n4, n5};
    const berth_dim proj[] = {n6, n12}, head[] = {n5, n6};
    berth_sizes bounds = {.value = {1, 7}};
    berth_program *p = berth_program_create("toy", &bounds);
    int32_t x = value(p, "pixels", BERTH_VALUE_INPUT, -1, 4, pixels);
    int32_t w = value(p, "proj.weight", BERTH_VALUE_WEIGHT, TOY_PROJ_W, 2, proj),
            b = value(p, "proj.bias", BERTH_VALUE_WEIGHT, TOY_PROJ_B, 1, &n6);
    x = emit(p, BERTH_OP_PATCHIFY, "patches", TOY_PROJ_W, -1, patches, x, -1, -1);
    int32_t a = emit(p, BERTH_OP_LINEAR, "vision.a", TOY_PROJ_W, -1, six, x, w, b);
    x = layer(p, 1, layer(p, 0, a, six), six);
    x = emit(p, BERTH_OP_ADD, "layer.1.b", TOY_LAYER1, 1, six, x, a, -1);
    w = value(p, "head.weight", BERTH_VALUE_WEIGHT, TOY_HEAD_W, 2, head);
    x = emit(p, BERTH_OP_LINEAR, "logits", TOY_HEAD_W, -1, five, x, w, -1);
    p->values[x].is_output = true;
    return p;
}

int32_t toy_op(const berth_program *p, const char *name)
{
    int32_t v = berth_program_find(p, name);
    if (v < 0 || p->values[v].producer < 0) fail_msg("no op makes %s", name);
    return p->values[v].producer;
}

berth_program *toy_routed(const berth_pass_env *env)
{
    berth_error err = {0};
    berth_program *p = toy_program();
    if (berth_place(p, env, &err) != BERTH_OK || berth_route(p, env, &err) != BERTH_OK ||
        berth_check(p, env, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    return p;
}

berth_program *toy_allotted(const berth_pass_env *env, const berth_allot_options *options)
{
    berth_error err = {0};
    berth_program *p = toy_routed(env);
    if (berth_allot(p, options, &err) != BERTH_OK || berth_check_memory(p, env, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    return p;
}
