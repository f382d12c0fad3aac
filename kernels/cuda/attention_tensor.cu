/* attention_tensor.cu - softmax attention in fp16 (sm_70 on) and bf16 (sm_80 on) on tensor cores, heads of 64 and 128; scores, weights' sums and outputs in fp32,
 * weights rounded to the narrow type for their product with values.
 *
 * A row's keys are taken in units of 64, each with its own maximum; four units are joined to a split of 256, splits to the whole, always in order and by one
 * formula (softmax_join). The tiles of a prefill do so in registers; a decode gives units to warps and splits to blocks and joins through memory. So both give a
 * row the same bits, and what else a tile or a call holds does not matter: keys that a row does not see change nothing.
 * Sources: Dao et al. 2022 (FlashAttention); Flash-Decoding; Milakov & Gimelshein 2018. */
#include "kernels/cuda/attention_unit.cuh"

enum { UNITS = BERTH_CUDA_SPLIT / BERTH_CUDA_UNIT, WARPS = BERTH_CUDA_ATTENTION_THREADS / 32 };

/* ---- tiles of queries ------------------------------------------------------------------------------------------------------ */

/* The rows of tile attention and their keys. SPLITS: units are joined to splits first, as decodes of the same rows do. Query row r is query(r), its output the same
 * in the output; it sees n_seen(r) keys (0: not of this tile), the tile n_keys. Key k and its value are rows slot(k), of `stride` elements, of keys() and
 * values(). */
struct full_rows {
    enum { SPLITS = 0 };
    const berth_cuda_attention_full &a;
    long long base;
    int first, n_keys, stride;
    __device__ __forceinline__ int n_seen(int r) const { return first + r < a.rows ? a.rows : 0; }
    __device__ __forceinline__ long long query(int r) const { return base + (long long)(first + r) * stride; }
    __device__ __forceinline__ int slot(int k) const { return k; }
    template <class T> __device__ __forceinline__ const T *keys() const { return (const T *)a.k.at + base; }
    template <class T> __device__ __forceinline__ const T *values() const { return (const T *)a.v.at + base; }
};

/* Tokens [first, end) of one sequence; a row is a token and one of the kv head's query heads. (2^31 rows of a layer's cache are more than any GPU holds.) */
struct paged_rows {
    enum { SPLITS = 1 };
    const berth_cuda_attention_paged &a;
    int kv_head, group, first, end, n_keys, stride;
    __device__ __forceinline__ int token(int r) const { return first + r / group; }
    __device__ __forceinline__ int n_seen(int r) const { return token(r) < end ? a.positions[token(r)] + 1 : 0; }
    __device__ __forceinline__ long long query(int r) const
    {
        return ((long long)token(r) * a.heads + kv_head * group + r % group) * a.d;
    }
    __device__ __forceinline__ int slot(int k) const
    {
        const int nth = a.per_block ? (int)__umulhi((unsigned)k, a.per_block) : k; /* k / a.block */
        const int block = a.block_table[(long long)a.token_seq[first] * a.max_blocks + nth];
        return (block * 2 * a.kv_heads + kv_head) * a.block + k - nth * a.block;
    }
    template <class T> __device__ __forceinline__ const T *keys() const { return (const T *)a.kv; }
    template <class T> __device__ __forceinline__ const T *values() const
    {
        return (const T *)a.kv + (long long)a.kv_heads * a.block * a.d;
    }
};

/* A thread's part of a unit's keys, or of its values, on their way into shared memory [UNIT, D]. Without asynchronous copies four chunks are held in registers, those of
 * heads of 64 until end(). Those that nobody sees are 0, since 0 times what lies there might be no number. */
