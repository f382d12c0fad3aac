/* plan_test.c - what a plan says before anything is loaded, held against what a run then does, against planning again,
 * and against accelerate's published results. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/status.h"
#include "berth/berth.h"

#define GOLDEN BERTH_SOURCE_DIR "/tests/golden/"
#define TINY   BERTH_SOURCE_DIR "/models/receipt-tiny"
#define LARGE  GOLDEN "plan/internvl3-8b"

static berth_runtime *rt;

static int open_runtime(void **state)
{
    (void)state;
    return berth_runtime_create(NULL, &rt, NULL) == BERTH_OK ? 0 : -1;
}
static int close_runtime(void **state)
{
    (void)state;
    berth_runtime_destroy(rt);
    return 0;
}

static berth_model *open_model(const char *dir)
{
    berth_model *model;
    berth_error err = {0};
    const berth_model_options options = {.struct_size = sizeof options, .allow_missing_weights = 1};
    if (berth_model_open(rt, dir, &options, &model, &err) != BERTH_OK) fail_msg("%s: %s", dir, err.message);
    return model;
}

static berth_plan *make(const berth_model *model, const berth_plan_options *o)
{
    berth_plan *plan;
    berth_error err = {0};
    if (berth_plan_create(model, o, &plan, &err) != BERTH_OK) fail_msg("%s", err.message);
    return plan;
}

/* ---- accelerate ------------------------------------------------------------------------------------------------- */

/* "0: V E L0-3; ..." as a list of the devices of vision, projector, embedding, 28 layers, norm, head. */
static void check_places(const berth_plan *plan, const char *what, const int32_t first_layer[5], const int32_t rest[5])
{
    static const char *const parts[5] = {"vision_model", "mlp1", "language_model.model.embed_tokens",
                                         "language_model.model.norm", "language_model.lm_head"};
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        int layer;
        char end;
        assert_int_equal(berth_plan_get_module(plan, i, &m, NULL), BERTH_OK);
        int32_t want = -2;
        for (int k = 0; k < 5; k++)
            if (strcmp(m.path, parts[k]) == 0) want = rest[k];
        if (sscanf(m.path, "language_model.model.layers.%d%c", &layer, &end) == 1) {
            want = 0;
            while (want < 3 && layer >= first_layer[want + 1]) want++;
        }
        if (want > -2 && berth_plan_module_device(plan, 0, i) != want)
            fail_msg("%s: %s is on %d, not on %d", what, m.path, (int)berth_plan_module_device(plan, 0, i), (int)want);
    }
}

static void accelerate_places_8b_as_published(void **state)
{
    (void)state;
    static const struct {
        const char *devices, *strategy;
        int32_t first_layer[5]; /* of devices 0 to 3 */
        int32_t rest[5];
    } cases[] = {
        {"cpu*4/mem=16GiB", "auto", {0, 4, 14, 24, 28}, {0, 3, 0, 3, 3}},
        {"cpu*4/mem=16000000000", "balanced", {0, 4, 14, 24, 28}, {0, 3, 0, 3, 3}},
        {"cpu*4/mem=32GiB", "balanced", {0, 4, 14, 24, 28}, {0, 3, 0, 3, 3}},
        {"cpu*4/mem=16GiB", "balanced_low_0", {0, 0, 9, 21, 28}, {1, 3, 1, 3, 3}},
        {"cpu*4/mem=16GiB", "sequential", {0, 28, 28, 28, 28}, {0, 0, 0, 0, 0}},
        {"cpu*2/mem=24GiB", "auto", {0, 12, 28, 28, 28}, {0, 1, 0, 1, 1}},
        {"cpu*2/mem=24GiB", "balanced_low_0", {0, 0, 28, 28, 28}, {1, 1, 1, 1, 1}},
        {"cpu*4/mem=15655829504", "sequential", {0, 27, 28, 28, 28}, {0, 1, 0, 1, 1}},
    };
    berth_model *model = open_model(LARGE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const berth_plan_options o = {.struct_size = sizeof o,
                                      .devices = cases[i].devices,
                                      .strategy = cases[i].strategy,
                                      .compat = "accelerate"};
        char name[96];
        berth_plan *plan = make(model, &o);
        check_places(plan, cases[i].strategy, cases[i].first_layer, cases[i].rest);
        snprintf(name, sizeof name, "accelerate=%s", cases[i].strategy);
        assert_string_equal(berth_plan_strategy(plan), name);
        berth_plan_destroy(plan);
    }
    const berth_plan_options small = {.struct_size = sizeof small, .devices = "cpu*2/mem=6GiB", .compat = "accelerate"};
    berth_plan *plan;
    berth_error err = {0};
    assert_int_equal(berth_plan_create(model, &small, &plan, &err), BERTH_DOES_NOT_FIT);
    assert_non_null(strstr(err.message, "outside the devices"));
    berth_model_close(model);
}

