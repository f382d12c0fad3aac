/* work.c - see work.h. */
#include "strategies/work.h"

#include <math.h>
#include <stdlib.h>

#include "strategies/words.h"

#define MOST_PICOSECONDS 0x1p47 /* 140 s: sums of hops stay whole in a double, with room for their count */

static bool is_rate(double rate)
{
    return rate > 0 && rate < 1e30;
}

bool berth_work_is_known(const berth_strategy_input *in)
{
    if (in->struct_size < sizeof *in || in->request_prompt_tokens < 1 || in->request_new_tokens < 1) return false;
    for (int32_t d = 0; d < in->n_devices; d++)
        if (!is_rate(berth_device_at(in, d)->flops) || !is_rate(berth_device_at(in, d)->bytes_per_second)) return false;
    return is_rate(berth_node_at(in, 0)->flops_per_token);
}

/* ---- work ---- */

static double at_least_0(double x)
{
    return x > 0 && x < 1e60 ? x : 0;
}

/* `tied`: bytes that the piece reads besides its own. */
static void add_piece(const berth_strategy_input *in, int32_t node, bool is_head, uint64_t tied, berth_work_sums *s)
{
    const berth_node_view *v = berth_node_at(in, node);
    bool has_scores = in->node_size >= sizeof *v;
    double per_pair = has_scores ? at_least_0(v->attention_flops_per_pair) : 0,
           scores_per_tile = has_scores ? at_least_0(v->attention_flops_per_tile) : 0;
    double tiles = at_least_0(in->request_tiles), prompt = (double)in->request_prompt_tokens;
    double made = (double)in->request_new_tokens, mean_context = prompt + made / 2;
    double per_token = at_least_0(v->flops_per_token);
    double bytes = (double)v->weight_bytes + (double)tied;
    if (tiles > 0) {
        s->encode_flops += tiles * (at_least_0(v->flops_per_tile) + scores_per_tile);
        if (v->flops_per_tile > 0) s->encode_bytes += bytes;
    }
    s->prefill_flops += (is_head ? 1 : prompt) * per_token + prompt * (prompt + 1) / 2 * per_pair;
    if (per_token > 0) s->prefill_bytes += bytes;
    s->decode_flops += made * (per_token + mean_context * per_pair);
    s->decode_bytes += made * ((per_token > 0 ? bytes : 0) + (double)v->kv_bytes_per_token * mean_context);
}

/* The last atom with a KV cache; -1 = none. */
static int32_t last_with_kv(const berth_chain *c)
{
    int32_t last = c->n - 1;
    while (last >= 0 && c->kv[last] == c->kv[last + 1]) last--;
    return last;
}

/* Bytes of tensors that are stored in another atom and used in this one. */
static uint64_t tied_bytes(const berth_chain *c, int32_t atom)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < c->n_ties; i++)
        if (c->ties[i].member == atom) sum += c->ties[i].bytes;
    return sum;
}

berth_status berth_work_init(berth_work *w, const berth_chain *c, const berth_strategy_input *in, berth_error *err)
{
    int32_t last = last_with_kv(c);
    w->sums = calloc((size_t)c->n + 1, sizeof *w->sums);
    if (!w->sums) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the work of %d parts", c->n);
    for (int32_t p = 0, last_atom = -1; p < c->n_pieces; p++) {
        int32_t atom = c->piece_atom[p];
        uint64_t tied = last_atom < atom ? tied_bytes(c, atom) : 0;
        while (last_atom < atom) {
            last_atom++;
            w->sums[last_atom + 1] = w->sums[last_atom];
        }
        add_piece(in, c->piece_node[p], last >= 0 && atom > last, tied, &w->sums[atom + 1]);
    }
    return BERTH_OK;
}

void berth_work_deinit(berth_work *w)
{
    free(w->sums);
    w->sums = NULL;
}

static double longer(double a, double b)
{
    return a > b ? a : b;
}

