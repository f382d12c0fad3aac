/* safetensors.c - the strict reader of safetensors headers, see safetensors.h.
 *
 * The header is read once, walked by the JSON reader into one table, and freed. What a single entry says is checked
 * where it is read; what the entries say together (names, no hole, no overlap, the data's end) is checked when all are
 * there. Easy to get wrong: sizes are attacker's numbers until check_span has seen them. */
#include "model/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "model/names.h"
#include "model/safetensors_internal.h"

struct berth_safetensors {
    char *name;
    int fd;                    /* -1: not open */
    size_t file_size, data_at; /* data_at: 8 + header length; file_size: as it should be, in a file of headers only */
    bool may_lack_data, is_headers_only;
    berth_safetensor *tensors; /* in the order of the header */
    size_t n, cap;
    berth_strings strings; /* owns the names */
    berth_name_table by_name;
};

typedef struct entry {    /* one tensor while its header entry is being read */
    const char *name;     /* borrowed from the file's strings */
    berth_st_dtype dtype; /* .name NULL: not seen yet */
    bool has_shape, has_offsets;
    int32_t n_dims;
    int64_t dims[BERTH_MAX_DIMS];
    int64_t begin, end;
} entry;

static const berth_st_dtype dtypes[] = {
    {"F32", 32, BERTH_F32},
    {"F16", 16, BERTH_F16},
    {"BF16", 16, BERTH_BF16},
    {"I32", 32, BERTH_I32},
    {"I64", 64, BERTH_I64},
    {"U8", 8, BERTH_U8},
    {"BOOL", 8, BERTH_DTYPE_COUNT},
    {"I8", 8, BERTH_DTYPE_COUNT},
    {"I16", 16, BERTH_DTYPE_COUNT},
    {"U16", 16, BERTH_DTYPE_COUNT},
    {"U32", 32, BERTH_DTYPE_COUNT},
    {"U64", 64, BERTH_DTYPE_COUNT},
    {"F64", 64, BERTH_DTYPE_COUNT},
    {"C64", 64, BERTH_DTYPE_COUNT},
    {"F8_E4M3", 8, BERTH_DTYPE_COUNT},
    {"F8_E5M2", 8, BERTH_DTYPE_COUNT},
    {"F8_E8M0", 8, BERTH_DTYPE_COUNT},
    {"F8_E4M3FNUZ", 8, BERTH_DTYPE_COUNT},
    {"F8_E5M2FNUZ", 8, BERTH_DTYPE_COUNT},
    {"F6_E2M3", 6, BERTH_DTYPE_COUNT},
    {"F6_E3M2", 6, BERTH_DTYPE_COUNT},
    {"F4", 4, BERTH_DTYPE_COUNT},
};

const berth_st_dtype *berth_st_dtype_find(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    }
    return NULL;
}

const char *berth_st_dtype_name(berth_dtype dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    }
    return "unknown";
}

/* ---- one entry ---- */

static berth_status json_error(const berth_safetensors *f, const berth_json_reader *r, berth_error *err)
{
    if (r->scratch.failed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for its header", f->name);
    return BERTH_FAIL(err, BERTH_BAD_FILE,
                      "%s: the header is not the JSON a safetensors file begins with: %s (at byte %zu of the header)",
                      f->name, r->error ? r->error : "an object of tensors was expected", (size_t)(r->at - r->begin));
}

static berth_status entry_error(const berth_safetensors *f, const berth_json_reader *r, berth_json_event got,
                                const entry *e, const char *rule, berth_error *err)
{
    if (got == BERTH_JSON_ERROR) return json_error(f, r, err);
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\": %s", f->name, e->name, rule);
}

static berth_status read_dtype(const berth_safetensors *f, berth_json_reader *r, entry *e, berth_error *err)
{
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_TEXT) return entry_error(f, r, ev, e, "its dtype must be a string", err);
    char name[32] = "";
    if (r->len < sizeof name) memcpy(name, r->text, r->len);
    const berth_st_dtype *dtype = berth_st_dtype_find(name);
    if (!dtype || strlen(dtype->name) != r->len) {
        char quoted[64];
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: tensor \"%.200s\": unknown dtype \"%s\"; the format has F32, F16, BF16 and others",
                          f->name, e->name, berth_quote(quoted, sizeof quoted, r->text, r->len));
    }
    e->dtype = *dtype;
    return BERTH_OK;
}

