/* vllm.c - vLLM's pipeline stages: equal counts of layers, one more for the stages just before the last; vllm=9,10,9
 * gives them. Vision tower, projector and embedding go to the first stage, norm and head to the last. Sizes and memory
 * are not looked at.
 * Source: vLLM, vllm/distributed/utils.py, get_pp_indices, and VLLM_PP_LAYER_PARTITION. */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/layers.h"
#include "strategies/rules.h"
#include "strategies/words.h"

static berth_status read_partition(const berth_strategy_input *in, int32_t n_layers, int32_t *counts, berth_error *err)
{
    int64_t sum = 0;
    if (!berth_read_counts(in->argument, in->n_devices, counts))
        return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                            "strategy vllm=N,N,... takes %d count%s of layers, one a device, as in vllm=9,10,9, and "
                            "\"%.40s\" was given",
                            in->n_devices, in->n_devices == 1 ? "" : "s", in->argument);
    for (int32_t d = 0; d < in->n_devices; d++) sum += counts[d];
    if (sum == n_layers) return BERTH_OK;
    return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                        "strategy vllm=%.40s: the counts sum to %lld, and the model has %d layers", in->argument,
                        (long long)sum, n_layers);
}

static berth_status vllm_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_layers l;
    int32_t *counts = NULL;
    berth_status st = berth_layers_init(&l, in, "vllm", err);
    if (st != BERTH_OK) goto out;
    counts = calloc((size_t)in->n_devices, sizeof *counts);
    if (!counts) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the counts of layers");
        goto out;
    }
    if (in->argument)
        st = read_partition(in, l.n, counts, err);
    else
        berth_rule_vllm(l.n, in->n_devices, counts);
    if (st != BERTH_OK) goto out;
    berth_layers_set_counts(&l, counts, in->n_devices, in->n_devices - 1);
    st = berth_layers_place(&l, in, out, "vllm", err);
out:
    free(counts);
    berth_layers_deinit(&l);
    return st;
}

const berth_strategy berth_strategy_vllm = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "vllm",
    .about = "vLLM's pipeline stages: equal counts of layers; vllm=9,10,9 gives them",
    .source = "vLLM, get_pp_indices",
    .place = vllm_place,
};
