/* code_images.c - images of device code that NVRTC makes. */
#include <stdlib.h>
#include <string.h>

#include "cuda/code_internal.h"
#include "cuda/device_internal.h"
#include "cuda/nvrtc.h"

enum { IMAGE_ALIGN = 64 };

void berth_gpu_images_deinit(berth_gpu_images *images)
{
    berth_buffer_deinit(&images->bytes);
    free(images->offsets);
    memset(images, 0, sizeof *images);
}

static bool pad(berth_buffer *b)
{
    while (b->len % IMAGE_ALIGN) {
        if (!berth_buffer_putc(b, 0)) return false;
    }
    return true;
}

static berth_status compile_all(const berth_nvrtc *rtc, const berth_cuda_units *units, int32_t capability,
                                berth_gpu_images *out, berth_error *err)
{
    out->offsets = calloc((size_t)units->n_units + 1, sizeof *out->offsets);
    if (!out->offsets) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for images of device code");
    for (out->n = 0; out->n < units->n_units; out->n++) {
        const berth_cuda_unit *unit = &units->units[out->n];
        berth_status st = berth_nvrtc_compile(rtc, unit->source, unit->name, capability, &out->bytes, err);
        if (st != BERTH_OK) return st;
        if (!pad(&out->bytes)) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the image of %s", unit->name);
        out->offsets[out->n + 1] = out->bytes.len;
    }
    return BERTH_OK;
}

berth_status berth_gpu_images_make(berth_gpu *gpu, const berth_cuda_units *units, const berth_gpu_code_options *options,
                                   berth_gpu_images *out, berth_gpu_code_facts *facts, berth_error *err)
{
    const berth_gpu_info *info = &gpu->slot->info;
    berth_nvrtc rtc;
    berth_status st = berth_nvrtc_open(&rtc, options->nvrtc, berth_cuda_version(gpu->cuda), info->capability, err);
    if (st != BERTH_OK) {
        berth_error_prefix(err, "cuda:%d (%s, sm_%d): this build has no kernels for it, and ", (int)info->ordinal,
                           info->name, (int)info->capability);
        if (err && st == BERTH_NOT_FOUND) err->status = BERTH_UNSUPPORTED;
        return st == BERTH_NOT_FOUND ? BERTH_UNSUPPORTED : st;
    }
    facts->origin = BERTH_GPU_CODE_COMPILED;
    facts->nvrtc_version = rtc.version;
    st = compile_all(&rtc, units, info->capability, out, err);
    berth_nvrtc_close(&rtc);
    return st;
}
