/* render.h - a plan drawn for people: devices, a heat strip of modules, and the ways data takes between memories.
 *
 * Everything reads the public plan interface only. On a terminal lines are kept to its width; where standard output is
 * a file or a pipe tables are whole and nothing is wrapped. */
#ifndef BERTH_CLI_RENDER_H
#define BERTH_CLI_RENDER_H

#include "cli/cli.h"

typedef struct cli_style {
    bool color;
    bool is_ascii; /* the locale has no UTF-8 */
    bool wraps;    /* a terminal: lines are kept to `width` */
    int width;     /* columns */
} cli_style;

cli_style cli_style_of(const cli_args *a, int fd);

/* One row a device: what each kind of memory takes and how much of the limit that is. Narrow terminals get fewer
 * columns: features, activations and workspace together as "passes". */
void cli_render_devices(const berth_plan *plan, cli_style style, berth_buffer *out);

/* Rows are devices, columns parts of the model in the order they run; a cell's shade is its share of the weights. With
 * several replicas only the replica's own devices have rows. */
void cli_render_strip(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out);

/* Where pixels, image features, hidden states and logits cross between memories. */
void cli_render_paths(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out);

/* What moved over each edge in a request, its way, and how long that took where it is known: a row an edge, and below
 * them why some have no better way. */
void cli_render_edges(berth_engine *engine, const berth_result *r, cli_style style, berth_buffer *out);

/* Does the replica hold any part on that device? */
bool cli_is_in_replica(const berth_plan *plan, int32_t replica, int32_t device);

const char *cli_device_name(const berth_plan *plan, int32_t device); /* "host" for -1 and for n_devices */

/* The name behind another device's: ":3" where what stands before it is long and the same. */
const char *cli_device_name_after(const berth_plan *plan, int32_t before, int32_t device);

const char *cli_arrow(cli_style style);
int cli_columns(const char *text); /* on a terminal: characters, not bytes */

/* Words of `text`, the first standing at column `indent` of a line begun by the caller; later lines begin there too. */
void cli_put_wrapped(const char *text, int indent, cli_style style, berth_buffer *out);

void cli_paint_device(berth_buffer *out, cli_style style, int32_t device);
void cli_paint_dim(berth_buffer *out, cli_style style);
void cli_paint_bold(berth_buffer *out, cli_style style);
void cli_paint_plain(berth_buffer *out, cli_style style);

enum { CLI_SHORT_NAME = 8 };                /* "cpu:0" and its like; worn devices have longer names */
int cli_name_width(const berth_plan *plan); /* of the longest device's name, at least that */

#endif
