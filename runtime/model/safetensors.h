/* safetensors.h - a strict reader of safetensors headers.
 *
 * Owns one open file: its descriptor, size and tensor table. Refuses what the format forbids: header over 100 MB or
 * past the file, a hole, an overlap, bytes behind the last tensor, sizes that do not match shape and dtype, overflow,
 * duplicate names, unknown dtypes, wrong JSON. Reads no tensor data. Source: the safetensors format description; its
 * Rust reference implementation's validation.
 * */
#ifndef BERTH_MODEL_SAFETENSORS_H
#define BERTH_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

#define BERTH_MAX_DIMS 8

typedef struct berth_safetensor {
    const char *name;  /* borrowed; valid UTF-8 without U+0000 */
    berth_dtype dtype; /* BERTH_DTYPE_COUNT: one the format knows and berth does not compute with (F64, I16, FP8 ...) */
    const char *dtype_name; /* as written; static */
    int32_t n_dims;
    int64_t dims[BERTH_MAX_DIMS];
    size_t offset, n_bytes; /* from the start of the file */
} berth_safetensor;

typedef struct berth_safetensors berth_safetensors;

/* `dir` may be NULL: `name` is then a path. Errors: those of berth_file_open_in; BERTH_BAD_FILE names file, tensor
 * and rule. */
berth_status berth_safetensors_open(const char *dir, const char *name, berth_safetensors **out, berth_error *err);

/* For planning: a file that ends right behind its header is accepted too, with no byte of data there. It is then a file
 * of headers only: nothing may be read from it. A file that has some of its data is refused as above. */
berth_status berth_safetensors_open_headers(const char *dir, const char *name, berth_safetensors **out,
                                            berth_error *err);
bool berth_safetensors_is_headers_only(const berth_safetensors *f);
void berth_safetensors_close(berth_safetensors *f);

const char *berth_safetensors_name(const berth_safetensors *f);
int berth_safetensors_fd(const berth_safetensors *f); /* borrowed */
size_t berth_safetensors_file_size(const berth_safetensors *f);
size_t berth_safetensors_count(const berth_safetensors *f);
const berth_safetensor *berth_safetensors_at(const berth_safetensors *f, size_t i);
const berth_safetensor *berth_safetensors_find(const berth_safetensors *f, const char *name); /* O(1); NULL if absent */

/* Reads tensor `t`'s bytes (pread, all of them) into `dst`. */
berth_status berth_safetensors_read(const berth_safetensors *f, const berth_safetensor *t, void *dst, berth_error *err);

/* Writing, for traces: tensors in the given order, 8-byte aligned header, whole or not at all. */
typedef struct berth_safetensors_entry {
    const char *name;
    berth_dtype dtype;
    int32_t n_dims;
    int64_t dims[BERTH_MAX_DIMS];
    const void *data;
    size_t n_bytes;
} berth_safetensors_entry;
berth_status berth_safetensors_write(const char *path, const berth_safetensors_entry *entries, size_t n,
                                     berth_error *err);

#endif