/* ---- what fits -------------------------------------------------------------------------------------------------- */

static bool fits(const berth_model *model, const berth_plan_options *o)
{
    berth_plan *plan;
    if (berth_plan_create(model, o, &plan, NULL) != BERTH_OK) return false;
    const bool does = berth_plan_fits(plan, NULL, NULL);
    berth_plan_destroy(plan);
    return does;
}

static void check_limits(const berth_model *model, const char *devices, const char *strategy, bool least)
{
    berth_plan_options o = {.struct_size = sizeof o, .devices = devices, .strategy = strategy, .context = 2048};
    berth_plan_limits l = {.struct_size = sizeof l};
    berth_error err = {0};
    if (berth_plan_limits_find(model, &o, &l, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_int_equal(l.weights_fit != 0, least);
    assert_int_equal(l.context >= 2048, fits(model, &o));
    const berth_plan_options asked = o;
    o.context = l.context;
    if (l.context > 0 && !fits(model, &o))
        fail_msg("%s: a context of %lld does not fit", devices, (long long)l.context);
    o.context = l.context + 32;
    if (l.context < 32768 && fits(model, &o)) fail_msg("%s: a context of %lld fits", devices, (long long)o.context);
    o = asked;
    o.n_seqs = l.n_seqs;
    if (l.n_seqs > 0 && !fits(model, &o)) fail_msg("%s: %d sequences do not fit", devices, (int)l.n_seqs);
    o.n_seqs = l.n_seqs + 1;
    if (l.n_seqs < 4096 && fits(model, &o)) fail_msg("%s: %d sequences fit", devices, (int)o.n_seqs);
    o = asked;
    o.tiles = l.tiles;
    if (l.tiles > 0 && !fits(model, &o)) fail_msg("%s: %d tiles do not fit", devices, (int)l.tiles);
    o.tiles = l.tiles + 1;
    if (l.tiles < 26 && fits(model, &o)) fail_msg("%s: %d tiles fit", devices, (int)o.tiles);
}

static void limits_are_the_largest_that_fit(void **state)
{
    (void)state;
    berth_model *model = open_model(LARGE);
    check_limits(model, "cpu*4/mem=16GiB", "balanced", true);
    check_limits(model, "cpu*2/mem=9GiB", "balanced", true);
    check_limits(model, "cpu*2/mem=8600MiB", "vllm", true);
    check_limits(model, "cpu*2/mem=8200MiB", "balanced", true);
    check_limits(model, "cpu*2/mem=4GiB", "balanced", false);
    check_limits(model, "cpu/mem=16GiB", "single", true);
    berth_model_close(model);
}

static void a_refusal_is_shown_with_what_is_missing(void **state)
{
    (void)state;
    static const char *const strategies[] = {"auto",    "balanced",   "single",     "internvl",
                                             "layer",   "vllm",       "sequential", "balanced_low_0",
                                             "optimal", "accelerate", "replicate=2"};
    berth_model *model = open_model(LARGE);
    for (size_t i = 0; i < sizeof strategies / sizeof strategies[0]; i++) {
        berth_plan_options o = {.struct_size = sizeof o, .devices = "cpu*3/mem=4GiB", .strategy = strategies[i]};
        berth_plan *plan;
        assert_int_equal(berth_plan_create(model, &o, &plan, NULL), BERTH_DOES_NOT_FIT);
        o.show_misfit = 1;
        plan = make(model, &o);
        uint64_t missing = 0;
        int32_t device = -1;
        assert_false(berth_plan_fits(plan, &missing, &device));
        assert_true(missing > 0 && device >= 0 && device < 3);
        assert_true(berth_plan_refusal(plan)[0] != '\0');
        berth_plan_device d = {.struct_size = sizeof d};
        assert_int_equal(berth_plan_get_device(plan, device, &d, NULL), BERTH_OK);
        assert_int_equal(d.limit, UINT64_C(4) << 30);
        /* With that much more on every device the worst one has room for its part. */
        assert_true(d.total <= d.limit + missing);
        berth_plan_destroy(plan);
    }
    berth_model_close(model);
}

/* ---- what crosses ----------------------------------------------------------------------------------------------- */

static berth_result ask(berth_plan *take, const char *picture)
{
    static const char question[] = "Extract the fields as JSON.";
    berth_engine *engine;
    berth_error err = {0};
    if (berth_engine_create(take, NULL, &engine, &err) != BERTH_OK) fail_msg("%s", err.message);
    const berth_content content[2] = {
        {.kind = BERTH_CONTENT_TEXT, .data = question, .size = strlen(question)},
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture, .size = picture != NULL ? strlen(picture) : 0}};
    const berth_turn turn = {.role = "user", .content = content, .n_content = picture != NULL ? 2 : 1};
    berth_request request;
    berth_request_init(&request);
    request.turns = &turn;
    request.n_turns = 1;
    request.max_new_tokens = 9;
    berth_result result = {.struct_size = sizeof result};
    if (berth_engine_run(engine, &request, &result, &err) != BERTH_OK) fail_msg("%s", err.message);
    berth_engine_destroy(engine);
    return result;
}

static void edges_are_those_of_the_run_and_overrides_change_no_answer(void **state)
{
    (void)state;
    static const char *const apart[] = {"vision.layer.*=cpu:2", "projector=cpu:1", "text.layer.1=0", NULL};
    static const berth_plan_options cases[] = {
        {.struct_size = sizeof cases[0], .devices = "cpu"},
        {.struct_size = sizeof cases[0], .devices = "cpu*3", .strategy = "balanced"},
        {.struct_size = sizeof cases[0], .devices = "cpu*2", .strategy = "internvl", .chunk = 7, .tiles = 1},
        {.struct_size = sizeof cases[0], .devices = "cpu*3", .strategy = "balanced", .place = apart, .tiles = 3},
        {.struct_size = sizeof cases[0], .devices = "cpu*3", .split = "1,2,1", .vision_device = "2", .chunk = 33},
        {.struct_size = sizeof cases[0], .devices = "cpu*2", .compat = "accelerate", .strategy = "balanced"},
    };
    berth_model *model = open_model(TINY);
    char first[2][512] = {"", ""};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int with_picture = 0; with_picture < 2; with_picture++) {
            const char *picture = with_picture ? TINY "/receipts/receipt-01.png" : NULL;
            berth_plan *plan = make(model, &cases[i]), *taken = make(model, &cases[i]);
            assert_true(berth_plan_fits(plan, NULL, NULL));
            const int32_t n = berth_plan_n_devices(plan) + 1;
            berth_result r = ask(taken, picture);
            uint64_t *edges = calloc((size_t)n * (size_t)n, sizeof *edges);
            /* The last token is chosen and not run. */
            assert_int_equal(berth_plan_edges(plan, 0, r.n_tiles, r.n_prompt_tokens, r.n_tokens - 1, edges, NULL),
                             BERTH_OK);
            for (int32_t e = 0; e < n * n; e++)
                if (edges[e] != r.edge_bytes[e])
                    fail_msg("case %zu, edge %d: planned %llu, moved %llu", i, (int)e, (unsigned long long)edges[e],
                             (unsigned long long)r.edge_bytes[e]);
            if (i == 0) snprintf(first[with_picture], sizeof first[0], "%s", r.text);
            assert_string_equal(r.text, first[with_picture]);
            free(edges);
            berth_result_deinit(&r);
            berth_plan_destroy(plan);
        }
    }
    berth_model_close(model);
}

