/* fixture.h - small models opened through the public interface, and requests to ask them. Helpers fail the running test
 * on any error. */
#ifndef BERTH_TESTS_API_FIXTURE_H
#define BERTH_TESTS_API_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "berth/berth.h"

#define FIXTURE_MODELS BERTH_SOURCE_DIR "/tests/golden/models/"

typedef struct fixture {
    berth_runtime *rt;
    berth_model *model;
    berth_engine *engine;
} fixture;

typedef struct fixture_options {
    const berth_runtime_options *runtime; /* NULL = all defaults */
    const char *model;                    /* NULL = "qwen2-text" */
    const char *devices, *strategy;
    int32_t n_seqs;
    int64_t context; /* 0 = 256 */
    berth_engine_options engine;
} fixture_options;

fixture fixture_open(const fixture_options *o); /* NULL = all defaults */
void fixture_close(fixture *f);
berth_engine *fixture_engine(berth_model *model, const fixture_options *o);

berth_stats stats_of(const fixture *f);
void await_running(const fixture *f, int32_t n); /* n run and none waits */

void must(berth_status st, const berth_error *err, const char *what);

/* A request of one user's turn, with all that it points to. Answers go on to max_new tokens. */
typedef struct asking {
    berth_content content[2];
    berth_turn turn;
    berth_request request;
} asking;

void ask(asking *a, const char *text, int32_t max_new);
void ask_picture(asking *a, const char *path, const char *text, int32_t max_new);

berth_result run_request(berth_engine *e, const berth_request *r); /* blocking */

/* Takes completions until the end of `id` (0 = of any); tokens are dropped. */
berth_completion wait_end(berth_queue *q, uint64_t id);

void sleep_us(int64_t us);
int64_t resident_bytes(void);
int32_t open_descriptors(void);

#endif
