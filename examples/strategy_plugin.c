/* strategy_plugin.c - a placement strategy that lives outside of berth's tree: copy this file and change the rule.
 *
 *     cc -shared -fPIC strategy_plugin.c -o my.so $(pkg-config --cflags berth)
 *     berth plan -m MODEL --devices 'cpu*3' --strategy ./my.so=2
 *
 * The rule: what runs first goes to the first device, up to the share of the whole that the argument gives (2 = a half,
 * the default; 3 = a third), and the rest in execution order to the next devices with room. What may not be divided is
 * not.
 * Source: none; it is the smallest rule that shows every part of the interface. */
#include <berth/strategy.h>

#include <stdio.h>
#include <stdlib.h>

/* Fills err, which a host may leave out, and is `status`. */
static berth_status refuse(berth_error *err, berth_status status, const char *why, const char *what)
{
    if (err) {
        err->status = status;
        snprintf(err->message, sizeof err->message, "%s %s", why, what);
    }
    return status;
}

/* The argument: what stands behind '=', a number from 1 to 99; 0 when it is anything else. */
static int share_of(const berth_strategy_input *in)
{
    if (!in->argument) return 2;
    char *end;
    long share = strtol(in->argument, &end, 10);
    return end != in->argument && *end == '\0' && share >= 1 && share <= 99 ? (int)share : 0;
}

static berth_status check(const berth_strategy_input *in, berth_error *err)
{
    if (share_of(in) > 0) return BERTH_OK;
    return refuse(err, BERTH_INVALID_ARGUMENT, "the argument is a number from 1 to 99, not", in->argument);
}

/* What node i asks of its device: weights and the key-value cache of the planned context. */
static uint64_t bytes_of(const berth_strategy_input *in, int32_t i)
{
    const berth_node_view *node = berth_node_at(in, i);
    uint64_t bytes = node->weight_bytes + node->kv_bytes_per_token * (uint64_t)in->context_tokens;
    for (int32_t k = i; k <= i + node->n_descendants;
         k++) { /* a tied tensor's bytes stand where it is stored; it may need them here too */
        const berth_node_view *inner = berth_node_at(in, k);
        if (inner->tied_to >= 0) bytes += berth_node_at(in, inner->tied_to)->weight_bytes;
    }
    return bytes;
}

/* A node is placed whole when it may not be divided: a tensor, a module marked so, and one that tensors hang on (a
 * linear's weight and bias belong together) unless modules that are marked lie inside. */
static int is_whole(const berth_strategy_input *in, int32_t i)
{
    const berth_node_view *node = berth_node_at(in, i);
    int owns_tensor = 0;
    if (node->flags & (BERTH_NODE_TENSOR | BERTH_NODE_NO_SPLIT) || node->n_descendants == 0) return 1;
    for (int32_t k = i + 1; k <= i + node->n_descendants; k++) {
        const berth_node_view *inner = berth_node_at(in, k);
        if (inner->flags & BERTH_NODE_NO_SPLIT) return 0;
        owns_tensor |= inner->parent == i && (inner->flags & BERTH_NODE_TENSOR);
    }
    return owns_tensor;
}

static uint64_t room_of(const berth_strategy_input *in, int32_t d)
{
    const berth_device_view *device = berth_device_at(in, d);
    return device->budget_bytes > device->reserved_bytes ? device->budget_bytes - device->reserved_bytes : 0;
}

static berth_status place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    int32_t device = 0;
    uint64_t held = 0, share = bytes_of(in, 0) / (uint64_t)share_of(in);
    for (int32_t i = 0; i < in->n_nodes;) {
        const berth_node_view *node = berth_node_at(in, i);
        if (!is_whole(in, i)) {
            i++; /* its parts, one by one */
            continue;
        }
        uint64_t bytes = bytes_of(in, i);
        if (device == 0 && held > 0 && held + bytes > share && in->n_devices > 1) {
            device = 1;
            held = 0;
        }
        while (device < in->n_devices && held + bytes > room_of(in, device)) {
            device++;
            held = 0;
        }
        if (device == in->n_devices) return refuse(err, BERTH_DOES_NOT_FIT, "no device has room left for", node->path);
        out->device_of[i] = device;
        held += bytes;
        i += 1 + node->n_descendants;
    }
    out->n_replicas = 1;
    snprintf(out->note, sizeof out->note, "1/%d of the model on %s", share_of(in), berth_device_at(in, 0)->name);
    return BERTH_OK;
}

static const berth_strategy table = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "first_share",
    .about = "a share of the model on the first device, the rest after it",
    .check = check,
    .place = place,
};

const berth_strategy *berth_strategy_plugin(uint32_t host_abi)
{
    return host_abi == BERTH_STRATEGY_ABI ? &table : NULL;
}
