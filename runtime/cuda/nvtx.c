/* nvtx.c - see nvtx.h. The program's side of NVTX 3 (nvtx3/nvtxDetail/nvtxTypes.h and nvtxImpl.h of the CUDA toolkit): the tool's
 * InitializeInjectionNvtx2 is given a function that hands out tables by number; through that of callbacks it asks for a
 * module's table of slots and writes its own functions into them.
 *
 * The slots belong to the process, as the tool does: the protocol passes nothing by which engines could be told apart. They
 * are written once, before anyone reads them. */
#include "cuda/nvtx.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

typedef void (*any_fn)(void);
typedef struct callbacks_table {
    size_t struct_size;
    int (*module_table)(int module, any_fn ***out_table, unsigned *out_size);
} callbacks_table;
typedef struct version_table {
    size_t struct_size;
    uint32_t version, reserved;
    void (*set_version)(uint32_t version);
} version_table;
typedef int (*start_fn)(const void *(*export_table)(uint32_t id));

enum { EXPORT_CALLBACKS = 1, EXPORT_VERSION = 3, VERSION = 3, MODULE_CORE = 1, N_MODULES = 7, MOST_SLOTS = 17 };
enum { RANGE_START_A = 5, RANGE_END = 7, RANGE_PUSH_A = 9, RANGE_POP = 11 }; /* of the core module */

/* Slots of each module, the first, which is none, counted in; of those but core nothing is ever called. */
static const unsigned n_slots[N_MODULES] = {0, 16, 9, 15, 7, 16, 7};
static any_fn slots[N_MODULES][MOST_SLOTS];
static any_fn *tables[N_MODULES][MOST_SLOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char why_not[256]; /* "" = the tool is there */

static int module_table(int module, any_fn ***out_table, unsigned *out_size)
{
    if (module < 1 || module >= N_MODULES) return 0;
    if (out_size) *out_size = n_slots[module];
    if (out_table) *out_table = tables[module];
    return 1;
}

static void set_version(uint32_t version)
{
    (void)version;
}

static const void *export_table(uint32_t id)
{
    static const callbacks_table callbacks = {sizeof callbacks, module_table};
    static const version_table version = {sizeof version, VERSION, 0, set_version};
    return id == EXPORT_CALLBACKS ? (const void *)&callbacks : id == EXPORT_VERSION ? (const void *)&version : NULL;
}

static void refuse(const char *what, const char *detail)
{
    snprintf(why_not, sizeof why_not, "%s%s", what, detail ? detail : "");
}

static void load_tool(void)
{
    const char *path = getenv("NVTX_INJECTION64_PATH");
    start_fn start = NULL;
    for (int m = 1; m < N_MODULES; m++)
        for (unsigned i = 1; i < n_slots[m]; i++) tables[m][i] = &slots[m][i];
    if (!path || !*path) {
        refuse("no tool listens (NVTX_INJECTION64_PATH names none)", NULL);
        return;
    }
    void *lib = dlopen(path, RTLD_LAZY), *symbol = lib ? dlsym(lib, "InitializeInjectionNvtx2") : NULL;
    memcpy(&start, &symbol, sizeof start);
    if (start && start(export_table)) return;
    refuse(start ? "the tool refused to start: " : "not a tool: ", path);
    if (lib) dlclose(lib);
    memset(slots, 0, sizeof slots);
}

berth_status berth_nvtx_open(berth_error *err)
{
    pthread_once(&once, load_tool);
    if (!why_not[0]) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_NOT_FOUND,
                      "NVTX ranges were asked for and nobody sees them: %s; start the program with nsys profile "
                      "--trace=cuda,nvtx",
                      why_not);
}

void berth_nvtx_push(const char *text)
{
    int (*push)(const char *) = (int (*)(const char *))slots[MODULE_CORE][RANGE_PUSH_A];
    if (push) (void)push(text);
}

void berth_nvtx_pop(void)
{
    int (*pop)(void) = (int (*)(void))slots[MODULE_CORE][RANGE_POP];
    if (pop) (void)pop();
}

uint64_t berth_nvtx_start(const char *text)
{
    uint64_t (*start)(const char *) = (uint64_t(*)(const char *))slots[MODULE_CORE][RANGE_START_A];
    return start ? start(text) : 0;
}

void berth_nvtx_end(uint64_t range)
{
    void (*end)(uint64_t) = (void (*)(uint64_t))slots[MODULE_CORE][RANGE_END];
    if (end) end(range);
}
