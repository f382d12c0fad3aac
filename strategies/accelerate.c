/* accelerate.c - the greedy placer (infer_auto_device_map) and the cleaning of its map; see accelerate.h. What looks
 * odd here is what accelerate does; each such place says so. */
#include "strategies/accelerate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/accelerate_internal.h"
#include "strategies/accelerate_pending.h"
#include "strategies/words.h"

typedef struct placer {
    const berth_accelerate_request *req;
    const berth_tree *t;
    berth_accelerate_result *out;
    berth_error *err;
    berth_pending list;         /* what is still to be placed */
    double *used;               /* [n_devices] bytes */
    bool *used_is_float;        /* [n_devices]: a float in Python */
    bool *is_main;              /* [n_devices]: room for the largest layer is kept on it, in case it is offloaded */
    int32_t n_devices, current; /* out->budgets, with a disk behind them where there is none */
    int32_t *ties, n_ties;      /* [n_tensors]: tensors tied to the entry at hand */
    int32_t *owners;            /* [n_ties]: the listed entries that hold them */
} placer;

/* ---- ties ---- */

/* Is "name." a substring of "tensor."? A prefix is meant; that any place matches is an accelerate defect. */
static bool touches(const char *name, const char *tensor)
{
    size_t name_len = strlen(name), len = strlen(tensor);
    if (name_len > len) return false;
    for (const char *at = tensor; (at = strstr(at, name)); at++)
        if (at[name_len] == '.' || at[name_len] == '\0') return true;
    return false;
}

static berth_status no_memory(const placer *p)
{
    return berth_refuse(p->err, BERTH_OUT_OF_MEMORY, "no memory for the placement");
}

static berth_status raise_index_error(placer *p, int32_t tensor)
{
    p->out->raises = "IndexError";
    return berth_refuse(p->err, BERTH_UNSUPPORTED,
                        "accelerate raises IndexError: nothing left to place contains the tied parameter %.200s, which "
                        "was divided off or placed before; berth's own strategies take such models",
                        berth_tree_path(p->t, tensor));
}

/* The listed entry that is strictly above the tensor; -1 = none. */
static int32_t owner_of(const placer *p, int32_t tensor)
{
    int32_t e = berth_tree_parent(p->t, tensor);
    while (e >= 0 && !berth_pending_has(&p->list, e)) e = berth_tree_parent(p->t, e);
    return e;
}

/* Collects the names outside e of groups that have names inside and outside, in registration order of groups, sorted
 * within. */
static void collect_ties(placer *p, int32_t e)
{
    p->n_ties = 0;
    const char *name = berth_tree_path(p->t, e);
    const berth_tree *t = p->t;
    for (int32_t first = 0; t->n_groups > 0 && first < t->n_tensors; first++) {
        if (t->tensors[first].group < 0 || !t->tensors[first].is_counted) continue; /* once for each group */
        int32_t n_inside = 0, n_outside = 0, start = p->n_ties;
        for (int32_t i = first; i < t->n_tensors; i++) {
            if (t->tensors[i].group != t->tensors[first].group) continue;
            if (touches(name, t->tensors[i].path)) {
                n_inside++;
                continue;
            }
            n_outside++;
            int32_t at = p->n_ties++; /* insertion sort by name */
            while (at > start && strcmp(berth_tree_path(t, p->ties[at - 1]), t->tensors[i].path) > 0) {
                p->ties[at] = p->ties[at - 1];
                at--;
            }
            p->ties[at] = t->n_modules + i;
        }
        if (n_inside == 0 || n_outside == 0) p->n_ties = start;
    }
}

typedef struct needed {
    double bytes;
    bool is_float;
} needed;

/* e with all that is tied to it. A partner that is nowhere below a listed entry makes accelerate raise. */
static berth_status size_with_ties(placer *p, int32_t e, needed *out)
{
    int64_t bits = p->list.bits[e];
    out->is_float = p->list.is_float[e];
    collect_ties(p, e);
    for (int32_t i = 0; i < p->n_ties; i++) {
        p->owners[i] = owner_of(p, p->ties[i]);
        if (p->owners[i] < 0) return raise_index_error(p, p->ties[i]);
        bits += p->list.bits[p->owners[i]] - p->list.bits[p->ties[i]];
        out->is_float |= p->list.is_float[p->owners[i]] || p->list.is_float[p->ties[i]];
    }
    out->bytes = (double)bits / 8;
    return BERTH_OK;
}

/* ---- placing ---- */

static int32_t device_at(const placer *p, int32_t index)
{
    return index < p->out->n_budgets ? p->out->budgets[index].device : BERTH_ACCELERATE_DISK;
}

/* Gives e a device; an owner that was given one before (two ties in one module) keeps its place in the order, as a dict
 * does. */
