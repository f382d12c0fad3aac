/* image_mutation_test.c - some thousand damaged pictures, the same ones on every run: each is decoded or refused with a
 * sentence, and nothing is read, written or kept that should not be (the sanitizers and valgrind watch). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "image/image_internal.h"

#define FILES BERTH_SOURCE_DIR "/tests/golden/image/files/"
enum { mutants_per_file = 60, extra_bytes = 64 };

static const berth_image_limits limits = {.max_pixels = 1 << 20}; /* so that a lying header costs little */

static uint32_t next_random(uint64_t *state) /* a linear congruential generator, its high bits */
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* Makes every chunk's checksum right again, so that the damage gets past it. */
static void mend_png(uint8_t *p, size_t n)
{
    for (size_t at = 8; at + 12 <= n;) {
        size_t length = berth_be32(p + at);
        if (length > n - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, p + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++) p[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

/* Damages `p` (n bytes, room for extra_bytes more) in one to four places; returns its new length. */
static size_t mutate(uint8_t *p, size_t n, uint64_t *random)
{
    static const uint8_t sharp[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
    for (uint32_t k = next_random(random) % 4 + 1; k > 0 && n > 2; k--) {
        uint32_t reach = next_random(random) % 2 ? 64 : UINT32_MAX; /* headers are damaged more often */
        size_t at = next_random(random) % (n < reach ? n : reach), run;
        switch (next_random(random) % 6) {
        case 0: p[at] ^= (uint8_t)(1u << next_random(random) % 8); break;
        case 1: p[at] = (uint8_t)next_random(random); break;
        case 2: p[at] = sharp[next_random(random) % sizeof sharp]; break;
        case 3: n = n - 1 - next_random(random) % (n / 2); break; /* cut the end off */
        case 4:                                                   /* cut a run out */
            run = next_random(random) % 16;
            if (at + run >= n) break;
            memmove(p + at, p + at + run, n - at - run);
            n -= run;
            break;
        default: /* double a run */
            run = next_random(random) % (extra_bytes / 4);
            if (at + run >= n) break;
            memmove(p + at + run, p + at, n - at);
            n += run;
        }
    }
    return n;
}

/* Decodes from a copy of exactly n bytes, so that a read past the end is seen. */
static bool decodes(const uint8_t *data, size_t n, const char *name)
{
    uint8_t *exact = malloc(n ? n : 1);
    assert_non_null(exact);
    memcpy(exact, data, n);
    berth_image img;
    berth_error err = {0};
    berth_status st = berth_image_decode(exact, n, &limits, &img, &err);
    free(exact);
    if (st == BERTH_OK) {
        assert_true(img.rgb && (uint64_t)img.width * (uint64_t)img.height <= limits.max_pixels);
        uint32_t sum = 0; /* every pixel was written: memcheck and MSan look at this branch */
        for (size_t i = 0; i < (size_t)img.width * (size_t)img.height * 3; i++) sum += img.rgb[i];
        if (sum == UINT32_MAX) print_message("%s\n", name);
    } else {
        assert_null(img.rgb);
        if (st != BERTH_BAD_FILE && st != BERTH_UNSUPPORTED) fail_msg("%s: %s", name, err.message);
        assert_true(strlen(err.message) > 15);
    }
    berth_image_deinit(&img);
    return st == BERTH_OK;
}

static void damaged_files_are_decoded_or_refused(void **state)
{
    (void)state;
    DIR *dir = opendir(FILES);
    assert_non_null(dir);
    int n_files = 0, n_decoded = 0, n_refused = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char path[512], *data;
        size_t n;
        snprintf(path, sizeof path, FILES "%s", entry->d_name);
        assert_int_equal(berth_file_read(path, 1 << 20, &data, &n, NULL), BERTH_OK);
        uint8_t *mutant = malloc(n + extra_bytes);
        assert_non_null(mutant);
        uint64_t random = crc32(0, (const Bytef *)entry->d_name, (uInt)strlen(entry->d_name));
        for (int k = 0; k < mutants_per_file; k++) {
            memcpy(mutant, data, n);
            size_t length = mutate(mutant, n, &random);
            if (k % 4 != 0) mend_png(mutant, strstr(entry->d_name, ".png") ? length : 0);
            if (decodes(mutant, length, entry->d_name)) {
                n_decoded++;
            } else {
                n_refused++;
            }
        }
        free(mutant);
        free(data);
        n_files++;
    }
    closedir(dir);
    assert_true(n_files >= 106);
    assert_true(n_decoded > 500 &&
                n_refused > 500); /* the damage is neither too small nor too large to tell anything */
}

static void every_cut_of_a_file_is_decoded_or_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"png-palette2-adam7-5x3.png", "gif-interlaced.gif", "bmp-4.bmp",
                                        "webp-lossless-3x5.webp", "jpg-420-1x1.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512], *data;
        size_t n;
        snprintf(path, sizeof path, FILES "%s", names[i]);
        assert_int_equal(berth_file_read(path, 1 << 20, &data, &n, NULL), BERTH_OK);
        for (size_t cut = 0; cut < n; cut++) decodes((const uint8_t *)data, cut, names[i]);
        assert_true(decodes((const uint8_t *)data, n, names[i]));
        assert_false(decodes((const uint8_t *)data, n / 2, names[i]));
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_files_are_decoded_or_refused),
        cmocka_unit_test(every_cut_of_a_file_is_decoded_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
