/* cmd_plan.c - berth plan: where everything would live and what it would take, from headers alone. */
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/render.h"
#include "cli/setup.h"

static void put_fit(const berth_plan *plan, berth_buffer *out)
{
    uint64_t missing;
    int32_t device;
    char text[24];
    if (berth_plan_fits(plan, &missing, &device)) {
        berth_buffer_puts(out, "\n  fits\n");
    } else {
        berth_buffer_printf(out, "\n  does not fit: %s misses %s (%llu bytes)\n", cli_device_name(plan, device),
                            berth_format_bytes(missing, text, sizeof text), (unsigned long long)missing);
    }
}

static void put_table(const cli_args *a, const berth_plan *plan, berth_buffer *out)
{
    const cli_style style = {.color = cli_color(a, STDOUT_FILENO), .width = cli_width()};
    berth_buffer_printf(out, "%s, strategy %s\n\n", a->text[OPT_MODEL], berth_plan_strategy(plan));
    cli_render_devices(plan, style, out);
    for (int32_t r = 0; r < berth_plan_n_replicas(plan); r++) {
        if (berth_plan_n_replicas(plan) > 1) {
            berth_buffer_printf(out, "\n  replica %d", (int)r);
        }
        berth_buffer_putc(out, '\n');
        cli_render_strip(plan, r, style, out);
        berth_buffer_putc(out, '\n');
        cli_render_paths(plan, r, style, out);
    }
    put_fit(plan, out);
    if (berth_plan_note(plan)[0]) berth_buffer_printf(out, "  note: %s\n", berth_plan_note(plan));
}

/* Appends a text of the library's and frees it. */
static void put_owned(berth_buffer *out, char *text)
{
    if (text == NULL) out->failed = true;
    berth_buffer_puts(out, text != NULL ? text : "");
    berth_free(text);
}

cli_exit cmd_plan(const cli_args *a)
{
    if (a->set[OPT_MODULES]) return cmd_plan_tree(a);
    berth_error err = {0};
    cli_setup setup;
    const int32_t max_tiles = a->set[OPT_MAX_TILES] ? 2 * ((int32_t)a->number[OPT_MAX_TILES] + 1) : 0;
    if (cli_setup_open(a, true, false, 0, max_tiles, &setup, &err) != BERTH_OK) return cli_fail(&err);
    berth_buffer out = {0};
    if (a->set[OPT_JSON]) {
        put_owned(&out, berth_plan_json(setup.plan, a->set[OPT_PROGRAM] ? BERTH_PLAN_WITH_PROGRAM : 0));
    } else if (a->set[OPT_DEVICE_MAP_OUT]) {
        put_owned(&out, berth_plan_device_map(setup.plan, 0));
        berth_buffer_putc(&out, '\n');
    } else {
        put_table(a, setup.plan, &out);
        for (int32_t r = 0; a->set[OPT_PROGRAM] && r < berth_plan_n_replicas(setup.plan); r++) {
            berth_buffer_putc(&out, '\n');
            put_owned(&out, berth_plan_program_text(setup.plan, r));
        }
    }
    const bool fits = berth_plan_fits(setup.plan, NULL, NULL);
    const bool ok = !out.failed && cli_write(out.data, out.len);
    berth_buffer_deinit(&out);
    cli_setup_close(&setup);
    return !ok ? EXIT_RUN : fits ? EXIT_OK : EXIT_FIT;
}
