/* accelerate.h - what Hugging Face accelerate 1.x would decide, to the byte and to the module, its defects included.
 *
 * A compatibility engine, apart from berth's own strategies: it works on a module tree in registration order, counts
 * weights and buffers only, and may leave modules on "cpu" and "disk". Source: accelerate utils/modeling.py
 * (compute_module_sizes, get_balanced_memory, infer_auto_device_map, clean_device_map), commit 16cb6eb8 of 2026-07-24. */
#ifndef BERTH_STRATEGIES_ACCELERATE_H
#define BERTH_STRATEGIES_ACCELERATE_H

#include "strategies/tree.h"

enum { BERTH_ACCELERATE_MPS = -1, BERTH_ACCELERATE_CPU = -2, BERTH_ACCELERATE_DISK = -3 }; /* device >= 0: that GPU */

typedef enum berth_accelerate_strategy {
    BERTH_ACCELERATE_SEQUENTIAL,
    BERTH_ACCELERATE_BALANCED, /* "auto" is the same */
    BERTH_ACCELERATE_BALANCED_LOW_0
} berth_accelerate_strategy;

/* By accelerate's own name; "auto" is balanced. BERTH_INVALID_ARGUMENT names those there are. */
berth_status berth_accelerate_strategy_named(const char *name, berth_accelerate_strategy *out, berth_error *err);

/* Whose budgets. transformers 5 has a copy of the planner that differs in what "leaf" and "largest" mean; the placer is
 * the same. */
typedef enum berth_accelerate_flavour {
    BERTH_ACCELERATE_1,     /* accelerate 1.x */
    BERTH_TRANSFORMERS_5_0, /* the mean is over modules that own tensors themselves */
    BERTH_TRANSFORMERS_5_X /* and the largest module of a class counts, not the first, as does the largest module without children (2026-07) */
} berth_accelerate_flavour;

/* One entry of max_memory. */
typedef struct berth_accelerate_budget {
    int32_t device;
    double bytes;  /* whole, but for the 0.9 of one GPU; exact below 2^53 */
    bool is_float; /* results: a float in Python, be it a whole one; fallback allocation fails on these */
} berth_accelerate_budget;

typedef struct berth_accelerate_request {
    const berth_tree *tree;
    berth_accelerate_strategy strategy;
    int32_t dtype_bits;          /* loading in this float type: no float counts more; 0 = each as it is */
    const char *const *no_split; /* class names */
    int32_t n_no_split;
    const berth_accelerate_budget *budgets;
    int32_t n_budgets;
    bool budgets_are_free_memory; /* not given by the user: one GPU alone is then used to 0.9 */
    bool fallback;                /* infer_auto_device_map(fallback_allocation=True) */
    berth_accelerate_flavour flavour;
} berth_accelerate_request;

typedef struct berth_accelerate_entry {
    int32_t entry; /* of the tree: berth_tree_path gives the key */
    int32_t device;
} berth_accelerate_entry;

typedef struct berth_accelerate_result {
    berth_accelerate_entry *raw,
        *map; /* owned; in order of assignment before cleaning; cleaned, in registration order */
    int32_t n_raw, n_map;
    berth_accelerate_budget *budgets; /* owned; as the placer saw them: GPUs ascending, mps, cpu, disk */
    int32_t n_budgets;
    double total_bytes;
    /* What the balanced budgets come from; 0 where they were not made. */
    double share_bytes, no_split_bytes, mean_leaf_bytes, buffer_bytes, budget_bytes;
    int32_t n_leaves;
    const char *raises; /* the Python exception's name where accelerate raises one; static; else NULL */
} berth_accelerate_result;

/* Errors: BERTH_UNSUPPORTED where accelerate raises (out->raises is set, and err says why and what would work);
 * BERTH_INVALID_ARGUMENT for budgets that are negative, not finite, or given twice; BERTH_OUT_OF_MEMORY. The tree must
 * be finished. */
berth_status berth_accelerate_place(const berth_accelerate_request *req, berth_accelerate_result *out,
                                    berth_error *err);
void berth_accelerate_deinit(berth_accelerate_result *r);

/* The device of a tensor or module by the cleaned map; false where no key covers it (buffers of modules that were
 * divided). */
bool berth_accelerate_device(const berth_tree *tree, const berth_accelerate_result *r, int32_t entry,
                             int32_t *out_device);

/* Bytes of one tensor as accelerate counts them, times 8; 0 for the later names of a tied one. */
int64_t berth_accelerate_bits(const berth_tree_tensor *tensor, int32_t dtype_bits);

/* Whether Python has that size as a float: types smaller than a byte have fractions for sizes. */
bool berth_accelerate_is_float(const berth_tree_tensor *tensor, int32_t dtype_bits);

/* "10GiB", "10GB", "10Gb" (bits), as accelerate's convert_file_size_to_int reads them; false where it raises. */
bool berth_accelerate_size(const char *text, int64_t *out_bytes);

#endif
