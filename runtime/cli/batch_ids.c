/* batch_ids.c - the ids of a batch: a hash table with open addressing, and how an id is spelled. */
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/status.h"
#include "cli/batch.h"
#include "cli/rows.h"

struct batch_id {
    char *text; /* NULL: a free slot */
    size_t line;
};

/* FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
static size_t hash(const char *text)
{
    uint64_t h = 14695981039346656037u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
    return (size_t)h;
}

/* The slot that holds `text`, or the free one where it would go; there is always a free one. */
static struct batch_id *slot_of(struct batch_id *slots, size_t n_slots, const char *text)
{
    size_t i = hash(text) & (n_slots - 1);
    while (slots[i].text != NULL && strcmp(slots[i].text, text) != 0) i = (i + 1) & (n_slots - 1);
    return &slots[i];
}

static bool grow(batch_ids *s)
{
    const size_t n_slots = s->n_slots ? s->n_slots * 2 : 64;
    struct batch_id *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < s->n_slots; i++) {
        if (s->slots[i].text != NULL) *slot_of(slots, n_slots, s->slots[i].text) = s->slots[i];
    }
    free(s->slots);
    s->slots = slots;
    s->n_slots = n_slots;
    return true;
}

berth_status batch_ids_add(batch_ids *s, const char *id, size_t line, size_t *out_line, berth_error *err)
{
    if (2 * s->n >= s->n_slots && !grow(s)) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the ids");
    struct batch_id *slot = slot_of(s->slots, s->n_slots, id);
    if (slot->text == NULL) {
        slot->text = strdup(id);
        if (slot->text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the ids");
        slot->line = line;
        s->n++;
    }
    *out_line = slot->line;
    return BERTH_OK;
}

bool batch_ids_has(const batch_ids *s, const char *id)
{
    return s->n_slots > 0 && slot_of(s->slots, s->n_slots, id)->text != NULL;
}

void batch_ids_deinit(batch_ids *s)
{
    for (size_t i = 0; i < s->n_slots; i++) free(s->slots[i].text);
    free(s->slots);
    *s = (batch_ids){0};
}

berth_status batch_id_of(const berth_json_node *row, char **out, berth_error *err)
{
    const berth_json_node *node = berth_json_get(row, "id");
    const char *text = berth_json_as_string(node);
    int64_t n;
    *out = NULL;
    if (berth_json_type_of(node) == BERTH_JSON_NULL) return BERTH_OK;
    berth_buffer b = {0};
    if (text != NULL) {
        cli_put_string(&b, text, strlen(text));
    } else if (berth_json_as_i64(node, &n)) {
        berth_buffer_printf(&b, "%lld", (long long)n);
    } else {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "id is %s; give a text or a whole number",
                          berth_json_type_name(berth_json_type_of(node)));
    }
    *out = berth_buffer_take(&b);
    return *out != NULL ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an id");
}

char *batch_line_id(size_t number, const char *line, size_t n)
{
    char hex[65];
    berth_buffer b = {0};
    if (!berth_sha256_hex(line != NULL ? line : "", n, hex)) return NULL;
    berth_buffer_printf(&b, "\"line-%zu-%.16s\"", number, hex);
    return berth_buffer_take(&b);
}
