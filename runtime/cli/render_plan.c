/* render_plan.c - see render_plan.h. */
#include "cli/render_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void cli_render_binds(const berth_plan *plan, berth_buffer *out)
{
    const char *kind;
    int64_t room;
    char text[32];
    const int32_t device = berth_plan_binds(plan, &kind, &room);
    const uint64_t amount = room < 0 ? (uint64_t)-room : (uint64_t)room;
    berth_buffer_printf(out, "  %-16s%s, most of it %s; %s %s\n", "fullest", cli_device_name(plan, device), kind,
                        berth_format_bytes(amount, text, sizeof text), room < 0 ? "are missing" : "left");
}

/* ---- what crosses ---------------------------------------------------------------------------------------------------- */

enum { PICTURE, PROMPT, TOKEN, N_CROSSINGS };

typedef struct crossings {
    int32_t n;                    /* devices and the host behind them: [n * n], row = from */
    uint64_t *bytes[N_CROSSINGS]; /* into `owned` */
    uint64_t *owned;
} crossings;

static bool crossings_init(const berth_plan *plan, int32_t replica, crossings *out)
{
    out->n = berth_plan_n_devices(plan) + 1;
    const size_t n = (size_t)out->n * (size_t)out->n;
    out->owned = calloc(n * N_CROSSINGS, sizeof *out->owned);
    for (int k = 0; k < N_CROSSINGS && out->owned != NULL; k++) {
        out->bytes[k] = out->owned + (size_t)k * n;
        if (berth_plan_edges(plan, replica, k == PICTURE ? berth_plan_image_tiles(plan) : 0,
                             k == PROMPT ? berth_plan_chunk(plan) : 0, k == TOKEN, out->bytes[k], NULL) == BERTH_OK)
            continue;
        free(out->owned);
        out->owned = NULL;
    }
    return out->owned != NULL;
}

static void put_edge_name(const berth_plan *plan, int32_t from, int32_t to, const char *arrow, berth_buffer *out)
{
    const int32_t host = berth_plan_n_devices(plan);
    berth_buffer_printf(out, "%s%s%s", cli_device_name(plan, from == host ? -1 : from), arrow,
                        from == host ? cli_device_name(plan, to)
                                     : cli_device_name_after(plan, from, to == host ? -1 : to));
}

/* One row an edge that is used: from the host, between devices, to the host. */
static void put_edge(const berth_plan *plan, const crossings *c, int32_t from, int32_t to, int width, cli_style style,
                     berth_buffer *out)
{
    const size_t at = (size_t)from * (size_t)c->n + (size_t)to;
    if (c->bytes[PICTURE][at] + c->bytes[PROMPT][at] + c->bytes[TOKEN][at] == 0) return;
    berth_buffer name = {0};
    put_edge_name(plan, from, to, cli_arrow(style), &name);
    const char *text = name.data != NULL ? name.data : "";
    berth_buffer_printf(out, "  %s%*s", text, width - cli_columns(text), "");
    for (int k = berth_plan_image_tiles(plan) > 0 ? PICTURE : PROMPT; k < N_CROSSINGS; k++) {
        char bytes[24];
        berth_buffer_printf(out, " %10s",
                            c->bytes[k][at] == 0 ? "-" : berth_format_bytes(c->bytes[k][at], bytes, sizeof bytes));
    }
    berth_buffer_putc(out, '\n');
    out->failed = out->failed || name.failed;
    berth_buffer_deinit(&name);
}

static void put_crossings(const berth_plan *plan, const crossings *c, cli_style style, berth_buffer *out)
{
    enum { ARROW = 4, SHORT = 4 };
    const int32_t host = c->n - 1, n_tiles = berth_plan_image_tiles(plan);
    const int name = cli_name_width(plan), width = name + ARROW + (name > CLI_SHORT_NAME ? SHORT : name);
    cli_paint_dim(out, style);
    berth_buffer_printf(out, "  %-*s", width, "crosses");
    if (n_tiles > 0) berth_buffer_printf(out, " %10s", "a picture");
    berth_buffer_printf(out, " %10s %10s", "a prompt", "a token");
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
    for (int32_t to = 0; to < host; to++) put_edge(plan, c, host, to, width, style, out);
    for (int32_t from = 0; from < host; from++)
        for (int32_t to = 0; to < host; to++) put_edge(plan, c, from, to, width, style, out);
    for (int32_t from = 0; from < host; from++) put_edge(plan, c, from, host, width, style, out);
    cli_paint_dim(out, style);
    berth_buffer_puts(out, "  ");
    if (n_tiles > 0) berth_buffer_printf(out, "a picture of %d tiles, ", (int)n_tiles);
    berth_buffer_printf(out, "a prompt of %d tokens\n", (int)berth_plan_chunk(plan));
    cli_paint_plain(out, style);
}

/* ---- replicas -------------------------------------------------------------------------------------------------------- */

/* Gives each device of replica 0 its counterpart in replica r, -1 where it has none; false where the replicas are cut
 * differently. */
