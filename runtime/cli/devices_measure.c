/* devices_measure.c - `berth devices --measure`: the rates of this computer's devices and of the ways between them.
 *
 * Everything is measured alone: one device, one pair at a time. Cores are measured by threads that are bound as an engine's
 * are, since a device's cores are its rates. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/status.h"
#include "cli/devices.h"
#include "exec/team.h"
#include "probe/cpu.h"
#include "probe/gpu.h"

enum { ROUNDS = 5, SPIN_NS = 50000 };

static const size_t read_bytes = (size_t)256 << 20; /* more than caches hold */

typedef struct measuring {
    berth_machine *machine;
    berth_cuda *cuda;
    berth_gpu_probe *probes[BERTH_MAX_DEVICES]; /* by device: of the first part of each GPU */
    berth_buffer *out;
    berth_error *err;
    char when[48];
} measuring;

static void say_when(measuring *m)
{
    const time_t now = time(NULL);
    struct tm day;
    char date[16] = "no date";
    if (gmtime_r(&now, &day)) strftime(date, sizeof date, "%Y-%m-%d", &day);
    if (m->cuda)
        snprintf(m->when, sizeof m->when, "%s, driver for CUDA %d.%d", date, (int)berth_cuda_version(m->cuda) / 1000,
                 (int)berth_cuda_version(m->cuda) % 1000 / 10);
    else
        snprintf(m->when, sizeof m->when, "%s", date);
}

static void mark(const measuring *m, berth_device *d)
{
    snprintf(d->measured, sizeof d->measured, "%s", m->when);
}

/* ---- cores ------------------------------------------------------------------------------------------------------- */

typedef struct cores { /* of one device, in a thread bound to them */
    const berth_device *device;
    double flops, bytes_per_second;
    berth_status status;
    berth_error err;
} cores;

static void run_probes(cores *c, berth_team *team, const void *data)
{
    berth_cpu_probe probe;
    berth_cpu_probe_init(&probe, team, data, read_bytes);
    for (int i = 0; i < ROUNDS; i++) {
        double flops;
        const double read = (double)read_bytes / berth_cpu_probe_read(&probe).wall;
        const double products_s = berth_cpu_probe_fma(&probe, &flops).wall;
        c->bytes_per_second = fmax(c->bytes_per_second, read);
        c->flops = fmax(c->flops, flops / products_s);
    }
}

static void *measure_cores(void *arg)
{
    cores *c = arg;
    const berth_device *d = c->device;
    const int32_t n = d->n_cores < BERTH_PROBE_THREADS ? d->n_cores : BERTH_PROBE_THREADS;
    berth_team *team = NULL;
    void *data = aligned_alloc(4096, read_bytes);
    if (data) {
        memset(data, 1, read_bytes); /* by a thread of these cores: near them */
        c->status = berth_cpu_team_create(n, d->cores, d->n_cores, !d->shares_cores, SPIN_NS, NULL, &team, &c->err);
        if (c->status == BERTH_OK) run_probes(c, team, data);
        berth_cpu_team_destroy(team);
    } else {
        c->status = BERTH_FAIL(&c->err, BERTH_OUT_OF_MEMORY, "device %s: %zu bytes to read", d->name, read_bytes);
    }
    free(data);
    return NULL;
}

static berth_status measure_cpu(measuring *m, berth_device *d)
{
    unsigned long thread;
    cores c = {.device = d};
    berth_status st = berth_thread_start(&thread, measure_cores, &c, d->cores, d->n_cores, NULL, m->err);
    if (st != BERTH_OK) return st;
    berth_thread_join(thread);
    if (c.status != BERTH_OK) {
        if (m->err) *m->err = c.err;
        return c.status;
    }
    d->bytes_per_second = c.bytes_per_second;
    d->flops[BERTH_F32] = c.flops;
    d->is_read_measured = true;
    d->flops_measured = 1u << BERTH_F32;
    mark(m, d);
    berth_buffer_printf(m->out, "%-10s reads %.1f GB/s, multiplies fp32 at %.3g TFLOP/s (in registers), %d cores\n",
                        d->name, c.bytes_per_second / 1e9, c.flops / 1e12, (int)d->n_cores);
    return BERTH_OK;
}

/* ---- GPUs -------------------------------------------------------------------------------------------------------- */

