/* cli_trace_test.c - `berth trace` on the reference models: every recorded value within its tolerance, in the order of
 * computation, and the same greedy tokens, wherever the parts live. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/safetensors.h"
#include "program.h"

static const char *const models[] = {"ivl-native", "ivl-qwen3",      "ivl-remote", "ivl-remote-6b",
                                     "ivl-tied",   "ivl-rms-qknorm", "qwen2-text"};

static const char *const placements[] = {
    "--devices cpu",
    "--devices cpu*2 --strategy balanced --strict",
    "--devices cpu*3 --strategy balanced_low_0 --transport staged",
    "--devices cpu*4 --strategy balanced --chunk 7 --tiles 1",
    "--devices cpu*4 --strategy sequential",
    "--devices cpu*2 --strategy replicate",
    "--devices cpu*4 --strategy auto --kernels ref",
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static berth_safetensors *open_tensors(const char *path)
{
    berth_safetensors *f;
    berth_error err = {0};
    if (berth_safetensors_open(NULL, path, &f, &err) != BERTH_OK) fail_msg("%s", err.message);
    return f;
}

static void *read_tensor(const berth_safetensors *f, const berth_safetensor *t)
{
    berth_error err = {0};
    void *data = malloc(t->n_bytes + 1);
    assert_non_null(data);
    if (berth_safetensors_read(f, t, data, &err) != BERTH_OK) fail_msg("%s", err.message);
    return data;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

typedef struct compared {
    const char *what; /* case and placement, for messages */
    const berth_safetensors *want, *got;
    size_t n;
} compared;

static void compare_value(compared *c, const char *name, double tolerance)
{
    const berth_safetensor *a = berth_safetensors_find(c->want, name), *b = berth_safetensors_find(c->got, name);
    if (a == NULL) fail_msg("%s: the reference has no %s", c->what, name);
    if (b == NULL) fail_msg("%s: %s was not written", c->what, name);
    bool same = a->dtype == BERTH_F32 && b->dtype == BERTH_F32 && a->n_dims == b->n_dims;
    for (int32_t d = 0; same && d < a->n_dims; d++) same = a->dims[d] == b->dims[d];
    if (!same) fail_msg("%s: %s has another shape or dtype", c->what, name);
    float *x = read_tensor(c->want, a), *y = read_tensor(c->got, b);
    double worst = 0;
    for (size_t i = 0; i < a->n_bytes / sizeof *x; i++) {
        const double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= worst)) worst = d; /* NaN counts */
    }
    free(x);
    free(y);
    if (!(worst <= tolerance)) fail_msg("%s: %s is off by %g; the tolerance is %g", c->what, name, worst, tolerance);
    c->n++;
}

/* The tolerances stand in the order of computation, so the first failure is where the mistake is. */
static void compare_values(compared *c, const berth_json_node *tolerances)
{
    for (const berth_json_node *t = berth_json_first(tolerances); t != NULL; t = berth_json_next(t)) {
        double tolerance;
        assert_true(berth_json_as_f64(t, &tolerance));
        if (strcmp(berth_json_key(t), "logits.step") != 0) {
            compare_value(c, berth_json_key(t), tolerance);
            continue;
        }
        for (size_t i = 0; i < berth_safetensors_count(c->want); i++) {
            const char *name = berth_safetensors_at(c->want, i)->name;
            if (strncmp(name, "logits.step.", 12) == 0) compare_value(c, name, tolerance);
        }
    }
}

static void compare_ids(const compared *c, const berth_json_node *ids)
{
    const berth_safetensor *t = berth_safetensors_find(c->got, "generated_ids");
    assert_non_null(t);
    assert_int_equal(t->dtype, BERTH_I64);
    assert_int_equal(t->dims[0], berth_json_size(ids));
    int64_t *got = read_tensor(c->got, t), want;
    size_t i = 0;
    for (const berth_json_node *n = berth_json_first(ids); n != NULL; n = berth_json_next(n), i++) {
        assert_true(berth_json_as_i64(n, &want));
        if (got[i] != want)
            fail_msg("%s: greedy token %zu is %lld, not %lld", c->what, i, (long long)got[i], (long long)want);
    }
    free(got);
}

