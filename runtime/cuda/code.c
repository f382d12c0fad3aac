/* code.c - see code.h. A launch's kernel is found by its name's hash in a table that is full when loading ends:
 * one hash of some 30 characters, one comparison, against the microseconds of the launch itself. */
#include "cuda/code.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cuda/code_internal.h"
#include "cuda/device_internal.h"
#include "kernels/cuda/launches.h"

struct berth_gpu_code {
    berth_gpu *gpu;             /* borrowed */
    berth_gpu_module **modules; /* owned; [n_modules], one a unit */
    int32_t n_modules;
    berth_gpu_kernel *table; /* owned; [mask + 1], at most half full; its names are the units' */
    uint32_t mask;
    berth_gemm *gemm; /* owned; NULL: our kernels do everything */
    berth_gpu_code_target target;
    berth_gpu_code_facts facts;
};

/* ---- the table of kernels ---------------------------------------------------------------------------------------- */

static uint32_t hash_of(const char *name) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h ^ h >> 15;
}

/* The kernel of that name, or the free place for it. */
static berth_gpu_kernel *place_of(const berth_gpu_code *code, const char *name)
{
    uint32_t at = hash_of(name) & code->mask;
    while (code->table[at].name && strcmp(code->table[at].name, name) != 0) at = (at + 1) & code->mask;
    return &code->table[at];
}

static berth_status make_table(berth_gpu_code *code, const berth_cuda_units *units, berth_error *err)
{
    uint32_t n = 0, size = 16;
    for (int32_t i = 0; i < units->n_units; i++)
        for (const char *const *name = units->units[i].kernels; *name; name++) n++;
    while (size < 2 * n) size *= 2;
    code->table = calloc(size, sizeof *code->table);
    code->mask = size - 1;
    return code->table ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a table of %u kernels", n);
}

/* Kernels that only newer architectures have are not there; no launch for this one names them. */
static berth_status find_kernels(berth_gpu_code *code, const berth_cuda_unit *unit, berth_gpu_module *module,
                                 berth_error *err)
{
    const int32_t shared = code->gpu->slot->info.max_shared_bytes;
    for (const char *const *name = unit->kernels; *name; name++) {
        berth_gpu_kernel kernel;
        berth_error absent;
        berth_status st = berth_gpu_kernel_find(module, *name, shared, &kernel, &absent);
        if (st == BERTH_NOT_FOUND) continue;
        if (st != BERTH_OK) {
            if (err) *err = absent;
            return st;
        }
        *place_of(code, *name) = kernel;
        code->facts.n_kernels++;
    }
    return BERTH_OK;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static void drop_modules(berth_gpu_code *code)
{
    for (int32_t i = 0; i < code->n_modules; i++) berth_gpu_module_unload(code->modules[i]);
    code->n_modules = 0;
}

/* `images` NULL: the units' own. */
static berth_status load_modules(berth_gpu_code *code, const berth_cuda_units *units, const berth_gpu_images *images,
                                 berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < units->n_units && st == BERTH_OK; i++) {
        const void *image = images ? images->bytes.data + images->offsets[i] : units->units[i].image;
        st = berth_gpu_module_load(code->gpu, image, &code->modules[i], err);
        if (st == BERTH_OK) code->n_modules++;
    }
    if (st != BERTH_OK) drop_modules(code);
    return st;
}

static bool has_images(const berth_cuda_units *units)
{
    for (int32_t i = 0; i < units->n_units; i++)
        if (!units->units[i].image) return false;
    return units->n_units > 0;
}

/* From NVRTC or its cache. What the driver does not take from the cache is made anew: the file may be of a driver or of
 * an emulator that is not here. */
static berth_status load_compiled(berth_gpu_code *code, const berth_cuda_units *units,
                                  const berth_gpu_code_options *options, bool anew, berth_error *err)
{
    berth_gpu_images images = {0};
    berth_status st = berth_gpu_images_make(code->gpu, units, options, anew, &images, &code->facts, err);
    if (st == BERTH_OK) st = load_modules(code, units, &images, err);
    berth_gpu_images_deinit(&images);
    if (st == BERTH_UNSUPPORTED && code->facts.origin == BERTH_GPU_CODE_CACHED)
        return load_compiled(code, units, options, true, err);
    return st;
}

