/* model_fixture.c - see model_fixture.h. */
#include "model/model_fixture.h"

const char *const fixture_goldens[] = {"models/ivl-native",
                                       "models/ivl-remote",
                                       "models/ivl-remote-6b",
                                       "models/ivl-rms-qknorm",
                                       "models/ivl-tied",
                                       "models/ivl-qwen3",
                                       "models/qwen2-text",
                                       "hostile/bases/hf",
                                       "hostile/bases/shards",
                                       "hostile/bases/remote",
                                       NULL};

fixture fixture_create(void)
{
    fixture f;
    const char *tmp = getenv("TMPDIR");
    snprintf(f.dir, sizeof f.dir, "%.180s/berth-model-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f.dir));
    return f;
}

void fixture_path(const fixture *f, const char *name, char out[512])
{
    assert_true(snprintf(out, 512, "%s/%s", f->dir, name) < 512);
}

void fixture_write(const fixture *f, const char *name, const void *data, size_t n)
{
    char path[512];
    fixture_path(f, name, path);
    unlink(path); /* a new file each time: some file systems flush one that is truncated and written again */
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(data, 1, n, to), n);
    assert_int_equal(fclose(to), 0);
}

void fixture_text(const fixture *f, const char *name, const char *text)
{
    fixture_write(f, name, text, strlen(text));
}

char *fixture_read(const fixture *f, const char *name, size_t *out_n)
{
    char path[512], *data = NULL;
    fixture_path(f, name, path);
    assert_int_equal(berth_file_read(path, (size_t)1 << 30, &data, out_n, NULL), BERTH_OK);
    return data;
}

void fixture_remove(const fixture *f, const char *name)
{
    char path[512];
    fixture_path(f, name, path);
    assert_int_equal(unlink(path), 0);
}

void fixture_destroy(const fixture *f)
{
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) fixture_remove(f, e->d_name);
    }
    closedir(d);
    assert_int_equal(rmdir(f->dir), 0);
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);
    return n >= s && strcmp(name + n - s, suffix) == 0;
}

static fixture copy_matching(const char *name, const char *suffix)
{
    fixture f = fixture_create();
    char from[512];
    snprintf(from, sizeof from, "%s%s", GOLDEN, name);
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        fixture source;
        snprintf(source.dir, sizeof source.dir, "%.255s", from);
        if (e->d_type == DT_DIR || strncmp(e->d_name, "golden", 6) == 0 || !ends_with(e->d_name, suffix)) continue;
        size_t n = 0;
        char *data = fixture_read(&source, e->d_name, &n);
        fixture_write(&f, e->d_name, data, n);
        free(data);
    }
    closedir(d);
    return f;
}

fixture fixture_copy(const char *name)
{
    return copy_matching(name, "");
}

fixture fixture_copy_configs(const char *name)
{
    return copy_matching(name, "config.json");
}

void fixture_replace(const fixture *f, const char *name, const char *from, const char *to)
{
    size_t n = 0;
    char *text = fixture_read(f, name, &n);
    char *at = memmem(text, n, from, strlen(from));
    if (!at) fail_msg("%s does not hold %s", name, from);
    berth_buffer b = {0};
    berth_buffer_append(&b, text, (size_t)(at - text));
    berth_buffer_puts(&b, to);
    berth_buffer_append(&b, at + strlen(from), n - (size_t)(at - text) - strlen(from));
    assert_false(b.failed);
    fixture_write(f, name, b.data, b.len);
    berth_buffer_deinit(&b);
    free(text);
}

berth_status fixture_open(const fixture *f, berth_model_data **out, berth_error *err)
{
    memset(err, 0, sizeof *err);
    return berth_model_data_open(f->dir, NULL, out, err);
}

void fixture_refused(const fixture *f, const char *what, berth_status status, const char *words)
{
    berth_model_data *m = NULL;
    berth_error err;
    berth_status got = fixture_open(f, &m, &err);
    if (got != status)
        fail_msg("%s: status %s, expected %s: %s", what, berth_status_name(got), berth_status_name(status),
                 err.message);
    assert_null(m);
    for (const char *word = words; *word;) {
        size_t n = strcspn(word, "|");
        if (!memmem(err.message, strlen(err.message), word, n))
            fail_msg("%s: no \"%.*s\" in: %s", what, (int)n, word, err.message);
        word += n + (word[n] == '|');
    }
}

berth_model_data *fixture_accepted(const fixture *f, const char *what)
{
    berth_model_data *m = NULL;
    berth_error err;
    if (fixture_open(f, &m, &err) != BERTH_OK) fail_msg("%s: refused: %s", what, err.message);
    return m;
}

berth_model_data *fixture_golden(const char *name)
{
    char dir[512];
    snprintf(dir, sizeof dir, "%s%s", GOLDEN, name);
    berth_model_data *m = NULL;
    berth_error err = {0};
    if (berth_model_data_open(dir, NULL, &m, &err) != BERTH_OK) fail_msg("%s: %s", name, err.message);
    return m;
}

/* The values of a parameter, widened (caller frees). */
static float *values_of(const berth_model_data *m, const berth_param *p, size_t *out_n)
{
    *out_n = 0;
    if (!p) return NULL;
    size_t n = p->n_bytes / berth_dtype_size(p->dtype);
    void *bytes = malloc(p->n_bytes);
    float *values = malloc(n * sizeof *values);
    assert_true(bytes && values);
    assert_int_equal(pread(berth_model_data_shard(m, p->shard)->fd, bytes, p->n_bytes, (off_t)p->offset), p->n_bytes);
    berth_widen_f32(values, bytes, p->dtype, n);
    free(bytes);
    *out_n = n;
    return values;
}

void fixture_same_weights(const berth_model_data *a, const berth_model_data *b)
{
    assert_int_equal(berth_model_data_n_params(a), berth_model_data_n_params(b));
    for (int32_t i = 0; i < berth_model_data_n_params(a); i++) {
        const berth_param *p = berth_model_data_param(a, i);
        const berth_param *q = berth_model_data_param(b, berth_model_data_find(b, p->role, p->layer));
        if (!q || p->n_dims != q->n_dims || memcmp(p->dims, q->dims, sizeof p->dims) != 0)
            fail_msg("%s: other shape", p->tensor);
        size_t n = 0, k = 0;
        float *x = values_of(a, p, &n), *y = values_of(b, q, &k);
        assert_int_equal(n, k);
        if (memcmp(x, y, n * sizeof *x) != 0) fail_msg("%s and %s differ", p->tensor, q->tensor);
        free(x);
        free(y);
    }
}

berth_model_data *fixture_planned(const fixture *f)
{
    const berth_model_data_options options = {.allow_missing_weights = true};
    berth_model_data *m = NULL;
    berth_error err = {0};
    if (berth_model_data_open(f->dir, &options, &m, &err) != BERTH_OK) fail_msg("%s", err.message);
    return m;
}
