/* cmd_plan_tree.c - berth plan --modules: placement of any module tree, also of models that berth cannot run, as accelerate decides it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include "cli/setup.h"
#include "machine/machine.h"
#include "strategies/accelerate.h"

#define TREE_SCHEMA "berth.tree-plan/1"

enum { MAX_TREE_BYTES = 64 << 20, MAX_CLASSES = 256, MAX_BUDGETS = 1024 };

typedef struct tree_request {
    berth_tree tree;
    berth_accelerate_strategy strategy;
    char *classes_text; /* owned; the names point into it */
    const char *classes[MAX_CLASSES];
    int32_t n_classes;
    berth_accelerate_budget budgets[MAX_BUDGETS];
    int32_t n_budgets;
    bool are_free_memory; /* found, and not given by the user */
    int32_t dtype_bits;
} tree_request;

static berth_status read_tree(const char *file, berth_tree *out, berth_error *err)
{
    char *text;
    size_t size;
    berth_json *json = NULL;
    berth_status st = berth_file_read(file, MAX_TREE_BYTES, &text, &size, err);
    if (st != BERTH_OK) return st;
    st = berth_json_parse(text, size, file, &json, err);
    free(text);
    if (st != BERTH_OK) return st;
    const berth_json_node *root = berth_json_root(json);
    if (berth_json_type_of(berth_json_get(root, "model")) == BERTH_JSON_OBJECT) root = berth_json_get(root, "model");
    st = berth_tree_from_json(root, file, out, err);
    berth_json_destroy(json);
    return st;
}

static berth_status read_classes(const char *list, tree_request *r, berth_error *err)
{
    r->classes_text = strdup(list);
    if (r->classes_text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for --no-split");
    char *rest = NULL;
    for (char *name = strtok_r(r->classes_text, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        if (r->n_classes == MAX_CLASSES)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--no-split names more than %d classes", MAX_CLASSES);
        r->classes[r->n_classes++] = name;
    }
    return BERTH_OK;
}

static bool read_device(const char *name, int32_t *out)
{
    static const struct {
        const char *name;
        int32_t device;
    } rows[] = {{"cpu", BERTH_ACCELERATE_CPU}, {"disk", BERTH_ACCELERATE_DISK}, {"mps", BERTH_ACCELERATE_MPS}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        *out = rows[i].device;
        return true;
    }
    char *end;
    if (strncmp(name, "cuda:", 5) == 0) name += 5;
    const long n = strtol(name, &end, 10);
    *out = (int32_t)n;
    return end != name && *end == '\0' && n >= 0 && n < MAX_BUDGETS;
}

/* One "DEVICE=SIZE" of --max-memory; bare digits are bytes. */
static berth_status read_budget(char *item, tree_request *r, berth_error *err)
{
    char *equals = strchr(item, '=');
    int32_t device;
    int64_t bytes = 0;
    if (equals != NULL) *equals = '\0';
    if (equals == NULL || !read_device(item, &device) || r->n_budgets == MAX_BUDGETS)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--max-memory: \"%s\" is not DEVICE=SIZE with a GPU number, cpu, disk or mps", item);
    char *end;
    const long long digits = strtoll(equals + 1, &end, 10);
    const bool is_bytes = end != equals + 1 && *end == '\0' && digits >= 0;
    if (is_bytes) bytes = digits;
    if (!is_bytes && !berth_accelerate_size(equals + 1, &bytes))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--max-memory %s=%s: the size is not one accelerate reads", item,
                          equals + 1);
    r->budgets[r->n_budgets++] = (berth_accelerate_budget){.device = device, .bytes = (double)bytes};
    return BERTH_OK;
}

