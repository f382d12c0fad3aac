/* machine.h - the devices a user asked for: grammar, core sets, limits, links.
 *
 * Owns the text form ("cpu*4/mem=8GiB,cuda:0*2") and what hwloc says of this computer. Holds numbers only: arenas,
 * lanes and threads are the engine's.
 *
 * Grammar, used by every option that names devices:
 *   list  = item *("," item)
 *   item  = ("cpu" | "cpu:" N | "cuda:" N | "all" | [K "x"] PROFILE [":" N] | MACHINE | FILE) ["*" K] *setting
 *         | INDEX 1*setting
 *   setting = "/mem=" SIZE                     limit; default of cpu devices: physical memory divided by their number
 *           | "/cores=" N["-"N]*("+" N["-"N])  core numbers of the operating system
 * "cpu" is one device with all cores; "cpu*4" four devices that share the cores out, disjoint where there are enough,
 * shared otherwise; "cpu:N" names the device's number. An item without a number takes the lowest numbers still free,
 * "cpu:2*3" is cpu:2, cpu:3, cpu:4. "cuda:N" is the GPU that CUDA counts as N; "cuda:0*4" makes four logical devices of
 * one GPU, cuda:0.0 to cuda:0.3, with memories of their own: what is there beside the CUDA context is shared out among
 * those without mem=. "all" is every GPU that can be used, or "cpu" where there is none. Where a core has
 * several hardware threads, devices get one of them unless cores= names more or there would not be one each. PROFILE
 * is a device that a cpu device wears ("A10", "4xL4"): its memory limit, its arithmetic, its rates; MACHINE several
 * with the links between them ("4xV100-SXM2-16GB"); FILE a path with a '/' before it or ".json" behind it, holding
 * either (docs/devices.md). INDEX names a device of the list so far and changes its settings ("2xA10,1/mem=8GiB"). At
 * most BERTH_MAX_DEVICES devices, numbers 0 to 999, blanks around items allowed. */
#ifndef BERTH_MACHINE_MACHINE_H
#define BERTH_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/dtype.h"
#include "base/limits.h"
#include "base/status.h"

typedef enum berth_device_kind { BERTH_DEVICE_CPU, BERTH_DEVICE_CUDA } berth_device_kind;

/* How fast bytes go between two memories; zeros: not known. */
typedef struct berth_link_rate {
    char kind[32]; /* "NV2", "PCIe 4.0 x16" */
    double bytes_per_second, latency_ns;
    bool is_measured; /* on this computer; else from a profile or a file */
} berth_link_rate;

typedef struct berth_device {
    berth_device_kind kind;
    char name[24];         /* "cpu:2", "A10:0", "cuda:1", "cuda:0.3"; unique in its machine */
    int32_t number;        /* 2; of a GPU its ordinal */
    int32_t physical;      /* logical devices of one GPU share its ordinal; cpu devices: NUMA node or 0 */
    char model[64];        /* what the driver calls a GPU: "NVIDIA A10"; "" on cpu devices */
    uint64_t memory_bytes; /* limit for weights, KV, activations together */
    bool memory_given;     /* by the user, or by what it wears */
    bool limit_asked;      /* by the user, for this device: /mem= */
    int32_t *cores;        /* owned; operating-system core numbers, ascending; of a GPU those for its host thread */
    int32_t n_cores;       /* of a GPU 0 = any */
    bool shares_cores;     /* another device of this machine uses one of them */
    /* What it wears, or is predicted to be like; zeros and "" where that is not known, as of a plain cpu device. */
    char profile[20];
    char measured[48];       /* "2026-11-21, driver for CUDA 12.4": when rates of this device were; "" = none was */
    bool is_read_measured;   /* bytes_per_second was */
    uint32_t flops_measured; /* flops was: bit 1 << dtype */
    int32_t capability;      /* 70 = compute capability 7.0; 0 = none: computes in fp32 */
    uint64_t context_bytes;  /* what a backend takes for itself; not part of memory_bytes */
    double flops[BERTH_BF16 +
                 1];         /* by dtype: operations a second that large products reach; 0 = not known, or not native */
    double bytes_per_second; /* weights read a second while decoding */
    berth_link_rate host_link; /* to host memory, staged */
} berth_device;

/* One direction. Pairs that are not listed have no known rate. */
typedef struct berth_link {
    int32_t from, to; /* device indices */
    berth_link_rate rate;
} berth_link;

/* Can the device multiply this dtype without emulation? Plain cpu devices: fp32. */
bool berth_device_has_dtype(const berth_device *d, berth_dtype dtype);

typedef struct berth_machine {
    berth_device *devices; /* owned */
    int32_t n_devices;
    int32_t n_cores_present;  /* cores this process may use */
    uint64_t physical_memory; /* bytes of this computer, or of the cgroup if that is less */
    berth_link *links;        /* owned */
    int32_t n_links;
} berth_machine;

/* Reads a device list; NULL means "cpu", and an empty list is an error, so that an unset variable in a script is
 * seen. On failure *out is {0}. Errors: BERTH_INVALID_ARGUMENT quoting the
 * item and what is allowed; BERTH_DEVICE_ERROR for GPUs that are not there or cannot be used, with what to do. The CUDA
 * driver is opened only when an item asks for it, and closed again. */
berth_status berth_machine_parse(const char *list, berth_machine *out, berth_error *err);
void berth_machine_deinit(berth_machine *m);

/* As berth_machine_parse. `profile_dir` (NULL = none) is looked in first for NAME.json where a profile or machine is
 * named; what is built in comes after. */
berth_status berth_machine_parse_with(const char *list, const char *profile_dir, berth_machine *out, berth_error *err);

/* The link's rate; all zero when not known. */
berth_link_rate berth_machine_link(const berth_machine *m, int32_t from, int32_t to);

/* Sets one; false: out of memory. settle: what goes by way of the host is told anew from the host links, as after these
 * changed; what was measured stays. */
bool berth_machine_set_link(berth_machine *m, int32_t from, int32_t to, const berth_link_rate *rate);
bool berth_machine_settle_links(berth_machine *m);

/* Device index by name ("cpu:1"), bare number ("1"), or -1. */
int32_t berth_machine_find(const berth_machine *m, const char *name);

/* Cores that this process may use and that the PCI device ("0000:3B:00.0") is near to, ascending, in out[room]; 0 where the
 * kernel does not say. `root` is put before paths; "" = this computer. */
int32_t berth_cores_near(const char *root, const char *pci, int32_t *out, int32_t room);

/* What this computer has, for `berth devices`: one line a fact. */
typedef struct berth_computer {
    char cpu_model[96];
    int32_t packages, numa_nodes, cores, threads; /* threads this process may use */
    uint64_t memory_bytes, l2_bytes, l3_bytes;    /* caches: all instances together */
    char isa[64];                                 /* "avx2 fma f16c", what kernels look for */
    char cuda[320];                               /* why there is no CUDA, or the driver's version */
} berth_computer;
berth_status berth_computer_read(berth_computer *out, berth_error *err);

/* The machine as a machine file (docs/devices.md): devices with limits, cores and what they wear, links, and the
 * facts of this computer with packages, NUMA nodes, caches and PCI devices as hwloc sees them. Read back
 * (berth_machine_parse of its path) it gives the same devices. False: out of memory, or hwloc failed (`err`). */
berth_status berth_machine_save(const berth_machine *m, berth_buffer *out, berth_error *err);

#endif
