/* lane_probe_width.h - the probes for one vector width; see lane_probe.h. The including file defines BERTH_LANES
 * and BERTH_LANE_PROBE. */
#include "kernels/cpu/simd.h"
#include "probe/lane_probe.h"

enum { PROBE_SUMS = BERTH_LANES == 16 ? 24 : 12 };

static float probe_fma(size_t rounds, double *out_flops)
{
    vf sums[PROBE_SUMS], a = v_set(0.999f), b = v_set(1e-3f);
    __asm__("" : "+x"(a), "+x"(b)); /* values the compiler cannot know */
    BERTH_UNROLL for (int i = 0; i < PROBE_SUMS; i++) sums[i] = v_set((float)i);
    for (size_t round = 0; round < rounds; round++) {
        for (int twice = 0; twice < 24 / PROBE_SUMS; twice++) {
            BERTH_UNROLL for (int i = 0; i < PROBE_SUMS; i++) sums[i] = v_fma(sums[i], a, b);
        }
    }
    vf total = sums[0];
    BERTH_UNROLL for (int i = 1; i < PROBE_SUMS; i++) total += sums[i];
    *out_flops = (double)rounds * 24 * 2 * BERTH_LANES;
    return v_sum(total);
}

BERTH_INLINE float probe_read_way(const char *data, size_t n, const int way)
{
    const size_t step = 8 * BERTH_LANES * sizeof(float), streams = way == 2 ? 4 : 1, part = n / streams;
    vu sums[8] = {{0}};
    for (size_t at = 0; at < part; at += step / streams) {
        BERTH_UNROLL for (size_t i = 0; i < 8; i++)
        {
            const char *p = data + (i % streams) * part + at + i / streams * BERTH_LANES * sizeof(float);
            sums[i] ^= (vu)v_load(p);
            if (way == 1 && i * BERTH_LANES % 16 == 0) __builtin_prefetch(p + 2048, 0, 3);
        }
    }
    vu total = sums[0];
    BERTH_UNROLL for (int i = 1; i < 8; i++) total ^= sums[i];
    return (float)total[0];
}

static float probe_read(const void *data, size_t n, int way)
{
    if (way == 0) return probe_read_way(data, n, 0);
    return way == 1 ? probe_read_way(data, n, 1) : probe_read_way(data, n, 2);
}

#define BERTH_LANE_PROBE_STRING_(x) #x
#define BERTH_LANE_PROBE_STRING(x)  BERTH_LANE_PROBE_STRING_(x)

const berth_lane_probe BERTH_LANE_PROBE = {BERTH_LANE_PROBE_STRING(BERTH_LANES) " lanes", probe_fma, probe_read};
