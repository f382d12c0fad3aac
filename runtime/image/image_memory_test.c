/* image_memory_test.c - every allocation of the picture code fails once: each time the call says so, keeps nothing (the leak
 * checkers watch), and works again afterwards. malloc and calloc are wrapped by the linker; the decoders' libraries keep
 * their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/image.h"

#define FILES BERTH_SOURCE_DIR "/tests/golden/image/files/"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

static int allocations_left = -1; /* -1: all succeed; the test has one thread */

static bool refuse(void)
{
    if (allocations_left < 0) return false;
    return allocations_left-- == 0;
}

void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __real_calloc(n, size);
}

typedef struct job {
    const char *data;
    size_t n;
    berth_image img; /* for the jobs behind decoding */
    uint8_t *u8;
} job;

static berth_status decode(job *j, berth_error *err)
{
    berth_image img;
    berth_status st = berth_image_decode(j->data, j->n, NULL, &img, err);
    if (st != BERTH_OK) assert_null(img.rgb);
    berth_image_deinit(&img);
    return st;
}

static berth_status resize(job *j, berth_error *err)
{
    berth_image img;
    berth_status st = berth_image_resize(&j->img, 40, 90, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &img, err);
    if (st != BERTH_OK) assert_null(img.rgb);
    berth_image_deinit(&img);
    return st;
}

static berth_status cut(job *j, berth_error *err)
{
    berth_preprocess_options o = {.tile = 20, .min_tiles = 1, .max_tiles = 12, .thumbnail = true, .std = {1, 1, 1}};
    berth_grid g;
    berth_status st = berth_grid_choose(j->img.width, j->img.height, 20, 1, 12, true, &g, err);
    return st == BERTH_OK ? berth_image_tiles(&j->img, &o, &g, j->u8, NULL, err) : st;
}

/* Runs `work` with the first, second, ... allocation failing until it succeeds; returns how often it failed. */
static int fail_each(berth_status (*work)(job *, berth_error *), job *j)
{
    for (int n = 0;; n++) {
        berth_error err = {0};
        allocations_left = n;
        berth_status st = work(j, &err);
        bool reached = allocations_left < 0;
        allocations_left = -1;
        if (st == BERTH_OK) {
            assert_false(reached); /* no failed allocation may pass unseen */
            return n;
        }
        if (st != BERTH_OUT_OF_MEMORY || !strstr(err.message, "no memory")) fail_msg("%s", err.message);
    }
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
        int failures = fail_each(decode, &j);
        if (failures < files[i].least) fail_msg("%s: %d allocations failed", files[i].name, failures);
        free(data);
    }
    job j = {.u8 = malloc((size_t)13 * 20 * 20 * 3)};
    assert_non_null(j.u8);
    assert_int_equal(berth_image_load(FILES "png-rgb8.png", NULL, &j.img, NULL), BERTH_OK);
    assert_true(fail_each(resize, &j) >= 12); /* two passes: weights, pixels, and the turned rows of one */
    assert_true(fail_each(cut, &j) >= 20);
    berth_image_deinit(&j.img);
    free(j.u8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_reported)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
