/* parse.c - from the text of a device list to a machine. Pure but for berth_machine_parse, which reads the host
 * first.
 *
 * Two passes: items become devices (numbers, limits, cores that were asked for), then the cores nobody asked for are
 * shared out among the devices that named none. Easy to get wrong: "cpu" without a number takes the lowest number
 * still free. */
#include "machine/machine_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "machine/profile.h"

enum { MAX_NUMBER = 999, QUOTE = 96 };

#define GRAMMAR                                                                                                        \
    "write items such as cpu, cpu*4, cpu*4/mem=8GiB, cpu:0/cores=0-3 or 4xV100-SXM2-16GB, with commas between them"

typedef struct item {
    const char *text; /* not terminated; trimmed */
    size_t len;
    char quoted[QUOTE];
    bool is_cuda;
    int32_t number;  /* -1 = the lowest free one */
    int32_t count;   /* of `worn`, or of cpu devices */
    int32_t changes; /* index of the device whose settings it changes; -1 = it makes devices */
    berth_worn worn; /* owned; without devices: plain cpu */
    bool has_memory, has_cores;
    uint64_t memory_bytes;
    int32_t *cores; /* owned, [n_cores] */
    int32_t n_cores;
} item;

typedef struct parser {
    const berth_host *host;
    const char *profile_dir;
    berth_machine *machine;
    berth_error *err;
} parser;

static berth_status bad_item(const parser *p, const item *it, const char *why)
{
    return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT, "device item \"%s\": %s; %s", it->quoted, why, GRAMMAR);
}

