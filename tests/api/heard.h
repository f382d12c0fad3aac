/* heard.h - what is heard of a request by callback or queue, for tests of requests. Helpers fail the running test on any
 * error. */
#ifndef BERTH_TESTS_API_HEARD_H
#define BERTH_TESTS_API_HEARD_H

#include <stdatomic.h>

#include "fixture.h"

typedef struct heard {
    char text[4096];
    size_t n_text;
    int32_t ids[256], n_ids;
    float logprobs[256];
    bool in_order;
    atomic_int n_ends;
    berth_status status;
    char finish[16], end_text[4096];
    int32_t end_tokens;
    int32_t stop_after; /* 0 = never */
    atomic_bool blocks; /* tokens are not taken as long as this holds */
    atomic_int n_heard;
} heard;

void hear_token(heard *h, const berth_token *t);
void hear_end(heard *h, berth_status st, const berth_result *r); /* r NULL when st is not BERTH_OK */
int32_t on_token(void *user, const berth_token *t);              /* user: a heard */
void await_end(const heard *h);

berth_queue *new_queue(const fixture *f);
bool is_readable(berth_queue *q);                                               /* its descriptor */
uint64_t submit(const fixture *f, const asking *a, berth_queue *q, void *user); /* the id */
uint64_t start(const fixture *f, asking *a, heard *h);                          /* the same, heard by callbacks */

#endif
