/* attention_tensor.cu - softmax attention in fp16 (sm_75 on) and bf16 (sm_80 on) on tensor cores, heads of 64 and 128; scores, weights' sums and outputs in fp32,
 * weights rounded to the narrow type for their product with values.
 *
 * A row's keys are taken in units of 64, each with its own maximum; four units are joined to a split of 256, splits to the whole, always in order and by one
 * formula (softmax_join). The tiles of a prefill do so in registers; a decode gives units to warps and splits to blocks and joins through memory. So both give a
 * row the same bits, and what else a tile or a call holds does not matter: keys that a row does not see change nothing.
 * Sources: Dao et al. 2022 (FlashAttention); Flash-Decoding; Milakov & Gimelshein 2018. */
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tensor.cuh"

/* ---- splits of a token to its output, for attention_decode.cu too ------------------------------------------------------------ */

/* Block (head, token), a thread a column: splits in order. */
BERTH_KERNEL(attention_merge, berth_cuda_attention_paged)
{
    const int n = a.positions[blockIdx.y] / BERTH_CUDA_SPLIT + 1, stride = a.d + 2;
    const long long head = (long long)blockIdx.y * a.heads + blockIdx.x;
    const float *partial = a.partial + head * a.n_splits * stride;
    for (int c = (int)threadIdx.x; c < a.d; c += (int)blockDim.x) {
        softmax_seen all = softmax_nothing();
        float o = 0;
        for (int i = 0; i < n; i++) {
            const float *part = partial + (long long)i * stride;
            const softmax_seen seen = {part[a.d], part[a.d + 1]};
            o = softmax_joined(softmax_join(all, seen), o, part[c]);
        }
        store_one(a.o, head * a.d + c, o / all.sum);
    }
}

#if __CUDA_ARCH__ >= 750

enum { UNIT = BERTH_CUDA_UNIT, UNITS = BERTH_CUDA_SPLIT / BERTH_CUDA_UNIT, WARPS = BERTH_CUDA_ATTENTION_THREADS / 32 };

/* Bytes of a chunk in a unit's keys or values [UNIT, D]: chunks change places, keys' for reads of four chunks of neighbouring rows, values' for ldmatrix down a
 * column. */
template <int D> __device__ __forceinline__ int key_at(int row, int chunk)
{
    return row * D * 2 + ((chunk ^ (row & 1) << 2) << 4);
}
template <int D> __device__ __forceinline__ int value_at(int row, int chunk)
{
    return row * D * 2 + ((chunk ^ (row & 7)) << 4);
}

/* Which of a lane's two rows element i of a square is in. */
__device__ __forceinline__ int half_of(int i)
{
    return i >> 1 & 1;
}

/* Four lanes share a row. */
__device__ __forceinline__ float row_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
__device__ __forceinline__ float row_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

__device__ __forceinline__ unsigned pack_two(f16, float low, float high)
{
    return float_to_f16_bits(low) | (unsigned)float_to_f16_bits(high) << 16;
}
__device__ __forceinline__ unsigned pack_two(bf16, float low, float high)
{
    return float_to_bf16_bits(low) | (unsigned)float_to_bf16_bits(high) << 16;
}

