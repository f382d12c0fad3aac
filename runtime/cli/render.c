/* render.c - drawing plans. Everything here reads the public plan interface only. */
#include "cli/render.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const char *const device_colors[] = {"\033[36m", "\033[33m", "\033[35m", "\033[32m",
                                            "\033[34m", "\033[31m", "\033[96m", "\033[93m"};
static const char dim[] = "\033[2m", bold[] = "\033[1m", plain[] = "\033[0m";

static void paint(berth_buffer *out, cli_style style, const char *code)
{
    if (style.color) berth_buffer_puts(out, code);
}

static const char *color_of(int32_t device)
{
    return device_colors[(size_t)device % (sizeof device_colors / sizeof device_colors[0])];
}

const char *cli_device_name(const berth_plan *plan, int32_t device)
{
    berth_plan_device d = {.struct_size = sizeof d};
    if (device < 0 || berth_plan_get_device(plan, device, &d, NULL) != BERTH_OK) return "host";
    return d.name;
}

enum { SHORT_NAME = 8 }; /* "cpu:0" and its like; worn devices have longer names */

static int name_width(const berth_plan *plan)
{
    int width = SHORT_NAME;
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        const int len = (int)strlen(cli_device_name(plan, i));
        if (len > width) width = len;
    }
    return width;
}

void cli_render_devices(const berth_plan *plan, cli_style style, berth_buffer *out)
{
    const int width = name_width(plan);
    bool any_context = false;
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        if (berth_plan_get_device(plan, i, &d, NULL) == BERTH_OK && d.context > 0) any_context = true;
    }
    paint(out, style, dim);
    berth_buffer_printf(out, "  %-*s %10s %10s %10s %10s %10s %10s %10s", width, "device", "weights", "KV", "features",
                        "activat.", "workspace", "total", "limit");
    berth_buffer_puts(out, any_context ? "    context  dtype  cores\n" : "  cores\n");
    paint(out, style, plain);
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        if (berth_plan_get_device(plan, i, &d, NULL) != BERTH_OK) continue;
        paint(out, style, color_of(i));
        berth_buffer_printf(out, "  %-*s", width, d.name);
        paint(out, style, plain);
        const uint64_t cells[] = {d.weights, d.kv, d.features, d.activations, d.workspace, d.total, d.limit, d.context};
        const size_t n = sizeof cells / sizeof cells[0] - (any_context ? 0 : 1);
        for (size_t c = 0; c < n; c++) {
            char text[24];
            berth_buffer_printf(out, " %10s", cells[c] == 0 ? "-" : berth_format_bytes(cells[c], text, sizeof text));
        }
        if (any_context) berth_buffer_printf(out, "  %-5s", d.dtype);
        berth_buffer_printf(out, "  %d%s\n", (int)d.n_cores, d.shares_cores ? " shared" : "");
    }
}

/* ---- heat strip ------------------------------------------------------------------------------------------------------ */

/* A column: a run of neighbouring modules of one kind. */
typedef struct column {
    int32_t first, last; /* module indices */
    uint64_t bytes;
    int section;     /* 0 vision, 1 projector, 2 embedding, 3 layers, 4 norm and head */
    int32_t n_units; /* modules merged into it */
} column;

static const char *const section_names[] = {"vision", "proj", "emb", "language layers", "head"};

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

/* Merges neighbours of one section until at most `most` columns are left. */
static int32_t squeeze(column *columns, int32_t n, int32_t most)
{
    while (n > most) {
        int32_t best = -1;
        for (int32_t i = 0; i + 1 < n; i++) {
            if (columns[i].section != columns[i + 1].section) continue;
            if (best < 0 ||
                columns[i].n_units + columns[i + 1].n_units < columns[best].n_units + columns[best + 1].n_units)
                best = i;
        }
        if (best < 0) break;
        columns[best].last = columns[best + 1].last;
        columns[best].bytes += columns[best + 1].bytes;
        columns[best].n_units += columns[best + 1].n_units;
        memmove(&columns[best + 1], &columns[best + 2], (size_t)(n - best - 2) * sizeof *columns);
        n--;
    }
    return n;
}

/* Bytes of a column that lie on a device. */
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

static const char *shade(uint64_t bytes, uint64_t most)
{
    static const char *const blocks[] = {"\u2591", "\u2592", "\u2593", "\u2588"};
    if (bytes == 0) return "\u00b7";
    const double share = (double)bytes / (double)most;
    return blocks[share > 0.6 ? 3 : share > 0.25 ? 2 : share > 0.08 ? 1 : 0];
}

enum { NAME_WIDTH = 9, MIN_SECTION = 4, MAX_CELL = 3 };

/* Characters of one cell, so that a small model's strip can be read and a large one's fits the terminal. */
static int cell_width(int32_t n, cli_style style)
{
    const int room = (style.width - NAME_WIDTH - 24) / (n > 0 ? (int)n : 1);
    return room < 1 ? 1 : room > MAX_CELL ? MAX_CELL : room;
}