/* Bytes of a tensor in two files are the same. */
static void compare_input(const compared *c, const char *name)
{
    const berth_safetensor *a = berth_safetensors_find(c->want, name), *b = berth_safetensors_find(c->got, name);
    if (a == NULL) {
        assert_null(b);
        return;
    }
    assert_non_null(b);
    assert_int_equal(a->n_bytes, b->n_bytes);
    char *x = read_tensor(c->want, a), *y = read_tensor(c->got, b);
    if (memcmp(x, y, a->n_bytes) != 0) fail_msg("%s: %s is not the input", c->what, name);
    free(x);
    free(y);
}

static void trace_case(const char *model, const berth_json_node *one, const char *placement)
{
    char arguments[1024], what[256], want[512], got[128];
    int64_t n_new;
    const berth_json_node *greedy = berth_json_get(one, "greedy");
    const char *tensors = berth_json_as_string(berth_json_get(one, "tensors"));
    assert_true(berth_json_as_i64(berth_json_get(greedy, "n_new"), &n_new));
    snprintf(what, sizeof what, "%s %s, %s", model, tensors, placement);
    snprintf(want, sizeof want, GOLDEN "models/%s/%s", model, tensors);
    snprintf(got, sizeof got, "%s/out.safetensors", test_folder());
    snprintf(arguments, sizeof arguments, "trace -m " GOLDEN "models/%s --inputs %s --out %s -n %d %s", model, want,
             got, (int)n_new, placement);
    program_result r = program_expect(NULL, 0, arguments);
    program_deinit(&r);
    compared c = {.what = what, .want = open_tensors(want), .got = open_tensors(got)};
    compare_input(&c, "input_ids");
    compare_input(&c, "pixel_values");
    compare_values(&c, berth_json_get(one, "tolerance"));
    assert_true(c.n > 10);
    compare_ids(&c, berth_json_get(greedy, "ids"));
    berth_safetensors_close((berth_safetensors *)c.want);
    berth_safetensors_close((berth_safetensors *)c.got);
}

static berth_json *read_golden(const char *model)
{
    char path[512];
    size_t size;
    berth_json *json;
    berth_error err = {0};
    snprintf(path, sizeof path, GOLDEN "models/%s/golden.json", model);
    char *text = test_read(path, &size);
    if (berth_json_parse(text, size, path, &json, &err) != BERTH_OK) fail_msg("%s", err.message);
    free(text);
    return json;
}

static void values_and_tokens_are_the_reference_s(void **state)
{
    const char *model = *state;
    berth_json *json = read_golden(model);
    const berth_json_node *list = berth_json_get(berth_json_root(json), "cases");
    assert_true(berth_json_size(list) >= 1);
    for (const berth_json_node *one = berth_json_first(list); one != NULL; one = berth_json_next(one)) {
        for (size_t p = 0; p < sizeof placements / sizeof placements[0]; p++) trace_case(model, one, placements[p]);
    }
    berth_json_destroy(json);
}

/* ---- other ways in ----------------------------------------------------------------------------------------------- */

/* A case's messages in the form that users write, its pictures named one after the other. */
static void write_messages(const char *path, const char *model, const berth_json_node *one)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    const berth_json_node *picture = berth_json_first(berth_json_get(one, "images"));
    const berth_json_node *messages = berth_json_get(one, "messages");
    fputc('[', f);
    for (const berth_json_node *m = berth_json_first(messages); m != NULL; m = berth_json_next(m)) {
        const berth_json_node *content = berth_json_get(m, "content");
        fprintf(f, "%s{\"role\": \"%s\", \"content\": ", m == berth_json_first(messages) ? "" : ", ",
                berth_json_as_string(berth_json_get(m, "role")));
        if (berth_json_as_string(content) != NULL) fprintf(f, "\"%s\"}", berth_json_as_string(content));
        if (berth_json_as_string(content) != NULL) continue;
        for (const berth_json_node *p = berth_json_first(content); p != NULL; p = berth_json_next(p)) {
            const char *text = berth_json_as_string(berth_json_get(p, "text"));
            fputs(p == berth_json_first(content) ? "[" : ", ", f);
            if (text != NULL) {
                fprintf(f, "{\"type\": \"text\", \"text\": \"%s\"}", text);
            } else {
                fprintf(f, "{\"type\": \"image_url\", \"image_url\": {\"url\": \"" GOLDEN "models/%s/%s\"}}", model,
                        berth_json_as_string(picture));
                picture = berth_json_next(picture);
            }
        }
        fputs("]}", f);
    }
    fputs("]\n", f);
    assert_int_equal(fclose(f), 0);
}

