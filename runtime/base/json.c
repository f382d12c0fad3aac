/* json.c - the JSON tree: a strict walk first, then cJSON. See json.h.
 *
 * cJSON alone takes texts that RFC 8259 forbids, keeps duplicate keys, cuts strings at U+0000 and lets a small text grow
 * forty-fold. So nothing reaches it before the reader has walked the text, every key is known to be the only one of its
 * object, and the nodes are counted. After that, the one reason left for cJSON to fail is memory. */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

enum {
    MAX_TEXT = 64 << 20,
    MAX_NODES = 1 << 20, /* and one more for each NODE_TEXT bytes of text: a node costs some 100 bytes */
    NODE_TEXT = 32,
    MAX_NUMBER_CHARS = 63, /* what cJSON copies of a number; longer ones are shortened for it */
    KEPT_DIGITS = 40,      /* of a shortened number: far more than a double can tell apart */
};

struct berth_json {
    cJSON *root;
};

/* ---- one set for the keys of all objects ---- */

/* A key that has been seen. `object` is the serial number of the object it stands in, 0 in an empty slot. */
typedef struct key_slot {
    uint64_t hash;
    const char *text; /* into the JSON text; NULL: in the pool, at `offset` */
    uint32_t object, len, offset;
} key_slot;

typedef struct key_set {
    key_slot *slots;
    size_t n_slots, n_keys; /* n_slots is a power of two */
    uint64_t seed;          /* so that nobody can write a text whose keys all collide */
    berth_buffer pool;      /* keys that had escapes, decoded */
} key_set;

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Keyed multiply-mix hash in the manner of wyhash (Wang Yi, public domain). */
static uint64_t hash_key(uint64_t seed, uint32_t object, const char *text, size_t len)
{
    const uint64_t k0 = 0xA0761D6478BD642Fu, k1 = 0xE7037ED1A0B428DBu;
    uint64_t h = mix(seed ^ k0, object ^ k1) ^ len;
    while (len) {
        uint64_t word = 0;
        size_t n = len < sizeof word ? len : sizeof word;
        memcpy(&word, text, n);
        h = mix(h ^ word ^ seed, k0 ^ (seed << 1 | 1));
        text += n;
        len -= n;
    }
    return mix(h ^ k1, seed | 1);
}

static const char *slot_text(const key_set *set, const key_slot *slot)
{
    return slot->text ? slot->text : set->pool.data + slot->offset;
}

/* The slot of that key, or the empty one where it belongs. */
static key_slot *find_slot(const key_set *set, const key_slot *key, const char *text)
{
    for (size_t i = (size_t)key->hash;; i++) {
        key_slot *slot = &set->slots[i & (set->n_slots - 1)];
        if (slot->object == 0) return slot;
        if (slot->hash == key->hash && slot->object == key->object && slot->len == key->len &&
            memcmp(slot_text(set, slot), text, key->len) == 0)
            return slot;
    }
}

static bool grow(key_set *set)
{
    size_t n = set->n_slots ? 2 * set->n_slots : 64;
    key_slot *slots = calloc(n, sizeof *slots);
    if (!slots) return false;
    for (size_t i = 0; i < set->n_slots; i++) {
        if (set->slots[i].object == 0) continue;
        size_t at = (size_t)set->slots[i].hash & (n - 1);
        while (slots[at].object) at = (at + 1) & (n - 1);
        slots[at] = set->slots[i];
    }
    free(set->slots);
    set->slots = slots;
    set->n_slots = n;
    return true;
}

static void key_set_deinit(key_set *set)
{
    free(set->slots);
    berth_buffer_deinit(&set->pool);
}

/* Adds the reader's key to object number `object`. NULL, or what is wrong. */
static const char *key_set_add(key_set *set, const berth_json_reader *r, uint32_t object)
{
    static const char no_memory[] = "no memory for its keys";
    if (set->n_keys >= set->n_slots - set->n_slots / 4 && !grow(set)) return no_memory;
    bool in_text = r->text >= r->begin && r->text < r->end;
    key_slot key = {.object = object, .len = (uint32_t)r->len, .hash = hash_key(set->seed, object, r->text, r->len)};
    key_slot *slot = find_slot(set, &key, r->text);
    if (slot->object) return "a duplicate key: its object already has it";
    if (in_text) {
        key.text = r->text;
    } else {
        key.offset = (uint32_t)set->pool.len;
        if (!berth_buffer_append(&set->pool, r->text, r->len)) return no_memory;
    }
    *slot = key;
    set->n_keys++;
    return NULL;
}

