/* move.cu - ops that move values: rows by index, the class row, the pixel shuffle, the key-value cache, patches.
 * Rows move as bytes, in the widest unit that their length allows (the launch chooses: u16 = 16 bytes, u4, u2), whatever their dtype; a block takes
 * a row, its threads neighbouring units, so reads and writes are coalesced. Where source and destination differ in dtype (..._mix), a thread converts a run. Rows of an in-place call are read and written by the same thread. */
#include "kernels/cuda/device.cuh"

struct u16 {
    static __device__ __forceinline__ void move(void *dst, const void *src, long long to, long long from)
    {
        store_16_bytes((char *)dst + to * 16, load_16_bytes((const char *)src + from * 16));
    }
};
struct u4 {
    static __device__ __forceinline__ void move(void *dst, const void *src, long long to, long long from)
    {
        ((unsigned *)dst)[to] = ((const unsigned *)src)[from];
    }
};
struct u2 {
    static __device__ __forceinline__ void move(void *dst, const void *src, long long to, long long from)
    {
        ((unsigned short *)dst)[to] = ((const unsigned short *)src)[from];
    }
};

template <class U, class A>
__device__ __forceinline__ void move_row(U, const A &a, const void *src, long long to_row, long long from_row)
{
    for (int i = (int)threadIdx.x; i < a.units; i += (int)blockDim.x)
        U::move(a.dst.at, src, to_row * a.units + i, from_row * a.units + i);
}

/* No unit: runs of elements, from the dtype of a.src into that of a.dst. */
struct mix {
};
template <class A>
__device__ __forceinline__ void move_row(mix, const A &a, const void *src, long long to_row, long long from_row)
{
    const berth_cuda_in from = {src, a.src.dtype};
    const bool aligned = a.units % RUN == 0;
    for (int i = (int)threadIdx.x * RUN; i < a.units; i += (int)blockDim.x * RUN) {
        float v[RUN];
        load_run(from, from_row * a.units + i, a.units - i, aligned, v);
        store_run(a.dst, to_row * a.units + i, a.units - i, aligned, v);
    }
}

template <class U> __device__ __forceinline__ void rows(const berth_cuda_rows &a)
{
    long long i = blockIdx.x;
    move_row(U(), a, a.src.at, a.dst_rows ? a.dst_rows[i] : i, a.src_rows ? a.src_rows[i] : i);
}

template <class U> __device__ __forceinline__ void drop_cls(const berth_cuda_drop_cls &a)
{
    long long i = blockIdx.x, tile = i / a.patches;
    move_row(U(), a, a.src.at, i, i + tile + 1);
}

/* A run is `factor` neighbouring patches of one grid row: run (tile, gy, j) of x goes to part gy % factor of its token. */
template <class U> __device__ __forceinline__ void pixel_shuffle(const berth_cuda_pixel_shuffle &a)
{
    const int cells = a.grid / a.factor;
    long long from = blockIdx.x, line = from / cells;
    int j = (int)(from % cells), gy = (int)(line % a.grid), i = gy / a.factor;
    long long tile = line / a.grid, token = a.transposed ? (long long)j * cells + i : (long long)i * cells + j;
    move_row(U(), a, a.src.at, (tile * cells * cells + token) * a.factor + gy % a.factor, from);
}

/* Block (token * kv_heads + head, part): one head's row of k or v into its slot. */
template <class U> __device__ __forceinline__ void kv_append(const berth_cuda_kv_append &a)
{
    const int head = (int)(blockIdx.x % a.kv_heads), part = (int)blockIdx.y, slot = a.slots[blockIdx.x / a.kv_heads];
    long long to = ((((long long)slot / a.block) * 2 + part) * a.kv_heads + head) * a.block + slot % a.block;
    move_row(U(), a, part ? a.v.at : a.src.at, to, blockIdx.x);
}

#define MOVES(U)                                                                                                       \
    BERTH_KERNEL(rows_##U, berth_cuda_rows)                                                                            \
    {                                                                                                                  \
        rows<U>(a);                                                                                                    \
    }                                                                                                                  \
    BERTH_KERNEL(drop_cls_##U, berth_cuda_drop_cls)                                                                    \
    {                                                                                                                  \
        drop_cls<U>(a);                                                                                                \
    }                                                                                                                  \
    BERTH_KERNEL(pixel_shuffle_##U, berth_cuda_pixel_shuffle)                                                          \
    {                                                                                                                  \
        pixel_shuffle<U>(a);                                                                                           \
    }                                                                                                                  \
    BERTH_KERNEL(kv_append_##U, berth_cuda_kv_append)                                                                  \
    {                                                                                                                  \
        kv_append<U>(a);                                                                                               \
    }
MOVES(u16)
MOVES(u4)
MOVES(u2)
MOVES(mix)

/* Row 0 of a tile is cls + pos[0], row 1 + i patch i + pos[1 + i]: a run of one row a thread. */
BERTH_KERNEL(vision_embed_any, berth_cuda_vision_embed)
{
    const long long i = global_thread();
    if (i >= a.n) return;
    const int runs = (a.c + RUN - 1) / RUN, column = (int)(i % runs) * RUN, left = a.c - column;
    const long long line = i / runs, tile = line / (1 + a.n_patches);
    const int row = (int)(line % (1 + a.n_patches));
    const bool aligned = a.c % RUN == 0;
    float v[RUN], pos[RUN];
    if (row)
        load_run(a.patches, (tile * a.n_patches + row - 1) * a.c + column, left, aligned, v);
    else
        load_run(a.cls, column, left, aligned, v);
    load_run(a.pos, (long long)row * a.c + column, left, aligned, pos);
#pragma unroll
    for (int j = 0; j < RUN; j++) v[j] += pos[j];
    store_run(a.y, line * a.c + column, left, aligned, v);
}

/* One element of y a thread; writes are coalesced, reads are in pieces of a patch's width. */
BERTH_KERNEL(patchify_any, berth_cuda_patchify)
{
    long long i = global_thread(), rest = i;
    if (i >= a.n) return;
    const int dx = (int)(rest % a.patch), dy = (int)((rest /= a.patch) % a.patch),
              c = (int)((rest /= a.patch) % a.channels);
    const int across = a.width / a.patch, down = a.height / a.patch;
    const int px = (int)((rest /= a.channels) % across), py = (int)((rest /= across) % down);
    const long long tile = rest / down;
    store_one(
        a.y, i,
        load_one(a.pixels, ((tile * a.channels + c) * a.height + py * a.patch + dy) * a.width + px * a.patch + dx));
}
