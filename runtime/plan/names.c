/* names.c - berth's own names of modules, as the values of programs are named, for overrides and explain. */
#include <stdio.h>
#include <stdlib.h>

#include "plan/plan.h"

typedef struct name_row {
    const char *name;
    berth_module_role role;
    bool is_vision, has_layers;
} name_row;

static const name_row rows[] = {
    {"vision", BERTH_M_VISION, true, false},
    {"vision.embed", BERTH_M_VISION_EMBED, true, false},
    {"vision.layer", BERTH_M_VISION_LAYER, true, true},
    {"projector", BERTH_M_PROJECTOR, true, false},
    {"text", BERTH_M_TEXT, false, false},
    {"text.embed", BERTH_M_EMBED, false, false},
    {"text.layer", BERTH_M_TEXT_LAYER, false, true},
    {"text.norm", BERTH_M_TEXT_NORM, false, false},
    {"head", BERTH_M_HEAD, false, false},
};

berth_alias *berth_plan_aliases(const berth_model_data *model, int32_t *out_n)
{
    const berth_model_config *c = berth_model_data_config(model);
    int32_t vision_layers = c->has_vision ? c->vision.n_layers_file : 0, n = 0;
    size_t cap = sizeof rows / sizeof rows[0] + (size_t)vision_layers + (size_t)c->text.n_layers;
    berth_alias *out = calloc(cap, sizeof *out);
    *out_n = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const name_row *r = &rows[i];
        if (r->is_vision && !c->has_vision) continue;
        int32_t n_layers = !r->has_layers ? 1 : r->is_vision ? vision_layers : c->text.n_layers;
        for (int32_t l = 0; l < n_layers; l++) {
            int32_t node = berth_model_data_module(model, r->role, r->has_layers ? l : -1);
            if (node < 0) continue;
            out[n].node = node;
            if (r->has_layers)
                snprintf(out[n].name, sizeof out[n].name, "%s.%d", r->name, (int)l);
            else
                snprintf(out[n].name, sizeof out[n].name, "%s", r->name);
            n++;
        }
    }
    *out_n = n;
    return out;
}
