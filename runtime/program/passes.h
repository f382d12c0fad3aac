/* passes.h - the passes over a program, one file each, and the names they need for people.
 *
 * Order: build (arch) -> place -> dtypes -> route -> check -> allot -> check_memory. Each takes a program and edits
 * it, or refuses it. All are pure: no device, no weights. */
#ifndef BERTH_PROGRAM_PASSES_H
#define BERTH_PROGRAM_PASSES_H

#include "berth/strategy.h"
#include "program/placement.h"
#include "program/program.h"

/* What passes need to know of the world around, and what their errors are worded with. Borrowed during calls. */
typedef struct berth_pass_env {
    const berth_node_view *nodes;
    int32_t n_nodes; /* module tree */
    int32_t n_devices;
    const char *const *device_names; /* [n_devices] "cpu:0" */
    const uint32_t *device_dtypes;   /* [n_devices] bit set of berth_dtype each can compute with; NULL = all */
    const berth_placement *placement;
    int32_t replica;
    const berth_dtype *compute; /* [n_devices] what each multiplies in: F32, F16 or BF16; NULL = F32 */
} berth_pass_env;

/* Gives every op the device of its node in env->placement (nearest placed ancestor; else, when its parts are split,
 * that of its first placed descendant), every weight that of its own node, every state that of the op that uses it;
 * inputs lie on the host. Clones `replicate` ops. Errors: BERTH_AFFINITY (a node without a device),
 * BERTH_INVALID_ARGUMENT (two tensors of one op, as weight and bias, put on two devices: names both). */
berth_status berth_place(berth_program *p, const berth_pass_env *env, berth_error *err);

/* Gives every value of a placed program the dtype it has on its device (env->compute): weights, keys, values and
 * activations narrow where the device is, what must stay exact fp32. The rules are in dtypes.c. Without env->compute
 * nothing changes. */
void berth_dtypes(berth_program *p, const berth_pass_env *env);

/* Puts in a copy wherever an op reads a value that lives elsewhere, once per value and device, directly before the
 * first reader; outputs are copied to the host. Weights are never copied per run: a weight read on another device
 * than its own is left for check to refuse. Records the waits that reading across lanes needs. */
berth_status berth_route(berth_program *p, const berth_pass_env *env, berth_error *err);

/* The affinity checker; on any program, trusting nothing. Operand counts, shapes (symbolically), dtypes, every
 * operand on its op's device, FULL where FULL is needed, written before read, every edge between lanes ordered by
 * waits. The error (BERTH_AFFINITY) names op, tensor, layer, both devices and what put them there. */
berth_status berth_check(const berth_program *p, const berth_pass_env *env, berth_error *err);

/* Liveness: offsets for activations in each device's region, in-place outputs, workspace (the largest op's,
 * `workspace` from `kernels`), and the waits that reusing memory needs across lanes. */
typedef struct berth_allot_options {
    const berth_kernels *kernels; /* whose workspace is planned */
    const int32_t *n_threads;     /* [n_devices] */
    bool keep_traced;             /* values with is_traced are never overwritten within a run */
    /* Where devices have other kernels: bytes of scratch of an op on `device`, instead of `kernels`; NULL = none has */
    size_t (*workspace)(void *user, int32_t device, const berth_op_call *shapes);
    void *user;
} berth_allot_options;
berth_status berth_allot(berth_program *p, const berth_allot_options *options, berth_error *err);

/* After allot: no two values that are alive at once overlap, no lane writes memory that another may still read or
 * write. BERTH_AFFINITY names both values and ops. */
berth_status berth_check_memory(const berth_program *p, const berth_pass_env *env, berth_error *err);

/* The program as text a person can read: one op a line, grouped by module, devices and shapes; copies stand out. */
bool berth_program_print(const berth_program *p, const berth_pass_env *env, berth_buffer *out);
bool berth_program_json(const berth_program *p, const berth_pass_env *env, berth_buffer *out);

/* Copies per edge, in bytes for these sizes. `out` is [(n_devices+1)^2], row from, column to; n_devices = host. */
void berth_program_edges(const berth_program *p, const berth_sizes *sizes, uint64_t *out);

#endif
