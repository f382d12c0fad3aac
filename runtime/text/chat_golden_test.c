/* chat_golden_test.c - every conversation of tests/golden/text: the prompt's text, its expansion and its ids, in the
 * reference's mode; and that the default mode gives the same ids wherever the conversation spells no special string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "text/chat.h"
#include "text/golden_rows.h"

#define MAX_TURNS 16
#define MAX_PARTS 16

/* A row as the arguments of the API. */
typedef struct conversation {
    berth_message messages[MAX_TURNS];
    berth_part parts[MAX_TURNS][MAX_PARTS];
    int32_t n_messages;
    berth_internvl_turn history[MAX_TURNS];
    berth_part system;
    berth_internvl_chat chat;
    int32_t tiles[MAX_PARTS];
    berth_prompt_options options;
} conversation;

static berth_part text_part(const char *text)
{
    return (berth_part){BERTH_PART_TEXT, text, strlen(text)};
}

static void read_options(const berth_json_node *row, conversation *c)
{
    const char *layout = golden_string(row, "layout");
    const berth_json_node *generation = berth_json_get(row, "generation_prompt");
    c->options.form = strcmp(layout, "native") == 0    ? BERTH_CHAT_NATIVE
                      : strcmp(layout, "qwen2.5") == 0 ? BERTH_CHAT_QWEN2_5
                                                       : BERTH_CHAT_INTERNVL2_5;
    c->options.no_generation_prompt = generation && !golden_bool(row, "generation_prompt");
    c->options.tokens_per_tile = (int32_t)golden_int(row, "tokens_per_tile", 0);
    c->options.tiles = c->tiles;
    const berth_json_node *tile = berth_json_first(berth_json_get(row, "tiles"));
    for (; tile; tile = berth_json_next(tile)) {
        int64_t n = 0;
        assert_true(berth_json_as_i64(tile, &n) && c->options.n_images < MAX_PARTS);
        c->tiles[c->options.n_images++] = (int32_t)n;
    }
}

static void read_message(const berth_json_node *row, conversation *c)
{
    assert_true(c->n_messages < MAX_TURNS);
    berth_part *parts = c->parts[c->n_messages];
    berth_message *m = &c->messages[c->n_messages++];
    *m = (berth_message){.role = golden_string(row, "role"), .parts = parts};
    const berth_json_node *content = berth_json_get(row, "content");
    if (berth_json_as_string(content)) parts[m->n_parts++] = text_part(berth_json_as_string(content));
    for (const berth_json_node *p = berth_json_first(content); p; p = berth_json_next(p)) {
        bool image = strcmp(golden_string(p, "type"), "image") == 0;
        assert_true(m->n_parts < MAX_PARTS);
        parts[m->n_parts++] = image ? (berth_part){.kind = BERTH_PART_IMAGE} : text_part(golden_string(p, "text"));
    }
}

static void read_chat(const berth_json_node *row, conversation *c)
{
    const char *system = golden_string(row, "system");
    if (system) {
        c->system = text_part(system);
        c->chat.system = &c->system;
    }
    const berth_json_node *history = berth_json_get(row, "history");
    c->chat.has_history = berth_json_type_of(history) == BERTH_JSON_ARRAY;
    c->chat.history = c->history;
    for (const berth_json_node *turn = berth_json_first(history); turn; turn = berth_json_next(turn)) {
        const berth_json_node *question = berth_json_first(turn);
        assert_true(c->chat.n_history < MAX_TURNS);
        berth_internvl_turn *t = &c->history[c->chat.n_history++];
        t->question = text_part(berth_json_as_string(question));
        t->answer = text_part(berth_json_as_string(berth_json_next(question)));
    }
    c->chat.question = text_part(golden_string(row, "question"));
}

static void read_row(const berth_json_node *row, conversation *c)
{
    read_options(row, c);
    if (c->options.form == BERTH_CHAT_INTERNVL2_5) read_chat(row, c);
    const berth_json_node *m = berth_json_first(berth_json_get(row, "messages"));
    for (; m; m = berth_json_next(m)) read_message(m, c);
}

static bool spelled_right(const berth_json_node *row, const berth_buffer *spelled, const berth_buffer *expanded)
{
    char hex[65];
    const char *want = golden_string(row, "expanded_sha256");
    assert_true(berth_sha256_hex(expanded->data, expanded->len, hex));
    return strcmp(spelled->data, golden_string(row, "prompt")) == 0 && (!want || strcmp(hex, want) == 0);
}

/* Each picture's run begins where image_at says; surplus pictures have none. */
static bool images_right(const berth_tokenizer *t, const conversation *c, const berth_ids *ids, const int32_t *image_at)
{
    int32_t context = berth_chat_image_id(t);
    for (int32_t k = 0; k < c->options.n_images; k++) {
        if (image_at[k] < 0) continue;
        int32_t n = c->tiles[k] * c->options.tokens_per_tile;
        for (int32_t i = 0; i < n; i++)
            if (ids->data[image_at[k] + i] != context) return false;
        if (ids->data[image_at[k] - 1] == context || ids->data[image_at[k] + n] == context) return false;
    }
    return true;
}

