/* parse.h - what the files that read a device list share: an item of the list, and the machine that becomes of it.
 *
 * item.c reads an item, parse.c makes devices of it, cores.c says which cores they get. For the files of this folder. */
#ifndef BERTH_MACHINE_PARSE_H
#define BERTH_MACHINE_PARSE_H

#include "base/status.h"
#include "machine/machine_internal.h"
#include "machine/profile.h"

enum { BERTH_MOST_DEVICE_NUMBER = 999, BERTH_ITEM_QUOTE = 96 };

#define BERTH_LIST_GRAMMAR                                                                                             \
    "write items such as cpu, cpu*4, cpu*4/mem=8GiB, cpu:0/cores=0-3 or 4xV100-SXM2-16GB, with commas between them"

typedef struct berth_item {
    const char *text; /* not terminated; trimmed */
    size_t len;
    char quoted[BERTH_ITEM_QUOTE];
    bool is_cuda;
    int32_t number;  /* -1 = the lowest free one */
    int32_t count;   /* of `worn`, or of cpu devices */
    int32_t changes; /* index of the device whose settings it changes; -1 = it makes devices */
    berth_worn worn; /* owned; without devices: plain cpu */
    bool has_memory, has_cores;
    uint64_t memory_bytes;
    int32_t *cores; /* owned, [n_cores] */
    int32_t n_cores;
} berth_item;

typedef struct berth_parser {
    const berth_host *host;
    const char *profile_dir;
    berth_machine *machine;
    berth_error *err;
} berth_parser;

/* BERTH_INVALID_ARGUMENT: the item, why, and the grammar. */
berth_status berth_bad_item(const berth_parser *p, const berth_item *it, const char *why);

/* Plain decimal digits at *at up to `end`, no sign; false when there are none. Too large a number gives INT32_MAX. */
bool berth_read_digits(const char **at, const char *end, int32_t *out);

/* Fills what stands before `text` and `len` from these; `worn` and `cores` are the caller's to give up, on failure too. */
berth_status berth_item_read(const berth_parser *p, berth_item *it);

/* ---- cores ------------------------------------------------------------------------------------------------------- */

/* "0-1" for the error that lists them. */
void berth_cores_describe_host(const berth_host *host, char *out, size_t n);
/* The host's core of that number, as an index; -1 = none. */
int32_t berth_host_core(const berth_host *host, int32_t number);
/* The cores that a file names, as far as this process has them; none: they are shared out as if it named none. */
berth_status berth_cores_keep(const berth_parser *p, const berth_device *worn, berth_device *d);
/* The `count` devices from `first` on, which one item made or changes, get the cores it named. */
berth_status berth_cores_give_named(const berth_parser *p, const berth_item *it, int32_t first, int32_t count);
/* The devices that have none get what is left. */
berth_status berth_cores_give_others(const berth_parser *p);
void berth_cores_mark_shared(berth_machine *m);

#endif
