/* help.c - help, the manual page and shell completions, all written from the tables in options.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/render.h"

enum {
    HELP_COLUMN = 35,
    NARROW = 72
}; /* where an option's words begin; on narrower terminals in a line of their own */

static const char EXIT_TEXT[] = "0 done, 1 the run failed, 2 wrong usage, 3 a model or input file was refused, 4 it "
                                "does not fit, 5 a device failed, 6 a mismatch was found";

static cli_style terminal(void)
{
    return (cli_style){.wraps = isatty(STDOUT_FILENO) != 0, .width = cli_width()};
}

bool cli_help(berth_buffer *out)
{
    const cli_style style = terminal();
    char text[512];
    snprintf(
        text, sizeof text,
        "berth %s - vision-language models over several devices, with every tensor's place chosen, seen and checked",
        berth_version());
    cli_put_wrapped(text, 0, style, out);
    berth_buffer_puts(out, "\n\nUsage: berth COMMAND [options]\n\nCommands:\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(out, "  %-12s ", cli_commands[c].name);
        cli_put_wrapped(cli_commands[c].about, 15, style, out);
        berth_buffer_putc(out, '\n');
    }
    berth_buffer_putc(out, '\n');
    cli_put_wrapped("`berth COMMAND --help` shows its options. Every option has an environment twin: --max-tokens is "
                    "BERTH_MAX_TOKENS. `berth man` has examples.",
                    0, style, out);
    snprintf(text, sizeof text, "Exit codes: %s.", EXIT_TEXT);
    berth_buffer_putc(out, '\n');
    cli_put_wrapped(text, 0, style, out);
    berth_buffer_putc(out, '\n');
    return !out->failed;
}

/* "eval, bench: ": the length of a list of commands with a colon behind it, 0 = there is none; whether `command` is one. */
static size_t commands_named(const char *text, cli_command command, bool *out_ours)
{
    size_t n = 0;
    *out_ours = false;
    for (;;) {
        const size_t len = strspn(text + n, "abcdefghijklmnopqrstuvwxyz");
        int c = 0;
        while (c < CMD_COUNT &&
               (strlen(cli_commands[c].name) != len || memcmp(cli_commands[c].name, text + n, len) != 0))
            c++;
        if (c == CMD_COUNT) return 0;
        if (c == (int)command) *out_ours = true;
        n += len;
        if (text[n] == ':') return n + 1;
        const size_t between = strncmp(text + n, ", ", 2) == 0 ? 2 : strncmp(text + n, " and ", 5) == 0 ? 5 : 0;
        if (between == 0) return 0;
        n += between;
    }
}

/* An option's words without the clauses that begin with the names of other commands, as in "; bench: also -ub". */
static void put_words(cli_option o, cli_command command, char *out, size_t n)
{
    size_t used = 0;
    for (const char *p = cli_options[o].help; *p && used + 1 < n;) {
        bool ours;
        if (strncmp(p, "; ", 2) == 0 && commands_named(p + 2, command, &ours) > 0 && !ours) {
            p += 2;
            while (*p && *p != ')' && strncmp(p, "; ", 2) != 0) p++;
        } else {
            out[used++] = *p++;
        }
    }
    out[used] = '\0';
}

static void option_head(cli_option o, cli_command command, char *out, size_t n)
{
    const cli_option_row *row = &cli_options[o];
    char letter[8] = "    ";
    if (cli_letter(o, command)) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(out, n, "%s--%s%s%s", letter, row->name, row->arg ? " " : "", row->arg ? row->arg : "");
}

static void put_option(cli_option o, cli_command command, cli_style style, berth_buffer *out)
{
    char head[64], words[256];
    option_head(o, command, head, sizeof head);
    put_words(o, command, words, sizeof words);
    const bool is_narrow = style.wraps && style.width < NARROW;
    const int indent = is_narrow ? 8 : HELP_COLUMN;
    if (is_narrow)
        berth_buffer_printf(out, "  %s\n%*s", head, indent, "");
    else
        berth_buffer_printf(out, "  %-32s ", head);
    cli_put_wrapped(words, indent, style, out);
    berth_buffer_putc(out, '\n');
}

