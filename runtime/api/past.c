/* past.c - see past.h. */
#include "api/past.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/status.h"

const char *berth_past_role(const char *role)
{
    static const char *const known[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(role, known[i]) == 0) return known[i];
    return NULL;
}

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

berth_blob *berth_blob_create(char *take_bytes, size_t size)
{
    berth_blob *b = take_bytes != NULL ? calloc(1, sizeof *b) : NULL;
    if (b == NULL) {
        free(take_bytes);
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->bytes = take_bytes;
    b->size = size;
    return b;
}

static berth_blob *blob_of(const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    if (copy != NULL && size > 0) memcpy(copy, bytes, size);
    return berth_blob_create(copy, size);
}

void berth_blob_release(berth_blob *b)
{
    if (b == NULL || atomic_fetch_sub(&b->refs, 1) != 1) return;
    free(b->bytes);
    free(b);
}

/* ---- turns --------------------------------------------------------------------------------------------------------- */

static void turn_deinit(berth_past_turn *t)
{
    for (int32_t i = 0; t->contents != NULL && i < t->n_contents; i++) berth_blob_release(t->contents[i].blob);
    free(t->contents);
    *t = (berth_past_turn){0};
}

void berth_past_cut(berth_past *p, int32_t n_turns)
{
    while (p->n_turns > n_turns) turn_deinit(&p->turns[--p->n_turns]);
}

void berth_past_deinit(berth_past *p)
{
    berth_past_cut(p, 0);
    free(p->turns);
    *p = (berth_past){0};
}

static berth_status no_memory(berth_error *err)
{
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for what a session remembers");
}

berth_status berth_past_copy(const berth_past *p, berth_past *out, berth_error *err)
{
    *out = (berth_past){.turns = calloc((size_t)p->n_turns + 1, sizeof *out->turns)};
    bool ok = out->turns != NULL;
    for (int32_t i = 0; ok && i < p->n_turns; i++) {
        const berth_past_turn *from = &p->turns[i];
        berth_past_turn *to = &out->turns[out->n_turns++];
        *to = (berth_past_turn){.role = from->role,
                                .contents = calloc((size_t)from->n_contents + 1, sizeof *to->contents)};
        ok = to->contents != NULL;
        for (int32_t k = 0; ok && k < from->n_contents; k++) {
            to->contents[to->n_contents++] = from->contents[k];
            atomic_fetch_add(&from->contents[k].blob->refs, 1);
        }
    }
    if (ok) return BERTH_OK;
    berth_past_deinit(out);
    return no_memory(err);
}

/* One content as it was given; a file's bytes are taken out of its picture. */
static bool keep_content(const berth_content *c, berth_picture *picture, berth_past_content *out)
{
    *out = (berth_past_content){.kind = c->kind, .width = c->width, .height = c->height};
    if (picture != NULL) out->picture = *picture;
    out->picture.bytes = NULL;
    if (c->kind == BERTH_CONTENT_IMAGE_FILE) {
        out->kind = BERTH_CONTENT_IMAGE_BYTES;
        out->blob = berth_blob_create(picture->bytes, picture->size);
        picture->bytes = NULL;
    } else {
        out->blob = blob_of(c->data, c->size);
    }
    return out->blob != NULL;
}

static bool keep_turn(const berth_turn *t, berth_picture **pictures, berth_past_turn *out)
{
    *out = (berth_past_turn){.role = berth_past_role(t->role),
                             .contents = calloc((size_t)t->n_content + 1, sizeof *out->contents)};
    bool ok = out->role != NULL && out->contents != NULL;
    for (int32_t k = 0; ok && k < t->n_content; k++) {
        berth_picture *picture = t->content[k].kind != BERTH_CONTENT_TEXT ? (*pictures)++ : NULL;
        ok = keep_content(&t->content[k], picture, &out->contents[out->n_contents++]);
    }
    return ok;
}

berth_status berth_past_append(berth_past *p, const berth_turn *turns, int32_t n_turns, berth_picture *pictures,
                               const char *answer, size_t answer_size, berth_error *err)
{
    const berth_content said = {.kind = BERTH_CONTENT_TEXT, .data = answer, .size = answer_size};
    const berth_turn last = {.role = "assistant", .content = &said, .n_content = 1};
    const int32_t before = p->n_turns;
    berth_past_turn *more = realloc(p->turns, ((size_t)before + (size_t)n_turns + 1) * sizeof *more);
    if (more == NULL) return no_memory(err);
    p->turns = more;
    bool ok = true;
    for (int32_t i = 0; ok && i <= n_turns; i++)
        ok = keep_turn(i < n_turns ? &turns[i] : &last, &pictures, &p->turns[p->n_turns++]);
    if (ok) return BERTH_OK;
    berth_past_cut(p, before);
    return no_memory(err);
}

/* ---- looking back -------------------------------------------------------------------------------------------------- */

static int32_t n_contents_of(const berth_past *p)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_turns; i++) n += p->turns[i].n_contents;
    return n;
}

berth_status berth_past_view(const berth_past *p, const berth_turn *more, int32_t n_more, berth_turn **out,
                             berth_error *err)
{
    const size_t n_turns = (size_t)p->n_turns + (size_t)n_more;
    berth_turn *turns = malloc(n_turns * sizeof *turns + (size_t)n_contents_of(p) * sizeof(berth_content) + 1);
    *out = turns;
    if (turns == NULL) return no_memory(err);
    berth_content *c = (berth_content *)(void *)(turns + n_turns);
    for (int32_t i = 0; i < p->n_turns; i++) {
        const berth_past_turn *t = &p->turns[i];
        turns[i] = (berth_turn){.role = t->role, .content = c, .n_content = t->n_contents};
        for (int32_t k = 0; k < t->n_contents; k++)
            *c++ = (berth_content){.kind = t->contents[k].kind,
                                   .data = t->contents[k].blob->bytes,
                                   .size = t->contents[k].blob->size,
                                   .width = t->contents[k].width,
                                   .height = t->contents[k].height};
    }
    if (n_more > 0) memcpy(turns + p->n_turns, more, (size_t)n_more * sizeof *more);
    return BERTH_OK;
}

berth_status berth_past_pictures(const berth_past *p, berth_picture **out, int32_t *out_n, berth_error *err)
{
    int32_t n = 0;
    *out_n = 0;
    *out = calloc((size_t)berth_past_n_pictures(p) + 1, sizeof **out);
    if (*out == NULL) return no_memory(err);
    for (int32_t i = 0; i < p->n_turns; i++)
        for (int32_t k = 0; k < p->turns[i].n_contents; k++)
            if (p->turns[i].contents[k].kind != BERTH_CONTENT_TEXT) (*out)[n++] = p->turns[i].contents[k].picture;
    *out_n = n;
    return BERTH_OK;
}

int32_t berth_past_n_pictures(const berth_past *p)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_turns; i++)
        for (int32_t k = 0; k < p->turns[i].n_contents; k++) n += p->turns[i].contents[k].kind != BERTH_CONTENT_TEXT;
    return n;
}

bool berth_past_text(const berth_past *p, int32_t turn, berth_buffer *out)
{
    const berth_past_turn *t = &p->turns[turn];
    bool ok = true;
    for (int32_t k = 0; ok && k < t->n_contents; k++) {
        const berth_past_content *c = &t->contents[k];
        ok = c->kind == BERTH_CONTENT_TEXT ? berth_buffer_append(out, c->blob->bytes, c->blob->size)
                                           : berth_buffer_puts(out, "<image>");
    }
    return ok;
}
