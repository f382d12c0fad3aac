/* conformance_judge.c - see conformance.h. */
#include "strategies/conformance.h"

int32_t device_by_ancestors(const model *m, const int32_t *device_of, int32_t i, int32_t *count)
{
    int32_t device = -1;
    *count = 0;
    for (; i >= 0; i = node_of(m, i)->parent) {
        if (device_of[i] < 0) continue;
        if (device < 0) device = device_of[i];
        ++*count;
    }
    return device;
}

static int32_t storage_of(const model *m, int32_t tensor)
{
    int32_t tied = node_of(m, tensor)->tied_to;
    return tied >= 0 ? tied : tensor;
}

void bytes_on_devices(const model *m, const int32_t *device, uint64_t *bytes)
{
    bool held[MAX_DEVICES][MAX_NODES] = {{false}};
    memset(bytes, 0, MAX_DEVICES * sizeof *bytes);
    for (int32_t i = 0; i < m->n; i++) {
        if (device[i] < 0) continue;
        bytes[device[i]] += m->own_kv[i] * (uint64_t)m->in.context_tokens;
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR)) continue;
        int32_t storage = storage_of(m, i);
        if (!held[device[i]][storage]) bytes[device[i]] += node_of(m, storage)->weight_bytes;
        held[device[i]][storage] = true;
    }
}

uint64_t room_of(const model *m, int32_t d)
{
    const berth_device_view *v = &m->devices[d];
    return v->budget_bytes > v->reserved_bytes ? v->budget_bytes - v->reserved_bytes : 0;
}

/* The node that no strategy may divide and that holds i, or i itself. Written down again here, from the ABI's words. */
static int32_t atom_of(const model *m, int32_t i)
{
    int32_t atom = i;
    for (int32_t a = i; a > 0; a = node_of(m, a)->parent) {
        const berth_node_view *v = node_of(m, a);
        bool owns_tensor = false, holds_no_split = false;
        for (int32_t k = a + 1; k <= a + v->n_descendants; k++) {
            owns_tensor |= node_of(m, k)->parent == a && (node_of(m, k)->flags & BERTH_NODE_TENSOR);
            holds_no_split |= (node_of(m, k)->flags & BERTH_NODE_NO_SPLIT) != 0;
        }
        if (v->flags & BERTH_NODE_NO_SPLIT || (owns_tensor && !holds_no_split)) atom = a;
    }
    return atom;
}

static void judge_replica(const char *name, const model *m, const int32_t *device_of, uint64_t *total)
{
    int32_t device[MAX_NODES], of_atom[MAX_NODES];
    memset(of_atom, 0xFF, sizeof of_atom);
    for (int32_t i = 0; i < m->n; i++) {
        int32_t count;
        assert_true(device_of[i] >= -1 && device_of[i] < m->in.n_devices);
        device[i] = device_by_ancestors(m, device_of, i, &count);
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR)) continue;
        if (count != 1) fail_msg("%s: %s is covered %d times", name, node_of(m, i)->path, count);
        int32_t atom = atom_of(m, i);
        if (of_atom[atom] >= 0 && of_atom[atom] != device[i]) fail_msg("%s splits %s", name, node_of(m, atom)->path);
        of_atom[atom] = device[i];
    }
    uint64_t bytes[MAX_DEVICES];
    bytes_on_devices(m, device, bytes);
    for (int32_t d = 0; d < m->in.n_devices; d++) total[d] += bytes[d];
}

void judge_answer(const char *name, const model *m, const answer *a, uint64_t *total)
{
    memset(total, 0, MAX_DEVICES * sizeof *total);
    assert_true(a->out.n_replicas >= 1 && a->out.n_replicas <= a->out.max_replicas);
    assert_true(memchr(a->out.note, '\0', sizeof a->out.note) != NULL);
    for (int32_t r = 0; r < a->out.n_replicas; r++) judge_replica(name, m, a->device_of + r * m->n, total);
    bool any_empty = false;
    for (int32_t d = 0; d < m->in.n_devices; d++) {
        bool is_used = false;
        for (int32_t i = 0; i < a->out.n_replicas * m->n; i++) is_used |= a->device_of[i] == d;
        any_empty |= !is_used;
        if (total[d] > room_of(m, d))
            fail_msg("%s: device %d holds %" PRIu64 " of %" PRIu64, name, d, total[d], room_of(m, d));
    }
    if (any_empty != (strstr(a->out.note, "left empty") != NULL)) fail_msg("%s: note \"%s\"", name, a->out.note);
}

/* ---- every cut ---- */

double fullness(const model *m, const uint64_t *bytes)
{
    double most = 0;
    for (int32_t d = 0; d < m->in.n_devices; d++)
        if (bytes[d] > 0) {
            double f = room_of(m, d) == 0 ? 1e300 : (double)bytes[d] / (double)room_of(m, d);
            if (f > most) most = f;
        }
    return most;
}

static void try_cuts(const model *m, cuts *c, int32_t *bounds, int32_t d)
{
    if (d == m->in.n_devices) {
        int32_t device[MAX_NODES];
        uint64_t bytes[MAX_DEVICES];
        for (int32_t i = 0; i < m->n; i++) {
            device[i] = c->atom[i] < 0 ? -1 : 0;
            while (device[i] >= 0 && c->atom[i] >= bounds[device[i] + 1]) device[i]++;
        }
        bytes_on_devices(m, device, bytes);
        double f = fullness(m, bytes);
        if (f > 1) return;
        if (!c->any_fits || f < c->least_fullness) c->least_fullness = f;
        c->any_fits = true;
        return;
    }
    for (bounds[d] = bounds[d - 1]; bounds[d] <= c->n_atoms; bounds[d]++) try_cuts(m, c, bounds, d + 1);
}

void all_cuts(const model *m, cuts *c)
{
    int32_t last = -1, bounds[MAX_DEVICES + 1] = {0};
    *c = (cuts){0};
    for (int32_t i = 0; i < m->n; i++) {
        int32_t atom = atom_of(m, i);
        c->atom[i] = -1;
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR) && m->own_kv[i] == 0) continue;
        if (atom != last) c->n_atoms++;
        last = atom;
        c->atom[i] = c->n_atoms - 1;
    }
    bounds[m->in.n_devices] = c->n_atoms;
    try_cuts(m, c, bounds, 1);
}
