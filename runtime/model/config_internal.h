/* config_internal.h - reading checked values out of a configuration object.
 *
 * A berth_fields is one JSON object of one file. Its getters never fail on their own: the first fault (wrong type, out
 * of range, missing) is kept in `status` and `err`, later faults are dropped, and every getter returns a value inside
 * its range whatever happened, so that a caller may read all fields and look at `status` once, at the end. A JSON null
 * counts as absent, as in transformers. */
#ifndef BERTH_MODEL_CONFIG_INTERNAL_H
#define BERTH_MODEL_CONFIG_INTERNAL_H

#include "base/json.h"
#include "model/config.h"

/* Ranges of what a file may ask for. They keep every product of two of them far from overflow. */
#define BERTH_MAX_HIDDEN       65536
#define BERTH_MAX_LAYERS       1024
#define BERTH_MAX_HEADS        1024
#define BERTH_MAX_HEAD_DIM     1024
#define BERTH_MAX_FFN          1048576
#define BERTH_MAX_VOCAB        1048576
#define BERTH_MAX_POSITIONS    16777216
#define BERTH_MAX_IMAGE        16384
#define BERTH_MAX_PATCH        256
#define BERTH_MAX_TILES        64
#define BERTH_MAX_CONFIG_BYTES ((size_t)1 << 20)

typedef struct berth_fields {
    const char *file;            /* "config.json" */
    const char *prefix;          /* "" or "text_config." */
    const berth_json_node *node; /* an object; NULL: every key is absent */
    berth_status *status;        /* shared by all objects of one reading */
    berth_error *err;
} berth_fields;

#define BERTH_REQUIRED INT64_MIN /* as a fallback: the key must be there */

bool berth_field_has(const berth_fields *f, const char *key); /* there and not null */
int32_t berth_field_int(berth_fields *f, const char *key, int64_t min, int64_t max, int64_t fallback);
double berth_field_number(berth_fields *f, const char *key, double min, double max, double fallback);
bool berth_field_bool(berth_fields *f, const char *key, bool fallback);
const char *berth_field_string(berth_fields *f, const char *key,
                               const char *fallback); /* borrowed from the JSON text */
void berth_field_must_be(berth_fields *f, const char *key, const char *only,
                         const char *fallback);                              /* else BERTH_UNSUPPORTED */
const berth_json_node *berth_field_object(berth_fields *f, const char *key); /* NULL when absent */
/* An integer, or an array of two equal ones: an image or patch side. */
int32_t berth_field_side(berth_fields *f, const char *key, int64_t max, int64_t fallback);
/* Keeps a fault found by the caller, unless one is kept already. */
void berth_field_fail(berth_fields *f, berth_status status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* config_text.c: the language model out of `f` (top level, text_config or llm_config). `is_qwen3` as its model_type
 * or architecture says. */
void berth_config_text(berth_fields *f, bool is_qwen3, berth_text_config *out);

/* config_vision.c: vision tower and projector. `top` is config.json's top level, `f` its vision_config. */
void berth_config_vision_chat(berth_fields *top, berth_fields *f, berth_vision_config *out);
void berth_config_vision_native(berth_fields *top, berth_fields *f, berth_vision_config *out);

/* config_side.c: the files beside config.json; each may be absent. `top` and `text` supply what those leave out. */
berth_status berth_config_generation(const char *dir, berth_fields *text, berth_generation_config *out,
                                     berth_error *err);
berth_status berth_config_preprocess(const char *dir, berth_fields *top, const berth_model_config *config,
                                     berth_preprocess_config *out, berth_error *err);

/* Reads and parses `name` in `dir`; its root must be an object. *out is NULL when the file is not there and
 * `optional`. */
berth_status berth_config_load(const char *dir, const char *name, bool optional, berth_json **out, berth_error *err);

#endif
