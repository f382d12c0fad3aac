/* tokenizer_golden_test.c - every vector of tests/golden/text but the conversations: cutting and NFC, encoding,
 * decoding whole and streaming, answers, repair. The vocabulary qwen2 (the published one) is not bundled: see
 * tests/golden/make/qwen2_vocab.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/chat.h"
#include "text/cut.h"
#include "text/golden_rows.h"
#include "text/nfc.h"

static void all_right(const char *name, golden_count c, int at_least)
{
    print_message("%s: %d rows, %d wrong; optional: %d, %d wrong\n", name, c.n_rows, c.n_wrong, c.n_optional,
                  c.n_optional_wrong);
    assert_int_equal(c.n_wrong, 0);
    assert_true(c.n_rows >= at_least);
}

static bool same_bytes(const berth_buffer *a, const berth_buffer *b)
{
    return a->len == b->len && (!a->len || memcmp(a->data, b->data, a->len) == 0);
}

/* ---- cutting ---- */

static bool judge_split(const berth_json_node *row, void *arg)
{
    (void)arg;
    berth_buffer text = {0}, want = {0}, got = {0};
    golden_text(row, &text);
    if (!golden_bytes(row, "nfc", &want)) berth_buffer_append(&want, text.data, text.len);
    bool right = berth_nfc(text.data, text.len, &got) && same_bytes(&want, &got);
    right = right && (!berth_nfc_is_plain(text.data, text.len) || same_bytes(&text, &got));
    size_t at = 0;
    const berth_json_node *cut = berth_json_first(berth_json_get(row, "cut"));
    for (; right && cut; cut = berth_json_next(cut)) {
        int64_t len = -1;
        berth_json_as_i64(cut, &len);
        right = at < got.len && (int64_t)berth_cut_qwen2()->next(got.data + at, got.len - at) == len;
        at += (size_t)len;
    }
    right = right && at == got.len;
    berth_buffer_deinit(&text);
    berth_buffer_deinit(&want);
    berth_buffer_deinit(&got);
    return right;
}

static void split_rows(void **state)
{
    (void)state;
    all_right("split", golden_rows("split.jsonl", judge_split, NULL), 1300);
}

/* ---- encoding ---- */

static bool judge_encode(const berth_json_node *row, void *arg)
{
    const berth_tokenizer *t = arg;
    const char *match = golden_string(row, "match");
    berth_match how = strcmp(match, "all") == 0    ? BERTH_MATCH_ALL
                      : strcmp(match, "none") == 0 ? BERTH_MATCH_NONE
                                                   : BERTH_MATCH_NONSPECIAL;
    berth_buffer text = {0};
    berth_ids ids = {0};
    golden_text(row, &text);
    bool right =
        berth_tokenizer_encode(t, text.data, text.len, how, &ids, NULL) == BERTH_OK && golden_same_ids(row, &ids);
    berth_buffer_deinit(&text);
    berth_ids_deinit(&ids);
    return right;
}

/* ---- decoding ---- */

typedef struct decoded {
    berth_buffer whole, streamed;
    bool steps_right;
} decoded;

static void decode_both(const berth_tokenizer *t, const berth_json_node *row, const berth_ids *ids, decoded *d)
{
    bool skip = golden_bool(row, "skip_special");
    assert_int_equal(berth_tokenizer_decode(t, ids->data, ids->len, skip, &d->whole, NULL), BERTH_OK);
    berth_stream_decoder s;
    berth_stream_decoder_init(&s, t, skip);
    const berth_json_node *step = berth_json_first(berth_json_get(row, "steps"));
    d->steps_right = true;
    for (size_t i = 0; i < ids->len; i++, step = berth_json_next(step)) {
        size_t before = d->streamed.len;
        int64_t want = -1;
        assert_true(berth_stream_decoder_push(&s, ids->data[i], &d->streamed));
        berth_json_as_i64(step, &want);
        d->steps_right = d->steps_right && (int64_t)(d->streamed.len - before) == want;
    }
    size_t before = d->streamed.len;
    assert_true(berth_stream_decoder_flush(&s, &d->streamed));
    d->steps_right = d->steps_right && (int64_t)(d->streamed.len - before) == golden_int(row, "flush", -1);
}

static bool judge_decode(const berth_json_node *row, void *arg)
{
    berth_buffer want = {0};
    berth_ids ids = {0};
    decoded d = {0};
    golden_ids(berth_json_get(row, "ids"), &ids);
    golden_bytes(row, "text", &want);
    decode_both(arg, row, &ids, &d);
    bool right = d.steps_right && same_bytes(&want, &d.whole) && same_bytes(&want, &d.streamed);
    berth_buffer_deinit(&want);
    berth_buffer_deinit(&d.whole);
    berth_buffer_deinit(&d.streamed);
    berth_ids_deinit(&ids);
    return right;
}

