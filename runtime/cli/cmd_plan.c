/* cmd_plan.c - berth plan: where everything would live and what it would take, from headers alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/render_plan.h"
#include "cli/setup.h"

enum { NAMED_MODULES = 4 };

/* What `berth plan` finds out beside the plan itself. */
typedef struct findings {
    berth_plan_limits limits;
    bool compares;           /* the strategy is one that accelerate has too */
    int32_t moved;           /* modules that accelerate would put elsewhere; -1 = it refuses */
    berth_buffer accelerate; /* which, or why it refuses */
} findings;

/* Where berth's rule stands under the name of one of accelerate's, what that one would do instead. */
static berth_status ask_accelerate(const cli_args *a, const cli_setup *s, findings *f, berth_error *err)
{
    static const char *const names[] = {"auto", "balanced", "balanced_low_0", "sequential"};
    const berth_plan_options *o = &s->options;
    const char *name = o->strategy != NULL ? o->strategy : names[0];
    if (o->device_map != NULL || o->compat != NULL || o->split != NULL || o->layers != NULL) return BERTH_OK;
    if (a->set[OPT_QUIET]) return BERTH_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) f->compares = f->compares || !strcmp(names[i], name);
    if (!f->compares) return BERTH_OK;
    berth_plan_options theirs = *o;
    berth_error refusal = {0};
    berth_plan *plan;
    theirs.compat = "accelerate";
    theirs.show_misfit = 0;
    const berth_status st = berth_plan_create(s->model, &theirs, &plan, &refusal);
    if (st == BERTH_OK) {
        f->moved = cli_moved_modules(s->plan, plan, NAMED_MODULES, &f->accelerate);
        berth_plan_destroy(plan);
        return BERTH_OK;
    }
    f->moved = -1;
    if (st != BERTH_DOES_NOT_FIT && st != BERTH_UNSUPPORTED) {
        *err = refusal;
        return st;
    }
    berth_buffer_puts(&f->accelerate, refusal.message);
    return BERTH_OK;
}

