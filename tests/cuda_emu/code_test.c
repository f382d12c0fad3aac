/* code_test.c - berth's kernels by the way that the engine goes: loaded on emulated GPUs from this build's images
 * and from source, every op queued on a stream, against the reference. */
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control.h"
#include "cuda/code_internal.h"
#include "kernels/cuda/units.h"
#include "kernels/test_cases.h"
#include "tests/failing.h"

typedef struct fixture {
    emu_control control;
    berth_cuda *cuda;
    berth_gpu *gpu; /* what the code is loaded on */
    berth_gpu_code *code;
} fixture;

static void begin(fixture *f, const char *config)
{
    emu_control_open(&f->control);
    f->control.reset(config);
    berth_error err;
    if (berth_cuda_open(NULL, &f->cuda, &err) != BERTH_OK) fail_msg("%s", err.message);
    if (berth_gpu_open(f->cuda, 0, 0, &f->gpu, &err) != BERTH_OK) fail_msg("%s", err.message);
    f->code = NULL;
}

static void load(fixture *f, const berth_gpu_code_options *options)
{
    berth_error err;
    if (berth_gpu_code_load(f->gpu, options, &f->code, &err) != BERTH_OK) fail_msg("%s", err.message);
}

/* Nothing is left behind and nothing was wrong. */
static void end(fixture *f)
{
    berth_gpu_code_unload(f->code);
    berth_gpu_close(f->gpu);
    emu_report r;
    f->control.report(&r);
    if (r.misuses) fail_msg("%d misuses, the last: %s", (int)r.misuses, r.misuse);
    assert_int_equal(r.contexts + r.allocations + r.modules + r.streams + r.pinned, 0);
    berth_cuda_close(f->cuda);
    emu_control_close(&f->control);
}

/* From sm_80 on all of them; before it, those of bf16's tensor cores are not there. */
static void check_kernels(const berth_gpu_code_facts *facts, int32_t capability)
{
    int32_t n = 0;
    for (int32_t i = 0; i < berth_cuda_embedded.n_units; i++)
        for (const char *const *name = berth_cuda_embedded.units[i].kernels; *name; name++) n++;
    assert_true(n > 20);
    if (capability >= 80) assert_int_equal(facts->n_kernels, n);
    assert_true(facts->n_kernels > n / 2 && facts->n_kernels <= n);
}

/* ---- an op on the GPU, and on the reference ---------------------------------------------------------------------- */

