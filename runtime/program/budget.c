/* budget.c - what a placement puts on each device, against what the device may hold.
 *
 * One rule for every strategy, ours or a stranger's: weights (a storage counts once on a device, whatever number of
 * names and replicas read it there), KV cache for the planned context, and the reserve for activations of each replica
 * that lies there. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/text.h"
#include "program/placement_internal.h"

typedef unsigned __int128 wide; /* sums of 64-bit sizes cannot wrap in it */

typedef struct load {
    wide bytes;      /* weights and KV */
    int32_t n_uses;  /* replicas that keep bytes here */
    int32_t storage; /* the last storage counted here, plus 1 */
} load;

typedef struct tally {
    const berth_placement *p;
    const berth_strategy_input *in;
    load *loads;                         /* [n_devices] */
    bool *uses;                          /* [n_replicas * n_devices]: whether the replica keeps bytes there */
    int32_t *device;                     /* [n_replicas * n_nodes]: of the nearest placed ancestor-or-self; -1 = none */
    int32_t *first_member, *next_member; /* [n_nodes]: lists of the tensors tied to a storage; index + 1, 0 = end */
} tally;

static void resolve(tally *t)
{
    for (int32_t r = 0; r < t->p->n_replicas; r++) {
        const int32_t *device_of = &t->p->device_of[(size_t)r * (size_t)t->p->n_nodes];
        int32_t *device = &t->device[(size_t)r * (size_t)t->p->n_nodes];
        for (int32_t i = 0, end = 0, cover = -1; i < t->p->n_nodes; i++) {
            if (i >= end) cover = -1;
            if (device_of[i] >= 0) {
                cover = device_of[i];
                end = i + 1 + berth_node_at(t->in, i)->n_descendants;
            }
            device[i] = cover;
        }
    }
}

/* The tensor whose storage i uses. Ties of ties are followed; a circle ends somewhere on it. */
static int32_t storage_of(const berth_strategy_input *in, int32_t i)
{
    for (int32_t steps = 0; steps < in->n_nodes && berth_node_at(in, i)->tied_to >= 0; steps++)
        i = berth_node_at(in, i)->tied_to;
    return i;
}

static void link_ties(tally *t)
{
    for (int32_t i = 0; i < t->in->n_nodes; i++) {
        if (berth_node_at(t->in, i)->tied_to < 0) continue;
        int32_t storage = storage_of(t->in, i);
        t->next_member[i] = t->first_member[storage];
        t->first_member[storage] = i + 1;
    }
}

static void add(tally *t, int32_t replica, int32_t device, wide bytes)
{
    bool *used = &t->uses[(size_t)replica * (size_t)t->in->n_devices + (size_t)device];
    t->loads[device].bytes += bytes;
    t->loads[device].n_uses += !*used;
    *used = true;
}

/* Storage i wherever `name`, one of the tensors that read it, lies. */
static void add_storage(tally *t, int32_t replica, int32_t i, int32_t name)
{
    int32_t device = t->device[(size_t)replica * (size_t)t->p->n_nodes + (size_t)name];
    if (device < 0) return;
    bool is_counted = t->loads[device].storage == i + 1;
    t->loads[device].storage = i + 1;
    add(t, replica, device, is_counted ? 0 : berth_node_at(t->in, i)->weight_bytes);
}

/* The KV bytes of node i itself: its subtree's less its children's. */
static uint64_t own_kv(const berth_strategy_input *in, int32_t i)
{
    const berth_node_view *node = berth_node_at(in, i);
    uint64_t kv = node->kv_bytes_per_token;
    for (int32_t c = i + 1; kv > 0 && c <= i + node->n_descendants; c += 1 + berth_node_at(in, c)->n_descendants) {
        uint64_t part = berth_node_at(in, c)->kv_bytes_per_token;
        kv = part < kv ? kv - part : 0;
    }
    return kv;
}

static void add_weights(tally *t)
{
    for (int32_t i = 0; i < t->in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(t->in, i);
        if (node->n_descendants > 0 || node->tied_to >= 0 || node->weight_bytes == 0) continue;
        for (int32_t r = 0; r < t->p->n_replicas; r++) add_storage(t, r, i, i);
        for (int32_t m = t->first_member[i]; m > 0; m = t->next_member[m - 1])
            for (int32_t r = 0; r < t->p->n_replicas; r++) add_storage(t, r, i, m - 1);
    }
}

static void add_kv(tally *t)
{
    if (t->in->context_tokens <= 0) return;
    for (int32_t i = 0; i < t->in->n_nodes; i++) {
        wide kv = own_kv(t->in, i) * (wide)t->in->context_tokens;
        for (int32_t r = 0; kv > 0 && r < t->p->n_replicas; r++) {
            int32_t device = berth_placement_device(t->p, t->in, r, i, NULL);
            if (device >= 0) add(t, r, device, kv);
        }
    }
}

