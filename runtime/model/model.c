/* model.c - opening a model directory, and what an open one answers; see model.h. */
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model_internal.h"

/* A path that is not a folder: say what it is, and what is wanted. */
static berth_status refuse_file(const char *path, mode_t mode, berth_error *err)
{
    char magic[4] = "";
    int fd = -1;
    size_t size = 0;
    if (S_ISREG(mode) && berth_file_open(path, &fd, &size, NULL) == BERTH_OK) {
        bool is_gguf = pread(fd, magic, sizeof magic, 0) == 4 && memcmp(magic, "GGUF", 4) == 0;
        close(fd);
        if (is_gguf)
            return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                              "%.600s: GGUF is not read yet; give a directory with safetensors weights", path);
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE,
                      "%.600s is not a directory; a model is a directory with config.json and safetensors weights",
                      path);
}

berth_status berth_model_dir_check(const char *dir, berth_error *err)
{
    struct stat st;
    if (!dir || !*dir)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a model directory is needed, an empty path was given");
    if (stat(dir, &st) != 0) {
        bool is_absent = errno == ENOENT || errno == ENOTDIR;
        return BERTH_FAIL_ERRNO(err, is_absent ? BERTH_NOT_FOUND : BERTH_IO_ERROR, errno,
                                "model directory %.600s cannot be opened", dir);
    }
    return S_ISDIR(st.st_mode) ? BERTH_OK : refuse_file(dir, st.st_mode, err);
}

/* A directory of GGUF files has no config.json; say what is wrong and not what is missing. */
static berth_status check_config(const char *dir, bool allow_missing, berth_error *err)
{
    int fd = -1;
    size_t size;
    berth_status st = berth_file_open_in(dir, "config.json", &fd, &size, err);
    if (st == BERTH_OK) close(fd);
    if (st != BERTH_NOT_FOUND) return st;
    berth_model_files none;
    st = berth_model_files_open(dir, allow_missing, &none, err);
    berth_model_files_deinit(&none);
    return st == BERTH_UNSUPPORTED ? st : BERTH_FAIL(err, BERTH_NOT_FOUND, "%.600s: config.json is missing", dir);
}

static berth_status open_all(berth_model_data *m, bool allow_missing, berth_error *err)
{
    berth_status st = check_config(m->dir, allow_missing, err);
    if (st == BERTH_OK) st = berth_config_read(m->dir, &m->config, err);
    if (st != BERTH_OK) return st;
    m->layout = berth_layout_of(m->config.layout);
    st = berth_model_files_open(m->dir, allow_missing, &m->files, err);
    if (st == BERTH_OK) st = berth_tree_build(m, err);
    if (st == BERTH_OK) st = berth_bind(m, err);
    if (st == BERTH_OK) berth_tree_sum(m);
    return st;
}

static void destroy(berth_model_data *m)
{
    berth_model_files_deinit(&m->files);
    berth_names_deinit(&m->paths);
    berth_strings_deinit(&m->strings);
    free(m->nodes);
    free(m->specs);
    free(m->spec_of_node);
    free(m->params);
    free(m->param_of);
    free(m->module_of);
    free(m->dir);
    free(m);
}

berth_status berth_model_data_open(const char *dir, const berth_model_data_options *options, berth_model_data **out,
                                   berth_error *err)
{
    *out = NULL;
    berth_status st = berth_model_dir_check(dir, err);
    if (st != BERTH_OK) return st;
    berth_model_data *m = calloc(1, sizeof *m);
    if (!m) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "model handle");
    atomic_init(&m->references, 1);
    m->dir = strdup(dir);
    st = m->dir ? open_all(m, options && options->allow_missing_weights, err)
                : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "model handle");
    if (st != BERTH_OK) {
        destroy(m);
        return st;
    }
    *out = m;
    return BERTH_OK;
}

void berth_model_data_retain(berth_model_data *m)
{
    atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed);
}

void berth_model_data_release(berth_model_data *m)
{
    if (m && atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) == 1) destroy(m);
}

const char *berth_model_data_dir(const berth_model_data *m)
{
    return m->dir;
}
const berth_model_config *berth_model_data_config(const berth_model_data *m)
{
    return &m->config;
}
int32_t berth_model_data_n_params(const berth_model_data *m)
{
    return m->n_params;
}
int32_t berth_model_data_n_shards(const berth_model_data *m)
{
    return m->files.n;
}
int32_t berth_model_data_n_nodes(const berth_model_data *m)
{
    return m->n_nodes;
}
const berth_node_view *berth_model_data_nodes(const berth_model_data *m)
{
    return m->nodes;
}

const berth_param *berth_model_data_param(const berth_model_data *m, int32_t i)
{
    return i >= 0 && i < m->n_params ? &m->params[i] : NULL;
}

const berth_model_shard *berth_model_data_shard(const berth_model_data *m, int32_t i)
{
    return i >= 0 && i < m->files.n ? &m->files.views[i] : NULL;
}

/* Tables over (role, layer) have one column for layer -1 and one for each layer. */
static int32_t at(const berth_model_data *m, const int32_t *table, int32_t role, int32_t n_roles, int32_t layer)
{
    if (role < 0 || role >= n_roles || layer < -1 || layer >= m->layer_stride - 1) return -1;
    return table[role * m->layer_stride + layer + 1];
}

int32_t berth_model_data_find(const berth_model_data *m, berth_role role, int32_t layer)
{
    return at(m, m->param_of, (int32_t)role, BERTH_ROLE_COUNT, layer);
}

int32_t berth_model_data_module(const berth_model_data *m, berth_module_role role, int32_t layer)
{
    return at(m, m->module_of, (int32_t)role, BERTH_M_HEAD + 1, layer);
}

int32_t berth_model_data_find_node(const berth_model_data *m, const char *path)
{
    int32_t node = berth_names_find(&m->paths, path);
    if (node >= 0) return node;
    /* Older spellings, with a dot put behind so that a whole module is renamed as its parts are. */
    char dotted[512], name[600];
    if (!*path || snprintf(dotted, sizeof dotted, "%s.", path) >= (int)sizeof dotted) return -1;
    if (!berth_layout_canonical(m->layout, dotted, name, sizeof name)) return -1;
    name[strlen(name) - 1] = '\0';
    return berth_names_find(&m->paths, name);
}
