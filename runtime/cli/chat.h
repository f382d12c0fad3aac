/* chat.h - what the parts of `berth chat` share: the conversation's state, and its commands. */
#ifndef BERTH_CLI_CHAT_H
#define BERTH_CLI_CHAT_H

#include "cli/editor.h"
#include "cli/lines.h"
#include "cli/setup.h"
#include "cli/stop.h"

typedef struct chat {
    const cli_args *args;
    cli_setup setup;
    berth_engine *engine;
    berth_queue *queue;
    berth_session *session;
    cli_stop stop;
    cli_lines lines;
    cli_editor *editor; /* NULL: lines are read as they come */
    char **images;      /* owned paths that go with the next message */
    int32_t n_images;
    bool talks_to_person; /* prompts and notes; standard input is a terminal */
    bool is_over;
    size_t n_failed;    /* messages and commands */
    berth_result last;  /* the last answer; text NULL = none yet */
    berth_buffer entry; /* the lines of a message so far */
} chat;

/* A line that begins with '/' and a letter is a command; "//" stands for a message that begins with '/'. */
bool chat_is_command(const char *line);

/* Carries out a command. What fails is an error that the caller shows; the conversation goes on. */
berth_status chat_command(chat *c, const char *line, berth_error *err);

/* Adds a picture to the next message. Errors: BERTH_NOT_FOUND, BERTH_INVALID_ARGUMENT (a URL), BERTH_IO_ERROR. */
berth_status chat_add_image(chat *c, const char *path, berth_error *err);
void chat_drop_images(chat *c);

/* A note on standard error, unless --quiet. */
void chat_note(const chat *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
