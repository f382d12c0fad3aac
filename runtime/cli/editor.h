/* editor.h - a line typed on a terminal, with the keys that people know from readline, a history and pasting of several
 * lines. Made by libedit; a program built without it has none, and lines are read as the terminal gives them. */
#ifndef BERTH_CLI_EDITOR_H
#define BERTH_CLI_EDITOR_H

#include "base/buffer.h"
#include "berth/status.h"
#include "cli/stop.h"

typedef struct cli_editor cli_editor;

/* NULL in *out where lines cannot be edited: standard input or error is no terminal, the terminal can do too little, or
 * berth was built without libedit. `history` names a file that is read now and written when the editor is closed; NULL =
 * the history is forgotten then. Borrowed. Errors: BERTH_UNSUPPORTED (a history without an editor), BERTH_IO_ERROR (the
 * file is there and cannot be read), BERTH_OUT_OF_MEMORY. */
berth_status cli_editor_open(const char *history, cli_editor **out, berth_error *err);

/* Error: BERTH_IO_ERROR, the history was not written. All else is done. */
berth_status cli_editor_close(cli_editor *e, berth_error *err);

typedef enum cli_edited {
    CLI_EDITED_LINE, /* whole; may hold line ends that were pasted, or typed with Alt-Enter */
    CLI_EDITED_STOP, /* a signal came: *out_signal. The line is dropped */
    CLI_EDITED_END   /* Ctrl-D on an empty line, or the terminal is gone */
} cli_edited;

/* Waits for a line, and for signals as `stop` has them. `out` is emptied first and holds the line without its end, UTF-8. */
cli_edited cli_editor_line(cli_editor *e, const char *prompt, cli_stop *stop, int *out_signal, berth_buffer *out);

/* The newest entry of the history; an empty one, and one that is the newest already, is not taken. */
void cli_editor_remember(cli_editor *e, const char *text);

#endif
