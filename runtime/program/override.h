/* override.h - what a user puts elsewhere than the strategy or device map does.
 *
 * A pure function over a placement: the result is a placement as any other, validated, that remembers which rule moved
 * which module. Rules in order: layers, vision device, then the globs; the last one that fits a module wins. */
#ifndef BERTH_PROGRAM_OVERRIDE_H
#define BERTH_PROGRAM_OVERRIDE_H

#include "program/placement.h"

/* As the user wrote it; NULL = not given. Borrowed. */
typedef struct berth_override {
    const char *const *place;  /* NULL-terminated "GLOB=DEVICE" */
    const char *split;         /* "3,1" */
    const char *layers;        /* "20,8" */
    const char *vision_device; /* "cpu:1" */
} berth_override;

/* A name of berth's own for a module, as "text.layer.3": the same for every layout of a model's names. */
typedef struct berth_alias {
    char name[32];
    int32_t node;
} berth_alias;

bool berth_override_is_empty(const berth_override *o);

/* `layer_device` [n_layers + 2]: the embedding's device, each layer's, and that of norm and head; NULL = left as they
 * are. Errors: BERTH_INVALID_ARGUMENT naming a glob that fits no module (with the nearest name) or an unknown device. */
berth_status berth_override_apply(const berth_override *o, const int32_t *layer_device, int32_t n_layers,
                                  const berth_alias *aliases, int32_t n_aliases, const berth_placement *base,
                                  const berth_strategy_input *in, berth_placement **out, berth_error *err);

#endif
