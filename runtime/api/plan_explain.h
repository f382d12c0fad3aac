/* plan_explain.h - the parts of an explanation: modules in plan_explain.c, values and ops in plan_explain_value.c. */
#ifndef BERTH_API_PLAN_EXPLAIN_H
#define BERTH_API_PLAN_EXPLAIN_H

#include "api/api.h"
#include "api/facts.h"

typedef struct berth_explainer {
    const berth_plan *plan;
    int32_t replica;
    berth_pass_env env;
    const char *device_names[BERTH_MAX_DEVICES];
    berth_facts facts;
} berth_explainer;

/* "why": who put the node where it is; nothing without a node. */
void berth_explain_why(berth_explainer *e, int32_t node);
const char *berth_explain_device(const berth_explainer *e, int32_t device); /* "host" for the host */

void berth_explain_value(berth_explainer *e, const berth_program *p, int32_t value);
void berth_explain_op(berth_explainer *e, const berth_program *p, int32_t op);

/* Rows for the copies of `p` whose value `wants` picks; a list only where there is one. */
void berth_explain_copies(berth_explainer *e, const char *key, const berth_program *p,
                          bool (*wants)(const berth_explainer *, const berth_program *, int32_t copy, int32_t what),
                          int32_t what);

#endif
