/* cmd_preprocess.c - `berth preprocess`: pictures to pixel values, and the tile grid of a size or a picture.
 *
 * With --out, the pixel values of all pictures go to one safetensors file in the order given. Each picture's grid is a
 * JSON object on standard output; with --jsonl rows ask for grids (`w`, `h`) or for pictures (`file`), and the answers
 * carry hashes instead of pixels. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sha256.h"
#include "base/status.h"
#include "cli/rows.h"
#include "image/image.h"
#include "model/model.h"
#include "model/safetensors.h"

enum { MAX_TILES = 1024, MAX_TILE_SIDE = 16384 };
#define PIXELS_MAX_BYTES ((size_t)8 << 30)

/* What InternVL3 publishes, for those who give no model. */
static const berth_preprocess_options published = {.tile = 448,
                                                   .min_tiles = 1,
                                                   .max_tiles = 12,
                                                   .thumbnail = true,
                                                   .mean = {0.485f, 0.456f, 0.406f},
                                                   .std = {0.229f, 0.224f, 0.225f}};

/* ---- options ----------------------------------------------------------------------------------------------------- */

static berth_status read_model(const char *dir, berth_preprocess_options *out, berth_error *err)
{
    berth_model_config config;
    berth_status st = berth_model_dir_check(dir, err);
    if (st == BERTH_OK) st = berth_config_read(dir, &config, err);
    if (st != BERTH_OK) return st;
    if (!config.has_vision)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "%s is a text-only model; it prepares no pictures", dir);
    *out = (berth_preprocess_options){.tile = config.vision.image_size,
                                      .min_tiles = config.preprocess.min_tiles,
                                      .max_tiles = config.preprocess.max_tiles,
                                      .thumbnail = config.preprocess.thumbnail};
    memcpy(out->mean, config.preprocess.mean, sizeof out->mean);
    memcpy(out->std, config.preprocess.std, sizeof out->std);
    return BERTH_OK;
}

static berth_status read_options(const cli_args *a, berth_preprocess_options *out, berth_error *err)
{
    *out = published;
    if (a->set[OPT_MODEL]) {
        berth_status st = read_model(a->text[OPT_MODEL], out, err);
        if (st != BERTH_OK) return st;
    }
    if (a->set[OPT_TILE_SIZE]) out->tile = (int32_t)a->number[OPT_TILE_SIZE];
    if (a->set[OPT_MIN_TILES]) out->min_tiles = (int32_t)a->number[OPT_MIN_TILES];
    if (a->set[OPT_MAX_TILES]) out->max_tiles = (int32_t)a->number[OPT_MAX_TILES];
    if (a->set[OPT_MAX_TILES] && !a->set[OPT_MIN_TILES] && out->min_tiles > out->max_tiles)
        out->min_tiles = out->max_tiles;
    if (a->set[OPT_NO_THUMBNAIL]) out->thumbnail = false;
    const char *order = a->set[OPT_RESIZE_ORDER] ? a->text[OPT_RESIZE_ORDER] : "pillow13";
    if (strcmp(order, "pillow13") != 0 && strcmp(order, "pillow12") != 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--resize-order %s: expected pillow13 or pillow12", order);
    out->order = strcmp(order, "pillow12") == 0 ? BERTH_PILLOW_12 : BERTH_PILLOW_13;
    return BERTH_OK;
}

/* ---- what both ways share ---------------------------------------------------------------------------------------- */

static void put_grid(const berth_grid *g, berth_buffer *out)
{
    berth_buffer_printf(out, "\"cols\":%d,\"rows\":%d,\"target\":[%d,%d],\"n\":%d", (int)g->columns, (int)g->rows,
                        (int)g->width, (int)g->height, (int)g->n_tiles);
}

/* Values in the pixel values of n tiles; refuses what no machine should be asked for. */
static berth_status count_values(int64_t n_tiles, int32_t tile, size_t *out, berth_error *err)
{
    size_t n;
    if (!berth_mul_size((size_t)tile * (size_t)tile, 3, &n) || !berth_mul_size(n, (size_t)n_tiles, &n) || n == 0 ||
        n > PIXELS_MAX_BYTES / sizeof(float)) {
        return BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "%lld tiles of %d x %d pixels are more than 8 GiB of pixel values; use fewer or smaller tiles",
            (long long)n_tiles, (int)tile, (int)tile);
    }
    *out = n;
    return BERTH_OK;
}

/* ---- pictures to a file ------------------------------------------------------------------------------------------ */

typedef struct pixels {
    float *data; /* owned, [n_tiles][3][tile][tile] */
    int64_t n_tiles;
} pixels;

