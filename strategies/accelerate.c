/* accelerate.c - the greedy placer (infer_auto_device_map) and the cleaning of its map; see accelerate.h.
 *
 * The list of what is still to be placed is kept as links between tree entries: an entry is in it at most once, and never together with one of its ancestors, so "the entry
 * that owns a name" is a walk up the tree. What looks odd here is what accelerate does; each such place says so. */
#include "strategies/accelerate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/accelerate_internal.h"
#include "strategies/words.h"

typedef struct placer {
    const berth_accelerate_request *req;
    const berth_tree *t;
    berth_accelerate_result *out;
    berth_error *err;
    int32_t n_entries, head;    /* of the list; -1 = empty */
    int32_t *next, *prev;       /* [n_entries]; -1 = none; next = NOT_LISTED where the entry is not in the list */
    int64_t *bits;              /* [n_entries] */
    bool *is_float;             /* [n_entries]: the size is a float in Python, as are those below */
    bool *is_no_split;          /* [n_modules] */
    double *used;               /* [n_devices] bytes */
    bool *used_is_float;        /* [n_devices] */
    bool *is_main;              /* [n_devices]: room for the largest layer is kept on it, in case it is offloaded */
    int32_t n_devices, current; /* out->budgets, with a disk behind them where there is none */
    int64_t largest_bits;
    bool largest_is_float;
    int32_t *largest, n_largest; /* [n_modules + n_tensors]: names of the largest layer that are not placed yet */
    int32_t *ties, *owners,
        n_ties; /* [n_tensors]: tensors tied to the entry at hand, and the listed entries that hold them */
} placer;

enum { NOT_LISTED = -2 };

/* ---- the list ---- */

static bool is_listed(const placer *p, int32_t e)
{
    return p->next[e] != NOT_LISTED;
}

static void insert_after(placer *p, int32_t before, int32_t e) /* before = -1: at the front */
{
    int32_t after = before < 0 ? p->head : p->next[before];
    p->next[e] = after;
    p->prev[e] = before;
    if (after >= 0) p->prev[after] = e;
    if (before < 0)
        p->head = e;
    else
        p->next[before] = e;
}

static void take_out(placer *p, int32_t e)
{
    if (p->prev[e] < 0)
        p->head = p->next[e];
    else
        p->next[p->prev[e]] = p->next[e];
    if (p->next[e] >= 0) p->prev[p->next[e]] = p->prev[e];
    p->next[e] = NOT_LISTED;
}

static bool is_module(const placer *p, int32_t e)
{
    return e < p->t->n_modules;
}

static bool has_children(const placer *p, int32_t e)
{
    return is_module(p, e) && p->t->modules[e].first_child >= 0;
}

static bool can_divide(const placer *p, int32_t e)
{
    return has_children(p, e) && !p->is_no_split[e];
}

/* A parameter that the same module names twice is listed once, as named_parameters does. */
static bool is_second_name(const placer *p, int32_t tensor)
{
    const berth_tree_tensor *x = &p->t->tensors[tensor];
    for (int32_t i = p->t->modules[x->module].first_param; i < tensor; i++)
        if (x->group >= 0 && p->t->tensors[i].group == x->group) return true;
    return false;
}

/* Lists a module's own parameters, then its children, behind `before`; gives the last one listed. Its buffers are forgotten: an accelerate
 * defect (issue 4014). */
static int32_t list_parts(placer *p, int32_t module, int32_t before)
{
    const berth_tree_module *m = &p->t->modules[module];
    for (int32_t i = m->first_param; i < m->first_param + m->n_params; i++) {
        if (is_second_name(p, i)) continue;
        insert_after(p, before, p->t->n_modules + i);
        before = p->t->n_modules + i;
    }
    for (int32_t c = m->first_child; c >= 0; c = p->t->modules[c].next_sibling) {
        insert_after(p, before, c);
        before = c;
    }
    return before;
}

static int32_t divide(placer *p, int32_t module)
{
    int32_t before = p->prev[module];
    take_out(p, module);
    return list_parts(p, module, before);
}

