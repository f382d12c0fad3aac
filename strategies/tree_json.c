/* tree_json.c - the record form of a module tree; the one file here that knows JSON. */
#include <string.h>

#include "base/json.h"
#include "strategies/tree.h"
#include "strategies/words.h"

static const berth_json_node *element(const berth_json_node *array, int index)
{
    const berth_json_node *node = berth_json_first(array);
    while (node && index-- > 0) node = berth_json_next(node);
    return node;
}

static berth_status bad_record(const char *what, const char *path, berth_error *err)
{
    return berth_refuse(err, BERTH_BAD_FILE,
                        "%.200s: the record of module \"%.200s\" is not [path, class, [[name, count, dtype]...], "
                        "[[name, count, dtype, persistent]...]]",
                        what, path ? path : "?");
}

static berth_status read_tensors(const berth_json_node *list, bool is_buffer, const char *what, const char *path,
                                 berth_tree *t, berth_error *err)
{
    if (berth_json_type_of(list) != BERTH_JSON_ARRAY) return bad_record(what, path, err);
    for (const berth_json_node *record = berth_json_first(list); record; record = berth_json_next(record)) {
        const char *name = berth_json_as_string(element(record, 0)), *dtype = berth_json_as_string(element(record, 2));
        int64_t n;
        if (!name || !dtype || !berth_json_as_i64(element(record, 1), &n)) return bad_record(what, path, err);
        berth_status st = berth_tree_add_tensor(t, name, n, dtype, is_buffer, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* Is `path` "x" itself or under it, for the member "x" of `repeat`? */
static bool is_under(const char *path, const char *prefix)
{
    while (*prefix && *prefix == *path) prefix++, path++;
    return *prefix == '\0' && (*path == '\0' || *path == '.');
}

/* Repeats come due when the next module, `next` (NULL = the end), is no longer under them; of several the innermost
 * goes first. */
static berth_status repeat_due(const berth_json_node *repeat, const char *last, const char *next, const char *what,
                               berth_tree *t, berth_error *err)
{
    for (size_t limit = SIZE_MAX; last;) {
        const berth_json_node *due = NULL;
        for (const berth_json_node *r = berth_json_first(repeat); r; r = berth_json_next(r)) {
            const char *key = berth_json_key(r);
            if (strlen(key) >= limit || !is_under(last, key) || (next && is_under(next, key))) continue;
            if (!due || strlen(key) > strlen(berth_json_key(due))) due = r;
        }
        if (!due) break;
        limit = strlen(berth_json_key(due));
        int64_t n;
        if (!berth_json_as_i64(due, &n) || n < 1 || n > 1000000)
            return berth_refuse(err, BERTH_BAD_FILE, "%.200s: repeat of \"%.200s\" is not a count", what,
                                berth_json_key(due));
        berth_status st = berth_tree_repeat(t, berth_json_key(due), (int32_t)n, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

static berth_status read_tied(const berth_json_node *tied, const char *what, berth_tree *t, berth_error *err)
{
    enum { MOST_NAMES = 256 };
    const char *names[MOST_NAMES];
    for (const berth_json_node *group = berth_json_first(tied); group; group = berth_json_next(group)) {
        int32_t n = 0;
        for (const berth_json_node *name = berth_json_first(group); name; name = berth_json_next(name)) {
            if (n == MOST_NAMES || !berth_json_as_string(name))
                return berth_refuse(err, BERTH_BAD_FILE, "%.200s: a group of \"tied\" is not a list of up to %d names",
                                    what, MOST_NAMES);
            names[n++] = berth_json_as_string(name);
        }
        berth_status st = berth_tree_tie(t, names, n, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

berth_status berth_tree_from_json(const berth_json_node *node, const char *what, berth_tree *out, berth_error *err)
{
    *out = (berth_tree){0};
    const berth_json_node *modules = berth_json_get(node, "modules"), *repeat = berth_json_get(node, "repeat");
    berth_status st = BERTH_OK;
    const char *last = NULL;
    if (berth_json_type_of(modules) != BERTH_JSON_ARRAY)
        return berth_refuse(err, BERTH_BAD_FILE, "%.200s has no list \"modules\" of module records", what);
    for (const berth_json_node *record = berth_json_first(modules); st == BERTH_OK && record;
         record = berth_json_next(record)) {
        const char *path = berth_json_as_string(element(record, 0)),
                   *class_name = berth_json_as_string(element(record, 1));
        if (!path || !class_name) st = bad_record(what, path, err);
        if (st == BERTH_OK) st = repeat_due(repeat, last, path, what, out, err);
        if (st == BERTH_OK) st = berth_tree_add_module(out, path, class_name, err);
        if (st == BERTH_OK) st = read_tensors(element(record, 2), false, what, path, out, err);
        if (st == BERTH_OK) st = read_tensors(element(record, 3), true, what, path, out, err);
        last = path;
    }
    if (st == BERTH_OK) st = repeat_due(repeat, last, NULL, what, out, err);
    if (st == BERTH_OK) st = berth_tree_finish(out, err);
    if (st == BERTH_OK) st = read_tied(berth_json_get(node, "tied"), what, out, err);
    if (st != BERTH_OK) berth_tree_deinit(out);
    return st;
}