static berth_status read_shape(const berth_safetensors *f, berth_json_reader *r, entry *e, berth_error *err)
{
    static const char rule[] = "its shape must be an array of integers, each 0 or more and below 2^63";
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_ARRAY) return entry_error(f, r, ev, e, rule, err);
    while ((ev = berth_json_read(r)) == BERTH_JSON_NUM) {
        int64_t dim;
        if (!berth_json_parse_u63(r->text, r->len, &dim)) return entry_error(f, r, ev, e, rule, err);
        if (e->n_dims == BERTH_MAX_DIMS) return entry_error(f, r, ev, e, "its shape has more than 8 dimensions", err);
        e->dims[e->n_dims++] = dim;
    }
    if (ev != BERTH_JSON_END_ARRAY) return entry_error(f, r, ev, e, rule, err);
    e->has_shape = true;
    return BERTH_OK;
}

static berth_status read_offsets(const berth_safetensors *f, berth_json_reader *r, entry *e, berth_error *err)
{
    static const char rule[] = "its data_offsets must be two integers, each 0 or more and below 2^63";
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_ARRAY) return entry_error(f, r, ev, e, rule, err);
    int64_t *const to[2] = {&e->begin, &e->end};
    for (int i = 0; i < 2; i++) {
        ev = berth_json_read(r);
        if (ev != BERTH_JSON_NUM || !berth_json_parse_u63(r->text, r->len, to[i]))
            return entry_error(f, r, ev, e, rule, err);
    }
    ev = berth_json_read(r);
    if (ev != BERTH_JSON_END_ARRAY) return entry_error(f, r, ev, e, rule, err);
    e->has_offsets = true;
    return BERTH_OK;
}

static bool key_is(const berth_json_reader *r, const char *key)
{
    return r->len == strlen(key) && memcmp(r->text, key, r->len) == 0;
}

/* The object behind a tensor's name. Keys that the format does not know are passed over, as its reference
 * implementation does. */
static berth_status read_entry(const berth_safetensors *f, berth_json_reader *r, entry *e, berth_error *err)
{
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_OBJECT)
        return entry_error(f, r, ev, e, "its entry must be an object with dtype, shape and data_offsets", err);
    while ((ev = berth_json_read(r)) == BERTH_JSON_KEY) {
        berth_status st = BERTH_OK;
        if (key_is(r, "dtype")) {
            st = e->dtype.name ? entry_error(f, r, ev, e, "duplicate key dtype", err) : read_dtype(f, r, e, err);
        } else if (key_is(r, "shape")) {
            st = e->has_shape ? entry_error(f, r, ev, e, "duplicate key shape", err) : read_shape(f, r, e, err);
        } else if (key_is(r, "data_offsets")) {
            st = e->has_offsets ? entry_error(f, r, ev, e, "duplicate key data_offsets", err)
                                : read_offsets(f, r, e, err);
        } else if (!berth_json_skip(r)) {
            st = json_error(f, r, err);
        }
        if (st != BERTH_OK) return st;
    }
    if (ev != BERTH_JSON_END_OBJECT) return json_error(f, r, err);
    if (!e->dtype.name || !e->has_shape || !e->has_offsets) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\": its entry is missing %s", f->name, e->name,
                          !e->dtype.name  ? "dtype"
                          : !e->has_shape ? "shape"
                                          : "data_offsets");
    }
    return BERTH_OK;
}

/* Does the range lie in the file, and is it as long as shape and dtype say? */
static berth_status check_span(const berth_safetensors *f, const entry *e, berth_error *err)
{
    size_t n = 1, bits;
    bool fits = true;
    for (int32_t d = 0; d < e->n_dims; d++) fits = fits && berth_mul_size(n, (size_t)e->dims[d], &n);
    if (!fits || !berth_mul_size(n, (size_t)e->dtype.bits, &bits)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\": the product of its shape overflows", f->name,
                          e->name);
    }
    size_t data = f->file_size - f->data_at;
    if (e->begin > e->end) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: tensor \"%.200s\": data_offsets [%" PRId64 ", %" PRId64 "] end before they begin",
                          f->name, e->name, e->begin, e->end);
    }
    if ((uint64_t)e->end > data) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: tensor \"%.200s\": data_offsets [%" PRId64 ", %" PRId64
                          "] reach beyond the end of the file, which has %zu bytes of "
                          "data: short by %" PRIu64 " bytes; was the download cut off?",
                          f->name, e->name, e->begin, e->end, data, (uint64_t)e->end - data);
    }
    if (bits % 8 != 0 || bits / 8 != (uint64_t)(e->end - e->begin)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: tensor \"%.200s\": its shape in %s needs %zu bytes, data_offsets span %" PRId64, f->name,
                          e->name, e->dtype.name, bits / 8 + (bits % 8 != 0), e->end - e->begin);
    }
    return BERTH_OK;
}