static void assign(placer *p, int32_t e)
{
    int32_t device = device_at(p, p->current);
    for (int32_t i = 0; p->n_ties > 0 && i < p->out->n_raw; i++) {
        if (p->out->raw[i].entry != e) continue;
        p->out->raw[i].device = device;
        return;
    }
    p->out->raw[p->out->n_raw++] = (berth_accelerate_entry){.entry = e, .device = device};
}

static void assign_with_ties(placer *p, int32_t e, const needed *need)
{
    p->used[p->current] += need->bytes;
    p->used_is_float[p->current] |= need->is_float;
    assign(p, e);
    for (int32_t i = 0; i < p->n_ties; i++) {
        if (berth_pending_has(&p->list, p->owners[i])) berth_pending_take_out(&p->list, p->owners[i]);
        assign(p, p->owners[i]);
    }
}

/* Divides the first owner of a tie that can be. */
static bool divide_an_owner(placer *p)
{
    for (int32_t i = 0; i < p->n_ties; i++) {
        if (!berth_pending_can_divide(&p->list, p->owners[i])) continue;
        berth_pending_divide(&p->list, p->owners[i]);
        return true;
    }
    return false;
}

/* The search of fallback_allocate: uses the list up. *chosen = -1: nothing fits. */
static berth_status find_what_fits(placer *p, double limit, int32_t *chosen)
{
    *chosen = -1;
    while (p->list.head >= 0) {
        int32_t e = p->list.head;
        needed need = {0};
        berth_pending_take_out(&p->list, e);
        berth_status st = size_with_ties(p, e, &need);
        if (st != BERTH_OK) return st;
        if (need.bytes <= limit) {
            *chosen = e;
            return BERTH_OK;
        }
        if (berth_pending_can_divide(&p->list, e)) berth_pending_list_parts(&p->list, e, -1);
    }
    return BERTH_OK;
}

/* fallback_allocate: the first part of the list, divided as far as need be, that fits into `limit`, lifted to the
 * list's front. */
static berth_status fall_back(placer *p, double limit, bool *found)
{
    *found = false;
    if (limit < 0) return BERTH_OK;
    size_t bytes = (size_t)p->list.n_entries * sizeof *p->list.next;
    int32_t *kept = malloc(2 * bytes), head = p->list.head, chosen;
    if (!kept) return no_memory(p);
    memcpy(kept, p->list.next, bytes);
    memcpy(kept + p->list.n_entries, p->list.prev, bytes);
    berth_status st = find_what_fits(p, limit, &chosen);
    memcpy(p->list.next, kept, bytes);
    memcpy(p->list.prev, kept + p->list.n_entries, bytes);
    p->list.head = head;
    free(kept);
    if (st != BERTH_OK || chosen < 0) return st;
    while (!berth_pending_has(&p->list, chosen)) { /* divide the listed ancestor, and what of it is on the way */
        int32_t above = berth_tree_parent(p->t, chosen);
        while (!berth_pending_has(&p->list, above)) above = berth_tree_parent(p->t, above);
        berth_pending_divide(&p->list, above);
    }
    berth_pending_take_out(&p->list, chosen);
    berth_pending_insert(&p->list, -1, chosen);
    *found = true;
    return BERTH_OK;
}

/* What the device at hand, still empty, has room for beside the larger of the reserve and the need; accelerate cannot
 * read its own limit where that is a float. */
static berth_status fallback_limit(placer *p, const needed *need, double *out)
{
    const berth_accelerate_budget *b = &p->out->budgets[p->current];
    double largest = (double)p->list.largest_bits / 8;
    bool takes_need = need->bytes > largest; /* max() gives the first of two that are equal */
    *out = b->bytes - (takes_need ? need->bytes : largest);
    if (!b->is_float && !p->used_is_float[p->current] && !(takes_need ? need->is_float : p->list.largest_is_float))
        return BERTH_OK;
    p->out->raises = "AttributeError";
    return berth_refuse(p->err, BERTH_UNSUPPORTED,
                        "accelerate raises AttributeError: fallback allocation cannot read a limit that is a float "
                        "('float' object has no attribute 'upper'), as it is with types smaller than a byte; leave "
                        "out fallback allocation");
}

