/* json.h - the only door to JSON.
 *
 * Two ways in. berth_json_reader walks a text once, strictly, without building anything: for headers and tokenizers of
 * many megabytes. berth_json_parse checks a text with that reader and then builds a tree (cJSON behind an opaque type):
 * for configurations. Both refuse duplicate keys, depth over BERTH_JSON_DEPTH, invalid UTF-8, trailing bytes, U+0000 in
 * keys, and all that RFC 8259 does not allow. Writing is done with berth_buffer. Easy to get wrong: integers are exact
 * only through *_i64. */
#ifndef BERTH_BASE_JSON_H
#define BERTH_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

#define BERTH_JSON_DEPTH 64

/* ---- tree ------------------------------------------------------------------------------------------------------- */

typedef struct berth_json berth_json;           /* a parsed text; owns all its nodes */
typedef struct berth_json_node berth_json_node; /* borrowed from its berth_json */

/* Parses `n` bytes. `what` names the text in errors ("config.json"). Error: BERTH_BAD_FILE with line and column. */
berth_status berth_json_parse(const char *text, size_t n, const char *what, berth_json **out, berth_error *err);
void berth_json_destroy(berth_json *j);
const berth_json_node *berth_json_root(const berth_json *j);

typedef enum berth_json_type {
    BERTH_JSON_NULL,
    BERTH_JSON_BOOL,
    BERTH_JSON_NUMBER,
    BERTH_JSON_STRING,
    BERTH_JSON_ARRAY,
    BERTH_JSON_OBJECT
} berth_json_type;

berth_json_type berth_json_type_of(const berth_json_node *node); /* NULL node: BERTH_JSON_NULL */
const char *berth_json_type_name(berth_json_type type);          /* "null", "a number", ...; static */

/* Members and elements; NULL when absent or when `node` is NULL or of another type. Member lookup is linear. */
const berth_json_node *berth_json_get(const berth_json_node *object, const char *key);
size_t berth_json_size(const berth_json_node *node);
const berth_json_node *berth_json_first(const berth_json_node *node); /* child of an array or object */
const berth_json_node *berth_json_next(const berth_json_node *node);
const char *berth_json_key(const berth_json_node *node); /* of an object's member */

bool berth_json_as_bool(const berth_json_node *node, bool *out); /* false unless it is of that type (and range) */
bool berth_json_as_i64(const berth_json_node *node,
                       int64_t *out); /* exact integers of magnitude < 2^53 only; 3.0 counts */
bool berth_json_as_f64(const berth_json_node *node, double *out);
const char *berth_json_as_string(const berth_json_node *node); /* NULL unless a string; borrowed */

/* ---- reader ----------------------------------------------------------------------------------------------------- */

typedef enum berth_json_event {
    BERTH_JSON_END = 0, /* the text is over, and was right */
    BERTH_JSON_ERROR,   /* reader.error says why; every later call gives it again */
    BERTH_JSON_BEGIN_OBJECT,
    BERTH_JSON_END_OBJECT,
    BERTH_JSON_BEGIN_ARRAY,
    BERTH_JSON_END_ARRAY,
    BERTH_JSON_KEY,  /* text/len: the decoded key */
    BERTH_JSON_TEXT, /* text/len: the decoded string */
    BERTH_JSON_NUM,  /* text/len: the digits as written */
    BERTH_JSON_TRUE,
    BERTH_JSON_FALSE,
    BERTH_JSON_NIL
} berth_json_event;

typedef struct berth_json_reader {
    const char *begin, *at, *end;
    const char
        *text; /* of the last KEY, TEXT or NUM: points into the input, or into scratch where escapes were decoded */
    size_t len;
    int depth;
    const char *error; /* static sentence after BERTH_JSON_ERROR */
    /* private: */
    uint8_t state, stack[BERTH_JSON_DEPTH];
    berth_buffer scratch;
} berth_json_reader;

/* The reader does not refuse duplicate keys (the caller that keeps keys does). `begin` must outlive the reader. */
void berth_json_reader_init(berth_json_reader *r, const char *begin, size_t n);
void berth_json_reader_deinit(berth_json_reader *r);
berth_json_event berth_json_read(berth_json_reader *r);
bool berth_json_skip(berth_json_reader *r); /* the value that comes next, whatever it is */
void berth_json_where(const berth_json_reader *r, size_t *line, size_t *column); /* of r->at, from 1 */

/* A NUM's text as an exact integer in [0, INT64_MAX]; false for signs, points, exponents, leading zeros and overflow. */
bool berth_json_parse_u63(const char *text, size_t len, int64_t *out);

#endif
