/* gif.c - the first frame of a GIF.
 *
 * A frame that covers only a part of the screen stands on the transparent colour, or on colour 0, as in Pillow. Easy to
 * get wrong: the code width grows one code late (it is the decoder that lags behind), and a full table stays full.
 * Source: GIF89a specification, appendix F. */
#include <stdlib.h>
#include <string.h>

#include "image/image_internal.h"

enum { max_codes = 4096 };

typedef struct gif_frame {
    uint32_t left, top, width, height;
    bool interlaced;
    uint32_t background;     /* colour index around the frame */
    uint8_t palette[256][3]; /* black where the file has none */
    size_t data_at;          /* the LZW code size; sub-blocks follow */
} gif_frame;

static berth_status damaged(const char *why, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_BAD_FILE, "the GIF file is damaged: %s", why);
}

/* A colour table at *at, if the flags announce one. False when cut short. */
static bool read_palette(const uint8_t *data, size_t n, size_t *at, uint32_t flags, gif_frame *f)
{
    if (!(flags & 0x80)) return true;
    size_t bytes = 3 * ((size_t)2 << (flags & 7));
    if (bytes > n - *at) return false;
    memset(f->palette, 0, sizeof f->palette);
    memcpy(f->palette, data + *at, bytes);
    *at += bytes;
    return true;
}

static bool skip_blocks(const uint8_t *data, size_t n, size_t *at)
{
    while (*at < n) {
        size_t length = data[(*at)++];
        if (length == 0) return true;
        if (length > n - *at) return false;
        *at += length;
    }
    return false;
}

/* Walks to the first image descriptor. */
static berth_status find_frame(const uint8_t *data, size_t n, gif_frame *f, berth_error *err)
{
    static const char cut[] = "it is cut short";
    if (n < 13) return damaged(cut, err);
    for (uint32_t i = 0; i < 256; i++) memset(f->palette[i], (int)i, 3); /* a file without any table: grey */
    size_t at = 13;
    if (!read_palette(data, n, &at, data[10], f)) return damaged(cut, err);
    while (at < n) {
        uint8_t kind = data[at++];
        if (kind == 0x21 && n - at >= 6) { /* an extension */
            if (data[at] == 0xf9 && data[at + 1] >= 4 && data[at + 2] & 1) f->background = data[at + 5];
            at++;
            if (!skip_blocks(data, n, &at)) return damaged(cut, err);
        } else if (kind == 0x2c && n - at >= 9) {
            f->left = berth_le16(data + at);
            f->top = berth_le16(data + at + 2);
            f->width = berth_le16(data + at + 4);
            f->height = berth_le16(data + at + 6);
            uint32_t flags = data[at + 8];
            f->interlaced = flags & 0x40;
            at += 9;
            if (!read_palette(data, n, &at, flags, f) || at >= n) return damaged(cut, err);
            f->data_at = at;
            return BERTH_OK;
        } else {
            return damaged(n - at < 9 ? cut : "an unknown block", err);
        }
    }
    return damaged("it has no picture", err);
}

typedef struct lzw_bits {
    const uint8_t *data;
    size_t n, at, block_left;
    uint32_t bits, n_bits;
} lzw_bits;

/* The next code, or -1 where the data end. */
static int32_t next_code(lzw_bits *b, uint32_t width)
{
    while (b->n_bits < width) {
        if (b->block_left == 0) {
            if (b->at >= b->n || (b->block_left = b->data[b->at++]) == 0) return -1;
        }
        if (b->at >= b->n) return -1;
        b->bits |= (uint32_t)b->data[b->at++] << b->n_bits;
        b->n_bits += 8;
        b->block_left--;
    }
    uint32_t code = b->bits & ((1u << width) - 1);
    b->bits >>= width;
    b->n_bits -= width;
    return (int32_t)code;
}

typedef struct lzw_table {
    uint16_t prefix[max_codes], length[max_codes];
    uint8_t last[max_codes], first[max_codes];
} lzw_table;

/* Writes the string of `code`, cut at `room`; returns its whole length. */
static size_t put_string(const lzw_table *t, uint32_t code, uint8_t *out, size_t room)
{
    size_t length = t->length[code];
    for (size_t i = length; i-- > 0; code = t->prefix[code]) {
        if (i < room) out[i] = t->last[code];
    }
    return length;
}

