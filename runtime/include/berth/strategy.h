/* strategy.h - the plug-in ABI: what a placement strategy sees and what it answers.
 *
 * A strategy is a pure function: module tree + machine + options -> a device for every part of the model. It keeps no
 * state, prints nothing, and sees no more of berth than this file. Views are read-only and borrowed for the call. New
 * fields are appended to the structs; arrays carry their element size, so walk them with the accessors below. What a
 * strategy returns is validated by the caller. A small whole example: strategies/single.c. */
#ifndef BERTH_STRATEGY_H
#define BERTH_STRATEGY_H

#include <stddef.h>
#include <stdint.h>

#include "berth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BERTH_STRATEGY_ABI 1 /* of this header; a changed meaning is a new number */

enum {
    BERTH_NODE_TENSOR = 1,   /* a parameter: a leaf with bytes of its own */
    BERTH_NODE_NO_SPLIT = 2, /* a module whose parts belong on one device (a decoder layer, a vision block) */
    BERTH_NODE_BUFFER = 4,   /* a tensor that is no parameter (rotary inv_freq) */
};

/* A module or a tensor of the model. Nodes stand in pre-order: a node's subtree is [i, i + n_descendants]. Siblings
 * stand in execution order: what runs first comes first. Node 0 is the whole model, with path "". */
typedef struct berth_node_view {
    const char *path;       /* Hugging Face name: "language_model.model.layers.3.self_attn.q_proj" */
    const char *class_name; /* "Qwen2DecoderLayer", "Linear", ...; "" for tensors */
    int32_t parent;         /* -1 for node 0 */
    int32_t n_descendants;  /* nodes below it */
    uint32_t flags;         /* BERTH_NODE_* */
    int32_t tied_to;        /* tensor: node index of the tensor it shares storage with, else -1 */
    uint64_t weight_bytes;  /* of the subtree, as stored; a tied tensor counts once, at the name it is stored under */
    uint64_t kv_bytes_per_token; /* of the subtree: key-value cache for one token */
    double flops_per_token;      /* of the subtree: multiply-adds * 2 for one text token, without attention scores */
    double flops_per_tile;       /* of the subtree: the same for one image tile, without attention scores */
    int64_t n_elements;          /* tensor: element count; 0 for modules */
    int32_t element_bits;        /* tensor: bits per stored element */
    /* Attention, of the subtree; present where node_size covers it. Multiply-adds * 2 of scores and of what they weigh:
     * for each pair of a text token and a token of its context, itself included; and for one tile within itself. */
    double attention_flops_per_pair;
    double attention_flops_per_tile; /* the second of the two */
} berth_node_view;

/* A device of the machine. */
typedef struct berth_device_view {
    const char *name;      /* "cpu:0", "cuda:1" */
    uint64_t budget_bytes; /* what weights, KV and activations together may take on it */
    /* of that: what activations and workspace will take wherever modules go (an upper bound) */
    uint64_t reserved_bytes;
    double flops;            /* multiply-adds * 2 per second; 0 = unknown */
    double bytes_per_second; /* memory read rate; 0 = unknown */
    int32_t physical;        /* logical devices of one physical device share this number */
} berth_device_view;

/* A way from one device to another. */
typedef struct berth_link_view {
    int32_t from, to;        /* device indices */
    double bytes_per_second; /* 0 = unknown */
    double latency_ns;       /* before the first byte */
} berth_link_view;

/* What is to be placed, and where it may go. Borrowed for the call. */
typedef struct berth_strategy_input {
    size_t struct_size;
    const void *nodes;      /* [n_nodes], each node_size bytes; see berth_node_at */
    size_t node_size;       /* of the host's berth_node_view, which may be longer than the plug-in's */
    int32_t n_nodes;        /* at least 1 */
    const void *devices;    /* [n_devices], each device_size bytes; see berth_device_at */
    size_t device_size;     /* as node_size */
    int32_t n_devices;      /* at least 1 */
    const void *links;      /* [n_links], each link_size bytes; see berth_link_at */
    size_t link_size;       /* as node_size */
    int32_t n_links;        /* 0 = none is known */
    const char *argument;   /* what stands after '=' in "replicate=2"; NULL = nothing */
    int64_t context_tokens; /* KV tokens to plan for, all sequences together */
    int32_t max_tiles;      /* image tiles in one encode pass */
    /* The request whose time is to be short; present where struct_size covers it, zeros = not known. */
    int32_t request_tiles;           /* tiles of its pictures */
    int64_t request_prompt_tokens;   /* its prompt, pictures included */
    int64_t request_new_tokens;      /* made one after the other */
    uint64_t hidden_bytes_per_token; /* what one token's hidden state takes on its way to the next device */
    uint64_t hidden_bytes_per_tile;  /* the same for one tile inside the vision tower */
} berth_strategy_input;

/* Filled by `place`. device_of[r * n_nodes + i] is the device of node i in replica r, or -1 where the node itself is
 * not placed (its descendants, or an ancestor, are). Every tensor must be covered exactly once on the way from it to
 * the root. */
typedef struct berth_strategy_output {
    size_t struct_size;
    int32_t *device_of;   /* caller's storage, [max_replicas * n_nodes], all -1 at entry */
    int32_t max_replicas; /* capacity; at least n_devices */
    int32_t n_replicas;   /* set by the strategy; at least 1 */
    char note[512];       /* what a user should know: a device left empty, a rule that bound; "" = nothing */
} berth_strategy_output;

/* A strategy: its name and its two functions. Static storage. */
typedef struct berth_strategy {
    uint32_t abi; /* BERTH_STRATEGY_ABI */
    size_t struct_size;
    const char *name;   /* lower case, digits and '_' */
    const char *about;  /* one line for `berth strategies` */
    const char *source; /* where the rule comes from; NULL = berth's own */
    /* Can it serve this model on this machine at all (argument, device count)? NULL = always. On refusal err says why
     * and what would work. */
    berth_status (*check)(const berth_strategy_input *in, berth_error *err);
    /* BERTH_DOES_NOT_FIT with a reason in err when there is no such placement. Called after check. Thread-safe. */
    berth_status (*place)(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err);
} berth_strategy;

#define BERTH_STRATEGY_EXPORT __attribute__((visibility("default")))
/* What a plug-in defines: its table, static storage, for the host's BERTH_STRATEGY_ABI; or NULL when it does not serve
 * that. Exported however the plug-in is compiled. docs/strategy-plugins.md has the whole story,
 * examples/strategy_plugin.c a whole plug-in. */
BERTH_STRATEGY_EXPORT const berth_strategy *berth_strategy_plugin(uint32_t host_abi);
typedef const berth_strategy *(*berth_strategy_plugin_fn)(uint32_t host_abi); /* its type, for who loads one */

/* Node i, whatever size the host's elements have. */
static inline const berth_node_view *berth_node_at(const berth_strategy_input *in, int32_t i)
{
    return (const berth_node_view *)(const void *)((const char *)in->nodes + (size_t)i * in->node_size);
}
/* Device i, whatever size the host's elements have. */
static inline const berth_device_view *berth_device_at(const berth_strategy_input *in, int32_t i)
{
    return (const berth_device_view *)(const void *)((const char *)in->devices + (size_t)i * in->device_size);
}
/* Link i, whatever size the host's elements have. */
static inline const berth_link_view *berth_link_at(const berth_strategy_input *in, int32_t i)
{
    return (const berth_link_view *)(const void *)((const char *)in->links + (size_t)i * in->link_size);
}

#ifdef __cplusplus
}
#endif
#endif
