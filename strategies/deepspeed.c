/* deepspeed.c - DeepSpeed's pipeline partitions of all parts of the model, in execution order.
 *   deepspeed, deepspeed=parameters   the cut with the least difference between the largest and the smallest count of
 *                                     parameters, later cuts preferred
 *   deepspeed=uniform                 equal counts of parts
 *   deepspeed=type:REGEX              equal counts of the parts whose class matches, letter case aside
 * Parts are what may not be divided (a layer, an embedding, a norm). Memory is not looked at.
 * Source: DeepSpeed, deepspeed/runtime/pipe/module.py, _partition_layers; utils.py, partition_uniform and
 * partition_balanced. */
#include "berth/strategy.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/layers.h"
#include "strategies/rules.h"
#include "strategies/words.h"

static bool is_by_type(const char *argument)
{
    return strncmp(argument, "type:", 5) == 0;
}

static berth_status deepspeed_check(const berth_strategy_input *in, berth_error *err)
{
    const char *argument = in->argument;
    if (!argument || strcmp(argument, "parameters") == 0 || strcmp(argument, "uniform") == 0) return BERTH_OK;
    regex_t regex;
    if (is_by_type(argument) && regcomp(&regex, argument + 5, REG_EXTENDED | REG_ICASE | REG_NOSUB) == 0) {
        regfree(&regex);
        return BERTH_OK;
    }
    return berth_refuse(
        err, BERTH_INVALID_ARGUMENT,
        "strategy deepspeed=METHOD takes uniform, parameters or type:REGEX over class names, and \"%.80s\" was given",
        argument);
}

static double n_parameters(const berth_strategy_input *in, int32_t node)
{
    double n = 0;
    for (int32_t i = node; i <= node + berth_node_at(in, node)->n_descendants; i++) {
        const berth_node_view *view = berth_node_at(in, i);
        bool is_parameter = (view->flags & BERTH_NODE_TENSOR) && !(view->flags & BERTH_NODE_BUFFER);
        if (is_parameter && view->tied_to < 0) n += (double)view->n_elements;
    }
    return n;
}

/* One weight an atom: its parameters, or 1 where its class matches. */
static berth_status read_weights(const berth_strategy_input *in, const berth_chain *c, double *weights,
                                 berth_error *err)
{
    regex_t regex;
    bool by_type = in->argument && is_by_type(in->argument);
    if (by_type && regcomp(&regex, in->argument + 5, REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0)
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the expression %.80s", in->argument + 5);
    for (int32_t p = 0; p < c->n_pieces; p++) {
        int32_t node = c->piece_node[p];
        if (by_type)
            weights[c->piece_atom[p]] += regexec(&regex, berth_node_at(in, node)->class_name, 0, NULL, 0) == 0;
        else
            weights[c->piece_atom[p]] += n_parameters(in, node);
    }
    if (by_type) regfree(&regex);
    return BERTH_OK;
}

static berth_status deepspeed_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    double *weights = NULL;
    int32_t *bounds = NULL;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    weights = calloc((size_t)chain.n, sizeof *weights);
    bounds = calloc((size_t)in->n_devices + 1, sizeof *bounds);
    if (!weights || !bounds) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the model's parts");
        goto out;
    }
    if (in->argument && strcmp(in->argument, "uniform") == 0) {
        berth_rule_deepspeed_uniform(chain.n, in->n_devices, bounds);
    } else {
        st = read_weights(in, &chain, weights, err);
        if (st != BERTH_OK) goto out;
        if (!berth_rule_deepspeed_balanced(weights, chain.n, in->n_devices, bounds))
            st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the table of cuts");
    }
    if (st == BERTH_OK) st = berth_chain_place_cut(&chain, in, out, bounds, "deepspeed", err);
out:
    free(weights);
    free(bounds);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_deepspeed = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "deepspeed",
    .about = "DeepSpeed's pipeline partition by parameters; deepspeed=uniform, deepspeed=type:REGEX",
    .source = "DeepSpeed, PipelineModule partition_method",
    .check = deepspeed_check,
    .place = deepspeed_place,
};
