/* golden_test.c - the builders against the reference vectors: every recorded value of every golden model, computed by
 * the reference kernels.
 *
 * A plain walk over the placed program, one op after the other, each device with memory of its own: no engine. What
 * differs here is a mistake in a builder (or in a reference kernel). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/arch_fixture.h"
#include "base/file.h"
#include "base/json.h"
#include "model/safetensors.h"

enum { IMAGE_TOKEN = 489 }; /* of the golden tokenizers */

typedef struct walk {
    const fixture *f;
    char *arena[FIXTURE_DEVICES], *host, *workspace;
    void **weights;        /* [n_params] */
    float *features, **kv; /* states; [n_layers] */
    size_t feature_bytes, kv_bytes;
    int n_compared;
} walk;

static void read_weights(walk *w)
{
    int32_t n = berth_model_data_n_params(w->f->model);
    w->weights = calloc((size_t)n, sizeof *w->weights);
    for (int32_t i = 0; i < n; i++) {
        const berth_param *p = berth_model_data_param(w->f->model, i);
        w->weights[i] = malloc(p->n_bytes);
        int fd = berth_model_data_shard(w->f->model, p->shard)->fd;
        assert_int_equal(pread(fd, w->weights[i], p->n_bytes, (off_t)p->offset), (ssize_t)p->n_bytes);
    }
}

static void *memory_of(const walk *w, const berth_value *v)
{
    if (v->kind == BERTH_VALUE_WEIGHT) return w->weights[v->param];
    if (v->kind == BERTH_VALUE_STATE) return v->state == BERTH_STATE_KV ? w->kv[v->layer] : w->features;
    return (v->device == BERTH_DEVICE_HOST ? w->host : w->arena[v->device]) + v->offset;
}

static void serial(berth_team *team, void (*fn)(void *, int32_t, int32_t), void *arg)
{
    (void)team;
    fn(arg, 0, 1);
}

static void run(walk *w, const berth_program *p, const berth_sizes *sizes)
{
    berth_team team = {.n_threads = 1, .run = serial};
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        berth_op_call call;
        berth_program_shapes(p, op, sizes, &call);
        for (int32_t k = 0; k < op->n_in; k++) call.in[k].data = memory_of(w, &p->values[op->in[k]]);
        call.out.data = memory_of(w, &p->values[op->out]);
        call.team = &team;
        call.workspace = w->workspace;
        call.workspace_bytes = op->workspace;
        if (op->kind == BERTH_OP_COPY)
            memcpy(call.out.data, call.in[0].data,
                   (size_t)berth_tensor_elements(&call.out) * berth_dtype_size(call.out.dtype));
        else
            berth_kernels_ref()->run[op->kind](&call);
    }
}

static void begin(walk *w, const berth_program *p)
{
    size_t workspace = 64;
    w->host = calloc(1, p->host_bytes + 64);
    for (int32_t d = 0; d < p->n_devices; d++) {
        w->arena[d] = malloc(p->regions[d].activations + 64);
        memset(w->arena[d], 0x7f, p->regions[d].activations + 64); /* what is read before it is written is far off */
        if (p->regions[d].workspace > workspace) workspace = p->regions[d].workspace;
    }
    w->workspace = aligned_alloc(64, workspace);
}

static void end(walk *w, const berth_program *p)
{
    free(w->host);
    free(w->workspace);
    for (int32_t d = 0; d < p->n_devices; d++) free(w->arena[d]);
}

static void *input(const walk *w, const berth_program *p, berth_input_key key)
{
    int32_t v = berth_program_find_input(p, key);
    return v < 0 ? NULL : w->host + p->values[v].offset;
}

static void count_up(void *to, int64_t n)
{
    for (int64_t i = 0; to && i < n; i++) ((int32_t *)to)[i] = (int32_t)i;
}

/* ---- one case --------------------------------------------------------------------------------------------------- */

typedef struct golden {
    berth_safetensors *tensors;
    const berth_json_node *tolerance;
    char name[96];
    int64_t n_tokens, n_tiles, n_images; /* n_images: image tokens */
    int64_t *ids;
} golden;

static void *read_tensor(const golden *g, const char *name, const berth_safetensor **out)
{
    berth_error err = {0};
    const berth_safetensor *t = berth_safetensors_find(g->tensors, name);
    *out = t;
    if (!t) return NULL;
    void *data = malloc(t->n_bytes);
    if (berth_safetensors_read(g->tensors, t, data, &err) != BERTH_OK) fail_msg("%s", err.message);
    return data;
}