/* One unit of keys for a warp's 16 queries: what its rows (lane / 4 and that + 8) saw, and the weights as the left operands of their product with values. */
template <class T> struct unit_of_keys {
    softmax_seen seen[2];
    unsigned weights[UNIT / 16][4];

    /* query(row, chunk) and key(row, chunk) read 16 bytes; a row sees the first n_seen[half] keys. Queries are read again for each unit, which costs little
     * (they stay in L1) and saves their registers for outputs. */
    template <int D, class Q, class G>
    __device__ __forceinline__ void score(Q query, G key, const int (&n_seen)[2], float scale)
    {
        square s[UNIT / 16];
        clear(s);
#pragma unroll
        for (int b = 0; b < D / BLOCK_K; b++) {
            left_operand q;
            q.load([&](int row, int chunk) { return query(row, b * 4 + chunk); });
#pragma unroll
            for (int n = 0; n < UNIT / 16; n++) {
                right_operand k;
                k.load([&](int row, int chunk) { return key(n * 16 + row, b * 4 + chunk); });
                multiply<T>(s[n], q, k);
            }
        }
        weigh(s, n_seen, scale);
    }

    /* The same of keys in memory, half of which are asked for before the first product. */
    template <int D, class Q, class G>
    __device__ __forceinline__ void score_far(Q query, G key, const int (&n_seen)[2], float scale)
    {
        enum { TOGETHER = 2 };
        square s[UNIT / 16];
        clear(s);
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
                q.load([&](int row, int chunk) { return query(row, b * 4 + chunk); });
#pragma unroll
                for (int n = 0; n < TOGETHER; n++) multiply<T>(s[n0 + n], q, k[n][b]);
            }
        }
        weigh(s, n_seen, scale);
    }

    static __device__ __forceinline__ void clear(square (&s)[UNIT / 16])
    {
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 8; i++) s[n].c[i] = 0;
    }

    __device__ __forceinline__ void weigh(square (&s)[UNIT / 16], const int (&n_seen)[2], float scale)
    {
        const float nothing = -1.0f / 0.0f;
        float top[2] = {nothing, nothing}, sum[2] = {0, 0}, base[2];
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                s[n].c[i] = n * 16 + column_of(i) < n_seen[half_of(i)] ? s[n].c[i] * scale : nothing;
                top[half_of(i)] = fmaxf(top[half_of(i)], s[n].c[i]);
            }
#pragma unroll
        for (int h = 0; h < 2; h++) top[h] = row_max(top[h]), base[h] = softmax_base(top[h]);
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                s[n].c[i] = expf(s[n].c[i] - base[half_of(i)]);
                sum[half_of(i)] += s[n].c[i];
            }
#pragma unroll
        for (int h = 0; h < 2; h++) seen[h].top = top[h], seen[h].sum = row_sum(sum[h]);
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) weights[n][i] = pack_two(T(), s[n].c[2 * i], s[n].c[2 * i + 1]);
    }

    /* Weights times columns [16 column, + 16) of the unit's values. */
    template <int D> __device__ __forceinline__ void weighted(square &o, const char *values, int column) const
    {
#pragma unroll
        for (int i = 0; i < 8; i++) o.c[i] = 0;
#pragma unroll
        for (int n = 0; n < UNIT / 16; n++) {
            unsigned v[4];
            load_turned_matrices(v, values + value_at<D>(n * 16 + lane_id() % 16, column * 2 + lane_id() / 16));
            const unsigned low[2] = {v[0], v[1]}, high[2] = {v[2], v[3]};
            mma_16816(T(), o.c, weights[n], low);
            mma_16816(T(), o.c + 4, weights[n], high);
        }
    }
};

/* ---- tiles of queries ------------------------------------------------------------------------------------------------------ */

/* The rows of tile attention and their keys. SPLITS: units are joined to splits first, as decodes of the same rows do. Query row r is query(r), its output output(r); it sees n_seen(r) keys (0: not of this tile), the tile n_keys.
 * Key k's row is key(k), its value's value(k). */
struct full_rows {
    enum { SPLITS = 0 };
    const berth_cuda_attention_full &a;
    long long base;
    int first, n_keys;
    __device__ __forceinline__ long long at(int row) const { return base + (long long)row * a.heads * a.d; }
    __device__ __forceinline__ int n_seen(int r) const { return first + r < a.rows ? a.rows : 0; }
    __device__ __forceinline__ long long query(int r) const { return at(first + r); }
    __device__ __forceinline__ long long output(int r) const { return at(first + r); }
    __device__ __forceinline__ long long key(int k) const { return at(k); }
    __device__ __forceinline__ long long value(int k) const { return at(k); }
    template <class T> __device__ __forceinline__ const T *keys() const { return (const T *)a.k.at; }
    template <class T> __device__ __forceinline__ const T *values() const { return (const T *)a.v.at; }
};

