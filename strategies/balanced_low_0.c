/* balanced_low_0.c - spread the weights evenly and keep device 0 as free as the others allow.
 *   The model goes to devices 1 .. n-1 as "balanced" would lay it; only what they cannot hold, the shortest beginning
 *   of the model for which the rest fits, goes to device 0.
 * Good when device 0 also serves the sampler or another process; poor on 2 devices, where it leaves device 0 empty: the
 * note says so.
 * Source: Hugging Face accelerate, get_balanced_memory(low_zero=True). Its budget for device 0, total less the budgets
 * of the others, is met here by an exact cut, and nothing is offloaded while device 0 has room. */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status low_0_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "balanced_low_0", err);
}

/* The least number of atoms on device 0 with which the rest fits on the others; -1 = there is none. More atoms on
 * device 0 never make the rest fit worse. */
static int32_t least_on_device_0(const berth_chain *c, const uint64_t *rooms, int32_t n_devices, int32_t *bounds)
{
    int32_t low = 0, high = c->n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (berth_chain_fill(c, middle, rooms + 1, n_devices - 1, bounds) == c->n)
            high = middle;
        else
            low = middle + 1;
    }
    return berth_chain_bytes(c, 0, low) <= rooms[0] ? low : -1;
}

static berth_status low_0_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    int32_t n = in->n_devices;
    uint64_t *rooms = calloc((size_t)n, sizeof *rooms);
    int32_t *bounds = calloc((size_t)n + 1, sizeof *bounds);
    if (!rooms || !bounds) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of devices");
        goto out;
    }
    for (int32_t d = 0; d < n; d++) rooms[d] = berth_device_room(in, d);
    int32_t on_0 = least_on_device_0(&chain, rooms, n, bounds);
    if (on_0 < 0) {
        st = berth_chain_refuse(&chain, in, 0, n, "balanced_low_0", err);
        goto out;
    }
    if (n > 1) st = berth_chain_balance(&chain, on_0, rooms + 1, n - 1, bounds + 1, err);
    if (st != BERTH_OK) goto out;
    bounds[0] = 0;
    bounds[n] = chain.n;
    out->n_replicas = 1;
    if (n == 1) berth_note(out, "there is one device only, so nothing can be kept free");
    if (n == 2 && on_0 == 0)
        berth_note(out, "with 2 devices the whole model lies on the second; balanced would use both");
    if (n > 1 && on_0 > 0)
        berth_note(out, "%s holds what the other devices have no room for", berth_device_at(in, 0)->name);
    berth_chain_place(&chain, in, out, 0, 0, NULL, n, bounds);
    berth_note_empty_devices(in, out);
out:
    free(rooms);
    free(bounds);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_balanced_low_0 = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "balanced_low_0",
    .about = "even weights on all devices but the first, which is kept free",
    .source = "Hugging Face accelerate, device_map=\"balanced_low_0\", by an exact cut instead of budgets",
    .check = low_0_check,
    .place = low_0_place,
};
