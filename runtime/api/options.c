/* options.c - structs that carry their size, so that callers and library of different ages understand each other: what
 * the caller gives is read, and what it wants to know is written, as far as both know it. */
#include <string.h>

#include "api/api.h"
#include "base/status.h"

/* No struct of any version comes near; what is larger was never set. */
enum { MOST_BYTES = 65536 };

berth_status berth_options_copy(void *dst, size_t size, const void *src, const char *what, berth_error *err)
{
    memset(dst, 0, size);
    if (src == NULL) return BERTH_OK;
    size_t given;
    memcpy(&given, src, sizeof given);
    if (given < sizeof(size_t) || given > MOST_BYTES) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: struct_size is %zu; set it to sizeof the struct", what,
                          given);
    }
    const unsigned char *bytes = src;
    for (size_t i = size; i < given; i++) {
        if (bytes[i] != 0) {
            return BERTH_FAIL(
                err, BERTH_INVALID_ARGUMENT,
                "%s: the caller sets a field at byte %zu that this version of berth does not know; use a newer library",
                what, i);
        }
    }
    memcpy(dst, src, given < size ? given : size);
    memcpy(dst, &size, sizeof size);
    return BERTH_OK;
}

berth_status berth_output_check(const void *out, size_t least, const char *what, berth_error *err)
{
    size_t given;
    memcpy(&given, out, sizeof given);
    if (given >= least && given <= MOST_BYTES) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: struct_size is %zu; set it to sizeof the struct", what, given);
}

void berth_output_write(void *out, const void *full, size_t size)
{
    size_t given;
    memcpy(&given, out, sizeof given);
    memset(out, 0, given);
    memcpy(out, full, given < size ? given : size);
    memcpy(out, &given, sizeof given);
}

void berth_output_read(void *full, size_t size, const void *given)
{
    size_t n;
    memcpy(&n, given, sizeof n);
    memset(full, 0, size);
    memcpy(full, given, n < size ? n : size);
    memcpy(full, &n, sizeof n);
}