/* Tokens [first, end) of one sequence; a row is a token and one of the kv head's query heads. */
struct paged_rows {
    enum { SPLITS = 1 };
    const berth_cuda_attention_paged &a;
    int kv_head, group, first, end, n_keys;
    __device__ __forceinline__ int token(int r) const { return first + r / group; }
    __device__ __forceinline__ int n_seen(int r) const { return token(r) < end ? a.positions[token(r)] + 1 : 0; }
    __device__ __forceinline__ long long query(int r) const
    {
        return ((long long)token(r) * a.heads + kv_head * group + r % group) * a.d;
    }
    __device__ __forceinline__ long long output(int r) const { return query(r); }
    __device__ __forceinline__ long long key(int k) const
    {
        const long long block = a.block_table[(long long)a.token_seq[first] * a.max_blocks + k / a.block];
        return ((block * 2 * a.kv_heads + kv_head) * a.block + k % a.block) * a.d;
    }
    __device__ __forceinline__ long long value(int k) const { return key(k) + (long long)a.kv_heads * a.block * a.d; }
    template <class T> __device__ __forceinline__ const T *keys() const { return (const T *)a.kv; }
    template <class T> __device__ __forceinline__ const T *values() const { return (const T *)a.kv; }
};

/* The keys and values of a unit into a stage [2, UNIT, D]: those that nobody sees are 0, since 0 times what lies there might be no number. */
template <class T, int D, class R> __device__ __forceinline__ void bring_unit(char *stage, const R &rows, int first)
{
    enum { CHUNKS = D / CHUNK };
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < UNIT * CHUNKS; i += WARPS * 32) {
        const int row = i / CHUNKS, chunk = i % CHUNKS, bytes = first + row < rows.n_keys ? 16 : 0;
        const int at = bytes ? first + row : 0;
        chunk_copy k, v;
        k.begin(stage + key_at<D>(row, chunk), rows.template keys<T>() + rows.key(at) + chunk * CHUNK, bytes, true);
        v.begin(stage + UNIT * D * 2 + value_at<D>(row, chunk),
                rows.template values<T>() + rows.value(at) + chunk * CHUNK, bytes, true);
        k.end(), v.end();
    }
}

/* What a warp's rows have seen so far, and their outputs before the division. */
template <int D> struct rows_so_far {
    softmax_seen seen[2];
    square o[D / 16];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int h = 0; h < 2; h++) seen[h] = softmax_nothing();
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int i = 0; i < 8; i++) o[j].c[i] = 0;
    }

    __device__ __forceinline__ void join(const rows_so_far<D> &later)
    {
        softmax_factors f[2];
#pragma unroll
        for (int h = 0; h < 2; h++) f[h] = softmax_join(seen[h], later.seen[h]);
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int i = 0; i < 8; i++) o[j].c[i] = softmax_joined(f[half_of(i)], o[j].c[i], later.o[j].c[i]);
    }

    template <class T> __device__ __forceinline__ void take(const unit_of_keys<T> &u, const char *values)
    {
        softmax_factors f[2];
#pragma unroll
        for (int h = 0; h < 2; h++) f[h] = softmax_join(seen[h], u.seen[h]);
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            square of_unit;
            u.template weighted<D>(of_unit, values, j);
#pragma unroll
            for (int i = 0; i < 8; i++) o[j].c[i] = softmax_joined(f[half_of(i)], o[j].c[i], of_unit.c[i]);
        }
    }
};

/* The block's 64 query rows, 16 a warp. Shared: two stages of a unit's keys and values. The barrier of a round makes the unit that has come seen by all and says
 * that all are done with the stage that is filled next; the first, that all are done with the rows before. */
