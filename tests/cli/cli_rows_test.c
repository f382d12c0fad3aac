/* cli_rows_test.c - every reference row through `berth tokenize`, `detokenize` and `preprocess --jsonl`: the answers in
 * the rows' order, each stated member equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program.h"

typedef struct row_case {
    const char *name, *arguments;
    const char *rows, *folder; /* below tests/golden; folder NULL = here */
    const char *members;       /* compared where the reference row has them; set apart by blanks */
    const char *prefix;        /* only rows with members of this prefix, and their values; NULL = all rows */
    size_t n;                  /* at least so many rows */
} row_case;

#define T       "-m " GOLDEN "text/"
#define IDS     "ids n_ids ids_sha256 ids_head ids_tail"
#define TEXTS   "text text_hex bytes steps flush"
#define PICTURE "w h cols rows target n rgb_sha256 u8_sha256 f32_sha256"

static const row_case cases[] = {
    {"encode, tokenizer.json", "tokenize --jsonl " T "mixed", "text/encode-mixed.jsonl", NULL, IDS, NULL, 1500},
    {"encode, vocab.json", "tokenize --jsonl " T "mixed-slow", "text/encode-mixed.jsonl", NULL, IDS, NULL, 1500},
    {"encode, receipts", "tokenize --jsonl " T "receipt", "text/encode-receipt.jsonl", NULL, IDS, NULL, 1490},
    {"invalid UTF-8", "tokenize --jsonl " T "mixed", "text/invalid-utf8.jsonl", NULL, IDS, NULL, 120},
    {"prompts", "tokenize --jsonl " T "mixed", "text/chat-mixed.jsonl", NULL, IDS " prompt expanded_sha256", NULL, 57},
    {"decode, tokenizer.json", "detokenize --jsonl " T "mixed", "text/decode-mixed.jsonl", NULL, TEXTS, NULL, 450},
    {"decode, vocab.json", "detokenize --jsonl " T "mixed-slow", "text/decode-mixed.jsonl", NULL, TEXTS, NULL, 450},
    {"decode, receipts", "detokenize --jsonl " T "receipt", "text/decode-receipt.jsonl", NULL, TEXTS, NULL, 450},
    {"answers", "detokenize --jsonl " T "mixed", "text/answer-mixed.jsonl", NULL, "answer", NULL, 40},
    {"grids", "preprocess --jsonl", "image/tiling.jsonl", NULL, PICTURE, NULL, 600},
    {"pictures", "preprocess --jsonl", "image/pixels.jsonl", "image/files", PICTURE, NULL, 340},
    {"pictures, folder given, older order", "preprocess --jsonl --resize-order pillow12 -i " GOLDEN "image/files",
     "image/pixels.jsonl", NULL, PICTURE, "older_", 4},
    {"decoded pictures", "preprocess --jsonl --max-tiles 1 --tile 28", "image/decode.jsonl", "image", PICTURE, NULL,
     100},
};

/* The reference's member: under its prefixed name when there is one, else under its own. */
static const berth_json_node *wanted(const berth_json_node *row, const char *prefix, const char *member)
{
    char key[64];
    snprintf(key, sizeof key, "%s%s", prefix != NULL ? prefix : "", member);
    const berth_json_node *node = berth_json_get(row, key);
    return node != NULL ? node : berth_json_get(row, member);
}

/* How many members were compared. A difference fails the test. */
static size_t compare_row(const row_case *c, const char *want, size_t want_size, const char *got, size_t got_size)
{
    berth_json *a, *b;
    berth_error err = {0};
    char members[256], *rest = NULL;
    size_t n = 0;
    if (berth_json_parse(want, want_size, c->rows, &a, &err) != BERTH_OK) fail_msg("%s", err.message);
    if (berth_json_parse(got, got_size, "the answer", &b, &err) != BERTH_OK) fail_msg("%s: %s", c->name, err.message);
    snprintf(members, sizeof members, "%s", c->members);
    for (char *m = strtok_r(members, " ", &rest); m != NULL; m = strtok_r(NULL, " ", &rest)) {
        const berth_json_node *node = wanted(berth_json_root(a), c->prefix, m);
        if (node == NULL) continue;
        n++;
        if (!json_equal(node, berth_json_get(berth_json_root(b), m)))
            fail_msg("%s: %s differs\nrow:    %.*s\nanswer: %.*s", c->name, m,
                     (int)(want_size < 1500 ? want_size : 1500), want, (int)(got_size < 1500 ? got_size : 1500), got);
    }
    berth_json_destroy(a);
    berth_json_destroy(b);
    return n;
}

/* The rows of the case, each with its newline. Owned. */
static char *read_rows(const row_case *c)
{
    char path[512], key[64];
    size_t size, n = 0;
    snprintf(path, sizeof path, GOLDEN "%s", c->rows);
    char *text = test_read(path, &size);
    if (c->prefix == NULL) return text;
    snprintf(key, sizeof key, "\"%s", c->prefix);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        if (memmem(line, (size_t)(end - line), key, strlen(key)) == NULL) continue;
        memmove(text + n, line, (size_t)(end - line) + 1);
        n += (size_t)(end - line) + 1;
    }
    text[n] = '\0';
    return text;
}

static void rows_are_answered_as_the_reference_does(void **state)
{
    const row_case *c = *state;
    char folder[512];
    snprintf(folder, sizeof folder, GOLDEN "%s", c->folder != NULL ? c->folder : "");
    char *text = read_rows(c);
    const program_run run = {.stdin_text = text, .folder = c->folder != NULL ? folder : NULL};
    program_result r = program_expect(&run, 0, c->arguments);
    size_t n_rows = 0, n_members = 0;
    const char *got = r.out;
    for (const char *want = text, *end; (end = strchr(want, '\n')) != NULL; want = end + 1, n_rows++) {
        const char *got_end = strchr(got, '\n');
        if (got_end == NULL) fail_msg("%s: only %zu answers", c->name, n_rows);
        n_members += compare_row(c, want, (size_t)(end - want), got, (size_t)(got_end - got));
        got = got_end + 1;
    }
    assert_int_equal(*got, '\0');
    assert_true(n_rows >= c->n && n_members >= n_rows);
    assert_string_equal(r.err, "");
    free(text);
    program_deinit(&r);
}

int main(void)
{
    enum { N = sizeof cases / sizeof cases[0] };
    struct CMUnitTest tests[N];
    for (size_t i = 0; i < N; i++)
        tests[i] =
            (struct CMUnitTest){cases[i].name, rows_are_answered_as_the_reference_does, NULL, NULL, (void *)&cases[i]};
    return cmocka_run_group_tests_name("cli_rows", tests, NULL, NULL);
}