/* The build's images, unless they are not wanted, not there or not for this GPU or driver; then NVRTC's. */
static berth_status load_images(berth_gpu_code *code, const berth_cuda_units *units,
                                const berth_gpu_code_options *options, berth_error *err)
{
    if (!options->compile && has_images(units)) {
        code->facts.origin = BERTH_GPU_CODE_BUILT_IN;
        berth_status st = load_modules(code, units, NULL, err);
        if (st != BERTH_UNSUPPORTED) return st;
    }
    return load_compiled(code, units, options, false, err);
}

/* Without it everything still runs. */
static berth_status open_gemm(berth_gpu_code *code, const berth_gpu_code_options *options, berth_error *err)
{
    if (options->batch_invariant || (options->cublas && !options->cublas[0])) return BERTH_OK;
    berth_error why = {0};
    const berth_status st = berth_gemm_open(code->gpu, options->cublas, &code->gemm, &why);
    if (st == BERTH_OUT_OF_MEMORY) {
        if (err) *err = why;
        return st;
    }
    code->facts.has_cublas = st == BERTH_OK;
    if (st != BERTH_OK && !code->facts.note[0])
        snprintf(code->facts.note, sizeof code->facts.note, "large products run on berth's own kernels: %.190s",
                 why.message);
    return BERTH_OK;
}

berth_status berth_gpu_code_load_units(berth_gpu *gpu, const berth_cuda_units *units,
                                       const berth_gpu_code_options *options, berth_gpu_code **out, berth_error *err)
{
    static const berth_gpu_code_options defaults;
    const int64_t start = berth_now_ns();
    *out = NULL;
    berth_gpu_code *code = calloc(1, sizeof *code);
    if (code) code->modules = calloc((size_t)units->n_units + 1, sizeof(berth_gpu_module *));
    if (!code || !code->modules) {
        berth_gpu_code_unload(code);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the device code of cuda:%d",
                          (int)gpu->slot->info.ordinal);
    }
    code->gpu = gpu;
    if (!options) options = &defaults;
    code->target = (berth_gpu_code_target){gpu->slot->info.capability, options->batch_invariant};
    berth_status st = make_table(code, units, err);
    if (st == BERTH_OK) st = load_images(code, units, options, err);
    if (st == BERTH_OK) st = open_gemm(code, options, err);
    for (int32_t i = 0; i < code->n_modules && st == BERTH_OK; i++)
        st = find_kernels(code, &units->units[i], code->modules[i], err);
    if (st != BERTH_OK) {
        berth_gpu_code_unload(code);
        return st;
    }
    code->facts.load_ns = berth_now_ns() - start;
    *out = code;
    return BERTH_OK;
}

berth_status berth_gpu_code_load(berth_gpu *gpu, const berth_gpu_code_options *options, berth_gpu_code **out,
                                 berth_error *err)
{
    return berth_gpu_code_load_units(gpu, &berth_cuda_embedded, options, out, err);
}

void berth_gpu_code_unload(berth_gpu_code *code)
{
    if (!code) return;
    berth_gemm_close(code->gemm);
    drop_modules(code);
    free(code->modules);
    free(code->table);
    free(code);
}

const berth_gpu_code_facts *berth_gpu_code_about(const berth_gpu_code *code)
{
    return &code->facts;
}

berth_status berth_gpu_code_prepare(berth_gpu_code *code, berth_gpu_stream *s, berth_error *err)
{
    return code->gemm ? berth_gemm_prepare(code->gemm, s, err) : BERTH_OK;
}

