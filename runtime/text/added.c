/* added.c - see added.h. */
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/vocab.h"

struct berth_trie_edge {
    uint64_t key;  /* parent node << 8 | byte, plus 1; 0 = free */
    uint32_t node; /* child */
};

/* ---- trie ---- */

static void trie_deinit(berth_trie *t)
{
    free(t->edges);
    free(t->token_of);
    *t = (berth_trie){0};
}

static struct berth_trie_edge *edge_slot(const berth_trie *t, uint32_t node, unsigned char byte)
{
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    size_t mask = t->n_slots - 1;
    size_t i = berth_text_mix(key, 0xA0761D6478BD642Fu) & mask; /* node numbers are ours, so no seed is needed */
    while (t->edges[i].key && t->edges[i].key != key) i = (i + 1) & mask;
    return &t->edges[i];
}

/* Room for strings of `n_bytes` in all. */
static bool trie_init(berth_trie *t, size_t n_bytes)
{
    size_t n_slots = 64;
    while (n_slots < n_bytes * 2) n_slots *= 2;
    t->n_slots = n_slots;
    t->cap_nodes = n_bytes + 1;
    t->edges = calloc(n_slots, sizeof *t->edges);
    t->token_of = malloc(t->cap_nodes * sizeof *t->token_of);
    if (!t->edges || !t->token_of) return false;
    t->token_of[0] = -1;
    return true;
}

static void trie_put(berth_trie *t, const char *s, size_t len, int32_t token)
{
    uint32_t node = 0;
    t->first[(unsigned char)s[0]] = true;
    for (size_t i = 0; i < len; i++) {
        struct berth_trie_edge *e = edge_slot(t, node, (unsigned char)s[i]);
        if (!e->key) {
            e->key = ((uint64_t)node << 8 | (unsigned char)s[i]) + 1;
            e->node = (uint32_t)++t->n_edges;
            t->token_of[e->node] = -1;
        }
        node = e->node;
    }
    t->token_of[node] = token;
}

/* The longest string of the trie at the start of s; its length, 0 = none. */
static size_t trie_longest(const berth_trie *t, const char *s, size_t n, int32_t *out_token)
{
    size_t longest = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        const struct berth_trie_edge *e = edge_slot(t, node, (unsigned char)s[i]);
        if (!e->key) break;
        node = e->node;
        if (t->token_of[node] >= 0) {
            longest = i + 1;
            *out_token = t->token_of[node];
        }
    }
    return longest;
}

bool berth_trie_search(const berth_trie *trie, const char *text, size_t n, size_t from, size_t *out_at, size_t *out_len,
                       int32_t *out_token)
{
    if (!trie->n_edges) return false;
    for (size_t i = from; i < n; i++) {
        if (!trie->first[(unsigned char)text[i]]) continue;
        size_t len = trie_longest(trie, text + i, n - i, out_token);
        if (!len) continue;
        *out_at = i;
        *out_len = len;
        return true;
    }
    return false;
}

/* ---- list ---- */

void berth_added_deinit(berth_added *a)
{
    berth_buffer_deinit(&a->bytes);
    free(a->tokens);
    trie_deinit(&a->plain);
    trie_deinit(&a->normalized);
    *a = (berth_added){0};
}

bool berth_added_add(berth_added *a, const char *content, size_t len, berth_added_token token)
{
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 64, bytes;
        if (cap > INT32_MAX || !berth_mul_size(cap, sizeof *a->tokens, &bytes)) return false;
        berth_added_token *tokens = realloc(a->tokens, bytes);
        if (!tokens) return false;
        a->tokens = tokens;
        a->cap = cap;
    }
    if (a->bytes.len + len > UINT32_MAX) return false;
    token.begin = (uint32_t)a->bytes.len;
    token.len = (uint32_t)len;
    if (!berth_buffer_append(&a->bytes, content, len)) return false;
    a->tokens[a->n++] = token;
    return true;
}

bool berth_added_index(berth_added *a, size_t *out_twice)
{
    *out_twice = a->n;
    size_t n_bytes[2] = {0};
    for (size_t k = 0; k < a->n; k++) n_bytes[a->tokens[k].normalized] += a->tokens[k].len;
    trie_deinit(&a->plain);
    trie_deinit(&a->normalized);
    if (!trie_init(&a->plain, n_bytes[0]) || !trie_init(&a->normalized, n_bytes[1])) return false;
    for (size_t k = 0; k < a->n; k++) {
        const berth_added_token *t = &a->tokens[k];
        if (berth_added_find(a, a->bytes.data + t->begin, t->len) >= 0) {
            *out_twice = k;
            return false;
        }
        trie_put(t->normalized ? &a->normalized : &a->plain, a->bytes.data + t->begin, t->len, (int32_t)k);
    }
    return true;
}

int32_t berth_added_find(const berth_added *a, const char *content, size_t len)
{
    const berth_trie *tries[] = {&a->plain, &a->normalized};
    for (int i = 0; i < 2; i++) {
        int32_t token = -1;
        if (tries[i]->n_edges && trie_longest(tries[i], content, len, &token) == len && len) return token;
    }
    return -1;
}
