/* deliver.c - see deliver.h. A token whose callback answers zero is the request's last: what the core went on to make
 * meanwhile is cut away when the result is made. */
#include "api/deliver.h"

#include "base/status.h"
#include "exec/team.h"

static void pass_token(berth_call *c, const berth_token *token)
{
    const berth_request *r = &c->request;
    if (c->cut >= 0 || r->on_token(r->on_token_user, token) != 0) return;
    c->cut = token->index + 1;
    berth_call_cancel(c);
}

/* The next letter to a thread that must not stop for want of memory. */
static void take(berth_mailbox *m, berth_buffer *text, berth_letter *out)
{
    while (berth_mailbox_take(m, -1, text, out, NULL) != BERTH_OK) {
        text->failed = false;
        berth_mailbox_give_up(m);
    }
}

void berth_call_wait(berth_call *c)
{
    berth_buffer text = {0};
    berth_letter letter;
    do {
        take(c->mailbox, &text, &letter);
        if (!letter.is_end) pass_token(c, &letter.token);
        berth_call_release(letter.call);
    } while (!letter.is_end);
    berth_buffer_deinit(&text);
    berth_call_finish(c);
}

static void tell_end(berth_call *c)
{
    berth_call_finish(c);
    const bool ok = c->status == BERTH_OK;
    c->on_end(c->user, c->id, c->status, ok ? &c->end->result : NULL, ok ? NULL : &c->end->error);
}

static void *delivery_body(void *arg)
{
    berth_engine *e = arg;
    berth_buffer text = {0};
    berth_letter letter;
    for (;;) {
        take(e->delivery, &text, &letter);
        if (letter.call == NULL) break; /* the engine ends and all is told */
        if (letter.is_end)
            tell_end(letter.call);
        else
            pass_token(letter.call, &letter.token);
        berth_call_release(letter.call);
    }
    berth_buffer_deinit(&text);
    return NULL;
}

berth_status berth_delivery_start(berth_engine *e, const berth_thread_watch *watch, berth_error *err)
{
    const berth_thread_label label = {.watch = *watch, .name = "delivery"};
    berth_status st = berth_mailbox_create(false, &e->delivery, err);
    if (st == BERTH_OK) st = berth_thread_start(&e->deliverer, delivery_body, e, NULL, 0, &label, err);
    e->delivers = st == BERTH_OK;
    return st;
}

void berth_delivery_stop(berth_engine *e)
{
    if (e->delivers) {
        berth_mailbox_last_call(e->delivery);
        berth_thread_join(e->deliverer);
    }
    berth_mailbox_release(e->delivery);
}
