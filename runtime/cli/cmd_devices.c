/* cmd_devices.c - `berth devices`: what this computer has, and what a device list makes of it. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/status.h"
#include "base/text.h"
#include "cli/devices.h"
#include "cli/setup.h"
#include "kernels/ops.h"
#include "machine/machine.h"
#include "transport/transport.h"

static const char *const kernel_sets[] = {"avx512", "avx2", "generic", "ref"}; /* as --kernels names them */
enum { N_KERNEL_SETS = sizeof kernel_sets / sizeof kernel_sets[0] };

/* What `--dtype auto` takes on it. */
static berth_dtype auto_dtype(const berth_device *d)
{
    return d->capability == 0 ? BERTH_F32 : berth_device_has_dtype(d, BERTH_BF16) ? BERTH_BF16 : BERTH_F16;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void put_string(berth_buffer *out, const char *key, const char *value)
{
    berth_buffer_printf(out, "\"%s\":", key);
    berth_buffer_json_string(out, value, strlen(value));
}

static void json_computer(const berth_computer *c, berth_buffer *out)
{
    berth_buffer_puts(out, "\"computer\":{");
    put_string(out, "cpu", c->cpu_model);
    berth_buffer_printf(out,
                        ",\"packages\":%d,\"numa_nodes\":%d,\"cores\":%d,\"threads\":%d,\"memory_bytes\":%llu,"
                        "\"l2_bytes\":%llu,\"l3_bytes\":%llu,",
                        (int)c->packages, (int)c->numa_nodes, (int)c->cores, (int)c->threads,
                        (unsigned long long)c->memory_bytes, (unsigned long long)c->l2_bytes,
                        (unsigned long long)c->l3_bytes);
    put_string(out, "isa", c->isa);
    berth_buffer_putc(out, ',');
    put_string(out, "cuda", c->cuda);
    berth_buffer_putc(out, '}');
}

static void json_kernels(berth_buffer *out)
{
    bool first = true;
    berth_buffer_puts(out, ",\"kernels\":{");
    put_string(out, "default", berth_kernels_cpu(NULL)->name);
    berth_buffer_puts(out, ",\"available\":[");
    for (size_t i = 0; i < N_KERNEL_SETS; i++) {
        if (berth_kernels_cpu(kernel_sets[i]) == NULL) continue;
        berth_buffer_printf(out, "%s\"%s\"", first ? "" : ",", kernel_sets[i]);
        first = false;
    }
    berth_buffer_puts(out, "]}");
}

static void json_transports(berth_buffer *out)
{
    berth_buffer_puts(out, ",\"transports\":[");
    for (int32_t i = 0; i < berth_transport_count(); i++) {
        berth_buffer_puts(out, i ? ",{" : "{");
        put_string(out, "name", berth_transport_at(i)->name);
        berth_buffer_putc(out, ',');
        put_string(out, "about", berth_transport_at(i)->about);
        berth_buffer_putc(out, '}');
    }
    berth_buffer_putc(out, ']');
}

/* What is known, each with whether it was measured here. */
static void json_rates(const berth_device *d, berth_buffer *out)
{
    const berth_dtype dtype = auto_dtype(d);
    berth_buffer_putc(out, ',');
    put_string(out, "measured", d->measured);
    berth_buffer_printf(
        out,
        ",\"bytes_per_second\":%.6g,\"bytes_per_second_measured\":%s,\"flops\":%.6g,\"flops_measured\":%s,"
        "\"host_bytes_per_second\":%.6g,\"host_measured\":%s",
        d->bytes_per_second, d->is_read_measured ? "true" : "false", d->flops[dtype],
        d->flops_measured >> dtype & 1 ? "true" : "false", d->host_link.bytes_per_second,
        d->host_link.is_measured ? "true" : "false");
}

static void json_device(const berth_device *d, berth_buffer *out)
{
    put_string(out, "name", d->name);
    berth_buffer_printf(out, ",\"kind\":\"%s\",\"physical\":%d,\"memory_bytes\":%llu,\"memory_given\":%s,\"cores\":[",
                        d->kind == BERTH_DEVICE_CPU ? "cpu" : "cuda", (int)d->physical,
                        (unsigned long long)d->memory_bytes, d->memory_given ? "true" : "false");
    for (int32_t k = 0; k < d->n_cores; k++) berth_buffer_printf(out, "%s%d", k ? "," : "", (int)d->cores[k]);
    berth_buffer_printf(out, "],\"shares_cores\":%s,\"profile\":", d->shares_cores ? "true" : "false");
    if (d->profile[0])
        berth_buffer_json_string(out, d->profile, strlen(d->profile));
    else
        berth_buffer_puts(out, "null");
    if (d->capability > 0)
        berth_buffer_printf(out, ",\"capability\":\"%d.%d\"", (int)d->capability / 10, (int)d->capability % 10);
    json_rates(d, out);
}

static void json_devices(const berth_machine *m, berth_buffer *out)
{
    berth_buffer_puts(out, ",\"devices\":[");
    for (int32_t i = 0; i < m->n_devices; i++) {
        berth_buffer_puts(out, i ? ",{" : "{");
        json_device(&m->devices[i], out);
        berth_buffer_putc(out, '}');
    }
    berth_buffer_puts(out, "],\"links\":[");
    for (int32_t i = 0; i < m->n_links; i++) {
        const berth_link *l = &m->links[i];
        berth_buffer_puts(out, i ? ",{" : "{");
        put_string(out, "from", m->devices[l->from].name);
        berth_buffer_putc(out, ',');
        put_string(out, "to", m->devices[l->to].name);
        berth_buffer_putc(out, ',');
        put_string(out, "kind", l->rate.kind);
        berth_buffer_printf(out, ",\"bytes_per_second\":%.6g,\"latency_ns\":%.6g,\"measured\":%s}",
                            l->rate.bytes_per_second, l->rate.latency_ns, l->rate.is_measured ? "true" : "false");
    }
    berth_buffer_putc(out, ']');
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void text_computer(const berth_computer *c, const cli_cuda *cuda, berth_buffer *out)
{
    char memory[32], l2[32], l3[32];
    berth_buffer_printf(out, "processor   %s\n", c->cpu_model[0] ? c->cpu_model : "unknown");
    berth_buffer_printf(out, "cores       %d (%d threads, %d package%s, %d NUMA node%s)\n", (int)c->cores,
                        (int)c->threads, (int)c->packages, c->packages == 1 ? "" : "s", (int)c->numa_nodes,
                        c->numa_nodes == 1 ? "" : "s");
    berth_buffer_printf(out, "memory      %s (L2 %s, L3 %s)\n",
                        berth_format_bytes(c->memory_bytes, memory, sizeof memory),
                        berth_format_bytes(c->l2_bytes, l2, sizeof l2), berth_format_bytes(c->l3_bytes, l3, sizeof l3));
    berth_buffer_printf(out, "vectors     %s\n", c->isa[0] ? c->isa : "none that kernels look for");
    berth_buffer_printf(out, "CUDA        %s\n", c->cuda);
    cli_cuda_text(cuda, out);
    berth_buffer_printf(out, "kernels     %s; available:", berth_kernels_cpu(NULL)->name);
    for (size_t i = 0; i < N_KERNEL_SETS; i++) {
        if (berth_kernels_cpu(kernel_sets[i]) != NULL) berth_buffer_printf(out, " %s", kernel_sets[i]);
    }
    berth_buffer_puts(out, "\n");
    for (int32_t i = 0; i < berth_transport_count(); i++) {
        berth_buffer_printf(out, "%-11s %-8s %s\n", i == 0 ? "transports" : "", berth_transport_at(i)->name,
                            berth_transport_at(i)->about);
    }
}

/* Core numbers with neighbours joined: "0-3,8". */
static void text_cores(const berth_device *d, berth_buffer *out)
{
    for (int32_t i = 0; i < d->n_cores;) {
        int32_t end = i + 1;
        while (end < d->n_cores && d->cores[end] == d->cores[end - 1] + 1) end++;
        berth_buffer_printf(out, "%s%d", i ? "," : "", (int)d->cores[i]);
        if (end - i > 1) berth_buffer_printf(out, "-%d", (int)d->cores[end - 1]);
        i = end;
    }
}

/* More than a plain cpu device. */
static bool is_known(const berth_device *d)
{
    return d->profile[0] || d->measured[0] || d->kind == BERTH_DEVICE_CUDA;
}

static void text_rate(double value, int width, const char *form, berth_buffer *out)
{
    char text[32] = "-";
    if (value > 0) snprintf(text, sizeof text, form, value);
    berth_buffer_printf(out, " %*s", width, text);
}

static void text_worn(const berth_device *d, berth_buffer *out)
{
    char context[32], capability[16] = "-";
    const berth_dtype dtype = auto_dtype(d);
    if (d->capability > 0)
        snprintf(capability, sizeof capability, "%d.%d", (int)d->capability / 10, (int)d->capability % 10);
    berth_buffer_printf(out, " %10s %4s %5s",
                        d->capability > 0 ? berth_format_bytes(d->context_bytes, context, sizeof context) : "-",
                        capability, berth_dtype_name(dtype));
    text_rate(d->flops[dtype] / 1e12, 8, d->flops[dtype] < 1e12 ? "%.3f" : "%.1f", out);
    text_rate(d->bytes_per_second / 1e9, 7, "%.0f", out);
}

static void text_devices(const berth_machine *m, berth_buffer *out)
{
    int width = 10;
    bool any_worn = false;
    for (int32_t i = 0; i < m->n_devices; i++) {
        if ((int)strlen(m->devices[i].name) > width) width = (int)strlen(m->devices[i].name);
        any_worn = any_worn || is_known(&m->devices[i]);
    }
    berth_buffer_printf(out, "\n%-*s %10s", width, "device", "memory");
    if (any_worn) berth_buffer_printf(out, " %10s  %s %5s %8s %7s", "context", "cap", "dtype", "TFLOP/s", "GB/s");
    berth_buffer_puts(out, "  cores\n");
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        char memory[32];
        berth_buffer_printf(out, "%-*s %10s", width, d->name,
                            berth_format_bytes(d->memory_bytes, memory, sizeof memory));
        if (is_known(d))
            text_worn(d, out);
        else if (any_worn)
            berth_buffer_printf(out, " %10s  %3s %5s %8s %7s", "-", "-", berth_dtype_name(BERTH_F32), "-", "-");
        berth_buffer_puts(out, "  ");
        text_cores(d, out);
        berth_buffer_puts(out, d->shares_cores ? " shared\n" : "\n");
    }
}

/* Whether a GPU's rates, and which, were measured on it. */
static void text_sources(const berth_machine *m, berth_buffer *out)
{
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        const bool is_gpu = d->kind == BERTH_DEVICE_CUDA;
        if (d->measured[0])
            berth_buffer_printf(out, "%s: %s measured %s%s\n", d->name,
                                d->flops_measured >> auto_dtype(d) & 1 ? "TFLOP/s and GB/s" : "GB/s", d->measured,
                                is_gpu && d->profile[0] && !(d->flops_measured >> auto_dtype(d) & 1)
                                    ? "; TFLOP/s predicted by its profile"
                                    : "");
        else if (is_gpu && d->profile[0])
            berth_buffer_printf(out, "%s: rates predicted by profile %s; --measure measures them\n", d->name,
                                d->profile);
        else if (is_gpu)
            berth_buffer_printf(out, "%s: no profile has its name, so no rates are known; --measure measures them\n",
                                d->name);
    }
}

