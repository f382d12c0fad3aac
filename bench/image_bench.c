/* image_bench.c - how fast pictures become pixel values.
 *
 *   image_bench            resize of a made-up 3000 x 2000 picture to its grid and to a thumbnail; normalisation
 *   image_bench FILE...    decoding of each file as well
 *
 * Prints the best of several runs in milliseconds. image_bench.py beside it does the same work with Pillow. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "image/image.h"

enum { n_runs = 9 };

static double best_ms(int64_t *ns)
{
    int64_t best = ns[0];
    for (int i = 1; i < n_runs; i++) best = ns[i] < best ? ns[i] : best;
    return (double)best / 1e6;
}

static int fail(const berth_error *err)
{
    fprintf(stderr, "image_bench: %s\n", err->message);
    return 1;
}

static int bench_resize(const berth_image *img, int32_t w, int32_t h, berth_error *err)
{
    int64_t ns[n_runs];
    for (int i = 0; i < n_runs; i++) {
        berth_image out;
        int64_t from = berth_now_ns();
        if (berth_image_resize(img, w, h, BERTH_FILTER_BICUBIC, BERTH_PILLOW_13, &out, err) != BERTH_OK)
            return fail(err);
        ns[i] = berth_now_ns() - from;
        berth_image_deinit(&out);
    }
    printf("resize %dx%d -> %dx%d: %.2f ms\n", img->width, img->height, w, h, best_ms(ns));
    return 0;
}

static int bench_tiles(const berth_image *img, berth_error *err)
{
    berth_preprocess_options o = {.tile = 448,
                                  .min_tiles = 1,
                                  .max_tiles = 12,
                                  .thumbnail = true,
                                  .mean = {0.485f, 0.456f, 0.406f},
                                  .std = {0.229f, 0.224f, 0.225f}};
    berth_grid g;
    if (berth_grid_choose(img->width, img->height, o.tile, 1, 12, true, &g, err) != BERTH_OK) return fail(err);
    float *out = malloc((size_t)g.n_tiles * 3 * 448 * 448 * sizeof *out);
    if (!out) return 1;
    int64_t ns[n_runs];
    for (int i = 0; i < n_runs; i++) {
        int64_t from = berth_now_ns();
        if (berth_image_tiles(img, &o, &g, NULL, out, err) != BERTH_OK) return fail(err);
        ns[i] = berth_now_ns() - from;
    }
    free(out);
    printf("tiles %dx%d -> %d tiles of 448: %.2f ms\n", img->width, img->height, g.n_tiles, best_ms(ns));
    return 0;
}

static int bench_file(const char *path, berth_error *err)
{
    int64_t ns[n_runs];
    int32_t w = 0, h = 0;
    for (int i = 0; i < n_runs; i++) {
        berth_image img;
        int64_t from = berth_now_ns();
        if (berth_image_load(path, NULL, &img, err) != BERTH_OK) return fail(err);
        ns[i] = berth_now_ns() - from;
        w = img.width;
        h = img.height;
        berth_image_deinit(&img);
    }
    printf("decode %s (%dx%d): %.2f ms\n", path, w, h, best_ms(ns));
    return 0;
}

int main(int argc, char **argv)
{
    berth_error err = {0};
    berth_image img = {3000, 2000, malloc((size_t)3000 * 2000 * 3)};
    if (!img.rgb) return 1;
    for (size_t i = 0; i < (size_t)3000 * 2000 * 3; i++) img.rgb[i] = (uint8_t)(i * 2654435761u >> 24);
    int failed = bench_resize(&img, 1792, 1344, &err) || bench_resize(&img, 448, 448, &err) ||
                 bench_resize(&img, 4032, 448, &err) || bench_tiles(&img, &err);
    for (int i = 1; i < argc && !failed; i++) failed = bench_file(argv[i], &err);
    free(img.rgb);
    return failed;
}
