/* image_memory_test.c - every allocation of the picture code fails once: each time the call says so, keeps nothing (the leak
 * checkers watch), and works again afterwards. The decoders' libraries keep their own malloc and calloc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/image.h"
#include "tests/failing.h"

#define FILES BERTH_SOURCE_DIR "/tests/golden/image/files/"

typedef struct job {
    const char *data;
    size_t n;
    berth_image img; /* for the jobs behind decoding */
    uint8_t *u8;
} job;

static berth_status decode(void *arg, berth_error *err)
{
    job *j = arg;
    berth_image img;
    berth_status st = berth_image_decode(j->data, j->n, NULL, &img, err);
    if (st != BERTH_OK) assert_null(img.rgb);
    berth_image_deinit(&img);
    return st;
}

static berth_status resize(void *arg, berth_error *err)
{
    job *j = arg;
    berth_image img;
    berth_status st = berth_image_resize(&j->img, 40, 90, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &img, err);
    if (st != BERTH_OK) assert_null(img.rgb);
    berth_image_deinit(&img);
    return st;
}

static berth_status cut(void *arg, berth_error *err)
{
    job *j = arg;
    berth_preprocess_options o = {.tile = 20, .min_tiles = 1, .max_tiles = 12, .thumbnail = true, .std = {1, 1, 1}};
    berth_grid g;
    berth_status st = berth_grid_choose(j->img.width, j->img.height, 20, 1, 12, true, &g, err);
    return st == BERTH_OK ? berth_image_tiles(&j->img, &o, &g, j->u8, NULL, err) : st;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int least; /* allocations of ours */
    } files[] = {{"png-rgb8.png", 1}, {"jpg-420.jpg", 2},        {"jpg-cmyk.jpg", 3},  {"webp-lossless.webp", 1},
                 {"bmp-24.bmp", 1},   {"webp-animated.webp", 1}, {"gif-static.gif", 3}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512], *data;
        size_t n;
        snprintf(path, sizeof path, FILES "%s", files[i].name);
        assert_int_equal(berth_file_read(path, 1 << 20, &data, &n, NULL), BERTH_OK);
        job j = {.data = data, .n = n};
        long failures = failing_each(files[i].name, decode, &j);
        if (failures < files[i].least) fail_msg("%s: %ld allocations failed", files[i].name, failures);
        free(data);
    }
    job j = {.u8 = malloc((size_t)13 * 20 * 20 * 3)};
    assert_non_null(j.u8);
    assert_int_equal(berth_image_load(FILES "png-rgb8.png", NULL, &j.img, NULL), BERTH_OK);
    assert_true(failing_each("resize", resize, &j) >= 12); /* two passes: weights, pixels, and the turned rows of one */
    assert_true(failing_each("cut", cut, &j) >= 20);
    berth_image_deinit(&j.img);
    free(j.u8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_reported)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