static bool is_same_rate(const berth_link_rate *a, const berth_link_rate *b)
{
    return strcmp(a->kind, b->kind) == 0 && a->bytes_per_second == b->bytes_per_second &&
           a->latency_ns == b->latency_ns && a->is_measured == b->is_measured;
}

/* Every pair of several devices is linked alike. */
static bool is_uniform(const berth_machine *m)
{
    bool is = m->n_devices > 2 && m->n_links == m->n_devices * (m->n_devices - 1);
    for (int32_t i = 1; is && i < m->n_links; i++) is = is_same_rate(&m->links[0].rate, &m->links[i].rate);
    return is;
}

static void text_link(const char *pair, const berth_link_rate *r, berth_buffer *out)
{
    berth_buffer_printf(out, "%-10s %-24s %10.1f %7.1f us%s\n", pair, r->kind, r->bytes_per_second / 1e9,
                        r->latency_ns / 1e3, r->is_measured ? "  measured" : "");
}

/* Both directions in one row where they are equal, all pairs where those are. */
static void text_links(const berth_machine *m, berth_buffer *out)
{
    const bool uniform = is_uniform(m);
    if (m->n_links > 0) berth_buffer_printf(out, "\n%-10s %-24s %10s %10s\n", "link", "kind", "GB/s", "latency");
    if (uniform) text_link("each pair", &m->links[0].rate, out);
    for (int32_t i = 0; !uniform && i < m->n_links; i++) {
        const berth_link *l = &m->links[i];
        const berth_link_rate back = berth_machine_link(m, l->to, l->from);
        const bool same = back.bytes_per_second == l->rate.bytes_per_second && back.latency_ns == l->rate.latency_ns;
        if (same && l->from > l->to) continue;
        char edge[32];
        snprintf(edge, sizeof edge, "%d %s %d", (int)l->from, same ? "-" : ">", (int)l->to);
        text_link(edge, &l->rate, out);
    }
}

