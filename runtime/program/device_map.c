/* device_map.c - a Hugging Face device map read into a placement.
 *
 * A map is a JSON object: module or tensor name -> device. The longest name that is a prefix wins, and "" is the
 * whole model. Names are those of the model's own layout, or of another layout of the same model: both are brought
 * into one spelling by a small table and compared there. Source: accelerate's dispatch_model and check_device_map;
 * transformers' InternVL conversion tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "program/placement_internal.h"

/* ---- names of other layouts ------------------------------------------------------------------------------------- */

/* A whole-component prefix and what it becomes; the first that fits is taken, then the next table. */
typedef struct renaming {
    const char *from, *to;
} renaming;

static const renaming tops[] = {
    {"model.language_model", "text"},
    {"language_model.model", "text"},
    {"language_model.lm_head", "lm_head"},
    {"model.vision_tower", "vision"},
    {"vision_tower", "vision"},
    {"vision_model", "vision"},
    {"model.vision_model", "vision"},
    {"mlp1", "projector"},
    {"model.multi_modal_projector", "projector"},
    {"model.mlp1", "projector"},
    {"multi_modal_projector", "projector"},
    {"model.layers", "text.layers"},
    {"model.embed_tokens", "text.embed_tokens"},
    {"model.norm", "text.norm"},
    {"language_model.layers", "text.layers"},
    {"language_model.embed_tokens", "text.embed_tokens"},
    {"language_model.norm", "text.norm"},
};
static const renaming projector_parts[] = {
    {"projector.0", "projector.layer_norm"},
    {"projector.1", "projector.linear_1"},
    {"projector.2", "projector.act"},
    {"projector.3", "projector.linear_2"},
};
static const renaming vision_parts[] = {
    {"vision.embeddings.class_embedding", "vision.embeddings.cls_token"},
    {"vision.embeddings.position_embedding", "vision.embeddings.position_embeddings"},
    {"vision.embeddings.patch_embeddings.projection", "vision.embeddings.patch_embedding"},
    {"vision.embeddings.patch_embeddings", "vision.embeddings.patch_embedding"},
    {"vision.encoder.layers", "vision.encoder.layer"},
};
/* Behind "vision.encoder.layer.N." */
static const renaming block_parts[] = {
    {"norm1", "layernorm_before"},
    {"norm2", "layernorm_after"},
    {"ls1", "lambda_1"},
    {"ls2", "lambda_2"},
    {"attn.proj", "attention.projection_layer"},
    {"attn", "attention"},
};

/* Modules that one layout has and another has not, by their parts in the one spelling: what is named by itself keeps
 * its own device. */
typedef struct gathering {
    const char *key;
    const char *parts[4];
} gathering;
static const gathering gatherings[] = {
    {"language_model", {"text", "lm_head"}},
    {"model", {"vision", "projector", "text"}},
};

/* The rest of `name` behind prefix `p` when p ends at a component's end; NULL otherwise. */
static const char *behind(const char *name, const char *p)
{
    size_t n = strlen(p);
    return strncmp(name, p, n) == 0 && (name[n] == 0 || name[n] == '.') ? name + n : NULL;
}

static void rename_by(const renaming *table, size_t n, berth_buffer *name, size_t at)
{
    for (size_t i = 0; i < n; i++) {
        const char *rest = behind(name->data + at, table[i].from);
        if (!rest) continue;
        berth_buffer b = {0};
        berth_buffer_append(&b, name->data, at);
        berth_buffer_puts(&b, table[i].to);
        berth_buffer_puts(&b, rest);
        bool failed = b.failed;
        if (!failed) {
            berth_buffer_deinit(name);
            *name = b;
        } else {
            berth_buffer_deinit(&b);
            name->failed = true;
        }
        return;
    }
}

#define RENAME(table, name, at) rename_by((table), sizeof(table) / sizeof((table)[0]), (name), (at))

