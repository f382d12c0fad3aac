/* chat_commands.c - the commands of `berth chat`: one row and one function each. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "base/text.h"
#include "cli/chat.h"
#include "cli/render.h"
#include "cli/stages.h"

enum { MAX_IMAGES = 256 };

void chat_note(const chat *c, const char *fmt, ...)
{
    if (c->args->set[OPT_QUIET]) return;
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
}

static void show(berth_buffer *b)
{
    if (!b->failed && b->len > 0) fwrite(b->data, 1, b->len, stderr);
    berth_buffer_deinit(b);
}

static berth_status info_of(chat *c, berth_session_info *out, berth_error *err)
{
    *out = (berth_session_info){.struct_size = sizeof *out};
    return berth_session_get_info(c->session, out, err);
}

/* ---- pictures -------------------------------------------------------------------------------------------------------- */

berth_status chat_add_image(chat *c, const char *path, berth_error *err)
{
    struct stat s;
    if (cli_is_url(path))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: a URL is not supported; download the picture", path);
    if (stat(path, &s) != 0)
        return BERTH_FAIL_ERRNO(err, errno == ENOENT ? BERTH_NOT_FOUND : BERTH_IO_ERROR, errno, "%s", path);
    if (!S_ISREG(s.st_mode)) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s is not a file", path);
    if (c->n_images == MAX_IMAGES)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%d pictures are enough for a message", MAX_IMAGES);
    char **more = realloc(c->images, ((size_t)c->n_images + 1) * sizeof *more);
    if (more != NULL) c->images = more;
    char *copy = more != NULL ? strdup(path) : NULL;
    if (copy == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a picture's name");
    c->images[c->n_images++] = copy;
    return BERTH_OK;
}

void chat_drop_images(chat *c)
{
    for (int32_t i = 0; i < c->n_images; i++) free(c->images[i]);
    free(c->images);
    c->images = NULL;
    c->n_images = 0;
}

static berth_status do_image(chat *c, const char *argument, berth_error *err)
{
    if (*argument != '\0') {
        berth_status st = chat_add_image(c, argument, err);
        if (st != BERTH_OK) return st;
    }
    if (c->n_images == 0) chat_note(c, "no picture waits; /image FILE adds one to the next message\n");
    for (int32_t i = 0; i < c->n_images; i++) chat_note(c, "with the next message: %s\n", c->images[i]);
    return BERTH_OK;
}

/* ---- the past -------------------------------------------------------------------------------------------------------- */

static berth_status do_undo(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    berth_session_info info;
    berth_status st = info_of(c, &info, err);
    if (st != BERTH_OK) return st;
    if (c->n_images > 0) {
        chat_drop_images(c);
        chat_note(c, "the pictures for the next message are dropped\n");
        return BERTH_OK;
    }
    if (info.n_turns < 2) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "there is nothing to undo");
    st = berth_session_rewind(c->session, info.n_turns - 2, err);
    if (st == BERTH_OK) chat_note(c, "the last message and its answer are forgotten\n");
    return st;
}

static berth_status do_clear(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    chat_drop_images(c);
    berth_status st = berth_session_rewind(c->session, 0, err);
    if (st == BERTH_OK) chat_note(c, "everything is forgotten\n");
    return st;
}

static berth_status do_history(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    berth_session_info info;
    berth_status st = info_of(c, &info, err);
    for (int32_t i = 0; st == BERTH_OK && i < info.n_turns; i++) {
        char *role, *text;
        st = berth_session_get_turn(c->session, i, &role, &text, err);
        if (st != BERTH_OK) break;
        fprintf(stderr, "[%s] %s\n", role, text);
        berth_free(role);
        berth_free(text);
    }
    return st;
}

static berth_status do_save(chat *c, const char *argument, berth_error *err)
{
    if (*argument == '\0') return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "say where: /save FILE");
    berth_status st = berth_session_save(c->session, argument, err);
    if (st == BERTH_OK) chat_note(c, "saved to %s\n", argument);
    return st;
}

static berth_status do_load(chat *c, const char *argument, berth_error *err)
{
    berth_session *loaded;
    berth_session_info info;
    if (*argument == '\0') return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "say which: /load FILE");
    berth_status st = berth_session_load(c->engine, argument, &loaded, err);
    if (st != BERTH_OK) return st;
    berth_session_destroy(c->session);
    c->session = loaded;
    st = info_of(c, &info, err);
    if (st == BERTH_OK)
        chat_note(c, "%d turns, %d pictures, %d tokens from %s\n", (int)info.n_turns, (int)info.n_images,
                  (int)info.n_tokens, argument);
    return st;
}

/* ---- facts ----------------------------------------------------------------------------------------------------------- */

