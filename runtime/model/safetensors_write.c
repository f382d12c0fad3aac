/* safetensors_write.c - writing safetensors files, see safetensors.h: header padded with spaces to 8 bytes, data in
 * the order given. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/utf8.h"
#include "model/names.h"
#include "model/safetensors_internal.h"

static berth_status check_entry(const char *path, const berth_safetensors_entry *e, berth_error *err)
{
    size_t n = e->dtype < BERTH_DTYPE_COUNT ? berth_dtype_size(e->dtype) : 0;
    bool right = n > 0 && e->name && *e->name && strlen(e->name) <= BERTH_ST_MAX_NAME &&
                 berth_utf8_valid(e->name, strlen(e->name)) && e->n_dims >= 0 && e->n_dims <= BERTH_MAX_DIMS;
    for (int32_t d = 0; right && d < e->n_dims; d++)
        right = e->dims[d] >= 0 && berth_mul_size(n, (size_t)e->dims[d], &n);
    if (right && n == e->n_bytes && (e->data || n == 0)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                      "%s: tensor \"%s\" cannot be written: its name, dtype, shape and %zu bytes do not agree", path,
                      e->name ? e->name : "", e->n_bytes);
}

static berth_status check_entries(const char *path, const berth_safetensors_entry *entries, size_t n, size_t *out_bytes,
                                  berth_error *err)
{
    berth_name_table names = {0};
    berth_status st = n > BERTH_ST_MAX_TENSORS
                          ? BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: %zu tensors are over the limit of %d", path, n,
                                       BERTH_ST_MAX_TENSORS)
                          : BERTH_OK;
    size_t bytes = 0;
    for (size_t i = 0; i < n && st == BERTH_OK; i++) {
        int32_t at = 0;
        st = check_entry(path, &entries[i], err);
        if (st != BERTH_OK) break;
        if (!berth_names_add(&names, entries[i].name, (int32_t)i, &at)) {
            st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: tensor names", path);
        } else if (at != (int32_t)i || strcmp(entries[i].name, "__metadata__") == 0) {
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: two tensors cannot be named \"%s\"", path,
                            entries[i].name);
        } else if (!berth_add_size(bytes, entries[i].n_bytes, &bytes)) {
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the tensors' sizes overflow", path);
        }
    }
    berth_names_deinit(&names);
    *out_bytes = bytes;
    return st;
}

static void put_header(berth_buffer *b, const berth_safetensors_entry *entries, size_t n)
{
    size_t at = 0;
    berth_buffer_append(b, "\0\0\0\0\0\0\0\0", 8);
    berth_buffer_putc(b, '{');
    for (size_t i = 0; i < n; i++) {
        const berth_safetensors_entry *e = &entries[i];
        if (i) berth_buffer_putc(b, ',');
        berth_buffer_json_string(b, e->name, strlen(e->name));
        berth_buffer_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", berth_st_dtype_name(e->dtype));
        for (int32_t d = 0; d < e->n_dims; d++) berth_buffer_printf(b, "%s%" PRId64, d ? "," : "", e->dims[d]);
        berth_buffer_printf(b, "],\"data_offsets\":[%zu,%zu]}", at, at + e->n_bytes);
        at += e->n_bytes; /* the sum was checked */
    }
    berth_buffer_putc(b, '}');
    while (!b->failed && b->len % 8 != 0) berth_buffer_putc(b, ' ');
    if (b->failed) return;
    uint64_t length = b->len - 8;
    for (int i = 0; i < 8; i++) b->data[i] = (char)(length >> (8 * i) & 0xff);
}

berth_status berth_safetensors_write(const char *path, const berth_safetensors_entry *entries, size_t n,
                                     berth_error *err)
{
    size_t bytes = 0;
    berth_status st = check_entries(path, entries, n, &bytes, err);
    if (st != BERTH_OK) return st;
    berth_buffer b = {0};
    put_header(&b, entries, n);
    if (!b.failed) berth_buffer_reserve(&b, bytes);
    for (size_t i = 0; i < n && !b.failed; i++) {
        if (entries[i].n_bytes) berth_buffer_append(&b, entries[i].data, entries[i].n_bytes);
    }
    if (b.failed) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: %zu bytes of tensors", path, bytes);
    } else if (b.len > 8 && bytes <= b.len && b.len - bytes - 8 > BERTH_ST_MAX_HEADER) {
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the header would be over the format's limit of %d bytes",
                        path, BERTH_ST_MAX_HEADER);
    } else {
        st = berth_file_write(path, b.data, b.len, err);
    }
    berth_buffer_deinit(&b);
    return st;
}
