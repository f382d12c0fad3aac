/* cores.c - which cores each device gets: those that were asked for, and the others shared out. */
#include "machine/parse.h"

#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Cores stand in NUMA order, so numbers are sorted first. */
void berth_cores_describe_host(const berth_host *host, char *out, size_t n)
{
    int32_t *numbers = malloc(((size_t)host->n_cores + 1) * sizeof *numbers);
    size_t len = 0;
    snprintf(out, n, "%d cores", host->n_cores);
    if (!numbers) return;
    for (int32_t i = 0; i < host->n_cores; i++) numbers[i] = host->cores[i].number;
    qsort(numbers, (size_t)host->n_cores, sizeof *numbers, by_value);
    for (int32_t i = 0, j; i < host->n_cores && len + 32 < n; i = j) {
        for (j = i + 1; j < host->n_cores && numbers[j] == numbers[j - 1] + 1;) j++;
        len += (size_t)snprintf(out + len, n - len, j - i > 1 ? "%s%d-%d" : "%s%d", i ? "+" : "", numbers[i],
                                numbers[j - 1]);
    }
    free(numbers);
}

int32_t berth_host_core(const berth_host *host, int32_t number)
{
    for (int32_t i = 0; i < host->n_cores; i++)
        if (host->cores[i].number == number) return i;
    return -1;
}

/* Shares the host cores pool[n_pool] (indices) out among devices[n]: runs of neighbours, the first ones longer by one
 * where it does not divide; with fewer cores than devices, one each in turn. */
static berth_status share_out(const berth_parser *p, const int32_t *pool, int32_t n_pool, berth_device *const *devices,
                              int32_t n)
{
    int32_t next = 0;
    if (n_pool < 1) return BERTH_FAIL(p->err, BERTH_INTERNAL, "there are no cores to share out");
    for (int32_t i = 0; i < n; i++) {
        berth_device *d = devices[i];
        int32_t count = n_pool >= n ? n_pool / n + (i < n_pool % n) : 1;
        d->cores = calloc((size_t)count + 1, sizeof *d->cores);
        if (!d->cores) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of device %s", d->name);
        d->n_cores = count;
        for (int32_t k = 0; k < count; k++) {
            const berth_core *core = &p->host->cores[pool[next++ % n_pool]];
            if (k == 0 && d->kind == BERTH_DEVICE_CPU) d->physical = core->node;
            d->cores[k] = core->number;
        }
        qsort(d->cores, (size_t)count, sizeof *d->cores, by_value);
    }
    return BERTH_OK;
}

berth_status berth_cores_keep(const berth_parser *p, const berth_device *worn, berth_device *d)
{
    d->cores = calloc((size_t)worn->n_cores, sizeof *d->cores);
    if (!d->cores) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of device %s", d->name);
    for (int32_t i = 0; i < worn->n_cores; i++) {
        bool seen = false;
        for (int32_t k = 0; k < d->n_cores; k++) seen = seen || d->cores[k] == worn->cores[i];
        if (!seen && berth_host_core(p->host, worn->cores[i]) >= 0) d->cores[d->n_cores++] = worn->cores[i];
    }
    qsort(d->cores, (size_t)d->n_cores, sizeof *d->cores, by_value);
    if (d->n_cores > 0) return BERTH_OK;
    free(d->cores);
    d->cores = NULL;
    return BERTH_OK;
}

berth_status berth_cores_give_named(const berth_parser *p, const berth_item *it, int32_t first, int32_t count)
{
    berth_device *devices[BERTH_MAX_DEVICES];
    berth_machine *m = p->machine;
    int32_t *pool = malloc((size_t)it->n_cores * sizeof *pool);
    if (!pool) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of a device");
    for (int32_t i = 0; i < count; i++) devices[i] = &m->devices[first + i];
    for (int32_t i = 0; i < it->n_cores; i++) pool[i] = berth_host_core(p->host, it->cores[i]);
    berth_status st = share_out(p, pool, it->n_cores, devices, count);
    free(pool);
    return st;
}

/* Indices of the cores for the n devices that named none: those that no device named, if any; of these one thread a
 * core (two threads of a core have one set of arithmetic units), unless that leaves too few. */
static int32_t fill_pool(const berth_parser *p, const bool *taken, int32_t n, int32_t *pool)
{
    const berth_host *host = p->host;
    bool any_free = false;
    for (int32_t i = 0; i < host->n_cores; i++) any_free = any_free || !taken[i];
    for (int pass = 0;; pass++) {
        int32_t n_pool = 0;
        for (int32_t i = 0; i < host->n_cores; i++)
            if ((!any_free || !taken[i]) && (pass == 1 || !host->cores[i].is_sibling)) pool[n_pool++] = i;
        if (n_pool >= n || pass == 1) return n_pool;
    }
}

berth_status berth_cores_give_others(const berth_parser *p)
{
    berth_machine *m = p->machine;
    berth_device *devices[BERTH_MAX_DEVICES];
    int32_t n = 0;
    bool *taken = calloc((size_t)p->host->n_cores, sizeof *taken);
    int32_t *pool = malloc((size_t)p->host->n_cores * sizeof *pool);
    if (!taken || !pool) {
        free(taken);
        free(pool);
        return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core sets of the devices");
    }
    for (int32_t i = 0; i < m->n_devices; i++) {
        if (m->devices[i].n_cores == 0 && m->devices[i].kind == BERTH_DEVICE_CPU) devices[n++] = &m->devices[i];
        for (int32_t k = 0; k < m->devices[i].n_cores; k++)
            taken[berth_host_core(p->host, m->devices[i].cores[k])] = true;
    }
    berth_status st = n > 0 ? share_out(p, pool, fill_pool(p, taken, n, pool), devices, n) : BERTH_OK;
    free(taken);
    free(pool);
    return st;
}

void berth_cores_mark_shared(berth_machine *m)
{
    for (int32_t i = 0; i < m->n_devices; i++)
        for (int32_t j = 0; j < m->n_devices; j++)
            for (int32_t a = 0, b = 0; i != j && a < m->devices[i].n_cores && b < m->devices[j].n_cores;) {
                int32_t x = m->devices[i].cores[a], y = m->devices[j].cores[b];
                if (x == y) m->devices[i].shares_cores = true;
                a += x <= y;
                b += y <= x;
            }
}
