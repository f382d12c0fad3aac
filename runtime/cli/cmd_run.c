/* cmd_run.c - berth run: a conversation in, an answer streaming out; with --show, where everything lived and how it travelled. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"
#include "base/text.h"
#include "cli/render.h"
#include "cli/setup.h"
#include "cli/stages.h"

typedef struct streamer {
    bool print;   /* text goes to standard output as it comes */
    bool failed;  /* standard output is gone */
    size_t shown; /* bytes of the answer printed so far */
} streamer;

static int32_t on_token(void *user, const berth_token *token)
{
    streamer *s = user;
    if (!s->print || token->text_size == 0) return 1;
    s->failed = !cli_write(token->text, token->text_size);
    s->shown += token->text_size;
    return !s->failed;
}

/* ---- result ---------------------------------------------------------------------------------------------------------- */

/* Time only where it was taken, a note only where there is one. */
static void put_edges(berth_buffer *b, berth_engine *engine, const berth_result *r)
{
    const berth_plan *plan = berth_engine_plan(engine);
    const int32_t n = r->n_devices + 1;
    bool first = true;
    berth_buffer_puts(b, "[");
    for (int32_t i = 0; i < n * n; i++) {
        berth_edge edge = {.struct_size = sizeof edge};
        if (r->edge_bytes[i] == 0 || berth_engine_get_edge(engine, i / n, i % n, &edge, NULL) != BERTH_OK) continue;
        berth_buffer_printf(b, "%s{\"from\": \"%s\", \"to\": \"%s\", \"bytes\": %" PRIu64 ", \"transport\": \"%s\"",
                            first ? "" : ", ", cli_device_name(plan, i / n == n - 1 ? -1 : i / n),
                            cli_device_name(plan, i % n == n - 1 ? -1 : i % n), r->edge_bytes[i], edge.transport);
        if (r->edge_ns[i] > 0)
            berth_buffer_printf(b, ", \"ms\": %.6f, \"gb_per_s\": %.6g", (double)r->edge_ns[i] / 1e6,
                                (double)r->edge_bytes[i] / (double)r->edge_ns[i]);
        if (edge.note[0]) {
            berth_buffer_puts(b, ", \"note\": ");
            berth_buffer_json_string(b, edge.note, strlen(edge.note));
        }
        berth_buffer_puts(b, "}");
        first = false;
    }
    berth_buffer_puts(b, "]");
}

/* What was read of the weights when the engine was made. */
static void put_load(berth_buffer *b, berth_engine *engine)
{
    berth_stats s = {.struct_size = sizeof s};
    if (berth_engine_get_stats(engine, &s, NULL) != BERTH_OK) return;
    berth_buffer_printf(b, ", \"load_bytes\": %" PRId64 ", \"load_ms\": %.3f", s.load_bytes, (double)s.load_ns / 1e6);
}

/* Of a device that is no GPU nothing is measured. */
static void put_memory(berth_buffer *b, const berth_plan *plan, int32_t device)
{
    berth_plan_device d = {.struct_size = sizeof d};
    if (berth_plan_get_device(plan, device, &d, NULL) != BERTH_OK) return;
    berth_buffer_printf(b, "%s{\"planned_bytes\": %" PRIu64 ", \"context_bytes\": %" PRIu64, device ? ", " : "",
                        d.total, d.context);
    if (d.taken > 0)
        berth_buffer_printf(b, ", \"gpu_taken_bytes\": %" PRIu64 ", \"gpu_used_before_bytes\": %" PRIu64, d.taken,
                            d.used_before);
    berth_buffer_puts(b, "}");
}

static void put_placement(berth_buffer *b, const berth_plan *plan, int32_t replica)
{
    berth_buffer_puts(b, "{\"strategy\": ");
    berth_buffer_json_string(b, berth_plan_strategy(plan), strlen(berth_plan_strategy(plan)));
    berth_buffer_printf(b, ", \"replica\": %d, \"devices\": [", (int)replica);
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++)
        berth_buffer_printf(b, "%s\"%s\"", d ? ", " : "", cli_device_name(plan, d));
    berth_buffer_puts(b, "], \"memory\": [");
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++) put_memory(b, plan, d);
    char *map = berth_plan_device_map(plan, replica);
    berth_buffer_printf(b, "], \"device_map\": %s}", map != NULL ? map : "null");
    berth_free(map);
}

