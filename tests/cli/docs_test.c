/* docs_test.c - docs/command-line.md says what the tables of runtime/cli/options.c say: every command, every option, its
 * range and its commands, and no other; and no page on planning names an option that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/file.h"
#include "cli/options.h"

#define DOCS BERTH_SOURCE_DIR "/docs/"

static char *page;

static char *load(const char *name)
{
    char path[512], *text;
    size_t size;
    berth_error err = {0};
    snprintf(path, sizeof path, DOCS "%s", name);
    if (berth_file_read(path, 1 << 20, &text, &size, &err) != BERTH_OK) fail_msg("%s", err.message);
    return text;
}

static int load_page(void **state)
{
    (void)state;
    page = load("command-line.md");
    return 0;
}

static int drop_page(void **state)
{
    (void)state;
    free(page);
    return 0;
}

/* As it stands in a cell of a table. */
static void put_cell(berth_buffer *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') berth_buffer_putc(b, '\\');
        berth_buffer_putc(b, *text);
    }
}

static void put_commands(berth_buffer *b, uint32_t commands)
{
    if (commands == (1u << CMD_COUNT) - 1) {
        berth_buffer_puts(b, "all");
        return;
    }
    bool any = false;
    for (int c = 0; c < CMD_COUNT; c++) {
        if (!(commands & (1u << c))) continue;
        berth_buffer_printf(b, "%s%s", any ? ", " : "", cli_commands[c].name);
        any = true;
    }
}

static void expect_row(const berth_buffer *row, const char *name)
{
    assert_false(row->failed);
    if (strstr(page, row->data) == NULL)
        fail_msg("docs/command-line.md has no row for %s that says what runtime/cli/options.c says:%s", name,
                 row->data);
}

static void every_command_has_its_row(void **state)
{
    (void)state;
    for (int c = 0; c < CMD_COUNT; c++) {
        berth_buffer row = {0};
        berth_buffer_puts(&row, "\n| `");
        put_cell(&row, cli_commands[c].usage);
        berth_buffer_puts(&row, "` | ");
        put_cell(&row, cli_commands[c].about);
        berth_buffer_puts(&row, " |\n");
        expect_row(&row, cli_commands[c].name);
        berth_buffer_deinit(&row);
    }
}

static void every_option_has_its_row(void **state)
{
    (void)state;
    for (int o = 0; o < OPT_COUNT; o++) {
        const cli_option_row *r = &cli_options[o];
        berth_buffer row = {0};
        berth_buffer_puts(&row, "\n| ");
        if (r->letter) berth_buffer_printf(&row, "`-%c`, ", r->letter);
        berth_buffer_printf(&row, "`--%s%s%s` | ", r->name, r->arg ? " " : "", r->arg ? r->arg : "");
        put_cell(&row, r->help);
        berth_buffer_puts(&row, " | ");
        if (r->type == CLI_INT) berth_buffer_printf(&row, "%lld to %lld", (long long)r->min, (long long)r->max);
        berth_buffer_puts(&row, " | ");
        put_commands(&row, r->commands);
        berth_buffer_puts(&row, " |\n");
        expect_row(&row, r->name);
        berth_buffer_deinit(&row);
    }
}

static bool is_option(const char *name, size_t len)
{
    for (int o = 0; o < OPT_COUNT; o++)
        if (strlen(cli_options[o].name) == len && memcmp(cli_options[o].name, name, len) == 0) return true;
    return false;
}

/* "--word" anywhere in a page is an option of berth; `others` are those of other programs that the page tells to call. */
static void check_names(const char *name, const char *text, const char *const *others)
{
    for (const char *p = text; (p = strstr(p, "--")) != NULL;) {
        const size_t dashes = strspn(p, "-"), len = strspn(p + dashes, "abcdefghijklmnopqrstuvwxyz-");
        const char *word = p + dashes;
        const bool is_word = dashes == 2 && len > 1 && (p == text || strchr(" `(\n'\"[", p[-1]) != NULL);
        p = word + len;
        if (!is_word || is_option(word, len)) continue;
        bool known = false;
        for (int i = 0; others[i] != NULL; i++) known |= strlen(others[i]) == len && memcmp(others[i], word, len) == 0;
        if (!known) fail_msg("docs/%s names --%.*s, which is no option", name, (int)len, word);
    }
}

static void pages_name_no_option_that_is_not_there(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *others[4];
    } pages[] = {
        {"command-line.md", {"name"}}, /* stands for any */
        {"devices.md", {NULL}},        {"plan-schema.md", {NULL}},
        {"affinity.md", {NULL}},       {"strategy-plugins.md", {"cflags"}},
        {"model-support.md", {NULL}},  {"adding-a-strategy.md", {NULL}},
    };
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        char *text = load(pages[i].name);
        check_names(pages[i].name, text, pages[i].others);
        free(text);
    }
}

/* Rows in the page that no option has any more. */
static void no_row_is_left_over(void **state)
{
    (void)state;
    int n = 0;
    for (const char *p = page; (p = strstr(p, "\n| `-")) != NULL; p++) {
        const char *name = strstr(p, "--");
        const size_t len = strspn(name + 2, "abcdefghijklmnopqrstuvwxyz-");
        if (!is_option(name + 2, len)) fail_msg("docs/command-line.md has a row for --%.*s", (int)len, name + 2);
        n++;
    }
    assert_int_equal(n, OPT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_its_row),
        cmocka_unit_test(every_option_has_its_row),
        cmocka_unit_test(no_row_is_left_over),
        cmocka_unit_test(pages_name_no_option_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, load_page, drop_page);
}
