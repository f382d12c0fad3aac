/* cmd_chat.c - berth chat: messages from standard input, answers to standard output as they come, all else to standard error. The
 * conversation is a session of the engine, which computes only what is new. Works through pipes as on a terminal. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "cli/chat.h"

/* ---- an answer ------------------------------------------------------------------------------------------------------- */

typedef struct answer {
    uint64_t id;
    size_t shown; /* bytes of the text */
    bool stopped, failed_output, ended;
} answer;

static void show_text(answer *a, const char *text, size_t n)
{
    if (n == 0 || a->failed_output) return;
    a->failed_output = !cli_write(text, n);
    a->shown += n;
}

/* One completion, or one signal: Ctrl-C stops the answer, SIGTERM the conversation too. */
static berth_status advance(chat *c, answer *a, berth_completion *out, berth_error *err)
{
    struct pollfd fds[2] = {{.fd = c->stop.fd, .events = POLLIN},
                            {.fd = berth_queue_descriptor(c->queue), .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR)
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "waiting for the answer failed");
    const int signal_number = cli_stop_came(&c->stop);
    if (signal_number == SIGTERM) c->is_over = true;
    if (signal_number != 0 && !a->stopped) {
        a->stopped = true;
        berth_engine_cancel(c->engine, a->id, NULL); /* it may have ended just now */
    }
    return berth_queue_next(c->queue, 0, out, err);
}

static berth_status take_end(chat *c, answer *a, berth_completion *end, berth_error *err)
{
    a->ended = true;
    if (end->status != BERTH_OK && a->stopped) return BERTH_OK; /* before its first token */
    if (end->status != BERTH_OK) {
        *err = *end->error;
        return end->status;
    }
    const size_t n = strlen(end->result->text);
    if (n > a->shown) show_text(a, end->result->text + a->shown, n - a->shown);
    berth_result_deinit(&c->last);
    c->last = *end->result;
    *end->result = (berth_result){.struct_size = sizeof *end->result};
    return BERTH_OK;
}

static berth_status stream(chat *c, answer *a, berth_error *err)
{
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && !a->ended) {
        berth_completion next = {.struct_size = sizeof next};
        st = advance(c, a, &next, err);
        if (st != BERTH_OK) break;
        if (next.kind == BERTH_COMPLETION_TOKEN) show_text(a, next.token.text, next.token.text_size);
        if (next.kind == BERTH_COMPLETION_END) st = take_end(c, a, &next, err);
        berth_completion_deinit(&next);
        if (a->failed_output && !a->stopped) {
            a->stopped = c->is_over = true;
            berth_engine_cancel(c->engine, a->id, NULL);
        }
    }
    return st;
}

/* The message's turns: the system message goes with the first one alone. */
static berth_status make_turns(chat *c, const char *text, cli_conversation *out, berth_error *err)
{
    berth_session_info info = {.struct_size = sizeof info};
    berth_status st = berth_session_get_info(c->session, &info, err);
    if (st != BERTH_OK) return st;
    const char *system = info.n_turns == 0 && c->args->set[OPT_SYSTEM] ? c->args->text[OPT_SYSTEM] : NULL;
    return cli_conversation_make(system, (const char *const *)c->images, c->n_images, text, strlen(text), out, err);
}

static berth_status say(chat *c, const char *text, berth_error *err)
{
    cli_conversation turns;
    berth_request r;
    answer a = {0};
    berth_status st = make_turns(c, text, &turns, err);
    if (st != BERTH_OK) return st;
    cli_request_init(c->args, &turns, &r);
    r.session = c->session;
    st = berth_engine_submit(c->engine, &r, c->queue, NULL, &a.id, err);
    cli_conversation_deinit(&turns);
    if (st == BERTH_OK) st = stream(c, &a, err);
    if (!a.failed_output && (a.shown > 0 || st == BERTH_OK)) a.failed_output = !cli_puts("\n");
    if (a.stopped && !a.failed_output) chat_note(c, "[stopped]\n");
    if (st == BERTH_OK) chat_drop_images(c); /* after a failure they still wait */
    c->n_failed += a.failed_output;
    return st;
}

/* ---- input ----------------------------------------------------------------------------------------------------------- */

static void show_prompt(const chat *c)
{
    if (c->talks_to_person && c->editor == NULL) fputs(c->entry.len > 0 ? ". " : "> ", stderr);
}

/* The terminal, or the editor, has dropped the line. */
static void drop_entry(chat *c)
{
    c->entry.len = 0;
    fputs("\n(Ctrl-D or /quit ends)\n", stderr);
}

/* The same as next_line, for lines that are edited. */
static bool edit_line(chat *c)
{
    while (!c->is_over) {
        int signal_number = 0;
        switch (cli_editor_line(c->editor, c->entry.len > 0 ? ". " : "> ", &c->stop, &signal_number, &c->lines.line)) {
        case CLI_EDITED_LINE: return true;
        case CLI_EDITED_END: c->is_over = true; break;
        case CLI_EDITED_STOP:
            if (signal_number == SIGTERM)
                c->is_over = true;
            else
                drop_entry(c);
            break;
        }
    }
    return false;
}

