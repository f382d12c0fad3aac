/* setup.c - options to runtime, model, plan and engine. */
#include "cli/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"
#include "base/text.h"
#include "cli/stop.h"
#include "machine/machine.h"

enum { MAX_DEVICE_MAP_BYTES = 16 << 20 };

static berth_status unknown_device(const char *name, const berth_machine *m, berth_error *err)
{
    berth_status st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--max-memory: no device \"%s\"; there are", name);
    for (int32_t d = 0; d < m->n_devices; d++) berth_error_append(err, "%s %s", d > 0 ? "," : "", m->devices[d].name);
    berth_error_append(err, " (or their numbers, from 0)");
    return st;
}

/* --max-memory: "0=10GiB,cpu:1=8GiB" over the devices of m. */
static berth_status apply_max_memory(const char *list, berth_machine *m, berth_error *err)
{
    for (const char *p = list; *p;) {
        const size_t len = strcspn(p, ",");
        char item[96];
        char *equals = NULL;
        snprintf(item, sizeof item, "%.*s", (int)(len < sizeof item ? len : sizeof item - 1), p);
        equals = strchr(item, '=');
        uint64_t bytes = 0;
        if (equals == NULL || len >= sizeof item || !berth_parse_bytes(equals + 1, &bytes) || bytes == 0) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--max-memory: \"%s\" is not DEVICE=SIZE, for example 0=10GiB or cpu:1=8GiB", item);
        }
        *equals = '\0';
        const int32_t d = berth_machine_find(m, item);
        if (d < 0) return unknown_device(item, m, err);
        m->devices[d].memory_bytes = bytes;
        m->devices[d].memory_given = true;
        p += len;
        if (*p == ',') p++;
    }
    return BERTH_OK;
}

/* "INDEX/cores=...": the first cores of a device; each keeps one at least. GPUs mostly have none of their own. */
static void put_cores(const berth_device *d, int32_t index, int64_t most, berth_buffer *out)
{
    if (d->n_cores == 0) return;
    berth_buffer_printf(out, ",%d", (int)index);
    for (int32_t i = 0; i < d->n_cores && i < most; i++)
        berth_buffer_printf(out, "%s%d", i == 0 ? "/cores=" : "+", (int)d->cores[i]);
}

/* What --threads and --max-memory change stands behind the list, as changes of its devices. */
static berth_status put_changes(const cli_args *a, berth_machine *m, berth_buffer *out, berth_error *err)
{
    uint64_t before[BERTH_MAX_DEVICES] = {0};
    for (int32_t d = 0; d < m->n_devices; d++) {
        before[d] = m->devices[d].memory_bytes;
        m->devices[d].memory_bytes = 0;
    }
    berth_status st = a->set[OPT_MAX_MEMORY] ? apply_max_memory(a->text[OPT_MAX_MEMORY], m, err) : BERTH_OK;
    for (int32_t d = 0; st == BERTH_OK && d < m->n_devices; d++) {
        const uint64_t bytes = m->devices[d].memory_bytes;
        if (a->set[OPT_THREADS]) put_cores(&m->devices[d], d, a->number[OPT_THREADS], out);
        if (bytes != 0 && bytes != before[d])
            berth_buffer_printf(out, ",%d/mem=%llu", (int)d, (unsigned long long)bytes);
    }
    return st;
}

berth_status cli_device_list(const cli_args *a, berth_buffer *out, berth_error *err)
{
    const char *list = a->set[OPT_DEVICES] ? a->text[OPT_DEVICES] : "cpu";
    if (*list == '\0')
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--devices is empty; name at least one device, for example cpu or cpu*4");
    berth_buffer_puts(out, list);
    if (a->set[OPT_MAX_MEMORY] || a->set[OPT_THREADS]) {
        berth_machine m;
        berth_status st = berth_machine_parse_with(list, cli_profile_dir(a), &m, err);
        if (st != BERTH_OK) return st;
        st = put_changes(a, &m, out, err);
        berth_machine_deinit(&m);
        if (st != BERTH_OK) return st;
    }
    return out->failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the device list") : BERTH_OK;
}

const char *cli_profile_dir(const cli_args *a)
{
    return a->set[OPT_PROFILE_DIR] ? a->text[OPT_PROFILE_DIR] : NULL;
}

