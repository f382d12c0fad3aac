/* tokenizer_file_test.c - what tokenizer files are taken and what is refused, and in which words; and that no damage to
 * one does more than get it refused. Each case is the receipt vocabulary with one thing changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "text/chat.h"
#include "text/golden_rows.h"
#include "text/test_folder.h"

#define RECEIPT GOLDEN_TEXT "receipt/tokenizer.json"
#define SLOW    GOLDEN_TEXT "mixed-slow/"

/* The first `find` in the file replaced by `put`. */
static void put_changed(const test_folder *f, const char *name, const char *from, const char *find, const char *put)
{
    size_t n;
    char *data = test_read(from, &n), *at = memmem(data, n, find, strlen(find));
    berth_buffer b = {0};
    if (!at) fail_msg("%s is not in %s", find, from);
    assert_true(berth_buffer_append(&b, data, (size_t)(at - data)) && berth_buffer_puts(&b, put));
    at += strlen(find);
    assert_true(berth_buffer_append(&b, at, n - (size_t)(at - data)));
    test_folder_put(f, name, b.data, b.len);
    berth_buffer_deinit(&b);
    free(data);
}

/* Opens, checks status and that the message names the file and says each of the words (separated by '|'). */
static void expect(const test_folder *f, const char *what, berth_status want, const char *words)
{
    berth_tokenizer *t = NULL;
    berth_error err = {0};
    berth_status st = berth_tokenizer_open(f->path, &t, &err);
    if (st != want) fail_msg("%s: %s, not %s: %s", what, berth_status_name(st), berth_status_name(want), err.message);
    char list[256], *rest = list;
    snprintf(list, sizeof list, "%s", words ? words : "");
    for (char *word; st != BERTH_OK && (word = strtok_r(rest, "|", &rest));)
        if (!strstr(err.message, word)) fail_msg("%s: the message lacks \"%s\": %s", what, word, err.message);
    assert_true((t != NULL) == (st == BERTH_OK));
    berth_tokenizer_close(t);
}

typedef struct change {
    const char *find, *put;
    berth_status status;
    const char *words;
} change;

#define NFC_RULE         "\"normalizer\":{\"type\":\"NFC\"}"
#define BAD              BERTH_BAD_FILE, "tokenizer.json|"
#define OTHER            BERTH_UNSUPPORTED, "tokenizer.json|"
#define FINE             BERTH_OK, NULL
#define LAST_ADDED       "\"content\":\"<IMG_CONTEXT>\""
#define SLOT             "\"special\":true}],"
#define ONE_MORE(fields) "\"special\":true},{" fields "}],"

