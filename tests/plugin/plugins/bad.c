/* bad.c - a plug-in that does whatever harm its argument names. Built without sanitizers: the harm is meant. */
#include <berth/strategy.h>

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int never; /* loops that the compiler may not take out */

static void whole_model_on_first(const berth_strategy_input *in, berth_strategy_output *out)
{
    out->n_replicas = 1;
    for (int32_t i = 0; i < in->n_nodes; i++) out->device_of[i] = -1;
    out->device_of[0] = 0;
}

/* ---- ends of a process ---- */

static int deep(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = above[0];
    return deep(frame) + frame[0];
}

static void crash(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    *(volatile int *)(uintptr_t)16 = 1;
}
static void trap(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    __builtin_trap();
}
static void give_up(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    fputs("bad.c: I give up\n", stderr);
    abort();
}
static void overflow(const berth_strategy_input *in, berth_strategy_output *out)
{
    volatile char first = 0;
    (void)in;
    out->n_replicas = deep(&first);
}
static void loop(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    while (!never) continue;
}
static void hide_and_loop(const berth_strategy_input *in, berth_strategy_output *out)
{
    setpgid(0, getpgid(getppid()));
    for (int s = 1; s < 64; s++) signal(s, SIG_IGN);
    loop(in, out);
}
static void leave(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    exit(3);
}
static void leave_quietly(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in, (void)out;
    _exit(0);
}
static void multiply(const berth_strategy_input *in, berth_strategy_output *out)
{
    if (fork() == 0) loop(in, out); /* holds the pipe open */
    exit(5);
}

/* ---- descriptors ---- */

static void close_all(const berth_strategy_input *in, berth_strategy_output *out)
{
    for (int fd = 0; fd < 256; fd++) close(fd);
    whole_model_on_first(in, out);
}
static void close_and_loop(const berth_strategy_input *in, berth_strategy_output *out)
{
    for (int fd = 0; fd < 256; fd++) close(fd);
    loop(in, out);
}
static void flood(const berth_strategy_input *in, berth_strategy_output *out)
{
    static const uint32_t head[4] = {0x42725031, 4, 0x7FFFFFFC, 0}; /* a record that never ends */
    static char zeros[65536];
    (void)in, (void)out;
    if (write(4, head, sizeof head) < 0) return;
    while (write(4, zeros, sizeof zeros) > 0 || errno == EINTR) continue;
}
static void babble(const berth_strategy_input *in, berth_strategy_output *out)
{
    if (write(4, "no record of any kind", 21) < 0) return;
    loop(in, out);
}
static void short_answer(const berth_strategy_input *in, berth_strategy_output *out)
{
    uint32_t record[4 + 129] = {0x42725031, 4, 129 * 4, 0, 1}; /* one replica, a note, and no devices */
    if (write(4, record, sizeof record) < 0) return;
    loop(in, out);
}
static void print(const berth_strategy_input *in, berth_strategy_output *out)
{
    for (int i = 0; i < 20000; i++) fprintf(i % 2 ? stdout : stderr, "words that nobody asked for\n");
    fflush(stdout);
    whole_model_on_first(in, out);
}

/* ---- inputs ---- */

static void write_node(const berth_strategy_input *in, berth_strategy_output *out)
{
    ((berth_node_view *)(uintptr_t)berth_node_at(in, 1))->weight_bytes = 0;
    whole_model_on_first(in, out);
}
static void write_path(const berth_strategy_input *in, berth_strategy_output *out)
{
    ((char *)(uintptr_t)berth_node_at(in, in->n_nodes - 1)->path)[0] = 'X';
    whole_model_on_first(in, out);
}
static void write_device(const berth_strategy_input *in, berth_strategy_output *out)
{
    ((berth_device_view *)(uintptr_t)berth_device_at(in, 0))->budget_bytes = UINT64_MAX;
    whole_model_on_first(in, out);
}
static void write_counts(const berth_strategy_input *in, berth_strategy_output *out)
{
    ((berth_strategy_input *)(uintptr_t)in)->n_devices = 1000;
    whole_model_on_first(in, out);
}

/* ---- outputs ---- */

