/* layer.c - llama.cpp's default split: layers by the devices' memory, or by given weights: layer=3,1.
 *   Layer i of n, and the head as layer n, go to the first device whose cumulated share exceeds i / (n + 1). The share
 *   is of free memory; sizes of layers are not looked at.
 * What stands before the layers goes to device 0: llama.cpp keeps the vision tower on the first GPU and the embedding
 * on the host.
 * Source: llama.cpp, src/llama-model.cpp, load_tensors, split mode "layer". */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/layers.h"
#include "strategies/rules.h"
#include "strategies/words.h"

/* "3,1" or "0.6,0.4": n weights, not all 0. */
static bool read_weights(const char *argument, int32_t n, float *weights)
{
    float sum = 0;
    for (int32_t i = 0; i < n; i++) {
        double value = 0, place = 1;
        bool has_digit = false, has_point = false;
        for (;; argument++) {
            if (*argument >= '0' && *argument <= '9') {
                has_digit = true;
                value = value * 10 + (*argument - '0');
                if (has_point) place *= 10;
            } else if (*argument == '.' && !has_point) {
                has_point = true;
            } else {
                break;
            }
        }
        if (!has_digit || !(value < 1e18) || *argument != (i + 1 < n ? ',' : '\0')) return false;
        argument++;
        weights[i] = (float)(value / place);
        sum += weights[i];
    }
    return sum > 0;
}

static berth_status layer_weights(const berth_strategy_input *in, float *weights, berth_error *err)
{
    if (in->argument) {
        if (read_weights(in->argument, in->n_devices, weights)) return BERTH_OK;
        return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                            "strategy layer=W,W,... takes %d weights, one a device and not all 0, as in layer=3,1, and "
                            "\"%.40s\" was given",
                            in->n_devices, in->argument);
    }
    for (int32_t d = 0; d < in->n_devices; d++) weights[d] = (float)berth_device_room(in, d);
    return BERTH_OK;
}

static berth_status layer_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_layers l;
    int32_t *layer_device = NULL;
    float *weights = NULL;
    berth_status st = berth_layers_init(&l, in, "layer", err);
    if (st != BERTH_OK) goto out;
    layer_device = calloc((size_t)l.n + 1, sizeof *layer_device);
    weights = calloc((size_t)in->n_devices, sizeof *weights);
    if (!layer_device || !weights) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of layers");
        goto out;
    }
    st = layer_weights(in, weights, err);
    if (st != BERTH_OK) goto out;
    berth_rule_layer(l.n, l.n + 1, false, weights, in->n_devices, layer_device);
    for (int32_t a = 0, i = 0; a < l.chain.n; a++) {
        int32_t device =
            a < l.atom[0] ? 0 : layer_device[i]; /* -1 only where no device has room, and then none is enough */
        l.device[a] = device < 0 ? 0 : device;
        if (i < l.n && a == l.atom[i]) i++;
    }
    st = berth_layers_place(&l, in, out, "layer", err);
out:
    free(layer_device);
    free(weights);
    berth_layers_deinit(&l);
    return st;
}

static berth_status layer_check(const berth_strategy_input *in, berth_error *err)
{
    float *weights = calloc((size_t)in->n_devices, sizeof *weights);
    berth_status st =
        weights ? layer_weights(in, weights, err) : berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the weights");
    free(weights);
    return st;
}

const berth_strategy berth_strategy_layer = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "layer",
    .about = "llama.cpp's split of layers by free memory, or by weights: layer=3,1",
    .source = "llama.cpp, split mode \"layer\"",
    .check = layer_check,
    .place = layer_place,
};
