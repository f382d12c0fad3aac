/* strict.c - areas and their protection, and the process-wide fault handler with its count of users. The handler finds
 * the fault's own guard through a thread-local pointer: a fault on a thread without one belongs to someone else. */
#include "exec/strict.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct area {
    int32_t owner;
    uint8_t *base;
    size_t length;
    bool writable;
    int now; /* PROT_* in force */
} area;

struct berth_strict {
    int32_t n_devices;
    area *areas;
    int32_t n_areas, cap_areas;
    const void *host; /* the one host area that is meant; NULL = all */
    bool has_handler;
};

/* ---- the handler, the one process-wide thing -------------------------------------------------------------------- */

typedef struct guard {
    sigjmp_buf back;
    void *address;
} guard;

static _Thread_local guard *volatile current __attribute__((tls_model("initial-exec")));

static pthread_mutex_t handler_lock = PTHREAD_MUTEX_INITIALIZER;
static int32_t handler_users;
static struct sigaction before_segv, before_bus;

static void hand_on(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = number == SIGBUS ? &before_bus : &before_segv;
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
    } else {
        sigaction(number, before, NULL); /* the access happens again and takes its default end */
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    guard *g = current;
    if (!g) {
        hand_on(number, info, context);
        return;
    }
    g->address = info->si_addr;
    siglongjmp(g->back, 1);
}

static berth_status handler_retain(berth_error *err)
{
    berth_status st = BERTH_OK;
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&handler_lock);
    if (handler_users == 0 &&
        (sigaction(SIGSEGV, &ours, &before_segv) != 0 || sigaction(SIGBUS, &ours, &before_bus) != 0)) {
        int code = errno;
        st = BERTH_FAIL_ERRNO(err, BERTH_INTERNAL, code, "strict mode: no fault handler");
    } else {
        handler_users++;
    }
    pthread_mutex_unlock(&handler_lock);
    return st;
}

static void handler_release(void)
{
    pthread_mutex_lock(&handler_lock);
    if (--handler_users == 0) {
        sigaction(SIGSEGV, &before_segv, NULL);
        sigaction(SIGBUS, &before_bus, NULL);
    }
    pthread_mutex_unlock(&handler_lock);
}

bool berth_strict_guard(void (*fn)(void *arg), void *arg, void **out_address)
{
    guard g = {.address = NULL};
    if (sigsetjmp(g.back, 1) == 0) {
        current = &g;
        fn(arg);
        current = NULL;
        return true;
    }
    current = NULL;
    *out_address = g.address;
    return false;
}

/* ---- areas ------------------------------------------------------------------------------------------------------ */

berth_status berth_strict_create(int32_t n_devices, berth_strict **out, berth_error *err)
{
    *out = NULL;
    berth_strict *s = calloc(1, sizeof *s);
    if (!s) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "strict mode");
    s->n_devices = n_devices;
    berth_status st = handler_retain(err);
    if (st != BERTH_OK) {
        free(s);
        return st;
    }
    s->has_handler = true;
    *out = s;
    return BERTH_OK;
}

static void protect(area *a, int prot)
{
    if (a->now == prot) return;
    if (mprotect(a->base, a->length, prot) == 0) a->now = prot;
}

static int widest(const area *a)
{
    return a->writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

void berth_strict_destroy(berth_strict *s)
{
    if (!s) return;
    for (int32_t i = 0; i < s->n_areas; i++) protect(&s->areas[i], widest(&s->areas[i]));
    if (s->has_handler) handler_release();
    free(s->areas);
    free(s);
}

berth_status berth_strict_add(berth_strict *s, int32_t owner, void *base, size_t length, bool writable,
                              berth_error *err)
{
    if (length == 0) return BERTH_OK;
    if (s->n_areas == s->cap_areas) {
        int32_t cap = s->cap_areas ? 2 * s->cap_areas : 16;
        area *more = realloc(s->areas, (size_t)cap * sizeof *more);
        if (!more) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "strict mode: %d areas", (int)cap);
        s->areas = more;
        s->cap_areas = cap;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    length = (length + page - 1) / page * page;
    s->areas[s->n_areas] = (area){.owner = owner, .base = base, .length = length, .writable = writable};
    s->areas[s->n_areas].now = widest(&s->areas[s->n_areas]);
    s->n_areas++;
    return BERTH_OK;
}

void berth_strict_take_host(berth_strict *s, const void *base)
{
    s->host = base;
}

static bool is_meant(const berth_strict *s, const area *a)
{
    return a->owner >= 0 || !s->host || a->base == s->host;
}

void berth_strict_only(berth_strict *s, int32_t owner)
{
    for (int32_t i = 0; i < s->n_areas; i++) {
        area *a = &s->areas[i];
        if (is_meant(s, a)) protect(a, a->owner == owner ? widest(a) : PROT_NONE);
    }
}

void berth_strict_close_all(berth_strict *s)
{
    for (int32_t i = 0; i < s->n_areas; i++)
        if (is_meant(s, &s->areas[i])) protect(&s->areas[i], PROT_NONE);
}

void berth_strict_open(berth_strict *s, int32_t owner, bool writable)
{
    for (int32_t i = 0; i < s->n_areas; i++) {
        area *a = &s->areas[i];
        if (a->owner == owner && is_meant(s, a)) protect(a, writable ? widest(a) : PROT_READ);
    }
}

bool berth_strict_owner(const berth_strict *s, const void *address, int32_t *out_owner)
{
    for (int32_t i = 0; i < s->n_areas; i++) {
        const area *a = &s->areas[i];
        uintptr_t at = (uintptr_t)address, first = (uintptr_t)a->base;
        if (at < first || at - first >= a->length) continue;
        *out_owner = a->owner;
        return true;
    }
    return false;
}
