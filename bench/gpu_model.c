/* gpu_model.c - makes a model folder with random weights in the shape of InternVL3-1B, 2B or 8B, and says what a token and a
 * prompt cost on it: bytes that a decoded token reads, operations of a prompt and of a tile.
 *
 *   gpu_model --size 1B|2B|8B|tiny --dir DIR [--prompt TOKENS]
 *
 * Shapes: config.json of OpenGVLab/InternVL3-{1B,2B,8B}. The vocabulary's size is the model's, its words are those of whatever
 * tokenizer the folder is given. Answers are noise; how long they take is not. Beside the model it puts picture.png, 4 by 3 and so
 * 12 tiles and a thumbnail where the model takes that many, and labels.jsonl, which names it 16 times. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "bench/engine_model.h"

static const engine_vision_shape internvit_300m = {1024, 24, 16, 4096, 448, 14};

static const struct {
    const char *size;
    engine_model_shape shape;
} sizes[] = {
    {"1B", {896, 24, 14, 2, 64, 4864, 151674, false}},
    {"2B", {1536, 28, 12, 2, 128, 8960, 151674, false}},
    {"8B", {3584, 28, 28, 4, 128, 18944, 151674, false}},
    {"tiny", {64, 2, 4, 1, 16, 172, 490, false, {48, 1, 3, 132, 56, 14}, 2}},
};

/* 2 operations a weight and token, and the scores of a token with those before it. */
static void print_costs(const engine_model_shape *s, double tokens)
{
    const double q = (double)(s->n_heads * s->head_dim), kv = (double)(s->n_kv_heads * s->head_dim),
                 hidden = (double)s->hidden, head = hidden * (double)s->vocab;
    const double layers = (double)s->n_layers * (2 * q * hidden + 2 * kv * hidden + 3 * hidden * (double)s->ffn);
    const engine_vision_shape *v = &s->vision;
    const double side = (double)(v->image / v->patch), patches = side * side + 1, wide = (double)v->hidden,
                 blocks = (double)v->n_layers * (4 * wide * wide + 2 * wide * (double)v->ffn);
    const double joined = 4 * wide * hidden + hidden * hidden, rows = side * side / 4;
    printf("decode_bytes=%.0f\n", 2 * (layers + head));
    printf("prompt_flops=%.0f\n", 2 * layers * tokens + 2 * (double)s->n_layers * q * tokens * tokens + 2 * head);
    printf("tile_flops=%.0f\n",
           2 * blocks * patches + 4 * (double)v->n_layers * wide * patches * patches + 2 * joined * rows);
    printf("tile_tokens=%.0f\n", rows);
}

/* ---- a picture ---------------------------------------------------------------------------------------------------- */

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static bool put_chunk(FILE *f, const char *type, const uint8_t *data, size_t n)
{
    uint8_t head[8], tail[4];
    put_u32(head, (uint32_t)n);
    memcpy(head + 4, type, 4);
    uLong crc = crc32(0, head + 4, 4);
    if (n) crc = crc32(crc, data, (uInt)n);
    put_u32(tail, (uint32_t)crc);
    return fwrite(head, 8, 1, f) == 1 && (n == 0 || fwrite(data, n, 1, f) == 1) && fwrite(tail, 4, 1, f) == 1;
}

/* Grey slopes and lines: a PNG of 8 bits, compressed as one stream. */
static bool write_picture(const char *path)
{
    enum { WIDTH = 1792, HEIGHT = 1344, ROW = WIDTH + 1 };
    uint8_t header[13] = {[8] = 8};
    uLongf size = compressBound((uLong)ROW * HEIGHT);
    uint8_t *raw = malloc((size_t)ROW * HEIGHT), *packed = malloc(size);
    FILE *f = fopen(path, "wb");
    bool ok = raw && packed && f;
    for (size_t y = 0; ok && y < HEIGHT; y++) {
        raw[y * ROW] = 0;
        for (size_t x = 0; x < WIDTH; x++) raw[y * ROW + 1 + x] = (uint8_t)(y % 64 < 4 ? 0 : x / 8 + y / 16);
    }
    put_u32(header, WIDTH);
    put_u32(header + 4, HEIGHT);
    ok = ok && compress2(packed, &size, raw, (uLong)ROW * HEIGHT, 1) == Z_OK &&
         fwrite("\x89PNG\r\n\x1a\n", 8, 1, f) == 1 && put_chunk(f, "IHDR", header, sizeof header) &&
         put_chunk(f, "IDAT", packed, size) && put_chunk(f, "IEND", NULL, 0);
    ok = (!f || fclose(f) == 0) && ok;
    free(raw);
    free(packed);
    return ok;
}

static bool write_labels(const char *path)
{
    FILE *f = fopen(path, "w");
    bool ok = f != NULL;
    for (int i = 0; ok && i < 16; i++)
        ok = fputs("{\"file\": \"picture.png\", \"question\": \"Extract the fields as JSON.\", \"fields\": {\"A\": "
                   "\"B\"}}\n",
                   f) >= 0;
    return (!f || fclose(f) == 0) && ok;
}

static bool write_picture_and_labels(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/picture.png", dir);
    if (!write_picture(path)) return false;
    snprintf(path, sizeof path, "%.4000s/labels.jsonl", dir);
    return write_labels(path);
}

int main(int argc, char **argv)
{
    const char *size = "tiny", *dir = NULL;
    double tokens = 3448;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--size") == 0) size = argv[i + 1];
        if (strcmp(argv[i], "--dir") == 0) dir = argv[i + 1];
        if (strcmp(argv[i], "--prompt") == 0) tokens = atof(argv[i + 1]);
    }
    for (size_t i = 0; dir && i < sizeof sizes / sizeof *sizes; i++) {
        engine_model_shape shape = sizes[i].shape;
        berth_error err = {0};
        if (strcmp(sizes[i].size, size) != 0) continue;
        if (!shape.vision.hidden) shape.vision = internvit_300m, shape.max_tiles = 12;
        if (engine_model_make(dir, &shape, &err) != BERTH_OK) {
            fprintf(stderr, "gpu_model: %s\n", err.message);
            return 1;
        }
        if (!write_picture_and_labels(dir)) {
            fprintf(stderr, "gpu_model: cannot write a picture into %s\n", dir);
            return 1;
        }
        print_costs(&shape, tokens);
        return 0;
    }
    fprintf(stderr, "usage: gpu_model --size 1B|2B|8B|tiny --dir DIR [--prompt TOKENS]\n");
    return 2;
}
