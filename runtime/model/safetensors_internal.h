/* safetensors_internal.h - what reading and writing safetensors share: the format's element types and limits.
 * Source: the safetensors format description; Dtype of its Rust reference implementation. */
#ifndef BERTH_MODEL_SAFETENSORS_INTERNAL_H
#define BERTH_MODEL_SAFETENSORS_INTERNAL_H

#include "base/dtype.h"

#define BERTH_ST_MAX_HEADER  100000000 /* bytes; the format's own limit */
#define BERTH_ST_MAX_TENSORS 262144    /* in one file; the largest published models hold some 30,000 */
#define BERTH_ST_MAX_NAME    512       /* bytes */

typedef struct berth_st_dtype {
    const char *name; /* as the header writes it */
    int32_t bits;     /* of one element; some are narrower than a byte */
    berth_dtype dtype;
} berth_st_dtype;

const berth_st_dtype *berth_st_dtype_find(const char *name); /* NULL: the format has no such type */
const char *berth_st_dtype_name(berth_dtype dtype);          /* "F32", ...; static */

#endif
