/* computer.c - the facts of `berth devices`, as hwloc and the kernel tell them. Too slow for the start of a run; see host.c. */
#include "machine/machine_internal.h"

#include <hwloc.h>
#include <stdio.h>
#include <string.h>

/* The rest of the first line of `text` that begins with `key` and has a colon; "" when there is none. */
static void copy_value(const char *text, const char *key, char *out, size_t n)
{
    out[0] = '\0';
    size_t key_len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, key_len) != 0) continue;
        const char *value = strchr(line, ':');
        if (!value) continue;
        value += 1 + strspn(value + 1, " \t");
        size_t len = strcspn(value, "\n");
        if (len >= n) len = n - 1;
        memcpy(out, value, len);
        out[len] = '\0';
        return;
    }
}

static bool has_flag(const char *flags, const char *flag)
{
    size_t len = strlen(flag);
    for (const char *at = flags; (at = strstr(at, flag)); at += len)
        if ((at == flags || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) return true;
    return false;
}

/* Model and instruction sets out of /proc/cpuinfo: its flags are those that the kernel also lets programs use. */
static void read_cpuinfo(berth_computer *out)
{
    static const char *const wanted[] = {"avx2",        "fma",      "f16c",  "avx512f", "avx512bw",
                                         "avx512_bf16", "amx_bf16", "asimd", "sve"};
    char text[16384], flags[8192];
    if (!berth_read_small("/proc/cpuinfo", text, sizeof text)) return;
    copy_value(text, "model name", out->cpu_model, sizeof out->cpu_model);
    copy_value(text, "flags", flags, sizeof flags);
    if (!flags[0]) copy_value(text, "Features", flags, sizeof flags); /* ARM's word */
    size_t len = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!has_flag(flags, wanted[i]) || len + strlen(wanted[i]) + 2 > sizeof out->isa) continue;
        len += (size_t)snprintf(out->isa + len, sizeof out->isa - len, "%s%s", len ? " " : "", wanted[i]);
    }
}

static uint64_t cache_bytes(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    uint64_t sum = 0;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(topology, type, o));)
        if (o->attr) sum += o->attr->cache.size;
    return sum;
}

static berth_status read_topology(berth_computer *out, berth_error *err)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "hwloc's topology");
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM | HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING |
                                           HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING);
    if (hwloc_topology_load(topology) != 0) {
        hwloc_topology_destroy(topology);
        return BERTH_FAIL(err, BERTH_IO_ERROR, "hwloc could not read the topology of this computer");
    }
    out->packages = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PACKAGE);
    out->numa_nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
    out->cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    out->threads = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    out->l2_bytes = cache_bytes(topology, HWLOC_OBJ_L2CACHE);
    out->l3_bytes = cache_bytes(topology, HWLOC_OBJ_L3CACHE);
    hwloc_topology_destroy(topology);
    return BERTH_OK;
}

/* "driver for CUDA 12.4; 2 GPUs", or why there is none. */
static berth_status read_cuda(berth_computer *out, berth_error *err)
{
    berth_gpus gpus;
    berth_gpus_read(&gpus);
    if (gpus.n > 0)
        snprintf(out->cuda, sizeof out->cuda, "driver for CUDA %d.%d; %d GPU%s", (int)gpus.driver / 1000,
                 (int)gpus.driver % 1000 / 10, (int)gpus.n, gpus.n == 1 ? "" : "s");
    else
        snprintf(out->cuda, sizeof out->cuda, "none: %.300s", gpus.why.message);
    const bool no_memory = gpus.n == 0 && gpus.why.status == BERTH_OUT_OF_MEMORY && gpus.why.native_code == 0;
    if (no_memory && err) *err = gpus.why;
    berth_gpus_deinit(&gpus);
    return no_memory ? BERTH_OUT_OF_MEMORY : BERTH_OK;
}

berth_status berth_computer_read(berth_computer *out, berth_error *err)
{
    *out = (berth_computer){0};
    berth_status st = read_topology(out, err);
    if (st != BERTH_OK) return st;
    read_cpuinfo(out);
    berth_host host;
    st = berth_host_read(&host, err);
    if (st != BERTH_OK) return st;
    out->memory_bytes = host.memory_bytes;
    berth_host_deinit(&host);
    return read_cuda(out, err);
}
