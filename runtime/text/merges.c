/* merges.c - see merges.h. Short words (nearly all) are merged by looking for the best pair again and again; long ones
 * with a heap of pairs over a linked list, in which entries that have gone stale are recognised when they come up. */
#include "text/merges.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/vocab.h"

#define SHORT_WORD 32
#define BATCH      16 /* table slots asked of memory at once */
#define NO_RANK    UINT32_MAX

void berth_merges_deinit(berth_merges *m)
{
    free(m->list);
    free(m->slots);
    *m = (berth_merges){0};
}

bool berth_merges_add(berth_merges *m, berth_merge merge)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 1024, bytes;
        if (cap >= NO_RANK || !berth_mul_size(cap, sizeof *m->list, &bytes)) return false;
        berth_merge *list = realloc(m->list, bytes);
        if (!list) return false;
        m->list = list;
        m->cap = cap;
    }
    m->list[m->n++] = merge;
    return true;
}

static inline uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t slot_of(const berth_merges *m, uint64_t pair)
{
    size_t mask = m->n_slots - 1;
    size_t i = berth_text_mix(pair, m->seed) & mask;
    while (m->slots[i].pair != pair && m->slots[i].pair != UINT64_MAX) i = (i + 1) & mask;
    return i;
}

/* Merges [first, last), their slots asked of memory together before the first is needed. */
static bool index_batch(berth_merges *m, size_t first, size_t last, size_t *out_twice)
{
    for (size_t rank = first; rank < last; rank++) {
        uint64_t pair = pair_of(m->list[rank].left, m->list[rank].right);
        __builtin_prefetch(&m->slots[berth_text_mix(pair, m->seed) & (m->n_slots - 1)], 1);
    }
    for (size_t rank = first; rank < last; rank++) {
        uint64_t pair = pair_of(m->list[rank].left, m->list[rank].right);
        berth_merge_slot *s = &m->slots[slot_of(m, pair)];
        if (s->pair == pair) {
            *out_twice = rank;
            return false;
        }
        *s = (berth_merge_slot){pair, (uint32_t)rank, m->list[rank].id};
    }
    return true;
}

bool berth_merges_index(berth_merges *m, size_t *out_twice)
{
    *out_twice = m->n;
    size_t n_slots = 64, bytes;
    while (n_slots < m->n + m->n / 2) n_slots *= 2;
    if (!berth_mul_size(n_slots, sizeof *m->slots, &bytes)) return false;
    free(m->slots);
    m->slots = malloc(bytes);
    if (!m->slots) return false;
    memset(m->slots, 0xFF, bytes);
    m->n_slots = n_slots;
    m->seed = berth_text_seed();
    for (size_t rank = 0; rank < m->n; rank += BATCH) {
        size_t last = m->n - rank < BATCH ? m->n : rank + BATCH;
        if (!index_batch(m, rank, last, out_twice)) return false;
    }
    return true;
}

static uint32_t rank_of(const berth_merges *m, int32_t left, int32_t right)
{
    const berth_merge_slot *s = &m->slots[slot_of(m, pair_of(left, right))];
    return s->pair == UINT64_MAX ? NO_RANK : s->rank;
}

static size_t apply_short(const berth_merges *m, int32_t *ids, size_t n)
{
    uint32_t rank[SHORT_WORD]; /* of the pair (i, i + 1) */
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(m, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        ids[best] = m->list[rank[best]].id;
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(rank + best + 1, rank + best + 2, (n - best - 2) * sizeof *rank);
            rank[best] = rank_of(m, ids[best], ids[best + 1]);
        }
        if (best) rank[best - 1] = rank_of(m, ids[best - 1], ids[best]);
    }
    return n;
}

/* ---- long words ---- */

/* Keys are rank << 32 | position, so that the least key is the lowest rank and, among equals, the leftmost pair. */
typedef struct work {
    const berth_merges *m;
    int32_t *ids;          /* -1: swallowed by the token before */
    uint32_t *next, *prev; /* UINT32_MAX: none */
    uint64_t *heap;
    size_t n_heap;
} work;

static void heap_push(work *w, uint64_t key)
{
    size_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
}

static uint64_t heap_pop(work *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void push_pair(work *w, uint32_t i)
{
    uint32_t j = w->next[i];
    if (j == UINT32_MAX) return;
    uint32_t rank = rank_of(w->m, w->ids[i], w->ids[j]);
    if (rank != NO_RANK) heap_push(w, (uint64_t)rank << 32 | i);
}

static void merge_best(work *w)
{
    uint64_t key = heap_pop(w);
    uint32_t i = (uint32_t)key, j = w->next[i];
    const berth_merge *merge = &w->m->list[key >> 32];
    if (w->ids[i] != merge->left || j == UINT32_MAX || w->ids[j] != merge->right) return; /* stale */
    w->ids[i] = merge->id;
    w->ids[j] = -1;
    w->next[i] = w->next[j];
    if (w->next[i] != UINT32_MAX) w->prev[w->next[i]] = i;
    push_pair(w, i);
    if (w->prev[i] != UINT32_MAX) push_pair(w, w->prev[i]);
}

static size_t apply_long(const berth_merges *m, int32_t *ids, size_t n)
{
    size_t bytes; /* at most n - 1 pairs at first and two more with each of n - 1 merges */
    if (n >= INT32_MAX || !berth_mul_size(n, 3 * sizeof(uint64_t) + 2 * sizeof(uint32_t), &bytes)) return SIZE_MAX;
    uint64_t *heap = malloc(bytes);
    if (!heap) return SIZE_MAX;
    work w = {.m = m, .ids = ids, .heap = heap, .next = (uint32_t *)(heap + 3 * n)};
    w.prev = w.next + n;
    for (size_t i = 0; i < n; i++) {
        w.next[i] = i + 1 < n ? (uint32_t)i + 1 : UINT32_MAX;
        w.prev[i] = i ? (uint32_t)i - 1 : UINT32_MAX;
    }
    for (size_t i = 0; i < n; i++) push_pair(&w, (uint32_t)i);
    while (w.n_heap) merge_best(&w);
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) ids[left++] = ids[i];
    free(heap);
    return left;
}

size_t berth_merges_apply(const berth_merges *m, int32_t *ids, size_t n)
{
    if (n < 2 || !m->n) return n;
    return n <= SHORT_WORD ? apply_short(m, ids, n) : apply_long(m, ids, n);
}
