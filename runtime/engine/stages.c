/* stages.c - where in the program of pictures the vision tower ends and the projector begins, so that a request's times of
 * both can be told apart. */
#include "engine/core.h"

static bool is_within(const berth_node_view *nodes, int32_t node, int32_t top)
{
    while (node >= 0 && node != top) node = nodes[node].parent;
    return node >= 0;
}

/* The op that made a value, also where what is read is a copy brought by another op. */
static int32_t maker_of(const berth_program *p, int32_t value)
{
    while (p->values[value].origin != BERTH_NO_VALUE) value = p->values[value].origin;
    return p->values[value].producer;
}

int32_t berth_stages_tower_end(const berth_model_data *m, const berth_program *encode)
{
    const int32_t projector = berth_model_data_module(m, BERTH_M_PROJECTOR, -1);
    if (projector < 0) return BERTH_NO_OP;
    for (int32_t i = 0; i < encode->n_ops; i++) {
        const berth_op *op = &encode->ops[i];
        if (op->kind != BERTH_OP_COPY && is_within(berth_model_data_nodes(m), op->node, projector))
            return maker_of(encode, op->in[0]);
    }
    return BERTH_NO_OP;
}
