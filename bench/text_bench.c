/* text_bench.c - how long a tokenizer of Qwen2's size takes to load, how fast it encodes, and whether twice the text
 * takes twice the time.
 *
 *     text_bench          a made-up vocabulary of the published one's size, in both spellings of merges
 *     text_bench DIR      the tokenizer of that folder
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

#define N_MERGES 151387 /* Qwen2's */

static void check(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "text_bench: %s\n", err->message);
    exit(1);
}

/* ---- a vocabulary of the published size ---- */

/* The stand-in character of a byte. */
static void put_stand_in(berth_buffer *b, unsigned byte)
{
    char bytes[4];
    unsigned cp = byte;
    if (byte < 33)
        cp = 256 + byte;
    else if (byte > 126 && byte < 161)
        cp = 256 + 33 + byte - 127;
    else if (byte == 173)
        cp = 256 + 67;
    if (byte == '"' || byte == '\\') berth_buffer_putc(b, '\\');
    berth_buffer_append(b, bytes, berth_utf8_encode(cp, bytes));
}

typedef struct made {
    int32_t left[N_MERGES]; /* token 256 + k is token left[k] and byte last[k] */
    unsigned char last[N_MERGES];
} made;

static void put_token(berth_buffer *b, const made *m, int32_t id)
{
    if (id < 256) {
        put_stand_in(b, (unsigned)id);
        return;
    }
    put_token(b, m, m->left[id - 256]);
    put_stand_in(b, m->last[id - 256]);
}

/* Each token is lengthened by a few different bytes in turn, so that no two tokens are equal and most have 5 to 12 bytes. */
static made *make_merges(void)
{
    made *m = malloc(sizeof *m);
    if (!m) exit(1);
    int32_t n = 0;
    for (int32_t left = 0; n < N_MERGES; left++)
        for (int i = 0; i < (left < 256 ? 6 : 3) && n < N_MERGES; i++, n++) {
            m->left[n] = left;
            m->last[n] = (unsigned char)"etaoin shrdlucmf"[(left * 5 + i * 7) % 16];
        }
    return m;
}

static void write_tokenizer(const char *path, bool pairs)
{
    made *m = make_merges();
    berth_buffer b = {0};
    berth_error err = {0};
    berth_buffer_puts(
        &b, "{\n  \"version\": \"1.0\",\n  \"added_tokens\": [{\"id\": 151643, \"content\": \"<|im_start|>\", "
            "\"special\": true}],\n"
            "  \"normalizer\": {\"type\": \"NFC\"},\n  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": "
            "[{\"type\": "
            "\"Split\", \"pattern\": {\"Regex\": "
            "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
            "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": "
            "\"Isolated\", "
            "\"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]},\n"
            "  \"decoder\": {\"type\": \"ByteLevel\"},\n  \"model\": {\n    \"type\": \"BPE\",\n    \"vocab\": {\n");
    for (int32_t id = 0; id < 256 + N_MERGES; id++) {
        berth_buffer_puts(&b, "      \"");
        put_token(&b, m, id);
        berth_buffer_printf(&b, "\": %d%s\n", (int)id, id + 1 < 256 + N_MERGES ? "," : "");
    }
    berth_buffer_puts(&b, "    },\n    \"merges\": [\n");
    for (int32_t k = 0; k < N_MERGES; k++) {
        berth_buffer_puts(&b, pairs ? "      [\n        \"" : "      \"");
        put_token(&b, m, m->left[k]);
        berth_buffer_puts(&b, pairs ? "\",\n        \"" : " ");
        put_stand_in(&b, m->last[k]);
        berth_buffer_printf(&b, pairs ? "\"\n      ]%s\n" : "\"%s\n", k + 1 < N_MERGES ? "," : "");
    }
    berth_buffer_puts(&b, "    ]\n  }\n}\n");
    printf("made up: 151643 tokens, merges as %s, %.2f MB\n", pairs ? "pairs" : "strings", (double)b.len / 1e6);
    check(berth_file_write(path, b.data, b.len, &err), &err);
    berth_buffer_deinit(&b);
    free(m);
}

/* ---- measuring ---- */

/* Time of this thread alone, so that a busy machine does not look like a slow one. */
static double thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure_load(const char *dir)
{
    enum { RUNS = 15 };
    int64_t ns[RUNS];
    double own = thread_ns();
    berth_error err = {0};
    for (int i = 0; i < RUNS; i++) {
        berth_tokenizer *t;
        int64_t begin = berth_now_ns();
        check(berth_tokenizer_open(dir, &t, &err), &err);
        ns[i] = berth_now_ns() - begin;
        berth_tokenizer_close(t);
    }
    own = thread_ns() - own;
    qsort(ns, RUNS, sizeof *ns, by_value);
    printf("load: %.1f ms (median of %d; least %.1f, most %.1f); the thread's own time %.1f ms\n",
           (double)ns[RUNS / 2] / 1e6, RUNS, (double)ns[0] / 1e6, (double)ns[RUNS - 1] / 1e6, own / RUNS / 1e6);
}

/* The least of a few runs, in nanoseconds. */
static double encode_ns(const berth_tokenizer *t, const char *text, size_t n)
{
    double best = 1e18;
    berth_error err = {0};
    for (int i = 0; i < 5; i++) {
        berth_ids ids = {0};
        double begin = thread_ns();
        check(berth_tokenizer_encode(t, text, n, BERTH_MATCH_ALL, &ids, &err), &err);
        double ns = thread_ns() - begin;
        if (ns < best) best = ns;
        berth_ids_deinit(&ids);
    }
    return best;
}

static void measure_encode(const char *dir)
{
    static const struct {
        const char *name, *unit;
    } cases[] = {
        {"prose", "The quick brown fox doesn't jump over 13 lazy dogs; it sleeps, they say. "},
        {"json", "{\"SUPPLIER_NAME\": \"OAK BAKERY\", \"TOTAL_AMOUNT\": \"13.75\"}\n"},
        {"chinese", "请描述这张图片。你是书生·万象，英文名是"},
        {"a", "a"},
        {"spaces", " "},
        {"line ends", " \n"},
        {"marks", "\xCC\x81\xCC\xA3"},
        {"e + accent", "e\xCC\x81"},
        {"half a tag", "<|im_start"},
        {"signs", "='"},
    };
    enum { N = 400000 };
    berth_tokenizer *t;
    berth_error err = {0};
    check(berth_tokenizer_open(dir, &t, &err), &err);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        berth_buffer text = {0};
        size_t len = strlen(cases[k].unit), half = N / 2 / len * len;
        while (text.len < 2 * half) berth_buffer_append(&text, cases[k].unit, len);
        double ns = encode_ns(t, text.data, 2 * half), ns_half = encode_ns(t, text.data, half);
        printf("encode %-10s %7.1f MB/s; twice the text takes %.2f times as long\n", cases[k].name,
               (double)(2 * half) / ns * 1e3, ns / ns_half);
        berth_buffer_deinit(&text);
    }
    berth_tokenizer_close(t);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        measure_load(argv[1]);
        measure_encode(argv[1]);
        return 0;
    }
    char dir[] = "/tmp/berth-text-bench-XXXXXX", path[64];
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    for (int pairs = 0; pairs < 2; pairs++) {
        write_tokenizer(path, pairs);
        measure_load(dir);
    }
    measure_encode(dir);
    unlink(path);
    rmdir(dir);
    return 0;
}
