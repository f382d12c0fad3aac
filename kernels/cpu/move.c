/* move.c - CPU kernels of the ops that move or look up rows. They run at the speed of memory on any processor, so they
 * need no vector code; only the work is shared among threads. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_internal.h"

typedef struct move_job {
    const berth_op_call *call;
    size_t a, b; /* sizes that the op's rows share; see each */
} move_job;

/* Pieces of about BERTH_CPU_GRAIN elements. */
static void move(const berth_op_call *call, size_t n_rows, size_t row_elements, berth_cpu_range_fn fn, move_job *job)
{
    job->call = call;
    berth_cpu_parallel(call, n_rows, 1 + BERTH_CPU_GRAIN / (row_elements + 1), fn, job);
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

/* Item: a row of patches of one tile. */
static void patchify_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const berth_op_call *call = ((const move_job *)arg)->call;
    const berth_tensor *in = &call->in[0]; /* [n_tiles, channels, S, S] */
    size_t channels = (size_t)in->dims[1], height = (size_t)in->dims[2], width = (size_t)in->dims[3];
    size_t p = (size_t)call->attrs->patch, across = width / p, down = height / p;
    for (size_t item = begin; item < end; item++) {
        const float *tile = (const float *)in->data + item / down * channels * height * width;
        float *y = (float *)call->out.data + item * across * channels * p * p;
        for (size_t px = 0; px < across; px++)
            for (size_t c = 0; c < channels; c++)
                for (size_t dy = 0; dy < p; dy++, y += p)
                    memcpy(y, tile + (c * height + item % down * p + dy) * width + px * p, p * sizeof *y);
    }
}

void berth_cpu_patchify(const berth_op_call *call)
{
    const berth_tensor *in = &call->in[0];
    size_t down = (size_t)(in->dims[2] / call->attrs->patch);
    move_job job = {0};
    move(call, (size_t)in->dims[0] * down, (size_t)(in->dims[1] * in->dims[3] * call->attrs->patch), patchify_rows,
         &job);
}

/* Item: a row of the embedding, of all tiles, so that its position is widened once. */
static void vision_embed_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    const move_job *job = arg;
    const berth_op_call *call = job->call;
    size_t n_patches = job->a, c = job->b, n_tiles = (size_t)call->in[0].dims[0];
    const berth_tensor *cls = &call->in[1], *pos = &call->in[2];
    float *position =
        (float *)(void *)((char *)call->workspace + (size_t)thread * 2 * berth_cpu_line(c * sizeof(float)));
    float *class_row = position + berth_cpu_line(c * sizeof(float)) / sizeof(float);
    for (size_t row = begin; row < end; row++) {
        const char *at = (const char *)pos->data + row * c * berth_dtype_size(pos->dtype);
        berth_widen_f32(position, at, pos->dtype, c);
        if (row == 0) berth_widen_f32(class_row, cls->data, cls->dtype, c);
        for (size_t tile = 0; tile < n_tiles; tile++) {
            const float *x = row ? (const float *)call->in[0].data + (tile * n_patches + row - 1) * c : class_row;
            float *y = (float *)call->out.data + (tile * (1 + n_patches) + row) * c;
            for (size_t i = 0; i < c; i++) y[i] = x[i] + position[i];
        }
    }
}

size_t berth_cpu_vision_embed_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    return (size_t)n_threads * 2 * berth_cpu_line((size_t)berth_tensor_last(&shapes->in[0]) * sizeof(float));
}

void berth_cpu_vision_embed(const berth_op_call *call)
{
    const berth_tensor *in = &call->in[0];
    move_job job = {.a = (size_t)in->dims[1], .b = (size_t)in->dims[2]};
    move(call, 1 + job.a, (size_t)in->dims[0] * job.b, vision_embed_rows, &job);
}

/* Item: a tile's row of the output. */
static void drop_cls_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    size_t n_patches = job->a, c = job->b;
    for (size_t item = begin; item < end; item++) {
        size_t from = item / n_patches * (n_patches + 1) + 1 + item % n_patches;
        memcpy((float *)job->call->out.data + item * c, (const float *)job->call->in[0].data + from * c,
               c * sizeof(float));
    }
}

void berth_cpu_drop_cls(const berth_op_call *call)
{
    const berth_tensor *in = &call->in[0];
    move_job job = {.a = (size_t)in->dims[1] - 1, .b = (size_t)in->dims[2]};
    move(call, (size_t)in->dims[0] * job.a, job.b, drop_cls_rows, &job);
}

/* Item: a row of cells of one tile. a = g, the patches along a side. */
static void pixel_shuffle_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    const berth_op_call *call = job->call;
    size_t g = job->a, c = job->b, f = (size_t)call->attrs->factor, cells = g / f;
    for (size_t item = begin; item < end; item++) {
        size_t tile = item / cells, i = item % cells;
        const float *x = (const float *)call->in[0].data + tile * g * g * c;
        float *y = (float *)call->out.data + tile * g * g * c;
        for (size_t j = 0; j < cells; j++) {
            size_t token = call->attrs->transposed ? j * cells + i : i * cells + j;
            for (size_t di = 0; di < f; di++) /* dj runs along a row of x and of the cell alike */
                memcpy(y + (token * f + di) * f * c, x + ((f * i + di) * g + f * j) * c, f * c * sizeof *y);
        }
    }
}