static size_t tensor_bytes(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

/* Angles and statistics are fp32 whatever the activations are. */
static bool is_narrowed(const berth_op_call *call, int32_t i)
{
    if (call->in[i].dtype != BERTH_F32 || berth_op_infos[call->kind].weights >> i & 1) return false;
    return call->kind != BERTH_OP_ROPE_TABLE && !(call->kind == BERTH_OP_ROPE && i == 1) &&
           !(call->kind == BERTH_OP_LOGIT_BEST && i == 2);
}

static void narrow_tensor(berth_tensor *t, berth_dtype dtype, void **owned)
{
    const size_t n = (size_t)berth_tensor_elements(t);
    *owned = aligned_alloc(64, (n * sizeof(float) / 64 + 1) * 64);
    if (t->data) berth_narrow_f32(*owned, t->data, dtype, n);
    t->data = *owned;
    t->dtype = dtype;
}

/* The case with its activations, and its output with what a state held, in `dtype`. */
typedef struct host_call {
    berth_bed bed;
    berth_op_call call;
    void *owned[BERTH_OP_INPUTS + 1];
    float *state;
} host_call;

static void host_call_init(host_call *h, const berth_op_case *c, berth_dtype dtype)
{
    *h = (host_call){0};
    h->state = berth_op_case_prepare(&h->bed, c);
    h->call = h->bed.call;
    h->call.attrs = &h->bed.attrs;
    for (int32_t i = 0; i < h->call.n_in; i++)
        if (is_narrowed(&h->bed.call, i)) narrow_tensor(&h->call.in[i], dtype, &h->owned[i]);
    const bool exact =
        c->kind == BERTH_OP_ROPE_TABLE || c->kind == BERTH_OP_LOGIT_STATS || c->kind == BERTH_OP_LOGIT_BEST;
    h->call.out.data = h->state;
    narrow_tensor(&h->call.out, exact ? BERTH_F32 : dtype, &h->owned[BERTH_OP_INPUTS]);
}

static void host_call_deinit(host_call *h)
{
    for (int32_t i = 0; i <= BERTH_OP_INPUTS; i++) free(h->owned[i]);
    free(h->state);
    berth_bed_deinit(&h->bed);
}

static void run_reference(host_call *h)
{
    h->call.workspace_bytes = berth_kernels_workspace(berth_kernels_ref(), &h->call, 1);
    h->call.workspace = aligned_alloc(64, (h->call.workspace_bytes / 64 + 1) * 64);
    berth_kernels_run(berth_kernels_ref(), &h->call);
    free(h->call.workspace);
}

static void *device_pointer(berth_gpu_ptr p)
{
    return (void *)(uintptr_t)p; // NOLINT(performance-no-int-to-ptr)
}

static void must(berth_status st, const berth_error *err, const char *name)
{
    if (st != BERTH_OK) fail_msg("%s: %s", name, err->message);
}

/* Copies the call to memory of its own on the GPU, queues it and gives the output's bytes. */
static void *run_on_gpu(const fixture *f, const host_call *h, const char *name, const berth_gpu_code_target *target)
{
    berth_error err;
    berth_gpu *gpu;
    berth_gpu_stream *s;
    berth_op_call call = h->call;
    const size_t workspace = berth_gpu_code_workspace(&call, target);
    size_t bytes = tensor_bytes(&call.out) + workspace + (BERTH_OP_INPUTS + 3) * BERTH_GPU_ALIGN;
    for (int32_t i = 0; i < call.n_in; i++) bytes += tensor_bytes(&call.in[i]);
    must(berth_gpu_open(f->cuda, 0, bytes, &gpu, &err), &err, name);
    must(berth_gpu_stream_create(gpu, &s, &err), &err, name);
    must(berth_gpu_code_prepare(f->code, s, &err), &err, name);
    berth_gpu_ptr at;
    for (int32_t i = 0; i <= call.n_in; i++) {
        berth_tensor *t = i < call.n_in ? &call.in[i] : &call.out;
        must(berth_gpu_take(gpu, tensor_bytes(t), &at, &err), &err, name);
        must(berth_gpu_upload(s, at, t->data, tensor_bytes(t), &err), &err, name);
        t->data = device_pointer(at);
    }
    must(berth_gpu_take(gpu, workspace, &at, &err), &err, name);
    call.workspace = device_pointer(at);
    call.workspace_bytes = workspace;
    if (!berth_gpu_code_has(&call, target)) fail_msg("%s is foretold to have no kernel", name);
    must(berth_gpu_code_run(f->code, s, &call, &err), &err, name);
    void *out = malloc(tensor_bytes(&call.out) + 1);
    must(berth_gpu_download(s, out, (berth_gpu_ptr)(uintptr_t)call.out.data, tensor_bytes(&call.out), &err), &err,
         name);
    must(berth_gpu_stream_wait(s, &err), &err, name);
    berth_gpu_code_forget(f->code, s);
    berth_gpu_stream_destroy(s);
    berth_gpu_close(gpu);
    return out;
}

/* Two roundings to the storage dtype of values that are near each other may lie one step apart. */
static const double step[BERTH_DTYPE_COUNT] = {[BERTH_F16] = 1.0 / 1024, [BERTH_BF16] = 1.0 / 128};
#define F16_STEP 6e-8

static void check(const berth_op_case *c, const berth_tensor *out, const void *got_bytes)
{
    /* Attention's weights are rounded for tensor cores, each by half a step; values are at most 1. */
    const bool rounds = c->kind == BERTH_OP_ATTENTION_FULL || c->kind == BERTH_OP_ATTENTION_PAGED;
    const size_t n = (size_t)berth_tensor_elements(out);
    float *got = malloc(n * sizeof *got + 1), *want = malloc(n * sizeof *want + 1);
    berth_widen_f32(got, got_bytes, out->dtype, n);
    berth_widen_f32(want, out->data, out->dtype, n);
    for (size_t i = 0; i < n; i++) {
        if (got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))) continue;
        const double size = fabs((double)want[i]), error = fabs((double)got[i] - (double)want[i]);
        if (!(error <= c->tolerance * fmax(1, size) + step[out->dtype] * (size + rounds / 2.0) +
                           (out->dtype == BERTH_F16 ? F16_STEP : 0)))
            fail_msg("%s, %s: element %zu is %.9g, not %.9g", c->name, berth_dtype_name(out->dtype), i, (double)got[i],
                     (double)want[i]);
    }
    free(got);
    free(want);
}

