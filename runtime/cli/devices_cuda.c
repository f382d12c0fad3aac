/* devices_cuda.c - the GPUs of this computer, as `berth devices` tells of them: what each is, whether it can be used, who
 * reaches whom, which of NVIDIA's libraries are there. Each thing that is missing is one line that says what to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "cli/devices.h"
#include "probe/gpu.h"

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void look_at(berth_cuda *cuda, int32_t ordinal, cli_gpu *out)
{
    berth_gpu *gpu;
    uint64_t total;
    if (berth_gpu_open(cuda, ordinal, 0, &gpu, &out->why) != BERTH_OK) return;
    berth_gpu_memory(gpu, &out->free_bytes, &total, &out->why); /* fills `why` where it fails */
    berth_gpu_close(gpu);
}

static void prove_all(cli_cuda *c, berth_gpu_probe **probes, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (c->gpus[i].why.status == BERTH_OK) berth_gpu_probe_open(c->cuda, i, &probes[i], &c->gpus[i].why);
    for (int32_t from = 0; from < n; from++)
        for (int32_t to = 0; to < n; to++) {
            if (from == to || !probes[from] || !probes[to]) continue;
            cli_proof *p = &c->proofs[c->n_proofs++];
            p->from = from;
            p->to = to;
            berth_gpu_probe_prove(probes[from], probes[to], &p->result);
        }
    for (int32_t i = 0; i < n; i++) berth_gpu_probe_close(probes[i]);
}

berth_status cli_cuda_read(bool probe, cli_cuda *out, berth_error *err)
{
    *out = (cli_cuda){0};
    if (berth_cuda_open(NULL, &out->cuda, &out->why) != BERTH_OK) return BERTH_OK;
    const size_t n = (size_t)berth_cuda_n_gpus(out->cuda);
    out->gpus = calloc(n, sizeof *out->gpus);
    out->proofs = calloc(n * n, sizeof *out->proofs);
    berth_gpu_probe **probes = calloc(n, sizeof(berth_gpu_probe *));
    if (!out->gpus || !out->proofs || !probes) {
        free(probes);
        cli_cuda_deinit(out);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a list of %zu GPUs", n);
    }
    for (size_t i = 0; i < n; i++) look_at(out->cuda, (int32_t)i, &out->gpus[i]);
    berth_cuda_find_libraries(out->cuda, &out->libraries);
    if (probe) prove_all(out, probes, (int32_t)n);
    free(probes);
    return BERTH_OK;
}

void cli_cuda_deinit(cli_cuda *c)
{
    berth_cuda_close(c->cuda);
    free(c->gpus);
    free(c->proofs);
    *c = (cli_cuda){0};
}

bool cli_cuda_lies(const cli_cuda *c)
{
    for (int32_t i = 0; i < c->n_proofs; i++)
        if (c->proofs[i].result.status != BERTH_OK) return true;
    return false;
}

static const char *auto_dtype(const berth_gpu_info *info)
{
    const berth_device d = {.capability = info->capability};
    return berth_dtype_name(berth_device_has_dtype(&d, BERTH_BF16) ? BERTH_BF16 : BERTH_F16);
}