/* ---- the header ---- */

static berth_status add_tensor(berth_safetensors *f, const entry *e, const char *name, berth_error *err)
{
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 256;
        berth_safetensor *grown =
            realloc(f->tensors, cap * sizeof *grown); /* cap is at most 2 * BERTH_ST_MAX_TENSORS */
        if (!grown) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: the table of %zu tensors", f->name, cap);
        f->tensors = grown;
        f->cap = cap;
    }
    berth_safetensor *t = &f->tensors[f->n++];
    *t = (berth_safetensor){.name = name,
                            .dtype = e->dtype.dtype,
                            .dtype_name = e->dtype.name,
                            .n_dims = e->n_dims,
                            .offset = f->data_at + (size_t)e->begin,
                            .n_bytes = (size_t)(e->end - e->begin)};
    memcpy(t->dims, e->dims, sizeof t->dims);
    return BERTH_OK;
}

static berth_status read_tensor(berth_safetensors *f, berth_json_reader *r, berth_error *err)
{
    if (f->n == BERTH_ST_MAX_TENSORS) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the header lists more than the limit of %d tensors", f->name,
                          BERTH_ST_MAX_TENSORS);
    }
    if (r->len == 0 || r->len > BERTH_ST_MAX_NAME || memchr(r->text, '\0', r->len)) {
        char quoted[200];
        berth_quote(quoted, sizeof quoted, r->text, r->len);
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\": a name must have 1 to %d bytes and no NUL",
                          f->name, quoted, BERTH_ST_MAX_NAME);
    }
    char *name = berth_strings_add(&f->strings, r->text, r->len);
    int32_t at = 0;
    if (!name || !berth_names_add(&f->by_name, name, (int32_t)f->n, &at))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: tensor names", f->name);
    if (at != (int32_t)f->n) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\" is listed twice (duplicate key in the header)",
                          f->name, name);
    }
    entry e = {.name = name};
    berth_status st = read_entry(f, r, &e, err);
    if (st == BERTH_OK) st = check_span(f, &e, err);
    if (st == BERTH_OK) st = add_tensor(f, &e, name, err);
    return st;
}

static berth_status metadata_walk(const berth_safetensors *f, berth_json_reader *r, berth_strings *strings,
                                  berth_name_table *keys, berth_error *err)
{
    berth_json_event ev = berth_json_read(r);
    if (ev == BERTH_JSON_NIL) return BERTH_OK;
    if (ev == BERTH_JSON_ERROR) return json_error(f, r, err);
    if (ev != BERTH_JSON_BEGIN_OBJECT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: __metadata__ in the header must be an object", f->name);
    while ((ev = berth_json_read(r)) == BERTH_JSON_KEY) {
        int32_t next = (int32_t)keys->count, at = 0;
        if (memchr(r->text, '\0', r->len)) {
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a key of __metadata__ in the header holds a NUL", f->name);
        }
        const char *key = berth_strings_add(strings, r->text, r->len);
        if (!key || !berth_names_add(keys, key, next, &at)) {
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for __metadata__", f->name);
        }
        if (at != next)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: __metadata__ in the header has the duplicate key \"%s\"",
                              f->name, key);
        ev = berth_json_read(r);
        if (ev == BERTH_JSON_ERROR) return json_error(f, r, err);
        if (ev != BERTH_JSON_TEXT)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: every value of __metadata__ in the header must be a string",
                              f->name);
    }
    return ev == BERTH_JSON_END_OBJECT ? BERTH_OK : json_error(f, r, err);
}

static berth_status read_metadata(const berth_safetensors *f, berth_json_reader *r, berth_error *err)
{
    berth_strings strings = {0};
    berth_name_table keys = {0};
    berth_status st = metadata_walk(f, r, &strings, &keys, err);
    berth_names_deinit(&keys);
    berth_strings_deinit(&strings);
    return st;
}

