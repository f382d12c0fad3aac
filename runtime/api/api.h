/* api.h - what the public handles hold. Shared by the files of runtime/api, and by runtime/lab, which looks inside.
 *
 * Every handle is counted, so that callers may end them in any order: a model keeps its runtime, a plan its model, an engine its plan. */
#ifndef BERTH_API_API_H
#define BERTH_API_API_H

#include <pthread.h>
#include <stdatomic.h>

#include "berth/berth.h"

#include "engine/engine.h"
#include "image/image.h"
#include "text/chat.h"

struct berth_runtime {
    atomic_int refs;
    void (*log)(void *user, berth_log_level level, const char *message);
    void *log_user;
};

struct berth_model {
    atomic_int refs;
    berth_runtime *rt;      /* retained */
    berth_model_data *data; /* owned reference */
    pthread_mutex_t lock;   /* guards tokenizer: opened when first needed */
    berth_tokenizer *tokenizer;
};

struct berth_plan {
    berth_model *model; /* retained */
    berth_machine machine;
    berth_core_plan *owned;      /* NULL once an engine took it */
    const berth_core_plan *core; /* owned, or the engine's */
    char *refusal;               /* owned; what the strategy said where the plan is one that it refused; NULL */
};

/* The core plan for options that were checked, on p->machine. */
berth_status berth_plan_make_core(berth_plan *p, const berth_plan_options *o, berth_error *err);
/* After a refusal: the same with all limits raised by one factor, judged by the true limits. */
berth_status berth_plan_make_misfit(berth_plan *p, const berth_plan_options *o, berth_error *err);
/* Options copied and their ranges checked. */
berth_status berth_plan_options_read(berth_plan_options *out, const berth_plan_options *given, berth_error *err);
/* The module placed as a whole that node i belongs to: itself, or the nearest or outermost one above; -1 = none. */
int32_t berth_plan_unit_of(const berth_node_view *nodes, int32_t i);

struct berth_engine {
    berth_plan *plan;                 /* owned */
    berth_core *core;                 /* owned; holds plan->core */
    const berth_tokenizer *tokenizer; /* the model's */
    berth_ids stop_ids;
    int32_t image_token_id; /* -1: none */
};

/* Copies a caller's option struct of struct_size `given` into `dst` of `size` bytes, zero-filled. A struct that is longer than ours must be zero behind it. */
berth_status berth_options_copy(void *dst, size_t size, const void *src, const char *what, berth_error *err);

void berth_runtime_retain(berth_runtime *rt);
void berth_model_retain(berth_model *model);
void berth_log(const berth_runtime *rt, berth_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The model's tokenizer, opened on first use; borrowed. */
berth_status berth_model_tokenizer(berth_model *model, const berth_tokenizer **out, berth_error *err);

/* A request's conversation turned into what the engine runs. */
typedef struct berth_prepared {
    berth_ids ids;
    float *pixels; /* owned; [n_tiles, 3, S, S] or NULL */
    int32_t n_tiles;
    int64_t image_ns, tokenize_ns;
    size_t cap_tiles; /* for which `pixels` has room */
} berth_prepared;

/* Loads and cuts the pictures, then builds the prompt. `max_tiles` 0 = the model's. */
berth_status berth_prepare(const berth_model *model, const berth_tokenizer *tokenizer, const berth_turn *turns,
                           int32_t n_turns, int32_t max_tiles, berth_prepared *out, berth_error *err);
void berth_prepared_deinit(berth_prepared *p);

#endif
