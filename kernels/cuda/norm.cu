/* norm.cu - LayerNorm and RMSNorm, one block a row. The row is read again for each pass: at the widths of models it is then in L1.
 * Sources: Ba et al. 2016 (Layer Normalization); Zhang & Sennrich 2019 (RMSNorm), section 3. */
#include "kernels/cuda/device.cuh"

/* A thread takes every blockDim-th run of the row; F says what of an element is summed. */
template <class T> struct norm_row {
    const T *x;
    int c;
    bool aligned;

    __device__ __forceinline__ float sum(float *scratch) const
    {
        float v[RUN], s = 0;
        for (int i = (int)threadIdx.x * RUN; i < c; i += (int)blockDim.x * RUN) {
            load_run(x + i, c - i, aligned, v);
#pragma unroll
            for (int j = 0; j < RUN; j++) s += v[j];
        }
        return block_sum(s, scratch);
    }

    /* Squares of the distance from `mean`; what lies past the row's end is left out. */
    __device__ __forceinline__ float squares(float mean, float *scratch) const
    {
        float v[RUN], s = 0;
        for (int i = (int)threadIdx.x * RUN; i < c; i += (int)blockDim.x * RUN) {
            load_run(x + i, c - i, aligned, v);
#pragma unroll
            for (int j = 0; j < RUN; j++)
                if (i + j < c) s = fmaf(v[j] - mean, v[j] - mean, s);
        }
        return block_sum(s, scratch);
    }
};

/* shared: 32 floats. block_sum's last barrier stands between the last read of x and the first write of y, so y may be x. */
template <class T, class W, bool centred> __device__ __forceinline__ void norm_block_per_row(const berth_cuda_norm &a)
{
    float *scratch = (float *)berth_shared;
    const bool aligned = a.c % RUN == 0;
    const long long at = (long long)blockIdx.x * a.c;
    const norm_row<T> row = {(const T *)a.x + at, a.c, aligned};
    const float mean = centred ? row.sum(scratch) / (float)a.c : 0.0f;
    const float scale = 1.0f / sqrtf(row.squares(mean, scratch) / (float)a.c + a.eps);
    for (int i = (int)threadIdx.x * RUN; i < a.c; i += (int)blockDim.x * RUN) {
        float v[RUN], w[RUN], b[RUN] = {0};
        load_run(row.x + i, a.c - i, aligned, v);
        load_run((const W *)a.w + i, a.c - i, true, w);
        if (centred) load_run((const W *)a.b + i, a.c - i, true, b);
#pragma unroll
        for (int j = 0; j < RUN; j++) v[j] = fmaf((v[j] - mean) * scale, w[j], b[j]);
        store_run((T *)a.y + at + i, a.c - i, aligned, v);
    }
}

#define NORMS(T, W)                                                                                                    \
    BERTH_KERNEL(rms_norm_##T##_##W, berth_cuda_norm)                                                                  \
    {                                                                                                                  \
        norm_block_per_row<T, W, false>(a);                                                                            \
    }                                                                                                                  \
    BERTH_KERNEL(layer_norm_##T##_##W, berth_cuda_norm)                                                                \
    {                                                                                                                  \
        norm_block_per_row<T, W, true>(a);                                                                             \
    }
BERTH_FOR_DTYPE_PAIRS(NORMS)
