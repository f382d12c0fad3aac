/* handle.c - see handle.h. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/api.h"
#include "base/status.h"

/* How much of the past is remembered. Handles are small; a plan's is the largest with some hundred bytes. */
enum { MOST_ENDED = 1024, MOST_ENDED_BYTES = 1 << 20, MARK = 0x5a };

static const struct {
    uint64_t magic;
    const char *name;
} kinds[] = {
    [BERTH_HANDLE_RUNTIME] = {UINT64_C(0x7274626572746831), "a runtime"},
    [BERTH_HANDLE_MODEL] = {UINT64_C(0x6d64626572746832), "a model"},
    [BERTH_HANDLE_PLAN] = {UINT64_C(0x706c626572746833), "a plan"},
    [BERTH_HANDLE_ENGINE] = {UINT64_C(0x656e626572746834), "an engine"},
    [BERTH_HANDLE_SESSION] = {UINT64_C(0x7365626572746835), "a session"},
    [BERTH_HANDLE_QUEUE] = {UINT64_C(0x7175626572746836), "a queue"},
};

/* The address is part of it: a copy of a handle's bytes is not a handle. */
static uint64_t magic_of(const berth_handle *h, berth_handle_kind kind)
{
    return kinds[kind].magic ^ (uint64_t)(uintptr_t)h;
}

static bool is_here(const berth_runtime *rt)
{
    const berth_quarantine *q = &rt->quarantine;
    return q->mark != NULL ? *q->mark == MARK : (long)getpid() == q->process;
}

void berth_handle_begin(berth_handle *h, berth_handle_kind kind, berth_runtime *rt)
{
    atomic_init(&h->refs, 1);
    h->rt = rt;
    if (kind != BERTH_HANDLE_RUNTIME) berth_runtime_retain(rt);
    atomic_store_explicit(&h->magic, magic_of(h, kind), memory_order_release);
}

/* May its bytes be looked at? Numbers cast to pointers are no handles. */
static bool is_address(const void *handle)
{
    return (uintptr_t)handle >= 4096 && (uintptr_t)handle % _Alignof(berth_handle) == 0;
}

bool berth_handle_is(const void *handle, berth_handle_kind kind)
{
    const berth_handle *h = handle;
    return is_address(handle) &&
           atomic_load_explicit(&((berth_handle *)(uintptr_t)h)->magic, memory_order_acquire) == magic_of(h, kind) &&
           is_here(h->rt);
}

berth_status berth_handle_refuse(const char *function, berth_handle_kind kind, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                      "%s: not %s that can be used: NULL, of another kind, ended already, or made before a fork",
                      function, kinds[kind].name);
}

bool berth_handle_end(void *handle, berth_handle_kind kind)
{
    berth_handle *h = handle;
    if (!berth_handle_is(h, kind)) return false;
    uint64_t alive = magic_of(h, kind);
    return atomic_compare_exchange_strong(&h->magic, &alive, ~alive);
}

void berth_handle_retain(berth_handle *h)
{
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
}

bool berth_handle_release(berth_handle *h)
{
    return atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1;
}

static berth_handle *take_oldest(berth_quarantine *q)
{
    berth_handle *h = q->oldest;
    q->oldest = h->next;
    if (q->oldest == NULL) q->newest = NULL;
    q->n--;
    q->bytes -= h->size;
    return h;
}

void berth_handle_retire(berth_handle *h, size_t size)
{
    berth_runtime *rt = h->rt;
    berth_quarantine *q = &rt->quarantine;
    h->size = size;
    h->next = NULL;
    pthread_mutex_lock(&q->lock);
    if (q->newest != NULL)
        q->newest->next = h;
    else
        q->oldest = h;
    q->newest = h;
    q->n++;
    q->bytes += size;
    while (q->n > MOST_ENDED || q->bytes > MOST_ENDED_BYTES) free(take_oldest(q));
    pthread_mutex_unlock(&q->lock);
    berth_runtime_release(rt);
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

berth_status berth_quarantine_init(berth_quarantine *q, berth_error *err)
{
    *q = (berth_quarantine){.process = (long)getpid()};
    if (pthread_mutex_init(&q->lock, NULL) != 0)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a runtime handle");
    void *page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return BERTH_OK;
    if (madvise(page, page_size(), MADV_WIPEONFORK) != 0) {
        munmap(page, page_size());
        return BERTH_OK;
    }
    q->mark = page;
    *q->mark = MARK;
    return BERTH_OK;
}

void berth_quarantine_deinit(berth_quarantine *q)
{
    while (q->oldest != NULL) free(take_oldest(q));
    if (q->mark != NULL) munmap((void *)(uintptr_t)q->mark, page_size());
    pthread_mutex_destroy(&q->lock);
}
