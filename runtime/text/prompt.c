/* prompt.c - see prompt.h. Plain text is gathered until a token comes, because pieces of text cut and merge across the
 * seams of a template ("user\n" and a question that begins with a newline). */
#include "text/prompt.h"

#include <inttypes.h>
#include <string.h>

#define IMAGE_TAG     "<image>"
#define IMAGE_IDS_MAX ((int64_t)1 << 24)

void berth_prompt_begin(berth_prompt *p, const berth_tokenizer *t, const berth_prompt_options *options, berth_ids *ids,
                        int32_t *image_at, berth_error *err)
{
    *p = (berth_prompt){
        .t = t, .options = options, .ids = ids, .n_ids_before = ids->len, .image_at = image_at, .err = err};
    p->placeholder = options->form == BERTH_CHAT_NATIVE ? "<IMG_CONTEXT>" : IMAGE_TAG;
    p->tags_take_images = options->text_may_hold_tokens && options->form == BERTH_CHAT_INTERNVL2_5;
    if (options->n_images < 0 || (options->n_images && !options->tiles))
        p->status = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%" PRId32 " pictures without their tile counts",
                               options->n_images);
    for (int32_t i = 0; image_at && i < options->n_images; i++) image_at[i] = -1;
}

static void fail_memory(berth_prompt *p)
{
    if (p->status == BERTH_OK) p->status = BERTH_FAIL(p->err, BERTH_OUT_OF_MEMORY, "no memory for the prompt");
}

void berth_prompt_fail(berth_prompt *p, berth_status status, const char *why)
{
    if (p->status == BERTH_OK) p->status = BERTH_FAIL(p->err, status, "%s", why);
}

/* The same for both spellings. */
static void spell(berth_prompt *p, const char *text, size_t n)
{
    berth_buffer *out[] = {p->options->out_spelled, p->options->out_expanded};
    for (int i = 0; i < 2; i++)
        if (out[i] && !berth_buffer_append(out[i], text, n)) fail_memory(p);
}

/* An id, spelled in out_expanded as well. */
static void push_added(berth_prompt *p, const char *content, int32_t id, int64_t times)
{
    if (id < 0) {
        if (p->status == BERTH_OK)
            p->status =
                BERTH_FAIL(p->err, BERTH_BAD_FILE,
                           "tokenizer: the special token %s is missing, which this model's prompt needs", content);
        return;
    }
    berth_buffer *expanded = p->options->out_expanded;
    if (!berth_ids_reserve(p->ids, (size_t)times)) fail_memory(p);
    for (int64_t i = 0; i < times && p->status == BERTH_OK; i++) {
        p->ids->data[p->ids->len++] = id;
        if (expanded && !berth_buffer_puts(expanded, content)) fail_memory(p);
    }
}

static void encode(berth_prompt *p, const char *text, size_t n)
{
    if (p->status != BERTH_OK || !n) return;
    berth_match match = p->options->text_may_hold_tokens ? BERTH_MATCH_ALL : BERTH_MATCH_NONE;
    p->status = berth_tokenizer_encode(p->t, text, n, match, p->ids, p->err);
    spell(p, text, n);
}

static void put_image(berth_prompt *p)
{
    const berth_prompt_options *o = p->options;
    int32_t k = p->next_image++;
    int64_t n = (int64_t)o->tiles[k] * o->tokens_per_tile;
    if (p->status != BERTH_OK) return;
    if (o->tiles[k] < 1 || o->tokens_per_tile < 1 || n > IMAGE_IDS_MAX) {
        p->status = BERTH_FAIL(p->err, BERTH_INVALID_ARGUMENT,
                               "picture %" PRId32 ": %" PRId32 " tiles of %" PRId32 " tokens each cannot be", k + 1,
                               o->tiles[k], o->tokens_per_tile);
        return;
    }
    if (o->out_spelled && !berth_buffer_puts(o->out_spelled, p->placeholder)) fail_memory(p);
    push_added(p, "<img>", berth_tokenizer_special_id(p->t, "<img>"), 1);
    if (p->image_at) p->image_at[k] = (int32_t)p->ids->len;
    push_added(p, "<IMG_CONTEXT>", berth_tokenizer_special_id(p->t, "<IMG_CONTEXT>"), n);
    push_added(p, "</img>", berth_tokenizer_special_id(p->t, "</img>"), 1);
}

static void flush(berth_prompt *p)
{
    const char *at = p->pending.data;
    size_t left = p->pending.len;
    while (p->tags_take_images && left && p->next_image < p->options->n_images && p->status == BERTH_OK) {
        const char *tag = memmem(at, left, IMAGE_TAG, strlen(IMAGE_TAG));
        if (!tag) break;
        encode(p, at, (size_t)(tag - at));
        put_image(p);
        left -= (size_t)(tag - at) + strlen(IMAGE_TAG);
        at = tag + strlen(IMAGE_TAG);
    }
    encode(p, at, left);
    p->pending.len = 0;
}

void berth_prompt_text(berth_prompt *p, const char *text, size_t n)
{
    if (p->status == BERTH_OK && !berth_buffer_append(&p->pending, text, n)) fail_memory(p);
}

void berth_prompt_puts(berth_prompt *p, const char *text)
{
    berth_prompt_text(p, text, strlen(text));
}

void berth_prompt_token(berth_prompt *p, const char *content)
{
    flush(p);
    push_added(p, content, berth_tokenizer_special_id(p->t, content), 1);
    if (p->status == BERTH_OK && p->options->out_spelled && !berth_buffer_puts(p->options->out_spelled, content))
        fail_memory(p);
}

void berth_prompt_image(berth_prompt *p)
{
    if (p->tags_take_images) { /* the tag takes its picture when its turn in the text comes */
        berth_prompt_puts(p, IMAGE_TAG);
        return;
    }
    flush(p);
    if (p->next_image >= p->options->n_images)
        berth_prompt_fail(p, BERTH_INVALID_ARGUMENT, "the messages have more image parts than pictures were given");
    else
        put_image(p);
}

berth_status berth_prompt_end(berth_prompt *p)
{
    flush(p);
    berth_buffer_deinit(&p->pending);
    if (p->status != BERTH_OK) p->ids->len = p->n_ids_before;
    return p->status;
}