/* Unpacks n_out colour indices; false when the data end early or make no sense. */
static bool unpack_lzw(lzw_bits *bits, uint32_t code_bits, lzw_table *t, uint8_t *out, size_t n_out)
{
    uint32_t clear = 1u << code_bits, end = clear + 1, next = clear + 2, width = code_bits + 1;
    for (uint32_t i = 0; i < clear; i++) {
        t->prefix[i] = 0;
        t->length[i] = 1;
        t->first[i] = t->last[i] = (uint8_t)i;
    }
    int32_t old = -1;
    for (size_t n = 0; n < n_out;) {
        int32_t code = next_code(bits, width);
        if (code < 0 || code == (int32_t)end) return false;
        if (code == (int32_t)clear) {
            next = clear + 2;
            width = code_bits + 1;
            old = -1;
            continue;
        }
        bool is_new = old >= 0 && next < max_codes;
        if (code > (int32_t)next || (code == (int32_t)next && !is_new)) return false;
        if (old < 0 && code >= (int32_t)clear) return false;
        if (is_new) {
            t->prefix[next] = (uint16_t)old;
            t->length[next] = (uint16_t)(t->length[old] + 1);
            t->first[next] = t->first[old];
            t->last[next] = t->first[code == (int32_t)next ? old : code];
            next++;
            if (next == 1u << width && width < 12) width++;
        }
        size_t put = put_string(t, (uint32_t)code, out + n, n_out - n);
        n += put < n_out - n ? put : n_out - n;
        old = code;
    }
    return true;
}

/* The row of the frame that stands r-th in the file. */
static uint32_t interlaced_row(uint32_t r, uint32_t height)
{
    static const uint32_t first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    for (int pass = 0; pass < 4; pass++) {
        uint32_t rows = height > first[pass] ? (height - first[pass] + step[pass] - 1) / step[pass] : 0;
        if (r < rows) return first[pass] + r * step[pass];
        r -= rows;
    }
    return 0;
}

static void paint(const gif_frame *f, const uint8_t *indices, berth_image *out)
{
    for (size_t i = 0; i < (size_t)out->width * (size_t)out->height; i++) {
        memcpy(out->rgb + 3 * i, f->palette[f->background], 3);
    }
    for (uint32_t r = 0; r < f->height; r++) {
        uint32_t y = f->top + (f->interlaced ? interlaced_row(r, f->height) : r);
        uint8_t *to = out->rgb + ((size_t)y * (size_t)out->width + f->left) * 3;
        const uint8_t *from = indices + (size_t)r * f->width;
        for (uint32_t x = 0; x < f->width; x++) memcpy(to + 3 * (size_t)x, f->palette[from[x]], 3);
    }
}

berth_status berth_gif_decode(const uint8_t *data, size_t n, const berth_image_limits *limits, berth_image *out,
                              berth_error *err)
{
    gif_frame f = {0};
    berth_status st = find_frame(data, n, &f, err);
    if (st != BERTH_OK) return st;
    uint32_t code_bits = data[f.data_at];
    if (code_bits < 1 || code_bits > 8 || f.width == 0 || f.height == 0)
        return damaged("its first frame is invalid", err);
    uint32_t width = berth_le16(data + 6), height = berth_le16(data + 8);
    if (f.left + f.width > width) width = f.left + f.width; /* as Pillow does */
    if (f.top + f.height > height) height = f.top + f.height;
    st = berth_image_init(out, width, height, limits, "GIF", err);
    if (st != BERTH_OK) return st;
    size_t n_indices = (size_t)f.width * f.height;
    lzw_bits bits = {.data = data, .n = n, .at = f.data_at + 1};
    lzw_table *table = malloc(sizeof *table);
    uint8_t *indices = malloc(n_indices);
    if (!table || !indices) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a GIF decoder");
    } else if (!unpack_lzw(&bits, code_bits, table, indices, n_indices)) {
        st = damaged("its data are invalid or cut short", err);
    } else {
        paint(&f, indices, out);
    }
    free(indices);
    free(table);
    return st;
}
