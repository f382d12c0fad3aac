/* layers.c - see layers.h. */
#include "strategies/layers.h"

#include <stdlib.h>

#include "strategies/words.h"

berth_status berth_layers_init(berth_layers *l, const berth_strategy_input *in, const char *strategy, berth_error *err)
{
    *l = (berth_layers){0};
    berth_status st = berth_chain_init(&l->chain, in, err);
    if (st != BERTH_OK) return st;
    l->atom = calloc((size_t)l->chain.n, sizeof *l->atom);
    l->device = calloc((size_t)l->chain.n, sizeof *l->device);
    if (!l->atom || !l->device) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of layers");
    for (int32_t a = 0; a < l->chain.n; a++)
        if (l->chain.kv[a + 1] > l->chain.kv[a]) l->atom[l->n++] = a;
    if (l->n > 0) return BERTH_OK;
    return berth_refuse(err, BERTH_UNSUPPORTED,
                        "strategy %s divides decoder layers, and this model has none with a KV cache; use balanced",
                        strategy);
}

void berth_layers_deinit(berth_layers *l)
{
    berth_chain_deinit(&l->chain);
    free(l->atom);
    free(l->device);
    *l = (berth_layers){0};
}

void berth_layers_set_counts(berth_layers *l, const int32_t *counts, int32_t n_devices, int32_t last)
{
    int32_t layer = 0, left = counts[0], device = 0;
    for (int32_t a = 0; a < l->chain.n; a++) {
        if (layer == l->n) {
            l->device[a] = last;
            continue;
        }
        bool is_first_part = layer == 0 && a < l->atom[0]; /* vision tower, projector, embedding: the first stage */
        while (!is_first_part && left == 0 && device + 1 < n_devices) left = counts[++device];
        l->device[a] = is_first_part ? 0 : device;
        if (a != l->atom[layer]) continue;
        layer++;
        left--;
    }
}

bool berth_read_counts(const char *argument, int32_t n, int32_t *counts)
{
    for (int32_t i = 0; i < n; i++) {
        int64_t value = 0;
        if (*argument < '0' || *argument > '9') return false;
        for (; *argument >= '0' && *argument <= '9'; argument++)
            if (value < INT32_MAX) value = value * 10 + (*argument - '0');
        if (value > INT32_MAX || *argument != (i + 1 < n ? ',' : '\0')) return false;
        counts[i] = (int32_t)value;
        argument++;
    }
    return true;
}

/* Bytes on one device under an assignment that may not be a cut. */
static uint64_t bytes_on(const berth_layers *l, int32_t device)
{
    const berth_chain *c = &l->chain;
    unsigned __int128 weights = 0, kv = 0;
    for (int32_t a = 0; a < c->n; a++) {
        if (l->device[a] != device) continue;
        weights += c->weights[a + 1] - c->weights[a];
        kv += c->kv[a + 1] - c->kv[a];
    }
    int32_t counted = -1;
    for (int32_t i = 0; i < c->n_ties; i++) {
        const struct berth_chain_tie *tie = &c->ties[i];
        if (l->device[tie->member] != device || l->device[tie->owner] == device || tie->tensor == counted) continue;
        weights += tie->bytes;
        counted = tie->tensor;
    }
    if (kv > UINT64_MAX) return UINT64_MAX;
    weights += kv * (unsigned __int128)c->context_tokens;
    return weights > UINT64_MAX ? UINT64_MAX : (uint64_t)weights;
}

berth_status berth_layers_place(const berth_layers *l, const berth_strategy_input *in, berth_strategy_output *out,
                                const char *strategy, berth_error *err)
{
    for (int32_t d = 0; d < in->n_devices; d++) {
        uint64_t bytes = bytes_on(l, d);
        if (bytes > berth_device_room(in, d)) return berth_chain_refuse_part(&l->chain, in, d, bytes, strategy, err);
    }
    for (int32_t p = 0; p < l->chain.n_pieces; p++)
        out->device_of[l->chain.piece_node[p]] = l->device[l->chain.piece_atom[p]];
    for (int32_t i = 0; i < l->chain.n_ties; i++) {
        const struct berth_chain_tie *tie = &l->chain.ties[i];
        if (l->device[tie->owner] == l->device[tie->member]) continue;
        berth_chain_note_tie(&l->chain, in, out, i, l->device[tie->owner], l->device[tie->member]);
    }
    out->n_replicas = 1;
    berth_note_empty_devices(in, out);
    return BERTH_OK;
}
