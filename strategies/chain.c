/* chain.c - see chain.h: building the chain, the bytes of a run, the two cuts, and the refusal. */
#include "strategies/chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/words.h"

/* ---- building ---- */

/* Whether the subtree of i holds a NO_SPLIT module below i, a tensor of its own, or a tensor stored elsewhere. */
typedef struct traits {
    bool holds_no_split, owns_tensor, holds_tie;
} traits;

static traits *read_traits(const berth_strategy_input *in)
{
    traits *t = calloc((size_t)in->n_nodes, sizeof *t);
    for (int32_t i = in->n_nodes - 1; t && i > 0; i--) { /* children before parents */
        const berth_node_view *node = berth_node_at(in, i);
        traits *parent = &t[node->parent];
        bool is_tensor = node->flags & BERTH_NODE_TENSOR;
        if (is_tensor && node->tied_to >= 0) t[i].holds_tie = true;
        parent->holds_tie |= t[i].holds_tie;
        parent->owns_tensor |= is_tensor;
        parent->holds_no_split |= t[i].holds_no_split || (node->flags & BERTH_NODE_NO_SPLIT);
    }
    return t;
}

static bool is_atom(const berth_node_view *node, const traits *t)
{
    if (node->flags & (BERTH_NODE_TENSOR | BERTH_NODE_NO_SPLIT) || node->n_descendants == 0) return true;
    return node->parent >= 0 && t->owns_tensor && !t->holds_no_split;
}

static bool allocate(berth_chain *c, int32_t n_nodes)
{
    size_t n = (size_t)n_nodes;
    c->first_node = calloc(n + 1, sizeof *c->first_node);
    c->weights = calloc(n + 1, sizeof *c->weights);
    c->kv = calloc(n + 1, sizeof *c->kv);
    c->piece_node = calloc(n, sizeof *c->piece_node);
    c->piece_atom = calloc(n, sizeof *c->piece_atom);
    return c->first_node && c->weights && c->kv && c->piece_node && c->piece_atom;
}

/* The subtree of `node` as a piece: an atom of its own, or a part of the one before. The first atom takes in what
 * stands before it. */
static void add_piece(berth_chain *c, const berth_node_view *view, int32_t node, bool has_tie)
{
    bool is_nothing = view->weight_bytes == 0 && view->kv_bytes_per_token == 0 && !has_tie;
    bool last_is_nothing = c->n == 1 && c->weights[1] == 0 && c->kv[1] == 0 && c->first_node[0] < 0;
    if (c->n == 0 || (!is_nothing && !last_is_nothing)) {
        c->n++;
        c->weights[c->n] = c->weights[c->n - 1];
        c->kv[c->n] = c->kv[c->n - 1];
        c->first_node[c->n - 1] = -1;
    }
    if (!is_nothing && c->first_node[c->n - 1] < 0) c->first_node[c->n - 1] = node;
    c->weights[c->n] += view->weight_bytes;
    c->kv[c->n] += view->kv_bytes_per_token;
    c->piece_node[c->n_pieces] = node;
    c->piece_atom[c->n_pieces++] = c->n - 1;
}

/* The tensor whose storage `tensor` uses. Ties of ties are followed; a circle ends somewhere on it. */
static int32_t storage_of(const berth_strategy_input *in, int32_t tensor)
{
    for (int32_t steps = 0; steps < in->n_nodes && berth_node_at(in, tensor)->tied_to >= 0; steps++)
        tensor = berth_node_at(in, tensor)->tied_to;
    return tensor;
}

static int by_tensor(const void *a, const void *b)
{
    const struct berth_chain_tie *x = a, *y = b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return (x->member > y->member) - (x->member < y->member);
}

/* Pairs of atoms that share a storage, each once. atom_of [n_nodes] is scratch. */
static bool collect_ties(berth_chain *c, const berth_strategy_input *in, int32_t *atom_of)
{
    int32_t n = 0;
    for (int32_t p = 0; p < c->n_pieces; p++)
        for (int32_t i = c->piece_node[p]; i <= c->piece_node[p] + berth_node_at(in, c->piece_node[p])->n_descendants;
             i++) {
            atom_of[i] = c->piece_atom[p];
            n += berth_node_at(in, i)->tied_to >= 0;
        }
    if (n == 0) return true;
    c->ties = calloc((size_t)n, sizeof *c->ties);
    if (!c->ties) return false;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(in, i);
        if (!(node->flags & BERTH_NODE_TENSOR) || node->tied_to < 0) continue;
        int32_t tensor = storage_of(in, i);
        if (atom_of[tensor] == atom_of[i]) continue;
        c->ties[c->n_ties++] = (struct berth_chain_tie){.tensor = tensor,
                                                        .owner = atom_of[tensor],
                                                        .member = atom_of[i],
                                                        .bytes = berth_node_at(in, tensor)->weight_bytes};
    }
    qsort(c->ties, (size_t)c->n_ties, sizeof *c->ties, by_tensor);
    return true;
}

