/* sglang.c - SGLang's pipeline stages: equal counts of layers, one more for the last ones.
 * Vision tower, projector and embedding go to the first stage, norm and head to the last. Sizes and memory are not
 * looked at.
 * Source: SGLang, get_pp_indices. */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/layers.h"
#include "strategies/rules.h"
#include "strategies/words.h"

static berth_status sglang_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "sglang", err);
}

static berth_status sglang_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_layers l;
    int32_t *counts = NULL;
    berth_status st = berth_layers_init(&l, in, "sglang", err);
    if (st != BERTH_OK) goto out;
    counts = calloc((size_t)in->n_devices, sizeof *counts);
    if (!counts) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the counts of layers");
        goto out;
    }
    berth_rule_sglang(l.n, in->n_devices, counts);
    berth_layers_set_counts(&l, counts, in->n_devices, in->n_devices - 1);
    st = berth_layers_place(&l, in, out, "sglang", err);
out:
    free(counts);
    berth_layers_deinit(&l);
    return st;
}

const berth_strategy berth_strategy_sglang = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "sglang",
    .about = "SGLang's pipeline stages: equal counts of layers, more on the last ones",
    .source = "SGLang, get_pp_indices",
    .check = sglang_check,
    .place = sglang_place,
};
