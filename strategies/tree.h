/* tree.h - a module tree as PyTorch registers it: what accelerate's rules are defined over, for any model, also one
 * that berth cannot run.
 *
 * Order is registration order, which need not be execution order. Sizes are counted in bits, so that types smaller than
 * a byte stay exact. Built with the add functions, modules in pre-order with all the tensors of one added before the
 * next module; then finished once, then read-only. */
#ifndef BERTH_STRATEGIES_TREE_H
#define BERTH_STRATEGIES_TREE_H

#include <stdbool.h>

#include "berth/strategy.h"

typedef struct berth_tree_tensor {
    const char *path; /* owned by the tree */
    int32_t module;   /* that owns it */
    int32_t group;    /* tensors of one group >= 0 are one tensor; -1 = tied to none */
    bool is_buffer, is_float;
    bool is_counted; /* false for the later names of a tied tensor */
    int32_t element_bits;
    int64_t n_elements;
} berth_tree_tensor;

typedef struct berth_tree_module {
    const char *path, *class_name;
    int32_t parent;                                         /* -1 = the root, module 0 */
    int32_t first_child, last_child, next_sibling;          /* -1 = none */
    int32_t first_param, n_params, first_buffer, n_buffers; /* tensor indices; the n_params from first_param on */
} berth_tree_module;

typedef struct berth_tree {
    berth_tree_module *modules;
    berth_tree_tensor *tensors; /* of each module: its parameters, then its buffers */
    int32_t n_modules, n_tensors, cap_modules, cap_tensors;
    int32_t n_groups;
    int32_t *slots, n_slots; /* path -> entry, open addressing; an entry is a module, or n_modules + tensor */
    char **texts;            /* every owned string */
    int32_t n_texts, cap_texts;
} berth_tree;

void berth_tree_deinit(berth_tree *t); /* {0} is an empty tree, and the one to begin with */

/* Adds the module `path` ("" for the first one, the root; else its parent was added before and is the last module or
 * one above it). Errors: BERTH_BAD_FILE naming the path; BERTH_OUT_OF_MEMORY. */
berth_status berth_tree_add_module(berth_tree *t, const char *path, const char *class_name, berth_error *err);

/* Adds a tensor of the module added last; parameters before buffers. `dtype`: bf16 f16 f32 f64 f8 i64 i32 i16 i8 u8
 * bool i4 i2, or torch's own names. */
berth_status berth_tree_add_tensor(berth_tree *t, const char *name, int64_t n_elements, const char *dtype,
                                   bool is_buffer, berth_error *err);

/* Repeats, n times in all, the subtree that stands at `path`.0 and was added last, as `path`.1, `path`.2, ... */
berth_status berth_tree_repeat(berth_tree *t, const char *path, int32_t n, berth_error *err);

/* Makes the index of names; nothing is added afterwards. BERTH_BAD_FILE for a path that is there twice. */
berth_status berth_tree_finish(berth_tree *t, berth_error *err);

/* After finish: says that these parameters are one tensor. BERTH_BAD_FILE for an unknown name, or one that is tied
 * already. */
berth_status berth_tree_tie(berth_tree *t, const char *const *names, int32_t n, berth_error *err);

/* An entry is a module or a tensor. -1 when there is none of that path. */
int32_t berth_tree_find(const berth_tree *t, const char *path);
static inline const char *berth_tree_path(const berth_tree *t, int32_t entry)
{
    return entry < t->n_modules ? t->modules[entry].path : t->tensors[entry - t->n_modules].path;
}
static inline int32_t berth_tree_parent(const berth_tree *t, int32_t entry)
{
    return entry < t->n_modules ? t->modules[entry].parent : t->tensors[entry - t->n_modules].module;
}

/* Reads the record form: {"modules": [[path, class, [[name, n, dtype]...], [[name, n, dtype, persistent]...]]...],
 * "repeat": {...}, "tied": [[name...]...]}. `node` is a berth_json_node of base/json.h; `what` names the file in
 * errors. */
struct berth_json_node;
berth_status berth_tree_from_json(const struct berth_json_node *node, const char *what, berth_tree *out,
                                  berth_error *err);

#endif
