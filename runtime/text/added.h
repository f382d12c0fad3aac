/* added.h - added tokens (<|im_start|>, <img>, ...): the list, and finding them in a text, leftmost and longest first.
 *
 * Tokens with normalized=false are looked for in the text as it is, those with normalized=true in what NFC made of the
 * text between. */
#ifndef BERTH_TEXT_ADDED_H
#define BERTH_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* A search walks at most this far at each place, which keeps it linear in the text. Real ones have some 20 bytes. */
#define BERTH_ADDED_BYTES_MAX 1024

typedef struct berth_added_token {
    uint32_t begin, len; /* in added.bytes */
    int32_t id;
    bool special, normalized;
} berth_added_token;

/* A set of strings as a tree of bytes, its edges in one hash table. */
typedef struct berth_trie {
    struct berth_trie_edge *edges;
    size_t n_edges, n_slots;
    int32_t *token_of; /* [n_edges + 1] token that ends at this node, or -1 */
    size_t cap_nodes;
    bool first[256]; /* bytes that begin some string */
} berth_trie;

typedef struct berth_added {
    berth_buffer bytes;
    berth_added_token *tokens;
    size_t n, cap;
    berth_trie plain, normalized;
} berth_added;

void berth_added_deinit(berth_added *a);
bool berth_added_add(berth_added *a, const char *content, size_t len,
                     berth_added_token token); /* false: out of memory */
/* Makes them findable; once, when all are there. False: out of memory, or (with *out_twice < n) that token's content
 * occurs before. */
bool berth_added_index(berth_added *a, size_t *out_twice);

/* Index of the token of that content, or -1. */
int32_t berth_added_find(const berth_added *a, const char *content, size_t len);

/* The first place at or after `from` where a token of `trie` stands; the longest there. False: none. */
bool berth_trie_search(const berth_trie *trie, const char *text, size_t n, size_t from, size_t *out_at, size_t *out_len,
                       int32_t *out_token);

#endif
