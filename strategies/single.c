/* single.c - the whole model on one device: single=N names it; without N, the first device with room.
 * What does not fit on one device is refused; nothing is ever offloaded. The smallest whole strategy, and the one to copy.
 * Source: berth's own. */
#include "berth/strategy.h"

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status single_check(const berth_strategy_input *in, berth_error *err)
{
    int32_t device;
    if (!in->argument || berth_read_argument(in->argument, 0, in->n_devices - 1, &device)) return BERTH_OK;
    return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                        "strategy single=N takes the index of a device, 0 to %d here, and \"%.40s\" was given",
                        in->n_devices - 1, in->argument);
}

static berth_status single_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    int32_t device = 0, largest = 0;
    uint64_t need = berth_chain_bytes(&chain, 0, chain.n);
    if (in->argument) {
        berth_read_argument(in->argument, 0, in->n_devices - 1, &device);
        largest = device;
    } else {
        while (device < in->n_devices && need > berth_device_room(in, device)) {
            if (berth_device_room(in, device) > berth_device_room(in, largest)) largest = device;
            device++;
        }
    }
    if (device == in->n_devices || need > berth_device_room(in, device)) {
        st = berth_chain_refuse(&chain, in, largest, 1, "single", err);
    } else {
        out->device_of[0] = device;
        out->n_replicas = 1;
        berth_note_empty_devices(in, out);
    }
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_single = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "single",
    .about = "the whole model on one device; single=N names it by index",
    .check = single_check,
    .place = single_place,
};
