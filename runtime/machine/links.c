/* links.c - the rates between devices: what files say, and through host memory where they say nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/machine_internal.h"

bool berth_device_has_dtype(const berth_device *d, berth_dtype dtype)
{
    if (dtype == BERTH_F32) return true;
    if (d->capability == 0) return false;
    return dtype == BERTH_F16 || (dtype == BERTH_BF16 && d->capability >= 80);
}

static berth_link *find(const berth_machine *m, int32_t from, int32_t to)
{
    for (int32_t i = 0; i < m->n_links; i++)
        if (m->links[i].from == from && m->links[i].to == to) return &m->links[i];
    return NULL;
}

berth_link_rate berth_machine_link(const berth_machine *m, int32_t from, int32_t to)
{
    const berth_link *l = find(m, from, to);
    return l ? l->rate : (berth_link_rate){0};
}

bool berth_machine_add_link(berth_machine *m, int32_t from, int32_t to, const berth_link_rate *rate)
{
    berth_link *more = realloc(m->links, ((size_t)m->n_links + 1) * sizeof *more);
    if (!more) return false;
    m->links = more;
    more[m->n_links++] = (berth_link){.from = from, .to = to, .rate = *rate};
    return true;
}

/* One device writes to host memory, then the other reads: the slower link binds, both latencies count. */
static berth_link_rate staged(const berth_device *a, const berth_device *b)
{
    const berth_link_rate *x = &a->host_link, *y = &b->host_link;
    berth_link_rate r = {.latency_ns = x->latency_ns + y->latency_ns};
    r.bytes_per_second = x->bytes_per_second;
    if (r.bytes_per_second <= 0 || (y->bytes_per_second > 0 && y->bytes_per_second < r.bytes_per_second))
        r.bytes_per_second = y->bytes_per_second;
    snprintf(r.kind, sizeof r.kind, "host");
    return r;
}

bool berth_machine_fill_links(berth_machine *m)
{
    for (int32_t a = 0; a < m->n_devices; a++)
        for (int32_t b = 0; b < m->n_devices; b++) {
            if (a == b || find(m, a, b)) continue;
            berth_link_rate r = staged(&m->devices[a], &m->devices[b]);
            if (r.bytes_per_second > 0 && !berth_machine_add_link(m, a, b, &r)) return false;
        }
    return true;
}

bool berth_machine_set_link(berth_machine *m, int32_t from, int32_t to, const berth_link_rate *rate)
{
    berth_link *l = find(m, from, to);
    if (!l) return berth_machine_add_link(m, from, to, rate);
    l->rate = *rate;
    return true;
}

bool berth_machine_settle_links(berth_machine *m)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < m->n_links; i++)
        if (m->links[i].rate.is_measured || strcmp(m->links[i].rate.kind, "host") != 0) m->links[kept++] = m->links[i];
    m->n_links = kept;
    return berth_machine_fill_links(m);
}
