/* facts.h - facts written once and read twice: as indented text by people, as JSON by programs. */
#ifndef BERTH_API_FACTS_H
#define BERTH_API_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct berth_facts {
    berth_buffer *out;
    bool is_json;
    int depth;     /* of objects and lists */
    bool is_first; /* of the object or list at hand */
    bool in_row;   /* text: an element of a list, on one line */
} berth_facts;

/* An object: the whole (key NULL), or a member. */
void berth_facts_open(berth_facts *f, const char *key);
void berth_facts_close(berth_facts *f);

/* A list of rows, each with facts of its own. */
void berth_facts_list(berth_facts *f, const char *key);
void berth_facts_list_end(berth_facts *f);
void berth_facts_row(berth_facts *f);
void berth_facts_row_end(berth_facts *f);

void berth_facts_text(berth_facts *f, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void berth_facts_number(berth_facts *f, const char *key, int64_t n);
void berth_facts_bytes(berth_facts *f, const char *key, uint64_t n); /* text: with a unit */

#endif