void berth_cpu_pixel_shuffle(const berth_op_call *call)
{
    const berth_tensor *in = &call->in[0];
    move_job job = {.b = (size_t)in->dims[2]};
    while (job.a * job.a < (size_t)in->dims[1]) job.a++;
    size_t f = (size_t)call->attrs->factor;
    move(call, (size_t)in->dims[0] * (job.a / f), job.a * f * job.b, pixel_shuffle_rows, &job);
}

/* ---- rows by index ---------------------------------------------------------------------------------------------- */

static void embed_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    const berth_tensor *table = &job->call->in[1];
    const int32_t *ids = job->call->in[0].data;
    size_t row_bytes = job->b * berth_dtype_size(table->dtype);
    for (size_t t = begin; t < end; t++)
        berth_widen_f32((float *)job->call->out.data + t * job->b,
                        (const char *)table->data + (size_t)ids[t] * row_bytes, table->dtype, job->b);
}

void berth_cpu_embed(const berth_op_call *call)
{
    move_job job = {.b = (size_t)berth_tensor_last(&call->in[1])};
    move(call, (size_t)berth_tensor_elements(&call->in[0]), job.b, embed_rows, &job);
}

static void copy_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    size_t c = job->b;
    memcpy((float *)job->call->out.data + begin * c, (const float *)job->call->in[0].data + begin * c,
           (end - begin) * c * sizeof(float));
}

/* Rows may be named twice, the last wins; so the rows themselves are written by one thread. */
void berth_cpu_scatter_rows(const berth_op_call *call)
{
    const float *features = call->in[1].data;
    const int32_t *src = call->in[2].data, *dst = call->in[3].data;
    size_t n_rows = (size_t)berth_tensor_elements(&call->in[2]);
    float *y = call->out.data;
    move_job job = {.b = (size_t)berth_tensor_last(&call->in[0])};
    if (y != call->in[0].data) move(call, (size_t)berth_tensor_rows(&call->in[0]), job.b, copy_rows, &job);
    for (size_t i = 0; i < n_rows; i++)
        memcpy(y + (size_t)dst[i] * job.b, features + (size_t)src[i] * job.b, job.b * sizeof *y);
}

static void gather_range(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    const int32_t *rows = job->call->in[1].data;
    size_t c = job->b;
    for (size_t i = begin; i < end; i++)
        memcpy((float *)job->call->out.data + i * c, (const float *)job->call->in[0].data + (size_t)rows[i] * c,
               c * sizeof(float));
}

void berth_cpu_gather_rows(const berth_op_call *call)
{
    move_job job = {.b = (size_t)berth_tensor_last(&call->in[0])};
    move(call, (size_t)berth_tensor_elements(&call->in[1]), job.b, gather_range, &job);
}

void berth_cpu_store_rows(const berth_op_call *call)
{
    const int32_t *rows = call->in[1].data;
    size_t c = (size_t)berth_tensor_last(&call->in[0]), n_rows = (size_t)berth_tensor_elements(&call->in[1]);
    for (size_t i = 0; i < n_rows; i++)
        memcpy((float *)call->out.data + (size_t)rows[i] * c, (const float *)call->in[0].data + i * c,
               c * sizeof(float));
}

/* ---- positions and the cache ------------------------------------------------------------------------------------ */

/* a = d / 2. The angle is the fp32 product; see ops.h. */
static void rope_table_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    const int32_t *positions = job->call->in[0].data, *token_seq = job->call->in[1].data;
    size_t half = job->a;
    for (size_t t = begin; t < end; t++) {
        const float *inv_freq = (const float *)job->call->in[2].data + (size_t)token_seq[t] * half;
        float *y = (float *)job->call->out.data + t * 2 * half;
        for (size_t j = 0; j < half; j++) {
            float angle = (float)positions[t] * inv_freq[j];
            y[j] = cosf(angle);
            y[half + j] = sinf(angle);
        }
    }
}

void berth_cpu_rope_table(const berth_op_call *call)
{
    move_job job = {.a = (size_t)berth_tensor_last(&call->in[2])};
    move(call, (size_t)berth_tensor_elements(&call->in[0]), 16 * job.a, rope_table_rows, &job);
}

/* a = kv heads, b = head size. */
static void kv_append_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const move_job *job = arg;
    const berth_op_call *call = job->call;
    const int32_t *slots = call->in[2].data;
    size_t kv_heads = job->a, d = job->b, block = (size_t)call->out.dims[3], part_size = kv_heads * block * d;
    for (size_t t = begin; t < end; t++) {
        size_t slot = (size_t)slots[t];
        float *row = (float *)call->out.data + slot / block * 2 * part_size + slot % block * d;
        for (size_t part = 0; part < 2; part++)
            for (size_t h = 0; h < kv_heads; h++)
                memcpy(row + part * part_size + h * block * d,
                       (const float *)call->in[part].data + (t * kv_heads + h) * d, d * sizeof *row);
    }
}

void berth_cpu_kv_append(const berth_op_call *call)
{
    move_job job = {.a = (size_t)call->out.dims[2], .b = (size_t)call->out.dims[4]};
    move(call, (size_t)berth_tensor_elements(&call->in[2]), 2 * job.a * job.b, kv_append_rows, &job);
}
