/* model_fixture.h - scratch model directories for the tests of this folder: copied from the golden ones, edited,
 * opened, removed. */
#ifndef BERTH_MODEL_MODEL_FIXTURE_H
#define BERTH_MODEL_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "model/model.h"

#define GOLDEN  BERTH_SOURCE_DIR "/tests/golden/"
#define CONFIG  "config.json"
#define WEIGHTS "model.safetensors"
#define INDEX   "model.safetensors.index.json"

extern const char *const fixture_goldens[]; /* the models below GOLDEN that open; NULL ends them */

typedef struct fixture {
    char dir[256];
} fixture;

fixture fixture_create(void);
void fixture_path(const fixture *f, const char *name, char out[512]);
void fixture_write(const fixture *f, const char *name, const void *data, size_t n);
void fixture_text(const fixture *f, const char *name, const char *text);
char *fixture_read(const fixture *f, const char *name, size_t *out_n);
void fixture_remove(const fixture *f, const char *name);
/* Removes the folder; it holds no folders. */
void fixture_destroy(const fixture *f);
/* A copy of the plain files of GOLDEN/name. */
fixture fixture_copy(const char *name);
fixture fixture_copy_configs(const char *name); /* only config.json and the other *_config.json */
/* Replaces the first `from` in file `name`, which must hold it. */
void fixture_replace(const fixture *f, const char *name, const char *from, const char *to);
berth_status fixture_open(const fixture *f, berth_model_data **out, berth_error *err);
/* Opening must fail with this status and a message that holds all of the words (separated by '|'). */
void fixture_refused(const fixture *f, const char *what, berth_status status, const char *words);
berth_model_data *fixture_accepted(const fixture *f, const char *what);
/* Opens without weights. */
berth_model_data *fixture_planned(const fixture *f);
berth_model_data *fixture_golden(const char *name);
/* Same roles, same shapes, same values. */
void fixture_same_weights(const berth_model_data *a, const berth_model_data *b);

#endif
