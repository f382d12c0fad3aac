/* parse.c - from the text of a device list to a machine. Pure but for berth_machine_parse, which reads the host
 * first, and for GPUs, which are asked for when an item names them.
 *
 * Two passes: items become devices (numbers, limits, cores that were asked for), then what nobody asked for is shared
 * out among the devices that named none: memory of GPUs, cores. Easy to get wrong: "cpu" without a number takes the lowest number
 * still free. */
#include "machine/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static bool has_number(const berth_machine *m, int32_t number)
{
    for (int32_t i = 0; i < m->n_devices; i++)
        if (m->devices[i].kind == BERTH_DEVICE_CPU && m->devices[i].number == number) return true;
    return false;
}

static int32_t lowest_free(const berth_machine *m)
{
    int32_t number = 0;
    while (has_number(m, number)) number++;
    return number;
}

/* ---- devices of an item ------------------------------------------------------------------------------------------ */

static berth_status add_device(const berth_parser *p, const berth_item *it, const berth_device *worn, int32_t number)
{
    berth_machine *m = p->machine;
    if (number < 0) number = lowest_free(m);
    if (number > BERTH_MOST_DEVICE_NUMBER)
        return berth_bad_item(p, it, "the device number is out of range; the largest is 999");
    const char *kind = worn && worn->profile[0] ? worn->profile : "cpu";
    if (has_number(m, number)) {
        char why[112];
        snprintf(why, sizeof why, "%s:%d is named twice; every device needs a number of its own", kind, number);
        return berth_bad_item(p, it, why);
    }
    berth_device *d = &m->devices[m->n_devices];
    if (worn) *d = *worn;
    d->cores = NULL;
    d->n_cores = 0;
    d->kind = BERTH_DEVICE_CPU;
    d->number = number;
    if (it->has_memory) {
        d->memory_bytes = it->memory_bytes;
        d->memory_given = d->limit_asked = true;
    }
    snprintf(d->name, sizeof d->name, "%.19s:%u", kind,
             (unsigned)number % (BERTH_MOST_DEVICE_NUMBER + 1u)); /* in range; told to compilers */
    m->n_devices++;
    return worn && worn->n_cores > 0 && !it->has_cores ? berth_cores_keep(p, worn, d) : BERTH_OK;
}

/* The links of a machine file, or between the devices of one profile. */
static bool add_links(berth_machine *m, const berth_worn *w, int32_t first)
{
    for (int32_t i = 0; i < w->n_links; i++)
        if (!berth_machine_add_link(m, first + w->links[i].from, first + w->links[i].to, &w->links[i].rate))
            return false;
    return true;
}

static bool add_peers(berth_machine *m, const berth_link_rate *peer, int32_t first)
{
    for (int32_t a = first; a < m->n_devices; a++)
        for (int32_t b = first; b < m->n_devices; b++)
            if (a != b && !berth_machine_add_link(m, a, b, peer)) return false;
    return true;
}

berth_status berth_too_many(const berth_parser *p, const berth_item *it)
{
    return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT,
                      "device item \"%s\": the list names more than %d devices, which is the limit", it->quoted,
                      BERTH_MAX_DEVICES);
}

static berth_status add_devices(const berth_parser *p, const berth_item *it)
{
    berth_machine *m = p->machine;
    const berth_worn *w = &it->worn;
    int32_t each = w->n_devices > 0 ? w->n_devices : 1, first = m->n_devices;
    berth_status st = BERTH_OK;
    bool ok = true, is_gpus = it->is_cuda;
    if (it->is_cuda) st = berth_gpus_add(p, it);
    if (it->is_all) st = berth_gpus_add_all(p, it, &is_gpus);
    if (st != BERTH_OK || is_gpus) return st;
    if (it->count * each > BERTH_MAX_DEVICES - m->n_devices) return berth_too_many(p, it);
    for (int32_t k = 0; st == BERTH_OK && k < it->count; k++) {
        int32_t begin = m->n_devices;
        for (int32_t i = 0; st == BERTH_OK && i < each; i++) {
            int32_t given = it->number >= 0 ? it->number + k : w->is_machine && k == 0 ? w->devices[i].number : -1;
            if (w->n_devices > 0 && w->devices[i].kind == BERTH_DEVICE_CUDA)
                st = berth_gpus_add_worn(p, it, i, begin);
            else
                st = add_device(p, it, w->n_devices > 0 ? &w->devices[i] : NULL, given);
        }
        ok = ok && add_links(m, w, begin);
    }
    if (st == BERTH_OK && w->peer.bytes_per_second > 0) ok = ok && add_peers(m, &w->peer, first);
    return st != BERTH_OK || ok ? st : BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the links of the devices");
}