static const change changes[] = {
    /* the file */
    {"{\"version\"", "\xEF\xBB\xBF{\"version\"", BAD "begins no value"},
    {"\"version\":\"1.0\"", "\"version\":\"2.0\"", OTHER "version 2.0"},
    {"\"version\":\"1.0\"", "\"later\":{\"x\":[1,{\"y\":null}]},\"version\":\"1.0\"", FINE},
    {"\"version\":\"1.0\",", "", FINE},
    {"\"truncation\":null", "\"truncation\":{\"max_length\":4}", FINE},
    {"\"model\":{", "\"model\":{},\"model\":{", BAD "vocab is missing"},
    {"\"decoder\":", "\"decoder\":{\"type\":\"ByteLevel\"},\"decoder\":", BAD "decoder occurs twice"},
    {"\"model\":", "\"muddle\":", BAD "model is missing"},
    {"\"vocab\":{\"!\":0", "\"vocab\":{\"!\":0\xFF", BAD "tokenizer.json:1:"},
    /* the model */
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", OTHER "model type|Unigram"},
    {"\"type\":\"BPE\",", "", FINE},
    {"\"type\":\"BPE\"", "\"type\":7", BAD "model.type"},
    {"\"dropout\":null", "\"dropout\":0.5", OTHER "dropout 0.5"},
    {"\"dropout\":null", "\"dropout\":0.0", FINE},
    {"\"byte_fallback\":false", "\"byte_fallback\":true", OTHER "byte_fallback"},
    {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", OTHER "end_of_word_suffix </w>"},
    {"\"continuing_subword_prefix\":\"\"", "\"continuing_subword_prefix\":[]", BAD "continuing_subword_prefix"},
    {",\"ignore_merges\":false", "", FINE},
    {"\"ignore_merges\":false", "\"ignore_merges\":true", FINE},
    {"\"ignore_merges\":false", "\"ignore_merges\":\"no\"", BAD "ignore_merges"},
    /* the vocabulary */
    {"\"vocab\":{", "\"vocabulary\":{", BAD "vocab is missing"},
    {"\"!\":0", "\"!\":null", BAD "id of token|!"},
    {"\"!\":0", "\"!\":\"0\"", BAD "id of token|no number"},
    {"\"!\":0", "\"!\":-1", BAD "id -1|integer"},
    {"\"!\":0", "\"!\":0.5", BAD "id 0.5"},
    {"\"!\":0", "\"!\":1e2", BAD "id 1e2"},
    {"\"!\":0", "\"!\":2147483647", BAD "id 2147483647"},
    {"\"!\":0", "\"!\":2147483646", BAD "out of range"},
    {"\"!\":0", "\"!\":70000", BAD "out of range"},
    {"\"!\":0", "\"!\":9223372036854775808", BAD "integer"},
    {"\"!\":0", "\"!\":64", BAD "id 64|two tokens"},
    {"\"!\":0", "\"!\":1000", FINE},
    {"\"!\":0", "\"a\":0", BAD "\"a\" twice"},
    {"\"!\":0", "\"\\u0061\":0", BAD "\"a\" twice"},
    {"\"!\":0,", "", BAD "single byte 0x21"},
    {"\"!\":0", "\"!\":0,\"\xE4\xBD\xA0 x\":900", FINE},
    {"\"!\":0", "\"!\":0,\"\xC3\xA9\":127", BAD "twice"}, /* e acute spelled as itself is byte E9 */
    /* merges */
    {"\"merges\":[", "\"merged\":[", BAD "merges is missing"},
    {"\"merges\":[", "\"merges\":[[],", BAD "pair of strings"},
    {"\"merges\":[", "\"merges\":[[\"N\"],", BAD "pair of strings"},
    {"\"merges\":[", "\"merges\":[[\"N\",\"D\",\"x\"],", BAD "pair of strings"},
    {"\"merges\":[", "\"merges\":[[1,2],", BAD "pair of strings"},
    {"\"merges\":[", "\"merges\":[7,", BAD "a merge"},
    {"\"merges\":[", "\"merges\":[\"\",", BAD "one space"},
    {"\"merges\":[", "\"merges\":[\"ND\",", BAD "one space"},
    {"\"merges\":[", "\"merges\":[\" D\",", BAD "one space"},
    {"\"merges\":[", "\"merges\":[\"N D x\",", BAD "one space"},
    {"\"merges\":[", "\"merges\":[[\"N\",\"Q\"],", BAD "makes \"NQ\"|does not know"},
    {"\"merges\":[", "\"merges\":[\"zzz Q\",", BAD "joins \"zzz\"|does not know"},
    {"\"merges\":[", "\"merges\":[\"N D\",", BAD "earlier merge"},
    {"\"N D\",", "[\"N\",\"D\"],", FINE},
    {"\"N D\",", "[\"\\u004e\",\"\\u0044\"],", FINE},
    /* added tokens */
    {"\"id\":489", "\"id\":4294967296", BAD "out of range"},
    {"\"id\":489", "\"id\":-1", BAD "id of an added token"},
    {"\"id\":489", "\"id\":488", BAD "id 488|two tokens"},
    {"\"id\":489", "\"id\":64", BAD "id 64|two tokens"},
    {"\"id\":489,", "", BAD "id is missing"},
    {"\"id\":489", "\"id\":700", FINE},
    {LAST_ADDED ",", "", BAD "content is missing"},
    {LAST_ADDED, "\"content\":\"\"", BAD "empty content"},
    {LAST_ADDED, "\"content\":null", BAD "content of an added token"},
    {LAST_ADDED, "\"content\":\"a\"", BAD "the vocabulary says 64"},
    {LAST_ADDED, "\"content\":\"<img>\"", BAD "occurs twice"},
    {LAST_ADDED ",", LAST_ADDED ",\"note\":[],", FINE},
    {"\"lstrip\":false", "\"lstrip\":true", OTHER "lstrip"},
    {"\"normalized\":false", "\"normalized\":true", FINE},
    {"\"special\":true", "\"special\":\"yes\"", BAD "special"},
    {"\"normalized\":false,\"special\":true", "\"normalized\":false", BAD "special is missing"},
    {SLOT, ONE_MORE("\"id\":64,\"content\":\"a\",\"special\":true"), FINE},
    {SLOT, ONE_MORE("\"id\":490,\"content\":\"Whatever\",\"special\":true"), FINE},
    {SLOT, "\"special\":true},7],", BAD "an added token"},
    /* rules */
    {NFC_RULE, "\"normalizer\":null", FINE},
    {NFC_RULE, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", FINE},
    {NFC_RULE, "\"normalizer\":{\"type\":\"Lowercase\"}", OTHER "normalizer|Lowercase"},
    {NFC_RULE, "\"normalizer\":[]", OTHER "normalizer"},
    {"\"pre_tokenizer\":{", "\"pre_tokenizer\":null,\"x\":{", OTHER "pre_tokenizer"},
    {"\"pre_tokenizer\":{", "\"x\":{", OTHER "pre_tokenizer is missing"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "\\\\p{Bogus}", OTHER "pattern|Bogus"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(\\\\w+)+$", OTHER "pattern"},
    {"\"Isolated\"", "\"Removed\"", OTHER "Removed"},
    {"\"invert\":false", "\"invert\":true", OTHER "pre_tokenizer"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", OTHER "add_prefix_space"},
    {"\"use_regex\":false", "\"use_regex\":true", OTHER "use_regex"},
    {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Bogus\"", OTHER "decoder|Bogus"},
    {"\"decoder\":{", "\"decoder\":null,\"x\":{", OTHER "decoder"},
    {"\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"Bogus\"",
     OTHER "post_processor|Bogus"},
    {"\"post_processor\":{", "\"post_processor\":null,\"x\":{", FINE},
};

static void each_change_is_judged(void **state)
{
    (void)state;
    test_folder f;
    test_folder_init(&f);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        put_changed(&f, "tokenizer.json", RECEIPT, changes[i].find, changes[i].put);
        expect(&f, changes[i].put, changes[i].status, changes[i].words);
    }
    test_folder_deinit(&f);
}

static void lengths_are_limited(void **state)
{
    (void)state;
    test_folder f;
    test_folder_init(&f);
    char *text = malloc(80000);
    for (int over = 0; over < 2; over++) {
        sprintf(text, "\"!\":0,\"%0*d\":600", 65536 + over, 0);
        put_changed(&f, "tokenizer.json", RECEIPT, "\"!\":0", text);
        expect(&f, "a long token", over ? BERTH_BAD_FILE : BERTH_OK, "65537 bytes");
        sprintf(text, "\"content\":\"%0*d\"", 1024 + over, 0);
        put_changed(&f, "tokenizer.json", RECEIPT, LAST_ADDED, text);
        expect(&f, "a long added token", over ? BERTH_BAD_FILE : BERTH_OK, "1025 bytes");
    }
    free(text);
    test_folder_deinit(&f);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 11421896\n";
    char path[128];
    test_folder f;
    test_folder_init(&f);
    expect(&f, "nothing", BERTH_NOT_FOUND, "tokenizer.json is missing");
    snprintf(path, sizeof path, "%s/tokenizer.json", f.path);
    assert_int_equal(mkdir(path, 0700), 0);
    expect(&f, "a folder", BERTH_BAD_FILE, "tokenizer.json|not a regular file");
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect(&f, "a FIFO", BERTH_BAD_FILE, "tokenizer.json|not a regular file");
    assert_int_equal(remove(path), 0);
    test_folder_put(&f, "tokenizer.json", "", 0);
    expect(&f, "an empty file", BERTH_BAD_FILE, "tokenizer.json");
    test_folder_put(&f, "tokenizer.json", "[]", 2);
    expect(&f, "an array", BERTH_BAD_FILE, "tokenizer.json|JSON object with a model");
    test_folder_put(&f, "tokenizer.json", lfs, sizeof lfs - 1);
    expect(&f, "a pointer", BERTH_BAD_FILE, "tokenizer.json|LFS");
    test_folder_deinit(&f);
}

/* Merges before the vocabulary they refer to. */
static void order_of_keys_does_not_matter(void **state)
{
    (void)state;
    test_folder f;
    size_t n;
    char *data = test_read(RECEIPT, &n);
    char *vocab = memmem(data, n, "\"vocab\":", 8), *merges = memmem(data, n, "\"merges\":", 9);
    berth_buffer b = {0};
    berth_buffer_append(&b, data, (size_t)(vocab - data));
    berth_buffer_append(&b, merges, (size_t)(data + n - merges));
    while (b.data[b.len - 1] != ']') b.len--;
    berth_buffer_putc(&b, ',');
    berth_buffer_append(&b, vocab, (size_t)(merges - vocab - 1));
    berth_buffer_puts(&b, "}}");
    test_folder_init(&f);
    test_folder_put(&f, "tokenizer.json", b.data, b.len);
    berth_tokenizer *a = golden_tokenizer("receipt"), *t = NULL;
    assert_int_equal(berth_tokenizer_open(f.path, &t, NULL), BERTH_OK);
    static const char text[] = "\"TOTAL_AMOUNT\": \"13.75\" the assistant";
    berth_ids x = {0}, y = {0};
    assert_int_equal(berth_tokenizer_encode(a, text, sizeof text - 1, BERTH_MATCH_NONE, &x, NULL), BERTH_OK);
    assert_int_equal(berth_tokenizer_encode(t, text, sizeof text - 1, BERTH_MATCH_NONE, &y, NULL), BERTH_OK);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len * sizeof *x.data);
    berth_ids_deinit(&x);
    berth_ids_deinit(&y);
    berth_tokenizer_close(a);
    berth_tokenizer_close(t);
    test_folder_deinit(&f);
    berth_buffer_deinit(&b);
    free(data);
}

/* ---- the slow form ---- */

static void slow_base(test_folder *f)
{
    test_folder_init(f);
    test_folder_copy(f, "vocab.json", SLOW "vocab.json");
    test_folder_copy(f, "merges.txt", SLOW "merges.txt");
    test_folder_copy(f, "added_tokens.json", SLOW "added_tokens.json");
    test_folder_copy(f, "tokenizer_config.json", SLOW "tokenizer_config.json");
}

static void drop(const test_folder *f, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    assert_int_equal(remove(path), 0);
}

static void slow_files_may_be_missing(void **state)
{
    (void)state;
    test_folder f;
    slow_base(&f);
    drop(&f, "added_tokens.json"); /* the config describes the same */
    expect(&f, "no added_tokens.json", BERTH_OK, NULL);
    test_folder_copy(&f, "added_tokens.json", SLOW "added_tokens.json");
    drop(&f, "tokenizer_config.json");
    expect(&f, "no tokenizer_config.json", BERTH_OK, NULL);
    drop(&f, "added_tokens.json");
    expect(&f, "no added tokens", BERTH_OK, NULL);
    drop(&f, "merges.txt");
    expect(&f, "no merges.txt", BERTH_NOT_FOUND, "merges.txt");
    test_folder_copy(&f, "merges.txt", SLOW "merges.txt");
    drop(&f, "vocab.json");
    expect(&f, "no vocab.json", BERTH_NOT_FOUND, "vocab.json");
    test_folder_deinit(&f);
}

typedef struct slow_change {
    const char *file, *find, *put;
    berth_status status;
    const char *words;
} slow_change;

static const slow_change slow_changes[] = {
    {"vocab.json", "\"!\":0", "\"!\":-1", BERTH_BAD_FILE, "vocab.json|id -1"},
    {"vocab.json", "\"!\":0", "\"!\":[0]", BERTH_BAD_FILE, "vocab.json|integer"},
    {"vocab.json", "\"!\":0", "\"!\":5", BERTH_BAD_FILE, "vocab.json|two tokens"},
    {"vocab.json", "\"!\":0", "\"a\":0", BERTH_BAD_FILE, "vocab.json|twice"},
    {"vocab.json", "{", "", BERTH_BAD_FILE, "vocab.json"},
    {"merges.txt", "#version: 0.2\n", "", BERTH_OK, NULL},
    {"merges.txt", "#version: 0.2\n", "#version: 0.2\n\n", BERTH_OK, NULL},
    {"merges.txt", "#version: 0.2\n", "#version: 0.2\n# comment here\n", BERTH_BAD_FILE, "merges.txt|one space"},
    {"merges.txt", "#version: 0.2\n", "#version: 0.2\nzzz q\n", BERTH_BAD_FILE, "merges.txt|does not know"},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|im_end|>\":2257", BERTH_BAD_FILE, "added_tokens.json|2257|2258"},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|new|>\":2258", BERTH_BAD_FILE, "added_tokens.json|two tokens"},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|im_end|>\":2258,\"<|im_end|>\":2258", BERTH_BAD_FILE,
     "added_tokens.json"},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|im_end|>\":2258,\"<video>\":2290", BERTH_OK, NULL},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|im_end|>\":\"x\"", BERTH_BAD_FILE, "added_tokens.json|integer"},
    {"added_tokens.json", "\"<|im_end|>\":2258", "\"<|im_end|>\":2258,\"<video>\":1e300", BERTH_BAD_FILE,
     "added_tokens.json|integer"},
    {"tokenizer_config.json", "Qwen2Tokenizer", "GPT2Tokenizer", BERTH_UNSUPPORTED,
     "tokenizer_config.json|GPT2Tokenizer"},
    {"tokenizer_config.json", "\"model_max_length\":8192", "\"model_max_length\":1000000000000000019884624838656",
     BERTH_OK, NULL},
    {"tokenizer_config.json", "\"2258\":{", "\"x\":{", BERTH_BAD_FILE, "tokenizer_config.json|token id"},
    {"tokenizer_config.json", "\"content\":\"<|im_end|>\"", "\"contents\":\"<|im_end|>\"", BERTH_BAD_FILE,
     "tokenizer_config.json|content"},
    {"tokenizer_config.json", "\"lstrip\":false", "\"lstrip\":true", BERTH_UNSUPPORTED, "tokenizer_config.json|lstrip"},
    {"tokenizer_config.json", "{", "", BERTH_BAD_FILE, "tokenizer_config.json"},
};

