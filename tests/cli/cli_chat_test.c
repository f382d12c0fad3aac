/* cli_chat_test.c - berth chat through pipes and on a terminal of its own (a pseudo-terminal): what is said, remembered, stopped. */
#include <errno.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "program.h"

#define NATIVE  GOLDEN "models/ivl-native"
#define TINY    BERTH_SOURCE_DIR "/models/receipt-tiny"
#define PICTURE TINY "/receipts/receipt-02.png"

/* ---- pipes ------------------------------------------------------------------------------------------------------- */

static program_result chat(int code, const char *arguments, const char *input)
{
    const program_run run = {.stdin_text = input};
    return program_expect(&run, code, arguments);
}

static void answers_alone_go_to_standard_output(void **state)
{
    (void)state;
    program_result r =
        chat(0, "chat -m " TINY " -i " PICTURE, "Extract the fields as JSON.\n/stats\n/placement\n/help\n");
    assert_string_equal(r.out, "{\"DOCUMENT_TYPE\": \"RECEIPT\", \"SUPPLIER_NAME\": \"CEDAR BOOKS\", \"INVOICE_DATE\": "
                               "\"08/01/2022\", \"GST_AMOUNT\": \"4.37\", \"TOTAL_AMOUNT\": \"48.15\"}\n");
    assert_non_null(strstr(r.err, "5 tiles"));
    assert_non_null(strstr(r.err, "2 turns, 1 pictures"));
    assert_non_null(strstr(r.err, "pixel values"));
    assert_non_null(strstr(r.err, "/image FILE"));
    assert_null(strstr(r.err, "> "));
    program_deinit(&r);
}

/* The same conversation as `berth run` has it, whole. */
static void a_second_turn_knows_the_first(void **state)
{
    (void)state;
    program_result r =
        chat(0, "chat -m " TINY " -n 40",
             "/image " PICTURE "\nExtract the fields as JSON.\nExtract the fields\\\nas JSON.\n/stats\n");
    char *second = strchr(r.out, '\n');
    assert_non_null(second);
    *second++ = '\0';
    char path[128], arguments[512];
    snprintf(path, sizeof path, "%s/messages.json", test_folder());
    FILE *f = fopen(path, "wb");
    fprintf(f, "[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"" PICTURE
               "\"}, {\"type\": \"text\", "
               "\"text\": \"Extract the fields as JSON.\"}]}, {\"role\": \"assistant\", \"content\": \"");
    for (const char *p = r.out; *p; p++) fprintf(f, *p == '"' ? "\\\"" : "%c", *p);
    fprintf(f, "\"}, {\"role\": \"user\", \"content\": \"Extract the fields\\nas JSON.\"}]");
    assert_int_equal(fclose(f), 0);
    snprintf(arguments, sizeof arguments, "run -m " TINY " -n 40 --messages %s", path);
    program_result whole = program_expect(NULL, 0, arguments);
    assert_string_equal(second, whole.out);
    assert_non_null(strstr(r.err, " computed before"));
    assert_null(strstr(r.err, "(0 computed before"));
    program_deinit(&r);
    program_deinit(&whole);
}

static void undo_clear_save_and_load_change_the_past(void **state)
{
    (void)state;
    char input[1024], file[96];
    snprintf(file, sizeof file, "%s/chat.berth", test_folder());
    snprintf(input, sizeof input,
             "one\n/save %s\ntwo\n/undo\ntwo\n/clear\none\n/load %s\ntwo\n/history\n/undo\n/undo\n/undo\n", file, file);
    program_result r = chat(1, "chat -m " NATIVE " -n 6 --system Be\tbrief.", input);
    char *lines[6], *rest = r.out;
    for (int i = 0; i < 5; i++) lines[i] = strsep(&rest, "\n");
    assert_string_equal(lines[1], lines[2]); /* said anew after /undo */
    assert_string_equal(lines[0], lines[3]); /* after /clear, the system message again */
    assert_string_equal(lines[1], lines[4]); /* after /load */
    assert_string_equal(rest, "");
    assert_non_null(strstr(r.err, "[system] Be brief.\n[user] one\n[assistant] "));
    assert_non_null(strstr(r.err, "[user] two\n[assistant] "));
    assert_non_null(strstr(r.err, "there is nothing to undo"));
    program_deinit(&r);
}