static void run_cases(const fixture *f, berth_dtype dtype, int32_t capability)
{
    for (size_t i = 0; i < berth_n_op_cases; i++) {
        const berth_op_case *c = &berth_op_cases[i];
        if (dtype != BERTH_F32 && c->kind == BERTH_OP_ROPE_TABLE) continue; /* has no narrow operand */
        host_call h;
        host_call_init(&h, c, dtype);
        void *got = run_on_gpu(f, &h, c->name, &(berth_gpu_code_target){.capability = capability});
        run_reference(&h);
        check(c, &h.call.out, got);
        free(got);
        host_call_deinit(&h);
    }
}

static void every_op_agrees_with_ref(void **state)
{
    (void)state;
    static const struct {
        int32_t capability;
        berth_dtype dtype;
    } runs[] = {{70, BERTH_F16}, {75, BERTH_F32}, {80, BERTH_BF16}, {90, BERTH_BF16}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        fixture f;
        char config[32];
        snprintf(config, sizeof config, "cap=%d", (int)runs[i].capability);
        begin(&f, config);
        load(&f, &(berth_gpu_code_options){.cache_dir = "", .cublas = ""});
        check_kernels(berth_gpu_code_about(f.code), runs[i].capability);
        run_cases(&f, runs[i].dtype, runs[i].capability);
        end(&f);
    }
}

/* Enough rows for cuBLAS, with and without a bias: right, and a row's bits are its own where that was asked for. */
static void large_products_go_to_cublas(void **state)
{
    (void)state;
    for (int i = 0; i < 15; i++) {
        const berth_dtype dtype = (berth_dtype[]){BERTH_F32, BERTH_F16, BERTH_BF16}[i % 3];
        const bool bias = i / 3 % 2 || i >= 12, invariant = i / 6 == 1;
        const berth_op_case c = {"many rows", BERTH_OP_LINEAR, berth_build_linear, {260, 48, 33, bias}, dtype, 4e-6};
        const berth_gpu_code_target target = {.capability = 86, .batch_invariant = invariant};
        fixture f;
        begin(&f, i < 12 ? "cap=86;driver=13000" : "cap=86;driver=13000;cublaslt=0"); /* then the bias comes first */
        load(&f, &(berth_gpu_code_options){.batch_invariant = invariant, .cache_dir = ""});
        assert_int_equal(berth_gpu_code_about(f.code)->has_cublas, !invariant);
        host_call h;
        host_call_init(&h, &c, dtype);
        assert_int_equal(berth_gpu_code_workspace(&h.call, &target) > 0, !invariant);
        void *got = run_on_gpu(&f, &h, c.name, &target);
        run_reference(&h);
        check(&c, &h.call.out, got);
        free(got);
        host_call_deinit(&h);
        end(&f);
    }
}

/* Its absence is noted and is no error. */
static void without_cublas_our_kernels_do_it_all(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "cap=80");
    load(&f, &(berth_gpu_code_options){.cache_dir = "", .cublas = "no/such.so"});
    assert_false(berth_gpu_code_about(f.code)->has_cublas);
    if (!strstr(berth_gpu_code_about(f.code)->note, "no/such.so")) fail_msg("%s", berth_gpu_code_about(f.code)->note);
    end(&f);
}

/* ---- whence the kernels come ------------------------------------------------------------------------------------- */

/* A folder of this test's own, removed with what is in it. */
static void make_folder(char *folder, size_t size)
{
    snprintf(folder, size, "code_test.XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static size_t list_folder(const char *folder, char *out_path, size_t size, bool remove)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        n++;
        assert_true((size_t)snprintf(out_path, size, "%s/%s", folder, e->d_name) < size);
        if (remove) assert_int_equal(unlink(out_path), 0);
    }
    if (dir) closedir(dir);
    if (remove) rmdir(folder);
    return n;
}

/* Loads on a GPU of `config`; what was found out, and that the kernels are all there. */
static berth_gpu_code_facts load_once(const char *config, const berth_gpu_code_options *options)
{
    fixture f;
    begin(&f, config);
    load(&f, options);
    const berth_gpu_code_facts facts = *berth_gpu_code_about(f.code);
    check_kernels(&facts, berth_gpu_about(f.gpu)->capability);
    end(&f);
    return facts;
}