/* One spelling for all layouts, into *out (the caller deinits). */
static bool common_name(const char *path, berth_buffer *out)
{
    *out = (berth_buffer){0};
    if (!berth_buffer_puts(out, path)) return false;
    RENAME(tops, out, 0);
    RENAME(projector_parts, out, 0);
    RENAME(vision_parts, out, 0);
    const char *block = behind(out->data, "vision.encoder.layer");
    if (block && block[0] == '.') {
        const char *dot = strchr(block + 1, '.');
        if (dot) RENAME(block_parts, out, (size_t)(dot + 1 - out->data));
    }
    return !out->failed;
}

/* ---- keys and values -------------------------------------------------------------------------------------------- */

typedef struct map_reader {
    const berth_strategy_input *in;
    const char *what;
    berth_error *err;
    int32_t *given;     /* owned; [n_nodes] device a key of the map gives; -1 */
    int32_t *gathered;  /* owned; [n_nodes] the same, by a key that means several nodes */
    int32_t *inherited; /* owned; [n_nodes] the device of the nearest node named; -1 */
    char **common; /* owned, as is each; [n_nodes] names in the one spelling; NULL until an unfamiliar key is met */
} map_reader;

static bool make_common(map_reader *m)
{
    if (m->common) return true;
    m->common = calloc((size_t)m->in->n_nodes, sizeof *m->common);
    if (!m->common) return false;
    for (int32_t i = 0; i < m->in->n_nodes; i++) {
        berth_buffer b;
        bool ok = common_name(berth_node_at(m->in, i)->path, &b);
        m->common[i] = ok ? berth_buffer_take(&b) : NULL;
        if (!ok) berth_buffer_deinit(&b);
        if (!m->common[i]) return false;
    }
    return true;
}

static berth_status refuse_key(const map_reader *m, const char *key)
{
    int best_distance = 1 << 20;
    const char *best = NULL;
    for (int32_t i = 1; i < m->in->n_nodes; i++) {
        const char *path = berth_node_at(m->in, i)->path;
        int d = berth_edit_distance(key, path, best_distance);
        if (d >= best_distance) continue;
        best_distance = d;
        best = path;
    }
    return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s: the model has no module or tensor \"%s\"%s%s%s", m->what,
                      key, best ? "; the nearest name is \"" : "", best ? best : "", best ? "\"" : "");
}

static int32_t find_common(const map_reader *m, const char *name)
{
    for (int32_t i = 0; i < m->in->n_nodes; i++)
        if (strcmp(m->common[i], name) == 0) return i;
    return -1;
}

/* The nodes that `key` names: one, or a module's parts where this layout has no such module. */
static berth_status find_key(map_reader *m, const char *key, int32_t nodes[4], int32_t *out_n)
{
    *out_n = 0;
    if (strlen(key) > 4096)
        return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s: a name of %zu bytes", m->what, strlen(key));
    for (int32_t i = 0; i < m->in->n_nodes && *out_n == 0; i++)
        if (strcmp(berth_node_at(m->in, i)->path, key) == 0) nodes[(*out_n)++] = i;
    if (*out_n > 0) return BERTH_OK;
    berth_buffer want;
    bool ok = common_name(key, &want) && make_common(m);
    if (ok) nodes[0] = find_common(m, want.data);
    berth_buffer_deinit(&want);
    if (!ok) return BERTH_FAIL(m->err, BERTH_OUT_OF_MEMORY, "reading %s", m->what);
    *out_n = nodes[0] >= 0;
    for (size_t g = 0; g < sizeof gatherings / sizeof gatherings[0] && *out_n == 0; g++) {
        if (strcmp(gatherings[g].key, key) != 0) continue;
        for (int k = 0; k < 4 && gatherings[g].parts[k]; k++) {
            nodes[k] = find_common(m, gatherings[g].parts[k]);
            if (nodes[k] < 0) return refuse_key(m, key);
            *out_n = k + 1;
        }
    }
    return *out_n > 0 ? BERTH_OK : refuse_key(m, key);
}

