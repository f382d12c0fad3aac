/* gpus.c - the GPUs of a device list: what the driver says of them, and logical devices on them.
 *
 * The driver is opened when an item first asks for it, read, and closed again: a list of cpu devices never touches it,
 * and reading makes no context. What is known of a GPU's rates comes from the profile that has its name, and is a
 * prediction until it is measured. Memory is shared out last, when all devices of a GPU are known. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "machine/parse.h"

/* A CUDA context takes some 300 to 500 MiB on GPUs of servers (sources in bench/profiles), and less where there is
 * little. */
enum { CONTEXT_MIB = 500, CONTEXT_PART = 16, OLDEST_CAPABILITY = 70, MOST_GPUS = 1 << 12 };

/* ---- what there is ----------------------------------------------------------------------------------------------- */

static bool copy_gpus(const berth_cuda *cuda, berth_gpus *out)
{
    const size_t n = (size_t)berth_cuda_n_gpus(cuda);
    if (n > MOST_GPUS) return false;
    out->list = calloc(n, sizeof *out->list);
    out->peer = calloc(n, n * sizeof *out->peer);
    if (!out->list || !out->peer) return false;
    out->n = (int32_t)n;
    out->driver = berth_cuda_version(cuda);
    for (int32_t a = 0; a < out->n; a++) {
        out->list[a] = *berth_cuda_gpu(cuda, a);
        for (int32_t b = 0; b < out->n; b++)
            out->peer[(size_t)a * n + (size_t)b] = a != b && berth_cuda_has_peer(cuda, a, b);
    }
    return true;
}

static void say_visible(berth_error *err)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible) berth_error_append(err, "; CUDA_VISIBLE_DEVICES is \"%.80s\" here", visible);
}

void berth_gpus_read(berth_gpus *out)
{
    berth_cuda *cuda = NULL;
    *out = (berth_gpus){0};
    if (berth_cuda_open(NULL, &cuda, &out->why) != BERTH_OK) {
        if (out->why.native_code != 0 && out->why.status == BERTH_NOT_FOUND) say_visible(&out->why);
        return;
    }
    const bool copied = copy_gpus(cuda, out);
    berth_cuda_close(cuda);
    if (copied) return;
    berth_gpus_deinit(out);
    BERTH_FAIL(&out->why, BERTH_OUT_OF_MEMORY, "the list of GPUs");
}

void berth_gpus_deinit(berth_gpus *gpus)
{
    free(gpus->list);
    free(gpus->peer);
    *gpus = (berth_gpus){0};
}

static const berth_gpus *gpus_of(const berth_parser *p)
{
    if (p->host->gpus) return p->host->gpus;
    if (!p->own->were_read) berth_gpus_read(&p->own->gpus);
    p->own->were_read = true;
    return &p->own->gpus;
}

/* One line: the item, why, what to do. BERTH_DEVICE_ERROR, or BERTH_OUT_OF_MEMORY. */
static berth_status fail_absent(const berth_parser *p, const berth_item *it, const berth_error *why)
{
    const berth_status st = why->status == BERTH_OUT_OF_MEMORY ? BERTH_OUT_OF_MEMORY : BERTH_DEVICE_ERROR;
    BERTH_FAIL(p->err, st, "device item \"%s\": %s", it->quoted, why->message);
    if (why->status == BERTH_NOT_FOUND)
        berth_error_append(p->err, "; or wear what is to be studied, as in 2xA10 or 4xV100-SXM2-16GB");
    if (p->err) {
        p->err->native_code = why->native_code;
        p->err->native_api = why->native_api;
    }
    return st;
}

static berth_status fail_ordinal(const berth_parser *p, const berth_item *it, const berth_gpus *gpus, int32_t ordinal)
{
    berth_status st =
        BERTH_FAIL(p->err, BERTH_DEVICE_ERROR, "device item \"%s\": there is no cuda:%d; ", it->quoted, (int)ordinal);
    if (gpus->n == 1)
        berth_error_append(p->err, "the only GPU is cuda:0 (%s)", gpus->list[0].name);
    else
        berth_error_append(p->err, "there are cuda:0 to cuda:%d", (int)gpus->n - 1);
    say_visible(p->err);
    return st;
}

