/* machine_internal.h - what the files of machine/ share: the computer as the device list sees it.
 *
 * A berth_host is plain data, so that the sharing out of cores is tested for computers that are not at hand. `root`
 * in these calls is put before every path that is read ("" = this computer), for the same reason. */
#ifndef BERTH_MACHINE_INTERNAL_H
#define BERTH_MACHINE_INTERNAL_H

#include "cuda/device.h"
#include "machine/machine.h"

/* A logical processor that this process may use. */
typedef struct berth_core {
    int32_t number;        /* the operating system's */
    int32_t node, package; /* NUMA node, socket */
    int32_t core;          /* physical core within the package; threads of one core share it */
    bool is_sibling;       /* a second thread of a core whose first thread stands earlier in the list */
} berth_core;

/* What the CUDA driver says of this computer's GPUs, copied. */
typedef struct berth_gpus {
    berth_gpu_info *list; /* owned, [n] */
    bool *peer;           /* owned, [n * n]: the copy engine of GPU i reaches GPU k at i * n + k */
    int32_t n;
    int32_t driver;  /* 12040: it serves CUDA 12.4 */
    berth_error why; /* where n is 0 */
} berth_gpus;

/* Opens the driver, reads, closes it. */
void berth_gpus_read(berth_gpus *out);
void berth_gpus_deinit(berth_gpus *gpus);

typedef struct berth_host {
    berth_core *cores; /* owned; ordered by node, package, core, number */
    int32_t n_cores;   /* at least 1 */
    uint64_t memory_bytes;
    const berth_gpus *gpus; /* borrowed; NULL = the driver is asked when a device list names them */
} berth_host;

berth_status berth_host_read(berth_host *out, berth_error *err);
void berth_host_deinit(berth_host *host);

/* As berth_machine_parse_with, for any computer. */
berth_status berth_machine_parse_on(const berth_host *host, const char *list, const char *profile_dir,
                                    berth_machine *out, berth_error *err);

/* Between two devices of m; false: out of memory. fill_links: every pair without one, where host links are known. */
bool berth_machine_add_link(berth_machine *m, int32_t from, int32_t to, const berth_link_rate *rate);
bool berth_machine_fill_links(berth_machine *m);

/* Fills node, package, core of cores[n] (whose numbers are set) from sysfs, orders them, and marks siblings. What
 * sysfs does not say counts as one node, one package, a core for each number. */
void berth_cores_describe(const char *root, berth_core *cores, int32_t n);

/* The lowest memory limit that a cgroup (v1 or v2) puts on this process; UINT64_MAX = none. */
uint64_t berth_cgroup_memory(const char *root);

/* The file's beginning as text into out[n]; false when it cannot be read. For files of /proc and /sys, which have no
 * size. */
bool berth_read_small(const char *path, char *out, size_t n);

/* "0-3,8": writes each number of a kernel list, at most `limit`; gives how many. */
int32_t berth_kernel_list(const char *text, int32_t *out, int32_t limit);

#endif
