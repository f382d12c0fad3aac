/* bind.c - the tensors that the configuration asks for against those that the files hold: all differences in one
 * error, then the parameters. */
#include "model/model_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "model/listing.h"
#include "model/safetensors_internal.h"

#define MAX_NAME (BERTH_ST_MAX_NAME + 64) /* room for a rename */

typedef struct differences {
    berth_listing missing, extra, wrong, twice;
} differences;

static const char *quote(char out[128], const char *name)
{
    return berth_quote(out, 128, name, strlen(name));
}

static const char *shape_text(char out[160], const int64_t *dims, int32_t n)
{
    size_t len = (size_t)snprintf(out, 160, "[");
    for (int32_t i = 0; i < n && len < 130; i++)
        len += (size_t)snprintf(out + len, 160 - len, "%s%" PRId64, i ? ", " : "", dims[i]);
    snprintf(out + len, 160 - len, "]");
    return out;
}

/* ---- matching ---- */

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), t = strlen(tail);
    return n >= t && strcmp(name + n - t, tail) == 0;
}

/* What old files hold beside the parameters: tables that are computed, and the token of masked pre-training. */
static bool is_leftover(const char *name)
{
    return ends_with(name, "rotary_emb.inv_freq") || ends_with(name, ".position_ids") ||
           ends_with(name, "embeddings.mask_token");
}

/* A name below one of the model's own modules. Other names are somebody else's (a training head, a note) and are
 * left alone. */
static bool is_own(const berth_model_data *m, const char *canonical)
{
    char first[MAX_NAME];
    size_t n = strcspn(canonical, ".");
    memcpy(first, canonical, n);
    first[n] = '\0';
    return n > 0 && canonical[n] == '.' && berth_names_find(&m->paths, first) >= 0;
}

static void match_tensor(berth_model_data *m, int32_t shard, const berth_safetensor *t, differences *d)
{
    char name[MAX_NAME], q[128], q2[128];
    if (!berth_layout_canonical(m->layout, t->name, name, sizeof name)) return;
    int32_t node = berth_names_find(&m->paths, name);
    int32_t spec = node < 0 ? -1 : m->spec_of_node[node];
    if (spec < 0) {
        if (!is_leftover(name) && is_own(m, name)) berth_listing_add(&d->extra, "%s", quote(q, t->name));
        return;
    }
    berth_tensor_spec *s = &m->specs[spec];
    if (s->found) {
        berth_listing_add(&d->twice, "%s and %s", quote(q, s->found->name), quote(q2, t->name));
        return;
    }
    s->found = t;
    s->shard = shard;
}

static void check_spec(const berth_model_data *m, const berth_tensor_spec *s, differences *d)
{
    char q[128], want[160], have[160];
    if (!s->found) {
        if (s->row->role == BERTH_T_HEAD) return; /* the embedding is the head */
        berth_listing_add(&d->missing, "%s %s", m->nodes[s->node].path, shape_text(want, s->dims, s->n_dims));
        return;
    }
    const berth_safetensor *t = s->found;
    if (t->n_dims != s->n_dims || memcmp(t->dims, s->dims, (size_t)s->n_dims * sizeof *s->dims) != 0) {
        berth_listing_add(&d->wrong, "%s has shape %s, expected %s", quote(q, t->name),
                          shape_text(have, t->dims, t->n_dims), shape_text(want, s->dims, s->n_dims));
    } else if (!berth_dtype_is_float(t->dtype)) {
        berth_listing_add(&d->wrong, "%s has dtype %s, expected F32, F16 or BF16", quote(q, t->name), t->dtype_name);
    }
}

static berth_status match_all(berth_model_data *m, berth_error *err)
{
    differences d = {.missing = {0}};
    for (int32_t i = 0; i < m->files.n; i++) {
        const berth_safetensors *f = m->files.shards[i];
        for (size_t k = 0; k < berth_safetensors_count(f); k++) match_tensor(m, i, berth_safetensors_at(f, k), &d);
    }
    for (int32_t i = 0; i < m->n_specs; i++) check_spec(m, &m->specs[i], &d);
    const struct {
        berth_listing *list;
        const char *what;
    } parts[] = {{&d.missing, "missing"},
                 {&d.wrong, "of the wrong shape or dtype"},
                 {&d.extra, "not expected"},
                 {&d.twice, "stored under two names"}};
    berth_status st = BERTH_OK;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        berth_listing *l = parts[i].list;
        if (l->count == 0) continue;
        if (st == BERTH_OK)
            st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s does not match config.json (%s)", m->files.what, m->layout->about);
        berth_error_append(err, "\n  %zu tensor%s %s: %s", l->count, l->count == 1 ? "" : "s", parts[i].what,
                           berth_listing_end(l));
    }
    return st;
}

