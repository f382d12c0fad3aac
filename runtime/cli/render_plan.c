/* render_plan.c - see render_plan.h. */
#include "cli/render_plan.h"

#include <inttypes.h>
#include <stdlib.h>

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

static void put_line(const berth_plan *plan, int32_t replica, const char *what, int32_t n_tiles, int64_t n_prompt,
                     int64_t n_new, berth_buffer *out)
{
    const size_t n = (size_t)berth_plan_n_devices(plan) + 1;
    uint64_t *edges = calloc(n * n, sizeof *edges);
    if (edges == NULL || berth_plan_edges(plan, replica, n_tiles, n_prompt, n_new, edges, NULL) != BERTH_OK) {
        out->failed = true;
    } else {
        berth_buffer_printf(out, "  %-14s", what);
        const size_t before = out->len;
        cli_render_edges(plan, edges, (cli_style){0}, out);
        if (out->len == before) berth_buffer_puts(out, "  nothing\n");
    }
    free(edges);
}

void cli_render_crossings(const berth_plan *plan, int32_t replica, int64_t n_prompt, berth_buffer *out)
{
    const int32_t n_tiles = berth_plan_image_tiles(plan);
    if (n_tiles > 0) put_line(plan, replica, "per picture", n_tiles, 0, 0, out);
    put_line(plan, replica, "per prompt", 0, n_prompt, 0, out);
    put_line(plan, replica, "per token", 0, 0, 1, out);
    berth_buffer_printf(out, "  %-16s", "");
    if (n_tiles > 0) berth_buffer_printf(out, "a picture of %d tiles, ", (int)n_tiles);
    berth_buffer_printf(out, "a prompt of %" PRId64 " tokens\n", n_prompt);
}

void cli_render_limits(const berth_plan_limits *limits, berth_buffer *out)
{
    if (!limits->weights_fit) {
        berth_buffer_puts(
            out,
            "  no context, batch or number of tiles would fit: placed like this, the weights alone are too large\n");
        return;
    }
    berth_buffer_printf(out, "  %-16s", "what would fit");
    if (limits->context > 0) berth_buffer_printf(out, "a context of %" PRId64 " tokens; ", limits->context);
    if (limits->n_seqs > 0) berth_buffer_printf(out, "%d conversations; ", (int)limits->n_seqs);
    if (limits->tiles > 0) berth_buffer_printf(out, "%d tiles a pass; ", (int)limits->tiles);
    berth_buffer_puts(out,
                      limits->context > 0 || limits->n_seqs > 0 || limits->tiles > 0
                          ? "each at most, the rest as asked\n"
                          : "nothing by changing one setting alone, but a smaller context, batch and pass together\n");
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
