/* item.c - one item of a device list, read: what kind of device, how many, with which settings. Finds profiles and files;
 * makes no device. */
#include "machine/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

berth_status berth_bad_item(const berth_parser *p, const berth_item *it, const char *why)
{
    return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT, "device item \"%s\": %s; %s", it->quoted, why,
                      BERTH_LIST_GRAMMAR);
}

bool berth_read_digits(const char **at, const char *end, int32_t *out)
{
    const char *start = *at;
    int64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        if (value < INT32_MAX) value = value * 10 + (**at - '0');
    *out = value > INT32_MAX ? INT32_MAX : (int32_t)value;
    return *at > start;
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static berth_status add_core(const berth_parser *p, berth_item *it, int32_t number)
{
    if (berth_host_core(p->host, number) < 0) {
        char has[160], why[256];
        berth_cores_describe_host(p->host, has, sizeof has);
        snprintf(why, sizeof why, "core %d is not one that this process may use (it may use %s)", number, has);
        return berth_bad_item(p, it, why);
    }
    for (int32_t i = 0; i < it->n_cores; i++)
        if (it->cores[i] == number) return berth_bad_item(p, it, "a core is named twice");
    it->cores[it->n_cores++] = number; /* distinct and present: n_cores of the host bound it */
    return BERTH_OK;
}

/* N[-N][+N[-N]...] */
static berth_status read_cores(const berth_parser *p, berth_item *it, const char *at, const char *end)
{
    it->cores = calloc((size_t)p->host->n_cores, sizeof *it->cores);
    if (!it->cores) return BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "the core set of a device");
    it->has_cores = true;
    for (;;) {
        int32_t first, last;
        if (!berth_read_digits(&at, end, &first))
            return berth_bad_item(p, it, "cores= takes core numbers such as 0, 0-3 or 0-1+4");
        last = first;
        if (at < end && *at == '-') {
            at++;
            if (!berth_read_digits(&at, end, &last) || last < first)
                return berth_bad_item(p, it, "cores= takes ranges from low to high, such as 0-3");
        }
        for (int32_t number = first;; number++) { /* ends at the first core that is not there, however long the range */
            berth_status st = add_core(p, it, number);
            if (st != BERTH_OK) return st;
            if (number == last) break;
        }
        if (at == end) return BERTH_OK;
        if (*at++ != '+') return berth_bad_item(p, it, "cores= takes core numbers such as 0, 0-3 or 0-1+4");
    }
}

static berth_status read_memory(const berth_parser *p, berth_item *it, const char *at, const char *end)
{
    char text[48];
    size_t len = (size_t)(end - at);
    it->has_memory = true;
    if (len < sizeof text) {
        memcpy(text, at, len);
        text[len] = '\0';
    }
    if (len >= sizeof text || strlen(text) != len || !berth_parse_bytes(text, &it->memory_bytes))
        return berth_bad_item(p, it, "mem= takes a size such as 8GiB, 512MiB or 100000000");
    if (it->memory_bytes == 0)
        return berth_bad_item(p, it, "mem=0 leaves the device no memory; give a size such as 8GiB");
    if (it->memory_bytes > INT64_MAX)
        return berth_bad_item(p, it, "mem= is larger than any memory; give a size such as 8GiB");
    return BERTH_OK;
}