static double rate(int64_t n, int64_t ns)
{
    return ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static void stats_of_answer(const berth_result *r, berth_buffer *b)
{
    const berth_timings *t = &r->timings;
    berth_buffer_printf(b, "last answer   %d prompt tokens (%d computed before), %d tiles; %d tokens, ended by %s\n",
                        (int)r->n_prompt_tokens, (int)r->n_reused_tokens, (int)r->n_tiles, (int)r->n_tokens,
                        r->finish_reason);
    int64_t stages[CLI_N_STAGES];
    cli_stages_of(r, stages);
    berth_buffer_puts(b, "              ");
    for (int i = 0; i < CLI_N_STAGES; i++)
        berth_buffer_printf(b, "%s%s %.1f", i ? ", " : "", cli_stage_titles[i], (double)stages[i] / 1e6);
    berth_buffer_printf(b, " ms; prefill %.0f tokens/s, decode %.0f tokens/s\n",
                        rate(r->n_prompt_tokens - r->n_reused_tokens, t->prefill_ns),
                        rate(r->n_tokens - 1, t->decode_ns));
    berth_buffer_printf(b, "              first token after %.1f ms, all after %.1f ms\n",
                        (double)t->first_token_ns / 1e6, (double)t->total_ns / 1e6);
}

static berth_status do_stats(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    berth_session_info info;
    berth_stats s = {.struct_size = sizeof s};
    berth_status st = info_of(c, &info, err);
    if (st == BERTH_OK) st = berth_engine_get_stats(c->engine, &s, err);
    if (st != BERTH_OK) return st;
    berth_buffer b = {0};
    if (c->last.text != NULL) stats_of_answer(&c->last, &b);
    berth_buffer_printf(&b, "conversation  %d turns, %d pictures, %d tokens kept\n", (int)info.n_turns,
                        (int)info.n_images, (int)info.n_tokens);
    berth_buffer_printf(
        &b,
        "engine        %lld request%s; %lld prompt tokens, %lld more reused; %lld new tokens; %lld tiles, "
        "%lld more reused\n              KV %lld of %lld tokens in use, %lld kept for reuse\n",
        (long long)s.n_finished, s.n_finished == 1 ? "" : "s", (long long)s.n_prompt_tokens,
        (long long)s.n_reused_tokens, (long long)s.n_new_tokens, (long long)s.n_tiles, (long long)s.n_tiles_reused,
        (long long)s.kv_used, (long long)s.kv_tokens, (long long)s.kv_cached);
    show(&b);
    return BERTH_OK;
}

static berth_status do_placement(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    (void)err;
    const berth_plan *plan = berth_engine_plan(c->engine);
    const cli_style style = cli_style_of(c->args, STDERR_FILENO);
    berth_buffer b = {0};
    berth_buffer_printf(&b, "strategy %s\n\n", berth_plan_strategy(plan));
    cli_render_devices(plan, style, &b);
    berth_buffer_putc(&b, '\n');
    cli_render_strip(plan, 0, style, &b);
    berth_buffer_putc(&b, '\n');
    cli_render_paths(plan, 0, style, &b);
    show(&b);
    return BERTH_OK;
}

static berth_status do_quit(chat *c, const char *argument, berth_error *err)
{
    (void)argument;
    (void)err;
    c->is_over = true;
    return BERTH_OK;
}

/* ---- table ----------------------------------------------------------------------------------------------------------- */

static berth_status do_help(chat *c, const char *argument, berth_error *err);

static const struct {
    const char *name, *argument, *about;
    berth_status (*carry_out)(chat *c, const char *argument, berth_error *err);
} commands[] = {
    {"image", " FILE", "add a picture to the next message; without FILE, list them", do_image},
    {"undo", "", "forget the last message and its answer (or the pictures that wait)", do_undo},
    {"clear", "", "forget everything", do_clear},
    {"history", "", "what was said", do_history},
    {"save", " FILE", "write the conversation to a file", do_save},
    {"load", " FILE", "go on with a saved conversation", do_load},
    {"stats", "", "times of the last answer, tokens kept and reused", do_stats},
    {"placement", "", "which part of the model is on which device", do_placement},
    {"help", "", "this", do_help},
    {"quit", "", "end (also Ctrl-D)", do_quit},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static berth_status do_help(chat *c, const char *argument, berth_error *err)
{
    (void)c;
    (void)argument;
    (void)err;
    for (int i = 0; i < N_COMMANDS; i++) {
        char head[32];
        snprintf(head, sizeof head, "/%s%s", commands[i].name, commands[i].argument);
        fprintf(stderr, "  %-14s %s\n", head, commands[i].about);
    }
    fputs("  A line that ends with \\ goes on with the next one; // begins a message with /.\n"
          "  Ctrl-C stops an answer and keeps what was said.\n",
          stderr);
    return BERTH_OK;
}

bool chat_is_command(const char *line)
{
    return line[0] == '/' && isalpha((unsigned char)line[1]);
}

berth_status chat_command(chat *c, const char *line, berth_error *err)
{
    char name[32];
    const size_t len = strcspn(line + 1, " \t");
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), line + 1);
    char *argument = strdup(line + 1 + len + strspn(line + 1 + len, " \t"));
    if (argument == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a command");
    for (size_t n = strlen(argument); n > 0 && strchr(" \t\r", argument[n - 1]) != NULL;) argument[--n] = '\0';
    const char *near = NULL;
    int best = 3;
    berth_status st = BERTH_OK;
    bool found = false;
    for (int i = 0; i < N_COMMANDS && !found; i++) {
        const int d = berth_edit_distance(name, commands[i].name, best);
        found = d == 0;
        if (found && *argument != '\0' && commands[i].argument[0] == '\0')
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "/%s takes nothing behind it", name);
        else if (found)
            st = commands[i].carry_out(c, argument, err);
        if (d < best) {
            best = d;
            near = commands[i].name;
        }
    }
    free(argument);
    if (found) return st;
    if (near != NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "there is no /%s; did you mean /%s?", name, near);
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "there is no /%s; /help lists what there is", name);
}