static const struct {
    const char *input, *says;
} failures[] = {
    {"/image nowhere.png\n", "nowhere.png: No such file"},
    {"/image http://a/b.png\n", "a URL is not supported"},
    {"/image " GOLDEN "\n", "is not a file"},
    {"/image " GOLDEN "README-text-image.md\nhello\n", "README-text-image.md"},
    {"/undo\n", "nothing to undo"},
    {"/undo 2\n", "/undo takes nothing behind it"},
    {"/sav x\n", "did you mean /save"},
    {"/zzzzzz\n", "/help lists"},
    {"/save\n", "/save FILE"},
    {"/save " GOLDEN "nowhere/x\n", "nowhere"},
    {"/load\n", "/load FILE"},
    {"/load " GOLDEN "README-text-image.md\n", "README-text-image.md"},
};

static void what_fails_is_said_and_the_conversation_goes_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        char input[512];
        snprintf(input, sizeof input, "%s/clear\n//hello\n", failures[i].input);
        program_result r = chat(1, "chat -m " NATIVE " -n 3 --ignore-stop", input);
        if (strstr(r.err, failures[i].says) == NULL)
            fail_msg("%s: \"%s\" is not in:\n%s", failures[i].input, failures[i].says, r.err);
        assert_true(r.out_size > 1); /* the last message has its answer */
        program_deinit(&r);
    }
}

static void nothing_and_an_unfinished_line_are_fine(void **state)
{
    (void)state;
    program_result r = chat(0, "chat -m " NATIVE " -n 3", "");
    assert_string_equal(r.out, "");
    program_deinit(&r);
    r = chat(0, "chat -m " NATIVE " -n 3", "\n  \n/quit\nnever said\n");
    assert_string_equal(r.out, "");
    program_deinit(&r);
    r = chat(0, "chat -m " NATIVE " -n 3 --ignore-stop", "hello\\");
    assert_true(r.out_size > 1);
    program_deinit(&r);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    static const program_refusal refusals[] = {{"chat", 2, "-m DIR"},
                                               {"chat -m " NATIVE " -i nowhere.png", 3, "nowhere.png"},
                                               {"chat -m " NATIVE " -p x", 2, "not an option of `berth chat`"},
                                               {"chat -m " GOLDEN "nowhere", 3, "nowhere"},
                                               {"chat -m " NATIVE " --devices cpu/mem=1KiB", 4, "not"}};
    program_expect_refusals(refusals, sizeof refusals / sizeof refusals[0]);
}

/* ---- a terminal -------------------------------------------------------------------------------------------------- */

typedef struct terminal {
    pid_t pid;
    int fd;
    char seen[65536]; /* since the last thing that was waited for */
    size_t n;
} terminal;

/* A terminal of the kind `term`, on which lines are edited unless it is "dumb". `history`: a file, or NULL. */
static void open_kind(terminal *t, const char *term, const char *max_tokens, const char *history)
{
    const struct winsize size = {.ws_row = 24, .ws_col = 80};
    t->n = 0;
    t->seen[0] = '\0';
    t->pid = forkpty(&t->fd, NULL, NULL, &size);
    assert_true(t->pid >= 0);
    if (t->pid == 0) {
        setenv("TERM", term, 1);
        setenv("LC_ALL", "C", 1);
        execl(BERTH_PROGRAM, "berth", "chat", "-m", NATIVE, "--ignore-stop", "-n", max_tokens, "--color", "never",
              history != NULL ? "--history-file" : (char *)NULL, history, (char *)NULL);
        _exit(127);
    }
}

static void open_terminal(terminal *t, const char *max_tokens)
{
    open_kind(t, "dumb", max_tokens, NULL);
}

/* What comes first of two texts (the second may be NULL) in what was read; NULL: neither yet. */
static char *find_first(char *seen, const char *const texts[2], int *out_which)
{
    char *first = NULL;
    for (int i = 0; i < 2 && texts[i] != NULL; i++) {
        char *at = strstr(seen, texts[i]);
        if (at == NULL || (first != NULL && first <= at)) continue;
        first = at;
        *out_which = i;
    }
    return first;
}

