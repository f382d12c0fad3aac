/* program_internal.h - what the passes share: renumbering, the setting of waits, happens-before, and words for
 * errors. */
#ifndef BERTH_PROGRAM_INTERNAL_H
#define BERTH_PROGRAM_INTERNAL_H

#include "program/passes.h"

/* ---- editing ---------------------------------------------------------------------------------------------------- */

/* Every value's producer from the op list (the last writer, if two ops write one value: check refuses that). */
void berth_program_reindex(berth_program *p);

/* `op` may start only when `on`, an op of another lane, is done. */
typedef struct berth_wait_pair {
    int32_t op, on;
} berth_wait_pair;

typedef struct berth_wait_list {
    berth_wait_pair *pairs; /* owned */
    size_t n, cap;
} berth_wait_list;

bool berth_wait_list_add(berth_wait_list *list, int32_t op, int32_t on);

/* Replaces all waits of `p` by the fewest that imply `list` (sorted here): what lane order or another wait already
 * says is left out, so each wait that stays is needed. Every `on` stands before its `op` in the list of ops. False:
 * out of memory.
 * */
bool berth_waits_assign(berth_program *p, berth_wait_list *list);

/* The dtype a value has on a device that computes in `compute`. */
berth_dtype berth_dtype_on(const berth_value *v, berth_dtype compute);

/* ---- happens-before, for the checkers --------------------------------------------------------------------------- */

/* What each op knows to be done when it starts, from lane order and the recorded waits alone. */
typedef struct berth_order {
    int32_t n_ops, n_lanes;
    int32_t *at;   /* owned; [n_ops] place in its lane, from 1 */
    int32_t *lane; /* owned; [n_ops] */
    int32_t *done; /* owned; [n_ops * n_lanes]: how far each lane is known to be, the op itself excluded */
} berth_order;

/* Ops' devices and waits must be in range, waits on earlier ops only. False: out of memory. */
bool berth_order_init(berth_order *o, const berth_program *p);
void berth_order_deinit(berth_order *o);
bool berth_order_before(const berth_order *o, int32_t first, int32_t then); /* `first` is done when `then` starts */

/* ---- words ------------------------------------------------------------------------------------------------------ */

const char *berth_word_device(const berth_pass_env *env, int32_t device); /* "cpu:1", "the host", "no device" */
const char *berth_word_path(const berth_pass_env *env, int32_t node);     /* "the model" for the root, "" for none */
const char *berth_word_value(const berth_program *p, int32_t value);      /* its name; "?" out of range */
const char *berth_word_op(berth_op_kind kind);                            /* "linear"; "?" out of range */
int32_t berth_word_module(const berth_pass_env *env, int32_t node);       /* of a tensor its parent; -1 */

/* `op 41 linear "text.layer.3.q" (language_model.model.layers.3.self_attn.q_proj.weight, layer 3)` */
void berth_say_op(const berth_program *p, const berth_pass_env *env, int32_t op, berth_buffer *out);

/* `strategy balanced put X on cpu:2`; nothing when there is no placement or no node. True if it wrote. */
bool berth_say_why(const berth_pass_env *env, int32_t node, berth_buffer *out);

/* The placement's answer for `node` under env; -1. */
int32_t berth_env_device(const berth_pass_env *env, int32_t node, int32_t *out_by);

#endif
