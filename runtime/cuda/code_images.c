/* code_images.c - images of device code that NVRTC makes, or made earlier. */
#include <stdio.h>
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

/* All that the images depend on; the options of nvrtc.c are this version's. */
static void name_cache(berth_gpu_cache *cache, const berth_gpu_code_options *options, const berth_cuda_units *units,
                       int32_t capability, int32_t nvrtc_version)
{
    char made_of[256];
    snprintf(made_of, sizeof made_of, "berth %s, sources %s, sm_%d, NVRTC %d", BERTH_VERSION, units->digest,
             (int)capability, (int)nvrtc_version);
    berth_gpu_cache_init(cache, options->cache_dir, capability, made_of);
}

/* Neither way led to kernels: the GPU, and what would help. */
static berth_status fail_open(const berth_gpu_info *info, const berth_cuda_units *units, berth_status st,
                              berth_error *err)
{
    char images[96] = "this build has no images of kernels";
    if (units->toolkit)
        snprintf(images, sizeof images, "this build's images (CUDA %d.%d) are not for it or its driver",
                 (int)units->toolkit / 1000, (int)units->toolkit % 1000 / 10);
    berth_error_prefix(err, "cuda:%d (%s, sm_%d): %s, and ", (int)info->ordinal, info->name, (int)info->capability,
                       images);
    if (st == BERTH_NOT_FOUND) st = BERTH_UNSUPPORTED;
    if (err) {
        err->status = st;
        err->device = info->ordinal;
    }
    return st;
}

static berth_status compile_and_keep(const berth_nvrtc *rtc, const berth_gpu_cache *cache,
                                     const berth_cuda_units *units, int32_t capability, berth_gpu_images *out,
                                     berth_gpu_code_facts *facts, berth_error *err)
{
    facts->origin = BERTH_GPU_CODE_COMPILED;
    berth_status st = compile_all(rtc, units, capability, out, err);
    berth_error kept;
    if (st == BERTH_OK && berth_gpu_cache_write(cache, out, &kept) != BERTH_OK)
        snprintf(facts->note, sizeof facts->note, "kernels will be compiled at every start: %.190s", kept.message);
    return st;
}

berth_status berth_gpu_images_make(berth_gpu *gpu, const berth_cuda_units *units, const berth_gpu_code_options *options,
                                   bool anew, berth_gpu_images *out, berth_gpu_code_facts *facts, berth_error *err)
{
    const berth_gpu_info *info = &gpu->slot->info;
    berth_nvrtc rtc;
    berth_gpu_cache *cache = calloc(1, sizeof *cache);
    if (!cache) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for images of device code");
    berth_status st = berth_nvrtc_open(&rtc, options->nvrtc, berth_cuda_version(gpu->cuda), info->capability, err);
    if (st != BERTH_OK) {
        free(cache);
        return fail_open(info, units, st, err);
    }
    facts->nvrtc_version = rtc.version;
    name_cache(cache, options, units, info->capability, rtc.version);
    if (!anew && berth_gpu_cache_read(cache, units->n_units, out))
        facts->origin = BERTH_GPU_CODE_CACHED;
    else
        st = compile_and_keep(&rtc, cache, units, info->capability, out, facts, err);
    berth_nvrtc_close(&rtc);
    free(cache);
    return st;
}
