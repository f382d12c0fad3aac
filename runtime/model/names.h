/* names.h - what the files of model/ share about names: an arena that owns strings, and a hash table from name to
 * index.
 *
 * Both are for names out of strangers' files: the table is keyed with a seed of its own, so that a file cannot
 * choose its collisions. */
#ifndef BERTH_MODEL_NAMES_H
#define BERTH_MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct berth_strings_chunk berth_strings_chunk;
typedef struct berth_strings {
    berth_strings_chunk *chunks; /* owned; the first is the one being filled */
} berth_strings;

/* Copies `len` bytes and a NUL into the arena; NULL when out of memory. The copy lives until deinit and does not
 * move. */
char *berth_strings_add(berth_strings *s, const char *text, size_t len);
void berth_strings_deinit(berth_strings *s);

typedef struct berth_name_slot {
    const char *name; /* borrowed, NUL-terminated; NULL: free */
    uint32_t hash;
    int32_t value;
} berth_name_slot;

typedef struct berth_name_table {
    berth_name_slot *slots; /* owned, [capacity], a power of two; at most half full */
    size_t capacity, count;
    uint64_t seed;
} berth_name_table; /* {0} is an empty table */

/* Adds `name` (borrowed until deinit) with `value` >= 0, or leaves the table as it is when the name is there already.
 * *out is the value that stands under the name afterwards. False when out of memory. */
bool berth_names_add(berth_name_table *t, const char *name, int32_t value, int32_t *out);
int32_t berth_names_find(const berth_name_table *t, const char *name); /* the value, or -1 */
void berth_names_deinit(berth_name_table *t);

#endif