template <class T, int D, class R>
__device__ __forceinline__ void attend_tile(const R &rows, const T *queries, T *outputs, float scale)
{
    enum { STAGE = 2 * UNIT * D * 2 };
    char *shared = (char *)berth_shared;
    const int own = (int)threadIdx.x / 32 * 16, n_units = (rows.n_keys + UNIT - 1) / UNIT;
    const int row[2] = {own + lane_id() / 4, own + lane_id() / 4 + 8};
    const int n_seen[2] = {rows.n_seen(row[0]), rows.n_seen(row[1])};
    /* Rows that are not there read the tile's first. */
    const T *query[2] = {queries + rows.query(n_seen[0] ? row[0] : 0), queries + rows.query(n_seen[1] ? row[1] : 0)};
    rows_so_far<D> joined, split;
    joined.clear(), split.clear();
    __syncthreads();
    bring_unit<T, D>(shared, rows, 0);
    copies_commit();
    for (int u = 0; u < n_units; u++) {
        const char *stage = shared + u % 2 * STAGE;
        const int left[2] = {n_seen[0] - u * UNIT, n_seen[1] - u * UNIT};
        copies_wait<0>();
        __syncthreads();
        if (u + 1 < n_units) bring_unit<T, D>(shared + (u + 1) % 2 * STAGE, rows, (u + 1) * UNIT);
        copies_commit();
        unit_of_keys<T> unit;
        unit.template score<D>([&](int r, int c) { return load_16_bytes((r < 8 ? query[0] : query[1]) + c * CHUNK); },
                               [&](int r, int c) { return load_16_bytes(stage + key_at<D>(r, c)); }, left, scale);
        split.template take<T>(unit, stage + UNIT * D * 2);
        if (R::SPLITS && (u % UNITS == UNITS - 1 || u == n_units - 1)) joined.join(split), split.clear();
    }
    const rows_so_far<D> &whole = R::SPLITS ? joined : split;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (!n_seen[h]) continue;
        unsigned *o = (unsigned *)(outputs + rows.output(row[h]));
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int i = 2 * h; i < 8; i += 4)
                o[(j * 16 + column_of(i)) / 2] =
                    pack_two(T(), whole.o[j].c[i] / whole.seen[h].sum, whole.o[j].c[i + 1] / whole.seen[h].sum);
    }
}

/* Block (64 queries, head, image tile). */
template <class T, int D> __device__ __forceinline__ void full_tile(const berth_cuda_attention_full &a)
{
    const long long base = (long long)blockIdx.z * a.rows * a.heads * D + (long long)blockIdx.y * D;
    const full_rows rows = {a, base, (int)blockIdx.x * BERTH_CUDA_ATTENTION_ROWS, a.rows};
    attend_tile<T, D>(rows, (const T *)a.q.at, (T *)a.o.at, a.scale);
}

/* Block (tokens, kv head): as many tokens as make 64 rows of query heads. Tokens of one sequence stand together; each sequence's are a tile of their own. */
template <class T, int D> __device__ __forceinline__ void paged_tile(const berth_cuda_attention_paged &a)
{
    const int group = a.heads / a.kv_heads, tokens = BERTH_CUDA_ATTENTION_ROWS / group;
    const int last = min(((int)blockIdx.x + 1) * tokens, a.n_tokens);
    for (int first = (int)blockIdx.x * tokens, end; first < last; first = end) {
        end = first + 1;
        while (end < last && a.token_seq[end] == a.token_seq[first]) end++;
        const paged_rows rows = {a, (int)blockIdx.y, group, first, end, a.positions[end - 1] + 1};
        attend_tile<T, D>(rows, (const T *)a.q.at, (T *)a.o.at, a.scale);
    }
}

/* ---- few tokens ------------------------------------------------------------------------------------------------------------ */

/* A warp's unit, keys from `first` on: values into its region of shared memory, then its outputs [16, D] there, and what its rows saw. */
template <class T, int D>
__device__ __forceinline__ void decode_unit(const paged_rows &rows, const T *queries, int n_heads, int first,
                                            char *region, softmax_seen *seen)
{
    const T *kv = (const T *)rows.a.kv;
    const int n = min(rows.n_keys - first, (int)UNIT);
    const int n_seen[2] = {n, n};
#pragma unroll 4
    for (int i = lane_id(); i < UNIT * D / CHUNK; i += 32) {
        const int row = i / (D / CHUNK), chunk = i % (D / CHUNK);
        chunk_copy v;
        v.begin(region + value_at<D>(row, chunk), kv + rows.value(first + min(row, n - 1)) + chunk * CHUNK,
                row < n ? 16 : 0, true);
        v.end();
    }
    copies_commit();
    unit_of_keys<T> unit;
    unit.template score_far<D>(
        [&](int r, int c) { return load_16_bytes(queries + min(r, n_heads - 1) * D + c * CHUNK); },
        [&](int r, int c) { return ask_16_bytes_once(kv + rows.key(first + min(r, n - 1)) + c * CHUNK); }, n_seen,
        rows.a.scale);
    copies_wait<0>();
    __syncwarp();
    square o[D / 16];
#pragma unroll
    for (int j = 0; j < D / 16; j++) unit.template weighted<D>(o[j], region, j);
    __syncwarp();
#pragma unroll
    for (int j = 0; j < D / 16; j++)
#pragma unroll
        for (int i = 0; i < 8; i++) ((float *)region)[row_of(i) * D + j * 16 + column_of(i)] = o[j].c[i];
    if (lane_id() % 4 == 0) seen[lane_id() / 4] = unit.seen[0], seen[lane_id() / 4 + 8] = unit.seen[1];
}

