/* sampler.c - the next token. Scores are float and every processor works on them in place, as torch does in float32:
 * the order of roundings is part of the meaning (dividing by the temperature before or after subtracting the maximum
 * gives other probabilities at low temperatures). A removed token's score is -inf. Source: transformers
 * generation/logits_process.py (RepetitionPenalty, Temperature, TopK, TopP, MinP); Blackman & Vigna 2019, xoshiro256++.
 * */
#include "engine/sampler_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ---------------------------------------------------------------------------------------------------- */

berth_status berth_sampling_check(const berth_sampling *s, berth_error *err)
{
    const berth_status bad = BERTH_INVALID_ARGUMENT;
    if (!isfinite(s->temperature) || s->temperature < 0)
        return BERTH_FAIL(err, bad, "temperature %g: it must be a finite number, not negative", (double)s->temperature);
    if (s->sample && s->temperature == 0)
        return BERTH_FAIL(err, bad,
                          "temperature 0 together with sampling: the temperature must be greater than 0; for "
                          "the most likely token each time, ask for greedy decoding instead");
    if (s->top_k < 0)
        return BERTH_FAIL(err, bad, "top-k %d: it must be a positive integer, or 0 for off", (int)s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return BERTH_FAIL(err, bad, "top-p %g: it must be a number between 0 and 1 (1 = off)", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return BERTH_FAIL(err, bad, "min-p %g: it must be a number between 0 and 1 (0 = off)", (double)s->min_p);
    if (!isfinite(s->repetition_penalty) || s->repetition_penalty <= 0)
        return BERTH_FAIL(err, bad, "repetition penalty %g: it must be a finite number greater than 0 (1 = off)",
                          (double)s->repetition_penalty);
    return BERTH_OK;
}

/* ---- random numbers --------------------------------------------------------------------------------------------- */

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t xoshiro(uint64_t s[4])
{
    uint64_t result = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

static double uniform(uint64_t s[4])
{
    return (double)(xoshiro(s) >> 11) * 0x1p-53;
} /* [0, 1) */

/* ---- life ------------------------------------------------------------------------------------------------------- */

berth_status berth_sampler_create(const berth_sampling *rule, int32_t vocab, berth_sampler **out, berth_error *err)
{
    *out = NULL;
    berth_status st = berth_sampling_check(rule, err);
    if (st != BERTH_OK) return st;
    if (vocab < 1) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a sampler for a vocabulary of %d", (int)vocab);
    berth_sampler *s = calloc(1, sizeof *s);
    if (!s) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "sampler");
    *s = (berth_sampler){.rule = *rule, .vocab = vocab};
    uint64_t state = rule->seed;
    for (int i = 0; i < 4; i++) s->rng[i] = splitmix(&state);
    size_t n = (size_t)vocab;
    s->seen = calloc(n, sizeof *s->seen);
    s->is_seen = calloc(n, 1);
    s->scores = calloc(n, sizeof *s->scores);
    s->probs = calloc(n, sizeof *s->probs);
    s->order = calloc(n, sizeof *s->order);
    if (!s->seen || !s->is_seen || !s->scores || !s->probs || !s->order) {
        berth_sampler_destroy(s);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "sampler for a vocabulary of %d", (int)vocab);
    }
    *out = s;
    return BERTH_OK;
}

void berth_sampler_destroy(berth_sampler *s)
{
    if (!s) return;
    free(s->seen);
    free(s->is_seen);
    free(s->scores);
    free(s->probs);
    free(s->order);
    free(s);
}

void berth_sampler_see(berth_sampler *s, int32_t id)
{
    if (id < 0 || id >= s->vocab || s->is_seen[id]) return;
    s->is_seen[id] = 1;
    s->seen[s->n_seen++] = id;
}

/* ---- processors ------------------------------------------------------------------------------------------------- */

int32_t berth_sampler_argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

float berth_sampler_penalised(const berth_sampler *s, float x)
{
    return x < 0 ? x * s->rule.repetition_penalty : x / s->rule.repetition_penalty;
}

static void penalise(berth_sampler *s)
{
    if (s->rule.repetition_penalty == 1.0f) return;
    for (int32_t i = 0; i < s->n_seen; i++) {
        float *x = &s->scores[s->seen[i]];
        *x = berth_sampler_penalised(s, *x);
    }
}

/* A temperature so low that the best score overflows leaves the best ones only. */
bool berth_sampler_cool(berth_sampler *s)
{
    float t = s->rule.temperature;
    if (t == 1.0f) return false;
    float best = s->scores[berth_sampler_argmax(s->scores, s->n)];
    bool overflows = isinf(best / t);
    for (int32_t i = 0; i < s->n; i++) {
        if (overflows)
            s->scores[i] = s->scores[i] == best ? 0.0f : -INFINITY;
        else
            s->scores[i] /= t;
    }
    return overflows;
}

static void sift_down(float *heap, int32_t n, int32_t at)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[at] <= heap[child]) return;
        float t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
        at = child;
    }
}