/* One picture's grid to `out`; its tiles behind those already in `p` when they are wanted. */
static berth_status add_picture(const char *file, const berth_preprocess_options *o, bool want_pixels, pixels *p,
                                berth_buffer *out, berth_error *err)
{
    berth_image image;
    berth_grid grid;
    size_t fresh = 0, after = 0; /* values of this picture; of all so far, it included */
    berth_status st = berth_image_load(file, NULL, &image, err);
    if (st != BERTH_OK) return st;
    st = berth_grid_choose(image.width, image.height, o->tile, o->min_tiles, o->max_tiles, o->thumbnail, &grid, err);
    if (st != BERTH_OK) goto done;
    st = count_values(grid.n_tiles, o->tile, &fresh, err);
    if (st == BERTH_OK) st = count_values(p->n_tiles + grid.n_tiles, o->tile, &after, err);
    if (st == BERTH_OK && want_pixels) {
        float *more = realloc(p->data, (after + 1) * sizeof *more);
        if (more != NULL) p->data = more;
        st = more != NULL ? berth_image_tiles(&image, o, &grid, NULL, more + (after - fresh), err)
                          : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu pixel values", after);
    }
    if (st != BERTH_OK) goto done;
    p->n_tiles += grid.n_tiles;
    berth_buffer_puts(out, "{\"file\":");
    cli_put_string(out, file, strlen(file));
    berth_buffer_printf(out, ",\"w\":%d,\"h\":%d,\"tile\":%d,", (int)image.width, (int)image.height, (int)o->tile);
    put_grid(&grid, out);
    berth_buffer_puts(out, "}\n");
    st = cli_put_check(out, err);
done:
    berth_image_deinit(&image);
    return st;
}

static berth_status write_pixels(const char *path, const pixels *p, int32_t tile, berth_error *err)
{
    const berth_safetensors_entry entry = {.name = "pixel_values",
                                           .dtype = BERTH_F32,
                                           .n_dims = 4,
                                           .dims = {p->n_tiles, 3, tile, tile},
                                           .data = p->data,
                                           .n_bytes = (size_t)p->n_tiles * 3 * (size_t)tile * (size_t)tile * 4};
    return berth_safetensors_write(path, &entry, 1, err);
}

static cli_exit pictures(const cli_args *a, const berth_preprocess_options *o)
{
    berth_error err = {0};
    berth_buffer out = {0};
    pixels p = {0};
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < a->n_list[OPT_IMAGE]; i++)
        st = add_picture(a->list[OPT_IMAGE][i], o, a->set[OPT_OUT], &p, &out, &err);
    if (st == BERTH_OK && a->set[OPT_OUT]) st = write_pixels(a->text[OPT_OUT], &p, o->tile, &err);
    cli_exit code = EXIT_OK;
    if (st != BERTH_OK) {
        code = cli_fail(&err);
    } else if (!cli_write(out.data, out.len)) {
        code = EXIT_RUN;
    }
    free(p.data);
    berth_buffer_deinit(&out);
    return code;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

typedef struct row_context {
    berth_preprocess_options options;
    const char *folders[3]; /* where a row's picture is looked for when the current folder has none; NULL ends them */
} row_context;

static void put_hash(const char *key, const void *data, size_t n, berth_buffer *out)
{
    char hex[65];
    if (!berth_sha256_hex(data, n, hex)) out->failed = true;
    berth_buffer_printf(out, ",\"%s\":\"%s\"", key, hex);
}

/* The hashes of the decoded picture and of its tiles. */
static berth_status put_hashes(const berth_image *image, const berth_preprocess_options *o, const berth_grid *grid,
                               berth_buffer *out, berth_error *err)
{
    size_t n = 0;
    berth_status st = count_values(grid->n_tiles, o->tile, &n, err);
    if (st != BERTH_OK) return st;
    uint8_t *u8 = malloc(n + 1);
    float *f32 = malloc((n + 1) * sizeof *f32);
    st = u8 != NULL && f32 != NULL ? berth_image_tiles(image, o, grid, u8, f32, err)
                                   : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu pixel values", n);
    if (st == BERTH_OK) {
        put_hash("rgb_sha256", image->rgb, (size_t)image->width * (size_t)image->height * 3, out);
        put_hash("u8_sha256", u8, n, out);
        put_hash("f32_sha256", f32, n * sizeof *f32, out);
    }
    free(u8);
    free(f32);
    return st;
}

