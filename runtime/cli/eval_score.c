/* eval_score.c - see eval_score.h. */
#include "cli/eval_score.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

/* ---- values ---------------------------------------------------------------------------------------------------------- */

typedef struct slice {
    const char *text;
    size_t n;
} slice;

static slice trimmed(const char *text)
{
    slice s = {text, strlen(text)};
    while (s.n > 0 && isspace((unsigned char)s.text[0])) s = (slice){s.text + 1, s.n - 1};
    while (s.n > 0 && isspace((unsigned char)s.text[s.n - 1])) s.n--;
    return s;
}

static bool is_empty(const berth_json_node *v)
{
    const char *text = berth_json_as_string(v);
    return berth_json_type_of(v) == BERTH_JSON_NULL || (text != NULL && trimmed(text).n == 0);
}

static bool is_equal(const berth_json_node *a, const berth_json_node *b);

static bool is_equal_list(const berth_json_node *a, const berth_json_node *b)
{
    a = berth_json_first(a);
    b = berth_json_first(b);
    for (; a != NULL && b != NULL; a = berth_json_next(a), b = berth_json_next(b)) {
        if (!is_equal(a, b)) return false;
    }
    return a == NULL && b == NULL;
}

static bool is_equal_object(const berth_json_node *a, const berth_json_node *b)
{
    if (berth_json_size(a) != berth_json_size(b)) return false;
    for (const berth_json_node *m = berth_json_first(a); m != NULL; m = berth_json_next(m)) {
        const berth_json_node *other = berth_json_get(b, berth_json_key(m));
        if (other == NULL || !is_equal(m, other)) return false;
    }
    return true;
}

/* The reader has bounded the depth. */
static bool is_equal(const berth_json_node *a, const berth_json_node *b)
{
    bool p, q;
    double x, y;
    if (berth_json_type_of(a) != berth_json_type_of(b)) return false;
    switch (berth_json_type_of(a)) {
    case BERTH_JSON_BOOL: return berth_json_as_bool(a, &p) && berth_json_as_bool(b, &q) && p == q;
    case BERTH_JSON_NUMBER: return berth_json_as_f64(a, &x) && berth_json_as_f64(b, &y) && x == y;
    case BERTH_JSON_ARRAY: return is_equal_list(a, b);
    case BERTH_JSON_OBJECT: return is_equal_object(a, b);
    case BERTH_JSON_STRING: {
        const slice s = trimmed(berth_json_as_string(a)), t = trimmed(berth_json_as_string(b));
        return s.n == t.n && memcmp(s.text, t.text, s.n) == 0;
    }
    default: return true;
    }
}

/* ---- counting -------------------------------------------------------------------------------------------------------- */

/* The counts of a field by name, made when new; NULL: no memory. */
static eval_field *field_of(eval_score *s, const char *name)
{
    for (int32_t i = 0; i < s->n_fields; i++) {
        if (strcmp(s->fields[i].name, name) == 0) return &s->fields[i];
    }
    eval_field *more = realloc(s->fields, ((size_t)s->n_fields + 1) * sizeof *more);
    if (more == NULL) return NULL;
    s->fields = more;
    more[s->n_fields] = (eval_field){.name = strdup(name)};
    return more[s->n_fields].name != NULL ? &more[s->n_fields++] : NULL;
}

static bool counts(const char *name, char *const *only, int32_t n_only)
{
    for (int32_t i = 0; i < n_only; i++) {
        if (strcmp(only[i], name) == 0) return true;
    }
    return n_only == 0;
}

static void add_up(eval_field *to, const eval_field *f)
{
    to->n_slots += f->n_slots;
    to->n_same += f->n_same;
    to->n_labelled += f->n_labelled;
    to->n_answered += f->n_answered;
    to->n_right += f->n_right;
}

static eval_field compare(const berth_json_node *label, const berth_json_node *answer)
{
    const bool labelled = !is_empty(label), answered = !is_empty(answer);
    const bool right = labelled && answered && is_equal(label, answer);
    return (eval_field){.n_slots = 1,
                        .n_same = right || (!labelled && !answered),
                        .n_labelled = labelled,
                        .n_answered = answered,
                        .n_right = right};
}

/* The outermost object in an answer; NULL when there is none. */
static berth_json *object_of(const char *answer)
{
    const char *begin = strchr(answer, '{'), *end = strrchr(answer, '}');
    berth_json *json = NULL;
    if (begin == NULL || end < begin ||
        berth_json_parse(begin, (size_t)(end - begin) + 1, "the answer", &json, NULL) != BERTH_OK)
        return NULL;
    return json;
}

static berth_status add_fields(eval_score *s, const berth_json_node *labels, const berth_json_node *object,
                               char *const *only, int32_t n_only, berth_error *err)
{
    eval_field row = {0};
    for (const berth_json_node *l = berth_json_first(labels); l != NULL; l = berth_json_next(l)) {
        const char *name = berth_json_key(l);
        if (!counts(name, only, n_only)) continue;
        eval_field *field = field_of(s, name);
        if (field == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the score");
        const eval_field one = compare(l, berth_json_get(object, name));
        add_up(field, &one);
        add_up(&row, &one);
    }
    for (const berth_json_node *m = berth_json_first(object); m != NULL; m = berth_json_next(m)) {
        if (berth_json_get(labels, berth_json_key(m)) != NULL || is_empty(m) ||
            !counts(berth_json_key(m), only, n_only))
            continue;
        s->others.n_answered++;
        row.n_answered++;
    }
    s->n_objects += object != NULL;
    s->n_exact += object != NULL && row.n_same == row.n_slots && row.n_right == row.n_answered;
    add_up(&s->all, &row);
    return BERTH_OK;
}

berth_status eval_score_add(eval_score *s, const berth_json_node *labels, const char *want, const char *answer,
                            char *const *only, int32_t n_only, berth_error *err)
{
    berth_json *json = object_of(answer);
    const berth_json_node *object = json != NULL ? berth_json_root(json) : NULL;
    s->n_rows++;
    s->n_with_text += want != NULL;
    s->n_exact_text += want != NULL && strcmp(want, answer) == 0;
    berth_status st = add_fields(s, labels, object, only, n_only, err);
    berth_json_destroy(json);
    return st;
}

void eval_score_deinit(eval_score *s)
{
    for (int32_t i = 0; i < s->n_fields; i++) free(s->fields[i].name);
    free(s->fields);
    *s = (eval_score){0};
}

/* ---- rates ----------------------------------------------------------------------------------------------------------- */

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

double eval_accuracy(const eval_field *f)
{
    return share(f->n_same, f->n_slots);
}

double eval_precision(const eval_field *f)
{
    return share(f->n_right, f->n_answered);
}

double eval_recall(const eval_field *f)
{
    return share(f->n_right, f->n_labelled);
}

/* 2PR / (P + R) = 2 right / (answered + labelled). */
double eval_f1(const eval_field *f)
{
    return share(2 * f->n_right, f->n_answered + f->n_labelled);
}
