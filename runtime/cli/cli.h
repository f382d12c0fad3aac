/* cli.h - what the commands share: exit codes, messages, colour, and one function a command.
 *
 * Results go to standard output, everything else to standard error. A command returns an exit code and never calls exit. */
#ifndef BERTH_CLI_CLI_H
#define BERTH_CLI_CLI_H

#include "berth/berth.h"

#include "base/buffer.h"
#include "cli/options.h"

typedef enum cli_exit {
    EXIT_OK = 0,
    EXIT_RUN = 1,
    EXIT_USAGE = 2,
    EXIT_INPUT = 3,
    EXIT_FIT = 4,
    EXIT_DEVICE = 5,
    EXIT_MISMATCH = 6
} cli_exit;

cli_exit cli_exit_of(berth_status status);

/* "berth: message" on standard error; returns the exit code of err->status. */
cli_exit cli_fail(const berth_error *err);

/* Usage mistakes found by a command itself. Returns EXIT_USAGE. */
cli_exit cli_usage(cli_command command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes to standard output and flushes; false (and a message) when that fails, as on a full disk. */
bool cli_write(const void *data, size_t n);
bool cli_puts(const char *text);

/* Reads all of standard input, or of the file (at most limit bytes), with a NUL behind. */
berth_status cli_read_stdin(size_t limit, char **out, size_t *out_size, berth_error *err);

/* Whether the file that an option names can be written, before the work that fills it. */
berth_status cli_may_write(const cli_args *a, cli_option o, berth_error *err);

bool cli_color(const cli_args *a, int fd); /* may escapes be written there */
int cli_width(void);                       /* columns of the terminal, 100 where there is none */

cli_exit cmd_run(const cli_args *a);
cli_exit cmd_chat(const cli_args *a);
cli_exit cmd_batch(const cli_args *a);
cli_exit cmd_eval(const cli_args *a);
cli_exit cmd_bench(const cli_args *a);
cli_exit cmd_plan(const cli_args *a);
cli_exit cmd_plan_tree(const cli_args *a);    /* berth plan --modules */
cli_exit cmd_plan_compare(const cli_args *a); /* berth plan --compare */
cli_exit cmd_explain(const cli_args *a);
cli_exit cmd_trace(const cli_args *a);
cli_exit cmd_tokenize(const cli_args *a);
cli_exit cmd_detokenize(const cli_args *a);
cli_exit cmd_preprocess(const cli_args *a);
cli_exit cmd_devices(const cli_args *a);
cli_exit cmd_strategies(const cli_args *a);
cli_exit cmd_completions(const cli_args *a);
cli_exit cmd_man(const cli_args *a);

bool cli_help(berth_buffer *out); /* of berth as a whole */
bool cli_command_help(cli_command command, berth_buffer *out);

#endif
