/* render_strip.c - the heat strip: which part of the model lies where, in the order in which it runs. */
#include <stdlib.h>
#include <string.h>

#include "cli/render.h"

/* A column: a run of neighbouring modules of one kind. */
typedef struct column {
    int32_t first, last; /* module indices */
    uint64_t bytes;
    int section;     /* 0 vision, 1 projector, 2 embedding, 3 layers, 4 norm and head */
    int32_t n_units; /* modules merged into it */
} column;

/* Long where there is room for it; short ones fit every section. */
static const char *const section_names[][2] = {{"vision", "vis"},
                                               {"projector", "proj"},
                                               {"embedding", "emb"},
                                               {"language layers", "lang"},
                                               {"norm, head", "head"}};

static const char *section_name(int section, int room)
{
    return section_names[section][(int)strlen(section_names[section][0]) > room];
}

static bool ends_with_number(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL && dot[1] >= '0' && dot[1] <= '9';
}

static int section_of(const berth_plan_module *m)
{
    if (strstr(m->path, "vision") != NULL) return 0;
    if (strstr(m->path, "mlp1") != NULL || strstr(m->path, "projector") != NULL) return 1;
    if (strstr(m->path, "embed_tokens") != NULL) return 2;
    return strstr(m->path, "layers.") != NULL ? 3 : 4;
}

/* The units that a strip shows: repeated layers one by one, and whatever else holds tensors beside them. */
static bool is_unit(const berth_plan *plan, int32_t i, const berth_plan_module *m, int32_t *out_last)
{
    if (m->weight_bytes == 0) return false;
    int32_t last = i;
    bool has_layers = false;
    berth_plan_module k = {.struct_size = sizeof k};
    while (last + 1 < berth_plan_n_modules(plan) && berth_plan_get_module(plan, last + 1, &k, NULL) == BERTH_OK &&
           k.depth > m->depth) {
        last++;
        has_layers = has_layers || (!k.is_tensor && ends_with_number(k.path));
    }
    *out_last = last;
    if (ends_with_number(m->path) && !m->is_tensor) return true;
    if (has_layers) return false;
    /* Without layers inside: a unit as soon as nothing above it is one, except the inner wrapper modules that only group. */
    return m->depth > 0;
}

static int32_t collect(const berth_plan *plan, column *columns, int32_t cap)
{
    int32_t n = 0;
    for (int32_t i = 0; i < berth_plan_n_modules(plan) && n < cap;) {
        berth_plan_module m = {.struct_size = sizeof m};
        int32_t last = i;
        if (berth_plan_get_module(plan, i, &m, NULL) != BERTH_OK || !is_unit(plan, i, &m, &last)) {
            i++;
            continue;
        }
        columns[n++] =
            (column){.first = i, .last = last, .bytes = m.weight_bytes, .section = section_of(&m), .n_units = 1};
        i = last + 1;
    }
    return n;
}

/* Columns of `per` neighbouring units each, the last of a section perhaps of fewer: one scale all along the strip. */
static int32_t squeeze(const column *units, int32_t n_units, int32_t per, column *out)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_units; i++) {
        column *last = n > 0 ? &out[n - 1] : NULL;
        if (last == NULL || last->section != units[i].section || last->n_units == per) {
            out[n++] = units[i];
            continue;
        }
        last->last = units[i].last;
        last->bytes += units[i].bytes;
        last->n_units++;
    }
    return n;
}

/* Bytes of a column that lie on a device. A shade is of the bytes of one module, so that it does not depend on how many
 * share a column. */
static uint64_t bytes_on(const berth_plan *plan, int32_t replica, const column *c, int32_t device)
{
    uint64_t sum = 0;
    for (int32_t i = c->first; i <= c->last; i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        if (berth_plan_get_module(plan, i, &m, NULL) != BERTH_OK || !m.is_tensor) continue;
        if (berth_plan_module_device(plan, replica, i) == device) sum += m.weight_bytes;
    }
    return sum;
}

/* Nothing, then four shades. */
static const char *const shades[2][5] = {{"\u00b7", "\u2591", "\u2592", "\u2593", "\u2588"}, {".", "-", "+", "*", "#"}};

