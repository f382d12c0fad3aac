/* image_test.c - the picture code against Pillow's results: every row of tests/golden/image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "image/image_internal.h"

#define GOLDEN BERTH_SOURCE_DIR "/tests/golden/image/"

/* Calls `check` for every line of a golden file; returns how many there were. */
static int each_row(const char *name, void (*check)(const berth_json_node *row))
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    char *data;
    size_t n;
    berth_error err = {0};
    if (berth_file_read(path, (size_t)64 << 20, &data, &n, &err) != BERTH_OK) fail_msg("%s", err.message);
    int rows = 0;
    for (char *line = data, *end; line < data + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(data + n - line));
        if (!end) end = data + n;
        berth_json *j;
        if (berth_json_parse(line, (size_t)(end - line), name, &j, &err) != BERTH_OK) fail_msg("%s", err.message);
        check(berth_json_root(j));
        berth_json_destroy(j);
        rows++;
    }
    free(data);
    return rows;
}

static int32_t number(const berth_json_node *node)
{
    int64_t v = 0;
    assert_true(berth_json_as_i64(node, &v));
    assert_in_range(v + INT64_C(4294967296), 0, INT64_C(8589934592));
    return (int32_t)v;
}
static int32_t field(const berth_json_node *row, const char *key)
{
    return number(berth_json_get(row, key));
}
static const char *text(const berth_json_node *row, const char *key)
{
    return berth_json_as_string(berth_json_get(row, key));
}
static int32_t item(const berth_json_node *array, int index)
{
    const berth_json_node *node = berth_json_first(array);
    while (index-- > 0) node = berth_json_next(node);
    return number(node);
}
static bool flag(const berth_json_node *row, const char *key)
{
    bool v = false;
    assert_true(berth_json_as_bool(berth_json_get(row, key), &v));
    return v;
}

static void expect_hash(const void *data, size_t n, const char *want, const char *what)
{
    char got[65];
    assert_true(berth_sha256_hex(data, n, got));
    if (strcmp(got, want) != 0) fail_msg("%s: sha256 %s, expected %s", what, got, want);
}

/* ---- grid ------------------------------------------------------------------------------------------------------- */

static void check_grid(const berth_json_node *row)
{
    berth_grid g;
    int32_t w = field(row, "w"), h = field(row, "h"), min = field(row, "min"), max = field(row, "max");
    assert_int_equal(berth_grid_choose(w, h, field(row, "tile"), min, max, flag(row, "thumb"), &g, NULL), BERTH_OK);
    const berth_json_node *target = berth_json_get(row, "target");
    if (g.columns != field(row, "cols") || g.rows != field(row, "rows") || g.n_tiles != field(row, "n") ||
        g.width != item(target, 0) || g.height != item(target, 1)) {
        fail_msg("%d x %d, %d to %d tiles: grid %d x %d, %d tiles, expected %d x %d", w, h, min, max, g.columns, g.rows,
                 g.n_tiles, field(row, "cols"), field(row, "rows"));
    }
}

static void grid_equals_the_published_code(void **state)
{
    (void)state;
    assert_int_equal(each_row("tiling.jsonl", check_grid), 624);
}

