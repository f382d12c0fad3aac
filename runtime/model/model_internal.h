/* model_internal.h - what the files that build a berth_model_data share. Order of work: weights (which files, which
 * tensors), tree (what the configuration asks for), bind (the two against each other). */
#ifndef BERTH_MODEL_MODEL_INTERNAL_H
#define BERTH_MODEL_MODEL_INTERNAL_H

#include <stdatomic.h>

#include "model/layout.h"
#include "model/model.h"
#include "model/names.h"
#include "model/safetensors.h"

/* Bytes of one element of the KV cache. The cache is kept in the compute dtype, which is fp32 on plain CPU devices.
 * */
#define BERTH_KV_ELEMENT_BYTES 4

#define BERTH_MAX_SHARDS 512 /* every shard holds a descriptor */

/* A tensor that the configuration asks for, and, after bind, the one found for it. */
typedef struct berth_tensor_spec {
    const berth_layout_row *row;
    int32_t node, layer;
    int32_t n_dims;
    int64_t dims[4];               /* as in the file */
    const berth_safetensor *found; /* NULL: not there (or opened without weights) */
    int32_t shard;
} berth_tensor_spec;

typedef struct berth_model_files {
    berth_safetensors **shards; /* owned, [n] */
    berth_model_shard *views;   /* [n] */
    int32_t n;
    bool may_lack_data; /* for planning: files that end behind their headers will do */
    const char *what;   /* "model.safetensors" or "model.safetensors.index.json", for errors */
} berth_model_files;

struct berth_model_data {
    atomic_int references;
    char *dir;
    berth_model_config config;
    const berth_layout_desc *layout;
    berth_model_files files;
    berth_strings strings; /* owns paths and class names */
    berth_node_view *nodes;
    int32_t n_nodes, cap_nodes;
    berth_name_table paths; /* path -> node */
    berth_tensor_spec *specs;
    int32_t n_specs, cap_specs;
    int32_t *spec_of_node; /* [n_nodes]; -1 for modules and buffers */
    berth_param *params;
    int32_t n_params;
    int32_t layer_stride; /* layers of the deeper tower, + 1 for "no layer" */
    int32_t *param_of;    /* [BERTH_ROLE_COUNT * layer_stride] */
    int32_t *module_of;   /* [(BERTH_M_HEAD + 1) * layer_stride] */
};

/* Opens model.safetensors or the shards of the index and checks that index and shards agree. With `allow_missing`, a
 * folder without any weight file gives n == 0, and files of headers only are accepted. */
berth_status berth_model_files_open(const char *dir, bool allow_missing, berth_model_files *out, berth_error *err);
void berth_model_files_deinit(berth_model_files *w);

/* files_index.c */
berth_status berth_model_files_open_index(const char *dir, berth_model_files *out, berth_error *err);
berth_status berth_model_files_add(berth_model_files *w, const char *dir, const char *name, berth_error *err);

berth_status berth_tree_build(berth_model_data *m, berth_error *err);
/* Adds up bytes and work from the tensors to the root. Needs the dtypes that bind found. */
void berth_tree_sum(berth_model_data *m);

berth_status berth_bind(berth_model_data *m, berth_error *err);

/* `name` as the tree spells it, in `out` (n bytes); false when it does not fit. */
bool berth_layout_canonical(const berth_layout_desc *layout, const char *name, char *out, size_t n);

#endif
