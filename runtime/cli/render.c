/* render.c - devices, ways and edges of a plan; see render.h. */
#include "cli/render.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/text.h"

/* ---- style ----------------------------------------------------------------------------------------------------------- */

/* By the locale's variables; where none is set, terminals of today are believed. */
static bool speaks_utf8(void)
{
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        if (value == NULL || *value == '\0') continue;
        for (const char *p = value; *p; p++)
            if (strncasecmp(p, "utf-8", 5) == 0 || strncasecmp(p, "utf8", 4) == 0) return true;
        return false;
    }
    return true;
}

cli_style cli_style_of(const cli_args *a, int fd)
{
    return (cli_style){
        .color = cli_color(a, fd), .is_ascii = !speaks_utf8(), .wraps = isatty(fd) != 0, .width = cli_width()};
}

static void paint(berth_buffer *out, cli_style style, const char *code)
{
    if (style.color) berth_buffer_puts(out, code);
}

void cli_paint_device(berth_buffer *out, cli_style style, int32_t device)
{
    static const char *const colors[] = {"\033[36m", "\033[33m", "\033[35m", "\033[32m",
                                         "\033[34m", "\033[31m", "\033[96m", "\033[93m"};
    paint(out, style, colors[(size_t)device % (sizeof colors / sizeof colors[0])]);
}
void cli_paint_dim(berth_buffer *out, cli_style style)
{
    paint(out, style, "\033[2m");
}
void cli_paint_bold(berth_buffer *out, cli_style style)
{
    paint(out, style, "\033[1m");
}
void cli_paint_plain(berth_buffer *out, cli_style style)
{
    paint(out, style, "\033[0m");
}

const char *cli_arrow(cli_style style)
{
    return style.is_ascii ? " -> " : " \u2192 ";
}

int cli_columns(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void new_line(int indent, berth_buffer *out)
{
    berth_buffer_printf(out, "\n%*s", indent, "");
}

void cli_put_wrapped(const char *text, int indent, cli_style style, berth_buffer *out)
{
    int column = indent;
    while (*text) {
        const size_t blanks = strspn(text, " "), len = blanks + strcspn(text + blanks, " ");
        char word[512];
        snprintf(word, sizeof word, "%.*s", (int)(len - blanks), text + blanks);
        const int columns = cli_columns(word);
        if (style.wraps && column > indent && column + (int)blanks + columns > style.width) {
            new_line(indent, out);
            column = indent;
        } else {
            berth_buffer_printf(out, "%*s", (int)blanks, "");
            column += (int)blanks;
        }
        berth_buffer_append(out, text + blanks, len - blanks);
        column += columns;
        text += len;
    }
}

/* ---- devices --------------------------------------------------------------------------------------------------------- */

const char *cli_device_name(const berth_plan *plan, int32_t device)
{
    berth_plan_device d = {.struct_size = sizeof d};
    if (device < 0 || berth_plan_get_device(plan, device, &d, NULL) != BERTH_OK) return "host";
    return d.name;
}

const char *cli_device_name_after(const berth_plan *plan, int32_t before, int32_t device)
{
    const char *one = cli_device_name(plan, before), *name = cli_device_name(plan, device);
    const char *colon = strrchr(name, ':');
    if (colon == NULL || strlen(name) <= CLI_SHORT_NAME || strncmp(one, name, (size_t)(colon - name) + 1) != 0)
        return name;
    return colon;
}

int cli_name_width(const berth_plan *plan)
{
    int width = CLI_SHORT_NAME;
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        const int len = (int)strlen(cli_device_name(plan, i));
        if (len > width) width = len;
    }
    return width;
}

bool cli_is_in_replica(const berth_plan *plan, int32_t replica, int32_t device)
{
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        if (berth_plan_get_module(plan, i, &m, NULL) == BERTH_OK && m.is_tensor &&
            berth_plan_module_device(plan, replica, i) == device)
            return true;
    }
    return false;
}

typedef struct table_column {
    const char *head;
    uint64_t (*of)(const berth_plan_device *d);
} table_column;

static uint64_t weights_of(const berth_plan_device *d)
{
    return d->weights;
}
static uint64_t kv_of(const berth_plan_device *d)
{
    return d->kv;
}
static uint64_t kv_per_token_of(const berth_plan_device *d)
{
    return d->kv_per_token;
}
static uint64_t features_of(const berth_plan_device *d)
{
    return d->features;
}
static uint64_t activations_of(const berth_plan_device *d)
{
    return d->activations;
}
static uint64_t workspace_of(const berth_plan_device *d)
{
    return d->workspace;
}
static uint64_t passes_of(const berth_plan_device *d)
{
    return d->features + d->activations + d->workspace;
}
static uint64_t total_of(const berth_plan_device *d)
{
    return d->total;
}
static uint64_t limit_of(const berth_plan_device *d)
{
    return d->limit;
}

