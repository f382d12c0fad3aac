/* prompts.c - see prompts.h. libyaml reads, this file decides what is meant. */
#include "cli/prompts.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/status.h"
#include "base/text.h"

enum { MAX_BYTES = 16 << 20, MAX_TOKENS = 1 << 24 };

/* ---- one prompt ------------------------------------------------------------------------------------------------------ */

typedef struct reading { /* what the functions below share */
    const char *file;
    yaml_document_t *doc;
    berth_error *err;
} reading;

static size_t line_of(const yaml_node_t *node)
{
    return node->start_mark.line + 1;
}

/* The text of a scalar, owned; NULL (and an error) for all else. */
static berth_status take_text(const reading *r, const yaml_node_t *node, const char *what, char **out)
{
    if (node->type != YAML_SCALAR_NODE)
        return BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: %s must be a text", r->file, line_of(node), what);
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length)
        return BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: %s holds a NUL character", r->file, line_of(node),
                          what);
    free(*out);
    *out = strdup(text);
    return *out != NULL ? BERTH_OK : BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for the prompts");
}

static berth_status take_number(const reading *r, const yaml_node_t *node, const char *what, double *out)
{
    char *text = NULL, *end = NULL;
    berth_status st = take_text(r, node, what, &text);
    if (st != BERTH_OK) return st;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*out) || *out < 0)
        st = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: %s must be a number, 0 or more, not \"%s\"", r->file,
                        line_of(node), what, text);
    free(text);
    return st;
}

static berth_status take_fields(const reading *r, const yaml_node_t *node, cli_prompt *p)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: fields must be a list of names, [A, B]", r->file,
                          line_of(node));
    const yaml_node_item_t *begin = node->data.sequence.items.start, *end = node->data.sequence.items.top;
    p->fields = calloc((size_t)(end - begin) + 1, sizeof *p->fields);
    if (p->fields == NULL) return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for the prompts");
    for (const yaml_node_item_t *i = begin; i < end; i++) {
        berth_status st = take_text(r, yaml_document_get_node(r->doc, *i), "a name in fields", &p->fields[p->n_fields]);
        if (st != BERTH_OK) return st;
        p->n_fields++;
    }
    return BERTH_OK;
}

static berth_status unknown_member(const reading *r, const yaml_node_t *key, const char *name)
{
    static const char *const known[] = {"user", "system", "max_tokens", "temperature", "fields"};
    const char *near = NULL;
    int best = berth_misspelling_limit(name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const int d = berth_edit_distance(name, known[i], best);
        if (d < best) {
            best = d;
            near = known[i];
        }
    }
    return BERTH_FAIL(r->err, BERTH_BAD_FILE,
                      "%s: line %zu: a prompt has no \"%s\"; %s%s%sknown are user, system, max_tokens, temperature "
                      "and fields",
                      r->file, line_of(key), name, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
}

static berth_status take_member(const reading *r, const char *name, const yaml_node_t *key, const yaml_node_t *value,
                                cli_prompt *p)
{
    if (strcmp(name, "user") == 0) return take_text(r, value, name, &p->user);
    if (strcmp(name, "system") == 0) return take_text(r, value, name, &p->system);
    if (strcmp(name, "fields") == 0) return take_fields(r, value, p);
    if (strcmp(name, "temperature") == 0) {
        p->has_temperature = true;
        return take_number(r, value, name, &p->temperature);
    }
    if (strcmp(name, "max_tokens") == 0) {
        double n;
        berth_status st = take_number(r, value, name, &n);
        if (st == BERTH_OK && (n < 1 || n > MAX_TOKENS || n != floor(n)))
            st = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: max_tokens must be a whole number from 1 to %d",
                            r->file, line_of(value), MAX_TOKENS);
        if (st == BERTH_OK) p->max_tokens = (int32_t)n;
        return st;
    }
    return unknown_member(r, key, name);
}

/* ---- mappings -------------------------------------------------------------------------------------------------------- */

/* Whether an earlier key of the mapping has the same text; libyaml lets that pass. */
static bool is_repeated(const reading *r, const yaml_node_t *map, const yaml_node_pair_t *pair, const char *name)
{
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *key = yaml_document_get_node(r->doc, p->key);
        if (key->type == YAML_SCALAR_NODE && strcmp((const char *)key->data.scalar.value, name) == 0) return true;
    }
    return false;
}

static berth_status take_key(const reading *r, const yaml_node_t *map, const yaml_node_pair_t *pair, char **out)
{
    const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
    berth_status st = take_text(r, key, "a name", out);
    if (st == BERTH_OK && **out == '\0')
        st = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: a name is empty", r->file, line_of(key));
    if (st == BERTH_OK && is_repeated(r, map, pair, *out))
        st = BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: \"%s\" stands there twice", r->file, line_of(key), *out);
    return st;
}

