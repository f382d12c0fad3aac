/* tokenizer.c - opening and closing a tokenizer, and what it says about its tokens. See tokenizer.h. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/template.h"
#include "text/tokenizer_internal.h"

berth_status berth_tokenizer_open(const char *dir, berth_tokenizer **out, berth_error *err)
{
    *out = NULL;
    berth_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a tokenizer for %s", dir);
    berth_status st;
    if (berth_file_exists_in(dir, "tokenizer.json"))
        st = berth_tokenizer_load_json(dir, t, err);
    else if (berth_file_exists_in(dir, "vocab.json") || berth_file_exists_in(dir, "merges.txt"))
        st = berth_tokenizer_load_slow(dir, t, err);
    else
        st = BERTH_FAIL(err, BERTH_NOT_FOUND,
                        "%s: no tokenizer found: tokenizer.json is missing, and so are vocab.json and merges.txt", dir);
    if (st == BERTH_OK && berth_template_check(dir, &t->template_system, &t->template_error) == BERTH_OUT_OF_MEMORY)
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory to check the chat template", dir);
    if (st != BERTH_OK) {
        berth_tokenizer_close(t);
        return st;
    }
    *out = t;
    return BERTH_OK;
}

void berth_tokenizer_close(berth_tokenizer *t)
{
    if (!t) return;
    berth_vocab_deinit(&t->vocab);
    berth_merges_deinit(&t->merges);
    berth_added_deinit(&t->added);
    free(t->owner);
    free(t);
}

int32_t berth_tokenizer_size(const berth_tokenizer *t)
{
    return t->size;
}

int32_t berth_tokenizer_special_id(const berth_tokenizer *t, const char *content)
{
    int32_t index = berth_added_find(&t->added, content, strlen(content));
    return index < 0 ? -1 : t->added.tokens[index].id;
}

const char *berth_tokenizer_token(const berth_tokenizer *t, int32_t id, size_t *out_len, bool *out_special)
{
    int32_t owner = id >= 0 && id < t->size ? t->owner[id] : 0;
    *out_len = 0;
    if (out_special) *out_special = false;
    if (!owner) return NULL;
    if (owner > 0) {
        const berth_vocab_entry *e = &t->vocab.entries[owner - 1];
        *out_len = e->len;
        return t->vocab.bytes.data + e->begin;
    }
    const berth_added_token *a = &t->added.tokens[-(owner + 1)];
    *out_len = a->len;
    if (out_special) *out_special = a->special;
    return t->added.bytes.data + a->begin;
}

void berth_ids_deinit(berth_ids *ids)
{
    free(ids->data);
    *ids = (berth_ids){0};
}

bool berth_ids_reserve(berth_ids *ids, size_t extra)
{
    size_t need = ids->len + extra, cap = ids->cap * 2;
    if (need < extra) return false;
    if (need <= ids->cap) return true;
    if (cap < need) cap = need;
    if (cap < 64) cap = 64;
    if (cap > SIZE_MAX / sizeof *ids->data) return false;
    int32_t *data = realloc(ids->data, cap * sizeof *data);
    if (!data) return false;
    ids->data = data;
    ids->cap = cap;
    return true;
}

bool berth_ids_push(berth_ids *ids, int32_t id)
{
    if (ids->len == ids->cap && !berth_ids_reserve(ids, 1)) return false;
    ids->data[ids->len++] = id;
    return true;
}