/* "1/mem=8GiB" */
static berth_status change_device(const berth_parser *p, const berth_item *it)
{
    berth_device *d = &p->machine->devices[it->changes];
    if (it->has_memory) {
        d->memory_bytes = it->memory_bytes;
        d->memory_given = d->limit_asked = true;
    }
    if (!it->has_cores) return BERTH_OK;
    free(d->cores);
    d->cores = NULL;
    d->n_cores = 0;
    return berth_cores_give_named(p, it, it->changes, 1);
}

static void default_memory(berth_machine *m)
{
    int32_t n = 0;
    for (int32_t i = 0; i < m->n_devices; i++)
        n += m->devices[i].kind == BERTH_DEVICE_CPU && !m->devices[i].memory_given;
    for (int32_t i = 0; i < m->n_devices; i++)
        if (m->devices[i].kind == BERTH_DEVICE_CPU && !m->devices[i].memory_given)
            m->devices[i].memory_bytes = m->physical_memory / (uint64_t)n;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

static berth_status parse_item(const berth_parser *p, const char *begin, const char *end)
{
    while (begin < end && *begin == ' ') begin++;
    while (end > begin && end[-1] == ' ') end--;
    berth_item it = {.text = begin, .len = (size_t)(end - begin)};
    berth_quote(it.quoted, sizeof it.quoted, begin, it.len);
    berth_status st = berth_item_read(p, &it);
    int32_t first = p->machine->n_devices;
    if (st == BERTH_OK) st = it.changes >= 0 ? change_device(p, &it) : add_devices(p, &it);
    if (st == BERTH_OK && it.has_cores && it.changes < 0)
        st = berth_cores_give_named(p, &it, first, p->machine->n_devices - first);
    berth_worn_deinit(&it.worn);
    free(it.cores);
    return st;
}

berth_status berth_machine_parse_on(const berth_host *host, const char *list, const char *profile_dir,
                                    berth_machine *out, berth_error *err)
{
    *out = (berth_machine){.n_cores_present = host->n_cores, .physical_memory = host->memory_bytes};
    berth_parser_own own = {0};
    const berth_parser p = {.host = host, .profile_dir = profile_dir, .machine = out, .own = &own, .err = err};
    if (!list) list = "cpu";
    if (list[strspn(list, " ")] == '\0')
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the device list is empty; %s", BERTH_LIST_GRAMMAR);
    out->devices = calloc(BERTH_MAX_DEVICES, sizeof *out->devices);
    if (!out->devices) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of devices");
    berth_status st = BERTH_OK;
    for (const char *at = list, *end; st == BERTH_OK; at = end + 1) {
        end = at + strcspn(at, ",");
        st = parse_item(&p, at, end);
        if (*end == '\0') break;
    }
    if (st == BERTH_OK) st = berth_gpus_finish(&p);
    berth_gpus_deinit(&own.gpus);
    if (st == BERTH_OK) st = berth_cores_give_others(&p);
    if (st == BERTH_OK && !berth_machine_fill_links(out))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the links of the devices");
    if (st != BERTH_OK) {
        berth_machine_deinit(out);
        return st;
    }
    berth_cores_mark_shared(out);
    default_memory(out);
    return BERTH_OK;
}

berth_status berth_machine_parse(const char *list, berth_machine *out, berth_error *err)
{
    return berth_machine_parse_with(list, NULL, out, err);
}

berth_status berth_machine_parse_with(const char *list, const char *profile_dir, berth_machine *out, berth_error *err)
{
    *out = (berth_machine){0};
    berth_host host;
    berth_status st = berth_host_read(&host, err);
    if (st != BERTH_OK) return st;
    st = berth_machine_parse_on(&host, list, profile_dir, out, err);
    berth_host_deinit(&host);
    return st;
}

void berth_machine_deinit(berth_machine *m)
{
    for (int32_t i = 0; m->devices && i < m->n_devices; i++) free(m->devices[i].cores);
    free(m->devices);
    free(m->links);
    *m = (berth_machine){0};
}

int32_t berth_machine_find(const berth_machine *m, const char *name)
{
    for (int32_t i = 0; i < m->n_devices; i++)
        if (strcmp(m->devices[i].name, name) == 0) return i;
    const char *at = name, *end = name + strlen(name);
    int32_t idx;
    if (!berth_read_digits(&at, end, &idx) || at != end || idx >= m->n_devices) return -1;
    return idx;
}
