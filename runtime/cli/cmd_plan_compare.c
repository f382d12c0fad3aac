/* cmd_plan_compare.c - berth plan --compare: strategies side by side on one model and machine. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "base/text.h"
#include "cli/render_plan.h"
#include "cli/setup.h"

#define COMPARE_SCHEMA "berth.compare/1"

enum { MAX_ROWS = 32 };

typedef struct compare_row {
    char name[96];
    berth_plan *plan;   /* NULL: refused */
    char refusal[1024]; /* also where a plan is shown that does not fit */
    bool fits;
    int32_t moved;        /* -1: there is nothing to compare with */
    int32_t worst_device; /* with the least room */
    uint64_t worst_bytes, missing_bytes;
    uint64_t token_bytes; /* between devices, for one generated token */
    int32_t hops;         /* copies between devices for it */
    int32_t n_empty;
    double balance; /* the slowest stage by the mean of all; 0 = no stage works */
} compare_row;

/* ---- figures --------------------------------------------------------------------------------------------------------- */

/* Stages by the time their weights take to be read, where all rates are known; else by their bytes. */
static double balance_of(const berth_plan *plan)
{
    const int32_t n = berth_plan_n_devices(plan);
    double most[2] = {0}, sum[2] = {0};
    bool rates = true;
    for (int32_t d = 0; d < n; d++) {
        berth_plan_device v = {.struct_size = sizeof v};
        if (berth_plan_get_device(plan, d, &v, NULL) != BERTH_OK) continue;
        rates = rates && (v.token_seconds > 0 || v.token_bytes == 0);
        const double cost[2] = {(double)v.token_bytes, v.token_seconds};
        for (int k = 0; k < 2; k++) {
            most[k] = cost[k] > most[k] ? cost[k] : most[k];
            sum[k] += cost[k];
        }
    }
    const int by = rates && sum[1] > 0;
    return sum[by] > 0 ? most[by] * n / sum[by] : 0;
}

static void count_crossings(compare_row *r)
{
    const int32_t n = berth_plan_n_devices(r->plan);
    uint64_t *edges = calloc((size_t)(n + 1) * (size_t)(n + 1), sizeof *edges);
    if (edges != NULL && berth_plan_edges(r->plan, 0, 0, 0, 1, edges, NULL) == BERTH_OK) {
        for (int32_t from = 0; from < n; from++)
            for (int32_t to = 0; to < n; to++) r->token_bytes += edges[from * (n + 1) + to];
    }
    free(edges);
    for (int32_t i = 0; i < berth_plan_n_copies(r->plan, 0); i++) {
        berth_plan_copy c = {.struct_size = sizeof c};
        if (berth_plan_get_copy(r->plan, 0, i, &c, NULL) != BERTH_OK) continue;
        r->hops += strcmp(c.program, "step") == 0 && c.from >= 0 && c.to >= 0;
    }
}

static void measure(compare_row *r, const compare_row *first)
{
    const char *kind;
    int32_t device;
    r->fits = berth_plan_fits(r->plan, &r->missing_bytes, &device);
    r->worst_device = berth_plan_binds(r->plan, &kind, NULL);
    for (int32_t d = 0; d < berth_plan_n_devices(r->plan); d++) {
        berth_plan_device v = {.struct_size = sizeof v};
        if (berth_plan_get_device(r->plan, d, &v, NULL) != BERTH_OK) continue;
        r->n_empty += v.weights == 0;
        if (d == r->worst_device) r->worst_bytes = v.total;
    }
    r->balance = balance_of(r->plan);
    count_crossings(r);
    if (first->plan != NULL) r->moved = cli_moved_modules(first->plan, r->plan, 0, NULL);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

/* Names are set apart by commas; what begins with a digit belongs to the argument before it, as in layer=3,1. */
static berth_status read_names(const char *list, compare_row *rows, int32_t *out_n, berth_error *err)
{
    *out_n = 0;
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ",");
        const bool has_argument = memchr(p, '=', len) != NULL;
        while (has_argument && p[len] == ',' && p[len + 1] >= '0' && p[len + 1] <= '9')
            len += 1 + strcspn(p + len + 1, ",");
        if (len == 0 || len >= sizeof rows[0].name || *out_n == MAX_ROWS)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--compare %s: expected 1 to %d names of strategies, as in accelerate,optimal,internvl",
                              list, MAX_ROWS);
        compare_row *r = &rows[(*out_n)++];
        snprintf(r->name, sizeof r->name, "%.*s", (int)len, p);
        r->moved = -1;
        p += len;
        if (*p == ',') p++;
    }
    return *out_n > 0 ? BERTH_OK : BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--compare names no strategy");
}

