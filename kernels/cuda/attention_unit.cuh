/* attention_unit.cuh - what a warp does with one unit of keys: scores of its 16 queries, their weights, weights times values. Tiles and decodes both take units
 * from here, so they give a row the same bits. */
#ifndef BERTH_CUDA_ATTENTION_UNIT_CUH
#define BERTH_CUDA_ATTENTION_UNIT_CUH

#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tensor.cuh"

enum { UNIT = BERTH_CUDA_UNIT };

/* Bytes of a chunk in a unit's keys or values [UNIT, D] in shared memory. Chunks change places so that eight lanes meet eight groups of banks: of keys they read
 * four chunks of two neighbouring rows, or (sm_70) one chunk of eight; of values a chunk down eight rows, or (sm_70) of two chunks four rows each. */
template <int D> __device__ __forceinline__ int key_at(int row, int chunk)
{
    return row * D * 2 + (chunk & ~7) * 16 + (((chunk ^ (row & 1) << 2 ^ row >> 1 & 3) & 7) << 4);
}
template <int D> __device__ __forceinline__ int value_at(int row, int chunk)
{
    return row * D * 2 + (chunk & ~7) * 16 + (((chunk ^ row) & 7) << 4);
}

/* Over the lanes that share a row. */
__device__ __forceinline__ float row_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, ROW_LANE));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2 * ROW_LANE));
}
__device__ __forceinline__ float row_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, ROW_LANE);
    return v + __shfl_xor_sync(0xffffffffu, v, 2 * ROW_LANE);
}

/* Where a warp's 16 queries are. They are read again for each unit, which costs little (they stay in L1) and saves their registers for outputs. */
template <class T> struct unit_queries {
    const T *own[left_operand::ROWS];

    /* at(row) is a query's first element. */
    template <class A> __device__ __forceinline__ void find(A at)
    {
#pragma unroll
        for (int n = 0; n < left_operand::ROWS; n++) own[n] = at(left_operand::row(n));
    }
    __device__ __forceinline__ void load(left_operand &q, int block) const
    {
        q.load_own([&](int n, int chunk) { return load_16_bytes(own[n] + block * BLOCK_K + chunk * CHUNK); });
    }
};

/* Scores of 16 queries and a unit of keys, of which key(row, chunk) reads 16 bytes. */
struct unit_scores {
    square s[UNIT / 16];

    template <class T, int D, class G> __device__ __forceinline__ void make(const unit_queries<T> &queries, G key)
    {
        clear();
#pragma unroll BLOCKS_AHEAD
        for (int b = 0; b < D / BLOCK_K; b++) {
            left_operand q;
            queries.load(q, b);
#pragma unroll
            for (int n = 0; n < UNIT / 16; n++) {
                right_operand k;
                k.load([&](int row, int chunk) { return key(n * 16 + row, b * 4 + chunk); });
                multiply<T>(s[n], q, k);
            }
        }
    }

    /* The same of keys in memory, of which so many are asked for together that they take 16 registers for each 32 columns. */
    template <class T, int D, class G> __device__ __forceinline__ void make_far(const unit_queries<T> &queries, G key)
    {
        enum { TOGETHER = 64 / sizeof(right_operand) };
        clear();
#pragma unroll
        for (int n0 = 0; n0 < UNIT / 16; n0 += TOGETHER) {
            right_operand k[TOGETHER][D / BLOCK_K];
#pragma unroll
            for (int n = 0; n < TOGETHER; n++)
#pragma unroll
                for (int b = 0; b < D / BLOCK_K; b++)
                    k[n][b].load([&](int row, int chunk) { return key((n0 + n) * 16 + row, b * 4 + chunk); });
            __syncwarp(); /* as in linear_tensor.cu: for the compiler */
#pragma unroll
            for (int b = 0; b < D / BLOCK_K; b++) {
                left_operand q;
                queries.load(q, b);
#pragma unroll
                for (int n = 0; n < TOGETHER; n++) multiply<T>(s[n0 + n], q, k[n][b]);
            }
        }
    }

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++) s[n].clear();
    }

    /* Scales; a row of the lane's sees the first n_seen[half] keys, the others' scores become -infinity. The largest of each row into `top`. */
    __device__ __forceinline__ void scale_seen(const int (&n_seen)[2], float scale, float (&top)[2])
    {
        top[0] = top[1] = -1.0f / 0.0f;
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const bool is_seen = n * 16 + column_step(i) < n_seen[half_of(i)] - column_of(0);
                s[n].c[i] = is_seen ? s[n].c[i] * scale : -1.0f / 0.0f;
                top[half_of(i)] = fmaxf(top[half_of(i)], s[n].c[i]);
            }
#pragma unroll
        for (int h = 0; h < 2; h++) top[h] = row_max(top[h]);
    }

    /* exp(score - base); each row's sum into `sum`. */
    __device__ __forceinline__ void exponentiate(const float (&base)[2], float (&sum)[2])
    {
        sum[0] = sum[1] = 0;
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                s[n].c[i] = expf(s[n].c[i] - base[half_of(i)]);
                sum[half_of(i)] += s[n].c[i];
            }
#pragma unroll
        for (int h = 0; h < 2; h++) sum[h] = row_sum(sum[h]);
    }
};

/* What the lane's two rows saw of a unit, and the weights as left operands of their product with values. */
template <class T> struct unit_of_keys {
    softmax_seen seen[2];
    narrow_square<T> weights[UNIT / 16];

    __device__ __forceinline__ void weigh(unit_scores &scores, const int (&n_seen)[2], float scale)
    {
        float top[2], sum[2];
        scores.scale_seen(n_seen, scale, top);
        const float base[2] = {softmax_base(top[0]), softmax_base(top[1])};
        scores.exponentiate(base, sum);
#pragma unroll
        for (int h = 0; h < 2; h++) seen[h].top = top[h], seen[h].sum = sum[h];
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++) weights[n].of(scores.s[n]);
    }

    /* Weights times squares [j, j + DOWN_SQUARES) of columns of the unit's values, which are in shared memory as value_at says. */
    template <int D>
    __device__ __forceinline__ void weighted(square (&o)[DOWN_SQUARES], const char *values, int j) const
    {
        weighted_of(o, [&](down_operand &v, int n) {
            v.load([&](int row, int chunk) { return values + value_at<D>(n * 16 + row, j * 2 + chunk); });
        });
    }

    /* get(v, n) makes v the values of keys [16 n, + 16). */
    template <class G> __device__ __forceinline__ void weighted_of(square (&o)[DOWN_SQUARES], G get) const
    {
#pragma unroll
        for (int d = 0; d < DOWN_SQUARES; d++) o[d].clear();
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++) {
            down_operand v;
            get(v, n);
            multiply_down<T>(o, weights[n], v);
        }
    }
};

#endif