static const char *mode_name(berth_gpu_mode mode)
{
    return mode == BERTH_GPU_PROHIBITED ? "prohibited" : mode == BERTH_GPU_EXCLUSIVE ? "exclusive" : "shared";
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void text_gpu(const berth_gpu_info *info, const cli_gpu *gpu, berth_buffer *out)
{
    char name[24], free_text[32], total[32];
    snprintf(name, sizeof name, "cuda:%d", (int)info->ordinal);
    berth_buffer_printf(out, "%-11s %s, compute capability %d.%d (auto is %s), %s", name, info->name,
                        (int)info->capability / 10, (int)info->capability % 10, auto_dtype(info),
                        berth_format_bytes(info->memory_bytes, total, sizeof total));
    if (gpu->why.status == BERTH_OK)
        berth_buffer_printf(out, ", %s free", berth_format_bytes(gpu->free_bytes, free_text, sizeof free_text));
    berth_buffer_printf(out, ", PCI %s%s\n", info->pci, info->mode == BERTH_GPU_EXCLUSIVE ? ", exclusive" : "");
    if (gpu->why.status != BERTH_OK) berth_buffer_printf(out, "%-11s %s\n", "", gpu->why.message);
}

static void text_peers(const cli_cuda *c, berth_buffer *out)
{
    const int32_t n = berth_cuda_n_gpus(c->cuda);
    int32_t n_peers = 0;
    for (int32_t a = 0; a < n; a++)
        for (int32_t b = 0; b < n; b++) n_peers += a != b && berth_cuda_has_peer(c->cuda, a, b);
    if (n < 2) return;
    if (n_peers == 0 || n_peers == n * (n - 1)) {
        berth_buffer_printf(out, "%-11s %s\n", "peer copies",
                            n_peers ? "each GPU reaches each other"
                                    : "none: copies between GPUs go through host memory");
        return;
    }
    for (int32_t a = 0; a < n; a++) {
        bool any = false;
        berth_buffer_printf(out, "%-11s cuda:%d reaches", a ? "" : "peer copies", (int)a);
        for (int32_t b = 0; b < n; b++) {
            if (a == b || !berth_cuda_has_peer(c->cuda, a, b)) continue;
            berth_buffer_printf(out, "%s cuda:%d", any ? "," : "", (int)b);
            any = true;
        }
        berth_buffer_puts(out, any ? "\n" : " none\n");
    }
}

static void text_library(const char *name, const berth_cuda_library *l, const char *without, berth_buffer *out)
{
    if (l->why.status == BERTH_OK)
        berth_buffer_printf(out, "%-11s %s\n", name, l->version[0] ? l->version : "there, version not told");
    else
        berth_buffer_printf(out, "%-11s none (%s): %s\n", name, without, l->why.message);
}

static void text_proofs(const cli_cuda *c, berth_buffer *out)
{
    for (int32_t i = 0; i < c->n_proofs; i++) {
        const cli_proof *p = &c->proofs[i];
        berth_buffer_printf(out, "%-11s cuda:%d > cuda:%d %s\n", i ? "" : "proofs", (int)p->from, (int)p->to,
                            p->result.status != BERTH_OK                   ? p->result.message
                            : berth_cuda_has_peer(c->cuda, p->from, p->to) ? "arrives, by peer copy"
                                                                           : "arrives, by way of the host");
    }
}

void cli_cuda_text(const cli_cuda *c, berth_buffer *out)
{
    if (!c->cuda) return;
    for (int32_t i = 0; i < berth_cuda_n_gpus(c->cuda); i++) text_gpu(berth_cuda_gpu(c->cuda, i), &c->gpus[i], out);
    text_peers(c, out);
    text_library("cuBLAS", &c->libraries.cublas, "berth's own kernels multiply", out);
    text_library("NCCL", &c->libraries.nccl, "copies do its work", out);
    text_library("NVRTC", &c->libraries.nvrtc, "only images of this build run", out);
    text_proofs(c, out);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void put_string(berth_buffer *out, const char *key, const char *value)
{
    berth_buffer_printf(out, "\"%s\":", key);
    berth_buffer_json_string(out, value, strlen(value));
}

static void json_why(const berth_error *why, berth_buffer *out)
{
    berth_buffer_puts(out, ",\"error\":");
    if (why->status == BERTH_OK)
        berth_buffer_puts(out, "null");
    else
        berth_buffer_json_string(out, why->message, strlen(why->message));
}

static void json_gpu(const cli_cuda *c, int32_t i, berth_buffer *out)
{
    const berth_gpu_info *info = berth_cuda_gpu(c->cuda, i);
    bool any = false;
    berth_buffer_printf(out, "{\"name\":\"cuda:%d\",", (int)i);
    put_string(out, "model", info->name);
    berth_buffer_printf(out, ",\"capability\":\"%d.%d\",\"auto_dtype\":\"%s\",\"memory_bytes\":%llu,\"free_bytes\":",
                        (int)info->capability / 10, (int)info->capability % 10, auto_dtype(info),
                        (unsigned long long)info->memory_bytes);
    if (c->gpus[i].why.status == BERTH_OK)
        berth_buffer_printf(out, "%llu", (unsigned long long)c->gpus[i].free_bytes);
    else
        berth_buffer_puts(out, "null");
    berth_buffer_printf(out, ",\"multiprocessors\":%d,\"mode\":\"%s\",", (int)info->n_multiprocessors,
                        mode_name(info->mode));
    put_string(out, "pci", info->pci);
    berth_buffer_puts(out, ",\"uuid\":\"");
    for (size_t k = 0; k < sizeof info->uuid; k++)
        berth_buffer_printf(out, "%s%02x", k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "", (unsigned)info->uuid[k]);
    berth_buffer_puts(out, "\",\"reaches\":[");
    for (int32_t b = 0; b < berth_cuda_n_gpus(c->cuda); b++) {
        if (b == i || !berth_cuda_has_peer(c->cuda, i, b)) continue;
        berth_buffer_printf(out, "%s%d", any ? "," : "", (int)b);
        any = true;
    }
    berth_buffer_putc(out, ']');
    json_why(&c->gpus[i].why, out);
    berth_buffer_putc(out, '}');
}

static void json_library(const char *name, const berth_cuda_library *l, berth_buffer *out)
{
    berth_buffer_printf(out, "\"%s\":{", name);
    put_string(out, "version", l->version);
    json_why(&l->why, out);
    berth_buffer_putc(out, '}');
}

void cli_cuda_json(const cli_cuda *c, berth_buffer *out)
{
    const int32_t n = c->cuda ? berth_cuda_n_gpus(c->cuda) : 0;
    berth_buffer_puts(out, ",\"gpus\":[");
    for (int32_t i = 0; i < n; i++) {
        if (i) berth_buffer_putc(out, ',');
        json_gpu(c, i, out);
    }
    berth_buffer_puts(out, "],\"libraries\":{");
    if (c->cuda) {
        json_library("cublas", &c->libraries.cublas, out);
        berth_buffer_putc(out, ',');
        json_library("nccl", &c->libraries.nccl, out);
        berth_buffer_putc(out, ',');
        json_library("nvrtc", &c->libraries.nvrtc, out);
    }
    berth_buffer_puts(out, "},\"proofs\":[");
    for (int32_t i = 0; i < c->n_proofs; i++) {
        const cli_proof *p = &c->proofs[i];
        berth_buffer_printf(out, "%s{\"from\":%d,\"to\":%d", i ? "," : "", (int)p->from, (int)p->to);
        json_why(&p->result, out);
        berth_buffer_putc(out, '}');
    }
    berth_buffer_putc(out, ']');
}