static berth_status read_budgets(const char *list, tree_request *r, berth_error *err)
{
    char *text = strdup(list), *rest = NULL;
    if (text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for --max-memory");
    berth_status st = BERTH_OK;
    for (char *item = strtok_r(text, ",", &rest); item != NULL && st == BERTH_OK; item = strtok_r(NULL, ",", &rest))
        st = read_budget(item, r, err);
    free(text);
    return st;
}

/* As get_max_memory() finds them on such a computer: the devices' memory, and the host's. */
static berth_status find_budgets(const cli_args *a, tree_request *r, berth_error *err)
{
    berth_machine m;
    berth_status st = berth_machine_parse_with(a->text[OPT_DEVICES], cli_profile_dir(a), &m, err);
    if (st != BERTH_OK) return st;
    for (int32_t d = 0; d < m.n_devices; d++)
        r->budgets[r->n_budgets++] = (berth_accelerate_budget){.device = d, .bytes = (double)m.devices[d].memory_bytes};
    r->budgets[r->n_budgets++] =
        (berth_accelerate_budget){.device = BERTH_ACCELERATE_CPU, .bytes = (double)m.physical_memory};
    r->are_free_memory = true;
    berth_machine_deinit(&m);
    return BERTH_OK;
}

static berth_status read_request(const cli_args *a, tree_request *r, berth_error *err)
{
    if (!a->set[OPT_COMPAT] || strcmp(a->text[OPT_COMPAT], "accelerate") != 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--modules needs --compat accelerate; berth's own strategies need a model to know its work");
    if (a->set[OPT_MAX_MEMORY] == a->set[OPT_DEVICES])
        return BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "--modules needs --max-memory, for example 0=16GiB,1=16GiB,cpu=64GiB; or else --devices, whose "
            "memory is then what accelerate finds free where it is given no max_memory");
    const double per_weight = a->set[OPT_BYTES_PER_WEIGHT] ? a->real[OPT_BYTES_PER_WEIGHT] : 0;
    const double bits = per_weight * 8;
    if (a->set[OPT_BYTES_PER_WEIGHT] && (per_weight <= 0 || per_weight > 16 || bits != floor(bits)))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--bytes-per-weight %s: expected a number of bytes such as 2, 1 or 0.5",
                          a->text[OPT_BYTES_PER_WEIGHT]);
    r->dtype_bits = (int32_t)bits;
    berth_status st =
        berth_accelerate_strategy_named(a->set[OPT_STRATEGY] ? a->text[OPT_STRATEGY] : "auto", &r->strategy, err);
    if (st == BERTH_OK && a->set[OPT_NO_SPLIT]) st = read_classes(a->text[OPT_NO_SPLIT], r, err);
    if (st == BERTH_OK && a->set[OPT_MAX_MEMORY]) st = read_budgets(a->text[OPT_MAX_MEMORY], r, err);
    if (st == BERTH_OK && a->set[OPT_DEVICES]) st = find_budgets(a, r, err);
    if (st == BERTH_OK) st = read_tree(a->text[OPT_MODULES], &r->tree, err);
    return st;
}

/* ---- printing -------------------------------------------------------------------------------------------------------- */

static const char *device_word(int32_t device)
{
    return device == BERTH_ACCELERATE_CPU    ? "cpu"
           : device == BERTH_ACCELERATE_DISK ? "disk"
           : device == BERTH_ACCELERATE_MPS  ? "mps"
                                             : NULL;
}

/* A device as JSON has it in a device map: a number, or a word. */
static void put_device(berth_buffer *b, int32_t device, bool quoted)
{
    const char *word = device_word(device);
    if (word != NULL) {
        berth_buffer_printf(b, "\"%s\"", word);
    } else {
        berth_buffer_printf(b, quoted ? "\"%d\"" : "%d", (int)device);
    }
}

static void put_key(berth_buffer *b, const berth_tree *tree, int32_t entry)
{
    const char *path = berth_tree_path(tree, entry);
    berth_buffer_json_string(b, path, strlen(path));
}

static void put_entries(berth_buffer *b, const berth_tree *tree, const berth_accelerate_entry *entries, int32_t n,
                        bool as_map)
{
    berth_buffer_puts(b, as_map ? "{" : "[");
    for (int32_t i = 0; i < n; i++) {
        berth_buffer_puts(b, i == 0 ? "" : ", ");
        if (!as_map) berth_buffer_putc(b, '[');
        put_key(b, tree, entries[i].entry);
        berth_buffer_puts(b, as_map ? ": " : ", ");
        put_device(b, entries[i].device, false);
        if (!as_map) berth_buffer_putc(b, ']');
    }
    berth_buffer_puts(b, as_map ? "}" : "]");
}

