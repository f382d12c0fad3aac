/* main.c - the berth program: picks the command, and gives its exit code. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"
#include "cli/cli.h"

cli_exit cli_exit_of(berth_status status)
{
    switch (status) {
    case BERTH_OK: return EXIT_OK;
    case BERTH_INVALID_ARGUMENT: return EXIT_USAGE;
    case BERTH_NOT_FOUND:
    case BERTH_IO_ERROR:
    case BERTH_BAD_FILE:
    case BERTH_UNSUPPORTED: return EXIT_INPUT;
    case BERTH_DOES_NOT_FIT: return EXIT_FIT;
    case BERTH_DEVICE_ERROR:
    case BERTH_DEVICE_LOST: return EXIT_DEVICE;
    case BERTH_MISMATCH: return EXIT_MISMATCH;
    default: return EXIT_RUN;
    }
}

cli_exit cli_fail(const berth_error *err)
{
    fprintf(stderr, "berth: %s\n", err->message[0] ? err->message : berth_status_name(err->status));
    return cli_exit_of(err->status);
}

cli_exit cli_usage(cli_command command, const char *fmt, ...)
{
    berth_error err = {0};
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    BERTH_FAIL(&err, BERTH_INVALID_ARGUMENT, "%s\nusage: %s", text, cli_commands[command].usage);
    return cli_fail(&err);
}

bool cli_write(const void *data, size_t n)
{
    if ((n == 0 || fwrite(data, 1, n, stdout) == n) && fflush(stdout) == 0) return true;
    fprintf(stderr, "berth: writing to standard output failed: %s\n", strerror(errno));
    return false;
}

bool cli_puts(const char *text)
{
    return cli_write(text, strlen(text));
}

berth_status cli_read_stdin(size_t limit, char **out, size_t *out_size, berth_error *err)
{
    berth_buffer b = {0};
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        if (n > limit - b.len) {
            berth_buffer_deinit(&b);
            return BERTH_FAIL(err, BERTH_BAD_FILE, "standard input is larger than %zu bytes", limit);
        }
        berth_buffer_append(&b, chunk, n);
    }
    if (ferror(stdin)) {
        berth_buffer_deinit(&b);
        return BERTH_FAIL(err, BERTH_IO_ERROR, "reading standard input failed");
    }
    *out_size = b.len;
    *out = berth_buffer_take(&b);
    return *out != NULL ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for standard input");
}

berth_status cli_may_write(const cli_args *a, cli_option o, berth_error *err)
{
    const berth_status st = berth_file_may_write(a->text[o], err);
    if (st != BERTH_OK) berth_error_prefix(err, "--%s: ", cli_options[o].name);
    return st;
}

bool cli_color(const cli_args *a, int fd)
{
    const char *when = a->set[OPT_COLOR] ? a->text[OPT_COLOR] : "auto";
    if (strcmp(when, "always") == 0) return true;
    if (strcmp(when, "never") == 0) return false;
    const char *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fd) && (no == NULL || *no == '\0') && (term == NULL || strcmp(term, "dumb") != 0);
}

int cli_width(void)
{
    struct winsize w;
    if ((ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0) && w.ws_col >= 40)
        return w.ws_col < 200 ? w.ws_col : 200;
    return 100;
}

/* Descriptors 0 to 2 that the parent closed are opened on /dev/null, so that no file of ours takes their number. */
static void keep_standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            const int got = open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
            if (got >= 0 && got != fd) close(got);
        }
    }
}

static cli_exit print_text(bool (*make)(berth_buffer *))
{
    berth_buffer b = {0};
    make(&b);
    const bool ok = !b.failed && cli_write(b.data, b.len);
    berth_buffer_deinit(&b);
    return ok ? EXIT_OK : EXIT_RUN;
}

static cli_exit print_command_help(cli_command command)
{
    berth_buffer b = {0};
    cli_command_help(command, &b);
    const bool ok = !b.failed && cli_write(b.data, b.len);
    berth_buffer_deinit(&b);
    return ok ? EXIT_OK : EXIT_RUN;
}

static bool version_text(berth_buffer *b)
{
    return berth_buffer_printf(b, "berth %s\n", berth_version());
}

static cli_exit dispatch(const cli_args *a)
{
    static cli_exit (*const commands[CMD_COUNT])(const cli_args *) = {
        [CMD_RUN] = cmd_run,
        [CMD_CHAT] = cmd_chat,
        [CMD_BATCH] = cmd_batch,
        [CMD_EVAL] = cmd_eval,
        [CMD_BENCH] = cmd_bench,
        [CMD_PLAN] = cmd_plan,
        [CMD_EXPLAIN] = cmd_explain,
        [CMD_TRACE] = cmd_trace,
        [CMD_TOKENIZE] = cmd_tokenize,
        [CMD_DETOKENIZE] = cmd_detokenize,
        [CMD_PREPROCESS] = cmd_preprocess,
        [CMD_DEVICES] = cmd_devices,
        [CMD_STRATEGIES] = cmd_strategies,
        [CMD_COMPLETIONS] = cmd_completions,
        [CMD_MAN] = cmd_man,
    };
    if (a->set[OPT_HELP]) return print_command_help(a->command);
    if (a->set[OPT_VERSION]) return print_text(version_text);
    if (a->set[OPT_COLOR] && strcmp(a->text[OPT_COLOR], "auto") != 0 && strcmp(a->text[OPT_COLOR], "always") != 0 &&
        strcmp(a->text[OPT_COLOR], "never") != 0) {
        return cli_usage(a->command, "--color %s: expected auto, always or never", a->text[OPT_COLOR]);
    }
    return commands[a->command](a);
}

static cli_exit run(int argc, char **argv)
{
    cli_args args;
    berth_error err = {0};
    if (cli_parse(argc, argv, &args, &err) != BERTH_OK) return cli_fail(&err);
    const cli_exit code = dispatch(&args);
    cli_args_deinit(&args);
    return code;
}

int main(int argc, char **argv)
{
    keep_standard_descriptors();
    if (argc == 3 && strcmp(argv[1], "help") == 0) { /* `berth help run` is `berth run --help` */
        char *turned[] = {argv[0], argv[2], "--help", NULL};
        return run(3, turned);
    }
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0))
        return print_text(cli_help);
    if (argc >= 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) return print_text(version_text);
    return run(argc, argv);
}
