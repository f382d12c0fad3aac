/* runtime.c - the runtime handle: where log messages go. */
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
    berth_runtime *rt = calloc(1, sizeof *rt);
    if (rt == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a runtime handle");
    atomic_init(&rt->refs, 1);
    rt->log = o.log;
    rt->log_user = o.log_user;
    *out = rt;
    return BERTH_OK;
}

void berth_runtime_retain(berth_runtime *rt)
{
    atomic_fetch_add(&rt->refs, 1);
}

void berth_runtime_destroy(berth_runtime *rt)
{
    if (rt != NULL && atomic_fetch_sub(&rt->refs, 1) == 1) free(rt);
}

void berth_log(const berth_runtime *rt, berth_log_level level, const char *fmt, ...)
{
    if (rt == NULL || rt->log == NULL) return;
    char message[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    rt->log(rt->log_user, level, message);
}
