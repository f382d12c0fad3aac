/* bmp.c - Windows bitmaps: 1, 4, 8, 16, 24 and 32 bits a pixel, uncompressed.
 *
 * Alpha is ignored, as by Pillow. Easy to get wrong: rows stand bottom up unless the height is negative, and are padded to
 * four bytes. Source: the BITMAPCOREHEADER and BITMAPINFOHEADER forms of the Windows GDI documentation. */
#include <string.h>

#include "base/checked.h"
#include "image/image_internal.h"

typedef struct bmp_header {
    size_t pixels_at;
    uint64_t width, height;
    uint32_t bits;
    bool top_down, is_565;
    uint8_t palette[256][3]; /* R, G, B; black where the file has none */
} bmp_header;

static berth_status damaged(const char *why, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_BAD_FILE, "the BMP file is damaged: %s", why);
}

static void read_palette(const uint8_t *data, size_t n, size_t at, size_t entry_bytes, uint32_t n_colors, bmp_header *h)
{
    for (uint32_t i = 0; i < n_colors && i < 256 && at + entry_bytes <= n; i++, at += entry_bytes) {
        for (size_t c = 0; c < 3; c++) h->palette[i][c] = data[at + 2 - c];
    }
}

/* Bit fields: only the layouts that have names (565 and 555; 888 in 32 bits). */
static bool known_masks(const uint8_t *masks, bmp_header *h)
{
    uint32_t r = berth_le32(masks), g = berth_le32(masks + 4), b = berth_le32(masks + 8);
    h->is_565 = r == 0xf800 && g == 0x7e0 && b == 0x1f;
    if (h->bits == 16) return h->is_565 || (r == 0x7c00 && g == 0x3e0 && b == 0x1f);
    return h->bits == 32 && r == 0xff0000 && g == 0xff00 && b == 0xff;
}

static berth_status read_bmp_header(const uint8_t *data, size_t n, bmp_header *h, berth_error *err)
{
    if (n < 26) return damaged("it is cut short", err);
    size_t info = berth_le32(data + 14);
    bool core = info == 12;
    if ((!core && info < 40) || info > 1024) return damaged("its header has an unknown size", err);
    if (info > n - 14) return damaged("it is cut short", err);
    uint32_t compression = 0, n_colors = 0;
    h->pixels_at = berth_le32(data + 10);
    if (core) {
        h->width = berth_le16(data + 18);
        h->height = berth_le16(data + 20);
        h->bits = berth_le16(data + 24);
    } else {
        int64_t width = (int32_t)berth_le32(data + 18), height = (int32_t)berth_le32(data + 22);
        if (width < 0) return damaged("its width is negative", err);
        h->top_down = height < 0;
        h->width = (uint64_t)width;
        h->height = (uint64_t)(height < 0 ? -height : height);
        h->bits = berth_le16(data + 28);
        compression = berth_le32(data + 30);
        n_colors = berth_le32(data + 46);
    }
    switch (h->bits) {
    case 1:
    case 4:
    case 8:
    case 16:
    case 24:
    case 32: break;
    default: return damaged("its bits per pixel are unknown", err);
    }
    size_t after_header = 14 + info;
    if (compression == 3) {
        if (n < 66) return damaged("it is cut short", err);
        if (!known_masks(data + 54, h))
            return BERTH_FAIL(err, BERTH_UNSUPPORTED, "unsupported bit fields in a BMP file");
        if (info == 40) after_header += 12;
    } else if (compression != 0) {
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "unsupported compression %u of a BMP file", compression);
    }
    if (h->bits <= 8) {
        if (n_colors == 0) n_colors = 1u << h->bits;
        read_palette(data, n, after_header, core ? 3 : 4, n_colors, h);
    }
    return BERTH_OK;
}

static void unpack_row(const bmp_header *h, const uint8_t *from, uint8_t *to)
{
    for (size_t x = 0; x < h->width; x++, to += 3) {
        if (h->bits <= 8) {
            size_t bit = x * h->bits;
            uint32_t index = (uint32_t)from[bit / 8] >> (8 - h->bits - bit % 8) & ((1u << h->bits) - 1);
            memcpy(to, h->palette[index], 3);
        } else if (h->bits == 16) {
            uint32_t v = berth_le16(from + 2 * x);
            to[0] = (uint8_t)((v >> (h->is_565 ? 11 : 10) & 31) * 255 / 31);
            to[1] = (uint8_t)(h->is_565 ? (v >> 5 & 63) * 255 / 63 : (v >> 5 & 31) * 255 / 31);
            to[2] = (uint8_t)((v & 31) * 255 / 31);
        } else {
            const uint8_t *p = from + x * (h->bits / 8);
            to[0] = p[2];
            to[1] = p[1];
            to[2] = p[0];
        }
    }
}

berth_status berth_bmp_decode(const uint8_t *data, size_t n, const berth_image_limits *limits, berth_image *out,
                              berth_error *err)
{
    bmp_header h = {0};
    berth_status st = read_bmp_header(data, n, &h, err);
    if (st == BERTH_OK) st = berth_image_init(out, h.width, h.height, limits, "BMP", err);
    if (st != BERTH_OK) return st;
    size_t row_bytes = (size_t)((h.width * h.bits + 31) / 32 * 4);
    size_t last_bytes = (size_t)((h.width * h.bits + 7) / 8); /* the last row may come without its padding */
    size_t need;
    if (!berth_mul_size(row_bytes, (size_t)h.height - 1, &need) || !berth_add_size(need, last_bytes, &need) ||
        h.pixels_at > n || need > n - h.pixels_at) {
        return damaged("it is cut short", err);
    }
    for (size_t r = 0; r < h.height; r++) {
        size_t y = h.top_down ? r : h.height - 1 - r;
        unpack_row(&h, data + h.pixels_at + r * row_bytes, out->rgb + y * (size_t)h.width * 3);
    }
    return BERTH_OK;
}
