/* good.c - a plug-in that does as it should: the children of the root dealt out to the devices in turn; good=N: N
 * replicas, each whole on a device. */
#include <berth/strategy.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static berth_status good_check(const berth_strategy_input *in, berth_error *err)
{
    if (!in->argument || (atoi(in->argument) >= 1 && atoi(in->argument) <= in->n_devices)) return BERTH_OK;
    err->status = BERTH_INVALID_ARGUMENT;
    snprintf(err->message, sizeof err->message, "good=N takes 1 to %d, not %s", (int)in->n_devices, in->argument);
    return BERTH_INVALID_ARGUMENT;
}

/* Reads every byte that it is given, so that a hole in the copy would be found. */
static size_t read_all(const berth_strategy_input *in)
{
    size_t sum = 0;
    for (int32_t i = 0; i < in->n_nodes; i++)
        sum += strlen(berth_node_at(in, i)->path) + strlen(berth_node_at(in, i)->class_name) + (size_t)i;
    for (int32_t d = 0; d < in->n_devices; d++) sum += strlen(berth_device_at(in, d)->name);
    for (int32_t k = 0; k < in->n_links; k++) sum += (size_t)(berth_link_at(in, k)->from + berth_link_at(in, k)->to);
    return sum;
}

static berth_status good_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    (void)err;
    out->n_replicas = in->argument ? atoi(in->argument) : 1;
    for (int32_t r = 0; in->argument && r < out->n_replicas; r++) out->device_of[r * in->n_nodes] = r;
    for (int32_t i = 1, d = 0; !in->argument && i < in->n_nodes; i += 1 + berth_node_at(in, i)->n_descendants)
        out->device_of[i] = d++ % in->n_devices;
    snprintf(out->note, sizeof out->note, "read %zu", read_all(in));
    return BERTH_OK;
}

static const berth_strategy table = {.abi = BERTH_STRATEGY_ABI,
                                     .struct_size = sizeof(berth_strategy),
                                     .name = "good",
                                     .about = "as it should be",
                                     .source = "nobody",
                                     .check = good_check,
                                     .place = good_place};

const berth_strategy *berth_strategy_plugin(uint32_t host_abi)
{
    return host_abi == BERTH_STRATEGY_ABI ? &table : NULL;
}
