/* conversation.c - the conversation a user gave: a prompt with pictures, a named prompt, or messages in OpenAI's form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/status.h"
#include "cli/setup.h"

enum { MAX_TEXT_BYTES = 64 << 20, MAX_PICTURE_BYTES = 160 << 20, MAX_PARTS = 65536 }; /* pictures: as of a file */

static berth_status no_memory(berth_error *err)
{
    BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the conversation");
    return BERTH_OUT_OF_MEMORY;
}

/* Keeps `text` (owned from the call on); NULL when there is no memory. */
static const char *keep(cli_conversation *c, char *text)
{
    char **more = text != NULL ? realloc(c->texts, ((size_t)c->n_texts + 1) * sizeof *more) : NULL;
    if (more == NULL) {
        free(text);
        return NULL;
    }
    c->texts = more;
    return c->texts[c->n_texts++] = text;
}

bool cli_is_url(const char *name)
{
    return strncmp(name, "http://", 7) == 0 || strncmp(name, "https://", 8) == 0 || strncmp(name, "data:", 5) == 0;
}

char *cli_picture_path(const char *file, const char *given)
{
    if (strncmp(given, "file://", 7) == 0) given += 7;
    const char *slash = strrchr(file, '/');
    char *path = NULL;
    if (given[0] == '/' || slash == NULL || access(given, F_OK) == 0) return strdup(given);
    return asprintf(&path, "%.*s/%s", (int)(slash - file), file, given) < 0 ? NULL : path;
}

int32_t cli_conversation_pictures(const cli_conversation *c)
{
    int32_t n = 0;
    for (int32_t i = 0; i < c->n_turns; i++) {
        for (int32_t k = 0; k < c->turns[i].n_content; k++) n += c->turns[i].content[k].kind != BERTH_CONTENT_TEXT;
    }
    return n;
}

void cli_conversation_advise(cli_conversation *c, const cli_prompt *p)
{
    c->max_tokens = p->max_tokens;
    c->has_temperature = p->has_temperature;
    c->temperature = p->temperature;
}

/* ---- one turn -------------------------------------------------------------------------------------------------------- */

/* A content of `size` bytes that the conversation owns. */
static berth_status add_bytes(cli_conversation *c, berth_content_kind kind, const char *data, size_t size,
                              berth_content *out, berth_error *err)
{
    char *copy = malloc(size + 1);
    if (copy != NULL) {
        memcpy(copy, data, size);
        copy[size] = '\0';
    }
    const char *kept = keep(c, copy);
    if (kept == NULL) return no_memory(err);
    *out = (berth_content){.kind = kind, .data = kept, .size = size};
    return BERTH_OK;
}

berth_status cli_conversation_make(const char *system, const char *const *images, int32_t n_images, const char *prompt,
                                   size_t prompt_size, cli_conversation *out, berth_error *err)
{
    *out = (cli_conversation){0};
    cli_conversation *c = out;
    c->turns = calloc(2, sizeof *c->turns);
    c->content = calloc((size_t)n_images + 2, sizeof *c->content);
    berth_content *next = c->content;
    berth_status st = c->turns != NULL && c->content != NULL ? BERTH_OK : no_memory(err);
    if (st == BERTH_OK && system != NULL) {
        c->turns[c->n_turns++] = (berth_turn){.role = "system", .content = next, .n_content = 1};
        st = add_bytes(c, BERTH_CONTENT_TEXT, system, strlen(system), next++, err);
    }
    if (st == BERTH_OK)
        c->turns[c->n_turns++] = (berth_turn){.role = "user", .content = next, .n_content = n_images + 1};
    for (int32_t i = 0; st == BERTH_OK && i < n_images; i++)
        st = add_bytes(c, BERTH_CONTENT_IMAGE_FILE, images[i], strlen(images[i]), next++, err);
    if (st == BERTH_OK) st = add_bytes(c, BERTH_CONTENT_TEXT, prompt, prompt_size, next, err);
    if (st != BERTH_OK) cli_conversation_deinit(out);
    return st;
}

/* ---- from options ---------------------------------------------------------------------------------------------------- */

static berth_status check_images(const cli_args *a, berth_error *err)
{
    int32_t n_stdin = a->set[OPT_PROMPT_FILE] && strcmp(a->text[OPT_PROMPT_FILE], "-") == 0;
    for (int32_t i = 0; i < a->n_list[OPT_IMAGE]; i++) {
        const char *file = a->list[OPT_IMAGE][i];
        if (strcmp(file, "-") == 0 && n_stdin++ > 0)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "standard input (-) holds one thing; name a file for the other pictures or the prompt");
        if (*file == '\0') return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--image is empty; name a picture file");
        if (cli_is_url(file)) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--image %s: a URL is not supported; download the picture and name the file", file);
        }
    }
    return BERTH_OK;
}