static void log_to_stderr(void *user, berth_log_level level, const char *message)
{
    (void)user;
    if (level >= BERTH_LOG_WARNING) fprintf(stderr, "berth: warning: %s\n", message);
}

int32_t cli_max_tiles(const cli_args *a)
{
    return a->set[OPT_MAX_TILES] ? 2 * ((int32_t)a->number[OPT_MAX_TILES] + 1) : 0;
}

int32_t cli_parallel_tiles(const cli_args *a, int32_t n)
{
    const int32_t each = (a->set[OPT_MAX_TILES] ? (int32_t)a->number[OPT_MAX_TILES] : 12) + 1;
    return n <= 1 ? cli_max_tiles(a) : each * (n + 1);
}

static const char *text_of(const cli_args *a, cli_option o)
{
    return a->set[o] ? a->text[o] : NULL;
}

static berth_status copy_place(const cli_args *a, cli_setup *out, berth_error *err)
{
    out->place = calloc((size_t)a->n_list[OPT_PLACE] + 1, sizeof *out->place);
    if (out->place == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for --place");
    for (int32_t i = 0; i < a->n_list[OPT_PLACE]; i++) out->place[i] = a->list[OPT_PLACE][i];
    return BERTH_OK;
}

bool cli_is_given(const cli_args *a, cli_option o)
{
    return a->set[o] && !a->from_environment[o];
}

/* Of a map and a strategy the one on the command line, where the other one is the environment's. */
static berth_status choose_map(const cli_args *a, bool *out_map, berth_error *err)
{
    *out_map = a->set[OPT_DEVICE_MAP];
    if (!a->set[OPT_DEVICE_MAP] || !a->set[OPT_STRATEGY]) return BERTH_OK;
    if (a->from_environment[OPT_DEVICE_MAP] == a->from_environment[OPT_STRATEGY])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--device-map replaces the strategy; leave out --strategy");
    *out_map = a->from_environment[OPT_STRATEGY];
    return BERTH_OK;
}

static berth_plan_options plan_options(const cli_args *a, const cli_setup *s, bool trace, int64_t context,
                                       int32_t max_tiles)
{
    return (berth_plan_options){
        .struct_size = sizeof(berth_plan_options),
        .devices = s->devices.data,
        .strategy = s->device_map ? NULL : text_of(a, OPT_STRATEGY),
        .device_map = s->device_map,
        .dtype = text_of(a, OPT_DTYPE),
        .profile_dir = cli_profile_dir(a),
        .context = a->set[OPT_CONTEXT] ? a->number[OPT_CONTEXT] : context,
        .n_seqs = (int32_t)a->number[OPT_BATCH],
        .chunk = (int32_t)a->number[OPT_CHUNK],
        .tiles = (int32_t)a->number[OPT_TILES],
        .max_tiles = max_tiles,
        .kernels = text_of(a, OPT_KERNELS),
        .trace = trace,
        .strategy_dir = text_of(a, OPT_STRATEGY_DIR),
        .isolated = a->set[OPT_ISOLATED],
        .strategy_timeout_ms = (int32_t)a->number[OPT_STRATEGY_TIMEOUT],
        .strategy_host = text_of(a, OPT_STRATEGY_HOST),
        .place = s->place,
        .split = text_of(a, OPT_SPLIT),
        .layers = text_of(a, OPT_LAYERS),
        .vision_device = text_of(a, OPT_VISION_DEVICE),
        .compat = text_of(a, OPT_COMPAT),
        .kv_tokens = a->number[OPT_KV_TOKENS],
        .passes = (int32_t)a->number[OPT_PASSES],
        .draft = (int32_t)a->number[OPT_SPECULATE],
        .batch_invariant = a->set[OPT_BATCH_INVARIANT],
        .show_misfit = a->command == CMD_PLAN || a->command == CMD_EXPLAIN,
    };
}

berth_status cli_setup_read(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err)
{
    *out = (cli_setup){0};
    if (!a->set[OPT_MODEL]) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "no model given; -m DIR is required\nusage: %s",
                          cli_commands[a->command].usage);
    }
    const berth_runtime_options runtime = {.struct_size = sizeof runtime,
                                           .log = a->set[OPT_QUIET] ? NULL : log_to_stderr};
    berth_status st = cli_device_list(a, &out->devices, err);
    if (st == BERTH_OK) st = copy_place(a, out, err);
    if (st == BERTH_OK) st = berth_runtime_create(&runtime, &out->rt, err);
    size_t size;
    bool has_map = false;
    if (st == BERTH_OK) st = choose_map(a, &has_map, err);
    if (st == BERTH_OK && has_map)
        st = berth_file_read(a->text[OPT_DEVICE_MAP], MAX_DEVICE_MAP_BYTES, &out->device_map, &size, err);
    const berth_model_options model = {.struct_size = sizeof model, .allow_missing_weights = allow_missing_weights};
    if (st == BERTH_OK) st = berth_model_open(out->rt, a->text[OPT_MODEL], &model, &out->model, err);
    out->options = plan_options(a, out, trace, context, max_tiles);
    if (st != BERTH_OK) cli_setup_close(out);
    return st;
}

