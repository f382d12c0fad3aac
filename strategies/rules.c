/* rules.c - see rules.h. Sources: InternVL3 model card, split_model; llama.cpp src/llama-model.cpp, load_tensors; vLLM
 * vllm/distributed/utils.py, get_pp_indices; SGLang get_pp_indices; DeepSpeed deepspeed/runtime/utils.py,
 * partition_uniform and partition_balanced. */
#include "strategies/rules.h"

#include <math.h>
#include <stdlib.h>

int32_t berth_rule_internvl(int32_t n_layers, int32_t n_devices, int32_t *layer_device, int32_t *out_phantom)
{
    int32_t whole = (int32_t)ceil(n_layers / (n_devices - 0.5)),
            layer = 0; /* device 0 counts as half: it has the vision tower */
    for (int32_t d = 0; d < n_devices; d++) {
        int32_t slot = d == 0 ? (int32_t)ceil(whole * 0.5) : whole;
        for (int32_t i = 0; i < slot; i++, layer++)
            if (layer < n_layers) layer_device[layer] = d;
    }
    *out_phantom = layer - n_layers;
    layer_device[n_layers - 1] = 0;
    return whole;
}

void berth_rule_layer(int32_t n_layers, int32_t n_offloaded, bool is_old, const float *weights, int32_t n_devices,
                      int32_t *layer_device)
{
    int32_t n_all = n_layers + 1, n_active = n_offloaded < n_all ? n_offloaded : n_all;
    int32_t start = (is_old ? n_layers : n_all) - n_offloaded;
    float sum = 0, total = 0; /* float32, as the source has it: layers near a boundary depend on the rounding */
    for (int32_t d = 0; d < n_devices; d++) total += weights[d];
    if (start < 0) start = 0;
    for (int32_t il = 0; il < n_all; il++) {
        layer_device[il] = -1;
        if (il < start || il - start >= n_active) continue;
        float at = (float)(il - start) / (float)n_active;
        sum = 0;
        for (int32_t d = 0; d < n_devices && layer_device[il] < 0; d++) {
            sum += weights[d];
            if (sum / total > at) layer_device[il] = d;
        }
    }
}

void berth_rule_vllm(int32_t n_layers, int32_t n_stages, int32_t *counts)
{
    int32_t rest = n_layers % n_stages;
    for (int32_t s = 0; s < n_stages; s++) {
        int32_t from_end = n_stages - s; /* 1 = the last stage, which has the head */
        counts[s] = n_layers / n_stages + (from_end >= 2 && from_end < rest + 2);
    }
}

void berth_rule_sglang(int32_t n_layers, int32_t n_stages, int32_t *counts)
{
    for (int32_t s = 0; s < n_stages; s++) counts[s] = n_layers / n_stages + (n_stages - s <= n_layers % n_stages);
}

void berth_rule_deepspeed_uniform(int32_t n_items, int32_t n_parts, int32_t *bounds)
{
    bounds[0] = 0;
    for (int32_t p = 0; p < n_parts; p++) bounds[p + 1] = bounds[p] + n_items / n_parts + (p < n_items % n_parts);
}

typedef struct cell {
    double largest, smallest;
    int32_t cut;
} cell;

bool berth_rule_deepspeed_balanced(const double *weights, int32_t n_items, int32_t n_parts, int32_t *bounds)
{
    if (n_items <= n_parts) {
        berth_rule_deepspeed_uniform(n_items, n_parts, bounds);
        return true;
    }
    size_t width = (size_t)n_items + 1; /* of a row: one number of parts */
    cell *table = malloc(((size_t)n_parts + 1) * width * sizeof *table);
    double *prefix = calloc((size_t)n_items + 1, sizeof *prefix);
    bool ok = table && prefix;
    for (size_t i = 0; ok && i < ((size_t)n_parts + 1) * width; i++)
        table[i] = (cell){.largest = INFINITY, .smallest = INFINITY};
    if (ok) table[0].largest = 0;
    for (int32_t i = 1; ok && i <= n_items; i++) {
        prefix[i] = prefix[i - 1] + weights[i - 1];
        for (int32_t j = 1; j <= n_parts && j <= i; j++) {
            cell *here = &table[(size_t)j * width + (size_t)i];
            const cell *row = &table[(size_t)(j - 1) * width];
            double best = INFINITY;
            for (int32_t k = 0; k < i; k++) {
                double part = prefix[i] - prefix[k], largest = row[k].largest, smallest = row[k].smallest;
                if (part > largest) largest = part;
                if (part < smallest) smallest = part;
                if (!(best >= largest - smallest)) continue;
                best = largest - smallest;
                *here = (cell){.largest = largest, .smallest = smallest, .cut = k};
            }
        }
    }
    bounds[n_parts] = n_items;
    for (int32_t p = n_parts; ok && p > 0; p--) bounds[p - 1] = table[(size_t)p * width + (size_t)bounds[p]].cut;
    free(table);
    free(prefix);
    return ok;
}