/* ---- the check before the tree ---- */

typedef struct checker {
    berth_json_reader reader;
    key_set keys;
    uint32_t objects[BERTH_JSON_DEPTH + 1]; /* serial number of the container at each depth */
    uint32_t n_objects;
    size_t n_nodes, max_nodes;
    berth_buffer shorter; /* the text up to `copied` with its long numbers shortened; empty while there was none */
    const char *copied;
} checker;

/* Writes the number `text` with at most KEPT_DIGITS significant digits: 0.D...De+X. The digits that are dropped leave a
 * last 1 behind unless all are zero, so that rounding goes the right way. */
static void shorten_number(const char *text, size_t n, char out[MAX_NUMBER_CHARS + 1])
{
    char digits[KEPT_DIGITS + 2];
    size_t n_digits = 0, i = text[0] == '-';
    bool in_fraction = false, dropped = false;
    int64_t exponent = 0, written = 0;
    for (; i < n && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            in_fraction = true;
            continue;
        }
        bool leading = n_digits == 0 && text[i] == '0';
        if (!in_fraction && !leading) exponent++;
        if (in_fraction && leading) exponent--;
        if (leading) continue;
        if (n_digits < KEPT_DIGITS)
            digits[n_digits++] = text[i];
        else
            dropped = dropped || text[i] != '0';
    }
    if (dropped) digits[n_digits++] = '1';
    digits[n_digits] = '\0';
    bool minus = i + 1 < n && text[i + 1] == '-';
    for (i++; i < n; i++) /* saturates far outside of what a double holds */
        if (text[i] >= '0' && text[i] <= '9' && written < 100000000) written = written * 10 + (text[i] - '0');
    exponent += minus ? -written : written;
    snprintf(out, MAX_NUMBER_CHARS + 1, "%s0.%se%lld", text[0] == '-' ? "-" : "", n_digits ? digits : "0",
             n_digits ? (long long)exponent : 0LL);
}

static bool copy_number(checker *c)
{
    char number[MAX_NUMBER_CHARS + 1];
    const berth_json_reader *r = &c->reader;
    if (!c->copied) c->copied = r->begin;
    shorten_number(r->text, r->len, number);
    berth_buffer_append(&c->shorter, c->copied, (size_t)(r->text - c->copied));
    c->copied = r->text + r->len;
    return berth_buffer_puts(&c->shorter, number);
}

/* NULL, or why the tree will not take this event. */
static const char *check_event(checker *c, berth_json_event event)
{
    berth_json_reader *r = &c->reader;
    switch (event) {
    case BERTH_JSON_ERROR: return r->error;
    case BERTH_JSON_KEY: return key_set_add(&c->keys, r, c->objects[r->depth]);
    case BERTH_JSON_BEGIN_OBJECT: c->objects[r->depth] = ++c->n_objects; break;
    case BERTH_JSON_TEXT:
        if (memchr(r->text, '\0', r->len)) return "a string that holds U+0000";
        break;
    case BERTH_JSON_NUM:
        if (r->len > MAX_NUMBER_CHARS && !copy_number(c)) return "no memory for its numbers";
        break;
    case BERTH_JSON_END_OBJECT:
    case BERTH_JSON_END_ARRAY:
    case BERTH_JSON_END: return NULL;
    default: break;
    }
    return ++c->n_nodes > c->max_nodes ? "more values than are taken" : NULL;
}

static berth_status check_text(checker *c, const char *what, berth_error *err)
{
    berth_json_event event;
    do {
        event = berth_json_read(&c->reader);
        const char *wrong = check_event(c, event);
        if (!wrong) continue;
        size_t line, column;
        berth_json_where(&c->reader, &line, &column);
        bool no_memory = c->reader.scratch.failed || strncmp(wrong, "no memory", 9) == 0;
        return BERTH_FAIL(err, no_memory ? BERTH_OUT_OF_MEMORY : BERTH_BAD_FILE,
                          "%s: not taken as JSON at line %zu, column %zu: %s", what, line, column, wrong);
    } while (event != BERTH_JSON_END);
    return BERTH_OK;
}

static uint64_t random_seed(const void *salt)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = (uint64_t)berth_now_ns() ^ (uint64_t)(uintptr_t)salt;
    return seed;
}

