/* machine_test.c - the device grammar on computers made up for the purpose, the kernel's files read from a made-up root, and this computer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/machine_internal.h"

#define GIB ((uint64_t)1 << 30)

static const berth_gpus no_gpus = {.why = {.status = BERTH_NOT_FOUND, .message = "there is no driver; install one"}};

/* n cores; `per_node` of them a NUMA node, `threads` of them a physical core. */
static berth_host made_up_host(int32_t n, int32_t per_node, int32_t threads)
{
    berth_host host = {
        .cores = calloc((size_t)n, sizeof(berth_core)), .n_cores = n, .memory_bytes = 24 * GIB, .gpus = &no_gpus};
    assert_non_null(host.cores);
    for (int32_t i = 0; i < n; i++)
        host.cores[i] =
            (berth_core){.number = i, .node = i / per_node, .core = i / threads, .is_sibling = i % threads != 0};
    return host;
}

/* "cpu:0[0-1] cpu:1[2!]": every device with its cores, '!' where they are shared. */
static void describe(const berth_machine *m, char *out, size_t n)
{
    size_t len = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        len += (size_t)snprintf(out + len, n - len, "%s%s[", i ? " " : "", d->name);
        for (int32_t k = 0; k < d->n_cores; k++)
            len += (size_t)snprintf(out + len, n - len, "%s%d", k ? "," : "", d->cores[k]);
        len += (size_t)snprintf(out + len, n - len, "%s]", d->shares_cores ? "!" : "");
    }
}

typedef struct good_case {
    const char *list;
    int32_t n_cores, per_node, threads;
    const char *expected;
} good_case;

static const good_case good_cases[] = {
    {NULL, 2, 2, 1, "cpu:0[0,1]"},
    {"cpu", 2, 2, 1, "cpu:0[0,1]"},
    {"all", 2, 2, 1, "cpu:0[0,1]"},
    {"all*2", 2, 2, 1, "cpu:0[0] cpu:1[1]"},
    {"cpu*2", 2, 2, 1, "cpu:0[0] cpu:1[1]"},
    {"cpu*4", 2, 2, 1, "cpu:0[0!] cpu:1[1!] cpu:2[0!] cpu:3[1!]"},
    {"cpu*3", 2, 2, 1, "cpu:0[0!] cpu:1[1] cpu:2[0!]"},
    {"cpu*3", 8, 8, 1, "cpu:0[0,1,2] cpu:1[3,4,5] cpu:2[6,7]"},
    {"cpu:0,cpu:1", 2, 2, 1, "cpu:0[0] cpu:1[1]"},
    {" cpu:0 , cpu:1 ", 2, 2, 1, "cpu:0[0] cpu:1[1]"},
    {"cpu:3,cpu:1", 2, 2, 1, "cpu:3[0] cpu:1[1]"},
    {"cpu:2*3", 3, 3, 1, "cpu:2[0] cpu:3[1] cpu:4[2]"},
    {"cpu:1,cpu,cpu", 3, 3, 1, "cpu:1[0] cpu:0[1] cpu:2[2]"},
    {"cpu:0/cores=0,cpu:1/cores=1", 2, 2, 1, "cpu:0[0] cpu:1[1]"},
    {"cpu:0/cores=1,cpu:1/cores=1", 2, 2, 1, "cpu:0[1!] cpu:1[1!]"},
    {"cpu/cores=0-2+5", 8, 8, 1, "cpu:0[0,1,2,5]"},
    {"cpu/cores=5+0-2", 8, 8, 1, "cpu:0[0,1,2,5]"},
    {"cpu*2/cores=4-7,cpu", 8, 8, 1, "cpu:0[4,5] cpu:1[6,7] cpu:2[0,1,2,3]"},
    {"cpu/cores=0-1,cpu", 2, 2, 1, "cpu:0[0,1!] cpu:1[0,1!]"}, /* all are taken: the other device shares them */
    {"cpu/mem=1GiB/cores=0", 2, 2, 1, "cpu:0[0]"},
    {"cpu/cores=0/mem=1GiB", 2, 2, 1, "cpu:0[0]"},
    {"cpu", 4, 4, 2, "cpu:0[0,2]"}, /* one thread of each core */
    {"cpu*2", 4, 4, 2, "cpu:0[0] cpu:1[2]"},
    {"cpu*4", 4, 4, 2, "cpu:0[0] cpu:1[1] cpu:2[2] cpu:3[3]"}, /* sooner a second thread than a shared one */
    {"cpu/cores=0-1", 4, 4, 2, "cpu:0[0,1]"},
    {"cpu:999", 1, 1, 1, "cpu:999[0]"},
};

