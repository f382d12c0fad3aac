/* runtime.c - the runtime handle: where log messages go, who gives memory and is told of threads, and what remains of
 * handles that were ended. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "base/status.h"

const char *berth_version(void)
{
    return BERTH_VERSION;
}

void berth_free(void *text)
{
    free(text);
}

berth_status berth_runtime_create(const berth_runtime_options *options, berth_runtime **out, berth_error *err)
{
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_runtime_create: out is NULL");
    *out = NULL;
    berth_runtime_options o;
    berth_status st = berth_options_copy(&o, sizeof o, options, "berth_runtime_options", err);
    if (st != BERTH_OK) return st;
    if ((o.allocate == NULL) != (o.release == NULL))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "berth_runtime_options: allocate and release must be set both, or none");
    berth_runtime *rt = calloc(1, sizeof *rt);
    if (rt == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a runtime handle");
    rt->options = o;
    st = berth_quarantine_init(&rt->quarantine, err);
    if (st != BERTH_OK) {
        free(rt);
        return st;
    }
    berth_handle_begin(&rt->head, BERTH_HANDLE_RUNTIME, rt);
    *out = rt;
    return BERTH_OK;
}

void berth_runtime_retain(berth_runtime *rt)
{
    berth_handle_retain(&rt->head);
}

void berth_runtime_release(berth_runtime *rt)
{
    if (!berth_handle_release(&rt->head)) return;
    berth_quarantine_deinit(&rt->quarantine);
    free(rt);
}

void berth_runtime_destroy(berth_runtime *rt)
{
    if (berth_handle_end(rt, BERTH_HANDLE_RUNTIME)) berth_runtime_release(rt);
}

void berth_log(const berth_runtime *rt, berth_log_level level, const char *fmt, ...)
{
    if (rt == NULL || rt->options.log == NULL) return;
    char message[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    rt->options.log(rt->options.log_user, level, message);
}