static berth_status read_entries(berth_safetensors *f, berth_json_reader *r, berth_error *err)
{
    bool has_metadata = false;
    berth_json_event ev = berth_json_read(r);
    if (ev != BERTH_JSON_BEGIN_OBJECT) return json_error(f, r, err);
    while ((ev = berth_json_read(r)) == BERTH_JSON_KEY) {
        berth_status st;
        if (key_is(r, "__metadata__")) {
            st = has_metadata ? BERTH_FAIL(err, BERTH_BAD_FILE, "%s: __metadata__ stands twice in the header", f->name)
                              : read_metadata(f, r, err);
            has_metadata = true;
        } else {
            st = read_tensor(f, r, err);
        }
        if (st != BERTH_OK) return st;
    }
    if (ev != BERTH_JSON_END_OBJECT || berth_json_read(r) != BERTH_JSON_END) return json_error(f, r, err);
    return BERTH_OK;
}

static int by_offset(const void *a, const void *b)
{
    const berth_safetensor *const *x = a, *const *y = b;
    if ((*x)->offset != (*y)->offset) return (*x)->offset < (*y)->offset ? -1 : 1;
    return ((*x)->n_bytes > (*y)->n_bytes) - ((*x)->n_bytes < (*y)->n_bytes);
}

/* The ranges, put in order, must fill the data exactly: each begins where the one before it ends. */
static berth_status check_cover(const berth_safetensors *f, berth_error *err)
{
    const berth_safetensor **order = malloc((f->n + 1) * sizeof(const berth_safetensor *));
    if (!order) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: ordering %zu tensors", f->name, f->n);
    bool in_order = true; /* as most writers leave them */
    for (size_t i = 0; i < f->n; i++) {
        order[i] = &f->tensors[i];
        in_order = in_order && (i == 0 || by_offset(&order[i - 1], &order[i]) <= 0);
    }
    if (!in_order) qsort(order, f->n, sizeof(const berth_safetensor *), by_offset);
    size_t at = f->data_at;
    berth_status st = BERTH_OK;
    for (size_t i = 0; i < f->n && st == BERTH_OK; i++) {
        if (order[i]->offset != at) {
            st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: tensor \"%.200s\": its data_offsets begin at %zu, %s at %zu: %s",
                            f->name, order[i]->name, order[i]->offset - f->data_at,
                            i ? "but the tensor before it ends" : "but the data begins", at - f->data_at,
                            order[i]->offset < at ? "they overlap" : "a gap lies between");
        }
        at = order[i]->offset + order[i]->n_bytes; /* within the file: check_span */
    }
    free(order);
    if (st == BERTH_OK && at != f->file_size) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE,
                        "%s: the file is too long: %zu trailing bytes lie behind the data of the last tensor", f->name,
                        f->file_size - at);
    }
    return st;
}

/* ---- the file ---- */

static berth_status read_at(const berth_safetensors *f, void *dst, size_t n, size_t at, berth_error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(f->fd, (char *)dst + done, n - done, (off_t)(at + done));
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the file ended at byte %zu while it was read; was it changed?",
                              f->name, at + done);
        } else if (errno != EINTR) {
            return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "%s: reading %zu bytes at %zu", f->name, n, at);
        }
    }
    return BERTH_OK;
}

/* What lies under this name instead, for those who forgot `git lfs pull` or renamed a file. */
static const char *guess_format(const unsigned char *first, size_t n)
{
    static const struct {
        const char *magic, *what;
    } known[] = {
        {"version ", "; it looks like a Git LFS pointer: fetch the file itself"},
        {"GGUF", "; it is a GGUF file under another name"},
        {"PK\x03\x04", "; it is a zip archive (a PyTorch pickle?) under another name"},
        {"{", "; it looks like plain JSON or text"},
        {"<", "; it looks like a web page"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t len = strlen(known[i].magic);
        if (n >= len && memcmp(first, known[i].magic, len) == 0) return known[i].what;
    }
    return "";
}

static berth_status header_length(const berth_safetensors *f, size_t *out, berth_error *err)
{
    unsigned char first[8] = {0};
    size_t have = f->file_size < sizeof first ? f->file_size : sizeof first;
    berth_status st = read_at(f, first, have, 0, err);
    if (st != BERTH_OK) return st;
    if (have < sizeof first) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: %s; a safetensors file begins with the 8 bytes of its header length", f->name,
                          have ? "the file is too short" : "the file is empty");
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | first[i];
    const char *guess = guess_format(first, sizeof first);
    if (length > BERTH_ST_MAX_HEADER) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: its header length, %" PRIu64 " bytes, is over the format's limit of %d%s", f->name,
                          length, BERTH_ST_MAX_HEADER, guess);
    }
    if (length > f->file_size - sizeof first) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: its header length, %" PRIu64 " bytes, reaches beyond the end of the file (%zu bytes)%s",
                          f->name, length, f->file_size, guess);
    }
    if (length == 0) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: its header length is zero", f->name);
    *out = (size_t)length;
    return BERTH_OK;
}