static const table_column whole[] = {{"weights", weights_of},       {"KV", kv_of},
                                     {"KV/token", kv_per_token_of}, {"features", features_of},
                                     {"activat.", activations_of},  {"workspace", workspace_of},
                                     {"total", total_of},           {"limit", limit_of}},
                          narrow[] = {{"weights", weights_of},
                                      {"KV", kv_of},
                                      {"passes", passes_of},
                                      {"total", total_of},
                                      {"limit", limit_of}};

enum { BAR = 10, CELL = 11, WITH_BAR = BAR + 8, WITH_REST = 26 };

/* How full, as a bar where there is room for one, and as a number. */
static void put_used(const berth_plan_device *d, int32_t index, bool has_bar, cli_style style, berth_buffer *out)
{
    const double share = d->limit > 0 ? (double)d->total / (double)d->limit : 0;
    int filled = share >= 1 ? BAR : (int)(share * BAR + 0.5);
    if (share < 1 && filled == BAR) filled--; /* full means full, and some is some */
    if (share >= 0.01 && filled == 0) filled++;
    if (has_bar) {
        berth_buffer_puts(out, "  ");
        cli_paint_device(out, style, index);
        for (int i = 0; i < BAR; i++)
            berth_buffer_puts(out, i < filled ? (style.is_ascii ? "#" : "\u2588") : (style.is_ascii ? "-" : "\u2591"));
        cli_paint_plain(out, style);
    }
    if (share > 0 && share < 0.005)
        berth_buffer_puts(out, "  <1 %");
    else
        berth_buffer_printf(out, " %3.0f %%", 100 * share);
}

typedef struct table_shape {
    const table_column *columns;
    size_t n;
    int name;
    bool has_bar, has_context, has_rest; /* rest: dtype, cores and the context that a backend takes */
} table_shape;

/* The most that fits the terminal. */
static table_shape shape_of(const berth_plan *plan, cli_style style)
{
    table_shape t = {.columns = whole, .n = sizeof whole / sizeof whole[0], .name = cli_name_width(plan)};
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        if (berth_plan_get_device(plan, i, &d, NULL) == BERTH_OK && d.context > 0) t.has_context = true;
    }
    const int all = 2 + t.name + (int)t.n * CELL + WITH_BAR + WITH_REST;
    t.has_bar = t.has_rest = true;
    if (!style.wraps || style.width >= all) return t;
    t.columns = narrow;
    t.n = sizeof narrow / sizeof narrow[0];
    t.has_rest = false;
    t.has_bar = style.width >= 2 + t.name + (int)t.n * CELL + WITH_BAR;
    return t;
}

static void put_head(const table_shape *t, cli_style style, berth_buffer *out)
{
    cli_paint_dim(out, style);
    berth_buffer_printf(out, "  %-*s", t->name, "device");
    for (size_t c = 0; c < t->n; c++) berth_buffer_printf(out, " %*s", CELL - 1, t->columns[c].head);
    berth_buffer_printf(out, "%*s", t->has_bar ? WITH_BAR : 6, "used");
    if (t->has_rest) berth_buffer_puts(out, t->has_context ? "     context  dtype  cores" : "  cores");
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
}

void cli_render_devices(const berth_plan *plan, cli_style style, berth_buffer *out)
{
    const table_shape t = shape_of(plan, style);
    char text[24];
    put_head(&t, style, out);
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        if (berth_plan_get_device(plan, i, &d, NULL) != BERTH_OK) continue;
        cli_paint_device(out, style, i);
        berth_buffer_printf(out, "  %-*s", t.name, d.name);
        cli_paint_plain(out, style);
        for (size_t c = 0; c < t.n; c++) {
            const uint64_t bytes = t.columns[c].of(&d);
            berth_buffer_printf(out, " %*s", CELL - 1, bytes == 0 ? "-" : berth_format_bytes(bytes, text, sizeof text));
        }
        put_used(&d, i, t.has_bar, style, out);
        if (t.has_rest && t.has_context)
            berth_buffer_printf(out, "  %10s  %-5s",
                                d.context == 0 ? "-" : berth_format_bytes(d.context, text, sizeof text), d.dtype);
        if (t.has_rest) berth_buffer_printf(out, "  %d%s", (int)d.n_cores, d.shares_cores ? " shared" : "");
        berth_buffer_putc(out, '\n');
    }
}