static berth_status take_prompt(const reading *r, const yaml_node_t *node, cli_prompt *p)
{
    if (node->type == YAML_SCALAR_NODE) {
        berth_status st = take_text(r, node, p->name, &p->user);
        if (st != BERTH_OK) return st;
    } else if (node->type != YAML_MAPPING_NODE) {
        return BERTH_FAIL(r->err, BERTH_BAD_FILE,
                          "%s: line %zu: prompt \"%s\" is a list; give a text, or members such as user and max_tokens",
                          r->file, line_of(node), p->name);
    } else {
        for (const yaml_node_pair_t *m = node->data.mapping.pairs.start; m < node->data.mapping.pairs.top; m++) {
            char *name = NULL;
            berth_status st = take_key(r, node, m, &name);
            if (st == BERTH_OK)
                st = take_member(r, name, yaml_document_get_node(r->doc, m->key),
                                 yaml_document_get_node(r->doc, m->value), p);
            free(name);
            if (st != BERTH_OK) return st;
        }
    }
    if (p->user == NULL || strspn(p->user, " \t\r\n") == strlen(p->user))
        return BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: line %zu: prompt \"%s\" has no text; give it a user member",
                          r->file, line_of(node), p->name);
    return BERTH_OK;
}

static berth_status take_all(const reading *r, cli_prompts *out)
{
    const yaml_node_t *root = yaml_document_get_root_node(r->doc);
    if (root == NULL || root->type != YAML_MAPPING_NODE ||
        root->data.mapping.pairs.start == root->data.mapping.pairs.top) {
        return BERTH_FAIL(r->err, BERTH_BAD_FILE, "%s: expected a mapping of names to prompts, `receipt: \"...\"`",
                          r->file);
    }
    const yaml_node_pair_t *begin = root->data.mapping.pairs.start, *end = root->data.mapping.pairs.top;
    out->list = calloc((size_t)(end - begin), sizeof *out->list);
    if (out->list == NULL) return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for the prompts");
    for (const yaml_node_pair_t *p = begin; p < end; p++) {
        cli_prompt *prompt = &out->list[out->n++];
        berth_status st = take_key(r, root, p, &prompt->name);
        if (st == BERTH_OK) st = take_prompt(r, yaml_document_get_node(r->doc, p->value), prompt);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- file ------------------------------------------------------------------------------------------------------------ */

static berth_status yaml_failed(const yaml_parser_t *y, const char *file, berth_error *err)
{
    if (y->error == YAML_MEMORY_ERROR) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the prompts");
    const size_t line = y->error == YAML_READER_ERROR ? 0 : y->problem_mark.line + 1;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: line %zu: not YAML: %s", file, line,
                      y->problem != NULL ? y->problem : "cannot be read");
}

static berth_status parse(yaml_parser_t *y, const char *file, cli_prompts *out, berth_error *err)
{
    yaml_document_t doc, more;
    if (!yaml_parser_load(y, &doc)) return yaml_failed(y, file, err);
    berth_status st = take_all(&(reading){file, &doc, err}, out);
    yaml_document_delete(&doc);
    if (st != BERTH_OK) return st;
    if (!yaml_parser_load(y, &more)) return yaml_failed(y, file, err);
    if (yaml_document_get_root_node(&more) != NULL)
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: holds more than one document; leave one", file);
    yaml_document_delete(&more);
    return st;
}

berth_status cli_prompts_read(const char *file, cli_prompts *out, berth_error *err)
{
    *out = (cli_prompts){.file = file};
    char *text;
    size_t size;
    berth_status st = berth_file_read(file, MAX_BYTES, &text, &size, err);
    if (st != BERTH_OK) return st;
    yaml_parser_t y;
    if (yaml_parser_initialize(&y)) {
        yaml_parser_set_input_string(&y, (const unsigned char *)text, size);
        yaml_parser_set_encoding(&y, YAML_UTF8_ENCODING);
        st = parse(&y, file, out, err);
        yaml_parser_delete(&y);
    } else {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the prompts");
    }
    free(text);
    if (st != BERTH_OK) cli_prompts_deinit(out);
    return st;
}

void cli_prompts_deinit(cli_prompts *p)
{
    for (int32_t i = 0; i < p->n; i++) {
        for (int32_t k = 0; k < p->list[i].n_fields; k++) free(p->list[i].fields[k]);
        free(p->list[i].fields);
        free(p->list[i].name);
        free(p->list[i].user);
        free(p->list[i].system);
    }
    free(p->list);
    *p = (cli_prompts){0};
}

berth_status cli_prompts_find(const cli_prompts *p, const char *name, const cli_prompt **out, berth_error *err)
{
    if (name == NULL && p->n == 1) {
        *out = &p->list[0];
        return BERTH_OK;
    }
    if (name == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s holds %d prompts; say which, --prompt-name \"%s\"", p->file,
                          (int)p->n, p->list[0].name);
    const char *near = NULL;
    int best = berth_misspelling_limit(name);
    for (int32_t i = 0; i < p->n; i++) {
        const int d = berth_edit_distance(name, p->list[i].name, best);
        if (d == 0) {
            *out = &p->list[i];
            return BERTH_OK;
        }
        if (d < best) {
            best = d;
            near = p->list[i].name;
        }
    }
    if (near != NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s has no prompt \"%s\"; did you mean \"%s\"?", p->file, name,
                          near);
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s has no prompt \"%s\"; it has \"%s\"%s", p->file, name,
                      p->list[0].name, p->n > 1 ? " and others" : "");
}