static void what_is_compiled_is_kept(void **state)
{
    (void)state;
    char folder[64], nested[128], path[512];
    make_folder(folder, sizeof folder);
    snprintf(nested, sizeof nested, "%s/a", folder);
    const berth_gpu_code_options options = {.compile = true, .cache_dir = nested};
    berth_gpu_code_facts facts = load_once("cap=70", &options);
    assert_int_equal(facts.origin, BERTH_GPU_CODE_COMPILED);
    assert_int_equal(facts.nvrtc_version / 1000, 12);
    assert_string_equal(facts.note, "");
    assert_int_equal(load_once("cap=70", &options).origin, BERTH_GPU_CODE_CACHED);
    /* another architecture, and another compiler, are other files */
    assert_int_equal(load_once("cap=80", &options).origin, BERTH_GPU_CODE_COMPILED);
    assert_int_equal(load_once("cap=80;driver=13000", &options).origin, BERTH_GPU_CODE_COMPILED);
    assert_int_equal(load_once("cap=70", &options).origin, BERTH_GPU_CODE_CACHED);
    assert_int_equal(list_folder(nested, path, sizeof path, true), 3);
    list_folder(folder, path, sizeof path, true);
}

static void spoil(const char *path, long at, long cut)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int byte = fgetc(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
    if (cut >= 0) assert_int_equal(truncate(path, cut), 0);
}

static void a_damaged_file_is_replaced(void **state)
{
    (void)state;
    static const struct {
        long at, cut;
    } damages[] = {{0, -1}, {20, -1}, {100, -1}, {130, -1}, {-1, -1}, {-100000, -1}, {0, 0}, {0, 90}, {0, 5000}};
    char folder[64], path[512];
    make_folder(folder, sizeof folder);
    const berth_gpu_code_options options = {.compile = true, .cache_dir = folder};
    load_once("cap=75", &options);
    assert_int_equal(list_folder(folder, path, sizeof path, false), 1);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        spoil(path, damages[i].at, damages[i].cut);
        assert_int_equal(load_once("cap=75", &options).origin, BERTH_GPU_CODE_COMPILED);
        assert_int_equal(load_once("cap=75", &options).origin, BERTH_GPU_CODE_CACHED);
    }
    list_folder(folder, path, sizeof path, true);
}

/* The build's own images: for the GPUs that they are for, and drivers as new as the toolkit; all others compile. */
static void images_of_the_build_serve_their_gpus(void **state)
{
    (void)state;
    const int32_t toolkit = berth_cuda_embedded.toolkit;
    if (!toolkit) skip();                                             /* built without BERTH_CUDA_IMAGES */
    static const int32_t gpus[] = {75, 80, 86, 87, 89, 90, 100, 120}; /* the last two by PTX */
    char config[64];
    for (size_t i = 0; i < sizeof gpus / sizeof gpus[0]; i++) {
        snprintf(config, sizeof config, "driver=%d;cap=%d", (int)toolkit, (int)gpus[i]);
        const berth_gpu_code_facts facts = load_once(config, &(berth_gpu_code_options){.cache_dir = ""});
        assert_int_equal(facts.origin, BERTH_GPU_CODE_BUILT_IN);
        assert_int_equal(facts.nvrtc_version, 0);
    }
    snprintf(config, sizeof config, "driver=%d;cap=80", (int)toolkit - 1000);
    assert_int_equal(load_once(config, &(berth_gpu_code_options){.cache_dir = ""}).origin, BERTH_GPU_CODE_COMPILED);
    fixture f;
    snprintf(config, sizeof config, "driver=%d;cap=80", (int)toolkit);
    begin(&f, config);
    load(&f, &(berth_gpu_code_options){.cache_dir = "", .cublas = ""});
    run_cases(&f, BERTH_BF16, 80);
    end(&f);
}

/* Of a fatbin for some GPUs, each takes what runs there: the newest machine code of its generation, else PTX, else
 * nothing. Made by nvcc for this test, from the smallest unit, so that it runs in builds without images too. */