static berth_status save(const char *path, const berth_machine *m, berth_error *err)
{
    berth_buffer text = {0};
    berth_status st = berth_machine_save(m, &text, err);
    if (st == BERTH_OK) st = berth_file_write(path, text.data, text.len, err);
    berth_buffer_deinit(&text);
    return st;
}

typedef struct description {
    berth_computer computer;
    berth_machine machine;
    cli_cuda cuda;
    berth_buffer list, measured;
} description;

/* Without --devices what is measured is all that this computer has. */
static berth_status read_machine(const cli_args *a, description *d, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (a->set[OPT_MEASURE] && !a->set[OPT_DEVICES])
        berth_buffer_puts(&d->list, "all");
    else
        st = cli_device_list(a, &d->list, err);
    if (st == BERTH_OK && d->list.failed) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the device list");
    return st == BERTH_OK ? berth_machine_parse_with(d->list.data, cli_profile_dir(a), &d->machine, err) : st;
}

static void put_json(const description *d, berth_buffer *out)
{
    berth_buffer_putc(out, '{');
    json_computer(&d->computer, out);
    cli_cuda_json(&d->cuda, out);
    json_kernels(out);
    json_transports(out);
    json_devices(&d->machine, out);
    berth_buffer_puts(out, "}\n");
}

