/* plan.h - everything decided before a byte is loaded: programs of each replica, placed, routed, checked and allotted,
 * and the bytes each device needs.
 *
 * A plan is what `berth plan` shows and what an engine is made from: what is planned is what is allocated, to the byte.
 * Pure: no device is touched. */
#ifndef BERTH_PLAN_PLAN_H
#define BERTH_PLAN_PLAN_H

#include "arch/arch.h"
#include "exec/backend.h"
#include "machine/machine.h"
#include "model/model.h"
#include "plugin/plugin.h"
#include "program/override.h"
#include "program/passes.h"

/* What devices multiply in. AUTO: bf16 where a device has it (compute capability 8.0), else fp16 with an fp32 residual
 * stream; fp32 on plain cpu devices. */
typedef enum berth_plan_dtype { BERTH_PLAN_AUTO, BERTH_PLAN_FP32, BERTH_PLAN_FP16, BERTH_PLAN_BF16 } berth_plan_dtype;

/* Of all sequences together: slots are counted in 31 bits with room for rounding. */
enum { BERTH_PLAN_MOST_TOKENS = 1 << 26 };

typedef struct berth_plan_config {
    int64_t context;     /* KV tokens of one sequence; 0 = min(max_positions, 4096) or what a request needs */
    int32_t n_seqs;      /* sequences whose KV is kept at once; 0 = 1 */
    int32_t chunk;       /* tokens of one prefill pass; 0 = 512 */
    int32_t tiles;       /* tiles of one encode pass; 0 = 4 */
    int32_t max_tiles;   /* tiles in the feature store, all sequences together; 0 = 2 * (preprocess.max_tiles + 1) */
    bool trace;          /* logits of all positions */
    bool kernels_ref;    /* the plain-loop kernels */
    const char *kernels; /* a named kernel set; NULL = the fastest */
    berth_plan_dtype dtype;
    berth_plugin_options plugins; /* borrowed while the plan is made, as is what follows */
    berth_override override;      /* what the user puts elsewhere than the strategy or map does */
    const char *compat;           /* "accelerate"; NULL = berth's own rules */
    int64_t kv_tokens;            /* KV tokens of all sequences together, at least a context; 0 = context * n_seqs */
    int32_t draft;                /* rows for tokens guessed ahead, of each sequence in a step */
    /* passes in flight at once on a replica; 0 = as many as it has devices, at most n_seqs. Each has activations of its
     * own; workspace is a device's, of whichever op runs, or, on a GPU, the pass's too */
    int32_t passes;
    bool batch_invariant; /* on GPUs only kernels whose bits for a row do not depend on the other rows of a pass */
} berth_plan_config;

typedef struct berth_replica_plan {
    berth_program *encode; /* NULL: text-only model */
    berth_program *step;
    const berth_backend *backends[BERTH_MAX_DEVICES];
} berth_replica_plan;

typedef struct berth_measured { /* of a device's whole GPU, by the driver's count; bytes; 0 = not measured */
    uint64_t taken;             /* while the engine was made, by all its devices there */
    uint64_t used_before;       /* with a context, before: that and other programs */
} berth_measured;

typedef struct berth_core_plan {
    const berth_model_data *model; /* retained */
    const berth_machine *machine;  /* borrowed: outlives the plan */
    berth_placement *placement;    /* owned */
    berth_plan_config config;      /* with defaults filled in */
    const berth_kernels *kernels;
    berth_replica_plan *replicas;            /* owned, [placement->n_replicas] */
    berth_device_bytes *devices;             /* owned, [machine->n_devices] */
    uint64_t token_bytes[BERTH_MAX_DEVICES]; /* weights on each device that one generated token reads */
    int32_t n_blocks, block;                 /* KV blocks of each replica, tokens a block */
    int64_t feature_rows;                    /* of each replica's feature store */
    bool fits;
    int32_t worst_device; /* the device that misses most when !fits */
    uint64_t missing_bytes;
    berth_dtype compute[BERTH_MAX_DEVICES];     /* what each device multiplies in */
    uint32_t device_dtypes[BERTH_MAX_DEVICES];  /* a bit for each dtype it can */
    berth_measured measured[BERTH_MAX_DEVICES]; /* of an engine's plan; written while it is made */
} berth_core_plan;

/* `strategy` is a registered name or a plug-in (plugin/plugin.h), with its argument ("replicate=2"); or `device_map`
 * (JSON text) is given instead. Succeeds also when it does not fit (see `fits`): strategies that refuse give their own
 * BERTH_DOES_NOT_FIT. */
berth_status berth_core_plan_create(const berth_model_data *model, const berth_machine *machine, const char *strategy,
                                    const char *device_map, size_t device_map_len, const berth_plan_config *config,
                                    berth_core_plan **out, berth_error *err);
void berth_core_plan_destroy(berth_core_plan *plan);

/* Whether it fits the machine's limits as they are now, which device misses most, and how much. */
void berth_core_plan_judge(berth_core_plan *plan);

/* The strategy input for a model on a machine: node views, device budgets, what activations will take. For placement,
 * explain and tests. `out` borrows from both; deinit frees its arrays. */
berth_status berth_strategy_input_init(const berth_model_data *model, const berth_machine *machine,
                                       const berth_plan_config *config, berth_strategy_input *out, berth_error *err);
void berth_strategy_input_deinit(berth_strategy_input *in);

/* berth's own names of modules, which are the same for every layout: vision, vision.embed, vision.layer.3, projector,
 * text, text.embed, text.layer.3, text.norm, head. The caller frees; NULL: out of memory. */
berth_alias *berth_plan_aliases(const berth_model_data *model, int32_t *out_n);

/* What a device gives each pass in flight for values between ops (of one program at a time), and as scratch of one op:
 * once for all passes where ops run one at a time, to each of `passes` where the device queues them. */
size_t berth_replica_activations(const berth_replica_plan *r, int32_t device);
size_t berth_replica_workspace(const berth_replica_plan *r, int32_t device);
int32_t berth_replica_workspaces(const berth_replica_plan *r, int32_t device, int32_t passes);

/* The environment of the passes for replica r (names of devices and nodes). `names` [machine->n_devices] is the
 * caller's storage. */
berth_pass_env berth_core_plan_env(const berth_core_plan *plan, int32_t replica, const char **names);

#endif
