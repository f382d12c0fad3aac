/* api.h - what the public handles hold. Shared by the files of runtime/api only.
 *
 * Every handle begins with a berth_handle and is counted, so that callers may end them in any order: a model keeps its
 * runtime, a plan its model, an engine its plan. */
#ifndef BERTH_API_API_H
#define BERTH_API_API_H

#include "berth/berth.h"

#include "api/handle.h"
#include "engine/engine.h"
#include "image/image.h"
#include "text/chat.h"

struct berth_runtime {
    berth_handle head;
    berth_runtime_options options;
    berth_quarantine quarantine;
};

struct berth_model {
    berth_handle head;
    berth_model_data *data; /* owned reference */
    pthread_mutex_t lock;   /* guards tokenizer: opened when first needed */
    berth_tokenizer *tokenizer;
};

struct berth_plan {
    berth_handle head;
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
/* Frees a plan that is no engine's and no user's any more. */
void berth_plan_release(berth_plan *plan);

/* Copies a caller's option struct of struct_size `given` into `dst` of `size` bytes, zero-filled. A struct that is longer
 * than ours must be zero behind it. */
berth_status berth_options_copy(void *dst, size_t size, const void *src, const char *what, berth_error *err);

/* A struct that the caller wants filled: its struct_size is at least `least`, or what cannot have been set. */
berth_status berth_output_check(const void *out, size_t least, const char *what, berth_error *err);
/* Writes as much of `full` as the caller knows, and zeros behind what we know. */
void berth_output_write(void *out, const void *full, size_t size);
/* The other way, for what the caller gives back to be freed. */
void berth_output_read(void *full, size_t size, const void *given);

void berth_runtime_retain(berth_runtime *rt);
void berth_runtime_release(berth_runtime *rt);
void berth_model_retain(berth_model *model);
void berth_model_release(berth_model *model);
void berth_log(const berth_runtime *rt, berth_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The model's tokenizer, opened on first use; borrowed. */
berth_status berth_model_tokenizer(berth_model *model, const berth_tokenizer **out, berth_error *err);

#endif
