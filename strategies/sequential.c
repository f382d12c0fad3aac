/* sequential.c - fill the first device, then the next, in execution order.
 * A device is left when the next atom finds no room on it and is not returned to. Keeps a small model whole on device 0
 * and later devices free; poor when they are to share the work. Unlike its source it goes in execution order, keeps no
 * room back for a layer to be offloaded, and refuses where that would offload.
 * Source: Hugging Face accelerate, infer_auto_device_map with device_map="sequential". */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status sequential_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "sequential", err);
}

static berth_status sequential_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    uint64_t *rooms = calloc((size_t)in->n_devices, sizeof *rooms);
    int32_t *bounds = calloc((size_t)in->n_devices + 1, sizeof *bounds);
    if (!rooms || !bounds) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of devices");
        goto out;
    }
    for (int32_t d = 0; d < in->n_devices; d++) rooms[d] = berth_device_room(in, d);
    if (berth_chain_fill(&chain, 0, rooms, in->n_devices, bounds) < chain.n) {
        st = berth_chain_refuse(&chain, in, 0, in->n_devices, "sequential", err);
        goto out;
    }
    out->n_replicas = 1;
    berth_chain_place(&chain, in, out, 0, 0, NULL, in->n_devices, bounds);
    berth_note_empty_devices(in, out);
out:
    free(rooms);
    free(bounds);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_sequential = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "sequential",
    .about = "fill the first device, then the next",
    .source = "Hugging Face accelerate, device_map=\"sequential\", in execution order and without its reserve",
    .check = sequential_check,
    .place = sequential_place,
};
