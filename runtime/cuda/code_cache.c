/* code_cache.c - compiled device code kept between runs: one file for each GPU architecture, source and compiler.
 *
 * A file is a header, the images' offsets and the images. The header says what they were made of and the digest of
 * all that follows it, so that a file cut short, damaged or of another berth is seen before a byte of it goes to a
 * driver. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/sha256.h"
#include "cuda/code_internal.h"

typedef struct cache_header {
    char magic[16];
    char key[64];
    uint8_t digest[32]; /* of what follows the header */
    uint64_t n;
} cache_header;

static const char magic[16] = "berth kernels 1";
enum { FILE_MAX = 256 << 20, IMAGE_ALIGN = 64 };

/* Relative paths in XDG_CACHE_HOME are to be ignored (XDG Base Directory Specification). */
static int folder_of(char *out, size_t size, const char *dir)
{
    if (dir) return snprintf(out, size, "%s", dir);
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return snprintf(out, size, "%s/berth", xdg);
    if (home && home[0] == '/') return snprintf(out, size, "%s/.cache/berth", home);
    return 0;
}

void berth_gpu_cache_init(berth_gpu_cache *cache, const char *dir, int32_t capability, const char *made_of)
{
    char folder[3072] = "";
    memset(cache, 0, sizeof *cache);
    const int n = folder_of(folder, sizeof folder, dir);
    if (n <= 0 || n >= (int)sizeof folder || !berth_sha256_hex(made_of, strlen(made_of), cache->key)) return;
    snprintf(cache->path, sizeof cache->path, "%s/sm_%d-%.16s.kernels", folder, (int)capability, cache->key);
}

/* The offsets ascend, are aligned and end with the file. */
static bool offsets_are_right(const uint64_t *offsets, uint64_t n, uint64_t bytes)
{
    if (offsets[0] != 0 || offsets[n] != bytes) return false;
    for (uint64_t i = 0; i < n; i++)
        if (offsets[i] % IMAGE_ALIGN || offsets[i] >= offsets[i + 1]) return false;
    return true;
}

static bool take_images(const char *file, size_t size, const berth_gpu_cache *cache, int32_t n, berth_gpu_images *out)
{
    cache_header h;
    uint8_t digest[32];
    const size_t table = ((size_t)n + 1) * sizeof(uint64_t);
    if (size < sizeof h + table) return false;
    memcpy(&h, file, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0 || memcmp(h.key, cache->key, sizeof h.key) != 0 || h.n != (uint64_t)n)
        return false;
    if (!berth_sha256(file + sizeof h, size - sizeof h, digest) || memcmp(digest, h.digest, sizeof digest) != 0)
        return false;
    uint64_t *offsets = malloc(table);
    out->offsets = calloc((size_t)n + 1, sizeof *out->offsets);
    bool ok = offsets && out->offsets;
    if (ok) memcpy(offsets, file + sizeof h, table);
    ok = ok && offsets_are_right(offsets, (uint64_t)n, size - sizeof h - table);
    for (int32_t i = 0; ok && i <= n; i++) out->offsets[i] = offsets[i];
    out->n = n;
    ok = ok && berth_buffer_append(&out->bytes, file + sizeof h + table, size - sizeof h - table);
    free(offsets);
    return ok;
}

bool berth_gpu_cache_read(const berth_gpu_cache *cache, int32_t n, berth_gpu_images *out)
{
    char *file;
    size_t size;
    memset(out, 0, sizeof *out);
    if (!cache->path[0] || berth_file_read(cache->path, FILE_MAX, &file, &size, NULL) != BERTH_OK) return false;
    const bool ok = take_images(file, size, cache, n, out);
    free(file);
    if (!ok) berth_gpu_images_deinit(out);
    return ok;
}

/* All folders above the file, for the user alone as the specification has it. */
static bool make_folders(const char *path)
{
    char folder[sizeof((berth_gpu_cache *)0)->path];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) != 0 && errno != EEXIST) return false;
        *slash = '/';
    }
    return true;
}

berth_status berth_gpu_cache_write(const berth_gpu_cache *cache, const berth_gpu_images *images, berth_error *err)
{
    if (!cache->path[0]) return BERTH_OK;
    if (!make_folders(cache->path))
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "the folder of %s cannot be made", cache->path);
    cache_header h = {.n = (uint64_t)images->n};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.key, cache->key, sizeof h.key);
    berth_buffer file = {0};
    berth_buffer_append(&file, &h, sizeof h);
    for (int32_t i = 0; i <= images->n; i++) {
        const uint64_t offset = images->offsets[i];
        berth_buffer_append(&file, &offset, sizeof offset);
    }
    berth_buffer_append(&file, images->bytes.data, images->bytes.len);
    berth_status st;
    if (file.failed || !berth_sha256(file.data + sizeof h, file.len - sizeof h, h.digest)) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to keep compiled kernels");
    } else {
        memcpy(file.data, &h, sizeof h);
        st = berth_file_write(cache->path, file.data, file.len, err);
    }
    berth_buffer_deinit(&file);
    return st;
}
