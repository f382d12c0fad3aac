/* status.h - filling a berth_error from inside the library.
 *
 * Owns the one way in which errors are made, so that every message is cut, escaped and valid UTF-8 in one place: names
 * out of strangers' files may be passed as they are. The macros give values and never jump. */
#ifndef BERTH_BASE_STATUS_H
#define BERTH_BASE_STATUS_H

#include "berth/status.h"

/* Fills `err` (may be NULL) and is `status`. `fmt` says what was asked, what was found, and what to do. */
#ifdef __clang_analyzer__ /* lets the analyser see that the value is a failure */
#define BERTH_FAIL(err, status, ...) (berth_fail((err), (status), __FILE__, __LINE__, __VA_ARGS__), (status))
#else
#define BERTH_FAIL(err, status, ...) berth_fail((err), (status), __FILE__, __LINE__, __VA_ARGS__)
#endif

/* As BERTH_FAIL, and records errno in native_code and its text at the end of the message. */
#define BERTH_FAIL_ERRNO(err, status, code, ...)                                                                       \
    berth_fail_errno((err), (status), (code), __FILE__, __LINE__, __VA_ARGS__)

berth_status berth_fail(berth_error *err, berth_status status, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
berth_status berth_fail_errno(berth_error *err, berth_status status, int code, const char *file, int line,
                              const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Puts "prefix" in front of the message that a callee made ("model/config.json: "). */
void berth_error_prefix(berth_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Appends a note to an error, cut when full. */
void berth_error_append(berth_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
