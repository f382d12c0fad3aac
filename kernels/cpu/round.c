/* round.c - weights rounded to 16 bits on any processor: base/dtype.h's two steps, through fp32. */
#include "kernels/cpu/cpu_internal.h"

#define F16_MAX_BITS 0x477FE000 /* of 65504 */

enum { CHUNK = 1024 };

/* Four at a time, without branches: comparing the bits of magnitudes finds infinities and NaN, too. */
static bool any_over(const float *x, size_t n)
{
    typedef int32_t four __attribute__((vector_size(16)));
    const four most = {F16_MAX_BITS, F16_MAX_BITS, F16_MAX_BITS, F16_MAX_BITS};
    four any = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        four bits;
        memcpy(&bits, x + i, sizeof bits);
        any |= (bits & 0x7FFFFFFF) > most;
    }
    bool found = any[0] | any[1] | any[2] | any[3];
    for (; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & 0x7FFFFFFF) > F16_MAX_BITS;
    }
    return found;
}

bool berth_cpu_round(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n)
{
    float wide[CHUNK];
    bool found = false;
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = berth_cpu_min(CHUNK, n - i);
        berth_widen_f32(wide, (const char *)src + i * berth_dtype_size(from), from, m);
        found |= any_over(wide, m);
        berth_narrow_f32((char *)dst + 2 * i, wide, to, m);
    }
    return found;
}