/* A picture named - is what standard input holds. */
static berth_status read_pictures(const cli_args *a, cli_conversation *c, berth_error *err)
{
    berth_content *first = c->content + (c->n_turns > 1); /* behind the system message */
    for (int32_t i = 0; i < a->n_list[OPT_IMAGE]; i++) {
        if (strcmp(a->list[OPT_IMAGE][i], "-") != 0) continue;
        char *data;
        size_t size;
        berth_status st = cli_read_stdin(MAX_PICTURE_BYTES, &data, &size, err);
        if (st != BERTH_OK) return st;
        if (keep(c, data) == NULL) return no_memory(err);
        first[i] = (berth_content){.kind = BERTH_CONTENT_IMAGE_BYTES, .data = data, .size = size};
    }
    return BERTH_OK;
}

static berth_status make_from_options(const cli_args *a, const char *system, const char *prompt, size_t size,
                                      cli_conversation *c, berth_error *err)
{
    if (a->set[OPT_SYSTEM]) system = a->text[OPT_SYSTEM];
    berth_status st = cli_conversation_make(system, a->list[OPT_IMAGE], a->n_list[OPT_IMAGE], prompt, size, c, err);
    if (st != BERTH_OK) return st;
    st = read_pictures(a, c, err);
    if (st != BERTH_OK) cli_conversation_deinit(c);
    return st;
}

static berth_status from_named_prompt(const cli_args *a, cli_conversation *c, berth_error *err)
{
    cli_prompts prompts;
    const cli_prompt *p;
    berth_status st = cli_prompts_read(a->text[OPT_PROMPTS], &prompts, err);
    if (st != BERTH_OK) return st;
    st = cli_prompts_find(&prompts, a->set[OPT_PROMPT_NAME] ? a->text[OPT_PROMPT_NAME] : NULL, &p, err);
    if (st == BERTH_OK) st = make_from_options(a, p->system, p->user, strlen(p->user), c, err);
    if (st == BERTH_OK) cli_conversation_advise(c, p);
    cli_prompts_deinit(&prompts);
    return st;
}

static berth_status from_options(const cli_args *a, cli_conversation *c, berth_error *err)
{
    berth_status st = check_images(a, err);
    if (st != BERTH_OK) return st;
    if (a->set[OPT_PROMPTS]) return from_named_prompt(a, c, err);
    if (a->set[OPT_PROMPT]) return make_from_options(a, NULL, a->text[OPT_PROMPT], strlen(a->text[OPT_PROMPT]), c, err);
    char *text;
    size_t size;
    const bool from_stdin = strcmp(a->text[OPT_PROMPT_FILE], "-") == 0;
    st = from_stdin ? cli_read_stdin(MAX_TEXT_BYTES, &text, &size, err)
                    : berth_file_read(a->text[OPT_PROMPT_FILE], MAX_TEXT_BYTES, &text, &size, err);
    if (st != BERTH_OK) return st;
    st = make_from_options(a, NULL, text, size, c, err);
    free(text);
    return st;
}

/* ---- from messages --------------------------------------------------------------------------------------------------- */

/* The file name of an image part: {"image_url": {"url": F}}, {"image_url": F}, {"image": F}, {"path": F} or {"url": F}. */
static const char *picture_name(const berth_json_node *part)
{
    static const char *const keys[] = {"image_url", "image", "path", "url"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const berth_json_node *node = berth_json_get(part, keys[i]);
        const char *text = berth_json_as_string(node);
        if (text == NULL) text = berth_json_as_string(berth_json_get(node, "url"));
        if (text != NULL) return text;
    }
    return NULL;
}

static berth_status add_text(cli_conversation *c, const char *text, berth_content *out, berth_error *err)
{
    return add_bytes(c, BERTH_CONTENT_TEXT, text, strlen(text), out, err);
}

static berth_status add_part(cli_conversation *c, const char *file, const berth_json_node *part, size_t turn,
                             berth_content *out, berth_error *err)
{
    const char *type = berth_json_as_string(berth_json_get(part, "type"));
    const char *text = berth_json_as_string(berth_json_get(part, "text"));
    if (type != NULL && strcmp(type, "text") == 0 && text != NULL) return add_text(c, text, out, err);
    if (type != NULL &&
        (strcmp(type, "image") == 0 || strcmp(type, "image_url") == 0 || strcmp(type, "input_image") == 0)) {
        const char *name = picture_name(part);
        if (name == NULL || *name == '\0')
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: message %zu has an image part without a file name", file, turn);
        if (cli_is_url(name))
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: message %zu: a URL is not supported; download the picture and name the file", file,
                              turn);
        const char *path = keep(c, cli_picture_path(file, name));
        if (path == NULL) return no_memory(err);
        *out = (berth_content){.kind = BERTH_CONTENT_IMAGE_FILE, .data = path, .size = strlen(path)};
        return BERTH_OK;
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE,
                      "%s: message %zu has a part of type \"%s\"; known are text, image and image_url", file, turn,
                      type != NULL ? type : "(none)");
}

