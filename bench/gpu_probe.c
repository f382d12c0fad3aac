/* gpu_probe.c - what one GPU reaches, beside which engines are measured: copies, reads, products of cuBLAS at the shapes of the
 * models, the cost of a launch and of a graph's node. One line a figure, "name=value", in bytes, operations and nanoseconds.
 *
 *   gpu_probe [--device N] [--small]
 *
 * --small: shapes a 64th as wide, for emulated GPUs, whose figures mean nothing. A figure that could not be had stands as a
 * comment with the reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/gpu.h"

/* Rows are tokens of a prompt or patches of tiles; 3448 tokens and 13 tiles are InternVL3's request (docs/devices.md). */
static const struct {
    const char *what;
    int64_t rows, n_in, n_out;
} shapes[] = {
    {"a tile through a projection", 1025, 1024, 1024},    {"a tile through fc1", 1025, 1024, 4096},
    {"13 tiles through fc1", 13325, 1024, 4096},          {"a prompt through an 8B's gate", 3448, 3584, 18944},
    {"a prompt through an 8B's down", 3448, 18944, 3584}, {"a cube", 8192, 8192, 8192},
};

static void fail(const berth_error *err)
{
    fprintf(stderr, "gpu_probe: %s\n", err->message);
    exit(1);
}

static void print_rates(const berth_gpu_probe *p)
{
    berth_gpu_rates r;
    berth_error err = {0};
    if (berth_gpu_probe_rates(p, &r, &err) != BERTH_OK) fail(&err);
    printf("upload=%.6g\ndownload=%.6g\nboth_ways=%.6g\ncopy=%.6g\nfill=%.6g\nqueue_ns=%.6g\nturn_ns=%.6g\n", r.upload,
           r.download, r.both_ways, r.copy, r.fill, r.queue_ns, r.turn_ns);
}

static void print_launches(const berth_gpu_probe *p)
{
    berth_launch_costs c;
    berth_error err = {0};
    if (berth_gpu_probe_launches(p, &c, &err) == BERTH_OK)
        printf("kernel_queue_ns=%.6g\nkernel_ns=%.6g\ngraph_node_ns=%.6g\n", c.queue_ns, c.kernel_ns, c.node_ns);
    else
        printf("# no cost of a launch: %s\n", err.message);
}

/* A product of one row is a plain read of its weights. */
static void print_read(const berth_gpu_probe *p, berth_dtype dtype, int64_t part)
{
    const berth_gemm_shape s = {1, 65536 / part, 4096 / part, dtype, dtype, dtype};
    double ns;
    berth_error err = {0};
    if (berth_gpu_probe_gemm(p, &s, &ns, &err) == BERTH_OK)
        printf("read=%.6g\n", (double)(s.n_out * s.n_in * 2) * 1e9 / ns);
    else
        printf("# no read by a product of one row: %s\n", err.message);
}

static void print_products(const berth_gpu_probe *p, berth_dtype dtype, int64_t part)
{
    double most = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const berth_gemm_shape s = {
            shapes[i].rows / part, shapes[i].n_out / part, shapes[i].n_in / part, dtype, dtype, dtype};
        double ns;
        berth_error err = {0};
        if (berth_gpu_probe_gemm(p, &s, &ns, &err) != BERTH_OK) {
            printf("# no product of %s: %s\n", shapes[i].what, err.message);
            continue;
        }
        const double flops = 2.0 * (double)s.rows * (double)s.n_out * (double)s.n_in * 1e9 / ns;
        printf("gemm_%lldx%lldx%lld=%.6g # %s\n", (long long)s.rows, (long long)s.n_in, (long long)s.n_out, flops,
               shapes[i].what);
        if (flops > most) most = flops;
    }
    printf("gemm_most=%.6g\n", most);
}

int main(int argc, char **argv)
{
    int32_t device = 0;
    int64_t part = 1;
    berth_cuda *cuda;
    berth_gpu_probe *p;
    berth_error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) device = atoi(argv[++i]);
        if (strcmp(argv[i], "--small") == 0) part = 64;
    }
    if (berth_cuda_open(NULL, &cuda, &err) != BERTH_OK) fail(&err);
    if (berth_gpu_probe_open(cuda, device, &p, &err) != BERTH_OK) fail(&err);
    const berth_gpu_info *info = berth_cuda_gpu(cuda, device);
    const berth_dtype dtype = info->capability >= 80 ? BERTH_BF16 : BERTH_F16;
    printf("gpu=\"%s\"\ndriver=%d\ncapability=%d\nmemory_bytes=%llu\ndtype=%s\n", info->name,
           (int)berth_cuda_version(cuda), (int)info->capability, (unsigned long long)info->memory_bytes,
           dtype == BERTH_BF16 ? "bf16" : "fp16");
    print_rates(p);
    print_launches(p);
    print_read(p, dtype, part);
    print_products(p, dtype, part);
    berth_gpu_probe_close(p);
    berth_cuda_close(cuda);
    return 0;
}