static void result_json(berth_buffer *b, berth_engine *engine, const berth_result *r)
{
    const berth_plan *plan = berth_engine_plan(engine);
    berth_buffer_puts(b, "{\"text\": ");
    berth_buffer_json_string(b, r->text, strlen(r->text));
    berth_buffer_puts(b, ", \"token_ids\": [");
    for (int32_t i = 0; i < r->n_tokens; i++) berth_buffer_printf(b, "%s%d", i ? ", " : "", (int)r->token_ids[i]);
    berth_buffer_printf(b,
                        "], \"prompt_tokens\": %d, \"tiles\": %d, \"finish_reason\": \"%s\", "
                        "\"drafted_tokens\": %d, \"accepted_tokens\": %d, \"placement\": ",
                        (int)r->n_prompt_tokens, (int)r->n_tiles, r->finish_reason, (int)r->n_drafted,
                        (int)r->n_accepted);
    put_placement(b, plan, r->replica);
    int64_t stages[CLI_N_STAGES];
    cli_stages_of(r, stages);
    berth_buffer_puts(b, ", \"timings_ms\": {");
    for (int i = 0; i < CLI_N_STAGES; i++)
        berth_buffer_printf(b, "\"%s\": %.3f, ", cli_stage_names[i], (double)stages[i] / 1e6);
    berth_buffer_printf(b,
                        "\"first_token\": %.3f, \"total\": %.3f}, \"edges\": ", (double)r->timings.first_token_ns / 1e6,
                        (double)r->timings.total_ns / 1e6);
    put_edges(b, engine, r);
    put_load(b, engine);
    berth_buffer_puts(b, "}\n");
}

/* ---- --show ---------------------------------------------------------------------------------------------------------- */

static void show(berth_buffer *b)
{
    if (!b->failed && b->len > 0) fwrite(b->data, 1, b->len, stderr);
    berth_buffer_deinit(b);
}

static void show_before(const cli_args *a, const berth_plan *plan)
{
    const cli_style style = cli_style_of(a, STDERR_FILENO);
    berth_buffer b = {0};
    berth_buffer_printf(&b, "%s, strategy %s, %d device%s, %d replica%s\n\n", a->text[OPT_MODEL],
                        berth_plan_strategy(plan), (int)berth_plan_n_devices(plan),
                        berth_plan_n_devices(plan) == 1 ? "" : "s", (int)berth_plan_n_replicas(plan),
                        berth_plan_n_replicas(plan) == 1 ? "" : "s");
    cli_render_devices(plan, style, &b);
    berth_buffer_putc(&b, '\n');
    cli_render_strip(plan, 0, style, &b);
    berth_buffer_putc(&b, '\n');
    cli_render_paths(plan, 0, style, &b);
    if (berth_plan_note(plan)[0]) berth_buffer_printf(&b, "\n  note: %s\n", berth_plan_note(plan));
    berth_buffer_putc(&b, '\n');
    show(&b);
}

static void show_stage(berth_buffer *b, const char *name, int64_t ns, const char *detail)
{
    berth_buffer_printf(b, "  %-12s %9.2f ms%s%s\n", name, (double)ns / 1e6, *detail ? "  " : "", detail);
}

