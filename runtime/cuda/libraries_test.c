/* libraries_test.c - cuBLAS, NCCL and NVRTC: each absent, damaged or foreign file is one line; where the real library is
 * found it opens, and NVRTC compiles. What is not installed is SKIP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cuda/cublas.h"
#include "cuda/nccl.h"
#include "cuda/nvrtc.h"

typedef berth_status open_fn(const char *path, berth_error *err);

static berth_status open_cublas(const char *path, berth_error *err)
{
    berth_cublas blas;
    const berth_status st = berth_cublas_open(&blas, path, 13000, 80, err);
    berth_cublas_close(&blas);
    return st;
}

static berth_status open_nccl(const char *path, berth_error *err)
{
    berth_nccl nccl;
    const berth_status st = berth_nccl_open(&nccl, path, err);
    if (st == BERTH_OK) assert_true(nccl.version >= BERTH_NCCL_MIN_VERSION);
    berth_nccl_close(&nccl);
    return st;
}

static berth_status open_nvrtc(const char *path, berth_error *err)
{
    berth_nvrtc rtc;
    const berth_status st = berth_nvrtc_open(&rtc, path, 13000, 80, err);
    berth_nvrtc_close(&rtc);
    return st;
}

static open_fn *const openers[] = {open_cublas, open_nccl, open_nvrtc};
static const char *const whats[] = {"cuBLAS", "NCCL", "NVRTC"};

static void check_line(const berth_error *err, const char *what, const char *words)
{
    if (!strstr(err->message, what) || !strstr(err->message, words) || strchr(err->message, '\n'))
        fail_msg("%s: %s", what, err->message);
}

static void what_is_no_such_library_is_one_line(void **state)
{
    (void)state;
    char text[512];
    snprintf(text, sizeof text, "%s/CMakeLists.txt", BERTH_SOURCE_DIR);
    for (size_t i = 0; i < 3; i++) {
        berth_error err = {0};
        assert_int_equal(openers[i]("no/such/file.so", &err), BERTH_NOT_FOUND);
        check_line(&err, whats[i], "give another path");
        assert_int_equal(openers[i](text, &err), BERTH_DEVICE_ERROR);
        check_line(&err, whats[i], "does not load");
        assert_int_equal(openers[i]("/proc/self/exe", &err), BERTH_DEVICE_ERROR); /* no library, but ELF */
        check_line(&err, whats[i], "does not load");
    }
}

/* Present: it opens. Absent: the line says what to install. */
static void what_is_installed_opens(void **state)
{
    (void)state;
    int n_found = 0;
    for (size_t i = 0; i < 3; i++) {
        berth_error err = {0};
        const berth_status st = openers[i](NULL, &err);
        n_found += st == BERTH_OK;
        print_message("%s: %s\n", whats[i], st == BERTH_OK ? "opens" : err.message);
        if (st == BERTH_OK) continue;
        assert_int_equal(st, BERTH_NOT_FOUND);
        check_line(&err, whats[i], "install");
    }
    if (n_found == 0) skip();
}

static void nvrtc_compiles_and_says_what_is_wrong(void **state)
{
    (void)state;
    berth_nvrtc rtc;
    berth_error err = {0};
    const berth_status found = berth_nvrtc_open(&rtc, NULL, 13000, 80, &err);
    if (found == BERTH_NOT_FOUND) skip();
    assert_int_equal(found, BERTH_OK);
    berth_buffer image = {0};
    const char *good = "extern \"C\" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }";
    assert_int_equal(berth_nvrtc_compile(&rtc, good, "twice.cu", 80, &image, &err), BERTH_OK);
    assert_true(image.len > 64);
    assert_memory_equal(image.data, "\177ELF", 4);
    const size_t before = image.len;
    assert_int_equal(berth_nvrtc_compile(&rtc, "nonsense", "bad.cu", 80, &image, &err), BERTH_INTERNAL);
    assert_int_equal(image.len, before);
    assert_non_null(strstr(err.message, "bad.cu"));
    berth_buffer_deinit(&image);
    const int version = rtc.version;
    berth_nvrtc_close(&rtc);
    assert_int_equal(berth_nvrtc_open(&rtc, NULL, 13000, 61 + 1000, &err), BERTH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "does not compile for sm_1061"));
    assert_true(version >= 12000);
}

static void codes_have_names(void **state)
{
    (void)state;
    berth_error err = {0};
    assert_int_equal(berth_cublas_status(0, "cublasGemmEx", 1, &err), BERTH_OK);
    assert_int_equal(berth_cublas_status(3, "cublasCreate", 1, &err), BERTH_OUT_OF_MEMORY);
    assert_int_equal(berth_cublas_status(13, "cublasGemmEx", 1, &err), BERTH_DEVICE_ERROR);
    assert_string_equal(err.message, "cuda:1: cublasGemmEx failed: CUBLAS_STATUS_EXECUTION_FAILED (13)");
    assert_string_equal(err.native_api, "cublas");
    assert_int_equal(err.native_code, 13);
    assert_int_equal(err.device, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_such_library_is_one_line),
        cmocka_unit_test(what_is_installed_opens),
        cmocka_unit_test(nvrtc_compiles_and_says_what_is_wrong),
        cmocka_unit_test(codes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
