/* failing.c - see failing.h. What a test does not wrap is never called here, so it may be missing. */
#include "tests/failing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <sys/types.h>

failing_state faults;

#define MAYBE __attribute__((weak))

MAYBE void *__real_malloc(size_t n);
MAYBE void *__real_calloc(size_t n, size_t size);
MAYBE void *__real_realloc(void *p, size_t n);
MAYBE void *__real_aligned_alloc(size_t align, size_t n);
MAYBE void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
MAYBE void __real_free(void *p);
MAYBE char *__real_strdup(const char *s);
MAYBE char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void __wrap_free(void *p);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static bool fails(void)
{
    long call = atomic_fetch_add(&faults.n_calls, 1) + 1, at = atomic_load(&faults.fail_at);
    if (at == 0 || (call != at && !(faults.for_ever && call > at))) return false;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, offset);
}

void __wrap_free(void *p)
{
    faults.n_frees++;
    __real_free(p);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

void failing_start(long n, bool for_ever)
{
    faults.n_calls = 0;
    faults.for_ever = for_ever;
    faults.fail_at = n;
}

bool failing_stop(void)
{
    return faults.n_calls >= atomic_exchange(&faults.fail_at, 0);
}

/* The number of allocations. */
static long fail_each(const char *what, failing_work *work, void *arg, bool for_ever)
{
    for (long n = 1;; n++) {
        berth_error err = {0};
        failing_start(n, for_ever);
        berth_status status = work(arg, &err);
        bool is_reached = failing_stop();
        if (!is_reached && status == BERTH_OK) return n - 1;
        if (!is_reached) fail_msg("%s: %s", what, err.message);
        if (status != BERTH_OUT_OF_MEMORY || !err.message[0])
            fail_msg("%s, allocation %ld: status %d: %s", what, n, status, err.message);
    }
}

long failing_each(const char *what, failing_work *work, void *arg)
{
    fail_each(what, work, arg, false);
    return fail_each(what, work, arg, true);
}
