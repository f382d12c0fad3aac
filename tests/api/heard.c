#include "heard.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

void hear_token(heard *h, const berth_token *t)
{
    if (h->n_ids == 0) h->in_order = true;
    h->in_order = h->in_order && t->index == h->n_ids && atomic_load(&h->n_ends) == 0;
    if (h->n_ids < 256) {
        h->ids[h->n_ids] = t->id;
        h->logprobs[h->n_ids] = t->logprob;
    }
    h->n_ids++;
    atomic_fetch_add(&h->n_heard, 1);
    if (h->n_text + t->text_size < sizeof h->text) {
        memcpy(h->text + h->n_text, t->text, t->text_size);
        h->n_text += t->text_size;
        h->text[h->n_text] = '\0';
    }
}

void hear_end(heard *h, berth_status st, const berth_result *r)
{
    h->status = st;
    if (st == BERTH_OK) {
        snprintf(h->finish, sizeof h->finish, "%s", r->finish_reason);
        snprintf(h->end_text, sizeof h->end_text, "%s", r->text);
        h->end_tokens = r->n_tokens;
    }
    atomic_fetch_add(&h->n_ends, 1);
}

int32_t on_token(void *user, const berth_token *t)
{
    heard *h = user;
    hear_token(h, t);
    while (atomic_load(&h->blocks)) sleep_us(1000);
    return h->stop_after == 0 || h->n_ids < h->stop_after;
}

static void on_end(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    (void)id;
    assert_true((st == BERTH_OK) == (r != NULL));
    assert_true((st == BERTH_OK) == (why == NULL));
    hear_end(user, st, r);
}

void await_end(const heard *h)
{
    while (atomic_load(&h->n_ends) == 0) sleep_us(200);
}

berth_queue *new_queue(const fixture *f)
{
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_queue_create(f->rt, &q, &err), &err, "queue");
    return q;
}

bool is_readable(berth_queue *q)
{
    struct pollfd p = {.fd = berth_queue_descriptor(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

uint64_t submit(const fixture *f, const asking *a, berth_queue *q, void *user)
{
    uint64_t id = 0;
    berth_error err = {0};
    must(berth_engine_submit(f->engine, &a->request, q, user, &id, &err), &err, "submit");
    assert_true(id != 0);
    return id;
}

uint64_t start(const fixture *f, asking *a, heard *h)
{
    uint64_t id = 0;
    berth_error err = {0};
    a->request.on_token = on_token;
    a->request.on_token_user = h;
    must(berth_engine_start(f->engine, &a->request, on_end, h, &id, &err), &err, "start");
    return id;
}