template <class T, int D> struct unit_copies {
    enum {
        CHUNKS = D / CHUNK,
        DOWN = WARPS * 32 / CHUNKS,
        COPIES = UNIT / DOWN,
        TOGETHER = chunk_copy::TOGETHER,
        HOLDS = COPIES == TOGETHER
    };
    chunk_copy copies[TOGETHER];

    template <class R> __device__ __forceinline__ void begin_keys(char *to, const R &rows, int first)
    {
        begin(rows.template keys<T>(), rows, first, [&](int row, int chunk) { return to + key_at<D>(row, chunk); });
    }
    template <class R> __device__ __forceinline__ void begin_values(char *to, const R &rows, int first)
    {
        begin(rows.template values<T>(), rows, first, [&](int row, int chunk) { return to + value_at<D>(row, chunk); });
    }

    template <class R, class A> __device__ __forceinline__ void begin(const T *from, const R &rows, int first, A at)
    {
        const int chunk = (int)threadIdx.x % CHUNKS;
#pragma unroll 1
        for (int i0 = 0; i0 < COPIES; i0 += TOGETHER) {
#pragma unroll
            for (int i = 0; i < TOGETHER; i++) {
                const int row = (int)threadIdx.x / CHUNKS + (i0 + i) * DOWN, k = first + row;
                const bool there = k < rows.n_keys;
                copies[i].begin(at(row, chunk),
                                from + (there ? (long long)rows.slot(k) * rows.stride + chunk * CHUNK : 0),
                                there ? 16 : 0, true);
            }
            if (!HOLDS) end_all();
        }
    }
    __device__ __forceinline__ void end()
    {
        if (HOLDS) end_all();
    }
    __device__ __forceinline__ void end_all()
    {
#pragma unroll
        for (int i = 0; i < TOGETHER; i++) copies[i].end();
    }
};

/* What a warp's rows have seen so far, and their outputs before the division. */
template <int D> struct rows_so_far {
    softmax_seen seen[2];
    square o[D / 16];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int h = 0; h < 2; h++) seen[h] = softmax_nothing();
#pragma unroll
        for (int j = 0; j < D / 16; j++) o[j].clear();
    }

    __device__ __forceinline__ void join(const rows_so_far<D> &later)
    {
        softmax_factors f[2];
#pragma unroll
        for (int h = 0; h < 2; h++) f[h] = softmax_join(seen[h], later.seen[h]);
#pragma unroll
        for (int j = 0; j < D / 16; j++) join_square(j, later.o[j], f);
    }

    template <class T> __device__ __forceinline__ void take(const unit_of_keys<T> &u, const char *values)
    {
        softmax_factors f[2];
#pragma unroll
        for (int h = 0; h < 2; h++) f[h] = softmax_join(seen[h], u.seen[h]);
#pragma unroll
        for (int j = 0; j < D / 16; j += DOWN_SQUARES) {
            square of_unit[DOWN_SQUARES];
            u.template weighted<D>(of_unit, values, j);
#pragma unroll
            for (int d = 0; d < DOWN_SQUARES; d++) join_square(j + d, of_unit[d], f);
        }
    }

    __device__ __forceinline__ void join_square(int j, const square &later, const softmax_factors (&f)[2])
    {
#pragma unroll
        for (int i = 0; i < 8; i++) o[j].c[i] = softmax_joined(f[half_of(i)], o[j].c[i], later.c[i]);
    }

    /* Outputs of one of the lane's rows, in pairs of neighbours. */
    template <class T> __device__ __forceinline__ void write(T *to, int half) const
    {
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int i = 2 * half; i < 8; i += 4)
                ((unsigned *)to)[down_column_of(j, i) / 2] =
                    pack_two(T(), o[j].c[i] / seen[half].sum, o[j].c[i + 1] / seen[half].sum);
    }
};

/* The block's 64 query rows, 16 a warp. Shared: a unit's keys, then its values. Values are on their way while scores are made, and the next unit's keys while
 * values are weighted: the first barrier of a round makes keys seen by all and says that all are done with the values before, the second the other way round;
 * that before the rounds, that all are done with the tile before. */
