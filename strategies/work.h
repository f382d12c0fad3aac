/* work.h - what one request costs the atoms of a chain, and what a hop between two stages costs.
 *
 * The request: its pictures are encoded in one pass, its prompt is read in one pass, then tokens are made one by
 * one. Each of the three takes, on a stage, the longer of its arithmetic (operations / flops) and its reading (bytes
 * / bytes per second: weights once a pass, KV of the mean context once a token). What stands behind the last KV
 * cache (the head) runs for the last token of the prompt only; parts without arithmetic (an embedding's rows, blocks
 * that never run) are not read, tied tensors are where they are used. Attention scores count for each token with the
 * context before it, where the host knows them. */
#ifndef BERTH_STRATEGIES_WORK_H
#define BERTH_STRATEGIES_WORK_H

#include "strategies/chain.h"

/* Of atoms [0, i), for the whole request. */
typedef struct berth_work_sums {
    double encode_flops, encode_bytes, prefill_flops, prefill_bytes, decode_flops, decode_bytes;
} berth_work_sums;

typedef struct berth_work {
    berth_work_sums *sums; /* owned; [n + 1] */
} berth_work;

/* Whether the input says enough: rates of all devices, work of the model, and a request. */
bool berth_work_is_known(const berth_strategy_input *in);
/* Error: BERTH_OUT_OF_MEMORY. */
berth_status berth_work_init(berth_work *w, const berth_chain *c, const berth_strategy_input *in, berth_error *err);
void berth_work_deinit(berth_work *w);

/* Seconds that atoms [from, to) take. Never less than a part of them takes. */
double berth_work_seconds(const berth_work *w, int32_t from, int32_t to, double flops, double bytes_per_second);

/* What flows over a cut decides what a hop there costs. */
enum { BERTH_CUT_TILES, BERTH_CUT_FEATURES, BERTH_CUT_TOKENS, BERTH_CUT_KINDS };

typedef struct berth_hops {
    int32_t n_devices;
    double *picoseconds; /* owned; [kind][from][to], whole numbers */
    uint8_t *kind;       /* owned; [n + 1] of the cut before each atom */
    bool is_uniform;     /* no pair of devices differs from another */
} berth_hops;

/* For the request where `is_request`, else for one token. A link that is not listed, or without a rate, takes no
 * time. */
berth_status berth_hops_init(berth_hops *h, const berth_chain *c, const berth_strategy_input *in, bool is_request,
                             berth_error *err);
void berth_hops_deinit(berth_hops *h);
static inline double berth_hop(const berth_hops *h, int32_t from, int32_t to, int32_t cut)
{
    return h
        ->picoseconds[((size_t)h->kind[cut] * (size_t)h->n_devices + (size_t)from) * (size_t)h->n_devices + (size_t)to];
}

#endif
