/* logit_stats.c - what must be known of a row of logits before it may choose a token, and what a sampler looks at. */
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

/* The best of what comes after value `last` at index `last_at` in LOGIT_BEST's order; v: there is none. */
static size_t next_best(const float *x, size_t v, float last, size_t last_at)
{
    size_t best = v;
    for (size_t i = 0; i < v; i++) {
        bool is_after = x[i] < last || (x[i] == last && i > last_at) || last_at == v;
        if (is_after && (best == v || x[i] > x[best])) best = i;
    }
    return best;
}

void berth_ref_logit_best(const berth_op_call *call)
{
    const int32_t *rows = call->in[1].data;
    const float *logits = berth_ref_f32(&call->in[0]), *scales = berth_ref_f32(&call->in[2]);
    size_t n = (size_t)berth_tensor_elements(&call->in[1]), v = (size_t)berth_tensor_last(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++, y += BERTH_LOGIT_BEST) {
        const float *x = logits + (size_t)rows[t] * v;
        size_t at = v;
        memset(y, 0, BERTH_LOGIT_BEST * sizeof *y);
        for (size_t k = 0; k < BERTH_BEST; k++) {
            if (k == 0 || at < v) at = next_best(x, v, k ? x[at] : 0, at);
            y[BERTH_BEST_VALUES + k] = at < v ? x[at] : -INFINITY;
            y[BERTH_BEST_IDS + k] = at < v ? (float)at : -1;
        }
        double sum = 0;
        for (size_t i = 0; i < v; i++) sum += exp(((double)x[i] - (double)y[BERTH_BEST_VALUES]) * (double)scales[t]);
        y[BERTH_BEST_SUM] = (float)sum;
    }
}
