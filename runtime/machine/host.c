/* host.c - what the device list needs to know of this computer: usable cores in their order, and memory.
 *
 * Reads sysfs and not hwloc, although computer.c has it: loading hwloc's plug-ins costs 5 to 15 ms (more where an OpenCL
 * library is installed), which is a quarter of what `berth run` may take to be ready. Two small files per core do. */
#include "machine/machine_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 512, MOST_CORES = 1 << 16, NODES = 1024 };

bool berth_read_small(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    size_t len = 0;
    ssize_t got = 0;
    while (len < n - 1 && (got = read(fd, out + len, n - 1 - len)) > 0) len += (size_t)got;
    close(fd);
    out[len] = '\0';
    return got >= 0 && len > 0;
}

int32_t berth_kernel_list(const char *text, int32_t *out, int32_t limit)
{
    int32_t n = 0;
    while (*text >= '0' && *text <= '9') {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        for (long v = first; v <= last && v < MOST_CORES && n < limit; v++) out[n++] = (int32_t)v;
        if (*end != ',') break;
        text = end + 1;
    }
    return n;
}

/* ---- cores ---- */

static int32_t read_number(const char *root, int32_t cpu, const char *what, int32_t otherwise)
{
    char path[PATH_SIZE], text[32];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/%s", root, cpu, what);
    if (!berth_read_small(path, text, sizeof text)) return otherwise;
    char *end;
    long value = strtol(text, &end, 10);
    return end == text || value < 0 || value > INT32_MAX ? otherwise : (int32_t)value;
}

static int by_number(const void *a, const void *b)
{
    const berth_core *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int by_place(const void *a, const void *b)
{
    const berth_core *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    if (x->package != y->package) return x->package < y->package ? -1 : 1;
    if (x->core != y->core) return x->core < y->core ? -1 : 1;
    return by_number(a, b);
}

static void read_nodes(const char *root, berth_core *cores, int32_t n)
{
    char path[PATH_SIZE], text[8192];
    int32_t nodes[NODES];
    snprintf(path, sizeof path, "%s/sys/devices/system/node/online", root);
    if (!berth_read_small(path, text, sizeof text)) return;
    int32_t n_nodes = berth_kernel_list(text, nodes, NODES);
    if (n_nodes < 2) return;
    int32_t *numbers = malloc(MOST_CORES * sizeof *numbers);
    if (!numbers) return; /* one node, as where sysfs is missing: cores stay usable */
    for (int32_t i = 0; i < n_nodes; i++) {
        snprintf(path, sizeof path, "%s/sys/devices/system/node/node%d/cpulist", root, nodes[i]);
        if (!berth_read_small(path, text, sizeof text)) continue;
        int32_t n_numbers = berth_kernel_list(text, numbers, MOST_CORES);
        for (int32_t k = 0; k < n_numbers; k++) {
            berth_core *core = bsearch(&(berth_core){.number = numbers[k]}, cores, (size_t)n, sizeof *cores, by_number);
            if (core) core->node = nodes[i];
        }
    }
    free(numbers);
}

void berth_cores_describe(const char *root, berth_core *cores, int32_t n)
{
    qsort(cores, (size_t)n, sizeof *cores, by_number);
    for (int32_t i = 0; i < n; i++) {
        berth_core *c = &cores[i];
        *c = (berth_core){.number = c->number, .core = c->number};
        if (n == 1) return;
        c->package = read_number(root, c->number, "physical_package_id", 0);
        c->core = read_number(root, c->number, "core_id", c->number);
    }
    read_nodes(root, cores, n);
    qsort(cores, (size_t)n, sizeof *cores, by_place);
    for (int32_t i = 1; i < n; i++) {
        const berth_core *before = &cores[i - 1];
        cores[i].is_sibling =
            cores[i].node == before->node && cores[i].package == before->package && cores[i].core == before->core;
    }
}

/* The affinity mask as core numbers. The kernel refuses masks shorter than its own, so the mask grows until it does not. */
static berth_status read_affinity(berth_host *host, berth_error *err)
{
    for (int bits = 1024; bits <= MOST_CORES; bits *= 4) {
        size_t size = CPU_ALLOC_SIZE(bits);
        cpu_set_t *mask = CPU_ALLOC((size_t)bits);
        if (!mask) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of usable cores");
        if (sched_getaffinity(0, size, mask) != 0) {
            int code = errno;
            CPU_FREE(mask);
            if (code == EINVAL) continue;
            return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "the cores that this process may use could not be read");
        }
        host->cores = calloc((size_t)CPU_COUNT_S(size, mask) + 1, sizeof *host->cores);
        for (int i = 0; host->cores && i < bits; i++)
            if (CPU_ISSET_S(i, size, mask)) host->cores[host->n_cores++].number = i;
        CPU_FREE(mask);
        if (!host->cores) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the list of usable cores");
        if (host->n_cores > 0) return BERTH_OK;
        break;
    }
    return BERTH_FAIL(err, BERTH_IO_ERROR, "the operating system lists no core that this process may use");
}