/* The one device whose name begins with "cpu:" (or "cuda:"); -1 when none, -2 when several. */
static int32_t only_of_kind(const map_reader *m, const char *kind)
{
    int32_t found = -1;
    for (int32_t i = 0; i < m->in->n_devices; i++) {
        const char *name = berth_device_at(m->in, i)->name;
        if (strncmp(name, kind, strlen(kind)) != 0 || name[strlen(kind)] != ':') continue;
        if (found >= 0) return -2;
        found = i;
    }
    return found;
}

static berth_status refuse_device(const map_reader *m, const char *key, const char *value)
{
    berth_buffer names = {0};
    for (int32_t i = 0; i < m->in->n_devices; i++)
        berth_buffer_printf(&names, "%s%s", i ? ", " : "", berth_device_at(m->in, i)->name);
    berth_status st =
        BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT,
                   "%s: \"%s\" is put on \"%s\", which is not a device here; there are %s (or their numbers, from 0)",
                   m->what, key, value, names.data ? names.data : "none");
    berth_buffer_deinit(&names);
    return st;
}

static berth_status device_by_name(const map_reader *m, const char *key, const char *value, int32_t *out)
{
    for (*out = 0; *out < m->in->n_devices; ++*out)
        if (strcmp(berth_device_at(m->in, *out)->name, value) == 0) return BERTH_OK;
    if (strcmp(value, "disk") == 0)
        return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT,
                          "%s: \"%s\" is put on \"disk\"; berth keeps every weight in a device's memory and does not "
                          "offload: name a device",
                          m->what, key);
    bool is_kind = strcmp(value, "cpu") == 0 || strcmp(value, "cuda") == 0;
    *out = is_kind ? only_of_kind(m, value) : -1;
    if (*out == -2)
        return BERTH_FAIL(
            m->err, BERTH_INVALID_ARGUMENT,
            "%s: \"%s\" is put on \"%s\", and there are several such devices; name one by its number, as in \"%s:0\"",
            m->what, key, value, value);
    if (*out >= 0) return BERTH_OK;
    int64_t number;
    if (!berth_json_parse_u63(value, strlen(value), &number) || number >= m->in->n_devices)
        return refuse_device(m, key, value);
    *out = (int32_t)number;
    return BERTH_OK;
}

static berth_status read_device(const map_reader *m, const berth_json_node *value, int32_t *out)
{
    const char *key = berth_json_key(value), *text = berth_json_as_string(value);
    int64_t number;
    if (text) return device_by_name(m, key, text, out);
    if (!berth_json_as_i64(value, &number))
        return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s: \"%s\" is put on %s; a device is a number or a name",
                          m->what, key, berth_json_type_name(berth_json_type_of(value)));
    if (number < 0 || number >= m->in->n_devices)
        return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s: \"%s\" is put on device %lld; there are devices 0 to %d",
                          m->what, key, (long long)number, m->in->n_devices - 1);
    *out = (int32_t)number;
    return BERTH_OK;
}

static berth_status read_entries(map_reader *m, const berth_json_node *root)
{
    if (berth_json_type_of(root) != BERTH_JSON_OBJECT)
        return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s is %s; a device map is an object of names and devices",
                          m->what, berth_json_type_name(berth_json_type_of(root)));
    for (int32_t i = 0; i < m->in->n_nodes; i++) m->given[i] = m->gathered[i] = -1;
    for (const berth_json_node *e = berth_json_first(root); e; e = berth_json_next(e)) {
        int32_t nodes[4] = {-1, -1, -1, -1}, n = 0, device = -1;
        berth_status st = find_key(m, berth_json_key(e), nodes, &n);
        if (st == BERTH_OK) st = read_device(m, e, &device);
        if (st != BERTH_OK) return st;
        if (n == 1 && m->given[nodes[0]] >= 0)
            return BERTH_FAIL(m->err, BERTH_INVALID_ARGUMENT, "%s names %s twice, the second time as \"%s\"", m->what,
                              berth_placement_path(m->in, nodes[0]), berth_json_key(e));
        for (int32_t k = 0; k < n; k++) (n == 1 ? m->given : m->gathered)[nodes[k]] = device;
    }
    for (int32_t i = 0; i < m->in->n_nodes; i++)
        if (m->given[i] < 0) m->given[i] = m->gathered[i];
    return BERTH_OK;
}