double berth_work_seconds(const berth_work *w, int32_t from, int32_t to, double flops, double rate)
{
    const berth_work_sums *a = &w->sums[from], *b = &w->sums[to];
    return longer((b->encode_flops - a->encode_flops) / flops, (b->encode_bytes - a->encode_bytes) / rate) +
           longer((b->prefill_flops - a->prefill_flops) / flops, (b->prefill_bytes - a->prefill_bytes) / rate) +
           longer((b->decode_flops - a->decode_flops) / flops, (b->decode_bytes - a->decode_bytes) / rate);
}

/* ---- hops ---- */

/* A cut before the last work on tiles carries tiles, the one behind it features, others tokens. */
static void read_kinds(const berth_chain *c, const berth_strategy_input *in, uint8_t *kind)
{
    int32_t last_tile = -1;
    for (int32_t p = 0; p < c->n_pieces; p++)
        if (berth_node_at(in, c->piece_node[p])->flops_per_tile > 0) last_tile = c->piece_atom[p];
    for (int32_t cut = 0; cut <= c->n; cut++)
        kind[cut] = cut <= last_tile                         ? BERTH_CUT_TILES
                    : cut == last_tile + 1 && last_tile >= 0 ? BERTH_CUT_FEATURES
                                                             : BERTH_CUT_TOKENS;
}

static double hop_picoseconds(const berth_strategy_input *in, const berth_link_view *link, int kind, bool is_request)
{
    bool knows_request = in->struct_size >= sizeof *in;
    double tile = knows_request ? (double)in->hidden_bytes_per_tile : 0,
           token = knows_request ? (double)in->hidden_bytes_per_token : 0, bytes = token, messages = 1;
    if (is_request && kind == BERTH_CUT_TILES) bytes = at_least_0(in->request_tiles) * tile;
    if (is_request && kind == BERTH_CUT_FEATURES) bytes = token * (double)in->request_prompt_tokens;
    if (is_request && kind == BERTH_CUT_TOKENS) {
        bytes = token * (double)(in->request_prompt_tokens + in->request_new_tokens);
        messages = 1 + (double)in->request_new_tokens;
    }
    double seconds = is_rate(link->bytes_per_second) ? bytes / link->bytes_per_second : 0;
    if (link->latency_ns > 0 && link->latency_ns < 1e18) seconds += messages * link->latency_ns * 1e-9;
    double ps = round(seconds * 1e12);
    return ps < MOST_PICOSECONDS ? ps : MOST_PICOSECONDS;
}

static bool is_uniform(const berth_hops *h)
{
    int32_t n = h->n_devices;
    for (int32_t kind = 0; kind < BERTH_CUT_KINDS; kind++)
        for (int32_t i = 0; i < n * n; i++) {
            const double *row = h->picoseconds + (size_t)kind * (size_t)n * (size_t)n;
            if (i / n != i % n && row[i] != row[1]) return false;
        }
    return true;
}

berth_status berth_hops_init(berth_hops *h, const berth_chain *c, const berth_strategy_input *in, bool is_request,
                             berth_error *err)
{
    size_t n = (size_t)in->n_devices;
    *h = (berth_hops){.n_devices = in->n_devices,
                      .picoseconds = calloc(BERTH_CUT_KINDS * n * n, sizeof(double)),
                      .kind = calloc((size_t)c->n + 1, 1)};
    if (!h->picoseconds || !h->kind) {
        berth_hops_deinit(h);
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the hops of %d devices", in->n_devices);
    }
    read_kinds(c, in, h->kind);
    for (int32_t i = 0; i < in->n_links; i++) {
        const berth_link_view *link = berth_link_at(in, i);
        if (link->from < 0 || link->to < 0 || link->from >= in->n_devices || link->to >= in->n_devices) continue;
        for (int kind = 0; kind < BERTH_CUT_KINDS; kind++)
            h->picoseconds[((size_t)kind * n + (size_t)link->from) * n + (size_t)link->to] =
                hop_picoseconds(in, link, kind, is_request);
    }
    h->is_uniform = n < 2 || is_uniform(h);
    return BERTH_OK;
}

void berth_hops_deinit(berth_hops *h)
{
    free(h->picoseconds);
    free(h->kind);
    *h = (berth_hops){0};
}