/* Plain decimal digits at *at up to `end`, no sign; false when there are none. Too large a number gives INT32_MAX. */
static bool read_number(const char **at, const char *end, int32_t *out)
{
    const char *start = *at;
    int64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        if (value < INT32_MAX) value = value * 10 + (**at - '0');
    *out = value > INT32_MAX ? INT32_MAX : (int32_t)value;
    return *at > start;
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* "0-1" for the error that lists them; cores stand in NUMA order, so numbers are sorted first. */
static void describe_cores(const berth_host *host, char *out, size_t n)
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

/* The host's core of that number, as an index; -1 = none. */
static int32_t core_index(const berth_host *host, int32_t number)
{
    for (int32_t i = 0; i < host->n_cores; i++)
        if (host->cores[i].number == number) return i;
    return -1;
}

static berth_status add_core(const parser *p, item *it, int32_t number)
{
    if (core_index(p->host, number) < 0) {
        char has[160], why[256];
        describe_cores(p->host, has, sizeof has);
        snprintf(why, sizeof why, "core %d is not one that this process may use (it may use %s)", number, has);
        return bad_item(p, it, why);
    }
    for (int32_t i = 0; i < it->n_cores; i++)
        if (it->cores[i] == number) return bad_item(p, it, "a core is named twice");
    it->cores[it->n_cores++] = number; /* distinct and present: n_cores of the host bound it */
    return BERTH_OK;
}

/* N[-N][+N[-N]...] */
static berth_status read_cores(const parser *p, item *it, const char *at, const char *end)
{
    it->cores = calloc((size_t)p->host->n_cores, sizeof *it->cores);
    if (!it->cores) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of a device");
    it->has_cores = true;
    for (;;) {
        int32_t first, last;
        if (!read_number(&at, end, &first)) return bad_item(p, it, "cores= takes core numbers such as 0, 0-3 or 0-1+4");
        last = first;
        if (at < end && *at == '-') {
            at++;
            if (!read_number(&at, end, &last) || last < first)
                return bad_item(p, it, "cores= takes ranges from low to high, such as 0-3");
        }
        for (int32_t number = first;; number++) { /* ends at the first core that is not there, however long the range */
            berth_status st = add_core(p, it, number);
            if (st != BERTH_OK) return st;
            if (number == last) break;
        }
        if (at == end) return BERTH_OK;
        if (*at++ != '+') return bad_item(p, it, "cores= takes core numbers such as 0, 0-3 or 0-1+4");
    }
}

static berth_status read_memory(const parser *p, item *it, const char *at, const char *end)
{
    char text[48];
    size_t len = (size_t)(end - at);
    it->has_memory = true;
    if (len < sizeof text) {
        memcpy(text, at, len);
        text[len] = '\0';
    }
    if (len >= sizeof text || strlen(text) != len || !berth_parse_bytes(text, &it->memory_bytes))
        return bad_item(p, it, "mem= takes a size such as 8GiB, 512MiB or 100000000");
    if (it->memory_bytes == 0) return bad_item(p, it, "mem=0 leaves the device no memory; give a size such as 8GiB");
    if (it->memory_bytes > INT64_MAX)
        return bad_item(p, it, "mem= is larger than any memory; give a size such as 8GiB");
    return BERTH_OK;
}

static berth_status read_setting(const parser *p, item *it, const char *at, const char *end)
{
    if (end - at > 4 && memcmp(at, "mem=", 4) == 0) {
        if (it->has_memory) return bad_item(p, it, "mem= is given twice");
        return read_memory(p, it, at + 4, end);
    }
    if (end - at > 6 && memcmp(at, "cores=", 6) == 0) {
        if (it->has_cores) return bad_item(p, it, "cores= is given twice");
        return read_cores(p, it, at + 6, end);
    }
    return bad_item(p, it, "unknown setting; those of a device are /mem=SIZE and /cores=LIST");
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

static bool skip_word(const char **at, const char *end, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(end - *at) < len || memcmp(*at, word, len) != 0) return false;
    *at += len;
    return true;
}

/* How much of an item is a path or a name: a path ends behind ".json", or at the end of the item. */
static const char *head_end(const char *at, const char *end, bool *out_is_path)
{
    static const char suffix[] = ".json";
    *out_is_path = *at == '.' || *at == '/';
    for (const char *s = at; end - s >= 5; s++)
        if (memcmp(s, suffix, 5) == 0 && (s + 5 == end || s[5] == '*' || s[5] == '/')) {
            *out_is_path = true;
            return s + 5;
        }
    if (*out_is_path) return end;
    while (at < end && *at != '*' && *at != '/') at++;
    return at;
}

/* "NAME", "NAME:3", "4xNAME": a whole name first, so that "4xV100-SXM2-16GB" is the machine with its wiring. */
static berth_status find_worn(const parser *p, item *it, char *name)
{
    berth_error why = {0};
    berth_status st = berth_worn_find(name, p->profile_dir, &it->worn, &why);
    char *colon = strchr(name, ':');
    if (st == BERTH_NOT_FOUND && colon) {
        const char *at = colon + 1, *end = name + strlen(name);
        if (!read_number(&at, end, &it->number) || at != end || it->number > MAX_NUMBER)
            return bad_item(p, it, "a device number from 0 to 999 is expected after ':'");
        *colon = '\0';
        st = berth_worn_find(name, p->profile_dir, &it->worn, &why);
        if (st == BERTH_OK && it->worn.is_machine)
            return bad_item(p, it, "a machine has several devices; ':' goes with the name of a profile");
    }
    const char *at = name, *end = name + strlen(name);
    if (st == BERTH_NOT_FOUND && !colon && read_number(&at, end, &it->count) && (*at == 'x' || *at == 'X')) {
        if (it->count < 1 || it->count > BERTH_MAX_DEVICES) return bad_item(p, it, "a count is 1 to 64 devices");
        st = berth_worn_find(at + 1, p->profile_dir, &it->worn, &why);
    } else {
        it->count = 1;
    }
    if (st == BERTH_OK) return BERTH_OK;
    if (st != BERTH_NOT_FOUND) {
        if (p->err) *p->err = why;
        return st;
    }
    return BERTH_FAIL(
        p->err, BERTH_INVALID_ARGUMENT,
        "device item \"%s\": unknown kind of device: %s; or plain devices, as in cpu, cpu*4, cpu*4/mem=8GiB, "
        "cpu:0/cores=0-3",
        it->quoted, why.message);
}

/* INDEX, a profile, a machine, a file. */
static berth_status read_worn(const parser *p, item *it, const char **at, const char *end)
{
    char name[1024];
    bool is_path;
    const char *head = *at, *stop = head_end(head, end, &is_path);
    int32_t index;
    if (read_number(at, end, &index) && *at == stop) {
        if (index >= p->machine->n_devices)
            return bad_item(p, it, "a bare number changes a device named before; there are fewer");
        if (*at == end || **at != '/')
            return bad_item(p, it, "a bare number changes a device named before; give it settings, as in 0/mem=8GiB");
        it->changes = index;
        return BERTH_OK;
    }
    size_t len = (size_t)(stop - head);
    if (len >= sizeof name) return bad_item(p, it, "the name is too long");
    memcpy(name, head, len);
    name[len] = '\0';
    *at = stop;
    if (strlen(name) != len) return bad_item(p, it, "a name cannot hold a NUL");
    return is_path ? berth_worn_read(name, p->profile_dir, &it->worn, p->err) : find_worn(p, it, name);
}

/* cpu, cpu:N, cuda:N, all: what stands before '*' and '/'. */
static berth_status read_kind(const parser *p, item *it, const char **at, const char *end)
{
    bool is_all = false;
    if (skip_word(at, end, "cuda")) {
        it->is_cuda = true;
    } else if (skip_word(at, end, "all")) {
        is_all = true; /* no CUDA device can be there, so all devices of this computer are its cpu */
    } else if (!skip_word(at, end, "cpu")) {
        return read_worn(p, it, at, end);
    }
    if (*at < end && **at == ':' && !is_all) {
        (*at)++;
        if (*at < end && **at == '-') return bad_item(p, it, "a device number cannot be negative");
        if (!read_number(at, end, &it->number)) return bad_item(p, it, "a device number is expected after ':'");
        if (it->number > MAX_NUMBER) return bad_item(p, it, "the device number is out of range; the largest is 999");
    } else if (it->is_cuda) {
        return bad_item(p, it, "a CUDA device needs its number, as in cuda:0");
    }
    if (*at < end && **at != '*' && **at != '/')
        return bad_item(p, it,
                        "only *COUNT and /SETTING may follow a device, and device numbers are plain decimal digits");
    return BERTH_OK;
}

static berth_status read_item(const parser *p, item *it)
{
    const char *at = it->text, *end = it->text + it->len;
    if (it->len == 0)
        return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT, "the device list has an empty item; %s", GRAMMAR);
    it->number = it->changes = -1;
    it->count = 1;
    berth_status st = read_kind(p, it, &at, end);
    if (st != BERTH_OK) return st;
    if (at < end && *at == '*') {
        at++;
        int32_t times;
        if (!read_number(&at, end, &times)) return bad_item(p, it, "a count is expected after '*'");
        it->count = times > BERTH_MAX_DEVICES ? times : it->count * times;
        if (it->count < 1 || it->count > BERTH_MAX_DEVICES) {
            char why[80];
            snprintf(why, sizeof why, "a count is 1 to %d devices", BERTH_MAX_DEVICES);
            return bad_item(p, it, why);
        }
        if (at < end && *at != '/') return bad_item(p, it, "only /SETTING may follow a count");
    }
    while (at < end) { /* *at is '/' */
        const char *setting = ++at;
        while (at < end && *at != '/') at++;
        st = read_setting(p, it, setting, at);
        if (st != BERTH_OK) return st;
    }
    if (it->is_cuda)
        return BERTH_FAIL(
            p->err, BERTH_DEVICE_ERROR,
            "device item \"%s\": this build has no CUDA backend, so the device is not there; run on cpu devices, as "
            "in cpu*4, or wear what is to be studied, as in 2xA10 or 4xV100-SXM2-16GB",
            it->quoted);
    return BERTH_OK;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static bool has_number(const berth_machine *m, int32_t number)
{
    for (int32_t i = 0; i < m->n_devices; i++)
        if (m->devices[i].number == number) return true;
    return false;
}

static int32_t lowest_free(const berth_machine *m)
{
    int32_t number = 0;
    while (has_number(m, number)) number++;
    return number;
}

/* ---- cores ------------------------------------------------------------------------------------------------------- */

/* Shares the host cores pool[n_pool] (indices) out among devices[n]: runs of neighbours, the first ones longer by one
 * where it does not divide; with fewer cores than devices, one each in turn. */
static berth_status share_out(const parser *p, const int32_t *pool, int32_t n_pool, berth_device *const *devices,
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
            if (k == 0) d->physical = core->node;
            d->cores[k] = core->number;
        }
        qsort(d->cores, (size_t)count, sizeof *d->cores, by_value);
    }
    return BERTH_OK;
}

