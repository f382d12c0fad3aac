/* queue.c - completion queues: a mailbox with a descriptor, and completions made of its letters. */
#include "api/queue.h"

#include <stdlib.h>

#include "api/call.h"
#include "base/status.h"

berth_status berth_queue_create(berth_runtime *rt, berth_queue **out, berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(rt, BERTH_HANDLE_RUNTIME))
        return berth_handle_refuse("berth_queue_create", BERTH_HANDLE_RUNTIME, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_queue_create: out must not be NULL");
    berth_queue *q = calloc(1, sizeof *q);
    if (q == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a queue handle");
    berth_status st = berth_mailbox_create(true, &q->mailbox, err);
    if (st != BERTH_OK) {
        free(q);
        return st;
    }
    berth_handle_begin(&q->head, BERTH_HANDLE_QUEUE, rt);
    *out = q;
    return BERTH_OK;
}

void berth_queue_destroy(berth_queue *queue)
{
    if (!berth_handle_end(queue, BERTH_HANDLE_QUEUE)) return;
    berth_mailbox_close(queue->mailbox);
    berth_mailbox_release(queue->mailbox);
    if (berth_handle_release(&queue->head)) berth_handle_retire(&queue->head, sizeof *queue);
}

int berth_queue_descriptor(const berth_queue *queue)
{
    return berth_handle_is(queue, BERTH_HANDLE_QUEUE) ? queue->mailbox->descriptor : -1;
}

/* A completion of a letter; takes the text and the call's result. */
static void fill(berth_letter *letter, berth_buffer *text, berth_completion *out)
{
    berth_call *c = letter->call;
    *out = (berth_completion){.struct_size = sizeof *out, .id = c->id, .user = c->user, .status = BERTH_OK};
    if (!letter->is_end) {
        out->kind = BERTH_COMPLETION_TOKEN;
        out->token = letter->token;
        out->memory = text->data;
        *text = (berth_buffer){0};
        return;
    }
    out->kind = BERTH_COMPLETION_END;
    out->status = c->status;
    out->memory = c->end;
    if (c->status == BERTH_OK)
        out->result = &c->end->result;
    else
        out->error = &c->end->error;
    c->end = NULL;
}

berth_status berth_queue_next(berth_queue *queue, int64_t timeout_ms, berth_completion *out, berth_error *err)
{
    if (!berth_handle_is(queue, BERTH_HANDLE_QUEUE))
        return berth_handle_refuse("berth_queue_next", BERTH_HANDLE_QUEUE, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_queue_next: out must not be NULL");
    if (timeout_ms < -1)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "timeout_ms = %lld; give milliseconds, or -1 for ever",
                          (long long)timeout_ms);
    /* All of it: what the struct lacks could not be freed. */
    berth_status st =
        berth_output_check(out, offsetof(berth_completion, memory) + sizeof out->memory, "berth_completion", err);
    if (st != BERTH_OK) return st;
    const int64_t timeout_ns = timeout_ms < 0 || timeout_ms > INT64_MAX / 1000000 ? -1 : timeout_ms * 1000000;
    berth_completion full = {.struct_size = sizeof full};
    berth_buffer text = {0};
    berth_letter letter;
    st = berth_mailbox_take(queue->mailbox, timeout_ms == 0 ? 0 : timeout_ns, &text, &letter, err);
    if (st == BERTH_OK && letter.call != NULL) {
        fill(&letter, &text, &full);
        berth_call_release(letter.call);
    }
    berth_buffer_deinit(&text);
    berth_output_write(out, &full, sizeof full);
    return st;
}

void berth_completion_deinit(berth_completion *c)
{
    if (c == NULL || berth_output_check(c, offsetof(berth_completion, memory) + sizeof c->memory, "berth_completion",
                                        NULL) != BERTH_OK)
        return;
    if (c->kind == BERTH_COMPLETION_END && c->memory != NULL) berth_result_deinit(&((berth_ending *)c->memory)->result);
    free(c->memory);
    berth_output_write(c, &(berth_completion){0}, sizeof(berth_completion));
}
