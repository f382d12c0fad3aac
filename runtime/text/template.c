/* template.c - see template.h. The look is lexical: tags, the names in them, and how deep they nest. */
#include "text/template.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"

#define TEMPLATE_MAX ((size_t)256 << 10) /* the longest published ones have some 10 KB */
#define CONFIG_MAX   ((size_t)64 << 20)
#define DEPTH_MAX    32

typedef struct scan {
    const char *at, *end, *what;
    int depth;
    berth_error *err;
} scan;

static berth_status refuse(const scan *s, const char *why)
{
    return BERTH_FAIL(s->err, BERTH_UNSUPPORTED,
                      "%s: the chat template %s. berth runs no templates; it writes the prompts of the ChatML family "
                      "(<|im_start|>role ... <|im_end|>) itself and needs a template of that family, or none",
                      s->what, why);
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool word_is(const char *word, size_t n, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == n && memcmp(*list, word, n) == 0) return true;
    return false;
}

static const char *judge_word(const char *word, size_t n)
{
    static const char *const makers[] = {"range",   "lipsum", "cycler",  "joiner", "attr",
                                         "include", "import", "extends", NULL};
    if (n > 2 && memcmp(word, "__", 2) == 0) return "reaches for an object's inner names";
    return word_is(word, n, makers) ? "uses range, attr or another name that no ChatML template needs" : NULL;
}

/* Goes over an expression up to `close` (two characters, or with '-' or '+' before them); strings in it are passed over. */
static berth_status scan_inside(scan *s, const char *close)
{
    while (s->end - s->at >= 2) {
        if (memcmp(s->at, close, 2) == 0) {
            s->at += 2;
            return BERTH_OK;
        }
        char c = *s->at;
        if (c == '\'' || c == '"') {
            for (s->at++; s->at < s->end && *s->at != c; s->at++)
                if (*s->at == '\\' && s->at + 1 < s->end) s->at++;
            if (s->at < s->end) s->at++;
        } else if (is_word(c)) {
            const char *word = s->at;
            while (s->at < s->end && is_word(*s->at)) s->at++;
            const char *why = judge_word(word, (size_t)(s->at - word));
            if (why) return refuse(s, why);
        } else {
            s->at++;
        }
    }
    return refuse(s, "ends inside a tag");
}

/* A statement; the "{%" has been read. */
static berth_status scan_statement(scan *s)
{
    static const char *const openers[] = {"for", "if", "macro", "generation", NULL};
    static const char *const closers[] = {"endfor", "endif", "endmacro", "endgeneration", NULL};
    static const char *const others[] = {"elif", "else", "set", "endset", "break", "continue", NULL};
    while (s->at < s->end && (*s->at == '-' || *s->at == '+' || *s->at == ' ' || *s->at == '\n' || *s->at == '\t'))
        s->at++;
    const char *word = s->at;
    while (s->at < s->end && is_word(*s->at)) s->at++;
    size_t n = (size_t)(s->at - word);
    if (word_is(word, n, openers) && ++s->depth > DEPTH_MAX) return refuse(s, "nests more than 32 deep");
    if (word_is(word, n, closers) && --s->depth < 0) return refuse(s, "closes a block that was not opened");
    if (!word_is(word, n, openers) && !word_is(word, n, closers) && !word_is(word, n, others))
        return refuse(s, "has a statement that no ChatML template needs");
    return scan_inside(s, "%}");
}

static berth_status scan_comment(scan *s)
{
    const char *close = memmem(s->at, (size_t)(s->end - s->at), "#}", 2);
    if (!close) return refuse(s, "ends inside a comment");
    s->at = close + 2;
    return BERTH_OK;
}

static berth_status scan_tags(scan *s)
{
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && s->end - s->at >= 2) {
        if (*s->at++ != '{') continue;
        char kind = *s->at;
        if (kind != '{' && kind != '%' && kind != '#') continue;
        s->at++;
        st = kind == '%' ? scan_statement(s) : kind == '#' ? scan_comment(s) : scan_inside(s, "}}");
    }
    return st != BERTH_OK || s->depth == 0 ? st : refuse(s, "leaves a block open");
}

berth_status berth_template_check_text(const char *text, size_t n, const char *what, berth_error *err)
{
    scan s = {.at = text, .end = text + n, .what = what, .err = err};
    if (!n) return BERTH_OK;
    if (n > TEMPLATE_MAX)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a chat template of %zu bytes is too large", what, n);
    if (!berth_utf8_valid(text, n))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the chat template is not valid UTF-8", what);
    berth_status st = scan_tags(&s);
    if (st != BERTH_OK) return st;
    if (!memmem(text, n, "<|im_start|>", 12) || !memmem(text, n, "<|im_end|>", 10))
        return refuse(&s, "writes no <|im_start|> or no <|im_end|>");
    return BERTH_OK;
}

static berth_template_system system_of(const char *text, size_t n)
{
    static const char qwen2_5[] = "You are Qwen, created by Alibaba Cloud.", qwen2[] = "You are a helpful assistant.";
    if (!n || memmem(text, n, qwen2_5, sizeof qwen2_5 - 1)) return BERTH_TEMPLATE_QWEN2_5;
    return memmem(text, n, qwen2, sizeof qwen2 - 1) ? BERTH_TEMPLATE_QWEN2 : BERTH_TEMPLATE_SILENT;
}

/* `chat_template` is a text, or a list of named ones; the unnamed, or the one named "default", is what a conversation
 * uses. */
static berth_status check_config(const char *dir, const char *name, berth_template_system *out_system, berth_error *err)
{
    char *data = NULL;
    size_t size = 0;
    berth_json *tree = NULL;
    berth_status st = berth_file_read_in(dir, name, CONFIG_MAX, &data, &size, err);
    if (st == BERTH_OK) st = berth_json_parse(data, size, name, &tree, err);
    free(data);
    if (st != BERTH_OK) return st;
    const berth_json_node *node = berth_json_get(berth_json_root(tree), "chat_template");
    if (berth_json_type_of(node) == BERTH_JSON_ARRAY) {
        const berth_json_node *item = berth_json_first(node);
        for (node = NULL; item && !node; item = berth_json_next(item)) {
            const char *is = berth_json_as_string(berth_json_get(item, "name"));
            if (is && strcmp(is, "default") == 0) node = berth_json_get(item, "template");
        }
    }
    const char *text = berth_json_as_string(node);
    if (text) *out_system = system_of(text, strlen(text));
    if (text)
        st = berth_template_check_text(text, strlen(text), name, err);
    else if (berth_json_type_of(node) != BERTH_JSON_NULL)
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: chat_template is %s, not a text", name,
                        berth_json_type_name(berth_json_type_of(node)));
    berth_json_destroy(tree);
    return st;
}

berth_status berth_template_check(const char *dir, berth_template_system *out_system, berth_error *err)
{
    static const char jinja[] = "chat_template.jinja";
    *out_system = BERTH_TEMPLATE_QWEN2_5;
    if (berth_file_exists_in(dir, jinja)) {
        char *data = NULL;
        size_t size = 0;
        berth_status st = berth_file_read_in(dir, jinja, TEMPLATE_MAX, &data, &size, err);
        if (st == BERTH_OK) *out_system = system_of(data, size);
        if (st == BERTH_OK) st = berth_template_check_text(data, size, jinja, err);
        free(data);
        return st;
    }
    return berth_file_exists_in(dir, "tokenizer_config.json")
               ? check_config(dir, "tokenizer_config.json", out_system, err)
               : BERTH_OK;
}