/* Columns of one section are drawn together, sections are set apart by a blank and labelled above. */
static void draw_labels(const berth_plan *plan, const column *columns, int32_t n, cli_style style, berth_buffer *out)
{
    const int cell = cell_width(n, style);
    berth_buffer_printf(out, "  %-*s ", name_width(plan), "");
    paint(out, style, dim);
    for (int32_t i = 0; i < n;) {
        int32_t end = i;
        while (end < n && columns[end].section == columns[i].section) end++;
        const char *name = section_names[columns[i].section];
        const int drawn = (int)(end - i) * cell;
        const int room = drawn > MIN_SECTION ? drawn : MIN_SECTION;
        berth_buffer_printf(out, "%-*.*s ", room, room, name);
        i = end;
    }
    paint(out, style, plain);
    berth_buffer_putc(out, '\n');
}

static void draw_row(const berth_plan *plan, int32_t replica, int32_t device, const column *columns, int32_t n,
                     uint64_t most, cli_style style, berth_buffer *out)
{
    const int cell = cell_width(n, style);
    paint(out, style, color_of(device));
    berth_buffer_printf(out, "  %-*s ", name_width(plan), cli_device_name(plan, device));
    for (int32_t i = 0; i < n;) {
        int32_t end = i;
        int drawn = 0;
        for (; end < n && columns[end].section == columns[i].section; end++, drawn += cell) {
            const char *mark = shade(bytes_on(plan, replica, &columns[end], device), most);
            for (int k = 0; k < cell; k++) berth_buffer_puts(out, mark);
        }
        for (; drawn < MIN_SECTION; drawn++) berth_buffer_putc(out, ' ');
        berth_buffer_putc(out, ' ');
        i = end;
    }
    paint(out, style, plain);
    berth_buffer_putc(out, '\n');
}

void cli_render_strip(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out)
{
    enum { MAX_COLUMNS = 4096 };
    column *columns = calloc(MAX_COLUMNS, sizeof *columns);
    if (columns == NULL) return;
    style.width -= name_width(plan) - SHORT_NAME;
    const int32_t n = squeeze(columns, collect(plan, columns, MAX_COLUMNS), style.width > 40 ? style.width - 30 : 20);
    uint64_t most = 1;
    for (int32_t i = 0; i < n; i++) most = columns[i].bytes > most ? columns[i].bytes : most;
    draw_labels(plan, columns, n, style, out);
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++) draw_row(plan, replica, d, columns, n, most, style, out);
    free(columns);
}

/* ---- ways of data ---------------------------------------------------------------------------------------------------- */

/* What a copied value is to a user; NULL for the small tables that only steer the run. */
static const char *way_of(const char *value)
{
    static const struct {
        const char *glob, *way;
    } rows[] = {
        {"pixel_values*", "pixel values"},
        {"projector.*", "image features"},
        {"vision.*", "vision states"},
        {"text.*", "hidden states"},
        {"logits", "logits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (berth_glob_match(rows[i].glob, value)) return rows[i].way;
    }
    return NULL;
}

void cli_render_paths(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out)
{
    const char *last = NULL;
    int32_t at = -2;
    for (int32_t i = 0; i < berth_plan_n_copies(plan, replica); i++) {
        berth_plan_copy c = {.struct_size = sizeof c};
        if (berth_plan_get_copy(plan, replica, i, &c, NULL) != BERTH_OK) continue;
        const char *way = way_of(c.value);
        if (way == NULL) continue;
        if (last == NULL || strcmp(last, way) != 0 || c.from != at) {
            if (last != NULL && strcmp(last, way) == 0) {
                berth_buffer_puts(out, ", ");
            } else {
                berth_buffer_printf(out, "%s  %-16s", last == NULL ? "" : "\n", way);
            }
            berth_buffer_puts(out, cli_device_name(plan, c.from));
        }
        paint(out, style, bold);
        berth_buffer_puts(out, " \u2192 ");
        paint(out, style, plain);
        berth_buffer_puts(out, cli_device_name(plan, c.to));
        last = way;
        at = c.to;
    }
    if (last != NULL) berth_buffer_putc(out, '\n');
}

void cli_render_edges(const berth_plan *plan, const uint64_t *edge_bytes, cli_style style, berth_buffer *out)
{
    const int32_t n = berth_plan_n_devices(plan) + 1;
    bool any = false;
    for (int32_t i = 0; i < n * n; i++) {
        if (edge_bytes[i] == 0) continue;
        char text[24];
        berth_buffer_printf(
            out, "%s%s\u2192%s %s", any ? ", " : "  ", cli_device_name(plan, i / n == n - 1 ? -1 : i / n),
            cli_device_name(plan, i % n == n - 1 ? -1 : i % n), berth_format_bytes(edge_bytes[i], text, sizeof text));
        any = true;
    }
    if (any) berth_buffer_putc(out, '\n');
    (void)style;
}
