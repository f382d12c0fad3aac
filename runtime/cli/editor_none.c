/* editor_none.c - the line editor of a berth that was built without one. */
#include "base/status.h"
#include "cli/editor.h"

berth_status cli_editor_open(const char *history, cli_editor **out, berth_error *err)
{
    *out = NULL;
    if (history == NULL) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                      "--history-file %s: this berth was built without libedit, so it has no history; install "
                      "libedit-dev and build again",
                      history);
}

berth_status cli_editor_close(cli_editor *e, berth_error *err)
{
    (void)e, (void)err;
    return BERTH_OK;
}

cli_edited cli_editor_line(cli_editor *e, const char *prompt, cli_stop *stop, int *out_signal, berth_buffer *out)
{
    (void)e, (void)prompt, (void)stop, (void)out_signal, (void)out;
    return CLI_EDITED_END;
}

void cli_editor_remember(cli_editor *e, const char *text)
{
    (void)e, (void)text;
}
