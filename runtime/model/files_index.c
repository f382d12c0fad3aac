/* files_index.c - model.safetensors.index.json and its shards. The index says in which shard every tensor is; shards
 * that say otherwise (a tensor that is not there, in another shard, in two) are from another download or another
 * export, and are refused before anything else is looked at. A shard's name is one path component: containment is then
 * berth_file_open_in's. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "model/listing.h"
#include "model/model_internal.h"
#include "model/safetensors_internal.h"

#define INDEX           "model.safetensors.index.json"
#define MAX_INDEX_BYTES ((size_t)32 << 20)
#define MAX_ENTRIES     1048576
#define MAX_SHARD_NAME  255

typedef struct entry {
    const char *tensor;
    int32_t shard;
} entry;

typedef struct index_map {
    berth_strings strings;
    berth_name_table tensors; /* to the entry */
    berth_name_table shards;  /* to the shard's number */
    const char *shard_names[BERTH_MAX_SHARDS];
    int32_t n_shards;
    entry *entries;
    size_t n, cap;
} index_map;

static void map_deinit(index_map *x)
{
    berth_names_deinit(&x->tensors);
    berth_names_deinit(&x->shards);
    berth_strings_deinit(&x->strings);
    free(x->entries);
}

/* ---- reading ---- */

static berth_status json_error(const berth_json_reader *r, const char *expected, berth_error *err)
{
    if (r->scratch.failed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
    size_t line = 0, column = 0;
    berth_json_where(r, &line, &column);
    if (r->error)
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": invalid JSON at line %zu, column %zu: %s", line, column,
                          r->error);
    return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": line %zu, column %zu: %s expected", line, column, expected);
}

static bool is_shard_name(const char *text, size_t n)
{
    if (n == 0 || n > MAX_SHARD_NAME || (n == 1 && text[0] == '.') || (n == 2 && memcmp(text, "..", 2) == 0))
        return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f || text[i] == '/') return false;
    }
    return true;
}

static berth_status shard_of(index_map *x, const char *tensor, const char *text, size_t n, int32_t *out,
                             berth_error *err)
{
    char quoted[160];
    berth_quote(quoted, sizeof quoted, text, n);
    if (!is_shard_name(text, n)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          INDEX ": weight_map of \"%.200s\" gives the invalid shard name \"%s\"; a shard must be a "
                                "file in the same directory, "
                                "without a path",
                          tensor, quoted);
    }
    char name[MAX_SHARD_NAME + 1];
    memcpy(name, text, n);
    name[n] = '\0';
    *out = berth_names_find(&x->shards, name);
    if (*out >= 0) return BERTH_OK;
    if (x->n_shards == BERTH_MAX_SHARDS)
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": more than the limit of %d shards", BERTH_MAX_SHARDS);
    const char *kept = berth_strings_add(&x->strings, name, n);
    if (!kept || !berth_names_add(&x->shards, kept, x->n_shards, out))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
    x->shard_names[x->n_shards++] = kept;
    return BERTH_OK;
}

static berth_status add_entry(index_map *x, const char *tensor, int32_t shard, berth_error *err)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 1024; /* MAX_ENTRIES bounds it */
        entry *grown = realloc(x->entries, cap * sizeof *grown);
        if (!grown) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
        x->entries = grown;
        x->cap = cap;
    }
    x->entries[x->n++] = (entry){tensor, shard};
    return BERTH_OK;
}

static berth_status read_pair(index_map *x, berth_json_reader *r, berth_error *err)
{
    if (x->n == MAX_ENTRIES)
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": weight_map lists more than the limit of %d tensors",
                          MAX_ENTRIES);
    if (r->len == 0 || r->len > BERTH_ST_MAX_NAME || memchr(r->text, '\0', r->len)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": weight_map has a tensor name that is empty or too long");
    }
    const char *tensor = berth_strings_add(&x->strings, r->text, r->len);
    int32_t at = 0, shard = 0;
    if (!tensor || !berth_names_add(&x->tensors, tensor, (int32_t)x->n, &at))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
    if (at != (int32_t)x->n)
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": weight_map lists \"%.200s\" twice (duplicate key)", tensor);
    if (berth_json_read(r) != BERTH_JSON_TEXT)
        return json_error(r, "a string, the name of a shard, in weight_map", err);
    berth_status st = shard_of(x, tensor, r->text, r->len, &shard, err);
    return st == BERTH_OK ? add_entry(x, tensor, shard, err) : st;
}

static berth_status read_map(index_map *x, berth_json_reader *r, berth_error *err)
{
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_OBJECT) return json_error(r, "an object as weight_map", err);
    while ((ev = berth_json_read(r)) == BERTH_JSON_KEY) {
        berth_status st = read_pair(x, r, err);
        if (st != BERTH_OK) return st;
    }
    return ev == BERTH_JSON_END_OBJECT ? BERTH_OK : json_error(r, "a tensor name", err);
}