/* Why a GPU that is there cannot be used; false: it can. */
static bool is_unusable(const berth_gpu_info *info, char *why, size_t n)
{
    if (info->mode == BERTH_GPU_PROHIBITED)
        snprintf(
            why, n,
            "cuda:%d (%s) cannot be used: its compute mode is \"prohibited\"; allow it with nvidia-smi -i %s -c 0, "
            "or name another device",
            (int)info->ordinal, info->name, info->pci);
    else if (info->capability < OLDEST_CAPABILITY)
        snprintf(
            why, n,
            "cuda:%d (%s) has compute capability %d.%d, and berth's kernels need 7.0 or newer; name another device",
            (int)info->ordinal, info->name, (int)info->capability / 10, (int)info->capability % 10);
    else
        return false;
    return true;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static uint64_t context_of(const berth_gpu_info *info)
{
    const uint64_t usual = (uint64_t)CONTEXT_MIB << 20, most = info->memory_bytes / CONTEXT_PART;
    return usual < most ? usual : most;
}

/* The rates of the profile with the GPU's name, where there is one. */
static berth_status predict(const berth_parser *p, const berth_gpu_info *info, berth_device *d, berth_link_rate *peer)
{
    berth_worn w;
    berth_status st = berth_worn_find_gpu(info->name, &w, p->err);
    if (st == BERTH_NOT_FOUND) return BERTH_OK;
    if (st != BERTH_OK) return st;
    *d = w.devices[0];
    *peer = w.peer;
    d->memory_bytes = 0;
    d->memory_given = false;
    berth_worn_deinit(&w);
    return BERTH_OK;
}

static bool is_taken(const berth_machine *m, int32_t ordinal, int32_t end)
{
    for (int32_t i = 0; i < end; i++)
        if (m->devices[i].kind == BERTH_DEVICE_CUDA && m->devices[i].physical == ordinal) return true;
    return false;
}

static berth_status add_gpu(const berth_parser *p, const berth_item *it, const berth_gpu_info *info,
                            const berth_device *worn, berth_gpu_part part)
{
    berth_machine *m = p->machine;
    berth_device *d = &m->devices[m->n_devices];
    berth_status st = BERTH_OK;
    *d = (berth_device){0};
    p->own->peer[m->n_devices] = (berth_link_rate){0};
    if (worn)
        *d = *worn;
    else
        st = predict(p, info, d, &p->own->peer[m->n_devices]);
    if (st != BERTH_OK) return st;
    d->cores = NULL;
    d->n_cores = 0;
    d->kind = BERTH_DEVICE_CUDA;
    d->number = d->physical = info->ordinal;
    d->capability = info->capability;
    snprintf(d->model, sizeof d->model, "%.*s", (int)sizeof d->model - 1, info->name);
    if (it->has_memory) {
        d->memory_bytes = it->memory_bytes;
        d->memory_given = d->limit_asked = true;
    }
    if (part.of > 1)
        snprintf(d->name, sizeof d->name, "cuda:%d.%d", (int)info->ordinal, (int)part.index);
    else
        snprintf(d->name, sizeof d->name, "cuda:%d", (int)info->ordinal);
    m->n_devices++;
    return worn && worn->n_cores > 0 && !it->has_cores ? berth_cores_keep(p, worn, d) : BERTH_OK;
}

/* `count` logical devices on one GPU. */
static berth_status add_parts(const berth_parser *p, const berth_item *it, const berth_gpu_info *info)
{
    if (is_taken(p->machine, info->ordinal, p->machine->n_devices)) {
        char why[96];
        snprintf(why, sizeof why, "cuda:%d is named twice; cuda:%d*2 makes two devices of it", (int)info->ordinal,
                 (int)info->ordinal);
        return berth_bad_item(p, it, why);
    }
    if (it->count > BERTH_MAX_DEVICES - p->machine->n_devices) return berth_too_many(p, it);
    berth_status st = BERTH_OK;
    for (int32_t k = 0; st == BERTH_OK && k < it->count; k++)
        st = add_gpu(p, it, info, NULL, (berth_gpu_part){.index = k, .of = it->count});
    return st;
}

berth_status berth_gpus_add(const berth_parser *p, const berth_item *it)
{
    char why[256];
    const berth_gpus *gpus = gpus_of(p);
    if (gpus->n == 0) return fail_absent(p, it, &gpus->why);
    if (it->number >= gpus->n) return fail_ordinal(p, it, gpus, it->number);
    const berth_gpu_info *info = &gpus->list[it->number];
    if (is_unusable(info, why, sizeof why))
        return BERTH_FAIL(p->err, BERTH_DEVICE_ERROR, "device item \"%s\": %s", it->quoted, why);
    return add_parts(p, it, info);
}

berth_status berth_gpus_add_all(const berth_parser *p, const berth_item *it, bool *out_any)
{
    char why[256], first[256] = "";
    const berth_gpus *gpus = gpus_of(p);
    *out_any = false;
    if (gpus->n == 0) return gpus->why.status == BERTH_NOT_FOUND ? BERTH_OK : fail_absent(p, it, &gpus->why);
    for (int32_t i = 0; i < gpus->n; i++) {
        if (is_unusable(&gpus->list[i], why, sizeof why)) {
            if (!first[0]) snprintf(first, sizeof first, "%s", why);
            continue;
        }
        berth_status st = add_parts(p, it, &gpus->list[i]);
        if (st != BERTH_OK) return st;
        *out_any = true;
    }
    if (*out_any) return BERTH_OK;
    return BERTH_FAIL(p->err, BERTH_DEVICE_ERROR, "device item \"%s\": %s", it->quoted, first);
}

berth_status berth_gpus_add_worn(const berth_parser *p, const berth_item *it, int32_t index, int32_t begin)
{
    char why[256];
    const berth_worn *w = &it->worn;
    const berth_device *worn = &w->devices[index];
    const berth_gpus *gpus = gpus_of(p);
    berth_gpu_part part = {0};
    for (int32_t i = 0; i < w->n_devices; i++) {
        if (w->devices[i].kind != BERTH_DEVICE_CUDA || w->devices[i].physical != worn->physical) continue;
        part.index += i < index;
        part.of++;
    }
    if (gpus->n == 0) return fail_absent(p, it, &gpus->why);
    if (worn->physical >= gpus->n) return fail_ordinal(p, it, gpus, worn->physical);
    const berth_gpu_info *info = &gpus->list[worn->physical];
    if (worn->model[0] && strncmp(worn->model, info->name, sizeof worn->model - 1) != 0)
        return BERTH_FAIL(p->err, BERTH_DEVICE_ERROR,
                          "device item \"%s\": its cuda:%d is %s, and here that is %s; write the file anew with berth "
                          "devices --measure --save",
                          it->quoted, (int)worn->physical, worn->model, info->name);
    if (is_unusable(info, why, sizeof why))
        return BERTH_FAIL(p->err, BERTH_DEVICE_ERROR, "device item \"%s\": %s", it->quoted, why);
    if (is_taken(p->machine, worn->physical, begin)) return berth_bad_item(p, it, "it names a GPU a second time");
    return add_gpu(p, it, info, worn, part);
}

/* ---- what they share --------------------------------------------------------------------------------------------- */

static berth_status share_memory_of(const berth_parser *p, const berth_gpu_info *info)
{
    berth_machine *m = p->machine;
    const uint64_t context = context_of(info), room = info->memory_bytes - context;
    uint64_t given = 0;
    int32_t n = 0, n_open = 0;
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        if (d->kind != BERTH_DEVICE_CUDA || d->physical != info->ordinal) continue;
        n++;
        if (!d->memory_given) n_open++;
        if (d->memory_given) given = d->memory_bytes > UINT64_MAX - given ? UINT64_MAX : given + d->memory_bytes;
    }
    const uint64_t share =
        n_open && given < room ? (room - given) / (uint64_t)n_open / BERTH_GPU_ALIGN * BERTH_GPU_ALIGN : 0;
    if (given > room || (n_open > 0 && share == 0)) {
        char asked[32], there[32], taken[32];
        return BERTH_FAIL(
            p->err, BERTH_INVALID_ARGUMENT,
            "cuda:%d (%s): the limits of its devices are %s together%s, and it has %s beside the %s that its "
            "CUDA context takes; lower mem=",
            (int)info->ordinal, info->name, berth_format_bytes(given, asked, sizeof asked),
            n_open ? ", which leaves nothing for the others" : "", berth_format_bytes(room, there, sizeof there),
            berth_format_bytes(context, taken, sizeof taken));
    }
    for (int32_t i = 0; i < m->n_devices; i++) {
        berth_device *d = &m->devices[i];
        if (d->kind != BERTH_DEVICE_CUDA || d->physical != info->ordinal) continue;
        d->context_bytes = context / (uint64_t)n; /* logical devices share one */
        if (!d->memory_given) d->memory_bytes = share;
    }
    return BERTH_OK;
}

