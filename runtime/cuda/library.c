/* library.c - see library.h. Libraries are opened RTLD_LOCAL: their symbols are reached through tables only, so that a
 * host program's own CUDA libraries are never mixed with these. */
#include "cuda/library.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

/* dlerror's words for a file that is there; they name the file themselves. */
static berth_status fail_load(const berth_library *library, const char *why, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_DEVICE_ERROR, "%s does not load: %s; repair or replace it", library->what,
                      why ? why : "no reason given");
}

/* A name that the linker did not find gives "NAME: cannot open shared object file: No such file or directory"; any other
 * reason, such as a missing library of its own, begins otherwise or ends otherwise. */
static bool is_absent(const char *why, const char *name)
{
    const size_t len = strlen(name);
    return why && strncmp(why, name, len) == 0 && why[len] == ':' && strstr(why, "No such file or directory");
}

berth_status berth_library_open(const berth_library *library, const char *path, void **out, berth_error *err)
{
    const int flags = RTLD_NOW | RTLD_LOCAL | (library->stays ? RTLD_NODELETE : 0);
    *out = NULL;
    if (path) {
        if (access(path, R_OK) != 0)
            return BERTH_FAIL(err, BERTH_NOT_FOUND, "%s was to be %s, which cannot be read; give another path",
                              library->what, path);
        *out = dlopen(path, flags);
        return *out ? BERTH_OK : fail_load(library, dlerror(), err);
    }
    for (const char *const *name = library->names; *name; name++) {
        *out = dlopen(*name, flags);
        if (*out) return BERTH_OK;
        const char *why = dlerror();
        if (!is_absent(why, *name)) return fail_load(library, why, err);
    }
    return BERTH_FAIL(err, BERTH_NOT_FOUND, "%s (%s) was not found; %s", library->what, library->names[0],
                      library->advice);
}

void berth_library_close(void *handle)
{
    if (handle) dlclose(handle);
}

berth_status berth_library_bind(const berth_library *library, void *handle, const berth_symbol *symbols, size_t n,
                                void *table, berth_error *err)
{
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(handle, symbols[i].name);
        if (!symbol)
            return BERTH_FAIL(err, BERTH_UNSUPPORTED, "%s has no function %s; %s", library->what, symbols[i].name,
                              library->old_advice);
        memcpy((char *)table + symbols[i].offset, &symbol, sizeof symbol); /* POSIX: both pointers are of one size */
    }
    return BERTH_OK;
}