/* The cores that a file names, as far as this process has them; none: they are shared out as if it named none. */
static berth_status keep_cores(const parser *p, const berth_device *worn, berth_device *d)
{
    d->cores = calloc((size_t)worn->n_cores, sizeof *d->cores);
    if (!d->cores) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of device %s", d->name);
    for (int32_t i = 0; i < worn->n_cores; i++) {
        bool seen = false;
        for (int32_t k = 0; k < d->n_cores; k++) seen = seen || d->cores[k] == worn->cores[i];
        if (!seen && core_index(p->host, worn->cores[i]) >= 0) d->cores[d->n_cores++] = worn->cores[i];
    }
    qsort(d->cores, (size_t)d->n_cores, sizeof *d->cores, by_value);
    if (d->n_cores > 0) return BERTH_OK;
    free(d->cores);
    d->cores = NULL;
    return BERTH_OK;
}

/* The `count` devices from `first` on, which one item made or changes, get the cores it named. */
static berth_status give_named_cores(const parser *p, const item *it, int32_t first, int32_t count)
{
    berth_device *devices[BERTH_MAX_DEVICES];
    berth_machine *m = p->machine;
    int32_t *pool = malloc((size_t)it->n_cores * sizeof *pool);
    if (!pool) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of a device");
    for (int32_t i = 0; i < count; i++) devices[i] = &m->devices[first + i];
    for (int32_t i = 0; i < it->n_cores; i++) pool[i] = core_index(p->host, it->cores[i]);
    berth_status st = share_out(p, pool, it->n_cores, devices, count);
    free(pool);
    return st;
}