int32_t berth_cores_near(const char *root, const char *pci, int32_t *out, int32_t room)
{
    char path[PATH_SIZE], name[32], text[8192];
    size_t i = 0;
    for (; pci[i] && i + 1 < sizeof name; i++)
        name[i] = (char)(pci[i] >= 'A' && pci[i] <= 'F' ? pci[i] - 'A' + 'a' : pci[i]); /* as sysfs writes it */
    name[i] = '\0';
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/local_cpulist", root, name);
    berth_host host = {0};
    if (!name[0] || !berth_read_small(path, text, sizeof text) || read_affinity(&host, NULL) != BERTH_OK) return 0;
    const int32_t n = berth_kernel_list(text, out, room);
    int32_t kept = 0;
    for (int32_t k = 0; k < n; k++)
        if (bsearch(&(berth_core){.number = out[k]}, host.cores, (size_t)host.n_cores, sizeof *host.cores, by_number))
            out[kept++] = out[k];
    free(host.cores);
    return kept;
}

/* ---- memory ---- */

/* The text between the n-th and the next blank of a line (fields count from 0); false when the line is shorter or the field longer. */
static bool copy_field(const char *line, int n, char *out, size_t out_size)
{
    for (; n > 0; n--) {
        line = strchr(line, ' ');
        if (!line) return false;
        line++;
    }
    size_t len = strcspn(line, " ");
    if (len >= out_size) return false;
    memcpy(out, line, len);
    out[len] = '\0';
    return true;
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0')) return true;
    return false;
}

/* The least number in `name` of folder base+path and of every folder above it down to `base`. */
static uint64_t least_on_the_way(const char *base, char *path, const char *name)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        char file[4 * PATH_SIZE], text[64];
        snprintf(file, sizeof file, "%s%s/%s", base, path, name);
        if (berth_read_small(file, text, sizeof text) && text[0] >= '0' && text[0] <= '9') {
            uint64_t value = strtoull(text, NULL, 10);
            if (value < least) least = value;
        }
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/* One line of mountinfo: is it the hierarchy (v2, or v1's memory controller) that `group` names a folder in? Then its limit. */
static uint64_t limit_under_mount(const char *root, const char *line, bool is_v2, const char *group)
{
    char mount_root[PATH_SIZE], mount_point[PATH_SIZE], options[PATH_SIZE], base[2 * PATH_SIZE], path[PATH_SIZE];
    const char *kind = strstr(line, " - ");
    if (!kind || !copy_field(line, 3, mount_root, sizeof mount_root) ||
        !copy_field(line, 4, mount_point, sizeof mount_point))
        return UINT64_MAX;
    kind += 3;
    if (is_v2 ? strncmp(kind, "cgroup2 ", 8) != 0 : strncmp(kind, "cgroup ", 7) != 0) return UINT64_MAX;
    if (!is_v2 && (!copy_field(kind, 2, options, sizeof options) || !has_word(options, "memory"))) return UINT64_MAX;
    size_t skip = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (skip && strncmp(group, mount_root, skip) == 0) group += skip; /* a container that sees its own folder only */
    snprintf(path, sizeof path, "%s", strcmp(group, "/") == 0 ? "" : group);
    snprintf(base, sizeof base, "%s%s", root, mount_point);
    return least_on_the_way(base, path, is_v2 ? "memory.max" : "memory.limit_in_bytes");
}

static uint64_t limit_of_group(const char *root, char *mounts, bool is_v2, const char *group)
{
    uint64_t least = UINT64_MAX;
    for (char *line = mounts, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next = '\0';
        uint64_t limit = limit_under_mount(root, line, is_v2, group);
        if (limit < least) least = limit;
        if (next) *next++ = '\n';
    }
    return least;
}

uint64_t berth_cgroup_memory(const char *root)
{
    enum { MOUNTS = 1 << 16 };
    char path[PATH_SIZE], groups[4096];
    uint64_t least = UINT64_MAX;
    char *mounts = malloc(MOUNTS);
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    if (!mounts || !berth_read_small(path, mounts, MOUNTS)) goto out;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!berth_read_small(path, groups, sizeof groups)) goto out;
    for (char *line = groups, *next; line && *line; line = next) { /* "4:memory:/path", "0::/path" */
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        controllers++;
        *group++ = '\0';
        bool is_v2 = *controllers == '\0';
        if (!is_v2 && !has_word(controllers, "memory")) continue;
        uint64_t limit = limit_of_group(root, mounts, is_v2, group);
        if (limit < least) least = limit;
    }
out:
    free(mounts);
    return least;
}

/* ---- the host ---- */

berth_status berth_host_read(berth_host *out, berth_error *err)
{
    *out = (berth_host){0};
    berth_status st = read_affinity(out, err);
    if (st != BERTH_OK) {
        berth_host_deinit(out);
        return st;
    }
    berth_cores_describe("", out->cores, out->n_cores);
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    out->memory_bytes = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
    uint64_t limit = berth_cgroup_memory("");
    if (limit < out->memory_bytes) out->memory_bytes = limit;
    return BERTH_OK;
}

void berth_host_deinit(berth_host *host)
{
    free(host->cores);
    *host = (berth_host){0};
}