static void lists_that_are_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_cases / sizeof *good_cases; i++) {
        const good_case *c = &good_cases[i];
        berth_host host = made_up_host(c->n_cores, c->per_node, c->threads);
        berth_machine m;
        berth_error err = {0};
        char text[1024];
        berth_status st = berth_machine_parse_on(&host, c->list, NULL, &m, &err);
        if (st != BERTH_OK) fail_msg("%s: %s", c->list ? c->list : "(null)", err.message);
        describe(&m, text, sizeof text);
        assert_string_equal(text, c->expected);
        berth_machine_deinit(&m);
        berth_host_deinit(&host);
    }
}

typedef struct bad_case {
    const char *list;
    berth_status status;
    const char *words; /* must stand in the message */
} bad_case;

static const bad_case bad_cases[] = {
    {"", BERTH_INVALID_ARGUMENT, "empty"},
    {"   ", BERTH_INVALID_ARGUMENT, "empty"},
    {",", BERTH_INVALID_ARGUMENT, "empty item"},
    {"cpu,", BERTH_INVALID_ARGUMENT, "empty item"},
    {"cpu,,cpu", BERTH_INVALID_ARGUMENT, "empty item"},
    {"toaster:0", BERTH_INVALID_ARGUMENT, "\"toaster:0\": unknown kind of device"},
    {"CPU", BERTH_INVALID_ARGUMENT, "unknown kind of device"},
    {"cpux", BERTH_INVALID_ARGUMENT, "\"cpux\""},
    {"cpu:", BERTH_INVALID_ARGUMENT, "number is expected"},
    {"cpu:-1", BERTH_INVALID_ARGUMENT, "\"cpu:-1\": a device number cannot be negative"},
    {"cpu:+1", BERTH_INVALID_ARGUMENT, "number is expected"},
    {"cpu:0x1", BERTH_INVALID_ARGUMENT, "cpu:0x1"},
    {"cpu:0.5", BERTH_INVALID_ARGUMENT, "cpu:0.5"},
    {"cpu:1e2", BERTH_INVALID_ARGUMENT, "cpu:1e2"},
    {"cpu: 1", BERTH_INVALID_ARGUMENT, "number is expected"},
    {"cpu:4294967296", BERTH_INVALID_ARGUMENT, "out of range"},
    {"cpu:18446744073709551616", BERTH_INVALID_ARGUMENT, "out of range"},
    {"cpu:1000", BERTH_INVALID_ARGUMENT, "out of range"},
    {"cpu:999*2", BERTH_INVALID_ARGUMENT, "out of range"},
    {"cpu:0,cpu:0", BERTH_INVALID_ARGUMENT, "cpu:0 is named twice"},
    {"cpu,cpu:0", BERTH_INVALID_ARGUMENT, "cpu:0 is named twice"},
    {"cpu:0*3,cpu:2", BERTH_INVALID_ARGUMENT, "cpu:2 is named twice"},
    {"cpu*0", BERTH_INVALID_ARGUMENT, "a count is 1 to 64"},
    {"cpu*65", BERTH_INVALID_ARGUMENT, "a count is 1 to 64"},
    {"cpu*-1", BERTH_INVALID_ARGUMENT, "count is expected"},
    {"cpu*", BERTH_INVALID_ARGUMENT, "count is expected"},
    {"cpu*x", BERTH_INVALID_ARGUMENT, "count is expected"},
    {"cpu*4294967297", BERTH_INVALID_ARGUMENT, "a count is 1 to 64"},
    {"cpu*2*2", BERTH_INVALID_ARGUMENT, "only /SETTING may follow"},
    {"cpu*64,cpu", BERTH_INVALID_ARGUMENT, "more than 64 devices"},
    {"cpu*33,cpu*33", BERTH_INVALID_ARGUMENT, "more than 64 devices"},
    {"cpu/", BERTH_INVALID_ARGUMENT, "unknown setting"},
    {"cpu//mem=1G", BERTH_INVALID_ARGUMENT, "unknown setting"},
    {"cpu/memory=1G", BERTH_INVALID_ARGUMENT, "unknown setting"},
    {"cpu/mem", BERTH_INVALID_ARGUMENT, "unknown setting"},
    {"cpu/mem=", BERTH_INVALID_ARGUMENT, "unknown setting"},
    {"cpu/mem=0", BERTH_INVALID_ARGUMENT, "mem=0"},
    {"cpu/mem=0GiB", BERTH_INVALID_ARGUMENT, "mem=0"},
    {"cpu/mem=-1GiB", BERTH_INVALID_ARGUMENT, "takes a size"},
    {"cpu/mem=8 GiB", BERTH_INVALID_ARGUMENT, "takes a size"},
    {"cpu/mem=lots", BERTH_INVALID_ARGUMENT, "takes a size"},
    {"cpu/mem=99999999999999999999", BERTH_INVALID_ARGUMENT, "takes a size"},
    {"cpu/mem=99999999TiB", BERTH_INVALID_ARGUMENT, "takes a size"},
    {"cpu/mem=18446744073709551615", BERTH_INVALID_ARGUMENT, "larger than any memory"},
    {"cpu/mem=1G/mem=2G", BERTH_INVALID_ARGUMENT, "twice"},
    {"cpu/cores=0/cores=1", BERTH_INVALID_ARGUMENT, "twice"},
    {"cpu/cores=2", BERTH_INVALID_ARGUMENT, "core 2 is not one that this process may use (it may use 0-1)"},
    {"cpu/cores=0-4000000000", BERTH_INVALID_ARGUMENT, "core 2 is not one"},
    {"cpu/cores=1-0", BERTH_INVALID_ARGUMENT, "low to high"},
    {"cpu/cores=0+0", BERTH_INVALID_ARGUMENT, "a core is named twice"},
    {"cpu/cores=0+", BERTH_INVALID_ARGUMENT, "core numbers"},
    {"cpu/cores=0-", BERTH_INVALID_ARGUMENT, "low to high"},
    {"cpu/cores=a", BERTH_INVALID_ARGUMENT, "core numbers"},
    {"cpu/cores=-1", BERTH_INVALID_ARGUMENT, "core numbers"},
    {"all:0", BERTH_INVALID_ARGUMENT, "all:0"},
    {"cuda", BERTH_INVALID_ARGUMENT, "needs its number"},
    {"cuda:x", BERTH_INVALID_ARGUMENT, "number is expected"},
    {"cuda:0", BERTH_DEVICE_ERROR, "\"cuda:0\": there is no driver; install one"},
    {"cuda:99", BERTH_DEVICE_ERROR, "cuda:99"},
    {"cuda:0*4/mem=16GiB", BERTH_DEVICE_ERROR, "cuda:0*4/mem=16GiB"},
    {"cpu,cuda:1", BERTH_DEVICE_ERROR, "cuda:1"},
    {"\x1b[2J\xff", BERTH_INVALID_ARGUMENT, "\\x1B[2J"},
};