/* Block (split, kv head and 16 of its query heads, token), a warp a unit. Shared, a region a warp: its values, then its outputs [16, D] in fp32; behind the regions
 * what each row of each unit saw. The barrier makes the units' outputs seen by the threads that join them. Keys are read from memory into registers. */
template <class T, int D> __device__ __forceinline__ void decode_split(const berth_cuda_attention_paged &a)
{
    enum { REGION = UNIT * D * 2 };
    char *shared = (char *)berth_shared;
    softmax_seen *seen = (softmax_seen *)(shared + WARPS * REGION);
    const int group = a.heads / a.kv_heads, sixteens = (group + 15) / 16, split = (int)blockIdx.x;
    const int kv_head = (int)blockIdx.y / sixteens, first_head = (int)blockIdx.y % sixteens * 16;
    const int n_heads = min(group - first_head, 16), token = (int)blockIdx.z, warp = (int)threadIdx.x / 32;
    const int n_keys = a.positions[token] + 1, first = split * BERTH_CUDA_SPLIT + warp * UNIT;
    if (split * BERTH_CUDA_SPLIT >= n_keys) return; /* the whole block: the sequence ends before this split */
    const paged_rows rows = {a, kv_head, group, token, token + 1, n_keys};
    const long long head = (long long)token * a.heads + kv_head * group + first_head;
    char *region = shared + warp * REGION;
    if (first < n_keys) decode_unit<T, D>(rows, (const T *)a.q.at + head * D, n_heads, first, region, seen + warp * 16);
    __syncthreads();
    const int n_units = min((n_keys - split * BERTH_CUDA_SPLIT + UNIT - 1) / UNIT, (int)UNITS);
    for (int i = (int)threadIdx.x; i < n_heads * D; i += (int)blockDim.x) {
        const int row = i / D, column = i % D;
        softmax_seen all = softmax_nothing();
        float o = 0;
        for (int u = 0; u < n_units; u++)
            o = softmax_joined(softmax_join(all, seen[u * 16 + row]), o,
                               ((float *)(shared + u * REGION))[row * D + column]);
        float *partial = a.partial + ((head + row) * a.n_splits + split) * (D + 2);
        partial[column] = o;
        if (column == 0) partial[D] = all.top, partial[D + 1] = all.sum;
    }
}

#define ATTENTION_TENSOR(T, D)                                                                                         \
    BERTH_KERNEL(attention_full_##D##_##T, berth_cuda_attention_full)                                                  \
    {                                                                                                                  \
        full_tile<T, D>(a);                                                                                            \
    }                                                                                                                  \
    BERTH_KERNEL(attention_tile_##D##_##T, berth_cuda_attention_paged)                                                 \
    {                                                                                                                  \
        paged_tile<T, D>(a);                                                                                           \
    }                                                                                                                  \
    BERTH_KERNEL(attention_split_##D##_##T, berth_cuda_attention_paged)                                                \
    {                                                                                                                  \
        decode_split<T, D>(a);                                                                                         \
    }
ATTENTION_TENSOR(f16, 64)
ATTENTION_TENSOR(f16, 128)
#if __CUDA_ARCH__ >= 800
ATTENTION_TENSOR(bf16, 64)
ATTENTION_TENSOR(bf16, 128)
#endif

#endif
