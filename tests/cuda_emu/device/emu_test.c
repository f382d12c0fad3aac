/* emu_test.c - the emulator itself: it runs whole kernels rightly and finds each fault of broken.cu, whatever the order of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/cuda_emu/device/emu.h"

enum { N = 96, SEEDS = 20 };

typedef struct broken_args {
    const float *x;
    float *y;
    int n;
} broken_args;

/* One block of N threads over exactly sized memory. */
static bool launch(const char *name, int n, uint32_t threads, size_t floats, uint64_t seed, float *y, char *error)
{
    float *x = aligned_alloc(64, floats * sizeof *x);
    for (size_t i = 0; i < floats; i++) x[i] = (float)(i % 17) - 8;
    broken_args args = {x, y, n};
    const emu_kernel *kernel = emu_find_kernel(name);
    if (!kernel) fail_msg("no kernel %s", name);
    assert_int_equal(kernel->args_bytes, sizeof args);
    emu_range ranges[] = {{x, floats * sizeof *x, false}, {y, N * sizeof *y, true}};
    if (threads == 32) ranges[1].bytes = 128 * sizeof *y;
    emu_launch_config config = {.kernel = kernel,
                                .grid = {1, 1, 1},
                                .block = {threads, 1, 1},
                                .shared_bytes = N * sizeof(float),
                                .args = &args,
                                .ranges = ranges,
                                .n_ranges = 2,
                                .seed = seed};
    bool ok = emu_launch(&config, error);
    free(x);
    return ok;
}

static void expect(const char *name, bool want_ok, const char *says, float (*at)(int i))
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        float *y = aligned_alloc(64, N * sizeof *y);
        char error[EMU_ERROR_BYTES] = "";
        bool ok = launch(name, 50, N, N, seed, y, error);
        if (ok != want_ok) fail_msg("%s, seed %d: %s", name, (int)seed, ok ? "passed" : error);
        if (!ok && (!strstr(error, says) || !strstr(error, name) || !strstr(error, "block (0,0,0), thread (")))
            fail_msg("%s, seed %d: '%s' does not say '%s'", name, (int)seed, error, says);
        for (int i = 0; ok && i < N; i++) assert_float_equal(y[i], at(i), 0);
        free(y);
    }
}

static float x_at(int i)
{
    return (float)(i % 17) - 8;
}
static float reversed(int i)
{
    return x_at(N - 1 - i);
}
static float of_rounds(int i)
{
    return 3 * x_at((i + 37) % N) + 3;
}
static float of_partner(int i)
{
    return x_at(i ^ 31);
}
static float of_copies(int i)
{
    return i < 2 ? 0 : x_at(N - 1 - i); /* the last copy brings two floats of four */
}
/* Element (2t, g) of matrices 0 and 1, the latter's rows 4 further on, and (2t + 1, g) of matrix 1. */
static float of_matrices(int i)
{
    int lane = i / 3, row = lane % 4 * 2, column = lane / 4;
    return (float)((row + i % 3 / 2) * 8 + column + (i % 3 > 0) * 32);
}
/* The warp's sum plus the same from the next lane less that of lane 3: the sum once. */
static float of_shuffles(int i)
{
    float sum = 0;
    for (int l = 0; l < 32; l++) sum += x_at(i / 32 * 32 + l);
    return sum;
}

static void whole_kernels_pass(void **state)
{
    (void)state;
    expect("whole_reverse", true, "", reversed);
    expect("whole_rounds", true, "", of_rounds);
    expect("warp_barrier", true, "", of_partner);
    expect("whole_shuffle", true, "", of_shuffles);
    expect("whole_copy", true, "", of_copies);
    expect("turned_matrices", true, "", of_matrices);
}

static void faults_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } faults[] = {
        {"no_barrier", " shared memory"}, /* by order: not yet written, or a race */
        {"warp_barrier_for_a_block", " shared memory"},
        {"write_after_read", "race: "},
        {"same_address", "race: writes what another thread writes"},
        {"barrier_in_a_branch", "divergent barrier"},
        {"two_barriers", "divergent barrier"},
        {"barrier_after_return", "divergent barrier"},
        {"shuffle_in_a_branch", "__shfl_xor_sync"},
        {"shuffle_after_return", "lane 31, which has ended or never was"},
        {"shuffle_from_outside", "not in the mask"},
        {"shuffle_without_oneself", "leaves out the caller's lane"},
        {"read_past_the_end", "reads 4 bytes"},
        {"write_past_the_end", "writes 4 bytes"},
        {"write_an_input", "no range that may be written"},
        {"read_misaligned", "not aligned to 16"},
        {"past_shared", "of which the launch has 384"},
        {"unwritten_shared", "that no thread wrote"},
        {"copy_not_waited", "that a queued copy is still to bring"},
        {"copy_without_barrier", " shared memory"}, /* by order: not yet written, still on its way, or a race */
        {"copy_over_readers", "(byte "},            /* by order: read before it came, or a race */
        {"copy_of_a_later_group", "that a queued copy is still to bring"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) expect(faults[i].name, false, faults[i].says, NULL);
}

static void fragments_are_laid_out_as_documented(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        float *y = aligned_alloc(64, 128 * sizeof *y);
        char error[EMU_ERROR_BYTES] = "";
        if (!launch("fragments", bf16, 32, 256 + 128, 5, y, error)) fail_msg("%s", error);
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++) {
                float sum = 1;
                for (int k = 0; k < 16; k++) sum += x_at(r * 16 + k) * x_at(256 + k * 8 + c);
                assert_float_equal(y[r * 8 + c], sum, 0);
            }
        free(y);
    }
}

static void impossible_launches_are_refused(void **state)
{
    (void)state;
    char error[EMU_ERROR_BYTES];
    emu_launch_config config = {.kernel = emu_find_kernel("whole_reverse"), .grid = {1, 1, 1}, .block = {1025, 1, 1}};
    assert_null(emu_find_kernel("nobody"));
    assert_false(emu_launch(&config, error));
    config.block[0] = 32, config.grid[1] = 65536;
    assert_false(emu_launch(&config, error));
    config.grid[1] = 1, config.shared_bytes = EMU_MAX_SHARED + 1;
    assert_false(emu_launch(&config, error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_kernels_pass),
        cmocka_unit_test(faults_are_found),
        cmocka_unit_test(fragments_are_laid_out_as_documented),
        cmocka_unit_test(impossible_launches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