static void lists_that_are_wrong(void **state)
{
    (void)state;
    berth_host host = made_up_host(2, 2, 1);
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        berth_machine m;
        berth_error err = {0};
        berth_status st = berth_machine_parse_on(&host, bad_cases[i].list, NULL, &m, &err);
        if (st != bad_cases[i].status || !strstr(err.message, bad_cases[i].words))
            fail_msg("\"%s\" gave %s: %s", bad_cases[i].list, berth_status_name(st), err.message);
        assert_null(m.devices);
        assert_int_equal(m.n_devices, 0);
    }
    berth_host_deinit(&host);
}

static void a_thousand_devices_are_refused(void **state)
{
    (void)state;
    berth_host host = made_up_host(2, 2, 1);
    char *list = malloc(16000);
    size_t len = 0;
    for (int i = 0; i < 1000; i++) len += (size_t)snprintf(list + len, 16000 - len, "%scpu:%d", i ? "," : "", i);
    berth_machine m;
    berth_error err = {0};
    assert_int_equal(berth_machine_parse_on(&host, list, NULL, &m, &err), BERTH_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "\"cpu:64\": the list names more than 64 devices"));
    memset(list, 'x', 15999);
    list[15999] = '\0';
    assert_int_equal(berth_machine_parse_on(&host, list, NULL, &m, &err), BERTH_INVALID_ARGUMENT);
    assert_true(strlen(err.message) < 400);
    free(list);
    berth_host_deinit(&host);
}

static void memory_is_divided_among_those_that_name_none(void **state)
{
    (void)state;
    berth_host host = made_up_host(2, 2, 1);
    berth_machine m;
    assert_int_equal(berth_machine_parse_on(&host, "cpu*2/mem=1.5GiB,cpu*3", NULL, &m, NULL), BERTH_OK);
    assert_int_equal(m.n_devices, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(m.devices[i].memory_given, i < 2);
        assert_int_equal(m.devices[i].memory_bytes, i < 2 ? 3 * GIB / 2 : 8 * GIB);
    }
    assert_int_equal(m.physical_memory, 24 * GIB);
    berth_machine_deinit(&m);
    berth_host_deinit(&host);
}