/* The recorded value `name` against the program's, which must have brought it to the host. */
static void compare(walk *w, const golden *g, const berth_program *p, const berth_sizes *sizes, const char *name,
                    double tolerance)
{
    const berth_safetensor *t;
    int32_t v = berth_program_find(p, name);
    if (v < 0) return; /* of the other program */
    float *want = read_tensor(g, name, &t);
    assert_non_null(want);
    int32_t at = berth_program_find_copy(p, v, BERTH_DEVICE_HOST);
    if (at < 0 || !p->values[v].is_traced) fail_msg("%s: %s is not traced to the host", g->name, name);
    const float *have = (const float *)(const void *)(w->host + p->values[at].offset);
    int64_t n = 1;
    assert_int_equal(p->values[v].n_dims, t->n_dims);
    for (int32_t i = 0; i < t->n_dims; i++) {
        assert_int_equal(berth_dim_of(p->values[v].dims[i], sizes), t->dims[i]);
        n *= t->dims[i];
    }
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)have[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    if (!(worst <= tolerance)) fail_msg("%s: %s is off by %g; tolerance %g", g->name, name, worst, tolerance);
    w->n_compared++;
    free(want);
}

static void compare_all(walk *w, const golden *g, const berth_program *p, const berth_sizes *sizes)
{
    for (const berth_json_node *t = berth_json_first(g->tolerance); t; t = berth_json_next(t)) {
        double tolerance;
        assert_true(berth_json_as_f64(t, &tolerance));
        compare(w, g, p, sizes, berth_json_key(t), tolerance);
    }
}

static void run_encode(walk *w, const golden *g, const berth_program *p)
{
    const berth_safetensor *t;
    berth_sizes sizes = {.value = {1, g->n_tiles, g->n_images}};
    float *pixels = read_tensor(g, "pixel_values", &t);
    assert_non_null(pixels);
    begin(w, p);
    memcpy(input(w, p, BERTH_INPUT_PIXELS), pixels, t->n_bytes);
    count_up(input(w, p, BERTH_INPUT_FEATURE_ROWS), g->n_images);
    run(w, p, &sizes);
    compare_all(w, g, p, &sizes);
    end(w, p);
    free(pixels);
}

/* Dynamic rope as transformers computes it for a first pass over n tokens; plain within the model's positions. */
static void fill_inv_freq(const berth_text_config *c, int64_t n, float *to)
{
    float theta = (float)c->rope_theta;
    int32_t d = c->head_dim;
    if (c->rope_scaling == BERTH_ROPE_DYNAMIC && n > c->max_positions) {
        double stretch = c->rope_factor * (double)n / c->max_positions - (c->rope_factor - 1);
        theta = (float)(c->rope_theta * pow(stretch, (double)d / (d - 2)));
    }
    for (int32_t j = 0; j < d / 2; j++) to[j] = 1.0f / powf(theta, (float)(2 * j) / (float)d);
}

static void run_step(walk *w, const golden *g, const berth_program *p)
{
    int64_t n = g->n_tokens, images = 0;
    berth_sizes sizes = {.value = {1, 0, 0, n, 1, g->n_images, n}};
    begin(w, p);
    for (int64_t i = 0; i < n; i++) {
        ((int32_t *)input(w, p, BERTH_INPUT_TOKEN_IDS))[i] = (int32_t)g->ids[i];
        if (g->ids[i] == IMAGE_TOKEN && g->n_images)
            ((int32_t *)input(w, p, BERTH_INPUT_IMAGE_DST))[images++] = (int32_t)i;
    }
    assert_int_equal(images, g->n_images);
    count_up(input(w, p, BERTH_INPUT_IMAGE_SRC), g->n_images);
    count_up(input(w, p, BERTH_INPUT_POSITIONS), n);
    count_up(input(w, p, BERTH_INPUT_SLOTS), n);
    count_up(input(w, p, BERTH_INPUT_LOGIT_ROWS), n);
    count_up(input(w, p, BERTH_INPUT_BLOCK_TABLE),
             p->values[berth_program_find_input(p, BERTH_INPUT_BLOCK_TABLE)].dims[1].n);
    fill_inv_freq(&berth_model_data_config(w->f->model)->text, n, input(w, p, BERTH_INPUT_INV_FREQ));
    run(w, p, &sizes);
    compare_all(w, g, p, &sizes);
    end(w, p);
}