/* Of one row; the others go on. A plug-in that crashes, hangs or answers garbage is one, too. */
static bool is_refusal(berth_status st)
{
    return st == BERTH_DOES_NOT_FIT || st == BERTH_UNSUPPORTED || st == BERTH_BAD_FILE || st == BERTH_DEADLINE;
}

static berth_status make_rows(const cli_setup *s, compare_row *rows, int32_t n, berth_error *err)
{
    for (int32_t i = 0; i < n; i++) {
        berth_plan_options o = s->options;
        berth_error refusal = {0};
        o.strategy = rows[i].name;
        const berth_status st = berth_plan_create(s->model, &o, &rows[i].plan, &refusal);
        if (st == BERTH_OK) {
            snprintf(rows[i].refusal, sizeof rows[i].refusal, "%s", berth_plan_refusal(rows[i].plan));
            measure(&rows[i], &rows[0]);
        } else if (is_refusal(st)) {
            snprintf(rows[i].refusal, sizeof rows[i].refusal, "%.1023s", refusal.message);
        } else {
            *err = refusal;
            return st;
        }
    }
    return BERTH_OK;
}

/* ---- printing -------------------------------------------------------------------------------------------------------- */

enum { OTHER_COLUMNS = 60 }; /* of a row, beside the names of the strategy and of its fullest device */

typedef struct table_widths {
    int name, device; /* device 0: no room for it */
} table_widths;

static table_widths widths_of(const compare_row *rows, int32_t n, cli_style style)
{
    table_widths w = {.name = 12, .device = (int)strlen("fullest device")};
    for (int32_t i = 0; i < n; i++) {
        const int name = (int)strlen(rows[i].name);
        w.name = name > w.name ? name : w.name;
        if (rows[i].plan == NULL) continue;
        const int device = (int)strlen(cli_device_name(rows[i].plan, rows[i].worst_device));
        w.device = device > w.device ? device : w.device;
    }
    if (style.wraps && w.name + w.device + OTHER_COLUMNS + 4 > style.width) w.device = 0;
    return w;
}

static void put_head(table_widths w, cli_style style, berth_buffer *out)
{
    cli_paint_dim(out, style);
    berth_buffer_printf(out, "  %-*s %6s", w.name, "strategy", "moved");
    if (w.device > 0) berth_buffer_printf(out, "  %-*s", w.device, "fullest device");
    berth_buffer_printf(out, " %10s %6s %10s %6s %8s  %s", "holds", "hops", "a token", "empty", "balance", "fits");
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
}

static void put_row(const compare_row *r, table_widths w, berth_buffer *out)
{
    char held[24], crossed[24];
    berth_buffer_printf(out, "  %-*s", w.name, r->name);
    if (r->plan == NULL) {
        berth_buffer_puts(out, " refused\n");
        return;
    }
    if (r->moved < 0)
        berth_buffer_printf(out, " %6s", "-");
    else
        berth_buffer_printf(out, " %6d", (int)r->moved);
    if (w.device > 0) berth_buffer_printf(out, "  %-*s", w.device, cli_device_name(r->plan, r->worst_device));
    berth_buffer_printf(out, " %10s %6d %10s %6d %8.2f  %s\n", berth_format_bytes(r->worst_bytes, held, sizeof held),
                        (int)r->hops, berth_format_bytes(r->token_bytes, crossed, sizeof crossed), (int)r->n_empty,
                        r->balance, r->fits ? "yes" : "no");
}

/* Why it does not fit, or is refused. */
static void put_reason(const compare_row *r, cli_style style, berth_buffer *out)
{
    enum { INDENT = 4 };
    char text[24];
    berth_buffer reason = {0};
    if (r->plan != NULL && !r->fits)
        berth_buffer_printf(&reason, "%s misses %s (%" PRIu64 " bytes)%s", r->name,
                            berth_format_bytes(r->missing_bytes, text, sizeof text), r->missing_bytes,
                            r->refusal[0] ? "; " : "");
    if (r->refusal[0])
        berth_buffer_printf(&reason, "%s%s%s", reason.len ? "" : r->name, reason.len ? "" : ": ", r->refusal);
    if (reason.len > 0) {
        berth_buffer_puts(out, "    ");
        cli_put_wrapped(reason.data, INDENT, style, out);
        berth_buffer_putc(out, '\n');
    }
    out->failed = out->failed || reason.failed;
    berth_buffer_deinit(&reason);
}