/* ---- ways of data ---------------------------------------------------------------------------------------------------- */

/* What a copied value is to a user; NULL for the small tables that only steer the run. */
static const char *way_of(const char *value)
{
    static const struct {
        const char *glob, *way;
    } rows[] = {
        {"pixel_values*", "pixel values"}, {"projector.*", "image features"},   {"vision.*", "vision states"},
        {"text.*", "hidden states"},       {"logits.stats", "logits' summary"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (berth_glob_match(rows[i].glob, value)) return rows[i].way;
    }
    return NULL;
}

enum { WAY_INDENT = 18 };

/* Text that is not parted, on this line or the next. */
static void put_part(const char *lead, const char *text, bool is_bold, int *column, cli_style style, berth_buffer *out)
{
    const int columns = cli_columns(lead) + cli_columns(text);
    if (style.wraps && *column > WAY_INDENT && *column + columns > style.width) {
        const bool is_comma = lead[0] == ','; /* it stays behind what was listed */
        berth_buffer_puts(out, is_comma ? "," : "");
        new_line(WAY_INDENT, out);
        *column = WAY_INDENT;
        lead = is_comma ? "" : lead;
    }
    if (is_bold) cli_paint_bold(out, style);
    berth_buffer_puts(out, lead);
    if (is_bold) cli_paint_plain(out, style);
    berth_buffer_puts(out, text);
    *column += cli_columns(lead) + cli_columns(text);
}

void cli_render_paths(const berth_plan *plan, int32_t replica, cli_style style, berth_buffer *out)
{
    const char *last = NULL;
    int32_t at = -2;
    int column = 0;
    for (int32_t i = 0; i < berth_plan_n_copies(plan, replica); i++) {
        berth_plan_copy c = {.struct_size = sizeof c};
        if (berth_plan_get_copy(plan, replica, i, &c, NULL) != BERTH_OK) continue;
        const char *way = way_of(c.value);
        if (way == NULL) continue;
        const bool is_same = last != NULL && strcmp(last, way) == 0;
        if (!is_same) {
            berth_buffer_printf(out, "%s  %-16s", last == NULL ? "" : "\n", way);
            column = WAY_INDENT;
        }
        if (!is_same || c.from != at)
            put_part(is_same ? ", " : "", cli_device_name(plan, c.from), false, &column, style, out);
        put_part(cli_arrow(style), cli_device_name_after(plan, c.from, c.to), true, &column, style, out);
        last = way;
        at = c.to;
    }
    if (last != NULL) berth_buffer_putc(out, '\n');
}

static void put_edge_name(const berth_plan *plan, int32_t i, cli_style style, char *out, size_t room)
{
    const int32_t n = berth_plan_n_devices(plan) + 1;
    const int32_t from = i / n == n - 1 ? -1 : i / n, to = i % n == n - 1 ? -1 : i % n;
    snprintf(out, room, "%s%s%s", cli_device_name(plan, from), style.is_ascii ? "->" : "\u2192",
             cli_device_name_after(plan, from, to));
}

void cli_render_edges(berth_engine *engine, const berth_result *r, cli_style style, berth_buffer *out)
{
    const berth_plan *plan = berth_engine_plan(engine);
    const int32_t n = r->n_devices + 1;
    char name[96], text[24];
    int width = 0;
    for (int32_t i = 0; i < n * n; i++) {
        put_edge_name(plan, i, style, name, sizeof name);
        if (r->edge_bytes[i] > 0 && cli_columns(name) > width) width = cli_columns(name);
    }
    berth_buffer notes = {0};
    for (int32_t i = 0; i < n * n; i++) {
        berth_edge edge = {.struct_size = sizeof edge};
        if (r->edge_bytes[i] == 0 || berth_engine_get_edge(engine, i / n, i % n, &edge, NULL) != BERTH_OK) continue;
        put_edge_name(plan, i, style, name, sizeof name);
        berth_buffer_printf(out, "  %s%*s  %10s  %-6s", name, width - cli_columns(name), "",
                            berth_format_bytes(r->edge_bytes[i], text, sizeof text), edge.transport);
        if (r->edge_ns[i] > 0)
            berth_buffer_printf(out, "  %9.3f ms  %8.3f GB/s", (double)r->edge_ns[i] / 1e6,
                                (double)r->edge_bytes[i] / (double)r->edge_ns[i]);
        berth_buffer_putc(out, '\n');
        if (edge.note[0]) berth_buffer_printf(&notes, "  %s: %s\n", name, edge.note);
    }
    if (notes.data) berth_buffer_puts(out, notes.data);
    berth_buffer_deinit(&notes);
}
