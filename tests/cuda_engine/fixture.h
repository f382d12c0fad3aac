/* fixture.h - golden models on emulated GPUs: a world of GPUs made anew, a request on it, and proof that nothing of it is
 * left behind. Helpers fail the running test on any error. */
#ifndef BERTH_TESTS_CUDA_ENGINE_FIXTURE_H
#define BERTH_TESTS_CUDA_ENGINE_FIXTURE_H

#include "emu.h"
#include "golden.h"

/* Drops the emulated GPUs and makes those that `config` describes (emu.h). The engine before is gone. */
void world_reset(const char *config);
/* No call was wrong, and nothing is alive on any GPU. */
void world_is_empty(const char *what);
emu_report world_report(void);
/* The n-th driver call from now fails, of whatever thread; world_report().n_failed tells that it came. */
void world_fail_after(uint64_t n, int code);

/* A request that takes a fraction of the golden one's time on emulated GPUs: the first case's text, with so many of its
 * picture's tiles. Borrows from the model, and itself. */
typedef struct small_request {
    int32_t ids[64];
    berth_core_request request;
} small_request;
void small_request_init(small_request *s, const golden_model *g, int32_t n_tiles, int32_t max_new);

/* What a request tells, kept by an on_token: tokens, and all their logits. */
typedef struct kept_answer {
    int32_t ids[8], n, vocab;
    float *logits; /* owned; [8, vocab] */
} kept_answer;
void kept_answer_init(kept_answer *a, const golden_model *g);
void kept_answer_deinit(kept_answer *a);
bool keep_answer(void *kept, int32_t index, int32_t id, const float *logits);

/* The stages of world_ask. Calls are counted in each by itself: how many an engine's making takes is not the same each time,
 * as several threads read weights. */
typedef enum world_stage { MAKING, SERVING, ENDING, N_STAGES } world_stage;

typedef struct asked { /* zero means the default */
    const char *devices, *strategy, *transport;
    berth_plan_config plan;
    int32_t max_new, which;            /* case */
    const berth_core_request *request; /* instead of the case's */
    bool time_copies;
    bool logits; /* every token's row of logits is asked for */
    bool (*on_token)(void *user, int32_t index, int32_t id, const float *logits);
    void *user;
    uint64_t fails_after; /* in this stage, the n-th call fails; 0: none does */
    world_stage fails_in;
    int fails_with;
    uint64_t *out_calls; /* [N_STAGES] NULL: nobody asks */
} asked;

/* Makes an engine, runs the case, ends the engine. On BERTH_OK *out is the caller's. */
berth_status world_ask(const golden_model *g, const asked *a, berth_core_result *out, berth_error *err);

/* The same, and the first tokens are the golden ones. */
void world_gives_golden(const golden_model *g, const asked *a);

/* What part of a campaign the program's arguments ask for: nothing is the test's sample; "all"; "every N from K", K from 1, so
 * that several programs can share it. */
typedef struct slice {
    uint64_t step, first; /* step 0: the sample */
} slice;
slice slice_of(int argc, char **argv);

#endif
