/* library.h - opening a shared library at run time and filling a table of function pointers from it.
 *
 * Nothing of CUDA is linked, so that one binary serves machines with CUDA 12, CUDA 13 and none. What each library is
 * called, which functions are wanted and what their absence means belongs to the files that call this one. */
#ifndef BERTH_CUDA_LIBRARY_H
#define BERTH_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* A function of a table: where its pointer goes. */
typedef struct berth_symbol {
    const char *name; /* as the library exports it: "cuMemAlloc_v2" */
    size_t offset;    /* of a function pointer within the table */
} berth_symbol;

typedef struct berth_library {
    const char *what;         /* "the CUDA driver" */
    const char *const *names; /* file names, tried in order, the last one NULL */
    const char *advice;       /* what to do when none of them opens */
    const char *old_advice;   /* what to do when a function is missing */
    bool stays;               /* closing leaves it in the process */
} berth_library;

/* Opens `path` and nothing else, or (NULL) the first of the names the dynamic linker finds. `out` is closed with
 * berth_library_close. Errors: BERTH_NOT_FOUND (no such file), BERTH_DEVICE_ERROR (a file that does not load). */
berth_status berth_library_open(const berth_library *library, const char *path, void **out, berth_error *err);
void berth_library_close(void *handle);

/* Fills all `n` pointers of `table`. Error: BERTH_UNSUPPORTED with the first function that is missing. */
berth_status berth_library_bind(const berth_library *library, void *handle, const berth_symbol *symbols, size_t n,
                                void *table, berth_error *err);

#endif