berth_status berth_chain_init(berth_chain *c, const berth_strategy_input *in, berth_error *err)
{
    *c = (berth_chain){.context_tokens = in->context_tokens > 0 ? in->context_tokens : 0};
    traits *t = read_traits(in);
    bool ok = t && allocate(c, in->n_nodes);
    for (int32_t i = 0; ok && i < in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(in, i);
        if (!is_atom(node, &t[i])) continue;
        add_piece(c, node, i, t[i].holds_tie);
        i += node->n_descendants;
    }
    if (ok && t[0].holds_tie) { /* rare, and one more walk over all nodes */
        int32_t *atom_of = calloc((size_t)in->n_nodes, sizeof *atom_of);
        ok = atom_of && collect_ties(c, in, atom_of);
        free(atom_of);
    }
    free(t);
    if (ok) return BERTH_OK;
    berth_chain_deinit(c);
    return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of the model's parts");
}

void berth_chain_deinit(berth_chain *c)
{
    free(c->first_node);
    free(c->weights);
    free(c->kv);
    free(c->piece_node);
    free(c->piece_atom);
    free(c->ties);
    *c = (berth_chain){0};
}

/* ---- bytes ---- */

uint64_t berth_chain_bytes(const berth_chain *c, int32_t from, int32_t to)
{
    unsigned __int128 kv = c->kv[to] - c->kv[from];
    if (kv > UINT64_MAX) return UINT64_MAX;
    unsigned __int128 sum = c->weights[to] - c->weights[from] + kv * (unsigned __int128)c->context_tokens;
    int32_t counted = -1; /* a storage counts once however many of its names are in the run */
    for (int32_t i = 0; i < c->n_ties; i++) {
        const struct berth_chain_tie *tie = &c->ties[i];
        bool has_owner = tie->owner >= from && tie->owner < to, has_member = tie->member >= from && tie->member < to;
        if (!has_member || has_owner || tie->tensor == counted) continue;
        sum += tie->bytes;
        counted = tie->tensor;
    }
    return sum > UINT64_MAX ? UINT64_MAX : (uint64_t)sum;
}

uint64_t berth_device_room(const berth_strategy_input *in, int32_t device)
{
    const berth_device_view *d = berth_device_at(in, device);
    return d->budget_bytes > d->reserved_bytes ? d->budget_bytes - d->reserved_bytes : 0;
}

/* ---- cuts ---- */

int32_t berth_chain_fill(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t n_rooms, int32_t *bounds)
{
    int32_t at = from;
    bounds[0] = from;
    for (int32_t d = 0; d < n_rooms; d++) {
        int32_t low = at, high = c->n; /* the longest run that fits: need grows with length */
        while (low < high) {
            int32_t middle = low + (high - low + 1) / 2;
            if (berth_chain_bytes(c, at, middle) <= rooms[d])
                low = middle;
            else
                high = middle - 1;
        }
        bounds[d + 1] = at = low;
    }
    return at;
}

/* bytes / room, exact; a room of 0 is infinitely full with anything in it. */
typedef struct fullness {
    uint64_t bytes, room;
} fullness;

static bool is_less(fullness a, fullness b)
{
    return (unsigned __int128)a.bytes * b.room < (unsigned __int128)b.bytes * a.room;
}

static fullness run_fullness(const berth_chain *c, int32_t from, int32_t to, uint64_t room)
{
    uint64_t bytes = berth_chain_bytes(c, from, to);
    if (bytes == 0) return (fullness){0, 1};
    return room == 0 ? (fullness){1, 0} : (fullness){bytes, room};
}

static fullness fuller(fullness a, fullness b)
{
    return is_less(a, b) ? b : a;
}

