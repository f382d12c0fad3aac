/* parse.h - what the files that read a device list share: an item of the list, and the machine that becomes of it.
 *
 * item.c reads an item, parse.c makes devices of it, gpus.c those on GPUs, cores.c says which cores they get. For the
 * files of this folder. */
#ifndef BERTH_MACHINE_PARSE_H
#define BERTH_MACHINE_PARSE_H

#include "base/status.h"
#include "machine/machine_internal.h"
#include "machine/profile.h"

enum { BERTH_MOST_DEVICE_NUMBER = 999, BERTH_ITEM_QUOTE = 96 };

#define BERTH_LIST_GRAMMAR                                                                                             \
    "write items such as cpu, cpu*4, cpu*4/mem=8GiB, cpu:0/cores=0-3, cuda:0 or 4xV100-SXM2-16GB, with commas "        \
    "between them"

typedef struct berth_item {
    const char *text; /* not terminated; trimmed */
    size_t len;
    char quoted[BERTH_ITEM_QUOTE];
    bool is_cuda, is_all;
    int32_t number;  /* -1 = the lowest free one */
    int32_t count;   /* of `worn`, of cpu devices, of logical devices on a GPU */
    int32_t changes; /* index of the device whose settings it changes; -1 = it makes devices */
    berth_worn worn; /* owned; without devices: plain cpu */
    bool has_memory, has_cores;
    uint64_t memory_bytes;
    int32_t *cores; /* owned, [n_cores] */
    int32_t n_cores;
} berth_item;

typedef struct berth_parser_own { /* what a parser finds out on its way */
    bool were_read;
    berth_gpus gpus; /* owned */
    /* by device: what its profile says of the way to another of its kind, where copies between them are possible */
    berth_link_rate peer[BERTH_MAX_DEVICES];
} berth_parser_own;

typedef struct berth_parser {
    const berth_host *host;
    const char *profile_dir;
    berth_machine *machine;
    berth_parser_own *own;
    berth_error *err;
} berth_parser;

/* BERTH_INVALID_ARGUMENT: the item, why, and the grammar. */
berth_status berth_bad_item(const berth_parser *p, const berth_item *it, const char *why);

/* BERTH_INVALID_ARGUMENT: more devices than a machine has room for. */
berth_status berth_too_many(const berth_parser *p, const berth_item *it);

/* Plain decimal digits at *at up to `end`, no sign; false when there are none. Too large a number gives INT32_MAX. */
bool berth_read_digits(const char **at, const char *end, int32_t *out);

/* Fills what stands before `text` and `len` from these; `worn` and `cores` are the caller's to give up, on failure too. */
berth_status berth_item_read(const berth_parser *p, berth_item *it);

/* ---- GPUs -------------------------------------------------------------------------------------------------------- */

typedef struct berth_gpu_part { /* of logical devices on one GPU */
    int32_t index, of;
} berth_gpu_part;

/* The devices of "cuda:N". Errors, each with what to do: BERTH_DEVICE_ERROR (no driver or GPU, no such ordinal, a GPU that
 * cannot be used), BERTH_INVALID_ARGUMENT (named twice). */
berth_status berth_gpus_add(const berth_parser *p, const berth_item *it);
/* Those of "all"; *out_any false: there is no GPU at all. */
berth_status berth_gpus_add_all(const berth_parser *p, const berth_item *it, bool *out_any);
/* Device `index` of the machine file in `it`, which names a GPU; the item's devices stand from `begin` on. */
berth_status berth_gpus_add_worn(const berth_parser *p, const berth_item *it, int32_t index, int32_t begin);
/* Memory limits and links, once all devices are there. */
berth_status berth_gpus_finish(const berth_parser *p);

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
