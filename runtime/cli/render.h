/* render.h - a plan drawn for people: devices, a heat strip of modules, and the ways data takes between memories. */
#ifndef BERTH_CLI_RENDER_H
#define BERTH_CLI_RENDER_H

#include "cli/cli.h"

typedef struct cli_style {
    bool color;
    int width; /* columns */
} cli_style;

/* One row a device: what each kind of memory takes and what is left of the limit. */
void cli_render_devices(const berth_plan *plan, cli_style style, berth_buffer *out);

/* Rows are devices, columns parts of the model in the order they run; a cell's shade is its share of the weights. */
void cli_render_strip(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out);

/* Where pixels, image features, hidden states and logits cross between memories. `bytes` [(n+1)^2] from a run, or NULL: the plan's bounds are shown. */
void cli_render_paths(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out);

/* Bytes moved per edge in a run. */
void cli_render_edges(const berth_plan *plan, const uint64_t *edge_bytes, cli_style style, berth_buffer *out);

const char *cli_device_name(const berth_plan *plan, int32_t device); /* "host" for -1 and for n_devices */

#endif
