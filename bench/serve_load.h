/* serve_load.h - engines under load, for serve_bench: streams that ask, the rate at which tokens come, a flood, a rest. */
#ifndef BERTH_BENCH_SERVE_LOAD_H
#define BERTH_BENCH_SERVE_LOAD_H

#include "engine/engine.h"

enum { SERVE_PROMPT = 32, SERVE_STREAMS = 16 };

typedef struct serve_setting {
    const char *name, *devices, *strategy;
    int32_t n_seqs, passes, streams;
} serve_setting;

typedef struct serve_engine {
    berth_model_data *model;
    berth_machine machine;
    berth_core *core;
} serve_engine;

void serve_must(berth_status st, const berth_error *err); /* ends the program with what went wrong */

/* Room for requests of SERVE_PROMPT tokens and `tokens` new ones; queue 0 = the default. */
void serve_start(serve_engine *e, const char *dir, const serve_setting *s, int32_t tokens, int32_t queue);
void serve_stop(serve_engine *e);

/* Streams on one engine, each with one request of `tokens` new ones: started, and joined. */
typedef struct serve_streams serve_streams;
serve_streams *serve_streams_begin(serve_engine *e, int32_t n_streams, int32_t tokens);
void serve_streams_join(serve_streams *s);
void serve_streams_free(serve_streams *s);

/* New tokens a second of all `n` groups together while every stream of every one was decoding: from the time the last
 * had its second token to the time the first had its last but one. */
double serve_rate(serve_streams *const *groups, int32_t n);

/* Tokens a second of one engine alone. */
double serve_rate_alone(serve_engine *e, int32_t n_streams, int32_t tokens);

void serve_flood(const char *dir); /* 10,000 requests at once on a queue of 1,024, each answer against the one alone */
void serve_rest(const char *dir);  /* what an engine with nothing to do takes of the processor */

#endif