bool cli_command_help(cli_command command, berth_buffer *out)
{
    const cli_style style = terminal();
    char about[160];
    snprintf(about, sizeof about, "berth %s - %s", cli_commands[command].name, cli_commands[command].about);
    cli_put_wrapped(about, 0, style, out);
    berth_buffer_puts(out, "\n\nUsage: ");
    cli_put_wrapped(cli_commands[command].usage, (int)strlen("Usage: "), style, out);
    berth_buffer_putc(out, '\n');
    for (int g = 0; g < GROUP_COUNT; g++) {
        bool titled = false;
        for (int o = 0; o < OPT_COUNT; o++) {
            if (cli_options[o].group != (cli_group)g || !(cli_options[o].commands & (1u << command))) continue;
            if (!titled) berth_buffer_printf(out, "\n%s:\n", cli_group_names[g]);
            titled = true;
            put_option((cli_option)o, command, style, out);
        }
    }
    return !out->failed;
}

/* ---- manual page ----------------------------------------------------------------------------------------------------- */

/* Text in roff: backslashes and leading dots are escaped, hyphens are real ones. */
static void roff(berth_buffer *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\') {
            berth_buffer_puts(b, "\\e");
        } else if (*p == '-') {
            berth_buffer_puts(b, "\\-");
        } else if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n')) {
            berth_buffer_puts(b, "\\&");
            berth_buffer_putc(b, *p);
        } else {
            berth_buffer_putc(b, *p);
        }
    }
}

static void man_option(berth_buffer *b, cli_option o)
{
    const cli_option_row *row = &cli_options[o];
    char env[64];
    cli_env_name(o, env, sizeof env);
    berth_buffer_puts(b, ".TP\n.B ");
    if (row->letter) berth_buffer_printf(b, "\\-%c, ", row->letter);
    berth_buffer_puts(b, "\\-\\-");
    roff(b, row->name);
    if (row->arg) berth_buffer_printf(b, " \\fI%s\\fR", row->arg);
    berth_buffer_puts(b, "\n");
    roff(b, row->help);
    berth_buffer_puts(b, ". Commands:");
    const bool is_everywhere = row->commands == (1u << CMD_COUNT) - 1;
    for (int c = 0; c < CMD_COUNT && !is_everywhere; c++) {
        if (row->commands & (1u << c)) berth_buffer_printf(b, " %s", cli_commands[c].name);
    }
    berth_buffer_puts(b, is_everywhere ? " all." : ".");
    if (o != OPT_HELP && o != OPT_VERSION) berth_buffer_printf(b, " Environment: %s.", env);
    berth_buffer_putc(b, '\n');
}

static const struct {
    const char *does, *command;
} man_examples[] = {
    {"Where everything would live on four devices of 8 GiB:",
     "berth plan -m DIR --devices 'cpu*4/mem=8GiB' --strategy balanced"},
    {"The answer, streaming:", "berth run -m DIR -i receipt.png -p 'Extract the fields as JSON.'"},
    {"A picture through a pipe, and one JSON object back:",
     "berth run -m DIR -i - -p 'What is the total?' --json < page.png"},
    {"Thousands of pages, eight at once; the same command goes on after a kill:",
     "berth batch -m DIR --in pages.jsonl --out answers.jsonl --parallel 8"},
    {"What two placements are worth:", "berth bench -m DIR --strategy balanced,optimal --devices 'cpu*2'"},
};

static void man_end(berth_buffer *b)
{
    berth_buffer_puts(b, ".SH ENVIRONMENT\n");
    roff(b,
         "Each option but --help and --version has the variable named with it; the command line wins. A flag is set by "
         "any text but 0. NO_COLOR (not empty) turns colour off.");
    berth_buffer_puts(b, "\n.SH EXIT STATUS\n");
    roff(b, EXIT_TEXT);
    berth_buffer_puts(b, ".\n.SH FILES\n");
    roff(b, "A model directory holds config.json, safetensors files and a tokenizer, as Hugging Face lays them out.");
    berth_buffer_puts(b, "\n.SH EXAMPLES\n");
    for (size_t i = 0; i < sizeof man_examples / sizeof man_examples[0]; i++) {
        berth_buffer_puts(b, ".PP\n");
        roff(b, man_examples[i].does);
        berth_buffer_puts(b, "\n.PP\n.nf\n.RS\n");
        roff(b, man_examples[i].command);
        berth_buffer_puts(b, "\n.RE\n.fi\n");
    }
}

