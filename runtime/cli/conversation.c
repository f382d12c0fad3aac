/* conversation.c - the conversation a user gave: a prompt with pictures, or a file in OpenAI's form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/status.h"
#include "cli/setup.h"

enum { MAX_TEXT_BYTES = 64 << 20, MAX_PARTS = 65536 };

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

/* Pictures are files; nothing is fetched, and data: URLs are not taken apart. */
static bool is_url(const char *name)
{
    return strncmp(name, "http://", 7) == 0 || strncmp(name, "https://", 8) == 0 || strncmp(name, "data:", 5) == 0;
}

/* ---- from options ---------------------------------------------------------------------------------------------------- */

static berth_status read_prompt(const cli_args *a, cli_conversation *c, const char **out, size_t *out_size,
                                berth_error *err)
{
    if (a->set[OPT_PROMPT]) {
        *out = a->text[OPT_PROMPT];
        *out_size = strlen(*out);
        return BERTH_OK;
    }
    char *text;
    const bool from_stdin = strcmp(a->text[OPT_PROMPT_FILE], "-") == 0;
    berth_status st = from_stdin ? cli_read_stdin(MAX_TEXT_BYTES, &text, out_size, err)
                                 : berth_file_read(a->text[OPT_PROMPT_FILE], MAX_TEXT_BYTES, &text, out_size, err);
    if (st != BERTH_OK) return st;
    *out = keep(c, text);
    return *out != NULL ? BERTH_OK : no_memory(err);
}

static berth_status from_options(const cli_args *a, cli_conversation *c, berth_error *err)
{
    const char *prompt;
    size_t size;
    berth_status st = read_prompt(a, c, &prompt, &size, err);
    if (st != BERTH_OK) return st;
    const int32_t n_images = a->n_list[OPT_IMAGE];
    c->turns = calloc(2, sizeof *c->turns);
    c->content = calloc((size_t)n_images + 2, sizeof *c->content);
    if (c->turns == NULL || c->content == NULL) return no_memory(err);
    berth_content *next = c->content;
    if (a->set[OPT_SYSTEM]) {
        *next = (berth_content){
            .kind = BERTH_CONTENT_TEXT, .data = a->text[OPT_SYSTEM], .size = strlen(a->text[OPT_SYSTEM])};
        c->turns[c->n_turns++] = (berth_turn){.role = "system", .content = next++, .n_content = 1};
    }
    c->turns[c->n_turns++] = (berth_turn){.role = "user", .content = next, .n_content = n_images + 1};
    for (int32_t i = 0; i < n_images; i++) {
        const char *file = a->list[OPT_IMAGE][i];
        if (*file == '\0') return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--image is empty; name a picture file");
        if (is_url(file)) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--image %s: a URL is not supported; download the picture and name the file", file);
        }
        *next++ = (berth_content){.kind = BERTH_CONTENT_IMAGE_FILE, .data = file, .size = strlen(file)};
    }
    *next = (berth_content){.kind = BERTH_CONTENT_TEXT, .data = prompt, .size = size};
    return BERTH_OK;
}

/* ---- from a messages file -------------------------------------------------------------------------------------------- */

/* A picture's path: as given when it is absolute or there, else beside the messages file. */
static const char *picture_path(cli_conversation *c, const char *messages_file, const char *given)
{
    if (strncmp(given, "file://", 7) == 0) given += 7;
    const char *slash = strrchr(messages_file, '/');
    char *path = NULL;
    if (given[0] == '/' || slash == NULL || access(given, F_OK) == 0) return keep(c, strdup(given));
    return asprintf(&path, "%.*s/%s", (int)(slash - messages_file), messages_file, given) < 0 ? NULL : keep(c, path);
}

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
    const char *kept = keep(c, strdup(text));
    if (kept == NULL) return no_memory(err);
    *out = (berth_content){.kind = BERTH_CONTENT_TEXT, .data = kept, .size = strlen(kept)};
    return BERTH_OK;
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
        if (is_url(name))
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: message %zu: a URL is not supported; download the picture and name the file", file,
                              turn);
        const char *path = picture_path(c, file, name);
        if (path == NULL) return no_memory(err);
        *out = (berth_content){.kind = BERTH_CONTENT_IMAGE_FILE, .data = path, .size = strlen(path)};
        return BERTH_OK;
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE,
                      "%s: message %zu has a part of type \"%s\"; known are text, image and image_url", file, turn,
                      type != NULL ? type : "(none)");
}

static berth_status add_message(cli_conversation *c, const char *file, const berth_json_node *message, size_t turn,
                                berth_content **next, const berth_content *end, berth_error *err)
{
    const char *role = berth_json_as_string(berth_json_get(message, "role"));
    const berth_json_node *content = berth_json_get(message, "content");
    const char *text = berth_json_as_string(content);
    if (role == NULL || (text == NULL && berth_json_type_of(content) != BERTH_JSON_ARRAY)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: message %zu needs a \"role\" and a \"content\" (text, or a list of parts)", file, turn);
    }
    const size_t n = text != NULL ? 1 : berth_json_size(content);
    if (n > (size_t)(end - *next)) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: more than %d parts", file, MAX_PARTS);
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
    const size_t n = berth_json_size(list);
    if (berth_json_type_of(list) != BERTH_JSON_ARRAY || n == 0 || n > MAX_PARTS) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: expected a list of messages (or an object with \"messages\")", file);
    } else {
        c->turns = calloc(n, sizeof *c->turns);
        c->content = calloc(MAX_PARTS, sizeof *c->content);
        if (c->turns == NULL || c->content == NULL) st = no_memory(err);
        berth_content *next = c->content;
        size_t turn = 0;
        for (const berth_json_node *m = berth_json_first(list); st == BERTH_OK && m != NULL;
             m = berth_json_next(m), turn++) {
            st = add_message(c, file, m, turn, &next, c->content + MAX_PARTS, err);
        }
    }
    berth_json_destroy(json);
    return st;
}

berth_status cli_conversation_read(const cli_args *a, cli_conversation *out, berth_error *err)
{
    *out = (cli_conversation){0};
    const int sources = a->set[OPT_PROMPT] + a->set[OPT_PROMPT_FILE] + a->set[OPT_MESSAGES];
    if (sources != 1)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "give exactly one of --prompt, --prompt-file and --messages\nusage: %s",
                          cli_commands[a->command].usage);
    if (a->set[OPT_MESSAGES] && (a->set[OPT_IMAGE] || a->set[OPT_SYSTEM])) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--messages holds the whole conversation; leave out --image and --system");
    }
    berth_status st = a->set[OPT_MESSAGES] ? from_messages(a->text[OPT_MESSAGES], out, err) : from_options(a, out, err);
    if (st != BERTH_OK) cli_conversation_deinit(out);
    return st;
}

void cli_conversation_deinit(cli_conversation *c)
{
    for (int32_t i = 0; i < c->n_texts; i++) free(c->texts[i]);
    free(c->texts);
    free(c->content);
    free(c->turns);
    *c = (cli_conversation){0};
}