/* weight_map; what else stands beside it (metadata.total_size, often wrong) is passed over. */
static berth_status read_index(index_map *x, berth_json_reader *r, berth_error *err)
{
    static const char *const keys[] = {"weight_map", "metadata"};
    bool seen[2] = {false, false};
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_OBJECT) return json_error(r, "an object with weight_map", err);
    while ((ev = berth_json_read(r)) == BERTH_JSON_KEY) {
        size_t k = 0;
        while (k < 2 && (r->len != strlen(keys[k]) || memcmp(r->text, keys[k], r->len) != 0)) k++;
        if (k < 2 && seen[k]) return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": duplicate key \"%s\"", keys[k]);
        if (k < 2) seen[k] = true;
        berth_status st = BERTH_OK;
        if (k == 0) {
            st = read_map(x, r, err);
        } else if (!berth_json_skip(r)) {
            st = json_error(r, "a value", err);
        }
        if (st != BERTH_OK) return st;
    }
    if (ev != BERTH_JSON_END_OBJECT || berth_json_read(r) != BERTH_JSON_END) return json_error(r, "the end", err);
    if (x->n == 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": weight_map is %s: no tensor is listed",
                          seen[0] ? "empty" : "missing");
    return BERTH_OK;
}

/* ---- checking against the shards --------------------------------------------------------------------------------- */

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

/* Every listed tensor is in its shard. */
static berth_status check_listed(const index_map *x, const berth_model_files *w, berth_error *err)
{
    berth_listing missing = {0}, moved = {0};
    for (size_t i = 0; i < x->n; i++) {
        const entry *e = &x->entries[i];
        if (berth_safetensors_find(w->shards[e->shard], e->tensor)) continue;
        int32_t other = 0;
        char quoted[128];
        berth_quote(quoted, sizeof quoted, e->tensor, strlen(e->tensor));
        while (other < w->n && !berth_safetensors_find(w->shards[other], e->tensor)) other++;
        if (other < w->n) {
            berth_listing_add(&moved, "%s (listed in %.80s, found in %.80s)", quoted, x->shard_names[e->shard],
                              x->shard_names[other]);
        } else {
            berth_listing_add(&missing, "%s (%.80s)", quoted, x->shard_names[e->shard]);
        }
    }
    if (!missing.count && !moved.count) return BERTH_OK;
    berth_status st = BERTH_FAIL(err, BERTH_BAD_FILE, INDEX " and its shards do not belong together");
    if (missing.count) {
        berth_error_append(err, "\n  %zu listed tensor%s missing, not in any shard: %s", missing.count,
                           plural(missing.count), berth_listing_end(&missing));
    }
    if (moved.count)
        berth_error_append(err, "\n  %zu tensor%s not in the shard that is named: %s", moved.count, plural(moved.count),
                           berth_listing_end(&moved));
    return st;
}

/* No tensor is in two shards. Such that the index does not list, but a shard holds, count as listed: transformers
 * reads them too. */
static berth_status check_unique(const index_map *x, const berth_model_files *w, berth_error *err)
{
    berth_name_table seen = {0};
    berth_listing twice = {0};
    berth_status st = BERTH_OK;
    size_t total = 0;
    for (int32_t s = 0; s < w->n && st == BERTH_OK; s++) {
        size_t n = berth_safetensors_count(w->shards[s]);
        total += n;
        if (total > MAX_ENTRIES)
            st = BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": the shards hold more than the limit of %d tensors",
                            MAX_ENTRIES);
        for (size_t i = 0; i < n && st == BERTH_OK; i++) {
            const char *name = berth_safetensors_at(w->shards[s], i)->name;
            char quoted[128];
            int32_t first = 0;
            if (!berth_names_add(&seen, name, s, &first))
                st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
            else if (first != s) {
                berth_listing_add(&twice, "%s (in both %.80s and %.80s)",
                                  berth_quote(quoted, sizeof quoted, name, strlen(name)), x->shard_names[first],
                                  x->shard_names[s]);
            }
        }
    }
    berth_names_deinit(&seen);
    if (st == BERTH_OK && twice.count) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, INDEX ": %zu tensor%s in more than one shard: %s", twice.count,
                        plural(twice.count), berth_listing_end(&twice));
    }
    return st;
}

static berth_status open_shards(const index_map *x, const char *dir, berth_model_files *w, berth_error *err)
{
    for (int32_t i = 0; i < x->n_shards; i++) {
        berth_status st = berth_model_files_add(w, dir, x->shard_names[i], err);
        if (st != BERTH_OK) {
            berth_error_prefix(err, INDEX ": shard ");
            return st;
        }
    }
    berth_status st = check_listed(x, w, err);
    return st == BERTH_OK ? check_unique(x, w, err) : st;
}

berth_status berth_model_files_open_index(const char *dir, berth_model_files *out, berth_error *err)
{
    char *text = NULL;
    size_t n = 0;
    berth_status st = berth_file_read_in(dir, INDEX, MAX_INDEX_BYTES, &text, &n, err);
    if (st != BERTH_OK) return st;
    index_map *x = calloc(1, sizeof *x);
    if (!x) {
        free(text);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, INDEX);
    }
    berth_json_reader r;
    berth_json_reader_init(&r, text, n);
    st = read_index(x, &r, err);
    berth_json_reader_deinit(&r);
    free(text);
    if (st == BERTH_OK) st = open_shards(x, dir, out, err);
    map_deinit(x);
    free(x);
    return st;
}
