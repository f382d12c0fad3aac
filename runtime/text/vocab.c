/* vocab.c - see vocab.h. The stand-ins are GPT-2's: bytes 33..126, 161..172 and 174..255 stand for themselves, the
 * other 68, ascending, are U+0100 and on. Source: openai/gpt-2, src/encoder.py, bytes_to_unicode. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/checked.h"

#define BATCH 16 /* table slots asked of memory at once */

/* The bytes of U+0100 + i. */
static unsigned char late_byte(unsigned i)
{
    if (i < 33) return (unsigned char)i;
    return i < 67 ? (unsigned char)(i - 33 + 127) : 173;
}

/* The byte that the two-byte UTF-8 sequence a b stands for, or -1. */
static int stand_in(unsigned char a, unsigned char b)
{
    unsigned cp = (a & 31u) << 6 | (b & 63u);
    if (cp >= 0x100) return cp < 0x144 ? late_byte(cp - 0x100) : -1;
    return cp >= 161 && cp != 173 ? (int)cp : -1;
}

static bool unspell_into(const char *spelled, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)spelled[i];
        if (c >= 33 && c < 127) {
            out[n++] = (char)c;
            continue;
        }
        int byte = c >= 0xC2 && c <= 0xC5 && i + 1 < len ? stand_in(c, (unsigned char)spelled[i + 1]) : -1;
        if (byte < 0) return false;
        out[n++] = (char)byte;
        i++;
    }
    *out_len = n;
    return true;
}

bool berth_vocab_unspell(const char *spelled, size_t len, berth_buffer *out, bool *raw)
{
    if (!berth_buffer_reserve(out, len)) return false;
    size_t n = len;
    *raw = !unspell_into(spelled, len, out->data + out->len, &n);
    if (*raw) return berth_buffer_append(out, spelled, len);
    out->len += n;
    out->data[out->len] = '\0';
    return true;
}

/* ---- hashing ---- */

uint64_t berth_text_mix(uint64_t value, uint64_t seed)
{
    unsigned __int128 p = (unsigned __int128)(value ^ seed) * (seed | 0x9E3779B97F4A7C15u);
    uint64_t folded = (uint64_t)p ^ (uint64_t)(p >> 64);
    return folded ^ folded >> 32;
}

uint64_t berth_text_hash(const char *bytes, size_t len, uint64_t seed)
{
    uint64_t h = seed ^ len * 0xD6E8FEB86659FD93u, word;
    while (len >= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        h = berth_text_mix(h ^ word, seed) + word;
        bytes += sizeof word;
        len -= sizeof word;
    }
    word = 0;
    memcpy(&word, bytes, len);
    return berth_text_mix(h ^ word, seed);
}

uint64_t berth_text_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) seed = 0x2545F4914F6CDD1Du;
    return seed | 1;
}

/* ---- entries ---- */

void berth_vocab_deinit(berth_vocab *v)
{
    berth_buffer_deinit(&v->bytes);
    free(v->entries);
    free(v->slots);
    *v = (berth_vocab){0};
}

static bool grow(berth_vocab *v)
{
    size_t cap = v->cap_entries ? v->cap_entries * 2 : 1024, bytes;
    if (!berth_mul_size(cap, sizeof *v->entries, &bytes)) return false;
    berth_vocab_entry *entries = realloc(v->entries, bytes);
    if (!entries) return false;
    v->entries = entries;
    v->cap_entries = cap;
    return true;
}

bool berth_vocab_add(berth_vocab *v, const char *spelled, size_t len, int32_t id)
{
    if (v->n_entries == v->cap_entries && !grow(v)) return false;
    size_t begin = v->bytes.len;
    berth_vocab_entry e = {.begin = (uint32_t)begin, .id = id};
    if (begin + len > UINT32_MAX || !berth_vocab_unspell(spelled, len, &v->bytes, &e.raw)) return false;
    e.len = (uint32_t)(v->bytes.len - begin);
    v->entries[v->n_entries++] = e;
    return true;
}

static inline uint64_t hash_of(const berth_vocab *v, const berth_vocab_entry *e)
{
    return berth_text_hash(v->bytes.data + e->begin, e->len, v->seed);
}

/* Where a token of that hash stands, or the free slot where it would. */
static size_t slot_of(const berth_vocab *v, uint64_t hash, const char *bytes, size_t len, bool raw)
{
    size_t mask = v->n_slots - 1;
    size_t i = hash & mask;
    for (; v->slots[i].entry; i = (i + 1) & mask) {
        if (v->slots[i].tag != (uint32_t)(hash >> 32)) continue;
        const berth_vocab_entry *e = &v->entries[v->slots[i].entry - 1];
        if (e->len == len && e->raw == raw && memcmp(v->bytes.data + e->begin, bytes, len) == 0) break;
    }
    return i;
}

/* Entries [first, first + n), their slots asked of memory together before the first is needed. */
static bool index_batch(berth_vocab *v, size_t first, size_t n, size_t *out_twice)
{
    uint64_t hash[BATCH];
    for (size_t k = 0; k < n; k++) {
        hash[k] = hash_of(v, &v->entries[first + k]);
        __builtin_prefetch(&v->slots[hash[k] & (v->n_slots - 1)], 1);
    }
    for (size_t k = 0; k < n; k++) {
        const berth_vocab_entry *e = &v->entries[first + k];
        berth_vocab_slot *slot = &v->slots[slot_of(v, hash[k], v->bytes.data + e->begin, e->len, e->raw)];
        *out_twice = first + k;
        if (slot->entry) return false;
        *slot = (berth_vocab_slot){(uint32_t)(hash[k] >> 32), (uint32_t)(first + k + 1)};
    }
    return true;
}

berth_index_result berth_vocab_index(berth_vocab *v, size_t *out_twice)
{
    size_t n_slots = 64;
    while (n_slots < v->n_entries + v->n_entries / 2) n_slots *= 2;
    free(v->slots);
    v->slots = calloc(n_slots, sizeof *v->slots);
    if (!v->slots) return BERTH_INDEX_NO_MEMORY;
    v->n_slots = n_slots;
    v->seed = berth_text_seed();
    for (size_t k = 0; k < v->n_entries; k += BATCH) {
        size_t n = v->n_entries - k < BATCH ? v->n_entries - k : BATCH;
        if (!index_batch(v, k, n, out_twice)) return BERTH_INDEX_TWICE;
    }
    return BERTH_INDEX_OK;
}

uint64_t berth_vocab_find_begin(const berth_vocab *v, const char *bytes, size_t len)
{
    uint64_t hash = berth_text_hash(bytes, len, v->seed);
    if (v->n_slots) __builtin_prefetch(&v->slots[hash & (v->n_slots - 1)]);
    return hash;
}

int64_t berth_vocab_find_end(const berth_vocab *v, uint64_t begun, const char *bytes, size_t len, bool raw)
{
    return v->n_slots ? (int64_t)v->slots[slot_of(v, begun, bytes, len, raw)].entry - 1 : -1;
}

int64_t berth_vocab_find(const berth_vocab *v, const char *bytes, size_t len, bool raw)
{
    return berth_vocab_find_end(v, berth_vocab_find_begin(v, bytes, len), bytes, len, raw);
}
