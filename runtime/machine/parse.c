/* parse.c - from the text of a device list to a machine. Pure but for berth_machine_parse, which reads the host first.
 *
 * Two passes: items become devices (numbers, limits, cores that were asked for), then the cores nobody asked for are shared
 * out among the devices that named none. Easy to get wrong: "cpu" without a number takes the lowest number still free. */
#include "machine/machine_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { MAX_NUMBER = 999, QUOTE = 96 };

#define GRAMMAR "write items such as cpu, cpu*4, cpu:0, cpu*4/mem=8GiB or cpu:0/cores=0-3, with commas between them"

typedef struct item {
    const char *text; /* not terminated; trimmed */
    size_t len;
    char quoted[QUOTE];
    bool is_cuda;
    int32_t number; /* -1 = the lowest free one */
    int32_t count;
    bool has_count, has_memory, has_cores;
    uint64_t memory_bytes;
    int32_t *cores; /* owned, [n_cores] */
    int32_t n_cores;
} item;

typedef struct parser {
    const berth_host *host;
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

/* ---- settings ---- */

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

/* ---- items ---- */

static bool skip_word(const char **at, const char *end, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(end - *at) < len || memcmp(*at, word, len) != 0) return false;
    *at += len;
    return true;
}

/* cpu, cpu:N, cuda:N, all: what stands before '*' and '/'. */
static berth_status read_kind(const parser *p, item *it, const char **at, const char *end)
{
    it->number = -1;
    bool is_all = false;
    if (skip_word(at, end, "cuda")) {
        it->is_cuda = true;
    } else if (skip_word(at, end, "all")) {
        is_all = true; /* no CUDA device can be there, so all devices of this computer are its cpu */
    } else if (!skip_word(at, end, "cpu")) {
        return bad_item(p, it, "unknown kind of device; known are cpu, cuda and all");
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
    berth_status st = read_kind(p, it, &at, end);
    if (st != BERTH_OK) return st;
    it->count = 1;
    if (at < end && *at == '*') {
        at++;
        if (!read_number(&at, end, &it->count)) return bad_item(p, it, "a count is expected after '*'");
        if (it->count < 1 || it->count > BERTH_MACHINE_DEVICES) {
            char why[80];
            snprintf(why, sizeof why, "a count is 1 to %d devices", BERTH_MACHINE_DEVICES);
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
            p->err, BERTH_UNSUPPORTED,
            "device item \"%s\": this build has no CUDA backend; use cpu, cpu*4 or cpu:0/cores=0-3 instead",
            it->quoted);
    return BERTH_OK;
}

/* ---- devices ---- */

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

static berth_status add_devices(const parser *p, const item *it)
{
    berth_machine *m = p->machine;
    if (it->count > BERTH_MACHINE_DEVICES - m->n_devices) {
        return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT,
                          "device item \"%s\": the list names more than %d devices, which is the limit", it->quoted,
                          BERTH_MACHINE_DEVICES);
    }
    for (int32_t k = 0; k < it->count; k++) {
        int32_t number = it->number < 0 ? lowest_free(m) : it->number + k;
        if (number > MAX_NUMBER) return bad_item(p, it, "the device number is out of range; the largest is 999");
        if (has_number(m, number)) {
            char why[96];
            snprintf(why, sizeof why, "cpu:%d is named twice; every device needs a number of its own", number);
            return bad_item(p, it, why);
        }
        berth_device *d = &m->devices[m->n_devices++];
        d->kind = BERTH_DEVICE_CPU;
        d->number = number;
        d->memory_bytes = it->memory_bytes;
        d->memory_given = it->has_memory;
        snprintf(d->name, sizeof d->name, "cpu:%d", number);
    }
    return BERTH_OK;
}

/* ---- cores ---- */

/* Shares the host cores pool[n_pool] (indices) out among devices[n]: runs of neighbours, the first ones longer by one where it does not
 * divide; with fewer cores than devices, one each in turn. */
static berth_status share_out(const parser *p, const int32_t *pool, int32_t n_pool, berth_device *const *devices,
                              int32_t n)
{
    int32_t next = 0;
    for (int32_t i = 0; i < n; i++) {
        berth_device *d = devices[i];
        int32_t count = n_pool >= n ? n_pool / n + (i < n_pool % n) : 1;
        d->cores = malloc((size_t)count * sizeof *d->cores);
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

/* The devices of one item that named its cores. */
static berth_status give_named_cores(const parser *p, const item *it)
{
    berth_device *devices[BERTH_MACHINE_DEVICES];
    berth_machine *m = p->machine;
    int32_t *pool = malloc((size_t)it->n_cores * sizeof *pool);
    if (!pool) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of a device");
    for (int32_t i = 0; i < it->count; i++) devices[i] = &m->devices[m->n_devices - it->count + i];
    for (int32_t i = 0; i < it->n_cores; i++) pool[i] = core_index(p->host, it->cores[i]);
    berth_status st = share_out(p, pool, it->n_cores, devices, it->count);
    free(pool);
    return st;
}

/* Indices of the cores for the n devices that named none: those that no device named, if any; of these one thread a core
 * (two threads of a core have one set of arithmetic units), unless that leaves too few. */
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
    berth_device *devices[BERTH_MACHINE_DEVICES];
    int32_t n = 0;
    bool *taken = calloc((size_t)p->host->n_cores, sizeof *taken);
    int32_t *pool = malloc((size_t)p->host->n_cores * sizeof *pool);
    berth_status st =
        taken && pool ? BERTH_OK : BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core sets of the devices");
    for (int32_t i = 0; st == BERTH_OK && i < m->n_devices; i++) {
        if (m->devices[i].n_cores == 0) devices[n++] = &m->devices[i];
        for (int32_t k = 0; k < m->devices[i].n_cores; k++) taken[core_index(p->host, m->devices[i].cores[k])] = true;
    }
    if (st == BERTH_OK && n > 0) st = share_out(p, pool, fill_pool(p, taken, n, pool), devices, n);
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

/* ---- the list ---- */

static berth_status parse_item(const parser *p, const char *begin, const char *end)
{
    while (begin < end && *begin == ' ') begin++;
    while (end > begin && end[-1] == ' ') end--;
    item it = {.text = begin, .len = (size_t)(end - begin)};
    berth_quote(it.quoted, sizeof it.quoted, begin, it.len);
    berth_status st = read_item(p, &it);
    if (st == BERTH_OK) st = add_devices(p, &it);
    if (st == BERTH_OK && it.has_cores) st = give_named_cores(p, &it);
    free(it.cores);
    return st;
}

berth_status berth_machine_parse_on(const berth_host *host, const char *list, berth_machine *out, berth_error *err)
{
    *out = (berth_machine){.n_cores_present = host->n_cores, .physical_memory = host->memory_bytes};
    const parser p = {.host = host, .machine = out, .err = err};
    if (!list) list = "cpu";
    if (list[strspn(list, " ")] == '\0')
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the device list is empty; %s", GRAMMAR);
    out->devices = calloc(BERTH_MACHINE_DEVICES, sizeof *out->devices);
    berth_status st = out->devices ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of devices");
    for (const char *at = list, *end; st == BERTH_OK; at = end + 1) {
        end = at + strcspn(at, ",");
        st = parse_item(&p, at, end);
        if (*end == '\0') break;
    }
    if (st == BERTH_OK) st = give_other_cores(&p);
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
    *out = (berth_machine){0};
    berth_host host;
    berth_status st = berth_host_read(&host, err);
    if (st != BERTH_OK) return st;
    st = berth_machine_parse_on(&host, list, out, err);
    berth_host_deinit(&host);
    return st;
}

void berth_machine_deinit(berth_machine *m)
{
    for (int32_t i = 0; m->devices && i < m->n_devices; i++) free(m->devices[i].cores);
    free(m->devices);
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