/* ---- explain and drawing ---------------------------------------------------------------------------------------- */

static void explain_one(const berth_plan *plan, const char *name)
{
    berth_error err = {0};
    char *text, *json;
    if (berth_plan_explain(plan, 0, name, 0, &text, &err) != BERTH_OK) fail_msg("%s: %s", name, err.message);
    assert_int_equal(berth_plan_explain(plan, 0, name, BERTH_EXPLAIN_JSON, &json, &err), BERTH_OK);
    berth_json *parsed;
    if (berth_json_parse(json, strlen(json), name, &parsed, &err) != BERTH_OK) fail_msg("%s\n%s", err.message, json);
    const berth_json_node *root = berth_json_root(parsed), *section = NULL;
    static const char *const sections[] = {"module", "op", "encode_value", "step_value"};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (berth_json_get(root, sections[i]) != NULL) section = berth_json_get(root, sections[i]);
    assert_non_null(section);
    assert_true(berth_json_get(section, "device") != NULL || berth_json_get(section, "devices") != NULL);
    assert_non_null(strstr(text, "device"));
    berth_json_destroy(parsed);
    berth_free(text);
    berth_free(json);
}

static void every_name_is_explained(void **state)
{
    (void)state;
    const berth_plan_options o = {.struct_size = sizeof o, .devices = "cpu*3", .strategy = "balanced"};
    berth_model *model = open_model(TINY);
    berth_plan *plan = make(model, &o);
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        assert_int_equal(berth_plan_get_module(plan, i, &m, NULL), BERTH_OK);
        explain_one(plan, m.path);
    }
    for (int32_t i = 0; i < berth_plan_n_copies(plan, 0); i++) {
        berth_plan_copy c = {.struct_size = sizeof c};
        assert_int_equal(berth_plan_get_copy(plan, 0, i, &c, NULL), BERTH_OK);
        explain_one(plan, c.value);
    }
    char name[32], *text;
    for (int op = 0;; op++) {
        snprintf(name, sizeof name, "step:%d", op);
        if (berth_plan_explain(plan, 0, name, 0, &text, NULL) != BERTH_OK) break;
        berth_free(text);
        explain_one(plan, name);
    }
    explain_one(plan, "encode:0");
    explain_one(plan, "text.layer.0");
    berth_error err = {0};
    assert_int_equal(berth_plan_explain(plan, 0, "text.layr.0", 0, &text, &err), BERTH_NOT_FOUND);
    assert_null(text);
    assert_non_null(strstr(err.message, "text.layer.0"));
    assert_int_equal(berth_plan_explain(plan, 0, "step:999999", 0, &text, &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_plan_explain(plan, 1, "0", 0, &text, &err), BERTH_INVALID_ARGUMENT);
    berth_plan_destroy(plan);
    berth_model_close(model);
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) n++;
    return n;
}

