/* emu_nccl_world.c - the emulated NCCL's state: configuration, lock, handles, account, words. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_nccl_internal.h"

#define API __attribute__((visibility("default")))

nccl_world nccl;

static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;
static char words[256];

uint64_t nccl_random(void)
{
    nccl.random ^= nccl.random << 13;
    nccl.random ^= nccl.random >> 7;
    nccl.random ^= nccl.random << 17;
    return nccl.random >> 11;
}

void nccl_say(const char *text)
{
    pthread_mutex_lock(&words_lock);
    snprintf(words, sizeof words, "%s", text);
    pthread_mutex_unlock(&words_lock);
}

int nccl_misuse(int code, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    nccl_say(text);
    nccl.door->misuse(0, "NCCL: %s", text);
    return code;
}

void *nccl_new(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (!memory) abort();
    return memory;
}

/* ---- configuration --------------------------------------------------------------------------------------------------- */

static bool set_pair(const char *value, uint64_t *out_number, int *out_code)
{
    char *colon;
    *out_number = strtoull(value, &colon, 0);
    if (*colon != ':') return false;
    *out_code = atoi(colon + 1);
    return true;
}

static bool set(nccl_config *c, const char *key, const char *value)
{
    if (strcmp(key, "version") == 0)
        c->version = atoi(value);
    else if (strcmp(key, "progress") == 0)
        c->progress = atoi(value);
    else if (strcmp(key, "absent") == 0)
        c->absent = atoi(value);
    else if (strcmp(key, "seed") == 0)
        c->seed = strtoull(value, NULL, 0);
    else if (strcmp(key, "hang") == 0)
        c->hang_exchange = strtoull(value, NULL, 0);
    else if (strcmp(key, "fail") == 0)
        return set_pair(value, &c->fail_call, &c->fail_code);
    else if (strcmp(key, "async") == 0)
        return set_pair(value, &c->async_exchange, &c->async_code);
    else if (strcmp(key, "lie") == 0)
        return set_pair(value, &c->lie_exchange, &c->lie_how);
    else
        return false;
    return true;
}

static void read_config(nccl_config *c, const char *text)
{
    *c = (nccl_config){.version = 22809, .progress = 3, .seed = 1};
    char copy[1024] = "", *rest = NULL;
    if (text) snprintf(copy, sizeof copy, "%s", text);
    for (char *item = strtok_r(copy, ";", &rest); item; item = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(item, '=');
        if (value) *value++ = '\0';
        if (!value || !set(c, item, value)) {
            fprintf(stderr, "nccl_emu: cannot read \"%s\" of the configuration\n", item);
            abort();
        }
    }
}

/* ---- the world ------------------------------------------------------------------------------------------------------- */

#define FREE_LIST(type, head, link)                                                                                    \
    for (type *item = (head), *after; item; item = after) {                                                            \
        after = item->link;                                                                                            \
        free(item);                                                                                                    \
    }

static void clear(void)
{
    for (nccl_exchange *x = nccl.exchanges; x; x = x->next) {
        for (int i = 0; i < MAX_RANKS; i++) free(x->sides[i].taken);
        free(x->result);
    }
    FREE_LIST(nccl_exchange, nccl.exchanges, next);
    FREE_LIST(nccl_launch, nccl.launches, next);
    FREE_LIST(nccl_job, nccl.jobs, next);
    FREE_LIST(nccl_clique, nccl.cliques, next);
    FREE_LIST(nccl_comm, nccl.comms, next);
}

/* The driver's reset took all queued work and every account with it. */
static void start(const char *config)
{
    const emu_door *door = nccl.door;
    clear();
    memset(&nccl, 0, sizeof nccl);
    nccl.door = door;
    nccl.started = true;
    nccl.generation = door->generation();
    read_config(&nccl.config, config);
    nccl.random = (nccl.config.seed + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 8; i++) nccl_random();
}

static bool find_door(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (!nccl.door) { /* stays open: callbacks come from there until the process ends */
        void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        nccl.door = driver ? dlsym(driver, "emu_door") : NULL;
    }
    const bool found = nccl.door != NULL;
    pthread_mutex_unlock(&lock);
    if (!found) nccl_say("there is no emulated libcuda.so.1");
    return found;
}

int nccl_enter(void)
{
    if (!find_door()) return BERTH_NCCL_SYSTEM_ERROR;
    const int code = nccl.door->enter();
    if (!nccl.started || nccl.generation != nccl.door->generation()) start(getenv("NCCL_EMU"));
    if (++nccl.report.calls == nccl.config.fail_call) {
        nccl_say("this call was told to fail");
        nccl.report.n_failed++;
        return nccl.config.fail_code;
    }
    return code ? BERTH_NCCL_UNHANDLED_CUDA_ERROR : BERTH_NCCL_SUCCESS;
}

int nccl_leave(int code)
{
    if (nccl.door) nccl.door->leave(0);
    return code;
}

nccl_comm *nccl_find(const void *handle)
{
    for (nccl_comm *c = nccl.comms; c; c = c->next) {
        if (c->handle != (uintptr_t)handle) continue;
        if (c->phase == NCCL_GONE) nccl_misuse(0, "communicator %p was destroyed", handle);
        return c->phase == NCCL_GONE ? NULL : c;
    }
    nccl_misuse(0, "%p is no communicator", handle);
    return NULL;
}

/* ---- control and words ----------------------------------------------------------------------------------------------- */

API void emu_nccl_get_report(emu_nccl_report *out)
{
    *out = (emu_nccl_report){0};
    if (!find_door()) return;
    nccl.door->lock();
    if (nccl.started && nccl.generation == nccl.door->generation()) {
        *out = nccl.report;
        for (const nccl_comm *c = nccl.comms; c; c = c->next) out->comms += c->phase != NCCL_GONE;
    }
    nccl.door->leave(0);
}

API void emu_nccl_reset(const char *config)
{
    if (!find_door()) return;
    nccl.door->lock();
    start(config);
    nccl.door->leave(0);
}

API const char *ncclGetErrorString(int code)
{
    static const char *const names[] = {"no error",       "unhandled cuda error", "unhandled system error",
                                        "internal error", "invalid argument",     "invalid usage",
                                        "remote error",   "operation in progress"};
    return code >= 0 && code < 8 ? names[code] : "unknown result code";
}

API const char *ncclGetLastError(void *comm)
{
    static _Thread_local char copy[sizeof words];
    (void)comm;
    pthread_mutex_lock(&words_lock);
    memcpy(copy, words, sizeof words);
    pthread_mutex_unlock(&words_lock);
    return copy;
}
