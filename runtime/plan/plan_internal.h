/* plan_internal.h - what plan.c and input.c share: defaults, and building one replica's programs under a
 * placement. */
#ifndef BERTH_PLAN_PLAN_INTERNAL_H
#define BERTH_PLAN_PLAN_INTERNAL_H

#include "plan/plan.h"

/* Fills defaults and checks ranges; BERTH_INVALID_ARGUMENT names the field. *out_kernels may be NULL. */
berth_status berth_plan_config_fill(const berth_model_data *model, berth_plan_config *config,
                                    const berth_kernels **out_kernels, berth_error *err);

/* What each device computes in, [n_devices], and a bit for each dtype it can. BERTH_UNSUPPORTED where a device would have to
 * emulate what is asked for. */
berth_status berth_plan_policy(const berth_machine *machine, berth_plan_dtype want, berth_dtype *out_compute,
                               uint32_t *out_dtypes, berth_error *err);

/* BERTH_UNSUPPORTED: a device of a kind that this build has no backend for. */
berth_status berth_plan_check_kinds(const berth_machine *machine, berth_error *err);

/* KV blocks for the whole plan, and rows of the feature store. */
int32_t berth_plan_blocks(const berth_plan_config *config);
int64_t berth_plan_feature_rows(const berth_model_data *model, const berth_plan_config *config);

typedef struct berth_plan_device { /* what memory is planned by */
    const berth_backend *backend;
    int32_t n_threads, capability;
} berth_plan_device;
berth_plan_device berth_plan_device_of(const berth_device *device);

/* build -> place -> route -> check -> allot -> check_memory of both programs, on devices [env->n_devices].
 * BERTH_UNSUPPORTED: a device has no kernel for an op of the model. */
berth_status berth_plan_programs(const berth_model_data *model, const berth_plan_config *config,
                                 const berth_pass_env *env, const berth_kernels *kernels,
                                 const berth_plan_device *devices, berth_replica_plan *out, berth_error *err);
void berth_replica_plan_deinit(berth_replica_plan *r);

/* The bytes of each device for the plan's replicas, and whether they fit. */
berth_status berth_plan_add_up(berth_core_plan *plan, berth_error *err);

/* plan->placement from the strategy, map or other tool's rules that are asked for, with the user's overrides. */
berth_status berth_plan_place(berth_core_plan *plan, const char *strategy, const char *map, size_t map_len,
                              berth_error *err);

/* What accelerate answers for this model with the devices' budgets, a "cpu" of any size behind them: `rule` is auto,
 * balanced, balanced_low_0 or sequential. `limits_asked`: the user gave a max_memory; without one a single device is
 * used to 0.9. BERTH_DOES_NOT_FIT where it leaves parts on cpu or disk; BERTH_UNSUPPORTED where it raises. */
berth_status berth_plan_accelerate(const berth_strategy_input *in, const char *rule, bool limits_asked,
                                   berth_placement **out, berth_error *err);

#endif