template <class T, int D, class R>
__device__ __forceinline__ void attend_tile(const R &rows, const T *queries, T *outputs, float scale)
{
    char *keys = (char *)berth_shared, *values = keys + UNIT * D * 2;
    const int own = (int)threadIdx.x / 32 * 16, n_units = (rows.n_keys + UNIT - 1) / UNIT;
    const int row[2] = {own + row_of(0), own + row_of(2)};
    const int n_seen[2] = {rows.n_seen(row[0]), rows.n_seen(row[1])};
    unit_queries<T> query;
    unit_copies<T, D> copies;
    rows_so_far<D> joined, split;
    /* Rows that are not there read the tile's first. */
    query.find([&](int r) { return queries + rows.query(rows.n_seen(own + r) ? own + r : 0); });
    joined.clear(), split.clear();
    __syncthreads();
    copies.begin_keys(keys, rows, 0);
    copies_commit();
    copies.end();
    for (int u = 0; u < n_units; u++) {
        const int left[2] = {n_seen[0] - u * UNIT, n_seen[1] - u * UNIT};
        const bool is_last = u == n_units - 1;
        copies_wait<0>();
        __syncthreads();
        copies.begin_values(values, rows, u * UNIT);
        copies_commit();
        unit_scores scores;
        unit_of_keys<T> unit;
        scores.template make<T, D>(query, [&](int r, int c) { return load_16_bytes(keys + key_at<D>(r, c)); });
        unit.weigh(scores, left, scale);
        copies.end();
        copies_wait<0>();
        __syncthreads();
        if (!is_last) copies.begin_keys(keys, rows, (u + 1) * UNIT);
        copies_commit();
        split.template take<T>(unit, values);
        if (!is_last) copies.end();
        if (R::SPLITS && (u % UNITS == UNITS - 1 || is_last)) joined.join(split), split.clear();
    }
    const rows_so_far<D> &whole = R::SPLITS ? joined : split;
#pragma unroll
    for (int h = 0; h < 2; h++)
        if (n_seen[h]) whole.template write<T>(outputs + rows.query(row[h]), h);
}

/* Block (64 queries, head, image tile). */
template <class T, int D> __device__ __forceinline__ void full_tile(const berth_cuda_attention_full &a)
{
    const long long base = (long long)blockIdx.z * a.rows * a.heads * D + (long long)blockIdx.y * D;
    const full_rows rows = {a, base, (int)blockIdx.x * BERTH_CUDA_ATTENTION_ROWS, a.rows, a.heads * D};
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
        const paged_rows rows = {a, (int)blockIdx.y, group, first, end, a.positions[end - 1] + 1, D};
        attend_tile<T, D>(rows, (const T *)a.q.at, (T *)a.o.at, a.scale);
    }
}

/* ---- few tokens ------------------------------------------------------------------------------------------------------------ */

/* A warp's region of shared memory: its unit's outputs [16, D], then what its rows saw; before that, on sm_75 on, the unit's values. */
template <int D> __device__ __forceinline__ int decode_region()
{
    return BERTH_CUDA_DECODE_REGION(D, __CUDA_ARCH__ / 10);
}
template <int D> __device__ __forceinline__ softmax_seen *decode_seen(char *region)
{
    return (softmax_seen *)(region + 16 * D * sizeof(float));
}

/* Squares [j, j + n) of a unit's outputs into its region. */
template <int D> __device__ __forceinline__ void keep_outputs(char *region, const square *o, int j, int n)
{
#pragma unroll
    for (int d = 0; d < n; d++)
#pragma unroll
        for (int i = 0; i < 8; i++) ((float *)region)[row_of(i) * D + down_column_of(j + d, i)] = o[d].c[i];
}

#if __CUDA_ARCH__ >= 750

/* A unit's values, keys from `first` on, n of them: brought to shared memory, where ldmatrix turns them; the outputs take their place. */
template <class T, int D> struct decode_values {
    char *region;

    __device__ __forceinline__ void begin(const paged_rows &rows, int first, int n)
    {
#pragma unroll 4
        for (int i = lane_id(); i < UNIT * D / CHUNK; i += 32) {
            const int row = i / (D / CHUNK), chunk = i % (D / CHUNK);
            chunk_copy v;
            v.begin(region + value_at<D>(row, chunk),
                    rows.values<T>() + (long long)rows.slot(first + min(row, n - 1)) * D + chunk * CHUNK,
                    row < n ? 16 : 0, true);
            v.end();
        }
        copies_commit();
    }

    __device__ __forceinline__ void weighted(const unit_of_keys<T> &unit, const paged_rows &, int, int)
    {
        square o[D / 16];
        copies_wait<0>();
        __syncwarp();
#pragma unroll
        for (int j = 0; j < D / 16; j++) unit.template weighted<D>((square(&)[1])o[j], region, j);
        __syncwarp();
        keep_outputs<D>(region, o, 0, D / 16);
    }
};

#else

