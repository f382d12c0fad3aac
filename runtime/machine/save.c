/* save.c - a machine as a file: its devices, their links, and what hwloc sees of the computer around them.
 *
 * The first two are read back by profile.c; "computer" is for the people who read or edit the file. Figures are
 * written with all their digits, so that what is read is what was. */
#include <hwloc.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "machine/machine_internal.h"
#include "machine/profile.h"

static void put_string(berth_buffer *b, const char *key, const char *text)
{
    berth_buffer_printf(b, "\"%s\": ", key);
    berth_buffer_json_string(b, text, strlen(text));
}

/* ---- devices and links ------------------------------------------------------------------------------------------- */

/* With where it comes from when it was measured at `when`, which is NULL for others. */
static void put_figure(berth_buffer *b, const char *key, double value, const char *when)
{
    if (!when) {
        berth_buffer_printf(b, "\"%s\": %.17g", key, value);
        return;
    }
    char source[128];
    const int len = snprintf(source, sizeof source, "%s%.60s", BERTH_MEASURED_BY, when);
    berth_buffer_printf(b, "\"%s\": {\"value\": %.17g, \"source\": ", key, value);
    berth_buffer_json_string(b, source, (size_t)len);
    berth_buffer_puts(b, ", \"confidence\": \"measured\"}");
}

static void put_rate(berth_buffer *b, const berth_link_rate *r, const char *when)
{
    if (!r->is_measured) when = NULL;
    put_string(b, "kind", r->kind);
    berth_buffer_puts(b, ", ");
    put_figure(b, "bytes_per_second", r->bytes_per_second, when);
    berth_buffer_puts(b, ", ");
    put_figure(b, "latency_ns", r->latency_ns, when);
}

static void put_text(berth_buffer *b, const char *key, const char *text)
{
    if (!text[0]) return;
    put_string(b, key, text);
    berth_buffer_puts(b, ", ");
}

static void put_worn(berth_buffer *b, const berth_device *d)
{
    static const char *const names[] = {[BERTH_F32] = "fp32", [BERTH_F16] = "fp16", [BERTH_BF16] = "bf16"};
    berth_buffer_puts(b, ",\n     ");
    put_text(b, "kind", d->kind == BERTH_DEVICE_CUDA ? "cuda" : "");
    put_text(b, "model", d->model);
    put_text(b, "profile", d->profile);
    berth_buffer_printf(b, "\"compute_capability\": \"%d.%d\", \"context_bytes\": %" PRIu64 ",\n     ",
                        (int)d->capability / 10, (int)d->capability % 10, d->context_bytes);
    put_figure(b, "bytes_per_second", d->bytes_per_second, d->is_read_measured ? d->measured : NULL);
    berth_buffer_puts(b, ",\n     \"gemm_flops\": {");
    for (int i = 0; i <= BERTH_BF16; i++) {
        if (i) berth_buffer_puts(b, ", ");
        put_figure(b, names[i], d->flops[i], d->flops_measured >> i & 1 ? d->measured : NULL);
    }
    berth_buffer_puts(b, "},\n     \"host_link\": {");
    put_rate(b, &d->host_link, d->measured);
    berth_buffer_puts(b, "}");
}

static void put_device(berth_buffer *b, const berth_device *d)
{
    berth_buffer_printf(b, "    {\"number\": %d, \"physical\": %d, \"limit_bytes\": %" PRIu64 ", \"cores\": [",
                        (int)d->number, (int)d->physical, d->memory_bytes);
    for (int32_t k = 0; k < d->n_cores; k++) berth_buffer_printf(b, "%s%d", k ? ", " : "", (int)d->cores[k]);
    berth_buffer_puts(b, "]");
    if (d->profile[0] || d->measured[0] || d->kind == BERTH_DEVICE_CUDA) put_worn(b, d);
    berth_buffer_puts(b, "}");
}

static void put_machine(berth_buffer *b, const berth_machine *m)
{
    berth_buffer_puts(b, "  \"devices\": [");
    for (int32_t i = 0; i < m->n_devices; i++) {
        berth_buffer_puts(b, i ? ",\n" : "\n");
        put_device(b, &m->devices[i]);
    }
    berth_buffer_puts(b, "\n  ],\n  \"links\": [");
    for (int32_t i = 0; i < m->n_links; i++) {
        berth_buffer_printf(b, "%s\n    {\"from\": %d, \"to\": %d, ", i ? "," : "", (int)m->links[i].from,
                            (int)m->links[i].to);
        put_rate(b, &m->links[i].rate, m->devices[m->links[i].from].measured);
        berth_buffer_puts(b, "}");
    }
    berth_buffer_puts(b, m->n_links ? "\n  ],\n" : "],\n");
}

