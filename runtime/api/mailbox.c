/* mailbox.c - see mailbox.h. */
#include "api/mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "api/call.h"
#include "base/clock.h"
#include "base/status.h"

typedef struct record {
    int32_t id, index;
    int64_t at_ns;
    float logprob;
    uint32_t text_size;
} record;

static berth_status make_lock(berth_mailbox *m, berth_error *err)
{
    pthread_condattr_t attr;
    bool ok = pthread_condattr_init(&attr) == 0;
    ok = ok && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0;
    ok = ok && pthread_mutex_init(&m->lock, NULL) == 0 && pthread_cond_init(&m->some, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a queue");
}

berth_status berth_mailbox_create(bool with_descriptor, berth_mailbox **out, berth_error *err)
{
    *out = NULL;
    berth_mailbox *m = calloc(1, sizeof *m);
    if (m == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a queue");
    atomic_init(&m->refs, 1);
    berth_status st = make_lock(m, err);
    m->descriptor = st == BERTH_OK && with_descriptor ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (st == BERTH_OK && with_descriptor && m->descriptor < 0) {
        const int code = errno;
        st = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "no descriptor for a queue");
    }
    if (st != BERTH_OK) {
        berth_mailbox_release(m);
        return st;
    }
    *out = m;
    return BERTH_OK;
}

void berth_mailbox_release(berth_mailbox *m)
{
    if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1) return;
    if (m->descriptor >= 0) close(m->descriptor);
    pthread_cond_destroy(&m->some);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- telling; all under the lock ------------------------------------------------------------------------------------ */

/* An eventfd of ours takes any number of both: neither can fail but for a counter that is 0 or full already. */
static void set_readable(const berth_mailbox *m, bool readable)
{
    uint64_t n = 1;
    if (m->descriptor < 0) return;
    ssize_t done = readable ? write(m->descriptor, &n, sizeof n) : read(m->descriptor, &n, sizeof n);
    (void)done;
}

static void list(berth_mailbox *m, berth_call *call)
{
    if (call->outbox.is_listed) return;
    call->outbox.is_listed = true;
    call->outbox.next_listed = NULL;
    berth_call_retain(call);
    if (m->last != NULL)
        m->last->outbox.next_listed = call;
    else
        m->first = call;
    if (m->last == NULL) set_readable(m, true);
    m->last = call;
    pthread_cond_signal(&m->some);
}

/* The first listed, with the list's reference. */
static berth_call *unlist(berth_mailbox *m)
{
    berth_call *call = m->first;
    m->first = call->outbox.next_listed;
    if (m->first == NULL) {
        m->last = NULL;
        set_readable(m, false);
    }
    call->outbox.is_listed = false;
    return call;
}

static void leave(berth_mailbox *m, berth_call *call)
{
    berth_outbox *o = &call->outbox;
    if (!o->is_member) return;
    o->is_member = false;
    if (o->before != NULL)
        o->before->outbox.next = o->next;
    else
        m->members = o->next;
    if (o->next != NULL) o->next->outbox.before = o->before;
    o->before = o->next = NULL;
}

void berth_mailbox_join(berth_mailbox *m, berth_call *call)
{
    atomic_fetch_add(&m->refs, 1);
    pthread_mutex_lock(&m->lock);
    call->outbox.is_member = true;
    call->outbox.next = m->members;
    if (m->members != NULL) m->members->outbox.before = call;
    m->members = call;
    pthread_mutex_unlock(&m->lock);
}

/* Behind what was not taken; what was is given up when it is the larger part. */
static bool append(berth_outbox *o, const record *r, const char *text)
{
    if (o->taken > 0 && o->taken >= o->tokens.len / 2) {
        memmove(o->tokens.data, o->tokens.data + o->taken, o->tokens.len - o->taken);
        o->tokens.len -= o->taken;
        o->taken = 0;
    }
    return berth_buffer_reserve(&o->tokens, sizeof *r + r->text_size) &&
           berth_buffer_append(&o->tokens, r, sizeof *r) && berth_buffer_append(&o->tokens, text, r->text_size);
}

berth_told berth_mailbox_tell(berth_mailbox *m, berth_call *call, const berth_token *token, size_t limit)
{
    const record r = {token->id, token->index, token->at_ns, token->logprob, (uint32_t)token->text_size};
    berth_told told = BERTH_TOLD;
    pthread_mutex_lock(&m->lock);
    berth_outbox *o = &call->outbox;
    if (m->is_closed)
        told = BERTH_TOLD_NOBODY;
    else if (o->is_broken)
        told = BERTH_TOLD_NO_MEMORY;
    else if (o->tokens.len - o->taken + sizeof r + r.text_size > limit)
        told = BERTH_TOLD_TOO_MUCH;
    else if (!append(o, &r, token->text))
        told = BERTH_TOLD_NO_MEMORY;
    else
        list(m, call);
    pthread_mutex_unlock(&m->lock);
    return told;
}

void berth_mailbox_end(berth_mailbox *m, berth_call *call)
{
    pthread_mutex_lock(&m->lock);
    leave(m, call);
    call->outbox.is_over = true;
    if (!m->is_closed) {
        m->n_ends++;
        list(m, call);
    }
    pthread_mutex_unlock(&m->lock);
    berth_mailbox_release(m);
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

/* Waits until something is listed; false: not in time. */
static bool wait_listed(berth_mailbox *m, int64_t timeout_ns)
{
    struct timespec until = {0};
    const int64_t now = berth_now_ns();
    const int64_t at = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    until.tv_sec = (time_t)(at / 1000000000);
    until.tv_nsec = (long)(at % 1000000000);
    while (m->first == NULL && !m->is_last_call) {
        if (timeout_ns == 0) return false;
        if (at == INT64_MAX)
            pthread_cond_wait(&m->some, &m->lock);
        else if (pthread_cond_timedwait(&m->some, &m->lock, &until) == ETIMEDOUT)
            break;
    }
    return m->first != NULL;
}

/* The oldest thing that `call` has to tell. False: no room for the text. */
static bool open_letter(berth_outbox *o, berth_buffer *text, berth_letter *out)
{
    out->is_end = o->taken == o->tokens.len;
    if (out->is_end) return true;
    record r;
    memcpy(&r, o->tokens.data + o->taken, sizeof r);
    text->len = 0;
    if (!berth_buffer_append(text, o->tokens.data + o->taken + sizeof r, r.text_size)) return false;
    out->token = (berth_token){.id = r.id,
                               .index = r.index,
                               .text = r.text_size > 0 ? text->data : "",
                               .text_size = r.text_size,
                               .at_ns = r.at_ns,
                               .logprob = r.logprob};
    o->taken += sizeof r + r.text_size;
    if (o->taken == o->tokens.len) o->taken = o->tokens.len = 0;
    return true;
}

berth_status berth_mailbox_take(berth_mailbox *m, int64_t timeout_ns, berth_buffer *text, berth_letter *out,
                                berth_error *err)
{
    *out = (berth_letter){0};
    berth_status st = BERTH_OK;
    pthread_mutex_lock(&m->lock);
    if (wait_listed(m, timeout_ns)) {
        berth_outbox *o = &m->first->outbox;
        if (open_letter(o, text, out)) {
            out->call = unlist(m);
            if (o->tokens.len > 0 || (o->is_over && !out->is_end)) list(m, out->call);
            m->n_ends -= out->is_end;
        } else {
            st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a token's text");
        }
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

void berth_mailbox_give_up(berth_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    berth_call *call = m->first;
    if (call != NULL) {
        berth_outbox *o = &call->outbox;
        o->is_broken = true;
        berth_buffer_deinit(&o->tokens);
        o->taken = 0;
        if (!o->is_over) berth_call_release(unlist(m));
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

void berth_mailbox_close(berth_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->is_closed = true;
    while (m->first != NULL || m->members != NULL) {
        const bool is_member = m->first == NULL;
        berth_call *call = is_member ? m->members : unlist(m);
        if (is_member) {
            berth_call_retain(call);
            leave(m, call);
        }
        pthread_mutex_unlock(&m->lock);
        if (is_member) berth_call_cancel(call);
        berth_call_release(call);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
}

void berth_mailbox_last_call(berth_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->is_last_call = true;
    pthread_cond_broadcast(&m->some);
    pthread_mutex_unlock(&m->lock);
}

int32_t berth_mailbox_ends(berth_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    const int32_t n = m->n_ends;
    pthread_mutex_unlock(&m->lock);
    return n;
}