/* ---- devices of an item ------------------------------------------------------------------------------------------ */

static berth_status add_device(const parser *p, const item *it, const berth_device *worn, int32_t number)
{
    berth_machine *m = p->machine;
    if (number < 0) number = lowest_free(m);
    if (number > MAX_NUMBER) return bad_item(p, it, "the device number is out of range; the largest is 999");
    const char *kind = worn && worn->profile[0] ? worn->profile : "cpu";
    if (has_number(m, number)) {
        char why[112];
        snprintf(why, sizeof why, "%s:%d is named twice; every device needs a number of its own", kind, number);
        return bad_item(p, it, why);
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
             (unsigned)number % (MAX_NUMBER + 1u)); /* in range; told to compilers */
    m->n_devices++;
    return worn && worn->n_cores > 0 && !it->has_cores ? keep_cores(p, worn, d) : BERTH_OK;
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

static berth_status add_devices(const parser *p, const item *it)
{
    berth_machine *m = p->machine;
    const berth_worn *w = &it->worn;
    int32_t each = w->n_devices > 0 ? w->n_devices : 1, first = m->n_devices;
    if (it->count * each > BERTH_MAX_DEVICES - m->n_devices) {
        return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT,
                          "device item \"%s\": the list names more than %d devices, which is the limit", it->quoted,
                          BERTH_MAX_DEVICES);
    }
    berth_status st = BERTH_OK;
    bool ok = true;
    for (int32_t k = 0; st == BERTH_OK && k < it->count; k++) {
        int32_t begin = m->n_devices;
        for (int32_t i = 0; st == BERTH_OK && i < each; i++) {
            int32_t given = it->number >= 0 ? it->number + k : w->is_machine && k == 0 ? w->devices[i].number : -1;
            st = add_device(p, it, w->n_devices > 0 ? &w->devices[i] : NULL, given);
        }
        ok = ok && add_links(m, w, begin);
    }
    if (st == BERTH_OK && w->peer.bytes_per_second > 0) ok = ok && add_peers(m, &w->peer, first);
    return st != BERTH_OK || ok ? st : BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the links of the devices");
}