static bool find_counterparts(const berth_plan *plan, int32_t r, int32_t *counterpart)
{
    const int32_t n = berth_plan_n_devices(plan);
    for (int32_t d = 0; d < n; d++) counterpart[d] = -1;
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        if (berth_plan_get_module(plan, i, &m, NULL) != BERTH_OK || !m.is_tensor) continue;
        const int32_t one = berth_plan_module_device(plan, 0, i), other = berth_plan_module_device(plan, r, i);
        if (one < 0 || other < 0) return false;
        if (counterpart[one] < 0) counterpart[one] = other;
        if (counterpart[one] != other) return false;
    }
    for (int32_t d = 0; d < n; d++)
        for (int32_t e = 0; e < d; e++)
            if (counterpart[d] >= 0 && counterpart[d] == counterpart[e]) return false;
    return true;
}

static void put_as_first(const berth_plan *plan, int32_t r, const int32_t *counterpart, cli_style style,
                         berth_buffer *out)
{
    berth_buffer devices = {0};
    char lead[32];
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++)
        if (counterpart[d] >= 0)
            berth_buffer_printf(&devices, "%s%s", devices.len > 0 ? ", " : "as replica 0, on ",
                                cli_device_name(plan, counterpart[d]));
    snprintf(lead, sizeof lead, "\n  replica %-8d", (int)r);
    berth_buffer_puts(out, lead);
    cli_put_wrapped(devices.data != NULL ? devices.data : "", (int)strlen(lead) - 1, style, out);
    berth_buffer_putc(out, '\n');
    out->failed = out->failed || devices.failed;
    berth_buffer_deinit(&devices);
}

void cli_render_replicas(const berth_plan *plan, int32_t first, int32_t end, cli_style style, berth_buffer *out)
{
    int32_t *counterpart = calloc((size_t)berth_plan_n_devices(plan) + 1, sizeof *counterpart);
    if (counterpart == NULL) out->failed = true;
    for (int32_t r = first; counterpart != NULL && r < end; r++) {
        if (r > 0 && first == 0 && find_counterparts(plan, r, counterpart)) {
            put_as_first(plan, r, counterpart, style, out);
            continue;
        }
        if (berth_plan_n_replicas(plan) > 1) berth_buffer_printf(out, "\n  replica %d", (int)r);
        berth_buffer_putc(out, '\n');
        cli_render_strip(plan, r, style, out);
        berth_buffer_putc(out, '\n');
        cli_render_paths(plan, r, style, out);
        berth_buffer_putc(out, '\n');
        crossings c;
        if (crossings_init(plan, r, &c))
            put_crossings(plan, &c, style, out);
        else
            out->failed = true;
        free(c.owned);
    }
    free(counterpart);
}

/* ---- what fits ------------------------------------------------------------------------------------------------------- */

void cli_render_limits(const berth_plan_limits *limits, cli_style style, berth_buffer *out)
{
    enum { INDENT = 18 };
    berth_buffer b = {0};
    berth_buffer_printf(out, "  %-16s", "would fit");
    if (!limits->weights_fit) {
        berth_buffer_puts(&b,
                          "no context, batch or number of tiles: placed like this, the weights alone are too large");
    } else {
        if (limits->context > 0) berth_buffer_printf(&b, "a context of %" PRId64 " tokens; ", limits->context);
        if (limits->n_seqs > 0) berth_buffer_printf(&b, "%d conversations; ", (int)limits->n_seqs);
        if (limits->tiles > 0) berth_buffer_printf(&b, "%d tiles a pass; ", (int)limits->tiles);
        berth_buffer_puts(&b, b.len > 0 ? "each at most, the rest as asked"
                                        : "nothing by changing one setting alone, but a smaller context, batch and "
                                          "pass together");
    }
    cli_put_wrapped(b.data != NULL ? b.data : "", INDENT, style, out);
    berth_buffer_putc(out, '\n');
    out->failed = out->failed || b.failed;
    berth_buffer_deinit(&b);
}

void cli_json_limits(const berth_plan_limits *limits, berth_buffer *out)
{
    berth_buffer_printf(
        out, "\"limits\": {\"context\": %" PRId64 ", \"n_seqs\": %d, \"tiles\": %d, \"weights_fit\": %s}",
        limits->context, (int)limits->n_seqs, (int)limits->tiles, limits->weights_fit ? "true" : "false");
}

int32_t cli_moved_modules(const berth_plan *a, const berth_plan *b, int32_t most, berth_buffer *out)
{
    int32_t n = 0;
    for (int32_t i = 0; i < berth_plan_n_modules(a); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        if (berth_plan_get_module(a, i, &m, NULL) != BERTH_OK || !m.is_unit || m.weight_bytes == 0) continue;
        const int32_t device = berth_plan_module_device(b, 0, i);
        if (berth_plan_module_device(a, 0, i) == device) continue;
        n++;
        if (out == NULL || n > most) continue;
        berth_buffer_printf(out, "%s%s on %s", n > 1 ? ", " : "", m.path,
                            device < 0 ? "several devices" : cli_device_name(b, device));
    }
    if (out != NULL && n > most) berth_buffer_printf(out, " and %d more", (int)(n - most));
    return n;
}