/* On sm_70 values are operands as they lie in memory: 32 columns of all keys are asked for together. */
template <class T, int D> struct decode_values {
    char *region;

    __device__ __forceinline__ void begin(const paged_rows &, int, int) {}

    __device__ __forceinline__ void weighted(const unit_of_keys<T> &unit, const paged_rows &rows, int first, int n)
    {
        const uint4 nothing = {0, 0, 0, 0};
        const T *from[UNIT / 16][4];
#pragma unroll
        for (int i = 0; i < UNIT / 4; i++) {
            const int k = i / 4 * 16 + down_operand::row(i % 4);
            from[i / 4][i % 4] =
                k < n ? rows.values<T>() + (long long)rows.slot(first + k) * D + down_operand::chunk() * CHUNK : 0;
        }
#pragma unroll
        for (int j = 0; j < D / 16; j += DOWN_SQUARES) {
            down_operand v[UNIT / 16];
            square o[DOWN_SQUARES];
#pragma unroll
            for (int i = 0; i < UNIT / 4; i++) {
                const T *p = from[i / 4][i % 4];
                v[i / 4].part[i % 4] = p ? ask_16_bytes_once(p + j * 16) : nothing;
            }
            unit.weighted_of(o, [&](down_operand &to, int i) { to = v[i]; });
            keep_outputs<D>(region, o, j, DOWN_SQUARES);
        }
    }
};

#endif

/* A warp's unit, keys from `first` on: its outputs [16, D] and what its rows saw, into its region of shared memory. Keys are read from memory into registers. */
template <class T, int D>
__device__ __forceinline__ void decode_unit(const paged_rows &rows, const T *queries, int n_heads, int first,
                                            char *region)
{
    const int n = min(rows.n_keys - first, (int)UNIT), n_seen[2] = {n, n};
    decode_values<T, D> values = {region};
    unit_scores scores;
    unit_of_keys<T> unit;
    unit_queries<T> query;
    query.find([&](int r) { return queries + min(r, n_heads - 1) * D; });
    values.begin(rows, first, n);
    scores.template make_far<T, D>(query, [&](int r, int c) {
        const long long at = (long long)rows.slot(first + min(r, n - 1)) * D + c * CHUNK;
        return ask_16_bytes_once(rows.keys<T>() + at);
    });
    unit.weigh(scores, n_seen, rows.a.scale);
    values.weighted(unit, rows, first, n);
    if (lane_id() % (4 * ROW_LANE) / ROW_LANE == 0)
        for (int h = 0; h < 2; h++) decode_seen<D>(region)[row_of(2 * h)] = unit.seen[h];
}

/* Block (split, kv head and 16 of its query heads, token), a warp a unit. Shared: a region a warp. The barrier makes the units' outputs seen by the threads that
 * join them. */
template <class T, int D> __device__ __forceinline__ void decode_split(const berth_cuda_attention_paged &a)
{
    char *shared = (char *)berth_shared;
    const int group = a.heads / a.kv_heads, sixteens = (group + 15) / 16, split = (int)blockIdx.x;
    const int kv_head = (int)blockIdx.y / sixteens, first_head = (int)blockIdx.y % sixteens * 16;
    const int n_heads = min(group - first_head, 16), token = (int)blockIdx.z, warp = (int)threadIdx.x / 32;
    const int n_keys = a.positions[token] + 1, first = split * BERTH_CUDA_SPLIT + warp * UNIT;
    if (split * BERTH_CUDA_SPLIT >= n_keys) return; /* the whole block: the sequence ends before this split */
    const paged_rows rows = {a, kv_head, group, token, token + 1, n_keys, D};
    const long long head = (long long)token * a.heads + kv_head * group + first_head;
    if (first < n_keys)
        decode_unit<T, D>(rows, (const T *)a.q.at + head * D, n_heads, first, shared + warp * decode_region<D>());
    __syncthreads();
    const int n_units = min((n_keys - split * BERTH_CUDA_SPLIT + UNIT - 1) / UNIT, (int)UNITS);
    for (int i = (int)threadIdx.x; i < n_heads * D; i += (int)blockDim.x) {
        const int row = i / D, column = i % D;
        softmax_seen all = softmax_nothing();
        float o = 0;
        for (int u = 0; u < n_units; u++) {
            char *region = shared + u * decode_region<D>();
            o = softmax_joined(softmax_join(all, decode_seen<D>(region)[row]), o, ((float *)region)[i]);
        }
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
