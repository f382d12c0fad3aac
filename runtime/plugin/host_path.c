/* host_path.c - where the program is that runs plug-ins in a process of their own. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/plugin_internal.h"

/* The folder of this program, without a slash at its end; "" when it cannot be told. */
static void own_folder(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash) *slash = '\0';
}

static char *beside(const char *folder, const char *where)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, where);
    return access(path, X_OK) == 0 ? strdup(path) : NULL;
}

berth_status berth_host_path(const char *given, char **out, berth_error *err)
{
    *out = NULL;
    if (given && given[0]) {
        if (access(given, X_OK) != 0)
            return BERTH_FAIL(err, BERTH_NOT_FOUND, "strategy host %s is not there, or is no program", given);
        *out = strdup(given);
    } else {
        static const char *const places[] = {"berth-strategy-host", "../libexec/berth/berth-strategy-host"};
        char folder[PATH_MAX];
        own_folder(folder);
        for (size_t i = 0; folder[0] && !*out && i < sizeof places / sizeof *places; i++)
            *out = beside(folder, places[i]);
        if (!*out && access(BERTH_STRATEGY_HOST, X_OK) == 0) *out = strdup(BERTH_STRATEGY_HOST);
        if (!*out)
            return BERTH_FAIL(err, BERTH_NOT_FOUND,
                              "isolated plug-ins need the program berth-strategy-host, which is neither beside this "
                              "program nor at %s; install "
                              "berth, name it with strategy_host (--strategy-host), or leave out isolated",
                              BERTH_STRATEGY_HOST);
    }
    return *out ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a path");
}
