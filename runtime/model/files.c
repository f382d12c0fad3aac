/* files.c - which files hold a directory's weights: model.safetensors, or the shards of an index. One file goes
 * before an index, as in transformers. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/model_internal.h"

berth_status berth_model_files_add(berth_model_files *w, const char *dir, const char *name, berth_error *err)
{
    if (w->n == BERTH_MAX_SHARDS)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: more than the limit of %d shards", w->what, BERTH_MAX_SHARDS);
    if (!w->shards) {
        w->shards = calloc(BERTH_MAX_SHARDS, sizeof(berth_safetensors *));
        w->views = calloc(BERTH_MAX_SHARDS, sizeof *w->views);
        if (!w->shards || !w->views) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: shard table", w->what);
    }
    berth_safetensors *f = NULL;
    berth_status st = w->may_lack_data ? berth_safetensors_open_headers(dir, name, &f, err)
                                       : berth_safetensors_open(dir, name, &f, err);
    if (st != BERTH_OK) return st;
    w->shards[w->n] = f;
    w->views[w->n++] = (berth_model_shard){
        .name = berth_safetensors_name(f), .fd = berth_safetensors_fd(f), .size = berth_safetensors_file_size(f)};
    return BERTH_OK;
}

void berth_model_files_deinit(berth_model_files *w)
{
    for (int32_t i = 0; i < w->n; i++) berth_safetensors_close(w->shards[i]);
    free(w->shards);
    free(w->views);
    *w = (berth_model_files){0};
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);
    return n > s && strcmp(name + n - s, suffix) == 0;
}

/* The first file of folder `dir` whose name ends with `suffix`, in out ("" if none). */
static void find_suffix(const char *dir, const char *suffix, char out[256])
{
    out[0] = '\0';
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; !out[0] && (e = readdir(d));) {
        if (has_suffix(e->d_name, suffix)) strncat(out, e->d_name, 255);
    }
    closedir(d);
}

/* No weight file under either name: what is there instead? */
static berth_status nothing_found(const char *dir, bool allow_missing, berth_error *err)
{
    char name[256];
    find_suffix(dir, ".safetensors", name);
    if (name[0]) {
        return BERTH_FAIL(err, BERTH_NOT_FOUND,
                          "%.300s: no model.safetensors, and model.safetensors.index.json is missing, which must list "
                          "shards such as %s",
                          dir, name);
    }
    find_suffix(dir, ".gguf", name);
    if (name[0]) {
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "%.300s: GGUF (%s) is not read yet; give a directory with safetensors weights", dir, name);
    }
    if (allow_missing) return BERTH_OK;
    find_suffix(dir, ".bin", name);
    return BERTH_FAIL(err, BERTH_NOT_FOUND,
                      "%.300s: no weights: neither model.safetensors nor model.safetensors.index.json is there%s%s",
                      dir, name[0] ? "; pickled weights are not read, convert this file to safetensors: " : "", name);
}

berth_status berth_model_files_open(const char *dir, bool allow_missing, berth_model_files *out, berth_error *err)
{
    *out = (berth_model_files){.may_lack_data = allow_missing};
    berth_status st;
    if (berth_file_exists_in(dir, "model.safetensors")) {
        out->what = "model.safetensors";
        st = berth_model_files_add(out, dir, "model.safetensors", err);
    } else if (berth_file_exists_in(dir, "model.safetensors.index.json")) {
        out->what = "model.safetensors.index.json";
        st = berth_model_files_open_index(dir, out, err);
    } else {
        st = nothing_found(dir, allow_missing, err);
    }
    if (st != BERTH_OK) berth_model_files_deinit(out);
    return st;
}
