/* find.c - which file a strategy's name means, and the names that a folder of plug-ins gives. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin/plugin_internal.h"

#define SUFFIX ".so"
enum { SUFFIX_LEN = sizeof SUFFIX - 1, NAMES_MOST = 4096 };

/* Bytes of the file's path at the beginning of `name`: up to "=" behind ".so", or to its end. */
static size_t path_length(const char *name)
{
    const char *suffix = strstr(name, SUFFIX "=");
    if (suffix) return (size_t)(suffix - name) + SUFFIX_LEN;
    size_t n = strlen(name);
    if (n > SUFFIX_LEN && strcmp(name + n - SUFFIX_LEN, SUFFIX) == 0) return n;
    return strcspn(name, "=");
}

static bool is_path(const char *name, size_t n)
{
    return memchr(name, '/', n) || (n > SUFFIX_LEN && memcmp(name + n - SUFFIX_LEN, SUFFIX, SUFFIX_LEN) == 0);
}

berth_status berth_plugin_find(const char *name, const berth_plugin_options *o, char **out_path,
                               const char **out_argument, berth_error *err)
{
    *out_path = NULL;
    size_t n = path_length(name);
    bool is_file = is_path(name, n);
    if (!is_file && !o->dir) return BERTH_OK;
    if (!is_file) n = strcspn(name, "=");
    struct stat st;
    bool failed =
        is_file ? !(*out_path = strndup(name, n)) : asprintf(out_path, "%s/%.*s" SUFFIX, o->dir, (int)n, name) < 0;
    if (failed) {
        *out_path = NULL;
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a path");
    }
    if (!is_file && stat(*out_path, &st) != 0) {
        free(*out_path);
        *out_path = NULL;
        return BERTH_OK;
    }
    *out_argument = name[n] == '=' ? name + n + 1 : NULL;
    return BERTH_OK;
}

/* ---- folders ---- */

void berth_plugin_names_deinit(berth_plugin_names *n)
{
    for (int32_t i = 0; i < n->n; i++) free(n->names[i]);
    free(n->names);
    *n = (berth_plugin_names){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static berth_status add_name(berth_plugin_names *n, const char *dir, const char *file, berth_error *err)
{
    size_t len = strlen(file);
    if (file[0] == '.' || len <= SUFFIX_LEN || strcmp(file + len - SUFFIX_LEN, SUFFIX) != 0) return BERTH_OK;
    if (n->n == NAMES_MOST)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "strategy folder %s holds more than %d plug-ins", dir,
                          NAMES_MOST);
    char **more = realloc(n->names, ((size_t)n->n + 1) * sizeof *more);
    if (more) n->names = more;
    char *name = more ? strndup(file, len - SUFFIX_LEN) : NULL;
    if (!name) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the names in %s", dir);
    n->names[n->n++] = name;
    return BERTH_OK;
}

berth_status berth_plugin_names_read(const char *dir, berth_plugin_names *out, berth_error *err)
{
    *out = (berth_plugin_names){0};
    DIR *d = opendir(dir);
    if (!d)
        return BERTH_FAIL_ERRNO(err, errno == ENOENT || errno == ENOTDIR ? BERTH_NOT_FOUND : BERTH_IO_ERROR, errno,
                                "strategy folder %s cannot be read", dir);
    berth_status st = BERTH_OK;
    for (struct dirent *e; st == BERTH_OK && (e = readdir(d));) st = add_name(out, dir, e->d_name, err);
    closedir(d);
    if (st != BERTH_OK)
        berth_plugin_names_deinit(out);
    else if (out->n > 1)
        qsort(out->names, (size_t)out->n, sizeof *out->names, by_name);
    return st;
}