static const char *shade(uint64_t bytes, uint64_t most, cli_style style)
{
    const double share = (double)bytes / (double)most;
    return shades[style.is_ascii][bytes == 0 ? 0 : share > 0.6 ? 4 : share > 0.25 ? 3 : share > 0.08 ? 2 : 1];
}

enum { MIN_SECTION = 4, MAX_CELL = 3, MIN_STRIP = 24 };

static int32_t section_end(const column *columns, int32_t n, int32_t first)
{
    int32_t end = first;
    while (end < n && columns[end].section == columns[first].section) end++;
    return end;
}

/* Characters of a strip whose columns are so wide: sections are set apart by a blank and as wide as a short label. */
static int strip_width(const column *columns, int32_t n, int cell)
{
    int width = 0;
    for (int32_t i = 0; i < n; i = section_end(columns, n, i)) {
        const int drawn = (int)(section_end(columns, n, i) - i) * cell;
        width += (i > 0) + (drawn > MIN_SECTION ? drawn : MIN_SECTION);
    }
    return width;
}

static void draw_labels(const berth_plan *plan, const column *columns, int32_t n, int cell, cli_style style,
                        berth_buffer *out)
{
    berth_buffer_printf(out, "  %-*s", cli_name_width(plan), "");
    cli_paint_dim(out, style);
    for (int32_t i = 0; i < n;) {
        const int32_t end = section_end(columns, n, i);
        const int drawn = (int)(end - i) * cell, room = drawn > MIN_SECTION ? drawn : MIN_SECTION;
        berth_buffer_printf(out, " %-*s", end < n ? room : 0, section_name(columns[i].section, room));
        i = end;
    }
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
}

static void draw_row(const berth_plan *plan, int32_t replica, int32_t device, const column *columns, int32_t n,
                     int cell, uint64_t most, cli_style style, berth_buffer *out)
{
    cli_paint_device(out, style, device);
    berth_buffer_printf(out, "  %-*s", cli_name_width(plan), cli_device_name(plan, device));
    for (int32_t i = 0; i < n;) {
        const int32_t end = section_end(columns, n, i);
        berth_buffer_putc(out, ' ');
        for (int32_t c = i; c < end; c++) {
            const uint64_t bytes = bytes_on(plan, replica, &columns[c], device) / (uint64_t)columns[c].n_units;
            for (int k = 0; k < cell; k++) berth_buffer_puts(out, shade(bytes, most, style));
        }
        for (int k = (int)(end - i) * cell; k < MIN_SECTION && end < n; k++) berth_buffer_putc(out, ' ');
        i = end;
    }
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
}

static void draw_legend(const berth_plan *plan, cli_style style, berth_buffer *out)
{
    const char *const *s = shades[style.is_ascii];
    cli_paint_dim(out, style);
    berth_buffer_printf(out, "  %-*s %s none  %s%s%s%s more of the weights\n", cli_name_width(plan), "", s[0], s[1],
                        s[2], s[3], s[4]);
    cli_paint_plain(out, style);
}

void cli_render_strip(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out)
{
    enum { MAX_COLUMNS = 4096 };
    column *units = calloc(2 * MAX_COLUMNS, sizeof *units), *columns = units + MAX_COLUMNS;
    if (units == NULL) {
        out->failed = true;
        return;
    }
    int room = style.width - 3 - cli_name_width(plan), cell = 1;
    if (room < MIN_STRIP) room = MIN_STRIP;
    const int32_t n_units = collect(plan, units, MAX_COLUMNS);
    int32_t per = 1, n = squeeze(units, n_units, per, columns);
    while (per < n_units && strip_width(columns, n, 1) > room) n = squeeze(units, n_units, ++per, columns);
    while (cell < MAX_CELL && strip_width(columns, n, cell + 1) <= room) cell++;
    uint64_t most = 1;
    for (int32_t i = 0; i < n; i++) {
        const uint64_t bytes = columns[i].bytes / (uint64_t)columns[i].n_units;
        most = bytes > most ? bytes : most;
    }
    draw_labels(plan, columns, n, cell, style, out);
    const bool only_own = berth_plan_n_replicas(plan) > 1;
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++)
        if (!only_own || cli_is_in_replica(plan, replica, d))
            draw_row(plan, replica, d, columns, n, cell, most, style, out);
    draw_legend(plan, style, out);
    free(units);
}