static berth_status add_message(cli_conversation *c, const char *file, const berth_json_node *message, size_t turn,
                                berth_content **next, berth_error *err)
{
    const char *role = berth_json_as_string(berth_json_get(message, "role"));
    const berth_json_node *content = berth_json_get(message, "content");
    const char *text = berth_json_as_string(content);
    if (role == NULL || (text == NULL && berth_json_type_of(content) != BERTH_JSON_ARRAY)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: message %zu needs a \"role\" and a \"content\" (text, or a list of parts)", file, turn);
    }
    const size_t n = text != NULL ? 1 : berth_json_size(content);
    const char *kept = keep(c, strdup(role));
    if (kept == NULL) return no_memory(err);
    c->turns[c->n_turns++] = (berth_turn){.role = kept, .content = *next, .n_content = (int32_t)n};
    if (text != NULL) return add_text(c, text, (*next)++, err);
    for (const berth_json_node *part = berth_json_first(content); part != NULL; part = berth_json_next(part)) {
        berth_status st = add_part(c, file, part, turn, (*next)++, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* Parts of all messages together, at most MAX_PARTS + 1. */
static size_t count_parts(const berth_json_node *list)
{
    size_t n = 0;
    for (const berth_json_node *m = berth_json_first(list); m != NULL && n <= MAX_PARTS; m = berth_json_next(m)) {
        const berth_json_node *content = berth_json_get(m, "content");
        n += berth_json_type_of(content) == BERTH_JSON_ARRAY ? berth_json_size(content) : 1;
    }
    return n <= MAX_PARTS ? n : MAX_PARTS + 1;
}

berth_status cli_conversation_parse(const berth_json_node *list, const char *file, cli_conversation *out,
                                    berth_error *err)
{
    *out = (cli_conversation){0};
    const size_t n = berth_json_size(list), n_parts = count_parts(list);
    if (berth_json_type_of(list) != BERTH_JSON_ARRAY || n == 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: expected a list of messages (or an object with \"messages\")",
                          file);
    if (n_parts > MAX_PARTS) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: more than %d parts", file, MAX_PARTS);
    out->turns = calloc(n, sizeof *out->turns);
    out->content = calloc(n_parts + 1, sizeof *out->content);
    berth_status st = out->turns != NULL && out->content != NULL ? BERTH_OK : no_memory(err);
    berth_content *next = out->content;
    size_t turn = 0;
    for (const berth_json_node *m = berth_json_first(list); st == BERTH_OK && m != NULL; m = berth_json_next(m), turn++)
        st = add_message(out, file, m, turn, &next, err);
    if (st != BERTH_OK) cli_conversation_deinit(out);
    return st;
}

static berth_status from_messages(const char *file, cli_conversation *c, berth_error *err)
{
    char *text;
    size_t size;
    berth_json *json = NULL;
    berth_status st = berth_file_read(file, MAX_TEXT_BYTES, &text, &size, err);
    if (st != BERTH_OK) return st;
    st = berth_json_parse(text, size, file, &json, err);
    free(text);
    if (st != BERTH_OK) return st;
    const berth_json_node *list = berth_json_root(json);
    if (berth_json_type_of(list) == BERTH_JSON_OBJECT) list = berth_json_get(list, "messages");
    st = cli_conversation_parse(list, file, c, err);
    berth_json_destroy(json);
    return st;
}

berth_status cli_conversation_read(const cli_args *a, cli_conversation *out, berth_error *err)
{
    *out = (cli_conversation){0};
    const int sources = a->set[OPT_PROMPT] + a->set[OPT_PROMPT_FILE] + a->set[OPT_MESSAGES] + a->set[OPT_PROMPTS];
    if (sources != 1)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "give exactly one of --prompt, --prompt-file, --prompts and --messages\nusage: %s",
                          cli_commands[a->command].usage);
    if (a->set[OPT_PROMPT_NAME] && !a->set[OPT_PROMPTS])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--prompt-name names a prompt of a file; give --prompts FILE");
    if (a->set[OPT_MESSAGES] && (a->set[OPT_IMAGE] || a->set[OPT_SYSTEM])) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--messages holds the whole conversation; leave out --image and --system");
    }
    return a->set[OPT_MESSAGES] ? from_messages(a->text[OPT_MESSAGES], out, err) : from_options(a, out, err);
}

void cli_conversation_deinit(cli_conversation *c)
{
    for (int32_t i = 0; i < c->n_texts; i++) free(c->texts[i]);
    free(c->texts);
    free(c->content);
    free(c->turns);
    *c = (cli_conversation){0};
}