/* Keeps every score that is at least the k-th largest: ties with it stay. */
float berth_sampler_keep_top_k(berth_sampler *s)
{
    int32_t k = s->rule.top_k;
    if (k == 0 || k >= s->vocab) return -INFINITY;
    float *heap = s->probs; /* the k largest so far, smallest on top */
    memcpy(heap, s->scores, (size_t)k * sizeof *heap);
    for (int32_t i = k / 2 - 1; i >= 0; i--) sift_down(heap, k, i);
    for (int32_t i = k; i < s->n; i++) {
        if (s->scores[i] <= heap[0]) continue;
        heap[0] = s->scores[i];
        sift_down(heap, k, 0);
    }
    float cut = heap[0];
    for (int32_t i = 0; i < s->n; i++)
        if (s->scores[i] < cut) s->scores[i] = -INFINITY;
    return cut;
}

static void softmax(berth_sampler *s)
{
    float best = s->scores[berth_sampler_argmax(s->scores, s->n)];
    double sum = 0;
    for (int32_t i = 0; i < s->n; i++) {
        s->probs[i] = s->scores[i] == -INFINITY ? 0.0f : expf(s->scores[i] - best);
        sum += (double)s->probs[i];
    }
    for (int32_t i = 0; i < s->n; i++) s->probs[i] = (float)((double)s->probs[i] / sum);
}

/* Is a behind b when the least likely stand first? Of equals the higher index goes first, so that the cut keeps the
 * lower. */
static bool goes_later(const float *p, int32_t a, int32_t b)
{
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift_order(const float *p, int32_t *order, int32_t n, int32_t at)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && goes_later(p, order[child + 1], order[child])) child++;
        if (!goes_later(p, order[child], order[at])) return;
        int32_t t = order[at];
        order[at] = order[child];
        order[child] = t;
        at = child;
    }
}

static void sort_ascending(const float *p, int32_t *order, int32_t n)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--) sift_order(p, order, n, i);
    for (int32_t last = n - 1; last > 0; last--) {
        int32_t t = order[0];
        order[0] = order[last];
        order[last] = t;
        sift_order(p, order, last, 0);
    }
}

/* Drops the least likely tokens while their sum is at most 1 - p; the best always stays. Tokens below (1 - p) / vocab
 * are dropped without sorting them: all of them together cannot reach 1 - p. The sum is compared as a float, as torch's
 * is. */
void berth_sampler_keep_top_p(berth_sampler *s)
{
    if (s->rule.top_p >= 1.0f) return;
    softmax(s);
    double room = 1.0 - (double)s->rule.top_p, sum = 0;
    double small = room / s->vocab * 0.5;
    int32_t n = 0, best = berth_sampler_argmax(s->scores, s->n);
    for (int32_t i = 0; i < s->n; i++) {
        if (s->scores[i] == -INFINITY) continue;
        if ((double)s->probs[i] < small) {
            sum += (double)s->probs[i];
            s->scores[i] = -INFINITY;
        } else {
            s->order[n++] = i;
        }
    }
    sort_ascending(s->probs, s->order, n);
    for (int32_t i = 0; i < n; i++) {
        sum += (double)s->probs[s->order[i]];
        if ((float)sum > (float)room) break;
        if (s->order[i] != best) s->scores[s->order[i]] = -INFINITY;
    }
}

void berth_sampler_keep_min_p(berth_sampler *s)
{
    if (s->rule.min_p <= 0) return;
    softmax(s);
    float cut = s->rule.min_p * s->probs[berth_sampler_argmax(s->probs, s->n)];
    for (int32_t i = 0; i < s->n; i++)
        if (s->probs[i] < cut) s->scores[i] = -INFINITY;
}

static void process(berth_sampler *s, const float *logits)
{
    s->n = s->vocab;
    memcpy(s->scores, logits, (size_t)s->vocab * sizeof *logits);
    penalise(s);
    if (s->rule.sample) {
        (void)berth_sampler_cool(s);
        (void)berth_sampler_keep_top_k(s);
        berth_sampler_keep_top_p(s);
        berth_sampler_keep_min_p(s);
    }
    softmax(s);
}

void berth_sampler_probs(berth_sampler *s, const float *logits, float *out_probs)
{
    process(s, logits);
    for (int32_t i = 0; i < s->vocab; i++) out_probs[i] = s->scores[i] == -INFINITY ? 0.0f : s->probs[i];
}

bool berth_sampler_removed(const berth_sampler *s, int32_t id)
{
    return s->scores[id] == -INFINITY;
}

/* By the probs, in the order of their ids. */
static int32_t draw(berth_sampler *s)
{
    double total = 0, sum = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < s->n; i++) total += (double)s->probs[i];
    double want = uniform(s->rng) * total;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->probs[i] <= 0) continue;
        last = i;
        sum += (double)s->probs[i];
        if (sum > want) return i;
    }
    return last;
}

int32_t berth_sampler_draw(berth_sampler *s)
{
    softmax(s);
    return draw(s);
}

int32_t berth_sampler_next(berth_sampler *s, const float *logits)
{
    if (!s->rule.sample) {
        if (s->rule.repetition_penalty == 1.0f || s->n_seen == 0) return berth_sampler_argmax(logits, s->vocab);
        memcpy(s->scores, logits, (size_t)s->vocab * sizeof *logits);
        penalise(s);
        return berth_sampler_argmax(s->scores, s->vocab);
    }
    process(s, logits);
    return draw(s);
}