void berth_gpu_code_forget(berth_gpu_code *code, berth_gpu_stream *s)
{
    if (code->gemm) berth_gemm_forget(code->gemm, s);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* "linear (fp32, bf16 -> fp32)" with the reason. */
static berth_status fail_op(const berth_gpu_code *code, const berth_op_call *call, const char *kernel, berth_error *err)
{
    char dtypes[96] = "";
    size_t n = 0;
    for (int32_t i = 0; i < call->n_in && n < sizeof dtypes - 16; i++)
        n +=
            (size_t)snprintf(dtypes + n, sizeof dtypes - n, "%s%s", i ? ", " : "", berth_dtype_name(call->in[i].dtype));
    const berth_gpu_info *info = &code->gpu->slot->info;
    BERTH_FAIL(err, BERTH_UNSUPPORTED,
               "cuda:%d (%s, sm_%d): no kernel%s%s for %s (%s -> %s) of this shape; place it on another device",
               (int)info->ordinal, info->name, (int)info->capability, kernel ? " " : "", kernel ? kernel : "",
               berth_op_infos[call->kind].name, dtypes, berth_dtype_name(call->out.dtype));
    if (err) err->device = info->ordinal;
    return BERTH_UNSUPPORTED;
}

static berth_status launch(berth_gpu_code *code, berth_gpu_stream *s, berth_cuda_launch *l, const berth_op_call *call,
                           berth_error *err)
{
    const berth_gpu_kernel *kernel = place_of(code, l->kernel);
    if (!kernel->function) return fail_op(code, call, l->kernel, err);
    const berth_gpu_grid grid = {.blocks = {l->grid[0], l->grid[1], l->grid[2]},
                                 .threads = {l->block[0], l->block[1], l->block[2]},
                                 .shared_bytes = l->shared_bytes};
    return berth_gpu_launch(s, kernel, &grid, (void *[]){l->args}, err);
}

berth_status berth_gpu_code_launch(berth_gpu_code *code, berth_gpu_stream *s, const berth_op_call *call,
                                   berth_error *err)
{
    berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
    const int32_t n = berth_cuda_launches(call, code->target.capability, launches);
    if (n < 0) return fail_op(code, call, NULL, err);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < n && st == BERTH_OK; i++) st = launch(code, s, &launches[i], call, err);
    return st;
}

bool berth_gpu_code_fuses(const berth_gpu_code *code, const berth_fused_call *call)
{
    berth_cuda_launch l;
    for (int32_t i = 0; i < call->n_linears && code->gemm; i++)
        if (berth_gpu_linear_is_gemm(call->linear[i], &code->target)) return false;
    return berth_cuda_fused_launch(call, code->target.capability, &l) == 1 && place_of(code, l.kernel)->function;
}

berth_status berth_gpu_code_run_fused(berth_gpu_code *code, berth_gpu_stream *s, const berth_fused_call *call,
                                      berth_error *err)
{
    berth_cuda_launch l;
    if (berth_cuda_fused_launch(call, code->target.capability, &l) != 1)
        return fail_op(code, call->linear[0], "for its neighbours too", err);
    return launch(code, s, &l, call->linear[0], err);
}

berth_status berth_gpu_code_run(berth_gpu_code *code, berth_gpu_stream *s, const berth_op_call *call, berth_error *err)
{
    if (code->gemm && berth_gpu_linear_is_gemm(call, &code->target))
        return berth_gpu_linear_run(code, code->gemm, code->target.capability, s, call, err);
    return berth_gpu_code_launch(code, s, call, err);
}

size_t berth_gpu_code_workspace(const berth_op_call *shapes, const berth_gpu_code_target *target)
{
    const size_t ours = berth_cuda_workspace(shapes), gemm = berth_gpu_linear_workspace(shapes, target);
    return ours > gemm ? ours : gemm;
}

static bool is_embedded(const char *kernel)
{
    for (int32_t i = 0; i < berth_cuda_embedded.n_units; i++)
        for (const char *const *name = berth_cuda_embedded.units[i].kernels; *name; name++)
            if (strcmp(*name, kernel) == 0) return true;
    return false;
}

bool berth_gpu_code_has(const berth_op_call *shapes, const berth_gpu_code_target *target)
{
    berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
    const int32_t n = berth_cuda_launches(shapes, target->capability, launches);
    for (int32_t i = 0; i < n; i++)
        if (!is_embedded(launches[i].kernel)) return false;
    return n >= 0;
}