/* A copy within one GPU reads and writes. Between GPUs a way that a copy engine has is as fast as profiles say, or as
 * the link to the host, which it then shares. */
static berth_link_rate predicted_link(const berth_parser *p, const berth_gpus *gpus, int32_t from, int32_t to)
{
    const berth_device *a = &p->machine->devices[from], *b = &p->machine->devices[to];
    berth_link_rate r = {.latency_ns = a->host_link.latency_ns};
    if (a->physical == b->physical) {
        r = (berth_link_rate){.kind = "same GPU", .bytes_per_second = a->bytes_per_second / 2};
    } else if (gpus->peer[(size_t)a->physical * (size_t)gpus->n + (size_t)b->physical]) {
        const bool alike = strcmp(a->profile, b->profile) == 0 && p->own->peer[from].bytes_per_second > 0;
        const berth_link_rate *slower =
            a->host_link.bytes_per_second < b->host_link.bytes_per_second ? &a->host_link : &b->host_link;
        r.bytes_per_second = slower->bytes_per_second;
        if (alike) return p->own->peer[from];
        snprintf(r.kind, sizeof r.kind, "peer");
    }
    return r;
}

static berth_status add_links(const berth_parser *p, const berth_gpus *gpus)
{
    berth_machine *m = p->machine;
    for (int32_t a = 0; a < m->n_devices; a++)
        for (int32_t b = 0; b < m->n_devices; b++) {
            if (a == b || m->devices[a].kind != BERTH_DEVICE_CUDA || m->devices[b].kind != BERTH_DEVICE_CUDA) continue;
            if (berth_machine_link(m, a, b).bytes_per_second > 0) continue; /* a file says it */
            const berth_link_rate r = predicted_link(p, gpus, a, b);
            if (!r.kind[0] || r.bytes_per_second <= 0) continue;
            if (!berth_machine_add_link(m, a, b, &r))
                return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the links of the devices");
        }
    return BERTH_OK;
}

berth_status berth_gpus_finish(const berth_parser *p)
{
    const berth_machine *m = p->machine;
    bool any = false;
    for (int32_t i = 0; i < m->n_devices; i++) any = any || m->devices[i].kind == BERTH_DEVICE_CUDA;
    if (!any) return BERTH_OK;
    const berth_gpus *gpus = gpus_of(p);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < gpus->n; i++)
        if (is_taken(m, i, m->n_devices)) st = share_memory_of(p, &gpus->list[i]);
    return st == BERTH_OK ? add_links(p, gpus) : st;
}
