/* partition_orders.c - looking for an order of the devices that covers a chain, and proving that there is none by having
 * looked at all; see partition_cover.h.
 *
 * branches: groups are taken one after the other, depth first. What a step costs beyond what it brings by the best prices is
 *   waste, and there is only so much to waste; a set of devices is not looked at again from a place no farther; a group is
 *   not taken where a worse one that is left gets as far. To the end, that is a proof; it is given up after a number of
 *   steps;
 * walks: branches from the left, device by device, for devices that hops over the limit keep apart;
 * exchanges: from any order, two devices change places while that gets no less far.
 * Source: Pinar, Tabak & Aykanat, JPDC 68 (2008) 1473-1486 (the order is the hard part). */
#include <math.h>
#include <string.h>

#include "strategies/partition_cover.h"

enum {
    MOST = BERTH_COVER_MOST,
    MEMO_PROBES = 8,
    MOST_ENDS = 8, /* of one run, in walks */
};

/* What is left to do: atoms [left, right), by the devices not in `used`. What goes on at either end has the same right
 * to be decided first. */
typedef struct rest_of {
    uint64_t used;
    int32_t left, right, by; /* by: as in the memo */
    double to_waste;
} rest_of;

typedef struct step_to {
    int32_t group; /* or, of walks, device */
    int32_t to;    /* the end of its run, or its start where it is taken at the right */
    double waste;
} step_to;

static void insert(step_to *steps, int32_t *n, step_to s)
{
    int32_t i = (*n)++;
    for (; i > 0 && steps[i - 1].waste > s.waste; i--) steps[i] = steps[i - 1];
    steps[i] = s;
}

/* Whether this set of devices had no more than this to do before; remembers it if not. */
static bool was_here(berth_cover *c, const rest_of *r)
{
    uint64_t hash = (r->used + (uint64_t)r->by) * 0x9E3779B97F4A7C15u;
    for (int probe = 0; probe < MEMO_PROBES; probe++) {
        berth_cover_memo *slot = &c->memo[((hash >> 40) + (uint64_t)probe) % BERTH_COVER_MEMO_SIZE];
        bool is_it = slot->set == r->used && slot->by == r->by;
        if (is_it && slot->left == r->left && slot->right == r->right) return true;
        if (is_it && !r->by && slot->left >= r->left && slot->right <= r->right) return true;
        if (slot->set != 0) continue;
        *slot = (berth_cover_memo){.set = r->used, .left = r->left, .right = r->right, .by = r->by};
        return false;
    }
    return false;
}

static void start_over(berth_cover *c)
{
    memset(c->memo, 0, BERTH_COVER_MEMO_SIZE * sizeof *c->memo);
    c->steps = 0;
    c->n_heads = c->n_tails = 0;
    c->is_found = c->is_cut = false;
}

static int32_t reach(const berth_cover *c, const int32_t *order, int32_t n, int32_t from)
{
    for (int32_t i = 0; i < n && from < c->n_atoms; i++)
        from = c->rows[(size_t)c->kind_of[order[i]] * ((size_t)c->n_atoms + 1) + (size_t)from];
    return from;
}

/* ---- branches ---- */

/* Groups to take next at one end, the least waste first. */
static int32_t choose(const berth_cover *c, const rest_of *r, bool at_right, step_to *chosen)
{
    int32_t n = 0, at = at_right ? r->right : r->left;
    for (int32_t g = 0; g < c->n_groups; g++) {
        const int32_t *row = at_right ? berth_cover_back(c, g) : berth_cover_row(c, g);
        int32_t to = row[at];
        if (to == at || !(c->members[g] & ~r->used)) continue;
        bool has_worse = false, is_end = at_right ? to <= r->left : to >= r->right;
        for (uint64_t left = c->worse[g]; left && !has_worse; left &= left - 1) { /* that gets as far */
            int32_t h = __builtin_ctzll(left);
            const int32_t *other = at_right ? berth_cover_back(c, h) : berth_cover_row(c, h);
            has_worse = (c->members[h] & ~r->used) && other[at] == to;
        }
        double worth = at_right ? c->best_rest[to] - c->best_rest[at] : c->best_rest[at] - c->best_rest[to];
        double waste = c->best_price[g] - worth;
        if (has_worse || (waste > r->to_waste + BERTH_COVER_NEARLY_0 && !is_end)) continue;
        insert(chosen, &n, (step_to){.group = g, .to = to, .waste = waste});
    }
    return n;
}

static void keep_branch(berth_cover *c)
{
    c->is_found = true;
    memcpy(c->order, c->heads, (size_t)c->n_heads * sizeof *c->order);
    for (int32_t i = 0; i < c->n_tails; i++) c->order[c->n_heads + i] = c->tails[c->n_tails - 1 - i];
    c->n_order = c->n_heads + c->n_tails;
    for (int32_t i = 0, at = 0; i < c->n_order; i++) c->ends[i] = at = reach(c, &c->order[i], 1, at);
}