/* Bytes as a JSON number: whole where they are whole (all but the 0.9 of one GPU). */
static void put_bytes(berth_buffer *b, double bytes)
{
    if (bytes == floor(bytes) && fabs(bytes) < 9e15) {
        berth_buffer_printf(b, "%" PRId64, (int64_t)bytes);
    } else {
        berth_buffer_printf(b, "%.17g", bytes);
    }
}

static void put_budgets(berth_buffer *b, const berth_accelerate_result *r)
{
    berth_buffer_puts(b, "{");
    for (int32_t i = 0; i < r->n_budgets; i++) {
        berth_buffer_puts(b, i == 0 ? "" : ", ");
        put_device(b, r->budgets[i].device, true);
        berth_buffer_puts(b, ": ");
        put_bytes(b, r->budgets[i].bytes);
    }
    berth_buffer_puts(b, "}");
}

enum { WORDS = 3 }; /* cpu, disk and mps have negative numbers */

/* Weights and buffers on each device, as the cleaned map implies. */
typedef struct held {
    int64_t bits[WORDS + MAX_BUDGETS];
    bool any[WORDS + MAX_BUDGETS];
    int64_t uncovered; /* bits of buffers of divided modules: accelerate gives them no device */
    bool any_uncovered;
} held;

static void add_up(const tree_request *q, const berth_accelerate_result *r, held *out)
{
    for (int32_t t = 0; t < q->tree.n_tensors; t++) {
        const int64_t bits = berth_accelerate_bits(&q->tree.tensors[t], q->dtype_bits);
        int32_t device;
        if (!berth_accelerate_device(&q->tree, r, q->tree.n_modules + t, &device)) {
            out->uncovered += bits;
            out->any_uncovered = true;
        } else if (device >= -WORDS && device < MAX_BUDGETS) {
            out->bits[device + WORDS] += bits;
            out->any[device + WORDS] = true;
        }
    }
}

static uint64_t whole_bytes(const held *h, int32_t device)
{
    return (uint64_t)((h->bits[device + WORDS] + 7) / 8);
}

static void put_device_bytes(berth_buffer *b, const tree_request *q, const berth_accelerate_result *r)
{
    held h = {0};
    add_up(q, r, &h);
    bool first = true;
    berth_buffer_puts(b, "{");
    for (int32_t k = 0; k < WORDS + MAX_BUDGETS; k++) {
        if (!h.any[k]) continue;
        berth_buffer_puts(b, first ? "" : ", ");
        put_device(b, k - WORDS, true);
        berth_buffer_puts(b, ": ");
        put_bytes(b, (double)h.bits[k] / 8);
        first = false;
    }
    if (h.any_uncovered) {
        berth_buffer_puts(b, first ? "\"None\": " : ", \"None\": ");
        put_bytes(b, (double)h.uncovered / 8);
    }
    berth_buffer_puts(b, "}");
}

static void put_result(berth_buffer *b, const cli_args *a, const tree_request *q, const berth_accelerate_result *r,
                       const berth_error *err)
{
    berth_buffer_printf(b, "{\"schema\": \"" TREE_SCHEMA "\", \"compat\": \"accelerate\", \"strategy\": \"%s\",\n",
                        a->set[OPT_STRATEGY] ? a->text[OPT_STRATEGY] : "auto");
    if (err != NULL) {
        berth_buffer_puts(b, " \"error\": {\"raises\": ");
        berth_buffer_json_string(b, r->raises, strlen(r->raises));
        berth_buffer_puts(b, ", \"message\": ");
        berth_buffer_json_string(b, err->message, strlen(err->message));
        berth_buffer_puts(b, "}}\n");
        return;
    }
    berth_buffer_puts(b, " \"device_map\": ");
    put_entries(b, &q->tree, r->map, r->n_map, true);
    berth_buffer_puts(b, ",\n \"raw_map\": ");
    put_entries(b, &q->tree, r->raw, r->n_raw, false);
    berth_buffer_puts(b, ",\n \"budgets\": ");
    put_budgets(b, r);
    berth_buffer_puts(b, ",\n \"bytes\": ");
    put_device_bytes(b, q, r);
    berth_buffer_puts(b, ",\n \"total_bytes\": ");
    put_bytes(b, r->total_bytes);
    berth_buffer_puts(b, ", \"error\": null}\n");
}