/* One round: takes the list's first entry, and places it, divides it, or leaves the device. */
static berth_status place_next(placer *p)
{
    int32_t e = p->list.head;
    needed need = {0};
    berth_pending_take_out(&p->list, e);
    berth_pending_update_largest(&p->list, e);
    berth_status st = size_with_ties(p, e, &need);
    if (st != BERTH_OK) return st;
    bool is_disk = device_at(p, p->current) == BERTH_ACCELERATE_DISK;
    double own = (double)p->list.bits[e] / 8, budget = is_disk ? INFINITY : p->out->budgets[p->current].bytes;
    double reserve = p->is_main[p->current] ? (double)p->list.largest_bits / 8 : 0, used = p->used[p->current];
    double room = budget - reserve; /* may be negative: then not even nothing fits */
    if (used + need.bytes <= room) {
        assign_with_ties(p, e, &need);
        return BERTH_OK;
    }
    if (p->n_ties > 0 && used + own <= room && divide_an_owner(p)) {
        berth_pending_insert(&p->list, -1, e);
        /* e is among the modules looked at here, unlike after a division of e */
        berth_pending_find_largest(&p->list, false);
        return BERTH_OK;
    }
    if (used + own >= room && berth_pending_can_divide(&p->list, e)) {
        berth_pending_list_parts(&p->list, e, -1);
        berth_pending_find_largest(&p->list, false);
        return BERTH_OK;
    }
    if (p->req->fallback && used == 0 && !is_disk) {
        bool found = false;
        double limit;
        st = fallback_limit(p, &need, &limit);
        if (st == BERTH_OK) st = fall_back(p, limit, &found);
        if (st != BERTH_OK) return st;
        if (found) { /* it stands first; e goes behind it */
            berth_pending_insert(&p->list, p->list.head, e);
            return BERTH_OK;
        }
    }
    p->used[p->current] += reserve; /* charged although nothing was offloaded: an accelerate defect */
    p->current++;
    berth_pending_insert(&p->list, -1, e);
    return BERTH_OK;
}

/* ---- cleaning ---- */

/* The raw keys strictly under a module. */
typedef struct keys_under {
    int32_t count, device;   /* device: of the first one met */
    bool is_mixed, is_taken; /* is_taken: this module's name, or one above it, stands for them */
} keys_under;

enum { NO_KEY = BERTH_ACCELERATE_DISK - 1 };

static void add_keys(keys_under *to, int32_t count, int32_t device, bool is_mixed)
{
    if (count == 0) return;
    to->is_mixed |= is_mixed || (to->count > 0 && to->device != device);
    to->device = device;
    to->count += count;
}

static void emit(placer *p, int32_t e, int32_t device)
{
    if (device != NO_KEY) p->out->map[p->out->n_map++] = (berth_accelerate_entry){.entry = e, .device = device};
}

/* Where two or more keys lie strictly under a module and have one device, its name stands for them; of such modules the
 * outermost. */
static bool clean(placer *p)
{
    const berth_tree *t = p->t;
    int32_t *own = calloc((size_t)p->list.n_entries, sizeof *own);
    keys_under *under = calloc((size_t)t->n_modules, sizeof *under);
    if (!own || !under) {
        free(own);
        free(under);
        return false;
    }
    for (int32_t e = 0; e < p->list.n_entries; e++) own[e] = NO_KEY;
    for (int32_t i = 0; i < p->out->n_raw; i++) own[p->out->raw[i].entry] = p->out->raw[i].device;
    for (int32_t e = p->list.n_entries - 1; e > 0; e--) { /* tensors, then modules: children before parents */
        keys_under *above = &under[berth_tree_parent(t, e)];
        if (own[e] != NO_KEY) add_keys(above, 1, own[e], false);
        if (e < t->n_modules) add_keys(above, under[e].count, under[e].device, under[e].is_mixed);
    }
    for (int32_t m = 0; m < t->n_modules; m++) {
        bool above_is_taken = m > 0 && under[t->modules[m].parent].is_taken;
        bool is_one = under[m].count > 1 && !under[m].is_mixed;
        under[m].is_taken = above_is_taken || is_one;
        if (!above_is_taken) emit(p, m, is_one ? under[m].device : own[m]);
        int32_t n = t->modules[m].n_params + t->modules[m].n_buffers;
        for (int32_t i = 0; i < n && !under[m].is_taken; i++) {
            int32_t e = t->n_modules + t->modules[m].first_param + i;
            emit(p, e, own[e]);
        }
    }
    free(own);
    free(under);
    return true;
}

/* ---- whole ---- */

static int by_device(const void *a, const void *b)
{
    int32_t x = ((const berth_accelerate_budget *)a)->device, y = ((const berth_accelerate_budget *)b)->device;
    if ((x >= 0) != (y >= 0)) return x >= 0 ? -1 : 1;
    return x >= 0 ? (x > y) - (x < y) : (x < y) - (x > y); /* GPUs ascending, then mps, cpu, disk */
}

static berth_status normalise(const berth_accelerate_request *req, berth_accelerate_result *out, berth_error *err)
{
    out->budgets = calloc((size_t)req->n_budgets + 1, sizeof *out->budgets);
    if (!out->budgets) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the budgets");
    for (int32_t i = 0; i < req->n_budgets; i++) {
        berth_accelerate_budget b = req->budgets[i];
        if (b.device < BERTH_ACCELERATE_DISK || !(b.bytes >= 0) || !(b.bytes < 9e18))
            return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                                "a budget is a number of bytes for a GPU, mps, cpu or disk, not below 0");
        for (int32_t k = 0; k < i; k++)
            if (req->budgets[k].device == b.device)
                return berth_refuse(err, BERTH_INVALID_ARGUMENT, "one device has two budgets");
        out->budgets[i] = b;
    }
    out->n_budgets = req->n_budgets;
    qsort(out->budgets, (size_t)out->n_budgets, sizeof *out->budgets, by_device);
    return BERTH_OK;
}

