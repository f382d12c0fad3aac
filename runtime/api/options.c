/* options.c - reading size-stamped option structs of older and newer callers. */
#include <string.h>

#include "api/api.h"
#include "base/status.h"

berth_status berth_options_copy(void *dst, size_t size, const void *src, const char *what, berth_error *err)
{
    memset(dst, 0, size);
    if (src == NULL) return BERTH_OK;
    size_t given;
    memcpy(&given, src, sizeof given);
    if (given < sizeof(size_t) || given > 65536) {
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