/* ---- the computer ------------------------------------------------------------------------------------------------ */

static void put_set(berth_buffer *b, const char *key, hwloc_const_bitmap_t set)
{
    char text[512] = "";
    if (set) hwloc_bitmap_list_snprintf(text, sizeof text, set);
    put_string(b, key, text);
}

/* One line an object of the type, "[...]". */
static void put_objects(berth_buffer *b, hwloc_topology_t t, hwloc_obj_type_t type, const char *key)
{
    int n = 0;
    berth_buffer_printf(b, "    \"%s\": [", key);
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(t, type, o)); n++) {
        berth_buffer_printf(b, "%s\n      {\"number\": %u, ", n ? "," : "",
                            o->os_index == UINT_MAX ? o->logical_index : o->os_index);
        if (type == HWLOC_OBJ_NUMANODE)
            berth_buffer_printf(b, "\"memory_bytes\": %" PRIu64 ", ", (uint64_t)o->attr->numanode.local_memory);
        if (hwloc_obj_type_is_cache(type))
            berth_buffer_printf(b, "\"bytes\": %" PRIu64 ", ", (uint64_t)o->attr->cache.size);
        put_set(b, "threads", o->cpuset);
        berth_buffer_puts(b, "}");
    }
    berth_buffer_puts(b, n ? "\n    ],\n" : "],\n");
}

static void put_pci(berth_buffer *b, hwloc_topology_t t)
{
    int n = 0;
    berth_buffer_puts(b, "    \"pci\": [");
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(t, o)); n++) {
        const struct hwloc_pcidev_attr_s *pci = &o->attr->pcidev;
        hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(t, o);
        berth_buffer_printf(
            b, "%s\n      {\"address\": \"%04x:%02x:%02x.%x\", \"id\": \"%04x:%04x\", \"class\": \"%04x\", ",
            n ? "," : "", (unsigned)pci->domain, (unsigned)pci->bus, (unsigned)pci->dev, (unsigned)pci->func,
            (unsigned)pci->vendor_id, (unsigned)pci->device_id, (unsigned)pci->class_id);
        put_set(b, "near_nodes", near ? near->nodeset : NULL);
        berth_buffer_puts(b, ", ");
        put_string(b, "name", o->name ? o->name : "");
        berth_buffer_puts(b, "}");
    }
    berth_buffer_puts(b, n ? "\n    ]\n" : "]\n");
}

static bool load(hwloc_topology_t *out)
{
    /* libpciaccess leaks, and sysfs says the same; the others load makers' drivers, for devices that backends know
     * better */
    static const char *const left_out[] = {"pci", "opencl", "gl", "cuda", "nvml", "rsmi", "levelzero"};
    if (hwloc_topology_init(out) != 0) return false;
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
        hwloc_topology_set_components(*out, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, left_out[i]);
    hwloc_topology_set_io_types_filter(*out, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    hwloc_topology_set_flags(*out, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM | HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING |
                                       HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING);
    if (hwloc_topology_load(*out) == 0) return true;
    hwloc_topology_destroy(*out);
    return false;
}

berth_status berth_machine_save(const berth_machine *m, berth_buffer *out, berth_error *err)
{
    berth_computer c;
    hwloc_topology_t topology;
    berth_status st = berth_computer_read(&c, err);
    if (st != BERTH_OK) return st;
    if (!load(&topology)) return BERTH_FAIL(err, BERTH_IO_ERROR, "hwloc could not read the topology of this computer");
    berth_buffer_puts(out, "{\n  \"schema\": \"berth.machine/1\",\n");
    put_machine(out, m);
    berth_buffer_puts(out, "  \"computer\": {\n    ");
    put_string(out, "cpu", c.cpu_model);
    berth_buffer_printf(out, ", \"cores\": %d, \"threads\": %d, \"memory_bytes\": %" PRIu64 ",\n    ", (int)c.cores,
                        (int)c.threads, c.memory_bytes);
    put_string(out, "isa", c.isa);
    berth_buffer_puts(out, ", ");
    put_string(out, "cuda", c.cuda);
    berth_buffer_puts(out, ",\n");
    put_objects(out, topology, HWLOC_OBJ_PACKAGE, "packages");
    put_objects(out, topology, HWLOC_OBJ_NUMANODE, "numa_nodes");
    put_objects(out, topology, HWLOC_OBJ_L3CACHE, "l3_caches");
    put_objects(out, topology, HWLOC_OBJ_L2CACHE, "l2_caches");
    put_objects(out, topology, HWLOC_OBJ_CORE, "cores_present");
    put_pci(out, topology);
    berth_buffer_puts(out, "  }\n}\n");
    hwloc_topology_destroy(topology);
    return out->failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the text of a machine") : BERTH_OK;
}
