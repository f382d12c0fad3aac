/* tree.c - see tree.h. */
#include "strategies/tree.h"

#include <stdlib.h>
#include <string.h>

#include "strategies/words.h"

enum { MOST_ENTRIES = 1 << 22 };

/* ---- storage ---- */

static bool grow(void **array, int32_t n, int32_t *cap, size_t size)
{
    if (n < *cap) return true;
    int32_t new_cap = *cap > 0 ? 2 * *cap : 64; /* counts stay under MOST_ENTRIES: no overflow */
    void *bigger = realloc(*array, (size_t)new_cap * size);
    if (!bigger) return false;
    *array = bigger;
    *cap = new_cap;
    return true;
}

/* "prefix" + "." + "name" (no dot after an empty prefix), owned by the tree; NULL without memory. */
static char *keep_text(berth_tree *t, const char *prefix, size_t prefix_len, const char *name)
{
    size_t name_len = strlen(name), dot = prefix_len > 0 && name_len > 0;
    if (!grow((void **)&t->texts, t->n_texts, &t->cap_texts, sizeof *t->texts)) return NULL;
    char *text = malloc(prefix_len + dot + name_len + 1);
    if (!text) return NULL;
    memcpy(text, prefix, prefix_len);
    if (dot) text[prefix_len] = '.';
    memcpy(text + prefix_len + dot, name, name_len + 1);
    t->texts[t->n_texts++] = text;
    return text;
}

void berth_tree_deinit(berth_tree *t)
{
    for (int32_t i = 0; i < t->n_texts; i++) free(t->texts[i]);
    free(t->texts);
    free(t->modules);
    free(t->tensors);
    free(t->slots);
    *t = (berth_tree){0};
}

static berth_status no_memory(berth_error *err)
{
    return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the module tree");
}

/* ---- adding ---- */

/* The module of that path among the last one and those above it; -1 = none. */
static int32_t find_above_last(const berth_tree *t, const char *path, size_t len)
{
    int32_t m = t->n_modules - 1;
    while (m >= 0 && (strlen(t->modules[m].path) != len || memcmp(t->modules[m].path, path, len) != 0))
        m = t->modules[m].parent;
    return m;
}

static berth_status append_module(berth_tree *t, int32_t parent, const char *path, const char *class_name,
                                  berth_error *err)
{
    if (t->n_modules >= MOST_ENTRIES)
        return berth_refuse(err, BERTH_BAD_FILE, "the tree has over %d modules", MOST_ENTRIES);
    if (!path || !class_name || !grow((void **)&t->modules, t->n_modules, &t->cap_modules, sizeof *t->modules))
        return no_memory(err);
    int32_t m = t->n_modules++;
    t->modules[m] = (berth_tree_module){.path = path,
                                        .class_name = class_name,
                                        .parent = parent,
                                        .first_child = -1,
                                        .last_child = -1,
                                        .next_sibling = -1,
                                        .first_param = t->n_tensors,
                                        .first_buffer = t->n_tensors};
    if (parent < 0) return BERTH_OK;
    berth_tree_module *above = &t->modules[parent];
    if (above->last_child >= 0)
        t->modules[above->last_child].next_sibling = m;
    else
        above->first_child = m;
    above->last_child = m;
    return BERTH_OK;
}

berth_status berth_tree_add_module(berth_tree *t, const char *path, const char *class_name, berth_error *err)
{
    const char *dot = strrchr(path, '.');
    int32_t parent = t->n_modules == 0 ? -1 : find_above_last(t, path, dot ? (size_t)(dot - path) : 0);
    if ((t->n_modules == 0) != (path[0] == '\0'))
        return berth_refuse(err, BERTH_BAD_FILE,
                            "module \"%.200s\": the first module, and no other, has the empty path", path);
    if (t->n_modules > 0 && parent < 0)
        return berth_refuse(
            err, BERTH_BAD_FILE,
            "module \"%.200s\" does not stand below its parent; list modules in pre-order, parents first", path);
    return append_module(t, parent, keep_text(t, "", 0, path), keep_text(t, "", 0, class_name), err);
}

