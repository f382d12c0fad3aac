/* render_plan.h - what `berth plan` says below its table: what binds, what crosses, what would still fit, how another
 * placement differs. As text, and as members of the JSON object. */
#ifndef BERTH_CLI_RENDER_PLAN_H
#define BERTH_CLI_RENDER_PLAN_H

#include "cli/render.h"

/* The device that is fullest and what fills it. */
void cli_render_binds(const berth_plan *plan, berth_buffer *out);

/* Strip, ways and crossings of the replicas [first, end); one that is as replica 0, on other devices, only says so
 * where that one is shown too. */
void cli_render_replicas(const berth_plan *plan, int32_t first, int32_t end, cli_style style, berth_buffer *out);

/* The largest context, batch and tiles. */
void cli_render_limits(const berth_plan_limits *limits, cli_style style, berth_buffer *out);
void cli_json_limits(const berth_plan_limits *limits, berth_buffer *out); /* `"limits": {...}` */

/* Modules that are placed as a whole and lie elsewhere in `b` than in `a`, both of one model; up to `most` are named in `out`
 * as "X on cpu:1, Y on cpu:2 and 3 more" (NULL: only counted). */
int32_t cli_moved_modules(const berth_plan *a, const berth_plan *b, int32_t most, berth_buffer *out);

#endif