/* Reads until one of the texts was seen; what stands before it is dropped. Gives which; -1: the end came first. */
static int wait_for_either(terminal *t, const char *text, const char *other)
{
    const char *const texts[2] = {text, other};
    char *found;
    int which = -1;
    while ((found = find_first(t->seen, texts, &which)) == NULL) {
        if (t->n > sizeof t->seen / 2) { /* the tail is enough to find a text across two reads */
            memmove(t->seen, t->seen + t->n - 256, 257);
            t->n = 256;
        }
        const ssize_t n = read(t->fd, t->seen + t->n, sizeof t->seen - t->n - 1);
        if (n <= 0) return -1;
        for (ssize_t i = 0; i < n; i++) {
            if (t->seen[t->n + (size_t)i] == '\0') t->seen[t->n + (size_t)i] = '?';
        }
        t->n += (size_t)n;
        t->seen[t->n] = '\0';
    }
    const size_t used = (size_t)(found - t->seen) + strlen(texts[which]);
    memmove(t->seen, t->seen + used, t->n - used + 1);
    t->n -= used;
    return which;
}

static void wait_for(terminal *t, const char *text)
{
    if (wait_for_either(t, text, NULL) != 0) fail_msg("\"%s\" never came; the last:\n%s", text, t->seen);
}

/* Reads until so many bytes stand behind what was waited for. */
static void wait_for_bytes(terminal *t, size_t n_bytes)
{
    while (t->n < n_bytes) {
        const ssize_t n = read(t->fd, t->seen + t->n, 64);
        assert_true(n > 0);
        t->n += (size_t)n;
        t->seen[t->n] = '\0';
    }
}

static void type(terminal *t, const char *text)
{
    assert_int_equal(write(t->fd, text, strlen(text)), strlen(text));
}