/* ---- the largest layer left ---- */

static void offer_layer(placer *p, int32_t e)
{
    if (p->bits[e] < p->largest_bits) return;
    if (p->bits[e] > p->largest_bits) {
        p->n_largest = 0;
        p->largest_is_float = p->is_float[e]; /* of several as large, the first */
    }
    p->largest_bits = p->bits[e];
    p->largest[p->n_largest++] = e;
}

static void offer_layers_under(placer *p, int32_t e)
{
    if (!can_divide(p, e)) {
        offer_layer(p, e);
        return;
    }
    int32_t at = p->t->modules[e].first_child; /* depth first without recursion: trees may be deep */
    while (at >= 0) {
        if (can_divide(p, at)) {
            at = p->t->modules[at].first_child;
            continue;
        }
        offer_layer(p, at);
        while (at != e && p->t->modules[at].next_sibling < 0) at = p->t->modules[at].parent;
        if (at == e) break;
        at = p->t->modules[at].next_sibling;
    }
}

static void find_largest(placer *p, bool with_tensors)
{
    p->largest_bits = 0;
    p->largest_is_float = false;
    p->n_largest = 0;
    for (int32_t e = p->head; e >= 0; e = p->next[e])
        if (with_tensors || is_module(p, e)) offer_layers_under(p, e);
}

static bool is_under(const placer *p, int32_t e, int32_t above)
{
    while (e >= 0 && e != above) e = berth_tree_parent(p->t, e);
    return e == above;
}

/* The entry at hand no longer counts; when no name of the largest layer is left, the next largest is looked for, among modules only. */
static void update_largest(placer *p, int32_t taken)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < p->n_largest; i++)
        if (!is_under(p, p->largest[i], taken)) p->largest[kept++] = p->largest[i];
    p->n_largest = kept;
    if (kept == 0) find_largest(p, false);
}

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
    while (e >= 0 && !is_listed(p, e)) e = berth_tree_parent(p->t, e);
    return e;
}

/* Collects the names outside e of groups that have names inside and outside, in registration order of groups, sorted within. */
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
    int64_t bits = p->bits[e];
    out->is_float = p->is_float[e];
    collect_ties(p, e);
    for (int32_t i = 0; i < p->n_ties; i++) {
        p->owners[i] = owner_of(p, p->ties[i]);
        if (p->owners[i] < 0) return raise_index_error(p, p->ties[i]);
        bits += p->bits[p->owners[i]] - p->bits[p->ties[i]];
        out->is_float |= p->is_float[p->owners[i]] || p->is_float[p->ties[i]];
    }
    out->bytes = (double)bits / 8;
    return BERTH_OK;
}

/* ---- placing ---- */

static int32_t device_at(const placer *p, int32_t index)
{
    return index < p->out->n_budgets ? p->out->budgets[index].device : BERTH_ACCELERATE_DISK;
}

/* Gives e a device; an owner that was given one before (two ties in one module) keeps its place in the order, as a dict does. */
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
        if (is_listed(p, p->owners[i])) take_out(p, p->owners[i]);
        assign(p, p->owners[i]);
    }
}

/* Divides the first owner of a tie that can be. */
static bool divide_an_owner(placer *p)
{
    for (int32_t i = 0; i < p->n_ties; i++) {
        if (!can_divide(p, p->owners[i])) continue;
        divide(p, p->owners[i]);
        return true;
    }
    return false;
}

/* The search of fallback_allocate: uses the list up. *chosen = -1: nothing fits. */
static berth_status find_what_fits(placer *p, double limit, int32_t *chosen)
{
    *chosen = -1;
    while (p->head >= 0) {
        int32_t e = p->head;
        needed need = {0};
        take_out(p, e);
        berth_status st = size_with_ties(p, e, &need);
        if (st != BERTH_OK) return st;
        if (need.bytes <= limit) {
            *chosen = e;
            return BERTH_OK;
        }
        if (can_divide(p, e)) list_parts(p, e, -1);
    }
    return BERTH_OK;
}