static void put_table(const cli_args *a, const compare_row *rows, int32_t n, berth_buffer *out)
{
    const cli_style style = cli_style_of(a, STDOUT_FILENO);
    const table_widths w = widths_of(rows, n, style);
    cli_paint_bold(out, style);
    berth_buffer_printf(out, "%s, modules moved against %s", a->text[OPT_MODEL], rows[0].name);
    cli_paint_plain(out, style);
    berth_buffer_puts(out, "\n\n");
    put_head(w, style, out);
    for (int32_t i = 0; i < n; i++) put_row(&rows[i], w, out);
    for (int32_t i = 0; i < n; i++) put_reason(&rows[i], style, out);
    berth_buffer_puts(out, "\n  ");
    cli_paint_dim(out, style);
    cli_put_wrapped(
        "hops, a token: copies and bytes between devices for one generated token; balance: the slowest device's "
        "work for it by the mean of all",
        2, style, out);
    cli_paint_plain(out, style);
    berth_buffer_putc(out, '\n');
}

static void put_json_row(const compare_row *r, berth_buffer *out)
{
    berth_buffer_puts(out, "  {\"strategy\": ");
    berth_buffer_json_string(out, r->name, strlen(r->name));
    berth_buffer_puts(out, ", \"refusal\": ");
    berth_buffer_json_string(out, r->refusal, strlen(r->refusal));
    berth_buffer_printf(out, ", \"placed\": %s", r->plan != NULL ? "true" : "false");
    if (r->plan != NULL) {
        const char *device = cli_device_name(r->plan, r->worst_device);
        const char *note = berth_plan_note(r->plan);
        berth_buffer_puts(out, ", \"note\": ");
        berth_buffer_json_string(out, note, strlen(note));
        if (r->moved >= 0) berth_buffer_printf(out, ", \"moved\": %d", (int)r->moved);
        berth_buffer_puts(out, ", \"fullest_device\": ");
        berth_buffer_json_string(out, device, strlen(device));
        berth_buffer_printf(out,
                            ", \"fullest_bytes\": %" PRIu64 ", \"hops_per_token\": %d, \"bytes_per_token\": %" PRIu64
                            ", \"empty_devices\": %d, \"balance\": %.6f, \"fits\": %s, \"missing_bytes\": %" PRIu64,
                            r->worst_bytes, (int)r->hops, r->token_bytes, (int)r->n_empty, r->balance,
                            r->fits ? "true" : "false", r->missing_bytes);
    }
    berth_buffer_puts(out, "}");
}

static void put_json(const compare_row *rows, int32_t n, berth_buffer *out)
{
    berth_buffer_puts(out, "{\"schema\": \"" COMPARE_SCHEMA "\", \"rows\": [\n");
    for (int32_t i = 0; i < n; i++) {
        put_json_row(&rows[i], out);
        berth_buffer_puts(out, i + 1 < n ? ",\n" : "\n]}\n");
    }
}

cli_exit cmd_plan_compare(const cli_args *a)
{
    berth_error err = {0};
    cli_setup setup = {0};
    if (a->set[OPT_STRATEGY] || a->set[OPT_DEVICE_MAP] || a->set[OPT_COMPAT])
        return cli_usage(CMD_PLAN,
                         "--compare names the strategies itself; leave out --strategy, --device-map and --compat");
    compare_row *rows = calloc(MAX_ROWS, sizeof *rows);
    if (rows == NULL) return EXIT_RUN;
    int32_t n = 0;
    berth_buffer out = {0};
    berth_status st = read_names(a->text[OPT_COMPARE], rows, &n, &err);
    if (st == BERTH_OK) st = cli_setup_read(a, true, false, 0, cli_max_tiles(a), &setup, &err);
    if (st == BERTH_OK) st = make_rows(&setup, rows, n, &err);
    if (st == BERTH_OK && a->set[OPT_JSON]) put_json(rows, n, &out);
    if (st == BERTH_OK && !a->set[OPT_JSON]) put_table(a, rows, n, &out);
    const bool ok = st == BERTH_OK && !out.failed && cli_write(out.data, out.len);
    bool any_fits = false;
    for (int32_t i = 0; i < n; i++) {
        any_fits = any_fits || rows[i].fits;
        berth_plan_destroy(rows[i].plan);
    }
    free(rows);
    berth_buffer_deinit(&out);
    cli_setup_close(&setup);
    return st != BERTH_OK ? cli_fail(&err) : !ok ? EXIT_RUN : any_fits ? EXIT_OK : EXIT_FIT;
}