static void put_text(const description *d, berth_buffer *out)
{
    text_computer(&d->computer, &d->cuda, out);
    if (d->measured.len > 0) berth_buffer_printf(out, "\n%s", d->measured.data);
    text_devices(&d->machine, out);
    text_links(&d->machine, out);
    text_sources(&d->machine, out);
}

static berth_status describe(const cli_args *a, berth_buffer *out, berth_error *err)
{
    description d = {0};
    berth_status st = a->set[OPT_SAVE] ? cli_may_write(a, OPT_SAVE, err) : BERTH_OK;
    if (st == BERTH_OK) st = read_machine(a, &d, err);
    if (st == BERTH_OK) st = cli_cuda_read(a->set[OPT_PROBE], &d.cuda, err);
    if (st == BERTH_OK && a->set[OPT_MEASURE]) st = cli_measure(&d.machine, d.cuda.cuda, &d.measured, err);
    if (st == BERTH_OK && a->set[OPT_SAVE]) st = save(a->text[OPT_SAVE], &d.machine, err);
    if (st == BERTH_OK) st = berth_computer_read(&d.computer, err);
    if (st == BERTH_OK) (a->set[OPT_JSON] ? put_json : put_text)(&d, out);
    if (st == BERTH_OK && (out->failed || d.measured.failed))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the list of devices");
    if (st == BERTH_OK && cli_cuda_lies(&d.cuda))
        st = BERTH_FAIL(err, BERTH_MISMATCH,
                        "there are GPUs between which copies do not bring what was sent: see proofs");
    cli_cuda_deinit(&d.cuda);
    berth_machine_deinit(&d.machine);
    berth_buffer_deinit(&d.list);
    berth_buffer_deinit(&d.measured);
    return st;
}

cli_exit cmd_devices(const cli_args *a)
{
    berth_error err = {0};
    berth_buffer out = {0};
    cli_exit code = EXIT_OK;
    const berth_status st = describe(a, &out, &err);
    if (st == BERTH_OK || st == BERTH_MISMATCH) /* a link that lies is told, and an error then */
        if (!cli_write(out.data, out.len)) code = EXIT_RUN;
    if (st != BERTH_OK && code == EXIT_OK) code = cli_fail(&err);
    berth_buffer_deinit(&out);
    return code;
}