static bool is_gpu(const berth_device *d)
{
    return d->kind == BERTH_DEVICE_CUDA;
}

/* The first device on the same GPU. */
static int32_t first_part(const berth_machine *m, int32_t d)
{
    int32_t first = 0;
    while (!is_gpu(&m->devices[first]) || m->devices[first].physical != m->devices[d].physical) first++;
    return first;
}

static void set_gpu(const measuring *m, berth_device *d, const berth_gpu_rates *r)
{
    d->bytes_per_second = r->copy;
    d->is_read_measured = true;
    d->host_link.bytes_per_second = fmin(r->upload, r->download);
    d->host_link.latency_ns = r->turn_ns;
    d->host_link.is_measured = true;
    if (!d->host_link.kind[0]) snprintf(d->host_link.kind, sizeof d->host_link.kind, "pinned");
    mark(m, d);
}

/* What products reach in each dtype that the GPU has; without cuBLAS predictions stay. */
static berth_status measure_products(measuring *m, int32_t index)
{
    berth_machine *machine = m->machine;
    const berth_device *d = &machine->devices[index];
    berth_error why = {0};
    berth_buffer_printf(m->out, "%-10s multiplies", d->name);
    for (int t = 0; t <= BERTH_BF16; t++) {
        double flops = 0;
        if (!berth_device_has_dtype(d, (berth_dtype)t)) continue;
        const berth_status st = berth_gpu_probe_flops(m->probes[index], (berth_dtype)t, &flops, &why);
        if (st == BERTH_NOT_FOUND || st == BERTH_UNSUPPORTED || st == BERTH_DOES_NOT_FIT) {
            berth_buffer_printf(m->out, " no %s: %s\n", berth_dtype_name((berth_dtype)t), why.message);
            return BERTH_OK;
        }
        if (st != BERTH_OK) {
            if (m->err) *m->err = why;
            return st;
        }
        berth_buffer_printf(m->out, " %s at %.3g", berth_dtype_name((berth_dtype)t), flops / 1e12);
        for (int32_t i = 0; i < machine->n_devices; i++) {
            if (!is_gpu(&machine->devices[i]) || machine->devices[i].physical != d->physical) continue;
            machine->devices[i].flops[t] = flops;
            machine->devices[i].flops_measured |= 1u << t;
        }
    }
    berth_buffer_puts(m->out, " TFLOP/s (cuBLAS)\n");
    return BERTH_OK;
}

static berth_status measure_gpu(measuring *m, int32_t index)
{
    berth_gpu_rates r;
    berth_machine *machine = m->machine;
    berth_device *d = &machine->devices[index];
    if (first_part(machine, index) != index) return BERTH_OK; /* done with the first */
    berth_status st = berth_gpu_probe_open(m->cuda, d->physical, &m->probes[index], m->err);
    if (st == BERTH_OK) st = berth_gpu_probe_rates(m->probes[index], &r, m->err);
    if (st != BERTH_OK) return st;
    for (int32_t i = 0; i < machine->n_devices; i++)
        if (is_gpu(&machine->devices[i]) && machine->devices[i].physical == d->physical)
            set_gpu(m, &machine->devices[i], &r);
    berth_buffer_printf(
        m->out,
        "%-10s copies within %.1f GB/s (read and written), fills %.1f GB/s; to it %.2f GB/s, from it %.2f GB/s, "
        "both ways %.2f GB/s, pinned; queueing %.2f us, a small copy %.1f us\n",
        d->name, r.copy / 1e9, r.fill / 1e9, r.upload / 1e9, r.download / 1e9, r.both_ways / 1e9, r.queue_ns / 1e3,
        r.turn_ns / 1e3);
    return measure_products(m, index);
}

/* ---- ways between ------------------------------------------------------------------------------------------------- */

static void put_way(const measuring *m, int32_t from, int32_t to, const char *text)
{
    berth_buffer_printf(m->out, "%s > %s %s\n", m->machine->devices[from].name, m->machine->devices[to].name, text);
}

