/* replicate.c - whole copies of the model, so that requests go to different devices.
 * "replicate" puts a copy on every device; "replicate=K" makes K groups of neighbouring devices, the first ones larger
 * by one where K does not divide, and lays one copy over each group as "balanced" would. Every copy has room for the
 * whole context, since any request may come to it. Unlike torch's DataParallel no copy depends on another, and
 * generation works on all.
 * Source: berth's own. */
#include "berth/strategy.h"

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status replicate_check(const berth_strategy_input *in, berth_error *err)
{
    int32_t n_copies;
    if (!in->argument || berth_read_argument(in->argument, 1, in->n_devices, &n_copies)) return BERTH_OK;
    return berth_refuse(
        err, BERTH_INVALID_ARGUMENT,
        "strategy replicate=K takes the number of copies, 1 to %d with %d device%s, and \"%.40s\" was given",
        in->n_devices, in->n_devices, in->n_devices == 1 ? "" : "s", in->argument);
}

static berth_status replicate_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    int32_t n_copies = in->n_devices, first = 0;
    if (in->argument) berth_read_argument(in->argument, 1, in->n_devices, &n_copies);
    if (n_copies > out->max_replicas)
        return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                            "strategy replicate: %d copies are wanted, and at most %d can be kept", n_copies,
                            out->max_replicas);
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    for (int32_t r = 0; st == BERTH_OK && r < n_copies; r++) {
        int32_t n = in->n_devices / n_copies + (r < in->n_devices % n_copies);
        st = berth_chain_place_balanced(&chain, in, out, r, first, n, "replicate", err);
        first += n;
    }
    if (st == BERTH_OK) {
        out->n_replicas = n_copies;
        berth_note_empty_devices(in, out);
    }
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_replicate = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "replicate",
    .about = "a whole copy on every device; replicate=K: K copies over groups of devices",
    .check = replicate_check,
    .place = replicate_place,
};