static berth_status load_row_picture(const row_context *c, const char *file, berth_image *out, berth_error *err)
{
    berth_buffer path = {0};
    berth_buffer_puts(&path, file);
    for (size_t i = 0; access(path.data != NULL ? path.data : file, F_OK) != 0 && file[0] != '/'; i++) {
        path.len = 0;
        if (i == sizeof c->folders / sizeof c->folders[0] || c->folders[i] == NULL) {
            berth_buffer_puts(&path, file); /* nowhere: the error names the file as it was given */
            break;
        }
        berth_buffer_printf(&path, "%s/%s", c->folders[i], file);
    }
    berth_status st = cli_put_check(&path, err);
    if (st == BERTH_OK) st = berth_image_load(path.data, NULL, out, err);
    berth_buffer_deinit(&path);
    return st;
}

static berth_status read_row_options(const berth_json_node *row, berth_preprocess_options *o, berth_error *err)
{
    berth_status st = cli_row_int(row, "tile", 1, MAX_TILE_SIDE, &o->tile, err);
    if (st == BERTH_OK) st = cli_row_int(row, "min", 1, MAX_TILES, &o->min_tiles, err);
    if (st == BERTH_OK) st = cli_row_int(row, "max", 1, MAX_TILES, &o->max_tiles, err);
    if (st == BERTH_OK) st = cli_row_bool(row, "thumb", &o->thumbnail, err);
    return st;
}

static berth_status preprocess_row(void *user, const berth_json_node *row, berth_buffer *out, berth_error *err)
{
    const row_context *c = user;
    berth_preprocess_options o = c->options;
    berth_image image = {0};
    berth_grid grid;
    const berth_json_node *file = berth_json_get(row, "file");
    berth_status st = read_row_options(row, &o, err);
    if (st != BERTH_OK) return st;
    if (file != NULL) {
        if (berth_json_as_string(file) == NULL) return BERTH_FAIL(err, BERTH_BAD_FILE, "file must be a string");
        st = load_row_picture(c, berth_json_as_string(file), &image, err);
    } else {
        st = cli_row_int(row, "w", 1, INT32_MAX, &image.width, err);
        if (st == BERTH_OK) st = cli_row_int(row, "h", 1, INT32_MAX, &image.height, err);
        if (st == BERTH_OK && (image.width == 0 || image.height == 0))
            st = BERTH_FAIL(err, BERTH_BAD_FILE, "a row needs w and h, or file");
    }
    if (st == BERTH_OK)
        st = berth_grid_choose(image.width, image.height, o.tile, o.min_tiles, o.max_tiles, o.thumbnail, &grid, err);
    if (st == BERTH_OK) {
        berth_buffer_printf(out, "\"w\":%d,\"h\":%d,\"tile\":%d,", (int)image.width, (int)image.height, (int)o.tile);
        put_grid(&grid, out);
    }
    if (st == BERTH_OK && image.rgb != NULL) st = put_hashes(&image, &o, &grid, out, err);
    berth_image_deinit(&image);
    return st;
}

static cli_exit rows(const cli_args *a, const berth_preprocess_options *o)
{
    row_context context = {.options = *o};
    size_t n = 0;
    struct stat s;
    if (a->n_list[OPT_IMAGE] > 1 ||
        (a->n_list[OPT_IMAGE] == 1 && (stat(a->list[OPT_IMAGE][0], &s) != 0 || !S_ISDIR(s.st_mode)))) {
        return cli_usage(CMD_PREPROCESS, "with --jsonl the rows name the pictures; --image may name their folder");
    }
    if (a->n_list[OPT_IMAGE] == 1) context.folders[n++] = a->list[OPT_IMAGE][0];
    context.folders[n++] = "files"; /* where sets of test pictures keep them */
    if (a->set[OPT_MODEL]) context.folders[n++] = a->text[OPT_MODEL];
    return cli_rows(preprocess_row, &context);
}

cli_exit cmd_preprocess(const cli_args *a)
{
    berth_error err = {0};
    berth_preprocess_options options;
    if (a->set[OPT_JSONL] && a->set[OPT_OUT])
        return cli_usage(CMD_PREPROCESS, "--jsonl answers with rows and writes no file; leave out --out");
    if (!a->set[OPT_JSONL] && a->n_list[OPT_IMAGE] == 0)
        return cli_usage(CMD_PREPROCESS, "no picture given; -i IMAGE names one, --jsonl reads rows");
    if (!a->set[OPT_JSONL] && !a->set[OPT_MODEL] && !a->set[OPT_TILE_SIZE])
        return cli_usage(CMD_PREPROCESS, "no model given; -m DIR or --tile S says how to cut");
    if (read_options(a, &options, &err) != BERTH_OK) return cli_fail(&err);
    return a->set[OPT_JSONL] ? rows(a, &options) : pictures(a, &options);
}