static void each_slow_change_is_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof slow_changes / sizeof *slow_changes; i++) {
        const slow_change *c = &slow_changes[i];
        char from[512];
        test_folder f;
        slow_base(&f);
        snprintf(from, sizeof from, "%s%s", SLOW, c->file);
        put_changed(&f, c->file, from, c->find, c->put);
        expect(&f, c->put, c->status, c->words);
        test_folder_deinit(&f);
    }
}

static void merges_may_have_carriage_returns(void **state)
{
    (void)state;
    test_folder f;
    size_t n;
    char *data = test_read(SLOW "merges.txt", &n);
    berth_buffer b = {0};
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n') berth_buffer_putc(&b, '\r');
        berth_buffer_putc(&b, data[i]);
    }
    slow_base(&f);
    test_folder_put(&f, "merges.txt", b.data, b.len);
    expect(&f, "CR LF", BERTH_OK, NULL);
    test_folder_deinit(&f);
    berth_buffer_deinit(&b);
    free(data);
}

/* ---- damage ---- */

static uint32_t roll(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

/* One to four random changes to data[0, *n). */
static void damage(char *data, size_t *n, uint64_t *dice)
{
    static const char *const bits[] = {"\"", "{",           "}",       "[",  "]",        ",",    ":", "null", "0",
                                       "-1", "99999999999", "\\u0120", "\\", "\xC4\xA0", "\xFF", "e", " "};
    for (uint32_t times = 1 + roll(dice, 4); times && *n > 8; times--) {
        size_t at = roll(dice, (uint32_t)*n - 4);
        const char *bit = bits[roll(dice, sizeof bits / sizeof *bits)];
        size_t len = strlen(bit), cut = roll(dice, 4), far;
        switch (roll(dice, 5)) {
        case 0: data[at] ^= (char)(1u << roll(dice, 8)); break;
        case 1: /* splice, keeping the size when the piece is longer than what it replaces */
            if (at + len <= *n) memcpy(data + at, bit, len);
            break;
        case 2:
            memmove(data + at, data + at + cut, *n - at - cut);
            *n -= cut;
            break;
        case 3: /* a stretch of the file over another */
            far = roll(dice, (uint32_t)*n - 4);
            len = roll(dice, 64);
            if (far + len <= *n && at + len <= *n) memmove(data + at, data + far, len);
            break;
        default:
            if (roll(dice, 40) == 0) *n = at;
            break;
        }
    }
}

/* A tokenizer that was taken must work without fault, whatever it says. */
static void use(const berth_tokenizer *t)
{
    static const char text[] =
        "<|im_start|>user\nRead the receipt: \"TOTAL_AMOUNT\" e\xCC\x81 \xE4\xBD\xA0<img></img> 13.75 'sis";
    berth_ids ids = {0};
    berth_buffer out = {0};
    assert_int_equal(berth_tokenizer_encode(t, text, sizeof text - 1, BERTH_MATCH_ALL, &ids, NULL), BERTH_OK);
    for (int32_t id = -1; id <= berth_tokenizer_size(t) && id < 4000; id++) assert_true(berth_ids_push(&ids, id));
    assert_int_equal(berth_tokenizer_decode(t, ids.data, ids.len, false, &out, NULL), BERTH_OK);
    ids.len = 0;
    berth_part part = {BERTH_PART_TEXT, text, sizeof text - 1};
    berth_message message = {.role = "user", .parts = &part, .n_parts = 1};
    berth_prompt_options options = {.form = BERTH_CHAT_INTERNVL2_5};
    berth_prompt_ids(t, &message, 1, &options, &ids, NULL, NULL);
    berth_ids_deinit(&ids);
    berth_buffer_deinit(&out);
}

static void damaged_files_are_refused_or_work(const char *name, const char *from, int n_rounds)
{
    test_folder f;
    size_t n_good;
    uint64_t dice = 7;
    int n_taken = 0;
    char *good = test_read(from, &n_good), *data = malloc(n_good);
    slow_base(&f);
    for (int i = 0; i < n_rounds; i++) {
        size_t n = n_good;
        berth_tokenizer *t = NULL;
        berth_error err = {0};
        memcpy(data, good, n);
        damage(data, &n, &dice);
        test_folder_put(&f, name, data, n);
        berth_status st = berth_tokenizer_open(f.path, &t, &err);
        if (st == BERTH_OK) {
            use(t);
            n_taken++;
        } else if (st != BERTH_BAD_FILE && st != BERTH_UNSUPPORTED) {
            fail_msg("round %d: %s", i, err.message);
        } else if (!strstr(err.message, "tokenizer") && !strstr(err.message, "added_tokens") &&
                   !strstr(err.message, name)) {
            fail_msg("round %d: the message names no file: %s", i, err.message);
        }
        berth_tokenizer_close(t);
    }
    print_message("%s: %d of %d damaged files were still taken\n", name, n_taken, n_rounds);
    assert_true(n_taken > 0 && n_taken < n_rounds);
    free(data);
    free(good);
    test_folder_deinit(&f);
}

static void damaged_json(void **state)
{
    (void)state;
    damaged_files_are_refused_or_work("tokenizer.json", RECEIPT, 4000);
}

static void damaged_slow_files(void **state)
{
    (void)state;
    damaged_files_are_refused_or_work("merges.txt", SLOW "merges.txt", 300);
    damaged_files_are_refused_or_work("added_tokens.json", SLOW "added_tokens.json", 300);
    damaged_files_are_refused_or_work("tokenizer_config.json", SLOW "tokenizer_config.json", 300);
}

/* Every place at which the file can end. */
static void truncated_json(void **state)
{
    (void)state;
    test_folder f;
    size_t n;
    char *data = test_read(RECEIPT, &n);
    while (n && data[n - 1] != '}') n--;
    test_folder_init(&f);
    for (size_t i = 0; i < n; i += 1 + i / 512) {
        test_folder_put(&f, "tokenizer.json", data, i);
        expect(&f, "cut short", BERTH_BAD_FILE, "tokenizer.json");
    }
    test_folder_deinit(&f);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_is_judged),
        cmocka_unit_test(lengths_are_limited),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(order_of_keys_does_not_matter),
        cmocka_unit_test(slow_files_may_be_missing),
        cmocka_unit_test(each_slow_change_is_judged),
        cmocka_unit_test(merges_may_have_carriage_returns),
        cmocka_unit_test(truncated_json),
        cmocka_unit_test(damaged_json),
        cmocka_unit_test(damaged_slow_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