static void grid_refuses_impossible_requests(void **state)
{
    (void)state;
    static const int32_t bad[][5] = {
        {0, 5, 448, 1, 12},   {5, 0, 448, 1, 12},        {-1, 5, 448, 1, 12},
        {5, 5, 0, 1, 12},     {5, 5, 448, 0, 12},        {5, 5, 448, 3, 2},
        {5, 5, 448, 1, 1025}, {5, 5, 448, 1, INT32_MAX}, {5, 5, INT32_MAX, 1, 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int32_t *b = bad[i];
        berth_grid g;
        berth_error err = {0};
        assert_int_equal(berth_grid_choose(b[0], b[1], b[2], b[3], b[4], true, &g, &err), BERTH_INVALID_ARGUMENT);
        assert_true(strlen(err.message) > 20);
    }
    berth_grid g;
    assert_int_equal(berth_grid_choose(INT32_MAX, 1, 448, 1, 1024, true, &g, NULL), BERTH_OK);
    assert_int_equal(g.columns, 1024);
    assert_int_equal(berth_grid_choose(1, INT32_MAX, 1, 1, 1, true, &g, NULL), BERTH_OK);
    assert_false(g.has_thumbnail);
}

/* ---- resize ----------------------------------------------------------------------------------------------------- */

static berth_filter filter_of(const berth_json_node *row)
{
    const char *name = text(row, "filter");
    return !strcmp(name, "bicubic")    ? BERTH_FILTER_BICUBIC
           : !strcmp(name, "bilinear") ? BERTH_FILTER_BILINEAR
                                       : BERTH_FILTER_LANCZOS;
}

static void check_axis(const berth_json_node *row)
{
    berth_axis a;
    assert_int_equal(berth_axis_init(&a, field(row, "in"), field(row, "out"), filter_of(row), NULL), BERTH_OK);
    size_t n = 0;
    int32_t *all = malloc(((size_t)a.stride + 2) * (size_t)a.n_out * sizeof *all);
    assert_non_null(all);
    for (int32_t x = 0; x < a.n_out; x++) {
        const int32_t *w = a.weights + (size_t)x * (size_t)a.stride;
        all[n++] = a.first[x];
        all[n++] = a.count[x];
        for (int32_t t = 0; t < a.count[x]; t++) {
            const int16_t *pair = a.split + (size_t)x * (size_t)a.stride * 2 + t / 2 * 4;
            assert_int_equal(w[t], pair[t % 2] * 32768 + pair[2 + t % 2]);
            all[n++] = w[t];
        }
    }
    expect_hash(all, n * sizeof *all, text(row, "sha256"), text(row, "filter"));
    free(all);
    berth_axis_deinit(&a);
}

static void weights_equal_pillows(void **state)
{
    (void)state;
    assert_int_equal(each_row("coefficients.jsonl", check_axis), 28);
}

static uint32_t pattern_byte(const char *name, uint32_t x, uint32_t y, uint32_t c, uint32_t seed)
{
    if (!strcmp(name, "saw")) return 3 * x + 5 * y + 85 * c + seed;
    if (!strcmp(name, "check")) return 255 * (((x >> 1) + (y >> 1) + c + seed) & 1);
    uint32_t v = x * 374761393u + y * 668265263u + c * 2246822519u + seed * 3266489917u;
    v ^= v >> 13;
    v *= 1274126177u;
    return v ^ v >> 16;
}

static berth_image make_pattern(const char *name, int32_t w, int32_t h, uint32_t seed)
{
    berth_image img = {w, h, malloc((size_t)w * (size_t)h * 3)};
    assert_non_null(img.rgb);
    uint8_t *p = img.rgb;
    for (uint32_t y = 0; y < (uint32_t)h; y++) {
        for (uint32_t x = 0; x < (uint32_t)w; x++) {
            for (uint32_t c = 0; c < 3; c++) *p++ = (uint8_t)pattern_byte(name, x, y, c, seed);
        }
    }
    return img;
}

static void check_resize(const berth_json_node *row)
{
    const berth_json_node *in = berth_json_get(row, "in"), *out = berth_json_get(row, "out");
    int32_t w = item(out, 0), h = item(out, 1);
    berth_image img = make_pattern(text(row, "pattern"), item(in, 0), item(in, 1), (uint32_t)field(row, "seed"));
    expect_hash(img.rgb, (size_t)img.width * (size_t)img.height * 3, text(row, "in_sha256"), "pattern");
    const char *newer = text(row, "sha256"), *older = text(row, "older_sha256");
    char what[96];
    snprintf(what, sizeof what, "%d x %d -> %d x %d, %s", img.width, img.height, w, h, text(row, "filter"));
    for (int order = BERTH_PILLOW_13; order <= BERTH_PILLOW_12; order++) {
        berth_image made;
        assert_int_equal(berth_image_resize(&img, w, h, filter_of(row), (berth_pass_order)order, &made, NULL),
                         BERTH_OK);
        assert_true(made.width == w && made.height == h);
        expect_hash(made.rgb, (size_t)w * (size_t)h * 3, order == BERTH_PILLOW_12 && older ? older : newer, what);
        berth_image_deinit(&made);
    }
    berth_image_deinit(&img);
}

static void resize_equals_pillows(void **state)
{
    (void)state;
    assert_int_equal(each_row("resize.jsonl", check_resize), 136);
}

static void resize_refuses_impossible_requests(void **state)
{
    (void)state;
    uint8_t pixel[3] = {0};
    berth_image one = {1, 1, pixel}, out;
    assert_int_equal(berth_image_resize(&one, 0, 1, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &out, NULL),
                     BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_image_resize(&one, 1, -1, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &out, NULL),
                     BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_image_resize(&one, 2, 2, (berth_filter)7, BERTH_PILLOW_13, &out, NULL),
                     BERTH_INVALID_ARGUMENT);
    /* The older order would make 448 columns of 900,000 rows first. */
    berth_image tall = {1, 900000, calloc(900000, 3)};
    assert_int_equal(berth_image_resize(&tall, 448, 448, BERTH_FILTER_BICUBIC, BERTH_PILLOW_12, &out, NULL),
                     BERTH_UNSUPPORTED);
    assert_int_equal(berth_image_resize(&tall, 448, 448, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &out, NULL), BERTH_OK);
    berth_image_deinit(&out);
    berth_image_deinit(&tall);
}

static void blend_versions_agree(void **state)
{
    (void)state;
    berth_blend_fn *fast = berth_blend_choose();
    if (fast == berth_blend_plain) skip(); /* this machine has no other version */
    enum { rows = 23, most = 200 };
    uint8_t src[rows * most], a[most], b[most];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof src; i++) src[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
    for (int32_t n_out = 1; n_out <= 60; n_out += 7) {
        berth_axis axis;
        assert_int_equal(berth_axis_init(&axis, rows, n_out, BERTH_FILTER_LANCZOS, NULL), BERTH_OK);
        for (size_t width = 1; width <= most; width++) {
            size_t x = width % (size_t)n_out, w = x * (size_t)axis.stride;
            const uint8_t *from = src + (size_t)axis.first[x] * most;
            berth_blend_plain(a, from, most, axis.weights + w, axis.split + 2 * w, axis.count[x], width);
            fast(b, from, most, axis.weights + w, axis.split + 2 * w, axis.count[x], width);
            assert_memory_equal(a, b, width);
        }
        berth_axis_deinit(&axis);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static berth_image load(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s%s", folder, name);
    berth_image img;
    berth_error err = {0};
    if (berth_image_load(path, NULL, &img, &err) != BERTH_OK) fail_msg("%s", err.message);
    return img;
}

static void check_decode(const berth_json_node *row)
{
    const char *name = text(row, "file");
    berth_image img = load("files/", name);
    if (img.width != field(row, "w") || img.height != field(row, "h"))
        fail_msg("%s: %d x %d", name, img.width, img.height);
    const berth_json_node *samples = berth_json_get(row, "samples");
    for (const berth_json_node *s = berth_json_first(samples); s; s = berth_json_next(s)) {
        const uint8_t *p = img.rgb + ((size_t)item(s, 1) * (size_t)img.width + (size_t)item(s, 0)) * 3;
        if (p[0] != item(s, 2) || p[1] != item(s, 3) || p[2] != item(s, 4)) {
            fail_msg("%s: pixel %d, %d is %d %d %d", name, item(s, 0), item(s, 1), p[0], p[1], p[2]);
        }
    }
    expect_hash(img.rgb, (size_t)img.width * (size_t)img.height * 3, text(row, "rgb_sha256"), name);
    berth_image_deinit(&img);
}

static void files_decode_as_by_pillow(void **state)
{
    (void)state;
    assert_int_equal(each_row("decode.jsonl", check_decode), 106);
}

static berth_preprocess_options options_of(const berth_json_node *row)
{
    return (berth_preprocess_options){.tile = field(row, "tile"),
                                      .min_tiles = 1,
                                      .max_tiles = field(row, "max"),
                                      .thumbnail = flag(row, "thumb"),
                                      .mean = {0.485f, 0.456f, 0.406f},
                                      .std = {0.229f, 0.224f, 0.225f}};
}

static void check_pixels(const berth_json_node *row)
{
    const char *name = text(row, "file");
    berth_image img = load(strncmp(name, "receipts/", 9) ? "files/" : "", name);
    berth_preprocess_options o = options_of(row);
    berth_grid g;
    assert_int_equal(berth_grid_choose(img.width, img.height, o.tile, 1, o.max_tiles, o.thumbnail, &g, NULL), BERTH_OK);
    assert_true(g.columns == field(row, "cols") && g.rows == field(row, "rows") && g.n_tiles == field(row, "n"));
    size_t n = (size_t)g.n_tiles * (size_t)o.tile * (size_t)o.tile * 3;
    uint8_t *u8 = malloc(n), *older_u8 = malloc(n);
    float *f32 = malloc(n * sizeof *f32);
    assert_true(u8 && older_u8 && f32);
    assert_int_equal(berth_image_tiles(&img, &o, &g, u8, f32, NULL), BERTH_OK);
    expect_hash(u8, n, text(row, "u8_sha256"), name);
    expect_hash(f32, n * sizeof *f32, text(row, "f32_sha256"), name);
    o.order = BERTH_PILLOW_12;
    const char *older = text(row, "older_u8_sha256");
    assert_int_equal(berth_image_tiles(&img, &o, &g, older_u8, older ? f32 : NULL, NULL), BERTH_OK);
    if (older) {
        expect_hash(older_u8, n, older, name);
        expect_hash(f32, n * sizeof *f32, text(row, "older_f32_sha256"), name);
    } else {
        assert_memory_equal(u8, older_u8, n);
    }
    free(u8);
    free(older_u8);
    free(f32);
    berth_image_deinit(&img);
}

static void pixel_values_equal_internvls(void **state)
{
    (void)state;
    assert_int_equal(each_row("pixels.jsonl", check_pixels), 344);
}

static void check_normalise(const berth_json_node *table)
{
    berth_image img = {256, 256, malloc((size_t)256 * 256 * 3)};
    float *out = malloc((size_t)256 * 256 * 3 * sizeof *out);
    assert_true(img.rgb && out);
    for (size_t i = 0; i < (size_t)256 * 256 * 3; i++) img.rgb[i] = (uint8_t)(i / 3 % 256);
    berth_preprocess_options o = {.tile = 256, .min_tiles = 1, .max_tiles = 1};
    const berth_json_node *mean = berth_json_first(berth_json_get(table, "mean"));
    const berth_json_node *std = berth_json_first(berth_json_get(table, "std"));
    for (int c = 0; c < 3; c++, mean = berth_json_next(mean), std = berth_json_next(std)) {
        double m = 0, s = 0;
        assert_true(berth_json_as_f64(mean, &m) && berth_json_as_f64(std, &s));
        o.mean[c] = (float)m;
        o.std[c] = (float)s;
    }
    berth_grid g;
    assert_int_equal(berth_grid_choose(256, 256, 256, 1, 1, false, &g, NULL), BERTH_OK);
    assert_int_equal(berth_image_tiles(&img, &o, &g, NULL, out, NULL), BERTH_OK);
    const berth_json_node *channel = berth_json_first(berth_json_get(table, "bits"));
    for (int c = 0; c < 3; c++, channel = berth_json_next(channel)) {
        const berth_json_node *bits = berth_json_first(channel);
        for (int v = 0; v < 256; v++, bits = berth_json_next(bits)) {
            uint32_t got;
            memcpy(&got, out + c * 65536 + v, sizeof got);
            assert_int_equal(got, strtoul(berth_json_as_string(bits), NULL, 16));
        }
    }
    o.std[1] = 0.0f;
    assert_int_equal(berth_image_tiles(&img, &o, &g, NULL, out, NULL), BERTH_INVALID_ARGUMENT);
    o.std[1] = 1.0f;
    o.tile = 128; /* not this grid's */
    assert_int_equal(berth_image_tiles(&img, &o, &g, NULL, out, NULL), BERTH_INVALID_ARGUMENT);
    free(out);
    berth_image_deinit(&img);
}

static void normalise_equals_torch(void **state)
{
    (void)state;
    assert_int_equal(each_row("normalise.json", check_normalise), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grid_equals_the_published_code),
        cmocka_unit_test(grid_refuses_impossible_requests),
        cmocka_unit_test(weights_equal_pillows),
        cmocka_unit_test(resize_equals_pillows),
        cmocka_unit_test(resize_refuses_impossible_requests),
        cmocka_unit_test(blend_versions_agree),
        cmocka_unit_test(files_decode_as_by_pillow),
        cmocka_unit_test(pixel_values_equal_internvls),
        cmocka_unit_test(normalise_equals_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
