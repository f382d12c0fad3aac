/* rules.h - the arithmetic of published schemes, apart from models and machines, so that it is tested against their own
 * numbers. */
#ifndef BERTH_STRATEGIES_RULES_H
#define BERTH_STRATEGIES_RULES_H

#include <stdbool.h>
#include <stdint.h>

/* InternVL's split_model: layers on each device, layer_device[n_layers]. Gives the number of layers a whole slot has;
 * *out_phantom: indices it assigns past the last layer. */
int32_t berth_rule_internvl(int32_t n_layers, int32_t n_devices, int32_t *layer_device, int32_t *out_phantom);

/* llama.cpp's layer split: layer_device[n_layers + 1], the last one the output head's; -1 = host. weights[n]: of any
 * scale, not all 0. n_offloaded: its -ngl. is_old: as until February 2025, where the head counts only when all layers
 * are offloaded. */
void berth_rule_layer(int32_t n_layers, int32_t n_offloaded, bool is_old, const float *weights, int32_t n_devices,
                      int32_t *layer_device);

/* vLLM's pipeline stages: one more layer for the stages before the last; SGLang's: for the last ones. */
void berth_rule_vllm(int32_t n_layers, int32_t n_stages, int32_t *counts);
void berth_rule_sglang(int32_t n_layers, int32_t n_stages, int32_t *counts);

/* DeepSpeed's partition_uniform and partition_balanced (the least difference between largest and smallest part, later
 * cuts preferred): bounds[n_parts + 1]. balanced: false without memory. */
void berth_rule_deepspeed_uniform(int32_t n_items, int32_t n_parts, int32_t *bounds);
bool berth_rule_deepspeed_balanced(const double *weights, int32_t n_items, int32_t n_parts, int32_t *bounds);

#endif