/* Ways from and to the other parts of the same two GPUs are the same way. */
static bool set_ways(berth_machine *m, int32_t from, int32_t to, const berth_link_rate *rate)
{
    for (int32_t a = 0; a < m->n_devices; a++)
        for (int32_t b = 0; b < m->n_devices; b++) {
            if (a == b || !is_gpu(&m->devices[a]) || !is_gpu(&m->devices[b])) continue;
            if (m->devices[a].physical != m->devices[from].physical ||
                m->devices[b].physical != m->devices[to].physical)
                continue;
            if (!berth_machine_set_link(m, a, b, rate)) return false;
        }
    return true;
}

/* A way that a machine file or a profile knows by name keeps it ("NV2"). */
static void name_way(const measuring *m, int32_t from, int32_t to, bool is_direct, berth_link_rate *rate)
{
    const berth_link_rate was = berth_machine_link(m->machine, from, to);
    const bool is_named = was.kind[0] && strcmp(was.kind, "host") != 0;
    snprintf(rate->kind, sizeof rate->kind, "%s", !is_direct ? "host" : is_named ? was.kind : "peer");
}

/* Where copies lie `rate` stays as it is. */
static berth_status measure_way(measuring *m, int32_t from, int32_t to, berth_link_rate *rate)
{
    char text[160];
    berth_error why = {0};
    berth_way_rates r;
    const berth_status st = berth_gpu_probe_way(m->probes[from], m->probes[to], &r, &why);
    if (st == BERTH_MISMATCH) {
        put_way(m, from, to, why.message);
        return BERTH_OK;
    }
    if (st != BERTH_OK) {
        if (m->err) *m->err = why;
        return st;
    }
    name_way(m, from, to, r.is_direct, rate);
    rate->bytes_per_second = r.copy;
    rate->latency_ns = r.turn_ns;
    rate->is_measured = true;
    snprintf(text, sizeof text, "%.2f GB/s, a small copy %.1f us, %s", r.copy / 1e9, r.turn_ns / 1e3,
             r.is_direct ? "by peer copy" : "by way of the host");
    put_way(m, from, to, text);
    return BERTH_OK;
}

static berth_status measure_pair(measuring *m, int32_t from, int32_t to)
{
    berth_machine *machine = m->machine;
    const berth_device *a = &machine->devices[from], *b = &machine->devices[to];
    berth_link_rate rate = {.kind = "host"};
    berth_status st = BERTH_OK;
    if (a->physical == b->physical) /* reads and writes there */
        rate = (berth_link_rate){.kind = "same GPU", .bytes_per_second = a->bytes_per_second / 2, .is_measured = true};
    else if (first_part(machine, from) != from || first_part(machine, to) != to)
        return BERTH_OK; /* measured with the first parts */
    else
        st = measure_way(m, from, to, &rate);
    if (st != BERTH_OK || set_ways(machine, from, to, &rate)) return st;
    return BERTH_FAIL(m->err, BERTH_OUT_OF_MEMORY, "the links of the devices");
}

static berth_status check(const berth_machine *m, berth_error *err)
{
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        if (!is_gpu(d) && d->profile[0])
            return BERTH_FAIL(
                err, BERTH_INVALID_ARGUMENT,
                "device %s wears a profile and is not there to be measured; name devices of this computer, as in "
                "all, cpu*2 or cuda:0",
                d->name);
    }
    return BERTH_OK;
}

berth_status cli_measure(berth_machine *machine, berth_cuda *cuda, berth_buffer *out, berth_error *err)
{
    measuring m = {.machine = machine, .cuda = cuda, .out = out, .err = err};
    berth_status st = check(machine, err);
    if (st != BERTH_OK) return st;
    say_when(&m);
    berth_buffer_printf(out, "measured    %s\n", m.when);
    for (int32_t i = 0; st == BERTH_OK && i < machine->n_devices; i++)
        st = is_gpu(&machine->devices[i]) ? measure_gpu(&m, i) : measure_cpu(&m, &machine->devices[i]);
    for (int32_t a = 0; st == BERTH_OK && a < machine->n_devices; a++)
        for (int32_t b = 0; st == BERTH_OK && b < machine->n_devices; b++)
            if (a != b && is_gpu(&machine->devices[a]) && is_gpu(&machine->devices[b])) st = measure_pair(&m, a, b);
    for (int32_t i = 0; i < machine->n_devices; i++) berth_gpu_probe_close(m.probes[i]);
    if (st == BERTH_OK && !berth_machine_settle_links(machine))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the links of the devices");
    return st;
}
