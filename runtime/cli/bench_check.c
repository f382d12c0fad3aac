/* bench_check.c - before anything is timed: do all placements and batch sizes say the same, token for token? */
#include <string.h>

#include "base/status.h"
#include "cli/bench.h"

enum { CHECK_TOKENS = 24 };

/* Different beginnings, so that an answer given to the wrong request shows. */
static const char *const questions[BENCH_CHECKS] = {
    "Extract the fields as JSON.",
    "What is written in the first line?",
    "Name three numbers between 10 and 100.",
    "Repeat: alpha, beta, gamma, delta. Then say what comes next.",
};

static berth_status submit(bench_load *l, int32_t k, berth_error *err)
{
    cli_conversation c;
    berth_request r;
    uint64_t id;
    berth_status st =
        cli_conversation_make(NULL, &l->image, l->image != NULL, questions[k], strlen(questions[k]), &c, err);
    if (st != BERTH_OK) return st;
    bench_request(l, &c, CHECK_TOKENS, &r);
    st = berth_engine_submit(l->engine, &r, l->queue, (void *)(uintptr_t)questions[k], &id, err);
    cli_conversation_deinit(&c);
    return st;
}

static int32_t question_of(const void *user)
{
    int32_t k = 0;
    while (k + 1 < BENCH_CHECKS && questions[k] != user) k++;
    return k;
}

berth_status bench_check(bench_load *l, const char *who, bench_reference *ref, berth_error *err)
{
    const int32_t n = l->n_seqs > BENCH_CHECKS ? l->n_seqs : BENCH_CHECKS;
    int32_t begun = 0, done = 0;
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && done < n) {
        for (; st == BERTH_OK && begun < n && begun - done < l->n_seqs; begun++)
            st = submit(l, begun % BENCH_CHECKS, err);
        berth_completion end = {.struct_size = sizeof end};
        if (st == BERTH_OK) st = berth_queue_next(l->queue, -1, &end, err);
        if (st != BERTH_OK || end.kind != BERTH_COMPLETION_END) continue;
        done++;
        if (end.status == BERTH_OK) {
            st =
                bench_reference_take(ref, question_of(end.user), who, end.result->token_ids, end.result->n_tokens, err);
        } else {
            st = end.status;
            *err = *end.error;
        }
        berth_completion_deinit(&end);
    }
    return st;
}
