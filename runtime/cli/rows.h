/* rows.h - JSON rows in and out: one object a line on standard input, one object a line on standard output, in order.
 *
 * A row that cannot be served gives {"error": "..."} in its place, and the rows after it are served all the same. Rows
 * are read one by one, so a program may hold a conversation over two pipes. Blank lines are passed over. A line may
 * have 64 MiB. */
#ifndef BERTH_CLI_ROWS_H
#define BERTH_CLI_ROWS_H

#include "base/json.h"
#include "cli/cli.h"

/* Serves one row: appends the members of the answer to `out`, from behind its opening brace. What stands in `out` is
 * dropped on failure. */
typedef berth_status (*cli_row_fn)(void *user, const berth_json_node *row, berth_buffer *out, berth_error *err);

/* EXIT_OK; EXIT_RUN when a row failed (the first is named on standard error) or standard output cannot be written; else
 * standard input's own error. */
cli_exit cli_rows(cli_row_fn serve, void *user);

/* ---- what rows hold ---------------------------------------------------------------------------------------------- */

/* The bytes that a row spells as `text`, as `hex`, or as `parts` [[hex, times], ...], appended to `out`; at most 1 GiB.
 * `*out_found` says whether it has one of them. */
berth_status cli_row_bytes(const berth_json_node *row, berth_buffer *out, bool *out_found, berth_error *err);

/* Members of a row that may be absent (`*out` is then left alone), and must else be of the stated kind and range. */
berth_status cli_row_bool(const berth_json_node *row, const char *key, bool *out, berth_error *err);
berth_status cli_row_int(const berth_json_node *row, const char *key, int64_t min, int64_t max, int32_t *out,
                         berth_error *err);

/* As JSON in ASCII, with quotes: a reader that splits lines as Unicode does would else cut a row at U+2028. Bytes that
 * are not UTF-8 become U+FFFD. */
void cli_put_string(berth_buffer *out, const char *text, size_t n);
void cli_put_hex(berth_buffer *out, const void *bytes, size_t n);       /* with quotes */
void cli_put_ints(berth_buffer *out, const int32_t *numbers, size_t n); /* [1,2,3] */

/* BERTH_OUT_OF_MEMORY when an append to `out` failed. */
berth_status cli_put_check(const berth_buffer *out, berth_error *err);

#endif