berth_status berth_json_parse(const char *text, size_t n, const char *what, berth_json **out, berth_error *err)
{
    *out = NULL;
    if (n > MAX_TEXT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: %zu bytes of JSON; at most %d are taken", what, n, MAX_TEXT);
    checker c = {.max_nodes = MAX_NODES + n / NODE_TEXT};
    c.keys.seed = random_seed(&c);
    berth_json_reader_init(&c.reader, text, n);
    berth_status status = check_text(&c, what, err);
    key_set_deinit(&c.keys);
    berth_json_reader_deinit(&c.reader);
    if (status == BERTH_OK && c.copied) berth_buffer_append(&c.shorter, c.copied, (size_t)(text + n - c.copied));
    berth_json *j = status == BERTH_OK && !c.shorter.failed ? calloc(1, sizeof *j) : NULL;
    if (j) j->root = cJSON_ParseWithLengthOpts(c.copied ? c.shorter.data : text, c.copied ? c.shorter.len : n, NULL, 0);
    berth_buffer_deinit(&c.shorter);
    if (status != BERTH_OK) return status;
    if (!j || !j->root) {
        free(j);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for the tree of %zu bytes of JSON", what, n);
    }
    *out = j;
    return BERTH_OK;
}

void berth_json_destroy(berth_json *j)
{
    if (!j) return;
    cJSON_Delete(j->root);
    free(j);
}

/* ---- the tree ---- */

static const cJSON *item_of(const berth_json_node *node)
{
    return (const cJSON *)(const void *)node;
}

static const berth_json_node *node_of(const cJSON *item)
{
    return (const berth_json_node *)(const void *)item;
}

const berth_json_node *berth_json_root(const berth_json *j)
{
    return j ? node_of(j->root) : NULL;
}

berth_json_type berth_json_type_of(const berth_json_node *node)
{
    if (!node) return BERTH_JSON_NULL;
    switch (item_of(node)->type & 0xFF) {
    case cJSON_True:
    case cJSON_False: return BERTH_JSON_BOOL;
    case cJSON_Number: return BERTH_JSON_NUMBER;
    case cJSON_String: return BERTH_JSON_STRING;
    case cJSON_Array: return BERTH_JSON_ARRAY;
    case cJSON_Object: return BERTH_JSON_OBJECT;
    default: return BERTH_JSON_NULL;
    }
}

const char *berth_json_type_name(berth_json_type type)
{
    switch (type) {
    case BERTH_JSON_NULL: return "null";
    case BERTH_JSON_BOOL: return "true or false";
    case BERTH_JSON_NUMBER: return "a number";
    case BERTH_JSON_STRING: return "a string";
    case BERTH_JSON_ARRAY: return "an array";
    case BERTH_JSON_OBJECT: return "an object";
    }
    return "unknown";
}

const berth_json_node *berth_json_get(const berth_json_node *object, const char *key)
{
    if (berth_json_type_of(object) != BERTH_JSON_OBJECT || !key) return NULL;
    for (const cJSON *item = item_of(object)->child; item; item = item->next)
        if (strcmp(item->string, key) == 0) return node_of(item);
    return NULL;
}

size_t berth_json_size(const berth_json_node *node)
{
    size_t n = 0;
    for (const berth_json_node *child = berth_json_first(node); child; child = berth_json_next(child)) n++;
    return n;
}

const berth_json_node *berth_json_first(const berth_json_node *node)
{
    berth_json_type type = berth_json_type_of(node);
    return type == BERTH_JSON_ARRAY || type == BERTH_JSON_OBJECT ? node_of(item_of(node)->child) : NULL;
}

const berth_json_node *berth_json_next(const berth_json_node *node)
{
    return node ? node_of(item_of(node)->next) : NULL;
}

const char *berth_json_key(const berth_json_node *node)
{
    return node ? item_of(node)->string : NULL;
}

bool berth_json_as_bool(const berth_json_node *node, bool *out)
{
    if (berth_json_type_of(node) != BERTH_JSON_BOOL) return false;
    *out = (item_of(node)->type & 0xFF) == cJSON_True;
    return true;
}

bool berth_json_as_i64(const berth_json_node *node, int64_t *out)
{
    double value;
    if (!berth_json_as_f64(node, &value) || fabs(value) >= 0x1p53 || value != floor(value)) return false;
    *out = (int64_t)value;
    return true;
}

bool berth_json_as_f64(const berth_json_node *node, double *out)
{
    if (berth_json_type_of(node) != BERTH_JSON_NUMBER || !isfinite(item_of(node)->valuedouble)) return false;
    *out = item_of(node)->valuedouble;
    return true;
}

const char *berth_json_as_string(const berth_json_node *node)
{
    return berth_json_type_of(node) == BERTH_JSON_STRING ? item_of(node)->valuestring : NULL;
}