static bool allocate(placer *p)
{
    const size_t n = (size_t)p->t->n_modules + (size_t)p->t->n_tensors, n_devices = (size_t)p->n_devices;
    p->ties = malloc((n + 1) * sizeof *p->ties);
    p->owners = malloc((n + 1) * sizeof *p->owners);
    p->used = calloc(n_devices, sizeof *p->used);
    p->used_is_float = calloc(n_devices, sizeof *p->used_is_float);
    p->is_main = calloc(n_devices, sizeof *p->is_main);
    p->out->raw = calloc(n, sizeof *p->out->raw);
    p->out->map = calloc(n, sizeof *p->out->map);
    return berth_pending_init(&p->list, p->req) && p->ties && p->owners && p->used && p->used_is_float && p->is_main &&
           p->out->raw && p->out->map;
}

static void release(placer *p)
{
    berth_pending_deinit(&p->list);
    free(p->ties);
    free(p->owners);
    free(p->used);
    free(p->used_is_float);
    free(p->is_main);
}

/* Main devices keep room for a layer to be loaded: mps if there is one, else the first GPU and the cpu. */
static void mark_main(placer *p)
{
    bool has_mps = false;
    for (int32_t d = 0; d < p->n_devices; d++) has_mps |= device_at(p, d) == BERTH_ACCELERATE_MPS;
    for (int32_t d = 0; d < p->n_devices; d++) {
        int32_t device = device_at(p, d);
        p->is_main[d] =
            has_mps ? device == BERTH_ACCELERATE_MPS : (d == 0 && device >= 0) || device == BERTH_ACCELERATE_CPU;
    }
}

static berth_status run(placer *p)
{
    bool has_disk = p->out->n_budgets > 0 && p->out->budgets[p->out->n_budgets - 1].device == BERTH_ACCELERATE_DISK;
    p->n_devices = p->out->n_budgets + !has_disk;
    if (!allocate(p)) return no_memory(p);
    p->out->total_bytes = (double)p->list.bits[0] / 8;
    if (p->req->strategy != BERTH_ACCELERATE_SEQUENTIAL) {
        berth_status st = berth_accelerate_balance(p->req, p->list.bits, p->list.is_float[0], p->out, p->err);
        if (st != BERTH_OK) return st;
    }
    mark_main(p);
    while (p->list.head >= 0) { /* ends: each round places, divides, or goes one device on, and disk takes everything */
        berth_status st = place_next(p);
        if (st != BERTH_OK) return st;
    }
    return clean(p) ? BERTH_OK : no_memory(p);
}

berth_status berth_accelerate_strategy_named(const char *name, berth_accelerate_strategy *out, berth_error *err)
{
    static const struct {
        const char *name;
        berth_accelerate_strategy strategy;
    } rows[] = {{"auto", BERTH_ACCELERATE_BALANCED},
                {"balanced", BERTH_ACCELERATE_BALANCED},
                {"balanced_low_0", BERTH_ACCELERATE_BALANCED_LOW_0},
                {"sequential", BERTH_ACCELERATE_SEQUENTIAL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        *out = rows[i].strategy;
        return BERTH_OK;
    }
    return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                        "strategy \"%s\": accelerate has auto, balanced, balanced_low_0 and sequential", name);
}

berth_status berth_accelerate_place(const berth_accelerate_request *req, berth_accelerate_result *out, berth_error *err)
{
    *out = (berth_accelerate_result){0};
    placer p = {.req = req, .t = req->tree, .out = out, .err = err};
    berth_status st = normalise(req, out, err);
    if (st == BERTH_OK) st = run(&p);
    release(&p);
    if (st != BERTH_OK) {
        const char *raises = out->raises;
        berth_accelerate_deinit(out);
        out->raises = raises;
    }
    return st;
}

void berth_accelerate_deinit(berth_accelerate_result *r)
{
    free(r->raw);
    free(r->map);
    free(r->budgets);
    *r = (berth_accelerate_result){0};
}

bool berth_accelerate_device(const berth_tree *tree, const berth_accelerate_result *r, int32_t entry,
                             int32_t *out_device)
{
    for (; entry >= 0; entry = berth_tree_parent(tree, entry))
        for (int32_t i = 0; i < r->n_map; i++)
            if (r->map[i].entry == entry) {
                *out_device = r->map[i].device;
                return true;
            }
    return false;
}
