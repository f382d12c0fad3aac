/* image_hostile_test.c - pictures that lie, are cut or damaged: the `image` cases of tests/golden/hostile, each with the
 * outcome it asks for, and all of them in one process under 1 GiB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "image/image.h"

#define GOLDEN BERTH_SOURCE_DIR "/tests/golden/hostile/"
enum { n_cases_public = 72 };

/* ---- recipes: the operations of the corpus, as its README states them ------------------------------------------- */

static const char *text(const berth_json_node *node, const char *key)
{
    return berth_json_as_string(berth_json_get(node, key));
}

static int64_t number(const berth_json_node *node, const char *key, int64_t otherwise)
{
    const berth_json_node *v = berth_json_get(node, key);
    if (v) assert_true(berth_json_as_i64(v, &otherwise));
    return otherwise;
}

static int digit_value(char c, const char *alphabet) /* -1: not in it */
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

static void append_hex(berth_buffer *b, const char *hex)
{
    static const char digits[] = "0123456789abcdef";
    for (; hex[0] && hex[1]; hex += 2) {
        assert_true(berth_buffer_putc(b, (char)(digit_value(hex[0], digits) << 4 | digit_value(hex[1], digits))));
    }
}

static void append_base64(berth_buffer *b, const char *s)
{
    uint32_t bits = 0;
    int n_bits = 0;
    for (; *s && *s != '='; s++) {
        int v = digit_value(*s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        assert_true(v >= 0);
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        assert_true(berth_buffer_putc(b, (char)(bits >> n_bits & 255)));
    }
}

static void append_inflated(berth_buffer *b, const char *base64)
{
    berth_buffer packed = {0};
    append_base64(&packed, base64);
    z_stream z = {.next_in = (Bytef *)packed.data, .avail_in = (uInt)packed.len};
    assert_int_equal(inflateInit(&z), Z_OK);
    for (int e = Z_OK; e != Z_STREAM_END;) {
        Bytef part[4096];
        z.next_out = part;
        z.avail_out = sizeof part;
        e = inflate(&z, Z_NO_FLUSH);
        assert_true(e == Z_OK || e == Z_STREAM_END);
        assert_true(berth_buffer_append(b, part, sizeof part - z.avail_out));
    }
    inflateEnd(&z);
    berth_buffer_deinit(&packed);
}

static void append_bytes(berth_buffer *b, const berth_json_node *op)
{
    const berth_json_node *parts = berth_json_get(op, "parts");
    for (const berth_json_node *p = berth_json_first(parts); p; p = berth_json_next(p)) append_bytes(b, p);
    if (parts) return;
    for (int64_t times = number(op, "times", 1); times > 0; times--) {
        if (text(op, "text")) assert_true(berth_buffer_puts(b, text(op, "text")));
        if (text(op, "hex")) append_hex(b, text(op, "hex"));
        if (text(op, "b64")) append_base64(b, text(op, "b64"));
        if (text(op, "z")) append_inflated(b, text(op, "z"));
    }
}

static void write_all(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void read_all(const char *path, char **data, size_t *n)
{
    berth_error err = {0};
    if (berth_file_read(path, (size_t)64 << 20, data, n, &err) != BERTH_OK) fail_msg("%s", err.message);
}

/* "splice" and "patch": `cut` bytes at `at` give way to the operation's bytes. */
static void splice(const char *path, const berth_json_node *op, bool patch)
{
    char *old;
    size_t n;
    read_all(path, &old, &n);
    berth_buffer bytes = {0}, made = {0};
    append_bytes(&bytes, op);
    size_t at = (size_t)number(op, "at", 0), cut = patch ? bytes.len : (size_t)number(op, "cut", 0);
    assert_true(at + cut <= n);
    assert_true(berth_buffer_append(&made, old, at) && berth_buffer_append(&made, bytes.data, bytes.len) &&
                berth_buffer_append(&made, old + at + cut, n - at - cut));
    write_all(path, made.data, made.len);
    berth_buffer_deinit(&made);
    berth_buffer_deinit(&bytes);
    free(old);
}

/* Applies one operation in folder `dir`; false when this file system cannot (a sparse file of 1 TB). */
static bool apply(const char *dir, const berth_json_node *op)
{
    const char *what = text(op, "do");
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, text(op, "file"));
    if (!strcmp(what, "write")) {
        berth_buffer b = {0};
        append_bytes(&b, op);
        write_all(path, b.data, b.len);
        berth_buffer_deinit(&b);
    } else if (!strcmp(what, "splice") || !strcmp(what, "patch")) {
        splice(path, op, what[0] == 'p');
    } else if (!strcmp(what, "truncate")) {
        if (truncate(path, number(op, "size", 0)) != 0) return false;
    } else if (!strcmp(what, "link")) {
        assert_int_equal(symlink(text(op, "to"), path), 0);
    } else {
        fail_msg("an operation that this test does not know: %s", what);
    }
    return true;
}

/* ---- cases ------------------------------------------------------------------------------------------------------ */

static const char *const base_names[] = {"base.png", "base.jpg", "base.webp"};
enum { n_bases = 3 };

typedef struct corpus {
    char dir[256]; /* holds in/ */
    berth_image bases[n_bases];
} corpus;

static void fresh_bases(const corpus *c)
{
    for (int i = 0; i < n_bases; i++) {
        char path[512], *data;
        size_t n;
        snprintf(path, sizeof path, GOLDEN "bases/images/%s", base_names[i]);
        read_all(path, &data, &n);
        snprintf(path, sizeof path, "%s/in/%s", c->dir, base_names[i]);
        unlink(path);
        write_all(path, data, n);
        free(data);
    }
}

static void remove_case(const corpus *c, const berth_json_node *row)
{
    char path[512];
    const berth_json_node *recipe = berth_json_get(row, "recipe");
    for (const berth_json_node *op = berth_json_first(recipe); op; op = berth_json_next(op)) {
        snprintf(path, sizeof path, "%s/%s", c->dir, text(op, "file"));
        unlink(path);
    }
}

static bool found(const char *pattern, const char *message)
{
    regex_t r;
    assert_int_equal(regcomp(&r, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB), 0);
    bool yes = regexec(&r, message, 0, NULL, 0) == 0;
    regfree(&r);
    return yes;
}

/* What the corpus leaves open and berth promises: metadata is passed over whatever its size, scans are limited. */
static const struct {
    const char *id, *refusal; /* NULL: accepted */
} promises[] = {
    {"png-ztxt-bomb", NULL},
    {"png-chunk-100k", NULL},
    {"png-idat-100k-empty", NULL},
    {"png-cut-no-end", NULL},
    {"webp-animated", NULL},
    {"png-thin-20000", NULL},
    {"png-bomb-rgba16-7000", NULL},
    {"jpg-scans-small-80000", "scans"},
    {"png-chunk-critical", "critical"},
    {"img-sparse-1tb", "at most"},
};

static void check_promise(const char *id, berth_status st, const char *message)
{
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        if (strcmp(id, promises[i].id) != 0) continue;
        const char *refusal = promises[i].refusal;
        if (!refusal && st != BERTH_OK) fail_msg("%s: refused: %s", id, message);
        if (refusal && (st == BERTH_OK || !strstr(message, refusal)))
            fail_msg("%s: status %d: %s", id, (int)st, message);
    }
}