/* Waits for a whole line; *out_any is false at the end of input and when a signal ended the conversation. */
static berth_status next_line(chat *c, bool *out_any, berth_error *err)
{
    *out_any = false;
    while (!c->is_over) {
        if (!cli_lines_buffered(&c->lines)) {
            struct pollfd fds[2] = {{.fd = c->stop.fd, .events = POLLIN}, {.fd = c->lines.fd, .events = POLLIN}};
            if (poll(fds, 2, -1) < 0 && errno != EINTR)
                return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "waiting for input failed");
            const int signal_number = cli_stop_came(&c->stop);
            if (signal_number == SIGTERM || (signal_number != 0 && !c->talks_to_person)) c->is_over = true;
            if (signal_number == SIGINT && c->talks_to_person) {
                drop_entry(c);
                show_prompt(c);
            }
            if (signal_number != 0 || fds[1].revents == 0) continue;
        }
        berth_status st = cli_lines_try(&c->lines, out_any, err);
        if (st != BERTH_OK || *out_any) return st;
        if (c->lines.over) c->is_over = true;
    }
    return BERTH_OK;
}

/* Adds the line to the message; true when the message is whole. */
static bool add_line(chat *c)
{
    berth_buffer *line = &c->lines.line;
    if (line->len > 0 && line->data[line->len - 1] == '\r') line->data[--line->len] = '\0';
    const bool goes_on = line->len > 0 && line->data[line->len - 1] == '\\';
    if (line->data != NULL) berth_buffer_append(&c->entry, line->data, line->len - goes_on);
    if (goes_on) berth_buffer_putc(&c->entry, '\n');
    return !goes_on;
}

static bool is_fatal(berth_status st)
{
    return st == BERTH_DEVICE_ERROR || st == BERTH_DEVICE_LOST || st == BERTH_INTERNAL || st == BERTH_AFFINITY;
}

static berth_status take_message(chat *c, berth_error *err)
{
    const char *text = c->entry.data != NULL ? c->entry.data : "";
    if (c->editor != NULL) cli_editor_remember(c->editor, text);
    berth_status st = BERTH_OK;
    if (c->lines.too_long || c->entry.failed || strlen(text) != c->entry.len) {
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the message is too long or holds a NUL character");
    } else if (chat_is_command(text)) {
        st = chat_command(c, text, err);
    } else if (strspn(text, " \t\r\n") != strlen(text) || c->n_images > 0) {
        st = say(c, text[0] == '/' && text[1] == '/' ? text + 1 : text, err);
    }
    c->entry.len = 0;
    c->entry.failed = false;
    if (st == BERTH_OK || is_fatal(st)) return st;
    c->n_failed++;
    cli_fail(err);
    return BERTH_OK;
}

static berth_status converse(chat *c, berth_error *err)
{
    bool any = true;
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && !c->is_over) {
        show_prompt(c);
        if (c->editor != NULL)
            any = edit_line(c);
        else
            st = next_line(c, &any, err);
        if (st != BERTH_OK) break;
        if (!any && c->entry.len == 0) break;
        if ((any && add_line(c)) || !any) st = take_message(c, err);
    }
    if (!any && c->talks_to_person) fputs("\n", stderr);
    return st;
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

static berth_status open_chat(chat *c, berth_error *err)
{
    const cli_args *a = c->args;
    if (!a->set[OPT_MODEL])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "no model given; -m DIR is required\nusage: %s",
                          cli_commands[CMD_CHAT].usage);
    berth_status st = cli_request_check(a, err);
    for (int32_t i = 0; st == BERTH_OK && i < a->n_list[OPT_IMAGE]; i++)
        st = chat_add_image(c, a->list[OPT_IMAGE][i], err);
    const int32_t n_images = c->n_images > 4 ? c->n_images : 4; /* room for so many in one message */
    if (st == BERTH_OK) st = cli_setup_open(a, false, false, 0, cli_parallel_tiles(a, n_images), &c->setup, err);
    if (st == BERTH_OK) st = cli_stop_open(&c->stop, err);
    if (st == BERTH_OK && c->talks_to_person)
        st = cli_editor_open(a->set[OPT_HISTORY_FILE] ? a->text[OPT_HISTORY_FILE] : NULL, &c->editor, err);
    if (st == BERTH_OK) st = cli_engine_open(a, &c->setup, &c->engine, err);
    if (st == BERTH_OK) st = berth_queue_create(c->setup.rt, &c->queue, err);
    return st == BERTH_OK ? berth_session_create(c->engine, &c->session, err) : st;
}

static void close_chat(chat *c)
{
    berth_session_destroy(c->session);
    berth_engine_destroy(c->engine);
    berth_queue_destroy(c->queue);
    cli_setup_close(&c->setup);
    cli_stop_close(&c->stop);
    cli_lines_deinit(&c->lines);
    chat_drop_images(c);
    berth_result_deinit(&c->last);
    berth_buffer_deinit(&c->entry);
}

cli_exit cmd_chat(const cli_args *a)
{
    berth_error err = {0};
    chat *c = calloc(1, sizeof *c);
    if (c == NULL) return BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "no memory for a conversation"), cli_fail(&err);
    c->args = a;
    c->stop.fd = -1;
    c->lines = (cli_lines){.fd = STDIN_FILENO, .what = "standard input"};
    c->last.struct_size = sizeof c->last;
    c->talks_to_person = isatty(STDIN_FILENO);
    berth_status st = open_chat(c, &err);
    if (st == BERTH_OK && c->talks_to_person)
        chat_note(c, "%s, strategy %s; /help lists the commands\n", a->text[OPT_MODEL],
                  berth_plan_strategy(berth_engine_plan(c->engine)));
    if (st == BERTH_OK) st = converse(c, &err);
    berth_error late = {0};
    const berth_status closed = cli_editor_close(c->editor, &late);
    c->editor = NULL;
    if (st == BERTH_OK && closed != BERTH_OK) {
        st = closed;
        err = late;
    }
    cli_exit code = st == BERTH_OK ? EXIT_OK : cli_fail(&err);
    if (code == EXIT_OK && c->n_failed > 0 && !c->talks_to_person) code = EXIT_RUN;
    close_chat(c);
    free(c);
    return code;
}
