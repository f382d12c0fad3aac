/* golden.h - golden model directories for tests of the whole engine: opening, running, comparing. Helpers fail the
 * running test on any error. */
#ifndef BERTH_TESTS_ENGINE_GOLDEN_H
#define BERTH_TESTS_ENGINE_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "engine/engine.h"
#include "model/safetensors.h"

enum { GOLDEN_IMAGE_TOKEN = 489 };

typedef struct golden_case {
    char name[32];
    berth_safetensors *tensors;
    const berth_json_node *node; /* of golden.json */
    int32_t *ids, n_ids;
    float *pixels;
    int32_t n_tiles;
    int32_t *greedy, n_greedy;
    int32_t *penalty_all, *penalty_new; /* [n_greedy], penalty 1.3 */
} golden_case;

typedef struct golden_model {
    char dir[512];
    const char *name;
    berth_model_data *data;
    berth_json *json;
    golden_case cases[4];
    int32_t n_cases;
} golden_model;

extern const char *const golden_names[]; /* NULL-terminated */

void golden_open(golden_model *g, const char *name);
void golden_close(golden_model *g);

/* A private copy of a model's folder, to be damaged: golden_patch, then golden_open_at(dir). `dir` [64]. */
void golden_copy(const char *name, char *dir);
void golden_remove(const char *dir);
void golden_open_at(golden_model *g, const char *name, const char *dir);
/* Overwrites element `index` of the parameter (every element: index -1) with `value`. */
void golden_patch(const char *dir, berth_role role, int32_t layer, int64_t index, float value);

double golden_tolerance(const golden_case *c, const char *tensor); /* -1: not compared */
const berth_safetensor *golden_find(const golden_case *c, const char *tensor);
float *golden_read(const golden_case *c, const berth_safetensor *t); /* fp32; caller frees */

/* A machine and an engine on it. Zero fields of config take their defaults, but for the context, which is made long
 * enough for every case. */
typedef struct golden_engine {
    berth_machine machine;
    berth_core_plan *plan; /* the core's, or the test's while core is NULL */
    berth_core *core;
} golden_engine;
berth_status golden_plan(golden_engine *e, const golden_model *g, const char *devices, const char *strategy,
                         const berth_plan_config *config, berth_error *err);
berth_status golden_start(golden_engine *e, const berth_core_options *options, berth_error *err); /* takes the plan */
void golden_stop(golden_engine *e);

berth_core_request golden_request(const golden_case *c, int32_t max_new);
void golden_must(berth_status st, const berth_error *err, const char *what); /* fails the test with the message */

#endif