static void a_drawing_has_every_part_once(void **state)
{
    (void)state;
    berth_model *model = open_model(LARGE);
    const berth_plan_options o = {.struct_size = sizeof o, .devices = "cpu*4/mem=16GiB", .strategy = "balanced"};
    berth_plan *plan = make(model, &o);
    char *dot = berth_plan_dot(plan, 0);
    int32_t n_units = 0;
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++) {
        berth_plan_module m = {.struct_size = sizeof m};
        berth_plan_get_module(plan, i, &m, NULL);
        n_units += m.is_unit;
    }
    assert_int_equal(n_units, 1 + 3 + 1 + 28 + 1 + 1); /* vision, projector's three, embedding, layers, norm, head */
    assert_int_equal(count(dot, "fillcolor="), n_units);
    assert_int_equal(count(dot, "subgraph cluster_"), 4);
    assert_int_equal(count(dot, "red3"), 3); /* a chain of four devices */
    assert_int_equal(count(dot, "{"), count(dot, "}"));
    berth_free(dot);
    berth_plan_destroy(plan);
    berth_model_close(model);
}

/* ---- without data ----------------------------------------------------------------------------------------------- */

static void write_part(const char *from, const char *to, size_t n)
{
    char *bytes;
    size_t size;
    berth_error err = {0};
    if (berth_file_read(from, 1 << 24, &bytes, &size, &err) != BERTH_OK) fail_msg("%s", err.message);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n < size ? n : size, f), n < size ? n : size);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

