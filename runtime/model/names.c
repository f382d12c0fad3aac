/* names.c - string arena and name table, see names.h. */
#include "model/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"

#define CHUNK_BYTES    ((size_t)64 * 1024)
#define FIRST_CAPACITY 1024

struct berth_strings_chunk {
    berth_strings_chunk *next;
    size_t len, cap;
    char bytes[];
};

char *berth_strings_add(berth_strings *s, const char *text, size_t len)
{
    size_t need;
    if (!berth_add_size(len, 1, &need)) return NULL;
    berth_strings_chunk *c = s->chunks;
    if (!c || c->cap - c->len < need) {
        size_t cap = need > CHUNK_BYTES ? need : CHUNK_BYTES, total;
        if (!berth_add_size(sizeof *c, cap, &total)) return NULL;
        c = malloc(total);
        if (!c) return NULL;
        *c = (berth_strings_chunk){.next = s->chunks, .cap = cap};
        s->chunks = c;
    }
    char *copy = c->bytes + c->len;
    memcpy(copy, text, len);
    copy[len] = '\0';
    c->len += need;
    return copy;
}

void berth_strings_deinit(berth_strings *s)
{
    for (berth_strings_chunk *c = s->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    s->chunks = NULL;
}

/* Eight bytes at a time, each folded by a 64x64 -> 128 bit product (the idea of wyhash). */
static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)(a ^ UINT64_C(0x9E3779B97F4A7C15)) * (b ^ UINT64_C(0xD6E8FEB86659FD93));
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint32_t hash_name(const char *name, size_t len, uint64_t seed)
{
    uint64_t h = seed ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, name, 8);
        h = fold(h, word ^ seed);
        name += 8;
        len -= 8;
    }
    uint64_t tail = 0;
    memcpy(&tail, name, len);
    h = fold(h, tail ^ seed);
    return (uint32_t)(h ^ (h >> 32));
}

static berth_name_slot *slot_of(const berth_name_table *t, const char *name, uint32_t hash)
{
    size_t i = hash & (t->capacity - 1);
    while (t->slots[i].name && (t->slots[i].hash != hash || strcmp(t->slots[i].name, name) != 0)) {
        i = (i + 1) & (t->capacity - 1);
    }
    return &t->slots[i];
}

static bool grow(berth_name_table *t)
{
    size_t capacity = t->capacity ? t->capacity * 4 : FIRST_CAPACITY;
    berth_name_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots) return false;
    if (!t->slots) t->seed = fold((uint64_t)berth_now_ns(), (uint64_t)(uintptr_t)slots);
    for (size_t i = 0; t->slots && i < t->capacity; i++) {
        if (!t->slots[i].name) continue;
        size_t at = t->slots[i].hash & (capacity - 1);
        while (slots[at].name) at = (at + 1) & (capacity - 1);
        slots[at] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->capacity = capacity;
    return true;
}

bool berth_names_add(berth_name_table *t, const char *name, int32_t value, int32_t *out)
{
    if ((!t->slots || t->count >= t->capacity / 2) && !grow(t)) return false;
    uint32_t hash = hash_name(name, strlen(name), t->seed);
    berth_name_slot *slot = slot_of(t, name, hash);
    if (!slot->name) {
        *slot = (berth_name_slot){.name = name, .hash = hash, .value = value};
        t->count++;
    }
    *out = slot->value;
    return true;
}

int32_t berth_names_find(const berth_name_table *t, const char *name)
{
    if (!t->slots) return -1;
    const berth_name_slot *slot = slot_of(t, name, hash_name(name, strlen(name), t->seed));
    return slot->name ? slot->value : -1;
}

void berth_names_deinit(berth_name_table *t)
{
    free(t->slots);
    *t = (berth_name_table){0};
}