static size_t end_of_data(const berth_safetensors *f)
{
    size_t end = f->data_at;
    for (size_t i = 0; i < f->n; i++)
        if (f->tensors[i].offset + f->tensors[i].n_bytes > end) end = f->tensors[i].offset + f->tensors[i].n_bytes;
    return end;
}

static berth_status read_header(berth_safetensors *f, berth_error *err)
{
    size_t length = 0;
    berth_status st = header_length(f, &length, err);
    if (st != BERTH_OK) return st;
    f->data_at = length + 8;
    if (f->may_lack_data && f->file_size == f->data_at) { /* until the header says how long the file should be */
        f->is_headers_only = true;
        f->file_size = SIZE_MAX;
    }
    char *header = malloc(length + 1);
    if (!header) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: a header of %zu bytes", f->name, length);
    st = read_at(f, header, length, 8, err);
    if (st == BERTH_OK && header[0] != '{') {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the header is not the JSON object a safetensors file begins with",
                        f->name);
    }
    if (st == BERTH_OK) {
        berth_json_reader r;
        berth_json_reader_init(&r, header, length);
        st = read_entries(f, &r, err);
        berth_json_reader_deinit(&r);
    }
    free(header);
    if (st == BERTH_OK && f->is_headers_only) f->file_size = end_of_data(f);
    return st == BERTH_OK ? check_cover(f, err) : st;
}

static berth_status open_file(const char *dir, const char *name, bool may_lack_data, berth_safetensors **out,
                              berth_error *err)
{
    *out = NULL;
    berth_safetensors *f = calloc(1, sizeof *f);
    if (!f) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "safetensors handle for %s", name);
    f->fd = -1;
    f->may_lack_data = may_lack_data;
    berth_status st = BERTH_OK;
    f->name = strdup(name);
    if (!f->name) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "safetensors handle for %s", name);
        goto fail;
    }
    st = dir ? berth_file_open_in(dir, name, &f->fd, &f->file_size, err)
             : berth_file_open(name, &f->fd, &f->file_size, err);
    if (st != BERTH_OK) goto fail;
    st = read_header(f, err);
    if (st != BERTH_OK) goto fail;
    *out = f;
    return BERTH_OK;
fail:
    berth_safetensors_close(f);
    return st;
}

berth_status berth_safetensors_open(const char *dir, const char *name, berth_safetensors **out, berth_error *err)
{
    return open_file(dir, name, false, out, err);
}

berth_status berth_safetensors_open_headers(const char *dir, const char *name, berth_safetensors **out,
                                            berth_error *err)
{
    return open_file(dir, name, true, out, err);
}

bool berth_safetensors_is_headers_only(const berth_safetensors *f)
{
    return f->is_headers_only && f->file_size > f->data_at;
}

void berth_safetensors_close(berth_safetensors *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    berth_names_deinit(&f->by_name);
    berth_strings_deinit(&f->strings);
    free(f->tensors);
    free(f->name);
    free(f);
}

const char *berth_safetensors_name(const berth_safetensors *f)
{
    return f->name;
}
int berth_safetensors_fd(const berth_safetensors *f)
{
    return f->fd;
}
size_t berth_safetensors_file_size(const berth_safetensors *f)
{
    return f->file_size;
}
size_t berth_safetensors_count(const berth_safetensors *f)
{
    return f->n;
}
const berth_safetensor *berth_safetensors_at(const berth_safetensors *f, size_t i)
{
    return i < f->n ? &f->tensors[i] : NULL;
}

const berth_safetensor *berth_safetensors_find(const berth_safetensors *f, const char *name)
{
    int32_t i = berth_names_find(&f->by_name, name);
    return i < 0 ? NULL : &f->tensors[i];
}

berth_status berth_safetensors_read(const berth_safetensors *f, const berth_safetensor *t, void *dst, berth_error *err)
{
    if (f->is_headers_only && t->n_bytes > 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the file holds its header only, no data", f->name);
    return read_at(f, dst, t->n_bytes, t->offset, err);
}