static void headers_alone_plan_as_the_whole_file_does(void **state)
{
    (void)state;
    static const char base[] = GOLDEN "models/ivl-native";
    char folder[] = "/tmp/berth-plan-XXXXXX", path[64];
    unsigned char length[8];
    assert_non_null(mkdtemp(folder));
    static const char *const others[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                         "preprocessor_config.json"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char from[512];
        snprintf(from, sizeof from, "%s/%s", base, others[i]);
        snprintf(path, sizeof path, "%s/%s", folder, others[i]);
        write_part(from, path, SIZE_MAX);
    }
    FILE *f = fopen(GOLDEN "models/ivl-native/model.safetensors", "rb");
    assert_non_null(f);
    assert_int_equal(fread(length, 1, 8, f), 8);
    fclose(f);
    size_t header = 8;
    for (int i = 0; i < 8; i++) header += (size_t)length[i] << (8 * i);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    const berth_plan_options o = {.struct_size = sizeof o, .devices = "cpu*2", .strategy = "balanced"};
    berth_model *whole = open_model(base), *model;
    berth_plan *plan = make(whole, &o);
    char *want = berth_plan_json(plan, BERTH_PLAN_WITH_PROGRAM);
    berth_plan_destroy(plan);
    write_part(GOLDEN "models/ivl-native/model.safetensors", path, header);
    model = open_model(folder);
    plan = make(model, &o);
    char *got = berth_plan_json(plan, BERTH_PLAN_WITH_PROGRAM);
    assert_string_equal(got, want);
    berth_engine *engine; /* nothing to load */
    berth_error err = {0};
    assert_int_equal(berth_engine_create(plan, NULL, &engine, &err), BERTH_BAD_FILE);
    berth_model_close(model);
    berth_model_close(whole);
    const berth_model_options loose = {.struct_size = sizeof loose, .allow_missing_weights = 1};
    assert_int_equal(berth_model_open(rt, folder, NULL, &model, &err), BERTH_BAD_FILE);
    const size_t cuts[] = {header - 1, header + 1, header + 4097, 8, 0};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        write_part(GOLDEN "models/ivl-native/model.safetensors", path, cuts[i]);
        assert_int_equal(berth_model_open(rt, folder, &loose, &model, &err), BERTH_BAD_FILE);
    }
    berth_free(want);
    berth_free(got);
    unlink(path);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, others[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* ---- overrides -------------------------------------------------------------------------------------------------- */

static void overrides_are_checked(void **state)
{
    (void)state;
    static const struct {
        berth_plan_options o;
        const char *says;
    } cases[] = {
        {{.layers = "14,13"}, "add up to 27, and the model has 28"},
        {{.layers = "28"}, "expected 2 numbers"},
        {{.layers = "14,14,0"}, "expected 2 numbers"},
        {{.layers = "13.5,14.5"}, "whole counts"},
        {{.layers = "99999999999999999999,1"}, "expected 2 numbers"},
        {{.layers = "-1,29"}, "expected 2 numbers"},
        {{.split = "0,0"}, "not all 0"},
        {{.split = "3"}, "expected 2 numbers"},
        {{.split = "3,x"}, "expected 2 numbers"},
        {{.split = "3,1", .layers = "14,14"}, "give one"},
        {{.vision_device = "cpu:9"}, "\"cpu:9\" is not a device here"},
        {{.compat = "vllm"}, "compat \"vllm\" is not known"},
        {{.compat = "accelerate", .strategy = "optimal"}, "accelerate has auto"},
        {{.compat = "accelerate", .device_map = "{\"\": 0}"}, "the map decides"},
        {{.strategy = "accelerate=optimal"}, "accelerate has auto"},
    };
    berth_model *model = open_model(LARGE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_plan_options o = cases[i].o;
        berth_plan *plan;
        berth_error err = {0};
        o.struct_size = sizeof o;
        o.devices = "cpu*2/mem=32GiB";
        assert_int_equal(berth_plan_create(model, &o, &plan, &err), BERTH_INVALID_ARGUMENT);
        if (strstr(err.message, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.message);
    }
    /* Split by shares is llama.cpp's layer strategy. */
    const berth_plan_options split = {.struct_size = sizeof split, .devices = "cpu*2/mem=32GiB", .split = "3,1"};
    const berth_plan_options layer = {
        .struct_size = sizeof layer, .devices = "cpu*2/mem=32GiB", .strategy = "layer=3,1"};
    berth_plan *a = make(model, &split), *b = make(model, &layer);
    char *map_a = berth_plan_device_map(a, 0), *map_b = berth_plan_device_map(b, 0);
    assert_string_equal(map_a, map_b);
    berth_free(map_a);
    berth_free(map_b);
    berth_plan_destroy(a);
    berth_plan_destroy(b);
    berth_model_close(model);
}

/* The strategy alone refuses; with what the user moves it fits, or it does not and the plan says by how much. */
static void an_override_can_make_it_fit(void **state)
{
    (void)state;
    static const char *const to_second[] = {"text.layer.*=cpu:1", "text.norm=cpu:1", "head=cpu:1", NULL};
    static const char *const nothing[] = {"text.norm=cpu:1", NULL};
    static const char *const wrong[] = {"text.layer.*=cpu:7", NULL};
    static const struct {
        const char *devices, *strategy, *const *place;
        bool fits;
    } cases[] = {
        {"cpu/mem=5GiB,cpu/mem=48GiB", "single=0", to_second, true},
        {"cpu/mem=5GiB,cpu/mem=48GiB", "internvl", to_second, true},
        {"cpu/mem=5GiB,cpu/mem=48GiB", "layer=1,1", to_second, true},
        {"cpu/mem=5GiB,cpu/mem=48GiB", "single=0", nothing, false},
        {"cpu*2/mem=4GiB", "optimal", to_second, false},
        {"cpu/mem=5GiB,cpu/mem=6GiB", "accelerate", to_second, false},
    };
    berth_model *model = open_model(LARGE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_plan_options o = {
            .struct_size = sizeof o, .devices = cases[i].devices, .strategy = cases[i].strategy, .context = 2048};
        berth_plan *plan;
        berth_error err = {0};
        assert_int_equal(berth_plan_create(model, &o, &plan, &err), BERTH_DOES_NOT_FIT);
        o.place = cases[i].place;
        plan = make(model, &o);
        uint64_t missing;
        int32_t worst;
        if (berth_plan_fits(plan, &missing, &worst) != cases[i].fits) fail_msg("case %zu", i);
        if (strstr(berth_plan_note(plan), "the strategy alone refuses") == NULL) fail_msg("%s", berth_plan_note(plan));
        for (int32_t d = 0; d < 2; d++) {
            berth_plan_device v = {.struct_size = sizeof v};
            assert_int_equal(berth_plan_get_device(plan, d, &v, NULL), BERTH_OK);
            if (d == worst) assert_int_equal(v.total, v.limit + missing);
            if (cases[i].fits) assert_true(v.total <= v.limit);
        }
        berth_plan_destroy(plan);
    }
    berth_plan *plan;
    berth_error err = {0};
    const berth_plan_options o = {
        .struct_size = sizeof o, .devices = "cpu*2/mem=4GiB", .strategy = "single", .place = wrong};
    assert_int_equal(berth_plan_create(model, &o, &plan, &err), BERTH_INVALID_ARGUMENT);
    berth_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accelerate_places_8b_as_published),
        cmocka_unit_test(limits_are_the_largest_that_fit),
        cmocka_unit_test(a_refusal_is_shown_with_what_is_missing),
        cmocka_unit_test(edges_are_those_of_the_run_and_overrides_change_no_answer),
        cmocka_unit_test(every_name_is_explained),
        cmocka_unit_test(a_drawing_has_every_part_once),
        cmocka_unit_test(headers_alone_plan_as_the_whole_file_does),
        cmocka_unit_test(overrides_are_checked),
        cmocka_unit_test(an_override_can_make_it_fit),
    };
    return cmocka_run_group_tests(tests, open_runtime, close_runtime);
}
