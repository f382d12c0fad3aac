/* png.c - PNG by libspng.
 *
 * Owns the walk over the chunks: only critical chunks reach libspng, each with its length and checksum verified here, so
 * that metadata is never stored and never inflated, however much of it there is. Nothing behind the last row is read.
 * Easy to get wrong: 16-bit grey is clipped to 255 as Pillow does, all other 16-bit kinds give their high byte. */
#include <spng.h>
#include <string.h>
#include <zlib.h>

#include "image/image_internal.h"

typedef struct png_source {
    const uint8_t *data;
    size_t n;
    size_t at, end;      /* bytes [at, end) go to libspng next */
    const char *problem; /* why there are no more; NULL = none */
} png_source;

/* Moves the window to the next critical chunk. */
static bool next_chunk(png_source *s)
{
    for (;;) {
        const uint8_t *p = s->data + s->end;
        size_t left = s->n - s->end;
        if (left < 12) {
            s->problem = "it is cut short";
            return false;
        }
        uint32_t length = berth_be32(p);
        if (length > left - 12) {
            s->problem = "a chunk is longer than the file";
            return false;
        }
        if (crc32(crc32(0, NULL, 0), p + 4, length + 4) != berth_be32(p + 8 + length)) {
            s->problem = "a chunk's checksum (CRC) is wrong";
            return false;
        }
        s->at = s->end;
        s->end += (size_t)length + 12;
        bool critical = !(p[4] & 0x20); /* PNG specification, 5.4 */
        if (critical) return true;
    }
}

static int read_png(spng_ctx *ctx, void *user, void *dst, size_t length)
{
    (void)ctx;
    png_source *s = user;
    uint8_t *to = dst;
    while (length > 0) {
        if (s->at == s->end && !next_chunk(s)) return SPNG_IO_EOF;
        size_t k = s->end - s->at < length ? s->end - s->at : length;
        memcpy(to, s->data + s->at, k);
        s->at += k;
        to += k;
        length -= k;
    }
    return 0;
}

/* Big-endian 16-bit grey standing in the last two thirds of the picture's own memory becomes RGB in place: pixel i is
 * written at 3i and read at n + 2i, so no write reaches what is still to be read. */
static void clip_grey16(berth_image *img)
{
    size_t n = (size_t)img->width * (size_t)img->height;
    const uint8_t *grey = img->rgb + n;
    for (size_t i = 0; i < n; i++) {
        uint8_t v = grey[2 * i] ? 255 : grey[2 * i + 1];
        memset(img->rgb + 3 * i, v, 3);
    }
}

static int decode(spng_ctx *ctx, const struct spng_ihdr *ihdr, berth_image *out)
{
    size_t n = (size_t)out->width * (size_t)out->height;
    if (ihdr->color_type != SPNG_COLOR_TYPE_GRAYSCALE || ihdr->bit_depth != 16) {
        return spng_decode_image(ctx, out->rgb, 3 * n, SPNG_FMT_RGB8, 0);
    }
    int e = spng_decode_image(ctx, out->rgb + n, 2 * n, SPNG_FMT_RAW, 0);
    if (!e) clip_grey16(out);
    return e;
}

berth_status berth_png_decode(const uint8_t *data, size_t n, const berth_image_limits *limits, berth_image *out,
                              berth_error *err)
{
    if (n < 8) return BERTH_FAIL(err, BERTH_BAD_FILE, "the PNG file is cut short: it has %zu bytes", n);
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a PNG decoder");
    png_source source = {.data = data, .n = n, .end = 8};
    struct spng_ihdr ihdr;
    berth_status st = BERTH_OK;
    int e = spng_set_crc_action(ctx, SPNG_CRC_USE, SPNG_CRC_USE); /* next_chunk has checked them */
    if (!e) e = spng_set_png_stream(ctx, read_png, &source);
    if (!e) e = spng_get_ihdr(ctx, &ihdr);
    if (!e) st = berth_image_init(out, ihdr.width, ihdr.height, limits, "PNG", err);
    if (!e && st == BERTH_OK) e = decode(ctx, &ihdr, out);
    spng_ctx_free(ctx);
    if (e == SPNG_EMEM) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a PNG decoder");
    if (e) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the PNG file is damaged: %s",
                          source.problem ? source.problem : spng_strerror(e));
    }
    return st;
}