/* fallback_allocate: the first part of the list, divided as far as need be, that fits into `limit`, lifted to the list's front. */
static berth_status fall_back(placer *p, double limit, bool *found)
{
    *found = false;
    if (limit < 0) return BERTH_OK;
    size_t bytes = (size_t)p->n_entries * sizeof *p->next;
    int32_t *kept = malloc(2 * bytes), head = p->head, chosen;
    if (!kept) return no_memory(p);
    memcpy(kept, p->next, bytes);
    memcpy(kept + p->n_entries, p->prev, bytes);
    berth_status st = find_what_fits(p, limit, &chosen);
    memcpy(p->next, kept, bytes);
    memcpy(p->prev, kept + p->n_entries, bytes);
    p->head = head;
    free(kept);
    if (st != BERTH_OK || chosen < 0) return st;
    while (!is_listed(p, chosen)) { /* divide the listed ancestor, and what of it is on the way */
        int32_t above = berth_tree_parent(p->t, chosen);
        while (!is_listed(p, above)) above = berth_tree_parent(p->t, above);
        divide(p, above);
    }
    take_out(p, chosen);
    insert_after(p, -1, chosen);
    *found = true;
    return BERTH_OK;
}

/* What the device at hand, still empty, has room for beside the larger of the reserve and the need; accelerate cannot
 * read its own limit where that is a float. */