/* Runs with `input` instead of --inputs, and compares what the program made of it. */
static void compare_made_inputs(const char *model, const char *tensors, const char *input)
{
    char want[512], got[128], arguments[1024];
    snprintf(want, sizeof want, GOLDEN "models/%s/%s", model, tensors);
    snprintf(got, sizeof got, "%s/out.safetensors", test_folder());
    snprintf(arguments, sizeof arguments, "trace -m " GOLDEN "models/%s %s --values pixel_values,input_ids --out %s",
             model, input, got);
    program_result r = program_expect(NULL, 0, arguments);
    program_deinit(&r);
    compared c = {.what = arguments, .want = open_tensors(want), .got = open_tensors(got)};
    compare_input(&c, "input_ids");
    if (berth_safetensors_find(c.want, "pixel_values") != NULL) compare_value(&c, "pixel_values", 1e-6);
    assert_int_equal(berth_safetensors_count(c.got), 1 + c.n);
    berth_safetensors_close((berth_safetensors *)c.want);
    berth_safetensors_close((berth_safetensors *)c.got);
}

static void messages_become_the_reference_s_inputs(void **state)
{
    (void)state;
    size_t n = 0;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        berth_json *json = read_golden(models[i]);
        const berth_json_node *one = berth_json_first(berth_json_get(berth_json_root(json), "cases"));
        for (; one != NULL; one = berth_json_next(one)) {
            if (berth_json_get(one, "messages") == NULL)
                continue; /* chat()'s arguments: no list of messages says the same */
            char file[128], input[160];
            snprintf(file, sizeof file, "%s/messages.json", test_folder());
            snprintf(input, sizeof input, "--messages %s", file);
            write_messages(file, models[i], one);
            compare_made_inputs(models[i], berth_json_as_string(berth_json_get(one, "tensors")), input);
            n++;
        }
        berth_json_destroy(json);
    }
    assert_true(n >= 8);
}

static void a_prompt_with_a_picture_becomes_the_reference_s_inputs(void **state)
{
    (void)state;
    compare_made_inputs("ivl-qwen3", "golden.safetensors",
                        "-i " GOLDEN "models/ivl-qwen3/images/main-0.png -p Who\tis\tthe\tsupplier?");
}

static void globs_choose_values(void **state)
{
    (void)state;
    char file[128], arguments[1024];
    snprintf(file, sizeof file, "%s/out.safetensors", test_folder());
    snprintf(arguments, sizeof arguments,
             "trace -m " GOLDEN "models/qwen2-text --inputs " GOLDEN
             "models/qwen2-text/golden.safetensors --out %s --values text.layer.[12],logits -n 2",
             file);
    program_result r = program_expect(NULL, 0, arguments);
    program_deinit(&r);
    static const char *const names[] = {"text.layer.1",  "text.layer.2",  "logits",
                                        "generated_ids", "logits.step.0", "logits.step.1"};
    berth_safetensors *got = open_tensors(file);
    assert_int_equal(berth_safetensors_count(got), sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_non_null(berth_safetensors_find(got, names[i]));
    berth_safetensors_close(got);
}

int main(void)
{
    enum { N = sizeof models / sizeof models[0] };
    struct CMUnitTest tests[N + 3];
    for (size_t i = 0; i < N; i++)
        tests[i] = (struct CMUnitTest){models[i], values_and_tokens_are_the_reference_s, NULL, NULL, (void *)models[i]};
    tests[N] = (struct CMUnitTest)cmocka_unit_test(messages_become_the_reference_s_inputs);
    tests[N + 1] = (struct CMUnitTest)cmocka_unit_test(a_prompt_with_a_picture_becomes_the_reference_s_inputs);
    tests[N + 2] = (struct CMUnitTest)cmocka_unit_test(globs_choose_values);
    return cmocka_run_group_tests_name("cli_trace", tests, NULL, NULL);
}