/* best[d * width + i]: the least fullest device when the first d rooms hold [from, from + i). With i fixed, a later
 * start of the last run makes it emptier and the rooms before it fuller, so the best start lies where the two cross. */
static void fill_table(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t n_rooms, fullness *best)
{
    int32_t width = c->n - from + 1;
    for (int32_t i = 0; i < width; i++) best[i] = i == 0 ? (fullness){0, 1} : (fullness){1, 0};
    for (int32_t d = 1; d <= n_rooms; d++) {
        const fullness *before = best + (size_t)(d - 1) * (size_t)width;
        fullness *row = best + (size_t)d * (size_t)width;
        for (int32_t i = 0; i < width; i++) {
            int32_t low = 0, high = i; /* the first start at which the rooms before are at least as full as the run */
            while (low < high) {
                int32_t middle = low + (high - low) / 2;
                if (is_less(before[middle], run_fullness(c, from + middle, from + i, rooms[d - 1])))
                    low = middle + 1;
                else
                    high = middle;
            }
            row[i] = fuller(before[low], run_fullness(c, from + low, from + i, rooms[d - 1]));
            if (low == 0) continue;
            fullness earlier = fuller(before[low - 1], run_fullness(c, from + low - 1, from + i, rooms[d - 1]));
            if (is_less(earlier, row[i])) row[i] = earlier;
        }
    }
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Room d's part of `bytes` if they were divided over rooms 0 .. d by size. */
static uint64_t even_share(uint64_t bytes, const uint64_t *rooms, int32_t d)
{
    unsigned __int128 sum = 0;
    for (int32_t e = 0; e <= d; e++) sum += rooms[e];
    while (sum > UINT64_MAX) sum >>= 1; /* only sizes near 2^64 come here, and this is a preference, not a limit */
    return sum == 0 ? 0 : (uint64_t)((unsigned __int128)bytes * rooms[d] / sum);
}

/* Where run d, which ends at from + i, starts: no room fuller than `limit`; where there are atoms enough, no room
 * empty; and then nearest to an even share. */
static int32_t choose_start(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t d, int32_t i,
                            const fullness *before, fullness limit)
{
    uint64_t share = even_share(berth_chain_bytes(c, from, from + i), rooms, d), chosen_distance = 0;
    bool enough = i > d, chosen_is_used = false; /* atoms for this room and each one before it */
    int32_t chosen = -1;
    for (int32_t k = i; k >= 0; k--) {
        if (is_less(limit, run_fullness(c, from + k, from + i, rooms[d]))) break;
        if (is_less(limit, before[k])) continue;
        bool is_used = enough ? k < i && k >= d : k == i;
        uint64_t off = distance(berth_chain_bytes(c, from + k, from + i), share);
        if (chosen >= 0 && (chosen_is_used > is_used || (chosen_is_used == is_used && chosen_distance <= off)))
            continue;
        chosen = k;
        chosen_is_used = is_used;
        chosen_distance = off;
    }
    return chosen;
}

berth_status berth_chain_balance(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t n_rooms,
                                 int32_t *bounds, berth_error *err)
{
    if (berth_chain_fill(c, from, rooms, n_rooms, bounds) < c->n) return BERTH_DOES_NOT_FIT;
    size_t width = (size_t)(c->n - from) + 1;
    fullness *best = calloc(width * ((size_t)n_rooms + 1), sizeof *best);
    if (!best) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the table of cuts");
    fill_table(c, from, rooms, n_rooms, best);
    fullness limit = best[width * (size_t)n_rooms + width - 1];
    bounds[n_rooms] = c->n;
    for (int32_t d = n_rooms - 1; d >= 0; d--)
        bounds[d] = from + choose_start(c, from, rooms, d, bounds[d + 1] - from, best + (size_t)d * width, limit);
    free(best);
    return BERTH_OK;
}

/* ---- answers ---- */

static int32_t run_of(const int32_t *bounds, int32_t n_runs, int32_t atom)
{
    int32_t d = 0;
    while (d + 1 < n_runs && atom >= bounds[d + 1]) d++;
    return d;
}

void berth_chain_place(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out,
                       int32_t replica, int32_t first_device, const int32_t *order, int32_t n_runs,
                       const int32_t *bounds)
{
    int32_t *device_of = out->device_of + (size_t)replica * (size_t)in->n_nodes;
    for (int32_t p = 0; p < c->n_pieces; p++) {
        int32_t run = run_of(bounds, n_runs, c->piece_atom[p]);
        device_of[c->piece_node[p]] = order ? order[run] : first_device + run;
    }
    for (int32_t i = 0; i < c->n_ties && replica == 0; i++) {
        int32_t owner = run_of(bounds, n_runs, c->ties[i].owner), member = run_of(bounds, n_runs, c->ties[i].member);
        if (owner != member)
            berth_chain_note_tie(c, in, out, i, order ? order[owner] : first_device + owner,
                                 order ? order[member] : first_device + member);
    }
}

void berth_chain_note_tie(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out, int32_t tie,
                          int32_t owner, int32_t member)
{
    char bytes[64];
    berth_note(out, "tied tensor %.120s is held on %s and on %s, %s each", berth_node_at(in, c->ties[tie].tensor)->path,
               berth_device_at(in, owner)->name, berth_device_at(in, member)->name,
               berth_bytes_in_words(c->ties[tie].bytes, bytes, sizeof bytes));
}

berth_status berth_chain_place_balanced(const berth_chain *c, const berth_strategy_input *in,
                                        berth_strategy_output *out, int32_t replica, int32_t first_device,
                                        int32_t n_devices, const char *strategy, berth_error *err)
{
    uint64_t *rooms = calloc((size_t)n_devices, sizeof *rooms);
    int32_t *bounds = calloc((size_t)n_devices + 1, sizeof *bounds);
    berth_status st = BERTH_OUT_OF_MEMORY;
    if (rooms && bounds) {
        for (int32_t d = 0; d < n_devices; d++) rooms[d] = berth_device_room(in, first_device + d);
        st = berth_chain_balance(c, 0, rooms, n_devices, bounds, err);
    } else {
        berth_refuse(err, st, "no memory for the list of devices");
    }
    if (st == BERTH_OK) berth_chain_place(c, in, out, replica, first_device, NULL, n_devices, bounds);
    if (st == BERTH_DOES_NOT_FIT) st = berth_chain_refuse(c, in, first_device, n_devices, strategy, err);
    free(rooms);
    free(bounds);
    return st;
}

berth_status berth_chain_place_cut(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out,
                                   const int32_t *bounds, const char *strategy, berth_error *err)
{
    for (int32_t d = 0; d < in->n_devices; d++) {
        uint64_t bytes = berth_chain_bytes(c, bounds[d], bounds[d + 1]);
        if (bytes > berth_device_room(in, d)) return berth_chain_refuse_part(c, in, d, bytes, strategy, err);
    }
    out->n_replicas = 1;
    berth_chain_place(c, in, out, 0, 0, NULL, in->n_devices, bounds);
    berth_note_empty_devices(in, out);
    return BERTH_OK;
}

/* ---- refusals ---- */

berth_status berth_chain_refuse_part(const berth_chain *c, const berth_strategy_input *in, int32_t device,
                                     uint64_t bytes, const char *strategy, berth_error *err)
{
    uint64_t has = berth_device_room(in, device);
    char need[64], room[64], missing[64];
    return berth_refuse(err, BERTH_DOES_NOT_FIT,
                        "strategy %s: its part for %s needs %s with the KV cache for %" PRId64
                        " tokens, and there is room for %s; missing: %s. What helps: balanced, which goes by sizes; a "
                        "shorter context; more memory",
                        strategy, berth_device_at(in, device)->name, berth_bytes_in_words(bytes, need, sizeof need),
                        c->context_tokens, berth_bytes_in_words(has, room, sizeof room),
                        berth_bytes_in_words(bytes - has, missing, sizeof missing));
}

static bool fits(berth_chain *c, const uint64_t *rooms, int32_t n, int32_t *bounds, int64_t context_tokens)
{
    c->context_tokens = context_tokens;
    return berth_chain_fill(c, 0, rooms, n, bounds) == c->n;
}

/* The largest context with which the chain fits; -1 when not even none does. */
static int64_t largest_context(const berth_chain *chain, const uint64_t *rooms, int32_t n, int32_t *bounds)
{
    berth_chain c = *chain; /* shares the arrays, changes the context only */
    int64_t low = 0, high = c.context_tokens;
    if (!fits(&c, rooms, n, bounds, 0)) return -1;
    while (low < high) {
        int64_t middle = high - (high - low) / 2;
        if (fits(&c, rooms, n, bounds, middle))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

typedef struct shortage {
    uint64_t need, room, missing;
    int32_t atom; /* too large for every device by itself, or the first that found no place */
    bool is_atom; /* `need` and `room` are the atom's and the largest device's */
} shortage;

static shortage find_shortage(const berth_chain *c, const uint64_t *rooms, int32_t n, int32_t *bounds)
{
    shortage s = {.need = berth_chain_bytes(c, 0, c->n)};
    uint64_t largest = 0;
    for (int32_t d = 0; d < n; d++) {
        if (rooms[d] > largest) largest = rooms[d];
        if (__builtin_add_overflow(s.room, rooms[d], &s.room)) s.room = UINT64_MAX;
    }
    s.atom = berth_chain_fill(c, 0, rooms, n, bounds);
    s.missing = s.need > s.room ? s.need - s.room : 0;
    for (int32_t a = 0; a < c->n; a++) {
        uint64_t bytes = berth_chain_bytes(c, a, a + 1);
        if (bytes <= largest || bytes - largest <= s.missing) continue;
        s = (shortage){.need = bytes, .room = largest, .missing = bytes - largest, .atom = a, .is_atom = true};
    }
    if (s.missing == 0)
        s.missing = berth_chain_bytes(c, s.atom, c->n); /* there is room, but not in runs of whole atoms */
    return s;
}

static const char *atom_name(const berth_chain *c, const berth_strategy_input *in, int32_t atom)
{
    const char *path = c->first_node[atom] >= 0 ? berth_node_at(in, c->first_node[atom])->path : "";
    return *path ? path : "the model";
}

berth_status berth_chain_refuse(const berth_chain *c, const berth_strategy_input *in, int32_t first_device,
                                int32_t n_devices, const char *strategy, berth_error *err)
{
    uint64_t *rooms = calloc((size_t)n_devices, sizeof *rooms);
    int32_t *bounds = calloc((size_t)n_devices + 1, sizeof *bounds);
    bool *wanted = calloc((size_t)in->n_devices, sizeof *wanted);
    berth_status st = BERTH_OUT_OF_MEMORY;
    if (!rooms || !bounds || !wanted) {
        berth_refuse(err, st, "no memory to say why the model does not fit");
        goto out;
    }
    for (int32_t d = 0; d < n_devices; d++) {
        rooms[d] = berth_device_room(in, first_device + d);
        wanted[first_device + d] = true;
    }
    shortage s = find_shortage(c, rooms, n_devices, bounds);
    int64_t context = largest_context(c, rooms, n_devices, bounds);
    char names[200], need[64], room[64], missing[64], what[500], help[200];
    berth_device_names(in, wanted, names, sizeof names);
    berth_bytes_in_words(s.need, need, sizeof need);
    berth_bytes_in_words(s.room, room, sizeof room);
    berth_bytes_in_words(s.missing, missing, sizeof missing);
    const char *beside = "";
    for (int32_t d = 0; d < n_devices; d++)
        if (berth_device_at(in, first_device + d)->reserved_bytes > 0) beside = " beside activations and workspace";
    if (s.is_atom)
        snprintf(what, sizeof what, "%.200s needs %s in one piece, and the most that one device has%s is %s",
                 atom_name(c, in, s.atom), need, beside, room);
    else if (s.need > s.room)
        snprintf(what, sizeof what, "weights and KV cache for %" PRId64 " tokens need %s, and there is room for %s%s",
                 c->context_tokens, need, room, beside);
    else
        snprintf(what, sizeof what,
                 "%s of room would do for %s, but not in whole modules in order: %.160s finds no place", room, need,
                 atom_name(c, in, s.atom));
    if (context >= 0 && c->context_tokens > 0)
        snprintf(help, sizeof help, "a context of %" PRId64 " tokens would fit; or give more memory or more devices",
                 context);
    else
        snprintf(help, sizeof help,
                 "the weights alone do not fit; give more memory (as in cpu*4/mem=8GiB) or more devices");
    st = berth_refuse(err, BERTH_DOES_NOT_FIT,
                      "strategy %s: the model does not fit on %s: %s; missing: %s. What helps: %s", strategy, names,
                      what, missing, help);
out:
    free(rooms);
    free(bounds);
    free(wanted);
    return st;
}
