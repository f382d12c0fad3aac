/* lines.h - lines of a descriptor, one by one, also from a pipe that is slow: a line is taken when it is whole. */
#ifndef BERTH_CLI_LINES_H
#define BERTH_CLI_LINES_H

#include "base/buffer.h"
#include "berth/status.h"

#define CLI_LINE_BYTES ((size_t)64 << 20) /* a longer line is passed over, and `too_long` set */

typedef struct cli_lines {
    int fd;
    const char *what;  /* in errors: "rows from standard input" */
    berth_buffer line; /* the current one, without its newline */
    bool too_long, over;
    /* private: */
    char chunk[65536];
    size_t at, n;
    bool partial; /* `line` waits for its end */
} cli_lines;

/* The next line, waiting for it; *out_any is false at the end. Errors: BERTH_IO_ERROR, BERTH_OUT_OF_MEMORY. */
berth_status cli_lines_next(cli_lines *l, bool *out_any, berth_error *err);

/* The next line if it is whole in what was read, after at most one read, for callers who know from poll that there is
 * something to read. *out_any is false when there is none yet, and at the end (`over`). */
berth_status cli_lines_try(cli_lines *l, bool *out_any, berth_error *err);

bool cli_lines_buffered(const cli_lines *l); /* cli_lines_try may find a line without reading */
bool cli_lines_blank(const cli_lines *l);    /* the current line holds nothing but blanks */
void cli_lines_deinit(cli_lines *l);

#endif
