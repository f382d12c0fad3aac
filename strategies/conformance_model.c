/* conformance_model.c - random models, machines, and running a strategy on them; see conformance.h. */
#include "strategies/conformance.h"

static uint32_t below(model *m, uint32_t n)
{
    return test_random_below(&m->seed, n);
}

static int32_t add_node(model *m, int32_t parent)
{
    int32_t i = m->n++;
    m->nodes[i].view = (berth_node_view){.path = m->paths[i], .class_name = "", .parent = parent, .tied_to = -1};
    return i;
}

static void grow(model *m, int32_t parent, int depth, bool is_small)
{
    int32_t i = add_node(m, parent);
    berth_node_view *view = &m->nodes[i].view;
    view->class_name = "Module";
    if (parent >= 0 && below(m, 4) == 0) view->flags |= BERTH_NODE_NO_SPLIT;
    uint32_t n_tensors = below(m, 3), n_children = depth == 0 ? 0 : below(m, is_small ? 3 : 5);
    if (parent < 0 && n_children == 0) n_children = 2;
    for (uint32_t t = 0; t < n_tensors && m->n < MAX_NODES; t++) {
        berth_node_view *tensor = &m->nodes[add_node(m, i)].view;
        tensor->flags = BERTH_NODE_TENSOR | (below(m, 8) == 0 ? BERTH_NODE_BUFFER : 0u);
        tensor->n_elements = below(m, 20) == 0 ? 0 : below(m, 2) ? below(m, 50) : below(m, 2000);
        tensor->element_bits = 16;
        tensor->weight_bytes = (uint64_t)tensor->n_elements * 2;
    }
    if (n_children == 0 && parent >= 0 && below(m, 3) == 0) m->own_kv[i] = below(m, 30);
    for (uint32_t c = 0; c < n_children && m->n + 8 < MAX_NODES; c++) grow(m, i, depth - 1, is_small);
    view = &m->nodes[i].view;
    view->n_descendants = m->n - 1 - i;
}

static void tie_some(model *m)
{
    int32_t n_ties = (int32_t)below(m, 4);
    for (int32_t k = 0; k < n_ties; k++) {
        int32_t a = (int32_t)below(m, (uint32_t)m->n), b = (int32_t)below(m, (uint32_t)m->n);
        berth_node_view *x = &m->nodes[a].view, *y = &m->nodes[b].view;
        bool is_target = false;
        for (int32_t i = 0; i < m->n; i++) is_target |= m->nodes[i].view.tied_to == a;
        if (a == b || is_target || !(x->flags & y->flags & BERTH_NODE_TENSOR) || x->tied_to >= 0 || y->tied_to >= 0)
            continue;
        x->tied_to = b;
        x->weight_bytes = 0;
        x->n_elements = y->n_elements;
    }
}

static void add_up(model *m)
{
    for (int32_t i = 0; i < m->n; i++) m->nodes[i].view.kv_bytes_per_token = m->own_kv[i];
    for (int32_t i = m->n - 1; i > 0; i--) {
        const berth_node_view *node = &m->nodes[i].view;
        m->nodes[node->parent].view.weight_bytes += node->weight_bytes;
        m->nodes[node->parent].view.kv_bytes_per_token += node->kv_bytes_per_token;
    }
}

static void make_machine(model *m)
{
    static const char *const names[MAX_DEVICES] = {"cpu:0", "cpu:1", "cpu:2", "cpu:3", "cpu:4", "cpu:5"};
    const berth_node_view *all = &m->nodes[0].view;
    uint64_t need = all->weight_bytes + all->kv_bytes_per_token * (uint64_t)m->in.context_tokens + 1;
    bool is_even = below(m, 2);
    uint64_t one = need * (20 + below(m, 200)) / 100 / (uint64_t)m->in.n_devices;
    for (int32_t d = 0; d < m->in.n_devices; d++) {
        uint64_t budget = is_even ? one : need * below(m, 180) / 100 / (uint64_t)m->in.n_devices;
        uint64_t reserved = below(m, 2) ? below(m, 100) : 0;
        m->devices[d] =
            (berth_device_view){.name = names[d], .budget_bytes = budget + reserved, .reserved_bytes = reserved};
        if (below(m, 8) == 0) m->devices[d].budget_bytes = reserved / 2;
    }
}

void make_model(model *m, uint64_t number, bool is_small)
{
    memset(m, 0, sizeof *m);
    m->seed = (number + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 4; i++) below(m, 2);
    for (int32_t i = 0; i < MAX_NODES; i++) snprintf(m->paths[i], sizeof m->paths[i], "node.%d", i);
    grow(m, -1, is_small ? 2 : 4, is_small);
    tie_some(m);
    add_up(m);
    m->in = (berth_strategy_input){.struct_size = sizeof m->in,
                                   .nodes = m->nodes,
                                   .node_size = sizeof *m->nodes,
                                   .n_nodes = m->n,
                                   .devices = m->devices,
                                   .device_size = sizeof *m->devices,
                                   .n_devices = 1 + (int32_t)below(m, is_small ? 3 : MAX_DEVICES),
                                   .context_tokens = (int64_t)below(m, 2) * below(m, 60),
                                   .max_tiles = 1};
    make_machine(m);
}

void run(const char *name, model *m, answer *a)
{
    const berth_strategy *s = berth_strategy_find(name, &m->in.argument);
    assert_non_null(s);
    memset(a, 0, sizeof *a);
    memset(a->device_of, 0xFF, sizeof a->device_of);
    a->out = (berth_strategy_output){
        .struct_size = sizeof a->out, .device_of = a->device_of, .max_replicas = m->in.n_devices};
    a->status = s->check ? s->check(&m->in, &a->err) : BERTH_OK;
    if (a->status == BERTH_OK) a->status = s->place(&m->in, &a->out, &a->err);
}