/* "1/mem=8GiB" */
static berth_status change_device(const parser *p, const item *it)
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
    return give_named_cores(p, it, it->changes, 1);
}

/* Indices of the cores for the n devices that named none: those that no device named, if any; of these one thread a
 * core (two threads of a core have one set of arithmetic units), unless that leaves too few. */
static int32_t fill_pool(const parser *p, const bool *taken, int32_t n, int32_t *pool)
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

static berth_status give_other_cores(const parser *p)
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
        if (m->devices[i].n_cores == 0) devices[n++] = &m->devices[i];
        for (int32_t k = 0; k < m->devices[i].n_cores; k++) taken[core_index(p->host, m->devices[i].cores[k])] = true;
    }
    berth_status st = n > 0 ? share_out(p, pool, fill_pool(p, taken, n, pool), devices, n) : BERTH_OK;
    free(taken);
    free(pool);
    return st;
}

static void mark_shared(berth_machine *m)
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

static void default_memory(berth_machine *m)
{
    int32_t n = 0;
    for (int32_t i = 0; i < m->n_devices; i++) n += !m->devices[i].memory_given;
    for (int32_t i = 0; i < m->n_devices; i++)
        if (!m->devices[i].memory_given) m->devices[i].memory_bytes = m->physical_memory / (uint64_t)n;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

static berth_status parse_item(const parser *p, const char *begin, const char *end)
{
    while (begin < end && *begin == ' ') begin++;
    while (end > begin && end[-1] == ' ') end--;
    item it = {.text = begin, .len = (size_t)(end - begin)};
    berth_quote(it.quoted, sizeof it.quoted, begin, it.len);
    berth_status st = read_item(p, &it);
    int32_t first = p->machine->n_devices;
    if (st == BERTH_OK) st = it.changes >= 0 ? change_device(p, &it) : add_devices(p, &it);
    if (st == BERTH_OK && it.has_cores && it.changes < 0)
        st = give_named_cores(p, &it, first, p->machine->n_devices - first);
    berth_worn_deinit(&it.worn);
    free(it.cores);
    return st;
}

berth_status berth_machine_parse_on(const berth_host *host, const char *list, const char *profile_dir,
                                    berth_machine *out, berth_error *err)
{
    *out = (berth_machine){.n_cores_present = host->n_cores, .physical_memory = host->memory_bytes};
    const parser p = {.host = host, .profile_dir = profile_dir, .machine = out, .err = err};
    if (!list) list = "cpu";
    if (list[strspn(list, " ")] == '\0')
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the device list is empty; %s", GRAMMAR);
    out->devices = calloc(BERTH_MAX_DEVICES, sizeof *out->devices);
    if (!out->devices) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of devices");
    berth_status st = BERTH_OK;
    for (const char *at = list, *end; st == BERTH_OK; at = end + 1) {
        end = at + strcspn(at, ",");
        st = parse_item(&p, at, end);
        if (*end == '\0') break;
    }
    if (st == BERTH_OK) st = give_other_cores(&p);
    if (st == BERTH_OK && !berth_machine_fill_links(out))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the links of the devices");
    if (st != BERTH_OK) {
        berth_machine_deinit(out);
        return st;
    }
    mark_shared(out);
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
    if (!read_number(&at, end, &idx) || at != end || idx >= m->n_devices) return -1;
    return idx;
}
