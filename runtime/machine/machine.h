/* machine.h - the devices a user asked for: grammar, core sets, limits, links.
 *
 * Owns the text form ("cpu*4/mem=8GiB,cuda:0*2") and what hwloc says of this computer. Holds numbers only: arenas, lanes and threads are the engine's.
 *
 * Grammar, used by every option that names devices:
 *   list  = item *("," item)
 *   item  = ("cpu" | "cpu:" N | "cuda:" N | "all") ["*" K] *("/" key "=" value)
 *   keys  : mem=SIZE (limit; default: physical memory divided by the cpu devices), cores=N[-N][+N[-N]...] (core numbers of the operating system)
 * "cpu" is one device with all cores; "cpu*4" four devices that share the cores out, disjoint where there are enough, shared otherwise; "cpu:N" names the device's number.
 * An item without a number takes the lowest numbers still free, "cpu:2*3" is cpu:2, cpu:3, cpu:4. "all" is every CUDA device, or "cpu" where there is none. Where a core has several hardware
 * threads, devices get one of them unless cores= names more or there would not be one each. At most BERTH_MACHINE_DEVICES devices, numbers 0 to 999, blanks around items allowed. */
#ifndef BERTH_MACHINE_MACHINE_H
#define BERTH_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define BERTH_MACHINE_DEVICES 64

typedef enum berth_device_kind { BERTH_DEVICE_CPU, BERTH_DEVICE_CUDA } berth_device_kind;

typedef struct berth_device {
    berth_device_kind kind;
    char name[24];        /* "cpu:2", unique in its machine */
    int32_t number;       /* 2 */
    int32_t physical;     /* logical devices of one physical device share it; cpu devices: NUMA node or 0 */
    uint64_t memory_bytes;/* limit for weights, KV, activations together */
    bool memory_given;    /* by the user */
    int32_t *cores;       /* owned; operating-system core numbers, ascending */
    int32_t n_cores;
    bool shares_cores;    /* another device of this machine uses one of them */
} berth_device;

typedef struct berth_machine {
    berth_device *devices; /* owned */
    int32_t n_devices;
    int32_t n_cores_present;     /* cores this process may use */
    uint64_t physical_memory;    /* bytes of this computer, or of the cgroup if that is less */
} berth_machine;

/* Reads a device list; NULL means "cpu", and an empty list is an error, so that an unset variable in a script is seen. On failure *out is {0}. Errors: BERTH_INVALID_ARGUMENT quoting the
 * item and what is allowed; BERTH_UNSUPPORTED for cuda items in a build or on a computer without it. */
berth_status berth_machine_parse(const char *list, berth_machine *out, berth_error *err);
void berth_machine_deinit(berth_machine *m);

/* Device index by name ("cpu:1"), bare number ("1"), or -1. */
int32_t berth_machine_find(const berth_machine *m, const char *name);

/* What this computer has, for `berth devices`: one line a fact. */
typedef struct berth_computer {
    char cpu_model[96];
    int32_t packages, numa_nodes, cores, threads; /* threads this process may use */
    uint64_t memory_bytes, l2_bytes, l3_bytes; /* caches: all instances together */
    char isa[64];  /* "avx2 fma f16c", what kernels look for */
    char cuda[160];/* why there is no CUDA, or the driver's version */
} berth_computer;
berth_status berth_computer_read(berth_computer *out, berth_error *err);

#endif
