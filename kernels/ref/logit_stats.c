/* logit_stats.c - what must be known of a row of logits before it may choose a token. */
#include <math.h>

#include "kernels/ref/ref_internal.h"

void berth_ref_logit_stats(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n = (size_t)berth_tensor_rows(&call->in[0]), v = (size_t)berth_tensor_last(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++, x += v, y += BERTH_LOGIT_STATS) {
        size_t n_nan = 0, n_inf = 0, first_nan = 0, best = 0;
        float low = NAN, high = NAN;
        for (size_t i = 0; i < v; i++) {
            if (isnan(x[i])) {
                if (!n_nan++) first_nan = i;
                continue;
            }
            if (isinf(x[i])) n_inf++;
            if (!(x[i] >= low)) low = x[i];
            if (!(x[i] <= high)) high = x[i], best = i;
        }
        memset(y, 0, BERTH_LOGIT_STATS * sizeof *y);
        y[BERTH_STAT_NAN] = (float)n_nan;
        y[BERTH_STAT_INF] = (float)n_inf;
        y[BERTH_STAT_MIN] = low;
        y[BERTH_STAT_MAX] = high;
        y[BERTH_STAT_ARGMAX] = (float)(n_nan ? first_nan : best);
    }
}
