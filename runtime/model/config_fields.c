/* config_fields.c - checked values out of configuration objects, see config_internal.h. */
#include "model/config_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

void berth_field_fail(berth_fields *f, berth_status status, const char *fmt, ...)
{
    if (*f->status != BERTH_OK) return;
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    *f->status = BERTH_FAIL(f->err, status, "%s: %s%s", f->file, f->prefix, what);
}

/* The member, with null and absence as NULL. */
static const berth_json_node *member(const berth_fields *f, const char *key)
{
    const berth_json_node *node = berth_json_get(f->node, key);
    return berth_json_type_of(node) == BERTH_JSON_NULL ? NULL : node;
}

bool berth_field_has(const berth_fields *f, const char *key)
{
    return member(f, key) != NULL;
}

static void wrong_type(berth_fields *f, const char *key, const char *wanted, const berth_json_node *node)
{
    berth_field_fail(f, BERTH_BAD_FILE, "%s must be %s, found %s", key, wanted,
                     berth_json_type_name(berth_json_type_of(node)));
}

/* A node that is neither an exact integer nor a finite number. */
static void not_a_number(berth_fields *f, const char *key, const char *wanted, const berth_json_node *node)
{
    if (berth_json_type_of(node) == BERTH_JSON_NUMBER)
        berth_field_fail(f, BERTH_BAD_FILE, "%s is out of range: too large for a number", key);
    else
        wrong_type(f, key, wanted, node);
}

static int64_t int_of(berth_fields *f, const char *key, const berth_json_node *node, int64_t min, int64_t max)
{
    int64_t value = 0;
    double number = 0;
    if (berth_json_as_i64(node, &value)) {
        if (value >= min && value <= max) return value;
        berth_field_fail(f, BERTH_BAD_FILE, "%s is %" PRId64 ", out of the range %" PRId64 " to %" PRId64, key, value,
                         min, max);
    } else if (berth_json_as_f64(node, &number)) {
        berth_field_fail(f, BERTH_BAD_FILE, "%s is %g, not an integer in the range %" PRId64 " to %" PRId64, key,
                         number, min, max);
    } else {
        not_a_number(f, key, "an integer", node);
    }
    return min;
}

int32_t berth_field_int(berth_fields *f, const char *key, int64_t min, int64_t max, int64_t fallback)
{
    const berth_json_node *node = member(f, key);
    if (node) return (int32_t)int_of(f, key, node, min, max);
    if (fallback != BERTH_REQUIRED) return (int32_t)fallback;
    berth_field_fail(f, BERTH_BAD_FILE, "%s is missing; an integer of %" PRId64 " or more is expected", key, min);
    return (int32_t)min;
}

int32_t berth_field_side(berth_fields *f, const char *key, int64_t max, int64_t fallback)
{
    const berth_json_node *node = member(f, key);
    if (berth_json_type_of(node) != BERTH_JSON_ARRAY) return berth_field_int(f, key, 1, max, fallback);
    if (berth_json_size(node) != 2) {
        berth_field_fail(f, BERTH_BAD_FILE, "%s must be one integer or an array of two, found %zu elements", key,
                         berth_json_size(node));
        return 1;
    }
    int64_t height = int_of(f, key, berth_json_first(node), 1, max);
    int64_t width = int_of(f, key, berth_json_next(berth_json_first(node)), 1, max);
    if (height != width)
        berth_field_fail(f, BERTH_UNSUPPORTED, "%s is %" PRId64 " x %" PRId64 "; only squares are supported", key,
                         height, width);
    return (int32_t)height;
}

double berth_field_number(berth_fields *f, const char *key, double min, double max, double fallback)
{
    const berth_json_node *node = member(f, key);
    if (!node) return fallback;
    double value = 0;
    if (!berth_json_as_f64(node, &value)) {
        not_a_number(f, key, "a number", node);
    } else if (!isfinite(value) || value < min || value > max) {
        berth_field_fail(f, BERTH_BAD_FILE, "%s is %g, out of the range %g to %g", key, value, min, max);
    } else {
        return value;
    }
    return max;
}

bool berth_field_bool(berth_fields *f, const char *key, bool fallback)
{
    const berth_json_node *node = member(f, key);
    bool value = fallback;
    if (node && !berth_json_as_bool(node, &value)) wrong_type(f, key, "true or false", node);
    return value;
}

const char *berth_field_string(berth_fields *f, const char *key, const char *fallback)
{
    const berth_json_node *node = member(f, key);
    if (!node) return fallback;
    const char *value = berth_json_as_string(node);
    if (!value) wrong_type(f, key, "a string", node);
    return value ? value : fallback;
}

void berth_field_must_be(berth_fields *f, const char *key, const char *only, const char *fallback)
{
    const char *value = berth_field_string(f, key, fallback);
    if (strcmp(value, only) != 0)
        berth_field_fail(f, BERTH_UNSUPPORTED, "%s \"%.80s\" is not supported; \"%s\" is", key, value, only);
}

const berth_json_node *berth_field_object(berth_fields *f, const char *key)
{
    const berth_json_node *node = member(f, key);
    if (node && berth_json_type_of(node) != BERTH_JSON_OBJECT) {
        wrong_type(f, key, "an object", node);
        return NULL;
    }
    return node;
}

berth_status berth_config_load(const char *dir, const char *name, bool optional, berth_json **out, berth_error *err)
{
    *out = NULL;
    if (optional && !berth_file_exists_in(dir, name)) return BERTH_OK;
    char *text = NULL;
    size_t n = 0;
    berth_status st = berth_file_read_in(dir, name, BERTH_MAX_CONFIG_BYTES, &text, &n, err);
    if (st != BERTH_OK) return st;
    st = berth_json_parse(text, n, name, out, err);
    free(text);
    if (st != BERTH_OK) return st;
    berth_json_type type = berth_json_type_of(berth_json_root(*out));
    if (type == BERTH_JSON_OBJECT) return BERTH_OK;
    berth_json_destroy(*out);
    *out = NULL;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: an object was expected, found %s", name, berth_json_type_name(type));
}
