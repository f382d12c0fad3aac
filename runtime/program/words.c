/* words.c - how passes speak of ops, values, devices and the decisions that put them there. */
#include <stdlib.h>
#include <string.h>

#include "program/placement_internal.h"
#include "program/program_internal.h"

const char *berth_word_device(const berth_pass_env *env, int32_t device)
{
    if (device == BERTH_DEVICE_HOST) return "the host";
    if (device < 0 || device >= env->n_devices) return "no device";
    return env->device_names[device];
}

const char *berth_word_path(const berth_pass_env *env, int32_t node)
{
    if (node < 0 || node >= env->n_nodes) return "";
    return env->nodes[node].path[0] ? env->nodes[node].path : "the model";
}

const char *berth_word_value(const berth_program *p, int32_t value)
{
    return value >= 0 && value < p->n_values ? p->values[value].name : "?";
}

const char *berth_word_op(berth_op_kind kind)
{
    return (int)kind >= 0 && (int)kind < BERTH_OP_KIND_COUNT ? berth_op_infos[kind].name : "?";
}

int32_t berth_word_module(const berth_pass_env *env, int32_t node)
{
    if (node < 0 || node >= env->n_nodes) return -1;
    return env->nodes[node].flags & BERTH_NODE_TENSOR ? env->nodes[node].parent : node;
}

void berth_say_op(const berth_program *p, const berth_pass_env *env, int32_t op, berth_buffer *out)
{
    const berth_op *o = &p->ops[op];
    berth_buffer_printf(out, "op %d %s \"%s\"", op, berth_word_op(o->kind), berth_word_value(p, o->out));
    const char *path = berth_word_path(env, o->node);
    if (path[0] && o->layer >= 0)
        berth_buffer_printf(out, " (%s, layer %d)", path, o->layer);
    else if (path[0])
        berth_buffer_printf(out, " (%s)", path);
    else if (o->layer >= 0)
        berth_buffer_printf(out, " (layer %d)", o->layer);
}

static berth_strategy_input input_of(const berth_pass_env *env)
{
    return (berth_strategy_input){.struct_size = sizeof(berth_strategy_input),
                                  .nodes = env->nodes,
                                  .node_size = sizeof *env->nodes,
                                  .n_nodes = env->n_nodes,
                                  .n_devices = env->n_devices};
}

int32_t berth_env_device(const berth_pass_env *env, int32_t node, int32_t *out_by)
{
    berth_strategy_input in = input_of(env);
    if (out_by) *out_by = -1;
    if (!env->placement || env->placement->n_nodes != env->n_nodes) return -1;
    return berth_placement_device(env->placement, &in, env->replica, node, out_by);
}

bool berth_say_why(const berth_pass_env *env, int32_t node, berth_buffer *out)
{
    int32_t by = -1, device = berth_env_device(env, node, &by);
    if (device < 0 || by < 0) return false;
    char who[96];
    berth_placement_who(env->placement, env->replica, by, who, sizeof who);
    berth_buffer_printf(out, "%s put %s on %s", who, berth_word_path(env, by), berth_word_device(env, device));
    return true;
}
