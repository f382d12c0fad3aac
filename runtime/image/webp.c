/* webp.c - WebP by libwebp; of an animation the first frame, on a black canvas.
 *
 * Alpha is dropped, never blended: RGB is asked for. Easy to get wrong: a frame of an animation may cover only a part of
 * the canvas, and libwebp's demuxer has already checked that it lies inside. */
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "image/image_internal.h"

static const char *status_text(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: return "it is cut short";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses an unsupported feature";
    default: return "its contents are invalid";
    }
}

/* Decodes one still bitstream of w x h pixels to `rgb`, whose rows are `stride` bytes apart. */
static berth_status decode_still(const uint8_t *data, size_t n, uint8_t *rgb, int32_t w, int32_t h, size_t stride,
                                 berth_error *err)
{
    WebPDecoderConfig config;
    VP8StatusCode code = VP8_STATUS_INVALID_PARAM;
    if (WebPInitDecoderConfig(&config)) code = WebPGetFeatures(data, n, &config.input);
    if (code == VP8_STATUS_OK && (config.input.width != w || config.input.height != h))
        code = VP8_STATUS_BITSTREAM_ERROR;
    if (code == VP8_STATUS_OK) {
        config.output.colorspace = MODE_RGB;
        config.output.is_external_memory = 1;
        config.output.u.RGBA.rgba = rgb;
        config.output.u.RGBA.stride = (int)stride;
        config.output.u.RGBA.size = stride * (size_t)(h - 1) + (size_t)w * 3;
        code = WebPDecode(data, n, &config);
        WebPFreeDecBuffer(&config.output);
    }
    if (code == VP8_STATUS_OK) return BERTH_OK;
    if (code == VP8_STATUS_OUT_OF_MEMORY) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a WebP decoder");
    return BERTH_FAIL(err, BERTH_BAD_FILE, "the WebP file is damaged: %s", status_text(code));
}

static berth_status decode_first_frame(const uint8_t *data, size_t n, const berth_image_limits *limits,
                                       berth_image *out, berth_error *err)
{
    WebPData file = {.bytes = data, .size = n};
    WebPIterator frame = {0};
    WebPDemuxer *demux = WebPDemux(&file);
    if (!demux || !WebPDemuxGetFrame(demux, 1, &frame)) {
        WebPDemuxDelete(demux);
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the WebP animation is damaged or cut short");
    }
    berth_status st = berth_image_init(out, WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH),
                                       WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT), limits, "WebP", err);
    if (st == BERTH_OK) {
        int64_t right = (int64_t)frame.x_offset + frame.width, bottom = (int64_t)frame.y_offset + frame.height;
        if (frame.x_offset < 0 || frame.y_offset < 0 || right > out->width || bottom > out->height) {
            st = BERTH_FAIL(err, BERTH_BAD_FILE,
                            "the WebP animation is damaged: its first frame lies outside the picture");
        }
    }
    if (st == BERTH_OK) {
        size_t stride = (size_t)out->width * 3;
        memset(out->rgb, 0, stride * (size_t)out->height);
        uint8_t *corner = out->rgb + (size_t)frame.y_offset * stride + (size_t)frame.x_offset * 3;
        st = decode_still(frame.fragment.bytes, frame.fragment.size, corner, frame.width, frame.height, stride, err);
    }
    WebPDemuxReleaseIterator(&frame);
    WebPDemuxDelete(demux);
    return st;
}

berth_status berth_webp_decode(const uint8_t *data, size_t n, const berth_image_limits *limits, berth_image *out,
                               berth_error *err)
{
    WebPBitstreamFeatures f;
    VP8StatusCode code = WebPGetFeatures(data, n, &f);
    if (code != VP8_STATUS_OK) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the WebP file is damaged: %s", status_text(code));
    }
    if (f.has_animation) return decode_first_frame(data, n, limits, out, err);
    berth_status st = berth_image_init(out, (uint64_t)f.width, (uint64_t)f.height, limits, "WebP", err);
    if (st != BERTH_OK) return st;
    return decode_still(data, n, out->rgb, f.width, f.height, (size_t)f.width * 3, err);
}