static berth_status read_setting(const berth_parser *p, berth_item *it, const char *at, const char *end)
{
    if (end - at > 4 && memcmp(at, "mem=", 4) == 0) {
        if (it->has_memory) return berth_bad_item(p, it, "mem= is given twice");
        return read_memory(p, it, at + 4, end);
    }
    if (end - at > 6 && memcmp(at, "cores=", 6) == 0) {
        if (it->has_cores) return berth_bad_item(p, it, "cores= is given twice");
        return read_cores(p, it, at + 6, end);
    }
    return berth_bad_item(p, it, "unknown setting; those of a device are /mem=SIZE and /cores=LIST");
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
static berth_status find_worn(const berth_parser *p, berth_item *it, char *name)
{
    berth_error why = {0};
    berth_status st = berth_worn_find(name, p->profile_dir, &it->worn, &why);
    char *colon = strchr(name, ':');
    if (st == BERTH_NOT_FOUND && colon) {
        const char *at = colon + 1, *end = name + strlen(name);
        if (!berth_read_digits(&at, end, &it->number) || at != end || it->number > BERTH_MOST_DEVICE_NUMBER)
            return berth_bad_item(p, it, "a device number from 0 to 999 is expected after ':'");
        *colon = '\0';
        st = berth_worn_find(name, p->profile_dir, &it->worn, &why);
        if (st == BERTH_OK && it->worn.is_machine)
            return berth_bad_item(p, it, "a machine has several devices; ':' goes with the name of a profile");
    }
    const char *at = name, *end = name + strlen(name);
    if (st == BERTH_NOT_FOUND && !colon && berth_read_digits(&at, end, &it->count) && (*at == 'x' || *at == 'X')) {
        if (it->count < 1 || it->count > BERTH_MAX_DEVICES) return berth_bad_item(p, it, "a count is 1 to 64 devices");
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
        "cpu:0/cores=0-3, or GPUs, as in cuda:0 or all",
        it->quoted, why.message);
}

/* INDEX, a profile, a machine, a file. */
static berth_status read_worn(const berth_parser *p, berth_item *it, const char **at, const char *end)
{
    char name[1024];
    bool is_path;
    const char *head = *at, *stop = head_end(head, end, &is_path);
    int32_t index;
    if (berth_read_digits(at, end, &index) && *at == stop) {
        if (index >= p->machine->n_devices)
            return berth_bad_item(p, it, "a bare number changes a device named before; there are fewer");
        if (*at == end || **at != '/')
            return berth_bad_item(p, it,
                                  "a bare number changes a device named before; give it settings, as in 0/mem=8GiB");
        it->changes = index;
        return BERTH_OK;
    }
    size_t len = (size_t)(stop - head);
    if (len >= sizeof name) return berth_bad_item(p, it, "the name is too long");
    memcpy(name, head, len);
    name[len] = '\0';
    *at = stop;
    if (strlen(name) != len) return berth_bad_item(p, it, "a name cannot hold a NUL");
    return is_path ? berth_worn_read(name, p->profile_dir, &it->worn, p->err) : find_worn(p, it, name);
}

/* cpu, cpu:N, cuda:N, all: what stands before '*' and '/'. */
static berth_status read_kind(const berth_parser *p, berth_item *it, const char **at, const char *end)
{
    if (skip_word(at, end, "cuda")) {
        it->is_cuda = true;
    } else if (skip_word(at, end, "all")) {
        it->is_all = true;
    } else if (!skip_word(at, end, "cpu")) {
        return read_worn(p, it, at, end);
    }
    if (*at < end && **at == ':' && !it->is_all) {
        (*at)++;
        if (*at < end && **at == '-') return berth_bad_item(p, it, "a device number cannot be negative");
        if (!berth_read_digits(at, end, &it->number))
            return berth_bad_item(p, it, "a device number is expected after ':'");
        if (it->number > BERTH_MOST_DEVICE_NUMBER)
            return berth_bad_item(p, it, "the device number is out of range; the largest is 999");
    } else if (it->is_cuda) {
        return berth_bad_item(p, it, "a CUDA device needs its number, as in cuda:0; all is every one");
    }
    if (*at < end && **at != '*' && **at != '/')
        return berth_bad_item(
            p, it, "only *COUNT and /SETTING may follow a device, and device numbers are plain decimal digits");
    return BERTH_OK;
}

berth_status berth_item_read(const berth_parser *p, berth_item *it)
{
    const char *at = it->text, *end = it->text + it->len;
    if (it->len == 0)
        return BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT, "the device list has an empty item; %s", BERTH_LIST_GRAMMAR);
    it->number = it->changes = -1;
    it->count = 1;
    berth_status st = read_kind(p, it, &at, end);
    if (st != BERTH_OK) return st;
    if (at < end && *at == '*') {
        at++;
        int32_t times;
        if (!berth_read_digits(&at, end, &times)) return berth_bad_item(p, it, "a count is expected after '*'");
        it->count = times > BERTH_MAX_DEVICES ? times : it->count * times;
        if (it->count < 1 || it->count > BERTH_MAX_DEVICES) {
            char why[80];
            snprintf(why, sizeof why, "a count is 1 to %d devices", BERTH_MAX_DEVICES);
            return berth_bad_item(p, it, why);
        }
        if (at < end && *at != '/') return berth_bad_item(p, it, "only /SETTING may follow a count");
    }
    while (at < end) { /* *at is '/' */
        const char *setting = ++at;
        while (at < end && *at != '/') at++;
        st = read_setting(p, it, setting, at);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}