static bool branch_from(berth_cover *c, const rest_of *r)
{
    step_to heads[MOST], tails[MOST];
    if (r->left >= r->right) {
        keep_branch(c);
        return true;
    }
    if (++c->steps > c->most_steps) return true;
    if (r->used && was_here(c, r)) return false;
    int32_t n_heads = choose(c, r, false, heads), n_tails = choose(c, r, true, tails);
    if (n_heads == 0 || n_tails == 0) return false;
    bool at_right = tails[0].waste > heads[0].waste + BERTH_COVER_NEARLY_0; /* the end that is harder to please */
    for (int32_t i = 0; i < (at_right ? n_tails : n_heads); i++) {
        const step_to *s = at_right ? &tails[i] : &heads[i];
        int32_t device = __builtin_ctzll(c->members[s->group] & ~r->used);
        rest_of next = {.used = r->used | (uint64_t)1 << device,
                        .left = at_right ? r->left : s->to,
                        .right = at_right ? s->to : r->right,
                        .to_waste = r->to_waste - s->waste};
        if (at_right)
            c->tails[c->n_tails++] = device;
        else
            c->heads[c->n_heads++] = device;
        bool is_over = branch_from(c, &next);
        *(at_right ? &c->n_tails : &c->n_heads) -= 1;
        if (is_over) return true;
    }
    return false;
}

bool berth_cover_branch(berth_cover *c)
{
    start_over(c);
    return branch_from(c, &(rest_of){.right = c->n_atoms, .to_waste = -c->best_excess});
}

/* ---- walks ---- */

/* Devices to go on with where not each can follow each, and how far: not always as far as it gets, since one to pass
 * through on the way to others must be left something to do. */
static int32_t choose_walk(berth_cover *c, const rest_of *r, int32_t last, uint64_t island, step_to *chosen)
{
    int32_t n = 0;
    for (uint64_t left = island & ~r->used; left; left &= left - 1) {
        int32_t d = __builtin_ctzll(left), g = 0;
        if (last >= 0 && berth_cover_hop(c, c->p->hops->kind[r->left], last, d) > c->limit) continue;
        while (!(c->members[g] >> d & 1)) g++;
        for (int32_t far = berth_cover_row(c, g)[r->left], to = far; to > r->left; to--) {
            double waste = c->best_price[g] - (c->best_rest[r->left] - c->best_rest[to]);
            if (waste > r->to_waste + BERTH_COVER_NEARLY_0 && to < c->n_atoms) break; /* less far wastes more */
            if (far - to == MOST_ENDS) c->is_cut = true;
            if (far - to == MOST_ENDS) break;
            insert(chosen, &n, (step_to){.group = d, .to = to, .waste = waste});
        }
    }
    return n;
}

static bool walk_from(berth_cover *c, const rest_of *r, uint64_t island)
{
    step_to chosen[MOST * MOST_ENDS];
    int32_t last = c->n_heads > 0 ? c->heads[c->n_heads - 1] : -1;
    if (r->left == c->n_atoms) {
        c->is_found = true;
        memcpy(c->order, c->heads, sizeof c->order);
        c->n_order = c->n_heads;
        return true;
    }
    if (++c->steps > c->most_steps) return true;
    if (r->used && was_here(c, r)) return false;
    int32_t n = choose_walk(c, r, last, island, chosen);
    for (int32_t i = 0; i < n; i++) {
        int32_t d = chosen[i].group, to = chosen[i].to;
        rest_of next = {.used = r->used | (uint64_t)1 << d,
                        .left = to,
                        .right = r->right,
                        .by = 1 + d,
                        .to_waste = r->to_waste - chosen[i].waste};
        c->ends[c->n_heads] = to;
        c->heads[c->n_heads++] = d;
        bool is_over = walk_from(c, &next, island);
        c->n_heads--;
        if (is_over) return true;
    }
    return false;
}

bool berth_cover_walk(berth_cover *c, uint64_t island)
{
    start_over(c);
    return walk_from(c, &(rest_of){.right = c->n_atoms, .to_waste = -c->best_excess}, island);
}

/* ---- exchanges ---- */

void berth_cover_exchange(berth_cover *c, uint64_t island)
{
    uint64_t seed = 0x9E3779B97F4A7C15u;
    c->n_order = 0;
    for (; island; island &= island - 1) c->order[c->n_order++] = __builtin_ctzll(island);
    if (c->n_order < 2) return;
    int32_t far = reach(c, c->order, c->n_order, 0), n = c->n_order;
    for (int64_t k = 0; k < c->most_steps && far < c->n_atoms; k++) {
        seed ^= seed >> 12; /* xorshift64*: the same answer everywhere */
        seed ^= seed << 25;
        seed ^= seed >> 27;
        uint64_t drawn = seed * 0x2545F4914F6CDD1Du;
        int32_t i = (int32_t)((drawn >> 33) % (uint64_t)n), j = (int32_t)((drawn & 0xffffffff) % (uint64_t)n);
        int32_t a = c->order[i], b = c->order[j];
        if (c->kind_of[a] == c->kind_of[b]) continue;
        c->order[i] = b;
        c->order[j] = a;
        int32_t now = reach(c, c->order, n, 0);
        if (now >= far) {
            far = now;
            continue;
        }
        c->order[i] = a;
        c->order[j] = b;
    }
    c->is_found = far == c->n_atoms;
    for (int32_t i = 0, at = 0; i < n; i++) c->ends[i] = at = reach(c, &c->order[i], 1, at);
}