static double per_second(int64_t n, int64_t ns)
{
    return n > 0 && ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static void show_memory(const berth_plan *plan, berth_buffer *b)
{
    bool any = false;
    for (int32_t i = 0; i < berth_plan_n_devices(plan); i++) {
        berth_plan_device d = {.struct_size = sizeof d};
        char texts[4][24];
        if (berth_plan_get_device(plan, i, &d, NULL) != BERTH_OK || d.taken == 0) continue;
        if (!any) berth_buffer_puts(b, "\n  memory of GPUs, planned and as the driver counts it\n");
        any = true;
        berth_buffer_printf(b, "  %-12s %s planned, and %s for the context; its GPU: %s taken, %s in use before\n",
                            d.name, berth_format_bytes(d.total, texts[0], sizeof texts[0]),
                            berth_format_bytes(d.context, texts[1], sizeof texts[1]),
                            berth_format_bytes(d.taken, texts[2], sizeof texts[2]),
                            berth_format_bytes(d.used_before, texts[3], sizeof texts[3]));
    }
}

static void show_load(berth_engine *engine, berth_buffer *b)
{
    berth_stats s = {.struct_size = sizeof s};
    char text[24], detail[96];
    if (berth_engine_get_stats(engine, &s, NULL) != BERTH_OK || s.load_bytes == 0 || s.load_ns == 0) return;
    snprintf(detail, sizeof detail, "%s of weights, %.2f GB/s; before the request",
             berth_format_bytes((uint64_t)s.load_bytes, text, sizeof text), (double)s.load_bytes / (double)s.load_ns);
    show_stage(b, "loading", s.load_ns, detail);
}

static void show_after(const cli_args *a, berth_engine *engine, const berth_result *r)
{
    const berth_plan *plan = berth_engine_plan(engine);
    const cli_style style = cli_style_of(a, STDERR_FILENO);
    berth_buffer b = {0};
    char detail[96], of_stage[CLI_N_STAGES][96] = {{0}};
    int64_t stages[CLI_N_STAGES];
    cli_stages_of(r, stages);
    snprintf(of_stage[CLI_TILES], sizeof detail, "%d tiles", (int)r->n_tiles);
    snprintf(of_stage[CLI_PREFILL], sizeof detail, "%d tokens, %.0f tokens/s", (int)r->n_prompt_tokens,
             per_second(r->n_prompt_tokens, stages[CLI_PREFILL]));
    snprintf(of_stage[CLI_DECODE], sizeof detail, "%d tokens, %.0f tokens/s", (int)r->n_tokens,
             per_second(r->n_tokens - 1, stages[CLI_DECODE]));
    berth_buffer_putc(&b, '\n');
    show_load(engine, &b);
    for (int i = 0; i < CLI_N_STAGES; i++) show_stage(&b, cli_stage_titles[i], stages[i], of_stage[i]);
    snprintf(detail, sizeof detail, "first token after %.2f ms; ended by %s", (double)r->timings.first_token_ns / 1e6,
             r->finish_reason);
    show_stage(&b, "total", r->timings.total_ns, detail);
    show_memory(plan, &b);
    berth_buffer_puts(&b, "\n  moved between memories\n");
    cli_render_edges(engine, r, style, &b);
    show(&b);
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

static berth_status finish(const cli_args *a, berth_engine *engine, const berth_result *r, streamer *s,
                           berth_error *err)
{
    berth_buffer json = {0};
    if (a->set[OPT_JSON] || a->set[OPT_REPORT]) result_json(&json, engine, r);
    berth_status st = json.failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the result's JSON") : BERTH_OK;
    if (st == BERTH_OK && a->set[OPT_JSON]) s->failed = !cli_write(json.data, json.len);
    if (st == BERTH_OK && a->set[OPT_REPORT]) st = berth_file_write(a->text[OPT_REPORT], json.data, json.len, err);
    berth_buffer_deinit(&json);
    if (st != BERTH_OK) {
        if (a->set[OPT_REPORT]) berth_error_prefix(err, "writing the report: ");
        return st;
    }
    const size_t len = strlen(r->text);
    if (s->print && !s->failed && len > s->shown) s->failed = !cli_write(r->text + s->shown, len - s->shown);
    if (s->print && !s->failed) s->failed = !cli_puts("\n");
    if (a->set[OPT_SHOW]) show_after(a, engine, r);
    return BERTH_OK;
}

static berth_status answer(const cli_args *a, const cli_conversation *c, berth_engine *engine, streamer *s,
                           berth_error *err)
{
    berth_request request;
    cli_request_init(a, c, &request);
    request.on_token = on_token;
    request.on_token_user = s;
    berth_result result = {.struct_size = sizeof result};
    berth_status st = berth_engine_run(engine, &request, &result, err);
    if (st == BERTH_OK) st = finish(a, engine, &result, s, err);
    berth_result_deinit(&result);
    return st;
}

/* Tiles to keep room for: two full pictures come with the default; more pictures need more. */
static int32_t tiles_wanted(const cli_args *a, const cli_conversation *c)
{
    const int64_t pictures = cli_conversation_pictures(c);
    const int64_t each = (a->set[OPT_MAX_TILES] ? a->number[OPT_MAX_TILES] : 12) + 1;
    const int64_t wanted = pictures * each;
    return pictures <= 2 && !a->set[OPT_MAX_TILES] ? 0 : (int32_t)(wanted < 1 ? 1 : wanted > 65536 ? 65536 : wanted);
}

cli_exit cmd_run(const cli_args *a)
{
    berth_error err = {0};
    cli_conversation conversation = {0};
    cli_setup setup = {0};
    berth_engine *engine = NULL;
    streamer s = {.print = !a->set[OPT_JSON]};
    berth_status st = a->set[OPT_MODEL]
                          ? BERTH_OK
                          : BERTH_FAIL(&err, BERTH_INVALID_ARGUMENT, "no model given; -m DIR is required\nusage: %s",
                                       cli_commands[CMD_RUN].usage);
    if (st == BERTH_OK) st = cli_request_check(a, &err);
    if (st == BERTH_OK && a->set[OPT_REPORT]) st = cli_may_write(a, OPT_REPORT, &err);
    if (st == BERTH_OK) st = cli_conversation_read(a, &conversation, &err);
    if (st == BERTH_OK) st = cli_setup_open(a, false, false, 0, tiles_wanted(a, &conversation), &setup, &err);
    if (st == BERTH_OK && a->set[OPT_SHOW]) show_before(a, setup.plan);
    if (st == BERTH_OK) st = cli_engine_open(a, &setup, &engine, &err);
    if (st == BERTH_OK) st = answer(a, &conversation, engine, &s, &err);
    if (st != BERTH_OK && s.shown > 0 && !s.failed) cli_puts("\n");
    berth_engine_destroy(engine);
    cli_setup_close(&setup);
    cli_conversation_deinit(&conversation);
    if (st != BERTH_OK) return cli_fail(&err);
    return s.failed ? EXIT_RUN : EXIT_OK;
}
