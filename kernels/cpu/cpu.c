/* cpu.c - which set of CPU kernels this process uses: what the processor can run, and where two sets are plausible, the
 * one that is clearly faster in a trial of a few milliseconds. Sets differ in the last bits, so a choice must not
 * depend on chance: the wider set is kept unless the narrower one wins by a margin that noise does not give. */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cpu/cpu_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14 does not know "f16c" by name. Source: Intel SDM, CPUID leaf 1, ECX bit 29. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

#define AVX2_SET   (&berth_cpu_set_avx2)
#define AVX512_SET (&berth_cpu_set_avx512)

#else

static bool has_avx2(void)
{
    return false;
}

static bool has_avx512(void)
{
    return false;
}

#define AVX2_SET   NULL
#define AVX512_SET NULL

#endif

enum { TRIAL_ROWS = 48, TRIAL_IN = 256, TRIAL_OUT = 64, TRIAL_ROUNDS = 9 };

/* Fastest of some rounds of a small fp32 product, in nanoseconds. Memory is the caller's stack. */
static int64_t trial_ns(const berth_kernels *set, berth_op_call *call)
{
    int64_t best = INT64_MAX;
    for (int i = 0; i < TRIAL_ROUNDS; i++) {
        int64_t begin = berth_now_ns();
        for (int j = 0; j < 8; j++) set->run[BERTH_OP_LINEAR](call);
        int64_t ns = berth_now_ns() - begin;
        if (ns < best) best = ns;
    }
    return best;
}

/* AVX-512 runs at half rate, or slows the clock, on some processors; then 8 lanes are as good and their set has the
 * better tiles. */
static bool narrower_is_faster(const berth_kernels *narrow, const berth_kernels *wide)
{
    static const berth_op_attrs attrs = {0};
    _Alignas(64) float x[TRIAL_ROWS * TRIAL_IN], w[TRIAL_OUT * TRIAL_IN], y[TRIAL_ROWS * TRIAL_OUT];
    _Alignas(64) float workspace[TRIAL_ROWS * TRIAL_IN + 8 * 512 + TRIAL_OUT + 64];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = 0.5f;
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) w[i] = 0.25f;
    berth_op_call call = {
        .kind = BERTH_OP_LINEAR,
        .attrs = &attrs,
        .in = {{x, BERTH_F32, 2, {TRIAL_ROWS, TRIAL_IN}}, {w, BERTH_F32, 2, {TRIAL_OUT, TRIAL_IN}}},
        .n_in = 2,
        .out = {y, BERTH_F32, 2, {TRIAL_ROWS, TRIAL_OUT}},
        .workspace = workspace,
        .workspace_bytes = sizeof workspace,
    };
    (void)trial_ns(wide, &call); /* brings the clock to where wide vectors leave it, and the code into the caches */
    int64_t narrow_ns = trial_ns(narrow, &call), wide_ns = trial_ns(wide, &call);
    return (double)narrow_ns * 1.2 < (double)wide_ns;
}

static const berth_kernels *best_set;

static void choose(void)
{
    best_set = &berth_cpu_set_generic;
    if (has_avx2()) best_set = AVX2_SET;
    if (has_avx512() && !narrower_is_faster(AVX2_SET, AVX512_SET)) best_set = AVX512_SET;
}

const berth_kernels *berth_kernels_cpu(const char *want)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!want) {
        pthread_once(&once, choose);
        return best_set;
    }
    if (strcmp(want, "ref") == 0) return berth_kernels_ref();
    if (strcmp(want, "generic") == 0) return &berth_cpu_set_generic;
    if (strcmp(want, "avx2") == 0 && has_avx2()) return AVX2_SET;
    if (strcmp(want, "avx512") == 0 && has_avx512()) return AVX512_SET;
    return NULL;
}
