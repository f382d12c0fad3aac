/* balanced.c - one run of the model for each device, all about equally full.
 * Of all cuts of the chain of atoms into runs, in execution order over the devices in theirs, one whose fullest device
 * (bytes of weights and KV by room) is as empty as possible. Exact, where its source goes by a budget of total / n plus
 * 1.25 of the largest module and may leave the last devices empty. Good for any model of equal layers; it balances
 * bytes, not time.
 * Source: Hugging Face accelerate, device_map="balanced"; the cut: Pinar & Aykanat, JPDC 64 (2004), 974-996. */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/chain.h"
#include "strategies/words.h"

static berth_status balanced_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "balanced", err);
}

static berth_status balanced_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    out->n_replicas = 1;
    st = berth_chain_place_balanced(&chain, in, out, 0, 0, in->n_devices, "balanced", err);
    if (st == BERTH_OK) berth_note_empty_devices(in, out);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_balanced = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "balanced",
    .about = "one run of layers for each device, all about equally full",
    .source = "Hugging Face accelerate, device_map=\"balanced\", by an exact cut instead of budgets",
    .check = balanced_check,
    .place = balanced_place,
};