static bool read_dtype(const char *dtype, int32_t *bits, bool *is_float)
{
    static const struct {
        const char *name;
        int32_t bits;
        bool is_float;
    } known[] = {
        {"bf16", 16, true},   {"bfloat16", 16, true},     {"f16", 16, true},        {"float16", 16, true},
        {"f32", 32, true},    {"float32", 32, true},      {"f64", 64, true},        {"float64", 64, true},
        {"f8", 8, true},      {"float8_e4m3fn", 8, true}, {"float8_e5m2", 8, true}, {"i64", 64, false},
        {"int64", 64, false}, {"i32", 32, false},         {"int32", 32, false},     {"i16", 16, false},
        {"int16", 16, false}, {"i8", 8, false},           {"int8", 8, false},       {"u8", 8, false},
        {"uint8", 8, false},  {"bool", 1, false},         {"i4", 4, false},         {"int4", 4, false},
        {"i2", 2, false},     {"int2", 2, false},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, dtype) != 0) continue;
        *bits = known[i].bits;
        *is_float = known[i].is_float;
        return true;
    }
    return false;
}

static berth_status append_tensor(berth_tree *t, const char *path, int64_t n_elements, int32_t bits, bool is_float,
                                  bool is_buffer, berth_error *err)
{
    if (t->n_tensors >= MOST_ENTRIES)
        return berth_refuse(err, BERTH_BAD_FILE, "the tree has over %d tensors", MOST_ENTRIES);
    if (!path || !grow((void **)&t->tensors, t->n_tensors, &t->cap_tensors, sizeof *t->tensors)) return no_memory(err);
    berth_tree_module *module = &t->modules[t->n_modules - 1];
    t->tensors[t->n_tensors++] = (berth_tree_tensor){.path = path,
                                                     .module = t->n_modules - 1,
                                                     .group = -1,
                                                     .is_buffer = is_buffer,
                                                     .is_float = is_float,
                                                     .is_counted = true,
                                                     .element_bits = bits,
                                                     .n_elements = n_elements};
    if (is_buffer) {
        module->n_buffers++;
    } else {
        module->n_params++;
        module->first_buffer = t->n_tensors;
    }
    return BERTH_OK;
}

berth_status berth_tree_add_tensor(berth_tree *t, const char *name, int64_t n_elements, const char *dtype,
                                   bool is_buffer, berth_error *err)
{
    int32_t bits;
    bool is_float;
    if (t->n_modules == 0) return berth_refuse(err, BERTH_BAD_FILE, "tensor \"%.200s\" belongs to no module", name);
    const berth_tree_module *module = &t->modules[t->n_modules - 1];
    if (!is_buffer && module->n_buffers > 0)
        return berth_refuse(err, BERTH_BAD_FILE, "parameter \"%.200s\" of module \"%.200s\" stands after a buffer",
                            name, module->path);
    if (name[0] == '\0' || strchr(name, '.'))
        return berth_refuse(err, BERTH_BAD_FILE,
                            "tensor \"%.200s\" of module \"%.200s\": a name is not empty and has no dot", name,
                            module->path);
    if (!read_dtype(dtype, &bits, &is_float))
        return berth_refuse(
            err, BERTH_BAD_FILE,
            "tensor \"%.200s\" of module \"%.200s\" has dtype \"%.40s\"; known are bf16, f16, f32, i8 and so on", name,
            module->path, dtype);
    if (n_elements < 0 ||
        n_elements > INT64_MAX / 64 / MOST_ENTRIES) /* the sum over all tensors, in bits, stays a 64-bit number */
        return berth_refuse(err, BERTH_BAD_FILE, "tensor \"%.200s\" of module \"%.200s\" has a size out of range", name,
                            module->path);
    return append_tensor(t, keep_text(t, module->path, strlen(module->path), name), n_elements, bits, is_float,
                         is_buffer, err);
}

/* One more copy of modules [from, to), whose paths begin with `old_len` bytes that `prefix` replaces. `parent` is where
 * the copy hangs. */
