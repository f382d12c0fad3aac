/* status.c - see status.h. Every message goes through set_message, which is where it is escaped and cut. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"

enum { RAW_SIZE = BERTH_ERROR_MESSAGE_SIZE };

const char *berth_status_name(berth_status status)
{
    static const char *const names[BERTH_STATUS_COUNT] = {
        [BERTH_OK] = "ok",
        [BERTH_INVALID_ARGUMENT] = "invalid argument",
        [BERTH_NOT_FOUND] = "not found",
        [BERTH_IO_ERROR] = "input/output error",
        [BERTH_BAD_FILE] = "bad file",
        [BERTH_UNSUPPORTED] = "unsupported",
        [BERTH_OUT_OF_MEMORY] = "out of memory",
        [BERTH_DOES_NOT_FIT] = "does not fit",
        [BERTH_AFFINITY] = "wrong device",
        [BERTH_DEVICE_ERROR] = "device error",
        [BERTH_DEVICE_LOST] = "device lost",
        [BERTH_NUMERIC] = "numeric failure",
        [BERTH_CANCELLED] = "cancelled",
        [BERTH_BUSY] = "busy",
        [BERTH_DEADLINE] = "deadline passed",
        [BERTH_MISMATCH] = "mismatch",
        [BERTH_INTERNAL] = "internal error",
        [BERTH_SLOW_CONSUMER] = "slow consumer",
    };
    return (unsigned)status < BERTH_STATUS_COUNT ? names[status] : "unknown";
}

/* Formats into raw; gives the length, without a last character that the size cut in two. */
static size_t format_raw(char raw[RAW_SIZE], const char *fmt, va_list args)
{
    int wanted = vsnprintf(raw, RAW_SIZE, fmt, args);
    if (wanted < 0) return (size_t)snprintf(raw, RAW_SIZE, "(this message could not be formatted)");
    if (wanted < RAW_SIZE) return (size_t)wanted;
    size_t len = RAW_SIZE - 1;
    for (size_t back = 1; back <= 3; back++) {
        uint32_t cp;
        bool incomplete;
        if (berth_utf8_decode(raw + len - back, back, &cp, &incomplete) < 0 && incomplete) return len - back;
    }
    return len;
}

/* Writes `raw`, escaped, behind the first `at` bytes of the message. */
static void set_message(berth_error *err, size_t at, const char *raw, size_t len)
{
    berth_escape(err->message + at, sizeof err->message - at, raw, len, true, NULL);
}

static void fill(berth_error *err, berth_status status, const char *file, int line)
{
    err->status = status;
    err->device = -1;
    err->native_code = 0;
    err->native_api = NULL;
    err->file = file;
    err->line = line;
}

berth_status berth_fail(berth_error *err, berth_status status, const char *file, int line, const char *fmt, ...)
{
    if (!err) return status;
    char raw[RAW_SIZE]; /* the arguments may point into err->message */
    va_list args;
    va_start(args, fmt);
    size_t len = format_raw(raw, fmt, args);
    va_end(args);
    fill(err, status, file, line);
    set_message(err, 0, raw, len);
    return status;
}

berth_status berth_fail_errno(berth_error *err, berth_status status, int code, const char *file, int line,
                              const char *fmt, ...)
{
    if (!err) return status;
    char raw[RAW_SIZE];
    va_list args;
    va_start(args, fmt);
    size_t len = format_raw(raw, fmt, args);
    va_end(args);
    fill(err, status, file, line);
    set_message(err, 0, raw, len);
    err->native_code = code;
    err->native_api = "errno";
    const char *reason = strerrordesc_np(code);
    if (reason)
        berth_error_append(err, ": %s", reason);
    else
        berth_error_append(err, ": errno %d", code);
    return status;
}

void berth_error_prefix(berth_error *err, const char *fmt, ...)
{
    if (!err) return;
    char raw[RAW_SIZE], old[BERTH_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    size_t len = format_raw(raw, fmt, args);
    va_end(args);
    memcpy(old, err->message, sizeof old);
    old[sizeof old - 1] = '\0';
    set_message(err, 0, raw, len);
    set_message(err, strlen(err->message), old, strlen(old));
}

void berth_error_append(berth_error *err, const char *fmt, ...)
{
    if (!err) return;
    char raw[RAW_SIZE];
    va_list args;
    va_start(args, fmt);
    size_t len = format_raw(raw, fmt, args);
    va_end(args);
    set_message(err, strnlen(err->message, sizeof err->message - 1), raw, len);
}