static void check_outcome(const corpus *c, const berth_json_node *row, berth_status st, const berth_image *img,
                          const char *message)
{
    const char *id = text(row, "id"), *expect = text(row, "expect"), *like = text(row, "like");
    if (st != BERTH_OK) {
        if (!strcmp(expect, "accept")) fail_msg("%s: refused: %s", id, message);
        if (text(row, "names") && !found(text(row, "names"), message)) fail_msg("%s: no file in \"%s\"", id, message);
        if (text(row, "words") && !found(text(row, "words"), message)) fail_msg("%s: no reason in \"%s\"", id, message);
        if (strlen(message) < 20 || found("0x[0-9a-f]{9}", message)) fail_msg("%s: poor message \"%s\"", id, message);
        return;
    }
    if (!strcmp(expect, "reject")) fail_msg("%s: accepted", id);
    bool same = false;
    if (!berth_json_as_bool(berth_json_get(row, "same"), &same) || !same) return;
    const berth_image *base = &c->bases[like && !strcmp(like, "in/base.jpg") ? 1 : 0];
    if (img->width != base->width || img->height != base->height ||
        memcmp(img->rgb, base->rgb, (size_t)img->width * (size_t)img->height * 3) != 0) {
        fail_msg("%s: another picture than its base", id);
    }
}