static void make_states(walk *w, const berth_program *step)
{
    int32_t layers = berth_model_data_config(w->f->model)->text.n_layers;
    w->kv = calloc((size_t)layers, sizeof *w->kv);
    for (int32_t i = 0; i < step->n_values; i++) {
        const berth_value *v = &step->values[i];
        if (v->kind != BERTH_VALUE_STATE) continue;
        float *state = malloc(v->bytes);
        memset(state, 0x7f, v->bytes);
        float **slot = v->state == BERTH_STATE_KV ? &w->kv[v->layer] : &w->features;
        free(*slot);
        *slot = state;
    }
}

static int run_case(fixture *f, const golden *g, int32_t n_devices, uint64_t *random)
{
    walk w = {.f = f};
    berth_allot_options options = {.kernels = berth_kernels_ref()};
    f->in.n_devices = n_devices;
    berth_placement *placement = fixture_placement(f, random, n_devices == 1 ? 0 : 90);
    berth_pass_env env = fixture_env(f, placement);
    berth_program *step = fixture_passes(f->programs.step, &env, &options);
    berth_program *encode = g->n_tiles ? fixture_passes(f->programs.encode, &env, &options) : NULL;
    read_weights(&w);
    make_states(&w, step);
    if (encode) run_encode(&w, g, encode);
    run_step(&w, g, step);
    for (int32_t i = 0; i < berth_model_data_n_params(f->model); i++) free(w.weights[i]);
    for (int32_t i = 0; i < berth_model_data_config(f->model)->text.n_layers; i++) free(w.kv[i]);
    free(w.weights);
    free(w.kv);
    free(w.features);
    berth_program_destroy(step);
    berth_program_destroy(encode);
    berth_placement_destroy(placement);
    return w.n_compared;
}

static void open_case(golden *g, const char *dir, const char *model, const berth_json_node *c)
{
    berth_error err = {0};
    const berth_safetensor *t;
    *g = (golden){.tolerance = berth_json_get(c, "tolerance")};
    snprintf(g->name, sizeof g->name, "%s/%s", model, berth_json_as_string(berth_json_get(c, "name")));
    if (berth_safetensors_open(dir, berth_json_as_string(berth_json_get(c, "tensors")), &g->tensors, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    g->ids = read_tensor(g, "input_ids", &t);
    assert_non_null(g->ids);
    g->n_tokens = t->dims[0];
    const berth_safetensor *pixels = berth_safetensors_find(g->tensors, "pixel_values");
    g->n_tiles = pixels ? pixels->dims[0] : 0;
    for (int64_t i = 0; i < g->n_tokens && pixels; i++) g->n_images += g->ids[i] == IMAGE_TOKEN;
}

static void every_recorded_value_is_right(void **state)
{
    (void)state;
    uint64_t random = 99;
    for (int m = 0; fixture_models[m]; m++) {
        char dir[512], *text;
        size_t n;
        berth_error err = {0};
        berth_json *json;
        int compared = 0, cases = 0;
        snprintf(dir, sizeof dir, BERTH_SOURCE_DIR "/tests/golden/models/%s", fixture_models[m]);
        if (berth_file_read_in(dir, "golden.json", 1 << 24, &text, &n, &err) != BERTH_OK) fail_msg("%s", err.message);
        if (berth_json_parse(text, n, "golden.json", &json, &err) != BERTH_OK) fail_msg("%s", err.message);
        for (const berth_json_node *c = berth_json_first(berth_json_get(berth_json_root(json), "cases")); c;
             c = berth_json_next(c)) {
            golden g;
            fixture f;
            open_case(&g, dir, fixture_models[m], c);
            berth_build_options options = {
                .max_tokens = g.n_tokens, .max_tiles = g.n_tiles, .block = 16, .trace = true};
            options.n_blocks = (g.n_tokens + 15) / 16 + 1;
            fixture_open(&f, fixture_models[m], &options);
            for (int32_t devices = 1; devices <= 4; devices += 1) compared += run_case(&f, &g, devices, &random);
            fixture_close(&f);
            berth_safetensors_close(g.tensors);
            free(g.ids);
            cases++;
        }
        print_message("%-16s %d cases, %d values compared\n", fixture_models[m], cases, compared);
        assert_true(compared >= 4 * 8 * cases);
        berth_json_destroy(json);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_recorded_value_is_right)};
    return cmocka_run_group_tests_name("builders against golden models", tests, NULL, NULL);
}