static void devices_lie_on_the_node_of_their_cores(void **state)
{
    (void)state;
    berth_host host = made_up_host(8, 4, 1);
    berth_machine m;
    assert_int_equal(berth_machine_parse_on(&host, "cpu*4", NULL, &m, NULL), BERTH_OK);
    for (int i = 0; i < 4; i++) assert_int_equal(m.devices[i].physical, i / 2);
    berth_machine_deinit(&m);
    berth_host_deinit(&host);
}

static void devices_are_found_by_name_and_index(void **state)
{
    (void)state;
    berth_host host = made_up_host(2, 2, 1);
    berth_machine m;
    assert_int_equal(berth_machine_parse_on(&host, "cpu:3,cpu:1", NULL, &m, NULL), BERTH_OK);
    static const struct {
        const char *name;
        int32_t idx;
    } cases[] = {{"cpu:3", 0}, {"cpu:1", 1}, {"cpu:0", -1}, {"0", 0},   {"1", 1},  {"2", -1},
                 {"3", -1},    {"", -1},     {"-1", -1},    {"1x", -1}, {"x", -1}, {"99999999999999", -1},
                 {"cpu", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(berth_machine_find(&m, cases[i].name), cases[i].idx);
    berth_machine_deinit(&m);
    berth_host_deinit(&host);
}

/* ---- the kernel's files ---- */

static void put(const char *root, const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static char *make_root(void)
{
    static char root[64]; /* one at a time */
    snprintf(root, sizeof root, "/tmp/berth_machine_XXXXXX");
    assert_non_null(mkdtemp(root));
    return root;
}

static void remove_root(const char *root)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

#define V2_MOUNT     "29 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
#define V1_MOUNT     "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
#define V1_CPU_MOUNT "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"

static const struct cgroup_case {
    const char *what, *groups, *mounts;
    const char *files[6]; /* path, text pairs */
    uint64_t expected;
} cgroup_cases[] = {
    {"no files at all", NULL, NULL, {NULL}, UINT64_MAX},
    {"v2 without limit", "0::/a\n", V2_MOUNT, {"/sys/fs/cgroup/a/memory.max", "max\n"}, UINT64_MAX},
    {"v2 limit of the own group", "0::/a/b\n", V2_MOUNT, {"/sys/fs/cgroup/a/b/memory.max", "1073741824\n"}, GIB},
    {"v2 limit of a group above",
     "0::/a/b\n",
     V2_MOUNT,
     {"/sys/fs/cgroup/a/b/memory.max", "max\n", "/sys/fs/cgroup/a/memory.max", "1073741824\n"},
     GIB},
    {"v2 group that is not visible", "0::/../x\n", V2_MOUNT, {"/sys/fs/cgroup/memory.max", "2147483648\n"}, 2 * GIB},
    {"v1 beside v2",
     "4:memory:/m\n1:cpu:/c\n0::/\n",
     V1_CPU_MOUNT V1_MOUNT,
     {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "3221225472\n", "/sys/fs/cgroup/cpu/c/memory.limit_in_bytes",
      "1\n"},
     3 * GIB},
    {"v1 container that sees its own folder",
     "4:cpu,memory:/docker/x\n",
     "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n",
     {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"},
     GIB},
    {"v1 without limit",
     "4:memory:/\n",
     V1_MOUNT,
     {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
     9223372036854771712u},
    {"lines that are no lines", ":\n\n0:\n4:memory\n", " - cgroup2 \n - \n", {NULL}, UINT64_MAX},
};

static void cgroup_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cgroup_cases / sizeof *cgroup_cases; i++) {
        const struct cgroup_case *c = &cgroup_cases[i];
        char *root = make_root();
        if (c->groups) put(root, "/proc/self/cgroup", c->groups);
        if (c->mounts) put(root, "/proc/self/mountinfo", c->mounts);
        for (int k = 0; c->files[k]; k += 2) put(root, c->files[k], c->files[k + 1]);
        uint64_t limit = berth_cgroup_memory(root);
        if (limit != c->expected) fail_msg("%s: %llu", c->what, (unsigned long long)limit);
        remove_root(root);
    }
}

/* Two sockets, two cores each, two threads a core, numbered as Linux does: first threads first. */
static void cores_are_ordered_by_place(void **state)
{
    (void)state;
    char *root = make_root();
    for (int i = 0; i < 8; i++) {
        char path[128], text[16];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", i);
        snprintf(text, sizeof text, "%d\n", i / 2 % 2);
        put(root, path, text);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_id", i);
        snprintf(text, sizeof text, "%d\n", i % 2);
        put(root, path, text);
    }
    put(root, "/sys/devices/system/node/online", "0-1\n");
    put(root, "/sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
    put(root, "/sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
    berth_core cores[7];
    for (int i = 0; i < 7; i++) cores[i] = (berth_core){.number = 7 - i}; /* core 0 is not ours */
    berth_cores_describe(root, cores, 7);
    static const int32_t numbers[7] = {4, 1, 5, 2, 6, 3, 7}, nodes[7] = {0, 0, 0, 1, 1, 1, 1};
    static const bool sibling[7] = {false, false, true, false, true, false, true};
    for (int i = 0; i < 7; i++) {
        assert_int_equal(cores[i].number, numbers[i]);
        assert_int_equal(cores[i].node, nodes[i]);
        assert_int_equal(cores[i].is_sibling, sibling[i]);
    }
    remove_root(root);
}

static void cores_near_a_gpu_are_those_of_its_bus(void **state)
{
    (void)state;
    int32_t cores[16];
    char *root = make_root(), mine[16];
    berth_machine m;
    assert_int_equal(berth_machine_parse("cpu", &m, NULL), BERTH_OK);
    snprintf(mine, sizeof mine, "%d,4000\n", (int)m.devices[0].cores[0]); /* the other is not ours */
    put(root, "/sys/bus/pci/devices/0000:3b:00.0/local_cpulist", mine);
    put(root, "/sys/bus/pci/devices/0000:5e:00.0/local_cpulist", "\n");
    assert_int_equal(berth_cores_near(root, "0000:3B:00.0", cores, 16), 1);
    assert_int_equal(cores[0], m.devices[0].cores[0]);
    assert_int_equal(berth_cores_near(root, "0000:5E:00.0", cores, 16), 0);
    assert_int_equal(berth_cores_near(root, "0000:AF:00.0", cores, 16), 0);
    assert_int_equal(berth_cores_near(root, "", cores, 16), 0);
    berth_machine_deinit(&m);
    remove_root(root);
}

static void kernel_lists(void **state)
{
    (void)state;
    int32_t numbers[4];
    assert_int_equal(berth_kernel_list("0-1,5\n", numbers, 4), 3);
    assert_int_equal(numbers[2], 5);
    assert_int_equal(berth_kernel_list("0-1000000", numbers, 4), 4);
    assert_int_equal(berth_kernel_list("99999999999999999999-", numbers, 4), 0);
    assert_int_equal(berth_kernel_list("\n", numbers, 4), 0);
}

/* ---- this computer ---- */

static void this_computer(void **state)
{
    (void)state;
    berth_machine m;
    berth_error err = {0};
    berth_computer c;
    if (berth_machine_parse("cpu*2", &m, &err) != BERTH_OK || berth_computer_read(&c, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    assert_int_equal(m.n_devices, 2);
    assert_true(m.n_cores_present >= 1 && m.physical_memory > 0);
    assert_int_equal(m.devices[0].shares_cores, m.n_cores_present == 1);
    assert_int_equal(m.devices[0].memory_bytes, m.physical_memory / 2);
    assert_int_equal(c.threads, m.n_cores_present); /* hwloc and the affinity mask agree */
    assert_int_equal(c.memory_bytes, m.physical_memory);
    assert_true(c.cores >= 1 && c.cores <= c.threads && c.packages >= 0 && c.numa_nodes >= 1);
    assert_true(strlen(c.cuda) > 0);
    berth_machine_deinit(&m);
    berth_machine_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_that_are_right),
        cmocka_unit_test(lists_that_are_wrong),
        cmocka_unit_test(a_thousand_devices_are_refused),
        cmocka_unit_test(memory_is_divided_among_those_that_name_none),
        cmocka_unit_test(devices_lie_on_the_node_of_their_cores),
        cmocka_unit_test(devices_are_found_by_name_and_index),
        cmocka_unit_test(cgroup_limits),
        cmocka_unit_test(cores_are_ordered_by_place),
        cmocka_unit_test(cores_near_a_gpu_are_those_of_its_bus),
        cmocka_unit_test(kernel_lists),
        cmocka_unit_test(this_computer),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