static berth_status copy_subtree(berth_tree *t, int32_t from, int32_t to, size_t old_len, const char *prefix,
                                 int32_t parent, berth_error *err)
{
    int32_t shift = t->n_modules - from;
    size_t prefix_len = strlen(prefix);
    for (int32_t m = from; m < to; m++) {
        const char *rest = t->modules[m].path + old_len + (t->modules[m].path[old_len] == '.');
        int32_t above = m == from ? parent : t->modules[m].parent + shift;
        berth_status st =
            append_module(t, above, keep_text(t, prefix, prefix_len, rest), t->modules[m].class_name, err);
        int32_t n = t->modules[m].n_params + t->modules[m].n_buffers;
        for (int32_t i = 0; st == BERTH_OK && i < n; i++) {
            const berth_tree_tensor old = t->tensors[t->modules[m].first_param + i];
            st = append_tensor(t, keep_text(t, prefix, prefix_len, old.path + old_len + 1), old.n_elements,
                               old.element_bits, old.is_float, old.is_buffer, err);
        }
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

berth_status berth_tree_repeat(berth_tree *t, const char *path, int32_t n, berth_error *err)
{
    int32_t parent = find_above_last(t, path, strlen(path));
    int32_t from = parent < 0 ? -1 : t->modules[parent].first_child, to = t->n_modules;
    size_t path_len = strlen(path), old_len = path_len + 2;
    if (n < 1 || from < 0 || t->modules[from].next_sibling >= 0 || path_len == 0 ||
        strcmp(t->modules[from].path + path_len, ".0") != 0)
        return berth_refuse(
            err, BERTH_BAD_FILE,
            "repeat of \"%.200s\": it must hold exactly the module \"%.200s.0\", and the count be 1 or more", path,
            path);
    if ((int64_t)n * (to - from) > MOST_ENTRIES)
        return berth_refuse(err, BERTH_BAD_FILE, "repeat of \"%.200s\" is too large", path);
    for (int32_t i = 1; i < n; i++) {
        char number[16];
        int len = 0;
        for (int32_t rest = i; rest > 0; rest /= 10)
            number[sizeof number - 2 - (size_t)len++] = (char)('0' + rest % 10);
        number[sizeof number - 1] = '\0';
        const char *prefix = keep_text(t, path, path_len, number + sizeof number - 1 - len);
        if (!prefix) return no_memory(err);
        berth_status st = copy_subtree(t, from, to, old_len, prefix, parent, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- names ---- */

static uint64_t hash_of(const char *text)
{
    uint64_t h = 0xCBF29CE484222325u, word = 0; /* as FNV-1a, but eight bytes at a time */
    size_t n = strlen(text);
    for (; n >= 8; n -= 8, text += 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    word = 0;
    memcpy(&word, text, n);
    h = (h ^ word ^ (uint64_t)n << 56) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

/* The slot of `path`, or the empty one where it would go. */
static int32_t slot_of(const berth_tree *t, const char *path)
{
    uint32_t mask = (uint32_t)t->n_slots - 1, s = (uint32_t)(hash_of(path) >> 7) & mask;
    while (t->slots[s] >= 0 && strcmp(berth_tree_path(t, t->slots[s]), path) != 0) s = (s + 1) & mask;
    return (int32_t)s;
}

berth_status berth_tree_finish(berth_tree *t, berth_error *err)
{
    if (t->n_modules == 0) return berth_refuse(err, BERTH_BAD_FILE, "the module tree is empty");
    int32_t n = t->n_modules + t->n_tensors;
    t->n_slots = 4;
    while (t->n_slots < 2 * n) t->n_slots *= 2;
    t->slots = malloc((size_t)t->n_slots * sizeof *t->slots);
    if (!t->slots) return no_memory(err);
    memset(t->slots, 0xFF, (size_t)t->n_slots * sizeof *t->slots);
    for (int32_t i = 0; i < n; i++) {
        int32_t s = slot_of(t, berth_tree_path(t, i));
        if (t->slots[s] >= 0)
            return berth_refuse(err, BERTH_BAD_FILE, "\"%.200s\" is in the tree twice", berth_tree_path(t, i));
        t->slots[s] = i;
    }
    return BERTH_OK;
}

int32_t berth_tree_find(const berth_tree *t, const char *path)
{
    return t->slots ? t->slots[slot_of(t, path)] : -1;
}

berth_status berth_tree_tie(berth_tree *t, const char *const *names, int32_t n, berth_error *err)
{
    int32_t first = -1;
    for (int32_t i = 0; i < n; i++) {
        int32_t entry = berth_tree_find(t, names[i]);
        berth_tree_tensor *tensor = entry >= t->n_modules ? &t->tensors[entry - t->n_modules] : NULL;
        if (!tensor || tensor->is_buffer || tensor->group >= 0)
            return berth_refuse(err, BERTH_BAD_FILE, "tied \"%.200s\": %s", names[i],
                                !tensor             ? "no parameter of that name is in the tree"
                                : tensor->is_buffer ? "it is a buffer"
                                                    : "it is in two groups");
        tensor->group = t->n_groups;
        tensor->is_counted = false;
        if (first < 0 || entry < first) first = entry;
    }
    if (first >= 0)
        t->tensors[first - t->n_modules].is_counted = true; /* tensors stand in pre-order: the first name met */
    t->n_groups++;
    return BERTH_OK;
}