/* ---- parameters ---- */

static void describe_node(berth_model_data *m, const berth_tensor_spec *s, berth_dtype dtype, bool is_stored)
{
    berth_node_view *node = &m->nodes[s->node];
    node->n_elements = 1;
    for (int32_t d = 0; d < s->n_dims; d++) node->n_elements *= s->dims[d]; /* config.c bounds every factor */
    node->element_bits = 8 * (int32_t)berth_dtype_size(dtype);
    node->weight_bytes = is_stored ? (uint64_t)node->n_elements * berth_dtype_size(dtype) : 0;
}

/* At most two dimensions: ones in front are dropped, those behind the first are joined. */
static void flatten(const berth_tensor_spec *s, berth_param *p)
{
    int32_t first = 0;
    while (first < s->n_dims - 1 && s->dims[first] == 1) first++;
    p->dims[0] = s->dims[first];
    p->dims[1] = 1;
    for (int32_t d = first + 1; d < s->n_dims; d++) p->dims[1] *= s->dims[d];
    p->n_dims = first + 1 < s->n_dims ? 2 : 1;
}

static void add_param(berth_model_data *m, const berth_param *p)
{
    m->param_of[p->role * m->layer_stride + p->layer + 1] = m->n_params;
    m->params[m->n_params++] = *p;
}

static void add_params(berth_model_data *m, const berth_tensor_spec *s, berth_dtype dtype)
{
    const berth_safetensor *t = s->found;
    berth_param p = {
        .role = (berth_role)s->row->role, .layer = s->layer, .node = s->node, .dtype = dtype, .shard = s->shard};
    p.tensor = t ? t->name : m->nodes[s->node].path;
    p.offset = t ? t->offset : 0;
    p.n_bytes = (size_t)m->nodes[s->node].n_elements * berth_dtype_size(dtype);
    flatten(s, &p);
    if (s->row->kind != BERTH_ROW_FUSED) {
        add_param(m, &p);
        return;
    }
    p.n_bytes /= 3; /* rows of q, then k, then v: dims[0] is 3 * C */
    p.dims[0] /= 3;
    for (int i = 0; i < 3; i++) {
        add_param(m, &p);
        p.offset += t ? p.n_bytes : 0;
        p.role = (berth_role)(p.role + (BERTH_V_K_W - BERTH_V_Q_W));
    }
}

/* The head is the embedding again: same bytes, a node of its own. */
static void tie_head(berth_model_data *m, const berth_tensor_spec *head)
{
    berth_param p = m->params[m->param_of[BERTH_T_EMBED * m->layer_stride]];
    m->nodes[head->node].tied_to = p.node;
    p.role = BERTH_T_HEAD;
    p.node = head->node;
    add_param(m, &p);
}

berth_status berth_bind(berth_model_data *m, berth_error *err)
{
    bool is_planned = m->files.n == 0;
    berth_status st = is_planned ? BERTH_OK : match_all(m, err);
    if (st != BERTH_OK) return st;
    if (is_planned && m->config.stated_dtype == BERTH_DTYPE_COUNT) {
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "config.json: without weights the dtype must be float32, float16 or bfloat16");
    }
    m->params = calloc((size_t)m->n_specs * 3, sizeof *m->params);
    if (!m->params) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the parameters of %s", m->dir);
    for (int32_t i = 0; i < m->n_specs; i++) { /* the head comes last in every table */
        const berth_tensor_spec *s = &m->specs[i];
        bool is_tied = s->row->role == BERTH_T_HEAD && (is_planned ? m->config.text.tie_embeddings : !s->found);
        berth_dtype dtype = is_planned ? m->config.stated_dtype : s->found ? s->found->dtype : BERTH_F32;
        if (is_tied) dtype = m->params[m->param_of[BERTH_T_EMBED * m->layer_stride]].dtype;
        describe_node(m, s, dtype, !is_tied);
        if (is_tied) {
            tie_head(m, s);
        } else {
            add_params(m, s, dtype);
        }
    }
    return BERTH_OK;
}