static berth_status fallback_limit(placer *p, const needed *need, double *out)
{
    const berth_accelerate_budget *b = &p->out->budgets[p->current];
    double largest = (double)p->largest_bits / 8;
    bool takes_need = need->bytes > largest; /* max() gives the first of two that are equal */
    *out = b->bytes - (takes_need ? need->bytes : largest);
    if (!b->is_float && !p->used_is_float[p->current] && !(takes_need ? need->is_float : p->largest_is_float))
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
    int32_t e = p->head;
    needed need = {0};
    take_out(p, e);
    update_largest(p, e);
    berth_status st = size_with_ties(p, e, &need);
    if (st != BERTH_OK) return st;
    bool is_disk = device_at(p, p->current) == BERTH_ACCELERATE_DISK;
    double own = (double)p->bits[e] / 8, budget = is_disk ? INFINITY : p->out->budgets[p->current].bytes;
    double reserve = p->is_main[p->current] ? (double)p->largest_bits / 8 : 0, used = p->used[p->current];
    double room = budget - reserve; /* may be negative: then not even nothing fits */
    if (used + need.bytes <= room) {
        assign_with_ties(p, e, &need);
        return BERTH_OK;
    }
    if (p->n_ties > 0 && used + own <= room && divide_an_owner(p)) {
        insert_after(p, -1, e);
        find_largest(p, false); /* e is among the modules looked at here, unlike after a division of e */
        return BERTH_OK;
    }
    if (used + own >= room && can_divide(p, e)) {
        list_parts(p, e, -1);
        find_largest(p, false);
        return BERTH_OK;
    }
    if (p->req->fallback && used == 0 && !is_disk) {
        bool found = false;
        double limit;
        st = fallback_limit(p, &need, &limit);
        if (st == BERTH_OK) st = fall_back(p, limit, &found);
        if (st != BERTH_OK) return st;
        if (found) { /* it stands first; e goes behind it */
            insert_after(p, p->head, e);
            return BERTH_OK;
        }
    }
    p->used[p->current] += reserve; /* charged although nothing was offloaded: an accelerate defect */
    p->current++;
    insert_after(p, -1, e);
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

/* Where two or more keys lie strictly under a module and have one device, its name stands for them; of such modules the outermost. */
static bool clean(placer *p)
{
    const berth_tree *t = p->t;
    int32_t *own = calloc((size_t)p->n_entries, sizeof *own);
    keys_under *under = calloc((size_t)t->n_modules, sizeof *under);
    if (!own || !under) {
        free(own);
        free(under);
        return false;
    }
    for (int32_t e = 0; e < p->n_entries; e++) own[e] = NO_KEY;
    for (int32_t i = 0; i < p->out->n_raw; i++) own[p->out->raw[i].entry] = p->out->raw[i].device;
    for (int32_t e = p->n_entries - 1; e > 0; e--) { /* tensors, then modules: children before parents */
        keys_under *above = &under[berth_tree_parent(t, e)];
        if (own[e] != NO_KEY) add_keys(above, 1, own[e], false);
        if (is_module(p, e)) add_keys(above, under[e].count, under[e].device, under[e].is_mixed);
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
    size_t n = (size_t)p->n_entries;
    p->next = malloc(n * sizeof *p->next);
    p->prev = malloc(n * sizeof *p->prev);
    p->bits = calloc(n, sizeof *p->bits);
    p->is_float = calloc(n, sizeof *p->is_float);
    p->largest = malloc(n * sizeof *p->largest);
    p->ties = malloc((n + 1) * sizeof *p->ties);
    p->owners = malloc((n + 1) * sizeof *p->owners);
    p->is_no_split = calloc((size_t)p->t->n_modules, sizeof *p->is_no_split);
    p->used = calloc((size_t)p->n_devices, sizeof *p->used);
    p->used_is_float = calloc((size_t)p->n_devices, sizeof *p->used_is_float);
    p->is_main = calloc((size_t)p->n_devices, sizeof *p->is_main);
    p->out->raw = calloc(n, sizeof *p->out->raw);
    p->out->map = calloc(n, sizeof *p->out->map);
    return p->next && p->prev && p->bits && p->is_float && p->largest && p->ties && p->owners && p->is_no_split &&
           p->used && p->used_is_float && p->is_main && p->out->raw && p->out->map;
}

static void release(placer *p)
{
    free(p->next);
    free(p->prev);
    free(p->bits);
    free(p->is_float);
    free(p->largest);
    free(p->ties);
    free(p->owners);
    free(p->is_no_split);
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

static void start(placer *p)
{
    const berth_tree *t = p->t;
    for (int32_t e = 0; e < p->n_entries; e++) p->next[e] = NOT_LISTED;
    p->head = -1;
    for (int32_t m = 0; m < t->n_modules; m++)
        for (int32_t c = 0; c < p->req->n_no_split && !p->is_no_split[m]; c++)
            p->is_no_split[m] = strcmp(t->modules[m].class_name, p->req->no_split[c]) == 0;
    int32_t last = list_parts(p, 0, -1);
    for (int32_t i = 0; i < t->modules[0].n_buffers; i++) { /* the root's buffers are the only ones that are listed */
        int32_t e = t->n_modules + t->modules[0].first_buffer + i;
        insert_after(p, last, e);
        last = e;
    }
    find_largest(p, true);
}

static berth_status run(placer *p)
{
    bool has_disk = p->out->n_budgets > 0 && p->out->budgets[p->out->n_budgets - 1].device == BERTH_ACCELERATE_DISK;
    p->n_devices = p->out->n_budgets + !has_disk;
    if (!allocate(p)) return no_memory(p);
    berth_accelerate_read_sizes(p->t, p->req->dtype_bits, p->bits, p->is_float);
    p->out->total_bytes = (double)p->bits[0] / 8;
    if (p->req->strategy != BERTH_ACCELERATE_SEQUENTIAL) {
        berth_status st = berth_accelerate_balance(p->req, p->bits, p->is_float[0], p->out, p->err);
        if (st != BERTH_OK) return st;
    }
    mark_main(p);
    start(p);
    while (p->head >= 0) { /* ends: each round places, divides, or goes one device on, and disk takes everything */
        berth_status st = place_next(p);
        if (st != BERTH_OK) return st;
    }
    return clean(p) ? BERTH_OK : no_memory(p);
}

berth_status berth_accelerate_place(const berth_accelerate_request *req, berth_accelerate_result *out, berth_error *err)
{
    *out = (berth_accelerate_result){0};
    placer p = {
        .req = req, .t = req->tree, .out = out, .err = err, .n_entries = req->tree->n_modules + req->tree->n_tensors};
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