berth_status cli_setup_open(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err)
{
    berth_status st = cli_setup_read(a, allow_missing_weights, trace, context, max_tiles, out, err);
    if (st != BERTH_OK) return st;
    st = berth_plan_create(out->model, &out->options, &out->plan, err);
    if (st == BERTH_OK) return BERTH_OK;
    if (out->device_map && err->status != BERTH_DOES_NOT_FIT && strstr(err->message, a->text[OPT_DEVICE_MAP]) == NULL) {
        berth_error_prefix(err, "%s: ", a->text[OPT_DEVICE_MAP]);
    }
    cli_setup_close(out);
    return st;
}

berth_status cli_replicas(const cli_args *a, const berth_plan *plan, int32_t *first, int32_t *end, berth_error *err)
{
    const int32_t n = berth_plan_n_replicas(plan);
    *first = a->set[OPT_REPLICA] ? (int32_t)a->number[OPT_REPLICA] : 0;
    *end = a->set[OPT_REPLICA] ? *first + 1 : n;
    if (*first < n) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--replica %d: the plan has %d replica%s, numbered from 0",
                      (int)*first, (int)n, n == 1 ? "" : "s");
}

void cli_setup_close(cli_setup *s)
{
    berth_plan_destroy(s->plan);
    berth_model_close(s->model);
    berth_runtime_destroy(s->rt);
    berth_buffer_deinit(&s->devices);
    free(s->device_map);
    free(s->place);
    *s = (cli_setup){0};
}

/* ---- engine ---------------------------------------------------------------------------------------------------------- */

static void show_progress(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    enum { WIDTH = 30 };
    const int filled = total > 0 ? (int)(done * WIDTH / total) : WIDTH;
    char bar[WIDTH + 1], size[32];
    for (int i = 0; i < WIDTH; i++) bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    cli_stop_if_asked();
    fprintf(stderr, "\rloading [%s] %s", bar, berth_format_bytes(total, size, sizeof size));
    if (done >= total) fputs("\r\033[K", stderr);
}

static void stop_if_asked(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    (void)done;
    (void)total;
    cli_stop_if_asked();
}

berth_status cli_engine_open(const cli_args *a, cli_setup *s, berth_engine **out, berth_error *err)
{
    uint64_t missing;
    int32_t device;
    if (!berth_plan_fits(s->plan, &missing, &device)) {
        berth_plan_device d = {.struct_size = sizeof d};
        char need[32], limit[32], less[32];
        berth_status st = berth_plan_get_device(s->plan, device, &d, err);
        if (st != BERTH_OK) return st;
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT,
                          "the model does not fit: %s needs %s, its limit is %s, so %s (%llu bytes) are missing; use "
                          "more devices, a larger limit, a smaller --context, or `berth plan` to see what binds",
                          d.name, berth_format_bytes(d.total, need, sizeof need),
                          berth_format_bytes(d.limit, limit, sizeof limit),
                          berth_format_bytes(missing, less, sizeof less), (unsigned long long)missing);
    }
    const berth_engine_options options = {
        .struct_size = sizeof options,
        .strict = a->set[OPT_STRICT],
        .nvtx = a->set[OPT_NVTX],
        .time_copies = a->set[OPT_TIME_COPIES] || (a->command == CMD_RUN && a->set[OPT_SHOW]),
        .transport = a->set[OPT_TRANSPORT] ? a->text[OPT_TRANSPORT] : NULL,
        .progress = isatty(STDERR_FILENO) && !a->set[OPT_QUIET] ? show_progress : stop_if_asked,
    };
    berth_plan *plan = s->plan;
    s->plan = NULL;
    return berth_engine_create(plan, &options, out, err);
}