static void overrun(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    ((volatile int32_t *)out->device_of)[out->max_replicas * in->n_nodes] = 0;
}
static void underrun(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    ((volatile int32_t *)out->device_of)[-3] = 0;
}
static void own_storage(const berth_strategy_input *in, berth_strategy_output *out)
{
    static int32_t mine[4096];
    (void)in;
    out->device_of = mine;
    out->n_replicas = 1;
}
static void own_capacity(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->max_replicas = 1 << 20;
}
static void no_replicas(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->n_replicas = 0;
}
static void less_than_none(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->n_replicas = INT32_MIN;
}
static void too_many(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->n_replicas = in->n_devices + 1;
}
static void far_too_many(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->n_replicas = INT32_MAX;
}
static void nothing(const berth_strategy_input *in, berth_strategy_output *out)
{
    (void)in;
    out->n_replicas = 1;
}
static void two_places(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->device_of[in->n_nodes - 1] = 1;
}
static void no_device(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->device_of[0] = in->n_devices;
}
static void below_device(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->device_of[1] = -2;
}
static void garbage(const berth_strategy_input *in, berth_strategy_output *out)
{
    uint32_t x = 12345;
    out->n_replicas = 1;
    for (int32_t i = 0; i < in->n_nodes; i++) out->device_of[i] = (int32_t)(x = x * 1664525u + 1013904223u);
}
static void over_budget(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    out->device_of[0] = in->n_devices - 1; /* the one without room */
}
static void endless_note(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    memset(out->note, 'n', sizeof out->note);
}
static void strange_note(const berth_strategy_input *in, berth_strategy_output *out)
{
    whole_model_on_first(in, out);
    memcpy(out->note, "\xFF\x1B[2J\xE2\x80\xAE end", 13);
}
static void much_memory(const berth_strategy_input *in, berth_strategy_output *out)
{
    char *p = malloc((size_t)3 << 30);
    whole_model_on_first(in, out);
    snprintf(out->note, sizeof out->note, p ? "got it" : "none given");
    free(p);
}

static const struct {
    const char *name;
    void (*harm)(const berth_strategy_input *in, berth_strategy_output *out);
} harms[] = {
    {"crash", crash},
    {"trap", trap},
    {"abort", give_up},
    {"overflow", overflow},
    {"loop", loop},
    {"hide-and-loop", hide_and_loop},
    {"exit", leave},
    {"exit-0", leave_quietly},
    {"fork", multiply},
    {"close", close_all},
    {"close-and-loop", close_and_loop},
    {"flood", flood},
    {"babble", babble},
    {"short-answer", short_answer},
    {"print", print},
    {"write-node", write_node},
    {"write-path", write_path},
    {"write-device", write_device},
    {"write-counts", write_counts},
    {"overrun", overrun},
    {"underrun", underrun},
    {"own-storage", own_storage},
    {"own-capacity", own_capacity},
    {"no-replicas", no_replicas},
    {"negative", less_than_none},
    {"too-many", too_many},
    {"far-too-many", far_too_many},
    {"nothing", nothing},
    {"two-places", two_places},
    {"no-device", no_device},
    {"below-device", below_device},
    {"garbage", garbage},
    {"over-budget", over_budget},
    {"endless-note", endless_note},
    {"strange-note", strange_note},
    {"much-memory", much_memory},
};

/* "refuse", "refuse-endless", "refuse-silent" and "status=N" harm by what they return. */
static berth_status bad_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    const char *harm = in->argument ? in->argument : "";
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++) {
        if (strcmp(harms[i].name, harm) != 0) continue;
        harms[i].harm(in, out);
        return BERTH_OK;
    }
    whole_model_on_first(in, out);
    if (strcmp(harm, "refuse") == 0) strcpy(err->message, "I will not\x1B[31m");
    if (strcmp(harm, "refuse-endless") == 0) memset(err->message, 'e', sizeof err->message);
    if (strncmp(harm, "refuse", 6) == 0) {
        err->native_api = (const char *)(uintptr_t)77;
        err->file = (const char *)(uintptr_t)77;
        return BERTH_DOES_NOT_FIT;
    }
    return strncmp(harm, "status=", 7) == 0 ? (berth_status)atoi(harm + 7) : BERTH_OK;
}

static berth_status bad_check(const berth_strategy_input *in, berth_error *err)
{
    (void)err;
    if (in->argument && strcmp(in->argument, "check-crash") == 0) crash(in, NULL);
    if (in->argument && strcmp(in->argument, "check-write") == 0) ((berth_strategy_input *)(uintptr_t)in)->max_tiles++;
    return BERTH_OK;
}

static const berth_strategy table = {.abi = BERTH_STRATEGY_ABI,
                                     .struct_size = sizeof(berth_strategy),
                                     .name = "bad",
                                     .check = bad_check,
                                     .place = bad_place};

const berth_strategy *berth_strategy_plugin(uint32_t host_abi)
{
    (void)host_abi;
    return &table;
}