cli_exit cmd_man(const cli_args *a)
{
    (void)a;
    berth_buffer b = {0};
    berth_buffer_printf(&b,
                        ".TH BERTH 1 \"\" \"berth %s\" \"User Commands\"\n.SH NAME\nberth \\- vision\\-language models "
                        "over several devices\n.SH SYNOPSIS\n",
                        berth_version());
    for (int c = 0; c < CMD_COUNT; c++) {
        roff(&b, cli_commands[c].usage);
        berth_buffer_puts(&b, "\n.br\n");
    }
    berth_buffer_puts(&b, ".SH DESCRIPTION\n");
    roff(&b, "berth runs vision-language models over several devices and makes the place of every tensor a thing to "
             "choose, see, check and measure.");
    berth_buffer_puts(&b, "\n.SH COMMANDS\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(&b, ".TP\n.B %s\n", cli_commands[c].name);
        roff(&b, cli_commands[c].about);
        berth_buffer_puts(&b, ".\n");
    }
    for (int g = 0; g < GROUP_COUNT; g++) {
        berth_buffer_printf(&b, ".SH OPTIONS: %s\n", cli_group_names[g]);
        for (int o = 0; o < OPT_COUNT; o++) {
            if (cli_options[o].group == (cli_group)g) man_option(&b, (cli_option)o);
        }
    }
    man_end(&b);
    const bool ok = !b.failed && cli_write(b.data, b.len);
    berth_buffer_deinit(&b);
    return ok ? EXIT_OK : EXIT_RUN;
}

/* ---- completions ----------------------------------------------------------------------------------------------------- */

static bool takes_file(cli_option o)
{
    const char *arg = cli_options[o].arg;
    return arg != NULL && (strcmp(arg, "FILE") == 0 || strcmp(arg, "DIR") == 0);
}

static void complete_bash(berth_buffer *b)
{
    berth_buffer_puts(b, "_berth() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n    if "
                         "[ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (int c = 0; c < CMD_COUNT; c++) berth_buffer_printf(b, "%s ", cli_commands[c].name);
    berth_buffer_puts(b, "help\" -- \"$cur\"))\n        return\n    fi\n    case $prev in\n        ");
    bool first = true;
    for (int o = 0; o < OPT_COUNT; o++) {
        if (!takes_file((cli_option)o)) continue;
        berth_buffer_printf(b, "%s--%s", first ? "" : "|", cli_options[o].name);
        if (cli_options[o].letter) berth_buffer_printf(b, "|-%c", cli_options[o].letter);
        first = false;
    }
    berth_buffer_puts(
        b, ") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n        --strategy|-s) COMPREPLY=($(compgen -W "
           "\"$(berth strategies 2>/dev/null | cut -d' ' -f1)\" -- \"$cur\")); return ;;\n    esac\n    case "
           "${COMP_WORDS[1]} in\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(b, "        %s) COMPREPLY=($(compgen -W \"", cli_commands[c].name);
        for (int o = 0; o < OPT_COUNT; o++) {
            if (cli_options[o].commands & (1u << c)) berth_buffer_printf(b, "--%s ", cli_options[o].name);
        }
        if (c == CMD_COMPLETIONS) berth_buffer_puts(b, "bash zsh fish");
        berth_buffer_puts(b, "\" -- \"$cur\")) ;;\n");
    }
    berth_buffer_puts(b, "    esac\n}\ncomplete -F _berth berth\n");
}

/* Help text inside single quotes of a shell, and inside zsh's brackets. */
static void shell_text(berth_buffer *b, const char *text, bool zsh)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'') {
            berth_buffer_puts(b, "'\\''");
        } else if (zsh && (*p == '[' || *p == ']' || *p == ':')) {
            berth_buffer_putc(b, '\\');
            berth_buffer_putc(b, *p);
        } else {
            berth_buffer_putc(b, *p);
        }
    }
}

/* What stands behind an option: files, a strategy, or text that no shell can guess. */
static const char *zsh_action(cli_option o)
{
    if (o == OPT_STRATEGY) return "_berth_strategies";
    return takes_file(o) ? "_files" : "";
}