static void a_fatbin_serves_the_gpus_that_it_has_code_for(void **state)
{
    (void)state;
    if (!TEST_FATBIN[0]) skip(); /* no nvcc */
    static const struct {
        int32_t capability, taken; /* 0: nothing */
    } rows[] = {{70, 0}, {72, 0}, {75, 75}, {80, 0}, {86, 86}, {87, 86}, {89, 86}, {90, 90}, {100, 100}, {120, 120}};
    fixture f;
    emu_control keeper; /* of the emulator, which is to know it in each row */
    emu_control_open(&keeper);
    void *symbol = dlsym(keeper.opened, "emu_know_fatbin"), *image = read_image(TEST_FATBIN);
    emu_know_fatbin_fn *know;
    assert_non_null(symbol);
    memcpy(&know, &symbol, sizeof know);
    struct stat file;
    assert_int_equal(stat(TEST_FATBIN, &file), 0);
    know(TEST_FATBIN_UNIT, image, (uint64_t)file.st_size, TEST_TOOLKIT);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const int32_t capability = rows[i / 2].capability, taken = i % 2 ? 0 : rows[i / 2].taken;
        char config[64];
        snprintf(config, sizeof config, "driver=%d;cap=%d", TEST_TOOLKIT - (i % 2 ? 1000 : 0), (int)capability);
        begin(&f, config);
        berth_gpu_module *m = NULL;
        berth_error err = {0};
        const berth_status st = berth_gpu_module_load(f.gpu, image, &m, &err);
        emu_report r;
        f.control.report(&r);
        if (st != (taken ? BERTH_OK : BERTH_UNSUPPORTED) || (int32_t)r.architecture != taken)
            fail_msg("%s: %d, sm_%d taken: %s", config, (int)st, (int)r.architecture, err.message);
        berth_gpu_module_unload(m);
        end(&f);
    }
    know(NULL, NULL, 0, 0);
    emu_control_close(&keeper);
    free(image);
}

/* Whole and with the right key, but images of the GPU's that another emulator or driver took: they are made anew. */
static void what_the_driver_does_not_take_is_made_anew(void **state)
{
    (void)state;
    char folder[64], path[512];
    make_folder(folder, sizeof folder);
    const berth_gpu_code_options options = {.compile = true, .cache_dir = folder};
    load_once("cap=75", &options);
    list_folder(folder, path, sizeof path, false);
    berth_gpu_cache cache;
    berth_gpu_images images;
    char made_of[256];
    snprintf(made_of, sizeof made_of, "berth %s, sources %s, sm_75, NVRTC 12990", BERTH_VERSION,
             berth_cuda_embedded.digest);
    berth_gpu_cache_init(&cache, folder, 75, made_of);
    assert_string_equal(cache.path, path);
    assert_true(berth_gpu_cache_read(&cache, berth_cuda_embedded.n_units, &images));
    memset(images.bytes.data, 0, 64);
    assert_int_equal(berth_gpu_cache_write(&cache, &images, NULL), BERTH_OK);
    berth_gpu_images_deinit(&images);
    assert_int_equal(load_once("cap=75", &options).origin, BERTH_GPU_CODE_COMPILED);
    assert_int_equal(load_once("cap=75", &options).origin, BERTH_GPU_CODE_CACHED);
    list_folder(folder, path, sizeof path, true);
}

static void a_cache_that_cannot_be_written_is_no_error(void **state)
{
    (void)state;
    const berth_gpu_code_options options = {.compile = true, .cache_dir = "/dev/null/cache"};
    const berth_gpu_code_facts facts = load_once("cap=70", &options);
    assert_int_equal(facts.origin, BERTH_GPU_CODE_COMPILED);
    if (!strstr(facts.note, "compiled at every start") || !strstr(facts.note, "/dev/null/cache"))
        fail_msg("the note is \"%s\"", facts.note);
}

static void the_cache_lies_where_the_user_says(void **state)
{
    (void)state;
    berth_gpu_cache cache;
    char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    xdg = xdg ? strdup(xdg) : NULL;
    home = home ? strdup(home) : NULL;
    setenv("HOME", "/home/me", 1);
    setenv("XDG_CACHE_HOME", "/elsewhere", 1);
    berth_gpu_cache_init(&cache, NULL, 70, "x");
    assert_memory_equal(cache.path, "/elsewhere/berth/sm_70-", 23);
    setenv("XDG_CACHE_HOME", "relative", 1);
    berth_gpu_cache_init(&cache, NULL, 70, "x");
    assert_memory_equal(cache.path, "/home/me/.cache/berth/sm_70-", 28);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    berth_gpu_cache_init(&cache, NULL, 70, "x");
    assert_string_equal(cache.path, "");
    berth_gpu_cache_init(&cache, "", 70, "x");
    assert_string_equal(cache.path, "");
    if (xdg) setenv("XDG_CACHE_HOME", xdg, 1);
    if (home) setenv("HOME", home, 1);
    free(xdg);
    free(home);
}