static berth_status find_out(const cli_args *a, const cli_setup *s, findings *f, berth_error *err)
{
    *f = (findings){.limits = {.struct_size = sizeof f->limits}};
    berth_status st = berth_plan_limits_find(s->model, &s->options, &f->limits, err);
    return st == BERTH_OK ? ask_accelerate(a, s, f, err) : st;
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

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

static void put_note(const char *lead, const char *text, cli_style style, berth_buffer *out)
{
    berth_buffer note = {0};
    berth_buffer_puts(out, "  note: ");
    berth_buffer_printf(&note, "%s%s", lead, text);
    cli_put_wrapped(note.data != NULL ? note.data : "", 8, style, out);
    berth_buffer_putc(out, '\n');
    out->failed = out->failed || note.failed;
    berth_buffer_deinit(&note);
}

static void put_notes(const berth_plan *plan, const findings *f, cli_style style, berth_buffer *out)
{
    const char *differences = f->accelerate.data != NULL ? f->accelerate.data : "";
    char lead[64];
    if (berth_plan_refusal(plan)[0])
        put_note("the strategy refuses, and this is what it would do with more memory: ", berth_plan_refusal(plan),
                 style, out);
    if (berth_plan_note(plan)[0]) put_note("", berth_plan_note(plan), style, out);
    snprintf(lead, sizeof lead, "accelerate would put %d module%s elsewhere: ", (int)f->moved,
             f->moved == 1 ? "" : "s");
    if (f->moved > 0) put_note(lead, differences, style, out);
    if (f->moved < 0) put_note("accelerate would not do: ", differences, style, out);
}

/* What was asked, or is meant by default. */
static void put_sizes(const berth_plan *plan, cli_style style, berth_buffer *out)
{
    berth_plan_sizes s = {.struct_size = sizeof s};
    if (berth_plan_get_sizes(plan, &s, NULL) != BERTH_OK) return;
    cli_paint_dim(out, style);
    berth_buffer_printf(out, "\n%s of %" PRId64 " tokens; passes of %d tokens",
                        s.n_seqs == 1 ? "a context" : "contexts", s.context, (int)s.chunk);
    if (berth_plan_image_tiles(plan) > 0) berth_buffer_printf(out, ", %d tiles", (int)s.tiles);
    if (s.n_seqs > 1) berth_buffer_printf(out, "; %d conversations", (int)s.n_seqs);
    cli_paint_plain(out, style);
    berth_buffer_puts(out, "\n\n");
}

static void put_table(const cli_args *a, const berth_plan *plan, const findings *f, int32_t first, int32_t end,
                      berth_buffer *out)
{
    const cli_style style = cli_style_of(a, STDOUT_FILENO);
    cli_paint_bold(out, style);
    berth_buffer_printf(out, "%s, strategy %s", a->text[OPT_MODEL], berth_plan_strategy(plan));
    cli_paint_plain(out, style);
    put_sizes(plan, style, out);
    cli_render_devices(plan, style, out);
    cli_render_replicas(plan, first, end, style, out);
    put_fit(plan, out);
    cli_render_binds(plan, out);
    cli_render_limits(&f->limits, style, out);
    put_notes(plan, f, style, out);
}

/* Appends a text of the library's and frees it. */
static void put_owned(berth_buffer *out, char *text)
{
    if (text == NULL) out->failed = true;
    berth_buffer_puts(out, text != NULL ? text : "");
    berth_free(text);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------ */

/* The library's object with what is found out beside it as further members. */
static void put_json(const cli_args *a, const berth_plan *plan, const findings *f, berth_buffer *out)
{
    put_owned(out, berth_plan_json(plan, a->set[OPT_PROGRAM] ? BERTH_PLAN_WITH_PROGRAM : 0));
    while (out->len > 0 && out->data[out->len - 1] != '}') out->len--;
    if (out->len == 0) return;
    out->len--; /* the object's end */
    while (out->len > 0 && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == ' ')) out->len--;
    berth_buffer_puts(out, ",\n  ");
    cli_json_limits(&f->limits, out);
    if (f->compares) {
        berth_buffer_printf(out, ",\n  \"accelerate\": {\"moved\": %d, \"says\": ", (int)f->moved);
        berth_buffer_json_string(out, f->accelerate.data != NULL ? f->accelerate.data : "", f->accelerate.len);
        berth_buffer_putc(out, '}');
    }
    berth_buffer_puts(out, "\n}\n");
}

static void put_plan(const cli_args *a, const berth_plan *plan, const findings *f, int32_t first, int32_t end,
                     berth_buffer *out)
{
    if (a->set[OPT_JSON]) {
        put_json(a, plan, f, out);
    } else if (a->set[OPT_DOT]) {
        put_owned(out, berth_plan_dot(plan, a->set[OPT_REPLICA] ? first : BERTH_ALL_REPLICAS));
    } else if (a->set[OPT_DEVICE_MAP_OUT]) {
        put_owned(out, berth_plan_device_map(plan, first));
        berth_buffer_putc(out, '\n');
    } else {
        put_table(a, plan, f, first, end, out);
        for (int32_t r = first; a->set[OPT_PROGRAM] && r < end; r++) {
            berth_buffer_putc(out, '\n');
            put_owned(out, berth_plan_program_text(plan, r));
        }
    }
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

static const cli_option outputs[] = {OPT_JSON, OPT_DOT, OPT_DEVICE_MAP_OUT, OPT_COMPARE, OPT_PROGRAM};

/* What cannot be meant together: two forms of output, a tree and what is said of a model. An option that would have no
 * effect is refused and not passed over. */
static cli_exit check_options(const cli_args *a)
{
    static const cli_option only_model[] = {OPT_MODEL,   OPT_DEVICE_MAP, OPT_PLACE,         OPT_SPLIT,   OPT_LAYERS,
                                            OPT_CONTEXT, OPT_BATCH,      OPT_VISION_DEVICE, OPT_COMPARE, OPT_PROGRAM,
                                            OPT_DOT,     OPT_DTYPE,      OPT_DEVICE_MAP_OUT};
    static const cli_option only_tree[] = {OPT_NO_SPLIT, OPT_BYTES_PER_WEIGHT, OPT_FALLBACK};
    const size_t n_outputs = sizeof outputs / sizeof outputs[0];
    for (size_t i = 0; i < n_outputs; i++) {
        for (size_t k = i + 1; k < n_outputs; k++) {
            const bool json_holds_it = i == 0 && k > 2; /* the comparison and the program are also there in JSON */
            if (cli_is_given(a, outputs[i]) && cli_is_given(a, outputs[k]) && !json_holds_it)
                return cli_usage(CMD_PLAN, "--%s and --%s are two forms of output; give one",
                                 cli_options[outputs[i]].name, cli_options[outputs[k]].name);
        }
    }
    for (size_t i = 0; a->set[OPT_MODULES] && i < sizeof only_model / sizeof only_model[0]; i++)
        if (cli_is_given(a, only_model[i]))
            return cli_usage(CMD_PLAN, "--modules gives a tree and no model; leave out --%s",
                             cli_options[only_model[i]].name);
    for (size_t i = 0; !a->set[OPT_MODULES] && i < sizeof only_tree / sizeof only_tree[0]; i++)
        if (cli_is_given(a, only_tree[i]))
            return cli_usage(CMD_PLAN, "--%s is for a tree from --modules; a model has its own",
                             cli_options[only_tree[i]].name);
    return EXIT_OK;
}

cli_exit cmd_plan(const cli_args *a)
{
    const cli_exit checked = check_options(a);
    if (checked != EXIT_OK) return checked;
    if (a->set[OPT_MODULES]) return cmd_plan_tree(a);
    if (a->set[OPT_COMPARE]) return cmd_plan_compare(a);
    berth_error err = {0};
    cli_setup setup;
    if (cli_setup_open(a, true, false, 0, cli_max_tiles(a), &setup, &err) != BERTH_OK) return cli_fail(&err);
    findings f = {0};
    int32_t first, end;
    berth_status st = cli_replicas(a, setup.plan, &first, &end, &err);
    if (st == BERTH_OK && a->set[OPT_DEVICE_MAP_OUT] &&
        berth_plan_refusal(setup.plan)[0]) /* a map of what is not there */
        st = BERTH_FAIL(&err, BERTH_DOES_NOT_FIT, "%s", berth_plan_refusal(setup.plan));
    if (st == BERTH_OK && !a->set[OPT_DOT] && !a->set[OPT_DEVICE_MAP_OUT]) st = find_out(a, &setup, &f, &err);
    berth_buffer out = {0};
    if (st == BERTH_OK) put_plan(a, setup.plan, &f, first, end, &out);
    const bool fits = berth_plan_fits(setup.plan, NULL, NULL);
    const bool ok = st == BERTH_OK && !out.failed && !f.accelerate.failed && cli_write(out.data, out.len);
    berth_buffer_deinit(&out);
    berth_buffer_deinit(&f.accelerate);
    cli_setup_close(&setup);
    return st != BERTH_OK ? cli_fail(&err) : !ok ? EXIT_RUN : fits ? EXIT_OK : EXIT_FIT;
}
