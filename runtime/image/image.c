/* image.c - from bytes to RGB: which format it is, what size is allowed, who decodes it.
 *
 * Owns the limits and the pixel memory; each format is a file of its own. Easy to get wrong: a picture's pixels,
 * its file and the decoder's own memory exist at once, and together must stay under 1 GiB. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "image/image_internal.h"

/* 8192 x 8192. Pillow warns above 89,478,485 pixels and refuses above twice as many; less is taken here because
 * decoders hold the picture a second time: 192 MiB of RGB stand beside up to 560 MiB of JPEG coefficients (jpeg.c) or
 * 256 MiB of WebP ARGB. */
static const uint64_t default_max_pixels = UINT64_C(1) << 26;
static const size_t default_max_file_bytes = (size_t)160 << 20;

berth_status berth_image_init(berth_image *img, uint64_t width, uint64_t height, const berth_image_limits *limits,
                              const char *format, berth_error *err)
{
    *img = (berth_image){0};
    if (width == 0 || height == 0) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the %s picture is empty: its header says %llu x %llu pixels", format,
                          (unsigned long long)width, (unsigned long long)height);
    }
    if (width > BERTH_IMAGE_MAX_SIDE || height > BERTH_IMAGE_MAX_SIDE || width * height > limits->max_pixels) {
        return BERTH_FAIL(
            err, BERTH_BAD_FILE,
            "the %s picture is too large: its header says %llu x %llu pixels; the limits are %llu pixels and "
            "%d on a side",
            format, (unsigned long long)width, (unsigned long long)height, (unsigned long long)limits->max_pixels,
            BERTH_IMAGE_MAX_SIDE);
    }
    size_t bytes;
    if (!berth_mul_size((size_t)(width * height), 3, &bytes) || !(img->rgb = malloc(bytes))) {
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %llu x %llu pixels", (unsigned long long)width,
                          (unsigned long long)height);
    }
    img->width = (int32_t)width;
    img->height = (int32_t)height;
    return BERTH_OK;
}

void berth_image_deinit(berth_image *img)
{
    if (!img) return;
    free(img->rgb);
    *img = (berth_image){0};
}

typedef struct signature {
    const char *name;
    int32_t offset, n;
    const char *bytes;
    berth_image_decoder *decode; /* NULL: known, but not read */
} signature;

static const signature signatures[] = {
    {"PNG", 0, 4, "\x89PNG", berth_png_decode},
    {"JPEG", 0, 2, "\xff\xd8", berth_jpeg_decode},
    {"WebP", 8, 4, "WEBP", berth_webp_decode},
    {"GIF", 0, 4, "GIF8", berth_gif_decode},
    {"BMP", 0, 2, "BM", berth_bmp_decode},
    {"TIFF", 0, 4, "II*\0", NULL},
    {"TIFF", 0, 4, "MM\0*", NULL},
    {"AVIF", 4, 8, "ftypavif", NULL},
    {"HEIC", 4, 8, "ftypheic", NULL},
    {"HEIF", 4, 8, "ftypmif1", NULL},
    {"JPEG 2000", 0, 12, "\0\0\0\x0cjP  \r\n\x87\n", NULL},
    {"JPEG XL", 0, 12, "\0\0\0\x0cJXL \r\n\x87\n", NULL},
    {"JPEG XL", 0, 2, "\xff\x0a", NULL},
    {"Windows icon", 0, 4, "\0\0\1\0", NULL},
    {"Photoshop", 0, 4, "8BPS", NULL},
    {"PDF", 0, 5, "%PDF-", NULL},
    {"SVG", 0, 4, "<svg", NULL},
};

static bool matches(const signature *s, const uint8_t *data, size_t n)
{
    size_t end = (size_t)s->offset + (size_t)s->n;
    return n >= end && memcmp(data + s->offset, s->bytes, (size_t)s->n) == 0;
}

berth_status berth_image_decode(const void *data, size_t n, const berth_image_limits *limits, berth_image *out,
                                berth_error *err)
{
    static const char readable[] = "PNG, JPEG, WebP, GIF and BMP can be read";
    *out = (berth_image){0};
    berth_image_limits l = limits ? *limits : (berth_image_limits){0};
    if (l.max_pixels == 0) l.max_pixels = default_max_pixels;
    if (l.max_file_bytes == 0) l.max_file_bytes = default_max_file_bytes;
    if (!data || n == 0) return BERTH_FAIL(err, BERTH_BAD_FILE, "not a picture: the file is empty; %s", readable);
    if (n > l.max_file_bytes) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the picture's file is too large: %zu bytes; the limit is %zu", n,
                          l.max_file_bytes);
    }
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const signature *s = &signatures[i];
        if (!matches(s, data, n)) continue;
        if (!s->decode) {
            return BERTH_FAIL(err, BERTH_UNSUPPORTED, "unsupported picture format %s; %s", s->name, readable);
        }
        berth_status st = s->decode(data, n, &l, out, err);
        if (st != BERTH_OK) berth_image_deinit(out);
        return st;
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE, "not a picture, or of an unknown format (%zu bytes); %s", n, readable);
}

berth_status berth_image_load(const char *path, const berth_image_limits *limits, berth_image *out, berth_error *err)
{
    *out = (berth_image){0};
    size_t max_bytes = limits && limits->max_file_bytes ? limits->max_file_bytes : default_max_file_bytes;
    char *data = NULL;
    size_t n = 0;
    berth_status st = berth_file_read(path, max_bytes, &data, &n, err);
    if (st != BERTH_OK) return st;
    st = berth_image_decode(data, n, limits, out, err);
    free(data);
    if (st != BERTH_OK) berth_error_prefix(err, "%s: ", path);
    return st;
}