/* '*'{-i,--image=}'[help]:FILE:_files': short and long of one option, of which only lists may come again. */
static void zsh_option(berth_buffer *b, cli_option o, cli_command command)
{
    const cli_option_row *row = &cli_options[o];
    const char letter = cli_letter(o, command);
    const char *equals = row->arg ? "=" : "";
    berth_buffer_puts(b, " \\\n            ");
    if (row->type == CLI_LIST)
        berth_buffer_puts(b, "'*'");
    else if (letter)
        berth_buffer_printf(b, "'(-%c --%s)'", letter, row->name);
    if (letter)
        berth_buffer_printf(b, "{-%c%s,--%s%s}'[", letter, row->arg ? "+" : "", row->name, equals);
    else
        berth_buffer_printf(b, "'--%s%s[", row->name, equals);
    shell_text(b, row->help, true);
    berth_buffer_puts(b, "]");
    if (row->arg) berth_buffer_printf(b, ":%s:%s", row->arg, zsh_action(o));
    berth_buffer_puts(b, "'");
}

/* As a file of fpath the body is the function; sourced, it says whose function it is. */
static void complete_zsh(berth_buffer *b)
{
    berth_buffer_puts(
        b, "#compdef berth\n_berth_strategies() {\n    local -a names=(${(f)\"$(berth strategies 2>/dev/null "
           "| cut -d' ' -f1)\"})\n    _describe strategy names || _files\n}\n_berth() {\n    if (( CURRENT "
           "== 2 )); then\n        local -a commands=(\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(b, "            '%s:", cli_commands[c].name);
        shell_text(b, cli_commands[c].about, true);
        berth_buffer_puts(b, "'\n");
    }
    berth_buffer_puts(b,
                      "        )\n        _describe command commands\n        return\n    fi\n    shift words\n    (( "
                      "CURRENT-- ))\n    case $words[1] in\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(b, "        %s) _arguments", cli_commands[c].name);
        for (int o = 0; o < OPT_COUNT; o++)
            if (cli_options[o].commands & (1u << c)) zsh_option(b, (cli_option)o, (cli_command)c);
        berth_buffer_puts(b, c == CMD_COMPLETIONS ? " '1:shell:(bash zsh fish)' ;;\n" : " ;;\n");
    }
    berth_buffer_puts(b,
                      "    esac\n}\nif [[ $funcstack[1] == _berth ]]; then _berth \"$@\"; else compdef _berth berth; "
                      "fi\n");
}

static void complete_fish(berth_buffer *b)
{
    berth_buffer_puts(b, "complete -c berth -f\n");
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer_printf(b, "complete -c berth -n __fish_use_subcommand -a %s -d '", cli_commands[c].name);
        shell_text(b, cli_commands[c].about, false);
        berth_buffer_puts(b, "'\n");
        for (int o = 0; o < OPT_COUNT; o++) {
            const cli_option_row *row = &cli_options[o];
            if (!(row->commands & (1u << c))) continue;
            berth_buffer_printf(b, "complete -c berth -n '__fish_seen_subcommand_from %s' -l %s", cli_commands[c].name,
                                row->name);
            if (cli_letter((cli_option)o, (cli_command)c)) berth_buffer_printf(b, " -s %c", row->letter);
            if (row->arg) berth_buffer_puts(b, takes_file((cli_option)o) ? " -r -F" : " -x");
            if (o == OPT_STRATEGY)
                berth_buffer_puts(b, " -a \"(berth strategies 2>/dev/null | string replace -r ' .*' '')\"");
            berth_buffer_puts(b, " -d '");
            shell_text(b, row->help, false);
            berth_buffer_puts(b, "'\n");
        }
    }
    berth_buffer_puts(b, "complete -c berth -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'\n");
}

cli_exit cmd_completions(const cli_args *a)
{
    if (a->n_operands != 1) return cli_usage(CMD_COMPLETIONS, "name one shell: bash, zsh or fish");
    berth_buffer b = {0};
    if (strcmp(a->operands[0], "bash") == 0) {
        complete_bash(&b);
    } else if (strcmp(a->operands[0], "zsh") == 0) {
        complete_zsh(&b);
    } else if (strcmp(a->operands[0], "fish") == 0) {
        complete_fish(&b);
    } else {
        return cli_usage(CMD_COMPLETIONS, "\"%s\" is not one of bash, zsh and fish", a->operands[0]);
    }
    const bool ok = !b.failed && cli_write(b.data, b.len);
    berth_buffer_deinit(&b);
    return ok ? EXIT_OK : EXIT_RUN;
}