static void rows_of(const char *vocabulary)
{
    char name[64];
    berth_tokenizer *t = golden_tokenizer(vocabulary);
    if (!t) {
        print_message("the vocabulary qwen2 is not here: set BERTH_TEST_QWEN2 to the folder of its tokenizer.json\n");
        skip();
    }
    snprintf(name, sizeof name, "encode-%s.jsonl", vocabulary);
    all_right(name, golden_rows(name, judge_encode, t), 1400);
    snprintf(name, sizeof name, "decode-%s.jsonl", vocabulary);
    all_right(name, golden_rows(name, judge_decode, t), 400);
    berth_tokenizer_close(t);
}

static void mixed_rows(void **state)
{
    (void)state;
    rows_of("mixed");
}

static void receipt_rows(void **state)
{
    (void)state;
    rows_of("receipt");
}

static void qwen2_rows(void **state)
{
    (void)state;
    rows_of("qwen2");
}

static void slow_form_gives_the_same(void **state)
{
    (void)state;
    berth_tokenizer *t = golden_tokenizer("mixed-slow");
    all_right("slow form", golden_rows("encode-mixed.jsonl", judge_encode, t), 1400);
    all_right("slow form", golden_rows("decode-mixed.jsonl", judge_decode, t), 400);
    berth_tokenizer_close(t);
}

static void merges_as_pairs_give_the_same(void **state)
{
    (void)state;
    berth_tokenizer *t = golden_tokenizer("mixed-pairs");
    all_right("merges as pairs", golden_rows("encode-mixed.jsonl", judge_encode, t), 1400);
    all_right("merges as pairs", golden_rows("decode-mixed.jsonl", judge_decode, t), 400);
    berth_tokenizer_close(t);
}

/* ---- answers, repair ---- */

static bool judge_answer(const berth_json_node *row, void *arg)
{
    const berth_tokenizer *t = arg;
    berth_ids ids = {0}, kept = {0};
    berth_buffer fast = {0}, slow = {0};
    golden_ids(berth_json_get(row, "ids"), &ids);
    int32_t first =
        berth_tokenizer_special_id(t, "<|endoftext|>"); /* the slow tokenizer drops 14 from here, and no more */
    for (size_t i = 0; i < ids.len; i++)
        if (ids.data[i] < first || ids.data[i] > first + 13) assert_true(berth_ids_push(&kept, ids.data[i]));
    assert_int_equal(berth_tokenizer_decode(t, ids.data, ids.len, true, &fast, NULL), BERTH_OK);
    assert_int_equal(berth_tokenizer_decode(t, kept.data, kept.len, false, &slow, NULL), BERTH_OK);
    berth_answer_strip(&fast);
    berth_answer_strip(&slow);
    const char *answer = golden_string(row, "answer"), *slow_answer = golden_string(row, "slow_answer");
    bool right = strlen(answer) == fast.len && (!fast.len || strcmp(answer, fast.data) == 0);
    if (!slow_answer) slow_answer = answer;
    right = right && strlen(slow_answer) == slow.len && (!slow.len || strcmp(slow_answer, slow.data) == 0);
    berth_ids_deinit(&ids);
    berth_ids_deinit(&kept);
    berth_buffer_deinit(&fast);
    berth_buffer_deinit(&slow);
    return right;
}

static bool judge_invalid(const berth_json_node *row, void *arg)
{
    const berth_tokenizer *t = arg;
    berth_buffer bytes = {0}, repaired = {0}, want = {0};
    berth_ids ids = {0};
    golden_unhex(golden_string(row, "hex"), &bytes);
    golden_unhex(golden_string(row, "repaired"), &want);
    bool valid = golden_bool(row, "valid");
    bool right = berth_utf8_valid(bytes.data, bytes.len) == valid;
    berth_status direct = berth_tokenizer_encode(t, bytes.data, bytes.len, BERTH_MATCH_ALL, &ids, NULL);
    right = right && direct == (valid ? BERTH_OK : BERTH_INVALID_ARGUMENT) && (valid || ids.len == 0);
    ids.len = 0;
    right = right && berth_text_repair(bytes.data, bytes.len, &repaired) && same_bytes(&want, &repaired);
    right = right && berth_tokenizer_encode(t, repaired.data, repaired.len, BERTH_MATCH_ALL, &ids, NULL) == BERTH_OK &&
            golden_same_ids(row, &ids);
    berth_buffer_deinit(&bytes);
    berth_buffer_deinit(&repaired);
    berth_buffer_deinit(&want);
    berth_ids_deinit(&ids);
    return right;
}

static void answers_and_repair(void **state)
{
    (void)state;
    berth_tokenizer *t = golden_tokenizer("mixed");
    all_right("answer", golden_rows("answer-mixed.jsonl", judge_answer, t), 40);
    all_right("invalid-utf8", golden_rows("invalid-utf8.jsonl", judge_invalid, t), 125);
    berth_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_rows),
        cmocka_unit_test(mixed_rows),
        cmocka_unit_test(merges_as_pairs_give_the_same),
        cmocka_unit_test(slow_form_gives_the_same),
        cmocka_unit_test(receipt_rows),
        cmocka_unit_test(qwen2_rows),
        cmocka_unit_test(answers_and_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
