/* layers.h - for schemes that are told in decoder layers: which atoms of a chain are layers, and laying a chain out by
 * any assignment.
 *
 * A decoder layer is an atom that owns KV cache; names are not looked at. Unlike a cut of the chain, these schemes may
 * go back to a device, and do not look at sizes: what does not fit is refused here, with the device and the bytes. */
#ifndef BERTH_STRATEGIES_LAYERS_H
#define BERTH_STRATEGIES_LAYERS_H

#include "strategies/chain.h"

typedef struct berth_layers {
    berth_chain chain;
    int32_t *atom; /* [n] atoms that are decoder layers, in order */
    int32_t n;
    int32_t *device; /* [chain.n] to be filled: where each atom goes; all 0 at first */
} berth_layers;

/* BERTH_UNSUPPORTED when the model has no decoder layer. deinit is fine on {0} and after a failure. */
berth_status berth_layers_init(berth_layers *l, const berth_strategy_input *in, const char *strategy, berth_error *err);
void berth_layers_deinit(berth_layers *l);

/* Sets the devices from runs of layers: counts[d] layers on device d, in order, summing to l->n. What stands before the
 * first layer goes to device 0, what stands between layers goes with the next one, and what stands after the last goes
 * to `last`. */
void berth_layers_set_counts(berth_layers *l, const int32_t *counts, int32_t n_devices, int32_t last);

/* Writes l->device to the output and notes empty devices, or refuses with BERTH_DOES_NOT_FIT. */
berth_status berth_layers_place(const berth_layers *l, const berth_strategy_input *in, berth_strategy_output *out,
                                const char *strategy, berth_error *err);

/* "9,10,9": exactly n whole numbers, as an argument gives them. */
bool berth_read_counts(const char *argument, int32_t n, int32_t *counts);

#endif