static void put_device_name(berth_buffer *b, int32_t device)
{
    const char *word = device_word(device);
    if (word != NULL)
        berth_buffer_puts(b, word);
    else
        berth_buffer_printf(b, "%d", (int)device);
}

/* What each device holds of the budget that the placer saw. */
static void put_budget_rows(berth_buffer *b, const held *h, const berth_accelerate_result *r)
{
    char bytes[24], budget[24];
    berth_buffer_printf(b, "\n%-8s %12s %12s\n", "device", "holds", "budget");
    for (int32_t i = 0; i < r->n_budgets; i++) {
        const int32_t device = r->budgets[i].device;
        const size_t before = b->len;
        put_device_name(b, device);
        berth_buffer_printf(b, "%*s %12s %12s\n", 8 - (int)(b->len - before), "",
                            berth_format_bytes(whole_bytes(h, device), bytes, sizeof bytes),
                            device == BERTH_ACCELERATE_DISK
                                ? "-"
                                : berth_format_bytes((uint64_t)r->budgets[i].bytes, budget, sizeof budget));
    }
    if (r->n_budgets == 0 || r->budgets[r->n_budgets - 1].device != BERTH_ACCELERATE_DISK)
        berth_buffer_printf(b, "%-8s %12s %12s\n", "disk",
                            berth_format_bytes(whole_bytes(h, BERTH_ACCELERATE_DISK), bytes, sizeof bytes), "-");
    if (h->any_uncovered)
        berth_buffer_printf(b, "%-8s %12s              buffers of divided modules: accelerate gives them no device\n",
                            "none", berth_format_bytes((uint64_t)(h->uncovered / 8), bytes, sizeof bytes));
}

static void put_table(berth_buffer *b, const tree_request *q, const berth_accelerate_result *r)
{
    held h = {0};
    int width = 0;
    add_up(q, r, &h);
    for (int32_t i = 0; i < r->n_map; i++) {
        const int len = (int)strlen(berth_tree_path(&q->tree, r->map[i].entry));
        width = len > width ? len : width;
    }
    if (width < 17) width = 17;
    for (int32_t i = 0; i < r->n_map; i++) {
        const char *path = berth_tree_path(&q->tree, r->map[i].entry);
        berth_buffer_printf(b, "%-*s  ", width, *path ? path : "(the whole model)");
        put_device_name(b, r->map[i].device);
        berth_buffer_putc(b, '\n');
    }
    put_budget_rows(b, &h, r);
}

cli_exit cmd_plan_tree(const cli_args *a)
{
    berth_error err = {0};
    tree_request *q = calloc(1, sizeof *q);
    if (q == NULL) return EXIT_RUN;
    berth_accelerate_result r = {0};
    berth_status st = read_request(a, q, &err);
    if (st == BERTH_OK) {
        const berth_accelerate_request request = {.tree = &q->tree,
                                                  .strategy = q->strategy,
                                                  .dtype_bits = q->dtype_bits,
                                                  .no_split = q->classes,
                                                  .n_no_split = q->n_classes,
                                                  .budgets = q->budgets,
                                                  .n_budgets = q->n_budgets,
                                                  .budgets_are_free_memory = q->are_free_memory,
                                                  .fallback = a->set[OPT_FALLBACK]};
        st = berth_accelerate_place(&request, &r, &err);
    }
    berth_buffer out = {0};
    if (a->set[OPT_JSON] && (st == BERTH_OK || r.raises != NULL)) {
        put_result(&out, a, q, &r, st == BERTH_OK ? NULL : &err);
    } else if (st == BERTH_OK) {
        put_table(&out, q, &r);
    }
    const bool ok = !out.failed && cli_write(out.data, out.len);
    berth_buffer_deinit(&out);
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&q->tree);
    free(q->classes_text);
    free(q);
    return st != BERTH_OK ? cli_fail(&err) : ok ? EXIT_OK : EXIT_RUN;
}
