/* auto.c - one device where the model fits on one, else a balanced cut over all.
 * A stream of tokens runs through one device at a time, so a second device that is not needed adds a hop and no speed.
 * Of the devices with room the one that reads memory fastest is taken (decoding is bound by it), where rates are known
 * for all; else the one with most room; else the first. Use replicate or balanced to put every device to work on many
 * requests.
 * Source: berth's own; accelerate's "auto" is its "balanced". */
#include "berth/strategy.h"

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status auto_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "auto", err);
}

static bool rates_are_known(const berth_strategy_input *in)
{
    for (int32_t d = 0; d < in->n_devices; d++)
        if (!(berth_device_at(in, d)->bytes_per_second > 0)) return false;
    return true;
}

/* The device to hold it all; -1 = none has room. */
static int32_t best_single(const berth_strategy_input *in, uint64_t need)
{
    bool by_rate = rates_are_known(in);
    int32_t best = -1;
    for (int32_t d = 0; d < in->n_devices; d++) {
        if (need > berth_device_room(in, d)) continue;
        if (best < 0) {
            best = d;
            continue;
        }
        double rate = berth_device_at(in, d)->bytes_per_second, best_rate = berth_device_at(in, best)->bytes_per_second;
        if (by_rate && rate != best_rate ? rate > best_rate : berth_device_room(in, d) > berth_device_room(in, best))
            best = d;
    }
    return best;
}

static berth_status auto_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    int32_t device = best_single(in, berth_chain_bytes(&chain, 0, chain.n));
    out->n_replicas = 1;
    if (device >= 0) {
        out->device_of[0] = device;
        if (in->n_devices > 1)
            berth_note(out, "auto chose single: the model fits on %s", berth_device_at(in, device)->name);
    } else {
        st = berth_chain_place_balanced(&chain, in, out, 0, 0, in->n_devices, "auto", err);
        if (st == BERTH_OK) berth_note(out, "auto chose balanced: no device can hold the whole model");
    }
    if (st == BERTH_OK) berth_note_empty_devices(in, out);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_auto = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "auto",
    .about = "one device if the model fits on one, else balanced",
    .check = auto_check,
    .place = auto_place,
};