static bool judge_chat(const berth_json_node *row, void *arg)
{
    const berth_tokenizer *t = arg;
    conversation *c = calloc(1, sizeof *c);
    berth_ids ids = {0};
    berth_buffer spelled = {0}, expanded = {0};
    berth_error err = {0};
    int32_t image_at[MAX_PARTS];
    read_row(row, c);
    c->options.text_may_hold_tokens = true;
    c->options.out_spelled = &spelled;
    c->options.out_expanded = &expanded;
    berth_status st = c->n_messages ? berth_prompt_ids(t, c->messages, c->n_messages, &c->options, &ids, image_at, &err)
                                    : berth_internvl_chat_ids(t, &c->chat, &c->options, &ids, image_at, &err);
    if (st != BERTH_OK) print_error("%s\n", err.message);
    bool right = st == BERTH_OK && spelled_right(row, &spelled, &expanded) && golden_same_ids(row, &ids) &&
                 images_right(t, c, &ids, image_at);
    berth_buffer_deinit(&spelled);
    berth_buffer_deinit(&expanded);
    berth_ids_deinit(&ids);
    free(c);
    return right;
}

/* A chat() call as messages: pictures as image parts of the question. False where that cannot say the same. */
static bool chat_as_messages(conversation *c)
{
    const berth_part *texts[2 * MAX_TURNS + 2];
    int32_t n = 0;
    if (c->chat.system) texts[n++] = c->chat.system;
    int32_t first_user = n;
    for (int32_t i = 0; i < c->chat.n_history; i++) {
        texts[n++] = &c->history[i].question;
        texts[n++] = &c->history[i].answer;
    }
    texts[n++] = &c->chat.question;
    if (n > MAX_TURNS || (c->options.n_images && c->chat.has_history)) return false;
    for (int32_t i = 0; i < n; i++) {
        bool is_system = i < first_user, is_user = (i - first_user) % 2 == 0;
        berth_message *m = &c->messages[i];
        *m = (berth_message){.role = is_system ? "system" : is_user ? "user" : "assistant", .parts = c->parts[i]};
        for (int32_t k = 0; i == n - 1 && k < c->options.n_images; k++)
            c->parts[i][m->n_parts++] = (berth_part){.kind = BERTH_PART_IMAGE};
        c->parts[i][m->n_parts++] = *texts[i];
    }
    c->n_messages = n;
    return true;
}

static bool spells_nothing_special(const conversation *c)
{
    for (int32_t i = 0; i < c->n_messages; i++)
        for (int32_t k = 0; k < c->messages[i].n_parts; k++) {
            const berth_part *p = &c->messages[i].parts[k];
            if (p->kind == BERTH_PART_TEXT && (memchr(p->text, '<', p->len) || memchr(p->text, '|', p->len)))
                return false;
        }
    return true;
}

static int n_compared;

static bool judge_default_mode(const berth_json_node *row, void *arg)
{
    conversation *c = calloc(1, sizeof *c);
    berth_ids ids = {0};
    read_row(row, c);
    bool comparable = (c->n_messages || (c->options.n_images < 2 && chat_as_messages(c))) && spells_nothing_special(c);
    bool right = true;
    if (comparable) {
        right = berth_prompt_ids(arg, c->messages, c->n_messages, &c->options, &ids, NULL, NULL) == BERTH_OK &&
                golden_same_ids(row, &ids);
        n_compared++;
    }
    berth_ids_deinit(&ids);
    free(c);
    return right;
}

static void chats_of(const char *vocabulary)
{
    char name[64];
    berth_tokenizer *t = golden_tokenizer(vocabulary);
    if (!t) {
        print_message("the vocabulary qwen2 is not here: set BERTH_TEST_QWEN2 to the folder of its tokenizer.json\n");
        skip();
    }
    snprintf(name, sizeof name, "chat-%s.jsonl", vocabulary);
    golden_count c = golden_rows(name, judge_chat, t);
    print_message("%s: %d rows, %d wrong\n", name, c.n_rows, c.n_wrong);
    assert_int_equal(c.n_wrong, 0);
    assert_true(c.n_rows >= 57);
    n_compared = 0;
    c = golden_rows(name, judge_default_mode, t);
    print_message("%s: the default mode agrees on %d rows without special strings, %d wrong\n", name, n_compared,
                  c.n_wrong);
    assert_int_equal(c.n_wrong, 0);
    assert_true(n_compared > 25);
    berth_tokenizer_close(t);
}

static void mixed_chats(void **state)
{
    (void)state;
    chats_of("mixed");
}

static void qwen2_chats(void **state)
{
    (void)state;
    chats_of("qwen2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mixed_chats), cmocka_unit_test(qwen2_chats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