static void check_case(const corpus *c, const berth_json_node *row)
{
    fresh_bases(c);
    bool applied = true;
    const berth_json_node *recipe = berth_json_get(row, "recipe");
    for (const berth_json_node *op = berth_json_first(recipe); op; op = berth_json_next(op)) {
        applied = applied && apply(c->dir, op);
    }
    if (applied) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", c->dir, text(row, "image") ? text(row, "image") : "in/base.png");
        berth_image img;
        berth_error err = {0};
        berth_status st = berth_image_load(path, NULL, &img, &err);
        check_outcome(c, row, st, &img, err.message);
        check_promise(text(row, "id"), st, err.message);
        berth_image_deinit(&img);
    } else {
        print_message("SKIP %s: this file system has no room for it\n", text(row, "id"));
    }
    remove_case(c, row);
}

static void begin(corpus *c)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];
    *c = (corpus){0};
    snprintf(c->dir, sizeof c->dir, "%s/berth-image-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(c->dir));
    snprintf(path, sizeof path, "%s/in", c->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < n_bases; i++) {
        berth_error err = {0};
        snprintf(path, sizeof path, GOLDEN "bases/images/%s", base_names[i]);
        if (berth_image_load(path, NULL, &c->bases[i], &err) != BERTH_OK) fail_msg("%s", err.message);
    }
}

static void finish(corpus *c)
{
    char path[512];
    for (int i = 0; i < n_bases; i++) {
        snprintf(path, sizeof path, "%s/in/%s", c->dir, base_names[i]);
        unlink(path);
        berth_image_deinit(&c->bases[i]);
    }
    snprintf(path, sizeof path, "%s/in", c->dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(c->dir), 0);
}

static void every_case_has_its_outcome(void **state)
{
    (void)state;
    corpus c;
    begin(&c);
    char *data;
    size_t n;
    int cases = 0;
    read_all(GOLDEN "cases.jsonl", &data, &n);
    for (char *line = data, *end; line < data + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(data + n - line));
        if (!end) end = data + n;
        berth_json *j;
        berth_error err = {0};
        if (berth_json_parse(line, (size_t)(end - line), "cases.jsonl", &j, &err) != BERTH_OK)
            fail_msg("%s", err.message);
        const berth_json_node *row = berth_json_root(j);
        if (!strcmp(text(row, "kind"), "image")) {
            check_case(&c, row);
            cases++;
        }
        berth_json_destroy(j);
    }
    free(data);
    finish(&c);
    assert_int_equal(cases, n_cases_public);
}

static void no_case_takes_a_gigabyte(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* its shadow memory counts too */
#endif
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    assert_true(u.ru_maxrss < 1 << 20); /* KiB, the most that was ever resident */
}

/* A picture may be large, but not larger than the limit, in every format; and the limit is the caller's. */
static void sizes_over_the_limit_are_refused(void **state)
{
    (void)state;
    static const char bmp[54] = "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x10\x27\0\0\x10\x27\0\0\1\0\x18\0";
    static const char gif[] = "GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\0";
    static const struct {
        const char *data;
        size_t n;
    } bombs[] = {{bmp, sizeof bmp}, {gif, sizeof gif}};
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        berth_image img;
        berth_error err = {0};
        assert_int_equal(berth_image_decode(bombs[i].data, bombs[i].n, NULL, &img, &err), BERTH_BAD_FILE);
        if (!strstr(err.message, "too large")) fail_msg("%s", err.message);
    }
    for (int i = 0; i < n_bases; i++) { /* all three are 56 x 28 */
        char path[512];
        snprintf(path, sizeof path, GOLDEN "bases/images/%s", base_names[i]);
        berth_image img;
        berth_error err = {0};
        assert_int_equal(berth_image_load(path, &(berth_image_limits){.max_pixels = 56 * 28 - 1}, &img, &err),
                         BERTH_BAD_FILE);
        if (!strstr(err.message, "56 x 28")) fail_msg("%s", err.message);
        assert_int_equal(berth_image_load(path, &(berth_image_limits){.max_file_bytes = 99}, &img, &err),
                         BERTH_BAD_FILE);
        assert_int_equal(berth_image_load(path, &(berth_image_limits){.max_pixels = 56 * 28}, &img, &err), BERTH_OK);
        berth_image_deinit(&img);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_has_its_outcome),
        cmocka_unit_test(no_case_takes_a_gigabyte),
        cmocka_unit_test(sizes_over_the_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
