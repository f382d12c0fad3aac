/* axis.c - the weights with which one axis is resized: Pillow's, to the last bit.
 *
 * Easy to get wrong: everything is double until the one rounding to 22-bit fixed point, the sum is taken in order, and
 * casts cut toward zero. Source: Pillow's Resample.c, precompute_coeffs and normalize_coeffs_8bpc. */
#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "image/image_internal.h"

enum { fraction_bits = 22, split_bits = 15 };

static double bilinear(double u)
{
    u = fabs(u);
    return u < 1.0 ? 1.0 - u : 0.0;
}

static double bicubic(double u) /* a = -0.5 */
{
    u = fabs(u);
    if (u < 1.0) return (1.5 * u - 2.5) * u * u + 1;
    if (u < 2.0) return (((u - 5) * u + 8) * u - 4) * -0.5;
    return 0.0;
}

static double sinc(double u)
{
    if (u == 0.0) return 1.0;
    u *= M_PI;
    return sin(u) / u;
}

static double lanczos(double u)
{
    return -3.0 <= u && u < 3.0 ? sinc(u) * sinc(u / 3) : 0.0;
}

typedef struct filter {
    double (*f)(double);
    double support;
} filter;

static const filter filters[] = {
    [BERTH_FILTER_BICUBIC] = {bicubic, 2.0},
    [BERTH_FILTER_BILINEAR] = {bilinear, 1.0},
    [BERTH_FILTER_LANCZOS] = {lanczos, 3.0},
};

/* The weights of output x; `w` has room for stride doubles. */
static void fill_output(berth_axis *a, const filter *kernel, int32_t x, double *w)
{
    double scale = (double)a->n_in / a->n_out;
    double filter_scale = scale < 1.0 ? 1.0 : scale;
    double support = kernel->support * filter_scale, ss = 1.0 / filter_scale;
    double center = (x + 0.5) * scale;
    int32_t from = (int32_t)(center - support + 0.5), to = (int32_t)(center + support + 0.5);
    if (from < 0) from = 0;
    if (to > a->n_in) to = a->n_in;
    int32_t n = to - from;
    double sum = 0.0;
    for (int32_t t = 0; t < n; t++) {
        w[t] = kernel->f((t + from - center + 0.5) * ss);
        sum += w[t];
    }
    int32_t *out = a->weights + (size_t)x * (size_t)a->stride;
    int16_t *split = a->split + (size_t)x * (size_t)a->stride * 2;
    for (int32_t t = 0; t < n; t++) {
        double v = sum != 0.0 ? w[t] / sum : w[t];
        out[t] = (int32_t)(v * (1 << fraction_bits) + (v < 0 ? -0.5 : 0.5));
        int16_t *pair = split + t / 2 * 4;
        pair[t % 2] = (int16_t)(out[t] >> split_bits);
        pair[2 + t % 2] = (int16_t)(out[t] & ((1 << split_bits) - 1));
    }
    a->first[x] = from;
    a->count[x] = n;
}

berth_status berth_axis_init(berth_axis *axis, int32_t n_in, int32_t n_out, berth_filter filter_id, berth_error *err)
{
    *axis = (berth_axis){.n_in = n_in, .n_out = n_out};
    const filter *kernel = &filters[filter_id];
    double scale = (double)n_in / n_out;
    double reach = ceil(kernel->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 2; /* at least every count, and even */
    size_t n_weights = 0;
    if (reach > INT32_MAX || !berth_mul_size((size_t)reach, (size_t)n_out, &n_weights) || n_weights > SIZE_MAX / 16) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "an axis of %d cannot be resized to %d", n_in, n_out);
    }
    axis->stride = (int32_t)reach;
    axis->first = calloc((size_t)n_out, sizeof *axis->first);
    axis->count = calloc((size_t)n_out, sizeof *axis->count);
    axis->weights = calloc(n_weights, sizeof *axis->weights);
    axis->split = calloc(n_weights, 2 * sizeof *axis->split);
    double *w = malloc((size_t)reach * sizeof *w);
    bool made = axis->first && axis->count && axis->weights && axis->split && w;
    for (int32_t x = 0; made && x < n_out; x++) fill_output(axis, kernel, x, w);
    free(w);
    if (made) return BERTH_OK;
    berth_axis_deinit(axis);
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the weights of a resize from %d to %d", n_in, n_out);
}

void berth_axis_deinit(berth_axis *axis)
{
    free(axis->first);
    free(axis->count);
    free(axis->weights);
    free(axis->split);
    *axis = (berth_axis){0};
}
