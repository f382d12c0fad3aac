/* placement.h - where each node of the module tree lives, for each replica: what a strategy or a device map decided,
 * validated.
 *
 * Owns the table and the reasons behind it. Made only through the functions below, so that a placement that exists is
 * complete: every tensor lies on exactly one device of the machine. Immutable afterwards. */
#ifndef BERTH_PROGRAM_PLACEMENT_H
#define BERTH_PROGRAM_PLACEMENT_H

#include "base/buffer.h"
#include "berth/strategy.h"

typedef struct berth_placement {
    char strategy[64]; /* "balanced_low_0", "replicate=2", "device-map" */
    int32_t n_replicas, n_nodes, n_devices;
    int32_t *device_of; /* owned; [n_replicas * n_nodes]; -1 = not placed at this node */
    char note[512];
    int16_t *
        rule_of; /* owned; [n_replicas * n_nodes], of a placed node the override that put it there, plus 1; 0 = the strategy; NULL = no overrides */
    char (*rules)[64]; /* owned; [n_rules] "vision.*=cpu:1", cut where long */
    int32_t n_rules;
} berth_placement;

/* Runs `s` (check, then place) over `in`, and validates all that it returns. Errors: the strategy's own,
 * BERTH_INVALID_ARGUMENT naming node and rule broken, or BERTH_DOES_NOT_FIT naming the device over its limit and the
 * bytes missing. */
berth_status berth_placement_make(const berth_strategy *s, const berth_strategy_input *in, berth_placement **out,
                                  berth_error *err);

/* What a strategy that was run elsewhere answered, validated as above. */
typedef struct berth_placement_answer {
    const char *strategy;     /* its name, without argument */
    const char *who;          /* what messages call it: "strategy mine (./mine.so)" */
    int32_t n_replicas;       /* as answered: any number */
    const int32_t *device_of; /* [n_replicas * n_nodes] where n_replicas is between 1 and n_devices; else not read */
    const char *note;         /* [512] as answered: any bytes, perhaps without an end */
} berth_placement_answer;
berth_status berth_placement_accept(const berth_placement_answer *a, const berth_strategy_input *in,
                                    berth_placement **out, berth_error *err);

/* From a Hugging Face device map: JSON object, module or tensor name -> device (index, "cpu", "cuda:1", "cpu:0").
 * Longest prefix wins; an unknown key or an uncovered tensor is BERTH_INVALID_ARGUMENT naming it. `what` names the map
 * in messages. Names of the other layout are understood where they map one to one. */
berth_status berth_placement_from_map(const char *json, size_t n, const char *what, const berth_strategy_input *in,
                                      berth_placement **out, berth_error *err);

void berth_placement_destroy(berth_placement *p);

/* The device of node i in replica r by nearest placed ancestor-or-self, or else by its first placed descendant; -1 =
 * none. `out_by` (may be NULL): the node that decided. */
int32_t berth_placement_device(const berth_placement *p, const berth_strategy_input *in, int32_t replica, int32_t node,
                               int32_t *out_by);

/* "strategy balanced_low_0 put language_model.model.layers.3 on cpu:2", for errors and explain. */
bool berth_placement_why(const berth_placement *p, const berth_strategy_input *in, int32_t replica, int32_t node,
                         berth_buffer *out);

/* Who put node `by` (a placed one) where it is: "strategy balanced", "device-map", "--place vision.*=cpu:1". */
void berth_placement_who(const berth_placement *p, int32_t replica, int32_t by, char *out, size_t n);

/* The placement as a Hugging Face device map: coarsest names, in tree order. */
bool berth_placement_to_map(const berth_placement *p, const berth_strategy_input *in, int32_t replica,
                            berth_buffer *out);

#endif
