/* move.cu - ops that move values: rows by index, the class row, the pixel shuffle, the key-value cache, patches.
 * Rows move as bytes, in the widest unit that their length allows (the launch chooses: u16 = 16 bytes, u4, u2), whatever their dtype; a block takes
 * a row, its threads neighbouring units, so reads and writes are coalesced. Rows of an in-place call are read and written by the same thread. */
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

template <class U>
__device__ __forceinline__ void move_row(void *dst, const void *src, long long to_row, long long from_row, int units)
{
    for (int i = (int)threadIdx.x; i < units; i += (int)blockDim.x)
        U::move(dst, src, to_row * units + i, from_row * units + i);
}

template <class U> __device__ __forceinline__ void rows(const berth_cuda_rows &a)
{
    long long i = blockIdx.x;
    move_row<U>(a.dst, a.src, a.dst_rows ? a.dst_rows[i] : i, a.src_rows ? a.src_rows[i] : i, a.units);
}

template <class U> __device__ __forceinline__ void drop_cls(const berth_cuda_drop_cls &a)
{
    long long i = blockIdx.x, tile = i / a.patches;
    move_row<U>(a.y, a.x, i, i + tile + 1, a.units);
}

/* A run is `factor` neighbouring patches of one grid row: run (tile, gy, j) of x goes to part gy % factor of its token. */
template <class U> __device__ __forceinline__ void pixel_shuffle(const berth_cuda_pixel_shuffle &a)
{
    const int cells = a.grid / a.factor;
    long long from = blockIdx.x, line = from / cells;
    int j = (int)(from % cells), gy = (int)(line % a.grid), i = gy / a.factor;
    long long tile = line / a.grid, token = a.transposed ? (long long)j * cells + i : (long long)i * cells + j;
    move_row<U>(a.y, a.x, (tile * cells * cells + token) * a.factor + gy % a.factor, from, a.units);
}

/* Block (token * kv_heads + head, part): one head's row of k or v into its slot. */
template <class U> __device__ __forceinline__ void kv_append(const berth_cuda_kv_append &a)
{
    const int head = (int)(blockIdx.x % a.kv_heads), part = (int)blockIdx.y, slot = a.slots[blockIdx.x / a.kv_heads];
    long long to = ((((long long)slot / a.block) * 2 + part) * a.kv_heads + head) * a.block + slot % a.block;
    move_row<U>(a.kv, part ? a.v : a.k, to, blockIdx.x, a.units);
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
MOVES(u4) MOVES(u2)

    /* Rows of a table of one dtype into rows of another: y[i] = table[ids[i]]. */
    template <class T, class W>
    __device__ __forceinline__ void embed(const berth_cuda_rows &a)
{
    const bool aligned = a.units % RUN == 0;
    const W *from = (const W *)a.src + (long long)a.src_rows[blockIdx.x] * a.units;
    T *to = (T *)a.dst + (long long)blockIdx.x * a.units;
    for (int i = (int)threadIdx.x * RUN; i < a.units; i += (int)blockDim.x * RUN) {
        float v[RUN];
        load_run(from + i, a.units - i, aligned, v);
        store_run(to + i, a.units - i, aligned, v);
    }
}

/* Row 0 of a tile is cls + pos[0], row 1 + i patch i + pos[1 + i]: one element a thread. */
template <class T, class W> __device__ __forceinline__ void vision_embed(const berth_cuda_vision_embed &a)
{
    long long i = global_thread();
    if (i >= a.n) return;
    const int column = (int)(i % a.c), row = (int)(i / a.c % (1 + a.n_patches));
    const long long tile = i / a.c / (1 + a.n_patches);
    float v = row ? widen(((const T *)a.patches)[(tile * a.n_patches + row - 1) * a.c + column])
                  : widen(((const W *)a.cls)[column]);
    narrow(v + widen(((const W *)a.pos)[(long long)row * a.c + column]), ((T *)a.y)[i]);
}

#define EMBEDS(T, W)                                                                                                   \
    BERTH_KERNEL(embed_##T##_##W, berth_cuda_rows)                                                                     \
    {                                                                                                                  \
        embed<T, W>(a);                                                                                                \
    }                                                                                                                  \
    BERTH_KERNEL(vision_embed_##T##_##W, berth_cuda_vision_embed)                                                      \
    {                                                                                                                  \
        vision_embed<T, W>(a);                                                                                         \
    }
BERTH_FOR_DTYPE_PAIRS(EMBEDS)

/* One element of y a thread; writes are coalesced, reads are in pieces of a patch's width. */
template <class T> __device__ __forceinline__ void patchify(const berth_cuda_patchify &a)
{
    long long i = global_thread(), rest = i;
    if (i >= a.n) return;
    const int dx = (int)(rest % a.patch), dy = (int)((rest /= a.patch) % a.patch),
              c = (int)((rest /= a.patch) % a.channels);
    const int across = a.width / a.patch, down = a.height / a.patch;
    const int px = (int)((rest /= a.channels) % across), py = (int)((rest /= across) % down);
    const long long tile = rest / down;
    ((T *)a.y)[i] =
        ((const T *)a.pixels)[((tile * a.channels + c) * a.height + py * a.patch + dy) * a.width + px * a.patch + dx];
}

#define PATCHIFY(T)                                                                                                    \
    BERTH_KERNEL(patchify_##T, berth_cuda_patchify)                                                                    \
    {                                                                                                                  \
        patchify<T>(a);                                                                                                \
    }
BERTH_FOR_DTYPES(PATCHIFY)
