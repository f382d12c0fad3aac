/* internvl.c - the published recipe for InternVL on several GPUs, split_model.
 *   Layers in slots of ceil(n_layers / (n - 0.5)), half a slot for device 0, which also gets the vision tower,
 *   projector, embedding, last layer, norm and head.
 * What people run today, to compare with. It goes by counts, not bytes: on 4 devices device 0 holds most, on 8 the last
 * may hold nothing, and it assigns layers that do not exist; the note says so.
 * Source: InternVL3 model card, "Multiple GPUs". */
#include "berth/strategy.h"

#include <stdlib.h>

#include "strategies/layers.h"
#include "strategies/rules.h"
#include "strategies/words.h"

static berth_status internvl_check(const berth_strategy_input *in, berth_error *err)
{
    return berth_check_no_argument(in, "internvl", err);
}

static berth_status internvl_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_layers l;
    int32_t *layer_device = NULL, n_phantom;
    berth_status st = berth_layers_init(&l, in, "internvl", err);
    if (st != BERTH_OK) goto out;
    layer_device = calloc((size_t)l.n, sizeof *layer_device);
    if (!layer_device) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of layers");
        goto out;
    }
    berth_rule_internvl(l.n, in->n_devices, layer_device, &n_phantom);
    for (int32_t i = 0; i < l.n; i++) l.device[l.atom[i]] = layer_device[i]; /* all else stays on device 0 */
    if (n_phantom > 0)
        berth_note(out, "the recipe assigns %d layer%s past the last one", n_phantom, n_phantom > 1 ? "s" : "");
    st = berth_layers_place(&l, in, out, "internvl", err);
out:
    free(layer_device);
    berth_layers_deinit(&l);
    return st;
}

const berth_strategy berth_strategy_internvl = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "internvl",
    .about = "InternVL's published split_model: half a share of layers beside the vision tower",
    .source = "InternVL3 model card, split_model",
    .check = internvl_check,
    .place = internvl_place,
};