static int close_terminal(terminal *t)
{
    char rest[4096];
    int status;
    while (read(t->fd, rest, sizeof rest) > 0) {
    }
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    close(t->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Says "hello" and stops its answer by Ctrl-C; false: all of it had come before. */
static bool stop_an_answer(terminal *t)
{
    type(t, "hello\n");
    wait_for(t, "hello\r\n"); /* the echo */
    wait_for_bytes(t, 40);    /* some of the answer */
    type(t, "\x03");
    if (wait_for_either(t, "[stopped]", "(Ctrl-D or /quit ends)") != 0) return false;
    wait_for(t, "> ");
    type(t, "/stats\n");
    return wait_for_either(t, "ended by cancelled", "ended by length") == 0;
}

static void ctrl_c_stops_the_answer_and_keeps_the_conversation(void **state)
{
    (void)state;
    static terminal t;
    open_terminal(&t, "3500");
    wait_for(&t, "/help lists the commands");
    wait_for(&t, "> ");
    while (!stop_an_answer(&t)) { /* this process was given no time for so long */
        wait_for(&t, "> ");
        type(&t, "/clear\n");
        wait_for(&t, "/clear\r\n");
        wait_for(&t, "> ");
    }
    wait_for(&t, "2 turns");
    wait_for(&t, "> ");
    type(&t, "abc\x03"); /* a line is dropped */
    wait_for(&t, "(Ctrl-D or /quit ends)");
    wait_for(&t, "> ");
    type(&t, "/history\n");
    wait_for(&t, "[user] hello");
    wait_for(&t, "> ");
    type(&t, "\x04");
    assert_int_equal(close_terminal(&t), 0);
}

static void sigterm_ends_an_answer_and_the_conversation(void **state)
{
    (void)state;
    static terminal t;
    bool is_stopped = false;
    while (!is_stopped) { /* again where all of the answer had come before the signal */
        open_terminal(&t, "3500");
        wait_for(&t, "> ");
        type(&t, "one\\\n");
        wait_for(&t, ". "); /* the message goes on */
        type(&t, "two\n");
        wait_for(&t, "two\r\n");
        wait_for_bytes(&t, 20);
        kill(t.pid, SIGTERM);
        is_stopped = wait_for_either(&t, "[stopped]", NULL) == 0;
        assert_int_equal(close_terminal(&t), 0);
    }
}

/* ---- lines that are edited --------------------------------------------------------------------------------------- */

#define LEFT  "\033[D"
#define RIGHT "\033[C"
#define UP    "\033[A"
#define DOWN  "\033[B"

/* Up three times is the message before: its /history and /clear lie between. */
static const struct {
    const char *keys, *says;
} edits[] = {
    {"heo" LEFT "ll", "hello"},
    {"world\033[Hhello \033[F!", "hello world!"},
    {"b\x01"
     "a\x05"
     "c",
     "abc"},
    {"keep drop\x01" RIGHT RIGHT RIGHT RIGHT "\x0b.", "keep."},
    {"junk\x15good", "good"},
    {"abc junk\x15\x19.", "abc junk."},
    {"one two\x17six", "one six"},
    {"abc\x01\033[3~", "bc"},
    {"ab\x7f\x08z", "z"},
    {"\xe6\x97\xa5\xe6\x9c\xac"
     "x\x7f\x7f\xe8\xaa\x9e",
     "\xe6\x97\xa5\xe8\xaa\x9e"}, /* wide characters */
    {"\xc3\xa4\xf0\x9f\x98\x80" LEFT LEFT "\xc3\xb6", "\xc3\xb6\xc3\xa4\xf0\x9f\x98\x80"},
    {"one two"
     "\033[1;5D"
     "and ",
     "one and two"},
    {UP UP UP "!", "one and two!"},
    {UP UP UP UP DOWN "?", "one and two!?"},
    {"\033[200~line one\rline two\033[201~ end", "line one\r\nline two end"},
    {"\033[200~a\rb\nc\td\033[201~" LEFT "\x7f", "a\r\nb\r\ncd"},
    {"up\033\ndown", "up\r\ndown"},
    {UP UP UP "!", "up\r\ndown!"},
    {"end\\\n of line", "end\r\n of line"},
    {"\x12"
     "and two\x05.",
     "one and two!?."},
};

/* A line is being edited: the prompt has come and the terminal's own editing is off, which would take Ctrl-U, Ctrl-D and
 * the like for itself. (Asked of its other end, a terminal tells its state.) */
static void wait_for_editing(terminal *t, const char *prompt)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    struct termios mode;
    wait_for(t, "\033[?2004h");
    wait_for(t, prompt);
    for (;;) {
        assert_int_equal(tcgetattr(t->fd, &mode), 0);
        if (!(mode.c_lflag & ICANON)) return;
        nanosleep(&moment, NULL);
    }
}

static void expect_last_message(terminal *t, const char *says)
{
    char line[256];
    type(t, "/history\n");
    wait_for(t, "\033[?2004l");
    snprintf(line, sizeof line, "[user] %s\r\n[assistant]", says);
    wait_for(t, line);
    wait_for_editing(t, "> ");
    type(t, "/clear\n");
    wait_for(t, "\033[?2004l");
    wait_for_editing(t, "> ");
}

static void lines_are_edited_with_readlines_keys(void **state)
{
    (void)state;
#ifndef BERTH_HAS_EDITOR
    print_message("skipped: built without libedit\n");
    skip();
#endif
    static terminal t;
    open_kind(&t, "xterm", "1", NULL);
    wait_for_editing(&t, "> ");
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        type(&t, edits[i].keys);
        type(&t, "\n");
        wait_for(&t, "\033[?2004l"); /* taken */
        if (strstr(edits[i].keys, "\\\n") != NULL) wait_for(&t, "\033[?2004l");
        wait_for_editing(&t, "> "); /* and answered */
        expect_last_message(&t, edits[i].says);
    }
    type(&t, "\x04");
    assert_int_equal(close_terminal(&t), 0);
}