static void fails(fixture *f, const berth_cuda_units *units, const berth_gpu_code_options *options, berth_status want,
                  const char *const *words)
{
    berth_error err = {0};
    const berth_status st = berth_gpu_code_load_units(f->gpu, units, options, &f->code, &err);
    assert_int_equal(st, want);
    assert_int_equal(err.status, want);
    assert_null(f->code);
    for (; *words; words++)
        if (!strstr(err.message, *words)) fail_msg("\"%s\" is not in: %s", *words, err.message);
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "cap=70;name=Tesla V100");
    fails(&f, &berth_cuda_embedded, &(berth_gpu_code_options){.compile = true, .cache_dir = "", .nvrtc = "no/such.so"},
          BERTH_UNSUPPORTED, (const char *[]){"cuda:0 (Tesla V100, sm_70)", "NVRTC", "no/such.so", NULL});
    /* text that this emulator's NVRTC has no kernels for: as an error in the source */
    berth_cuda_unit other = berth_cuda_embedded.units[0];
    other.source = "int x;";
    other.image = NULL;
    const berth_cuda_units units = {.units = &other, .n_units = 1, .digest = "other"};
    fails(&f, &units, &(berth_gpu_code_options){.cache_dir = ""}, BERTH_INTERNAL,
          (const char *[]){other.name, "does not compile", "error", NULL});
    end(&f);
    /* NVRTC 13 is not for such an old GPU, and the driver's own version has one that is */
    const berth_gpu_code_facts facts =
        load_once("cap=70;driver=13000", &(berth_gpu_code_options){.compile = true, .cache_dir = ""});
    assert_int_equal(facts.nvrtc_version / 1000, 12);
}

static berth_status load_and_unload(void *arg, berth_error *err)
{
    fixture *f = arg;
    const berth_gpu_code_options options = {.compile = true, .cache_dir = ""};
    const berth_status st = berth_gpu_code_load(f->gpu, &options, &f->code, err);
    berth_gpu_code_unload(f->code);
    f->code = NULL;
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "cap=80");
    assert_true(failing_each("loading kernels", load_and_unload, &f) > 10);
    end(&f);
}

static void an_op_without_a_kernel_is_refused(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "cap=80");
    load(&f, &(berth_gpu_code_options){.cache_dir = ""});
    berth_gpu_stream *s;
    berth_error err;
    must(berth_gpu_stream_create(f.gpu, &s, &err), &err, "a stream");
    const berth_op_attrs attrs = {0};
    const berth_op_call call = {.kind = BERTH_OP_COPY,
                                .attrs = &attrs,
                                .n_in = 1,
                                .in = {{.dtype = BERTH_BF16, .n_dims = 1, .dims = {8}}},
                                .out = {.dtype = BERTH_F32, .n_dims = 1, .dims = {8}}};
    assert_false(berth_gpu_code_has(&call, &(berth_gpu_code_target){.capability = 80}));
    assert_int_equal(berth_gpu_code_run(f.code, s, &call, &err), BERTH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "copy (bf16 -> f32)"));
    berth_gpu_stream_destroy(s);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_compiled_is_kept),
        cmocka_unit_test(images_of_the_build_serve_their_gpus),
        cmocka_unit_test(a_fatbin_serves_the_gpus_that_it_has_code_for),
        cmocka_unit_test(a_damaged_file_is_replaced),
        cmocka_unit_test(what_the_driver_does_not_take_is_made_anew),
        cmocka_unit_test(a_cache_that_cannot_be_written_is_no_error),
        cmocka_unit_test(the_cache_lies_where_the_user_says),
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(an_op_without_a_kernel_is_refused),
        cmocka_unit_test(every_op_agrees_with_ref),
        cmocka_unit_test(large_products_go_to_cublas),
        cmocka_unit_test(without_cublas_our_kernels_do_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
