/* vision.c - ops that only move an image's values: patches, positions, the class row, the pixel shuffle. */
#include "kernels/ref/ref_internal.h"

void berth_ref_patchify(const berth_op_call *call)
{
    const berth_tensor *in = &call->in[0]; /* [n_tiles, 3, S, S] */
    const float *pixels = berth_ref_f32(in);
    size_t n_tiles = (size_t)in->dims[0], channels = (size_t)in->dims[1], height = (size_t)in->dims[2];
    size_t width = (size_t)in->dims[3], p = (size_t)call->attrs->patch;
    float *y = berth_ref_out(call);
    for (size_t tile = 0; tile < n_tiles; tile++)
        for (size_t py = 0; py < height / p; py++)
            for (size_t px = 0; px < width / p; px++)
                for (size_t c = 0; c < channels; c++)
                    for (size_t dy = 0; dy < p; dy++)
                        for (size_t dx = 0; dx < p; dx++)
                            *y++ = pixels[((tile * channels + c) * height + py * p + dy) * width + px * p + dx];
}

void berth_ref_vision_embed(const berth_op_call *call)
{
    const float *patches = berth_ref_f32(&call->in[0]);
    size_t n_tiles = (size_t)call->in[0].dims[0], n_patches = (size_t)call->in[0].dims[1],
           c = (size_t)call->in[0].dims[2];
    float *y = berth_ref_out(call);
    for (size_t tile = 0; tile < n_tiles; tile++)
        for (size_t row = 0; row < 1 + n_patches; row++)
            for (size_t i = 0; i < c; i++) {
                float v = row ? patches[(tile * n_patches + row - 1) * c + i] : berth_ref_get(&call->in[1], i);
                *y++ = v + berth_ref_get(&call->in[2], row * c + i);
            }
}

void berth_ref_drop_cls(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n_tiles = (size_t)call->in[0].dims[0], rows = (size_t)call->in[0].dims[1], c = (size_t)call->in[0].dims[2];
    float *y = berth_ref_out(call);
    for (size_t tile = 0; tile < n_tiles; tile++)
        for (size_t i = c; i < rows * c; i++) *y++ = x[tile * rows * c + i];
}

void berth_ref_pixel_shuffle(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n_tiles = (size_t)call->in[0].dims[0], n_patches = (size_t)call->in[0].dims[1],
           c = (size_t)call->in[0].dims[2];
    size_t f = (size_t)call->attrs->factor, g = 0;
    while (g * g < n_patches) g++;
    size_t cells = g / f;
    float *y = berth_ref_out(call);
    for (size_t tile = 0; tile < n_tiles; tile++, x += n_patches * c, y += n_patches * c)
        for (size_t i = 0; i < cells; i++)
            for (size_t j = 0; j < cells; j++) {
                size_t token = call->attrs->transposed ? j * cells + i : i * cells + j;
                for (size_t di = 0; di < f; di++)
                    for (size_t dj = 0; dj < f; dj++)
                        memcpy(y + (token * f * f + di * f + dj) * c, x + ((f * i + di) * g + f * j + dj) * c,
                               c * sizeof *y);
            }
}