/* ---- the cut ---------------------------------------------------------------------------------------------------- */

/* Is a node strictly under `node` named by the map? */
static bool named_below(const map_reader *m, int32_t node)
{
    int32_t end = node + 1 + berth_node_at(m->in, node)->n_descendants;
    for (int32_t i = node + 1; i < end; i++)
        if (m->given[i] >= 0) return true;
    return false;
}

/* Longest prefix wins: a node inherits its parent's device unless it is named; one with nothing named below it is
 * placed. */
static void cut(const map_reader *m, int32_t *device_of)
{
    for (int32_t i = 0; i < m->in->n_nodes;) {
        const berth_node_view *node = berth_node_at(m->in, i);
        m->inherited[i] = m->given[i] >= 0 ? m->given[i] : node->parent >= 0 ? m->inherited[node->parent] : -1;
        if (named_below(m, i) || m->inherited[i] < 0) {
            i++;
            continue;
        }
        device_of[i] = m->inherited[i];
        i += 1 + node->n_descendants;
    }
}

/* A tied head that the map leaves out lies with the tensor it shares: accelerate saves such maps. */
static void follow_ties(const berth_placement *p, const berth_strategy_input *in)
{
    for (int32_t i = 0; i < in->n_nodes; i++) {
        int32_t other = berth_node_at(in, i)->tied_to;
        if (other < 0 || other >= in->n_nodes || berth_placement_device(p, in, 0, i, NULL) >= 0) continue;
        p->device_of[i] = berth_placement_device(p, in, 0, other, NULL);
    }
}

static berth_status place_from(map_reader *m, const berth_json_node *root, berth_placement *p)
{
    size_t n = (size_t)m->in->n_nodes;
    m->given = calloc(n, sizeof *m->given);
    m->gathered = calloc(n, sizeof *m->gathered);
    m->inherited = calloc(n, sizeof *m->inherited);
    if (!m->given || !m->gathered || !m->inherited)
        return BERTH_FAIL(m->err, BERTH_OUT_OF_MEMORY, "reading %s", m->what);
    berth_status st = read_entries(m, root);
    if (st != BERTH_OK) return st;
    cut(m, p->device_of);
    follow_ties(p, m->in);
    return berth_placement_validate(p, m->in, m->what, m->err);
}

berth_status berth_placement_from_map(const char *json, size_t n, const char *what, const berth_strategy_input *in,
                                      berth_placement **out, berth_error *err)
{
    map_reader m = {.in = in, .what = what, .err = err};
    berth_placement *p = NULL;
    berth_json *tree = NULL;
    *out = NULL;
    berth_status st = berth_json_parse(json, n, what, &tree, err);
    if (st == BERTH_OK) st = berth_placement_create(in, 1, &p, err);
    if (st == BERTH_OK && p) {
        snprintf(p->strategy, sizeof p->strategy, "device-map");
        st = place_from(&m, berth_json_root(tree), p);
    }
    berth_json_destroy(tree);
    free(m.given);
    free(m.gathered);
    free(m.inherited);
    for (int32_t i = 0; m.common && i < in->n_nodes; i++) free(m.common[i]);
    free(m.common);
    if (st == BERTH_OK)
        *out = p;
    else
        berth_placement_destroy(p);
    return st;
}