static void ctrl_c_and_sigterm_end_a_line_that_is_edited(void **state)
{
    (void)state;
#ifndef BERTH_HAS_EDITOR
    skip();
#endif
    static terminal t;
    open_kind(&t, "xterm", "3500", NULL);
    wait_for_editing(&t, "> ");
    type(&t, "dropped" LEFT LEFT "\x03");
    wait_for(&t, "(Ctrl-D or /quit ends)");
    wait_for_editing(&t, "> ");
    type(&t, "half\\\n");
    wait_for_editing(&t, ". ");
    type(&t, "\x12"
             "xx\x03"); /* in the midst of a search, and of a message */
    wait_for(&t, "(Ctrl-D or /quit ends)");
    wait_for_editing(&t, "> ");
    for (int which = 1; which != 0;) { /* again where all of the answer had come before Ctrl-C */
        type(&t, "kept\n");
        wait_for(&t, "\033[?2004l");
        wait_for_bytes(&t, 20); /* some of the answer, which is stopped */
        type(&t, "\x03");
        which = wait_for_either(&t, "[stopped]", "(Ctrl-D or /quit ends)");
        wait_for_editing(&t, "> ");
    }
    expect_last_message(&t, "kept");
    type(&t, "never said\033[200~ nor this");
    wait_for(&t, "never said");
    kill(t.pid, SIGTERM);
    assert_int_equal(close_terminal(&t), 0);
}

/* Longer than the screen and than libedit's first buffer. */
static void a_long_paste_is_one_message(void **state)
{
    (void)state;
#ifndef BERTH_HAS_EDITOR
    skip();
#endif
    static terminal t;
    static char text[16384], says[16384];
    size_t n = 0, k = 0;
    for (int i = 0; i < 120; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%sline %d of the paste", i ? "\r" : "", i);
        k += (size_t)snprintf(says + k, sizeof says - k, "%sline %d of the paste", i ? "\r\n" : "", i);
    }
    open_kind(&t, "xterm", "1", NULL);
    wait_for_editing(&t, "> ");
    type(&t, "\033[200~");
    type(&t, text);
    type(&t, "\033[201~");
    wait_for(&t, "line 119 of the paste");
    type(&t, "\n");
    wait_for(&t, "\033[?2004l");
    wait_for_editing(&t, "> ");
    type(&t, "/history\n");
    wait_for(&t, "[user] line 0");
    wait_for(&t, says + strlen("line 0"));
    wait_for(&t, "\r\n[assistant]");
    wait_for_editing(&t, "> ");
    type(&t, "\x04");
    assert_int_equal(close_terminal(&t), 0);
}

static void history_is_kept_in_a_file_when_asked_for(void **state)
{
    (void)state;
#ifndef BERTH_HAS_EDITOR
    skip();
#endif
    static terminal t;
    char file[96];
    struct stat info;
    snprintf(file, sizeof file, "%s/history", test_folder());
    for (int round = 0; round < 2; round++) {
        open_kind(&t, "xterm", "1", file);
        wait_for_editing(&t, "> ");
        type(&t, round == 0 ? "first \xc3\xa4\033\nsecond\n" : UP "!\n");
        wait_for(&t, "\033[?2004l");
        wait_for_editing(&t, "> ");
        if (round == 1) expect_last_message(&t, "first \xc3\xa4\r\nsecond!");
        type(&t, "\x04");
        assert_int_equal(close_terminal(&t), 0);
        assert_int_equal(stat(file, &info), 0);
        assert_int_equal(info.st_mode & 077, 0); /* nobody else's */
    }
    open_kind(&t, "xterm", "1", GOLDEN "README-text-image.md"); /* no history, and it stays what it is */
    wait_for(&t, "not a history");
    assert_int_equal(close_terminal(&t), 3);
    open_kind(&t, "dumb", "1", file);
    wait_for(&t, "leave it out");
    assert_int_equal(close_terminal(&t), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_alone_go_to_standard_output),
        cmocka_unit_test(a_second_turn_knows_the_first),
        cmocka_unit_test(undo_clear_save_and_load_change_the_past),
        cmocka_unit_test(what_fails_is_said_and_the_conversation_goes_on),
        cmocka_unit_test(nothing_and_an_unfinished_line_are_fine),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(ctrl_c_stops_the_answer_and_keeps_the_conversation),
        cmocka_unit_test(sigterm_ends_an_answer_and_the_conversation),
        cmocka_unit_test(lines_are_edited_with_readlines_keys),
        cmocka_unit_test(ctrl_c_and_sigterm_end_a_line_that_is_edited),
        cmocka_unit_test(a_long_paste_is_one_message),
        cmocka_unit_test(history_is_kept_in_a_file_when_asked_for),
    };
    return cmocka_run_group_tests_name("cli_chat", tests, NULL, NULL);
}