static uint64_t saturated(wide bytes)
{
    return bytes > UINT64_MAX ? UINT64_MAX : (uint64_t)bytes;
}

static berth_status refuse(const tally *t, const char *who, int32_t device, wide missing, berth_error *err)
{
    const berth_device_view *v = berth_device_at(t->in, device);
    const load *l = &t->loads[device];
    char held[32], reserve[32], budget[32], less[32];
    return BERTH_FAIL(
        err, BERTH_DOES_NOT_FIT,
        "%s put %s of weights and KV cache on %s; with %s for the activations of %d replica(s) that is over "
        "its limit of %s; missing: %s (%llu bytes). What helps: more memory there, a shorter context, or "
        "another strategy",
        who, berth_format_bytes(saturated(l->bytes), held, sizeof held), v->name,
        berth_format_bytes(saturated((wide)v->reserved_bytes * (wide)l->n_uses), reserve, sizeof reserve),
        (int)l->n_uses, berth_format_bytes(v->budget_bytes, budget, sizeof budget),
        berth_format_bytes(saturated(missing), less, sizeof less), (unsigned long long)saturated(missing));
}

static berth_status judge(const tally *t, const char *who, berth_error *err)
{
    int32_t worst = -1;
    wide most = 0;
    for (int32_t d = 0; d < t->in->n_devices; d++) {
        const berth_device_view *v = berth_device_at(t->in, d);
        wide need = t->loads[d].bytes + (wide)v->reserved_bytes * (wide)t->loads[d].n_uses;
        if (t->loads[d].bytes == 0 || need <= v->budget_bytes || need - v->budget_bytes <= most) continue;
        most = need - v->budget_bytes;
        worst = d;
    }
    return worst < 0 ? BERTH_OK : refuse(t, who, worst, most, err);
}

/* Whether sums of subtrees are sums of storages: one replica, no storage with two names. The usual case, and a plan
 * must cost little. */
static bool is_plain(const tally *t)
{
    bool plain = t->p->n_replicas == 1;
    for (int32_t i = 0; plain && i < t->in->n_nodes; i++) plain = berth_node_at(t->in, i)->tied_to < 0;
    return plain;
}

static void add_subtrees(tally *t)
{
    wide context = t->in->context_tokens > 0 ? (wide)t->in->context_tokens : 0;
    for (int32_t i = 0; i < t->in->n_nodes;) {
        const berth_node_view *node = berth_node_at(t->in, i);
        int32_t device = t->p->device_of[i];
        bool is_placed = device >= 0;
        if (!is_placed && context > 0 && own_kv(t->in, i) > 0) {
            device = berth_placement_device(t->p, t->in, 0, i, NULL);
            if (device >= 0) t->loads[device].bytes += own_kv(t->in, i) * context;
        }
        if (is_placed) t->loads[device].bytes += node->weight_bytes + node->kv_bytes_per_token * context;
        i += is_placed ? 1 + node->n_descendants : 1;
    }
    for (int32_t d = 0; d < t->in->n_devices; d++) t->loads[d].n_uses = t->loads[d].bytes > 0;
}

static berth_status add_storages(tally *t, berth_error *err)
{
    size_t n = (size_t)t->p->n_nodes,
           n_all = n * (size_t)t->p->n_replicas; /* as large as device_of, which is allocated */
    t->uses = calloc((size_t)t->p->n_replicas, (size_t)t->in->n_devices);
    t->device = calloc(n_all, sizeof *t->device);
    t->first_member = calloc(n, sizeof *t->first_member);
    t->next_member = calloc(n, sizeof *t->next_member);
    if (!t->uses || !t->device || !t->first_member || !t->next_member)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to add up %zu modules", n_all);
    resolve(t);
    link_ties(t);
    add_weights(t);
    add_kv(t);
    return BERTH_OK;
}

berth_status berth_placement_check_budgets(const berth_placement *p, const berth_strategy_input *in, const char *who,
                                           berth_error *err)
{
    tally t = {.p = p, .in = in, .loads = calloc((size_t)in->n_devices, sizeof *t.loads)};
    if (!t.loads) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to add up %d devices", (int)in->n_devices);
    berth_status st = BERTH_OK;
    if (is_plain(&t))
        add_subtrees(&t);
    else
        st = add_storages(&t, err);
    if (st == BERTH_OK) st = judge(&t, who, err);
    free(t.loads);
    free(t.uses);
    free(t.device);
    free(t.first_member);
    free(t.next_member);
    return st;
}
