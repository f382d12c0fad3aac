/* vocab.h - the base tokens of a byte-level vocabulary: what bytes each stands for, and which token a string is.
 *
 * Files spell a token in stand-in characters, one per byte; here it is held as bytes. A token that holds any other
 * character stands for its own UTF-8 ("raw"), as in the reference's decoder; no text is ever encoded to such a token. */
#ifndef BERTH_TEXT_VOCAB_H
#define BERTH_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define BERTH_TOKEN_BYTES_MAX 65536

typedef struct berth_vocab_entry {
    uint32_t begin, len; /* in vocab.bytes */
    int32_t id;
    bool raw;
} berth_vocab_entry;

typedef struct berth_vocab_slot {
    uint32_t tag;   /* of the hash: most wrong slots are passed without a look at the entry */
    uint32_t entry; /* index + 1; 0 = free */
} berth_vocab_slot;

typedef struct berth_vocab {
    berth_buffer bytes;
    berth_vocab_entry *entries;
    size_t n_entries, cap_entries;
    berth_vocab_slot *slots; /* built by berth_vocab_index */
    size_t n_slots;          /* a power of two */
    uint64_t seed;           /* random, so that no file can choose its collisions */
} berth_vocab;

void berth_vocab_deinit(berth_vocab *v);

/* Appends an entry for `spelled` (as a file spells it). False: out of memory. */
bool berth_vocab_add(berth_vocab *v, const char *spelled, size_t len, int32_t id);

typedef enum berth_index_result { BERTH_INDEX_OK, BERTH_INDEX_TWICE, BERTH_INDEX_NO_MEMORY } berth_index_result;

/* Makes entries findable; to be called once, when all are there. TWICE: *out_twice is an entry whose token occurs before. */
berth_index_result berth_vocab_index(berth_vocab *v, size_t *out_twice);

/* Finds a token; an index into entries, or -1. */
int64_t berth_vocab_find(const berth_vocab *v, const char *bytes, size_t len, bool raw);

/* The same in two steps, for those with several to find: begin asks memory for the place, end looks at it. */
uint64_t berth_vocab_find_begin(const berth_vocab *v, const char *bytes, size_t len);
int64_t berth_vocab_find_end(const berth_vocab *v, uint64_t begun, const char *bytes, size_t len, bool raw);

/* Turns a spelled token into bytes, appended to `out`; *raw as above. False: out of memory. */
bool berth_vocab_unspell(const char *spelled, size_t len, berth_buffer *out, bool *raw);

/* A well-mixed hash of bytes, and of a number, that depends on the seed. */
uint64_t berth_text_hash(const char *bytes, size_t len, uint64_t seed);
uint64_t berth_text_mix(uint64_t value, uint64_t seed);
uint64_t berth_text_seed(void);

#endif
