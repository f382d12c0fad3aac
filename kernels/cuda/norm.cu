/* norm.cu - LayerNorm and RMSNorm, one block a row. A thread keeps the runs it has read, so a row of up to 8,192 elements is read once; what is beyond is read
 * again for each pass. Few rows that go on to products are normed there instead (linear*.cu), with these sums.
 * Sources: Ba et al. 2016 (Layer Normalization); Zhang & Sennrich 2019 (RMSNorm), section 3. */
#include "kernels/cuda/norm.cuh"

/* A thread takes every blockDim-th run of the row. */
struct norm_row {
    enum { KEPT = 4 };
    berth_cuda_in x;
    long long first; /* the row's first element */
    int c;
    bool aligned;
    float kept[KEPT][RUN];

    __device__ __forceinline__ int column(int k) const { return ((int)threadIdx.x + k * (int)blockDim.x) * RUN; }

    __device__ __forceinline__ void read()
    {
#pragma unroll
        for (int k = 0; k < KEPT; k++)
            if (column(k) < c) load_run(x, first + column(k), c - column(k), aligned, kept[k]);
    }

    /* Calls f(column, values) for each of the thread's runs. */
    template <class F> __device__ __forceinline__ void each(F f) const
    {
#pragma unroll
        for (int k = 0; k < KEPT; k++)
            if (column(k) < c) f(column(k), kept[k]);
        for (int k = KEPT; column(k) < c; k++) {
            float v[RUN];
            load_run(x, first + column(k), c - column(k), aligned, v);
            f(column(k), v);
        }
    }

    __device__ __forceinline__ float sum(float *scratch) const
    {
        float s = 0;
        each([&](int, const float(&v)[RUN]) {
#pragma unroll
            for (int j = 0; j < RUN; j++) s += v[j];
        });
        return block_sum(s, scratch);
    }

    /* Squares of the distance from `mean`; what lies past the row's end is left out. */
    __device__ __forceinline__ float squares(float mean, float *scratch) const
    {
        float s = 0;
        each([&](int i, const float(&v)[RUN]) { s = add_squares(s, v, mean, c - i); });
        return block_sum(s, scratch);
    }
};

/* shared: 32 floats. block_sum's last barrier stands between the last read of another thread's x and the first write of y, so y may be x. */
template <bool centred> __device__ __forceinline__ void norm_block_per_row(const berth_cuda_norm &a)
{
    float *scratch = (float *)berth_shared;
    norm_row row = {a.x, (long long)blockIdx.x * a.c, a.c, a.c % RUN == 0, {}};
    row.read();
    const float mean = centred ? row.sum(scratch) / (float)a.c : 0.0f;
    const float scale = norm_scale(row.squares(mean, scratch), a.c, a.eps);
    row.each([&](int i, const float(&v)[RUN]) {
        float w[RUN], b[RUN] = {0}, y[RUN];
        load_run(a.w, i, a.c - i, true, w);
        if (centred) load_run(a.b, i, a.c - i, true, b);
#pragma unroll
        for (int j = 0; j < RUN; j++) y[j] = normed(v[j], mean, scale, w[j], b[j]);
        store_run(a.y, row.first + i, a.c - i, row.aligned, y);
    });
}

BERTH_KERNEL(rms_norm_any, berth_cuda_norm)
{
    norm_block_per_row<false>(a);
}
BERTH_KERNEL(layer_norm_any, berth_cuda_norm)
{
    norm_block_per_row<true>(a);
}
