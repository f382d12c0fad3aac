/* cli_batch_test.c - berth batch: every line answered once, also when it is killed at any moment, stopped, or given lines
 * that are wrong; and named prompts. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "program.h"

#define NATIVE GOLDEN "models/ivl-native"

enum { N_LINES = 240, N_KILLS = 20 };

extern char **environ;

static const char *at(const char *name)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* Requests with and without ids, some that fail. */
static void put_requests(const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < N_LINES; i++) {
        if (i % 5 == 0) {
            fprintf(f, "{\"prompt\": \"question %d\", \"max_tokens\": 8}\n", i);
        } else if (i % 37 == 0) {
            fprintf(f, "{\"id\": %d, \"image\": \"nowhere.png\", \"prompt\": \"x\"}\n", i);
        } else {
            fprintf(f, "{\"id\": \"doc %d\", \"prompt\": \"question %d\", \"max_tokens\": %d}\n", i, i, 1 + i % 16);
        }
    }
    assert_int_equal(fclose(f), 0);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines of a file; the first takes the memory of all. */
static int read_lines(const char *path, char **out, int limit)
{
    size_t size;
    char *text = test_read(path, &size);
    int n = 0;
    assert_true(size > 0 && text[size - 1] == '\n');
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(n < limit);
        out[n++] = line;
    }
    assert_ptr_equal(out[0], text);
    return n;
}

static void expect_same_lines(const char *a_path, const char *b_path, bool sorted)
{
    static char *a[N_LINES + 1], *b[N_LINES + 1];
    const int n = read_lines(a_path, a, N_LINES), m = read_lines(b_path, b, N_LINES);
    char *const memory[] = {a[0], b[0]};
    assert_int_equal(n, m);
    if (!sorted) {
        qsort(a, (size_t)n, sizeof *a, by_text);
        qsort(b, (size_t)m, sizeof *b, by_text);
    }
    for (int i = 0; i < n; i++) assert_string_equal(a[i], b[i]);
    free(memory[0]);
    free(memory[1]);
}

static pid_t start_from(int input, const char *in, const char *out, const char *ordered)
{
    char *words[] = {
        (char *)BERTH_PROGRAM, "batch", "-m", (char *)NATIVE, "--in", (char *)in, "--out", (char *)out, "-q", "-t", "1",
        (char *)ordered,       NULL};
    char err[128];
    snprintf(err, sizeof err, "%s/stderr", test_folder());
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (input >= 0) posix_spawn_file_actions_adddup2(&actions, input, 0);
    posix_spawn_file_actions_addopen(&actions, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, BERTH_PROGRAM, &actions, NULL, words, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static pid_t start(const char *in, const char *out, const char *ordered)
{
    return start_from(-1, in, out, ordered);
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static long size_of(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return 0;
    fseek(f, 0, SEEK_END);
    const long size = ftell(f);
    fclose(f);
    return size;
}

/* Waits until the file has grown by some bytes, or the process is over. */
static bool wait_for_growth(pid_t pid, const char *path, long size)
{
    siginfo_t info = {0};
    while (size_of(path) < size) {
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid) return false;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    return true;
}

/* ---- killed ------------------------------------------------------------------------------------------------------ */

/* N_KILLS times, each time after some more answers (an amount drawn by `seed`); those that it did not come too late for. */
static int kill_often(const char *in, const char *cut, const char *ordered, unsigned seed, long step)
{
    int n_killed = 0;
    for (int kills = 0; kills < N_KILLS; kills++) {
        seed = seed * 1103515245u + 12345u;
        const pid_t pid = start(in, cut, ordered);
        const bool running = wait_for_growth(pid, cut, size_of(cut) + (long)(seed >> 16) % (step * 2) - 40);
        if (running) kill(pid, SIGKILL);
        const int code = wait_for(pid); /* it may just have ended by itself */
        assert_true(code == 1 || (running && code == 128 + SIGKILL));
        n_killed += code != 1;
        if (kills % 4 == 0) { /* as a kill in the middle of a write leaves it */
            FILE *f = fopen(cut, "ab");
            fputs(kills % 8 ? "{\"id\":\"doc 1\",\"text\":\"torn" : "{\"id\":\"doc 2\",\"text\":\"\"}", f);
            fclose(f);
        }
    }
    return n_killed;
}

/* Killed often, then left to end. */
static void kill_and_resume(const char *ordered, unsigned seed)
{
    const char *in = at("in.jsonl"), *whole = at("whole.jsonl"), *cut = at("cut.jsonl");
    put_requests(in);
    unlink(whole);
    assert_int_equal(wait_for(start(in, whole, ordered)), 1); /* some lines fail */
    const long step = size_of(whole) / (N_KILLS + 2);
    for (int n_killed = 0; n_killed == 0; seed++) { /* again where this process was given no time to kill any */
        unlink(cut);
        n_killed = kill_often(in, cut, ordered, seed, step);
    }
    assert_int_equal(wait_for(start(in, cut, ordered)), 1);
    expect_same_lines(whole, cut, ordered != NULL);
}

static void a_killed_batch_loses_and_doubles_nothing(void **state)
{
    (void)state;
    kill_and_resume(NULL, 7);
}

static void a_killed_ordered_batch_keeps_the_order(void **state)
{
    (void)state;
    kill_and_resume("--ordered", 11);
}

static void a_signal_ends_it_between_two_lines(void **state)
{
    (void)state;
    const char *in = at("in.jsonl"), *whole = at("whole.jsonl"), *cut = at("cut.jsonl");
    put_requests(in);
    unlink(whole);
    unlink(cut);
    assert_int_equal(wait_for(start(in, whole, NULL)), 1);
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) { /* the input stays open, so that only the signal can end it */
        int ends[2];
        size_t size;
        char *text = test_read(in, &size), err[128];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_true(fcntl(ends[1], F_SETPIPE_SZ, 1 << 17) >= (int)size);
        const size_t given = i == 0 ? size / 2 : size;
        const long before = size_of(cut);
        const pid_t pid = start_from(ends[0], "-", cut, NULL);
        assert_int_equal(write(ends[1], text, given), given);
        assert_true(wait_for_growth(pid, cut, before + 1));
        kill(pid, signals[i]);
        assert_int_equal(wait_for(pid), 1);
        close(ends[0]);
        close(ends[1]);
        free(text);
        snprintf(err, sizeof err, "%s/stderr", test_folder());
        text = test_read(err, &size);
        assert_non_null(strstr(text, "stopped by a signal"));
        free(text);
    }
    assert_int_equal(wait_for(start(in, cut, NULL)), 1);
    expect_same_lines(whole, cut, false);
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

typedef struct line_case {
    const char *line, *says; /* in the answer */
} line_case;

static const line_case line_cases[] = {
    {"{\"id\": 1, \"prompt\": \"x\", \"max_tokens\": 3}", "{\"id\":1,\"text\":"},
    {"{\"id\": \"a\\u00e9\", \"prompt\": \"x\", \"max_tokens\": 2}", "{\"id\":\"a\\u00e9\",\"text\":"},
    {"{\"id\": 1, \"prompt\": \"x\"}", "is that of line 1 too"},
    {"{\"id\": true, \"prompt\": \"x\"}", "give a text or a whole number"},
    {"{\"id\": 2}", "nothing is asked"},
    {"{\"id\": 3, \"prompt\": 5}", "prompt is a number; it must be a text"},
    {"{\"id\": 4, \"prompt\": \"x\", \"prompt_name\": \"y\"}", "give one of them"},
    {"{\"id\": 5, \"prompt_name\": \"y\"}", "give --prompts"},
    {"{\"id\": 6, \"prompt\": \"x\", \"images\": \"a.png\"}", "images must be a list"},
    {"{\"id\": 7, \"prompt\": \"x\", \"image\": \"http://a/b.png\"}", "a URL is not supported"},
    {"{\"id\": 8, \"prompt\": \"x\", \"image\": \"nowhere.png\"}", "nowhere.png"},
    {"{\"id\": 9, \"prompt\": \"x\", \"max_tokens\": 0}", "max_tokens must be a whole number"},
    {"{\"id\": 10, \"prompt\": \"x\", \"temperature\": 0, \"top_k\": 3}", "cannot be meant"},
    {"{\"id\": 11, \"prompt\": \"x\", \"temperature\": -1}", "temperature must be a number, 0 or more"},
    {"{\"id\": 12, \"prompt\": \"x\", \"messages\": []}", "leave out prompt"},
    {"{\"id\": 13, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_tokens\": 2}",
     "{\"id\":13,\"text\":"},
    {"{\"id\": 14, \"prompt\": \"x\", \"top_p\": 0.9, \"seed\": 3, \"max_tokens\": 2}", "{\"id\":14,\"text\":"},
    {"{\"id\": 15, \"prompt\": \"x\", \"max_tiles\": 5000}", "\"status\":\"bad file\""},
    {"[1]", "a request is an object"},
    {"{\"id\": 16,", "not taken as JSON"},
};

static void a_line_that_fails_spoils_no_other(void **state)
{
    (void)state;
    enum { N = sizeof line_cases / sizeof line_cases[0] };
    char text[8192] = "", *lines[N + 1];
    for (int i = 0; i < N; i++) {
        strcat(text, line_cases[i].line);
        strcat(text, i == 3 ? "\n\n  \n" : "\n"); /* blank lines are passed over */
    }
    const program_run run = {.stdin_text = text};
    program_result r = program_expect(&run, 1, "batch -m " NATIVE " --in - --ordered");
    put(at("answers"), r.out);
    assert_int_equal(read_lines(at("answers"), lines, N), N);
    for (int i = 0; i < N; i++) {
        if (strstr(lines[i], line_cases[i].says) == NULL)
            fail_msg("%s is answered %s, without %s", line_cases[i].line, lines[i], line_cases[i].says);
    }
    assert_non_null(strstr(r.err, "16 lines failed; the first: line 3: "));
    free(lines[0]);
    program_deinit(&r);
}

static void failed_lines_are_asked_again_when_wanted(void **state)
{
    (void)state;
    char arguments[512];
    const char *out = at("retry.jsonl");
    unlink(out);
    put(at("retry.in"), "{\"id\": 1, \"prompt\": \"x\", \"max_tokens\": 2}\n{\"id\": 2, \"max_tokens\": 2}\n");
    snprintf(arguments, sizeof arguments, "batch -m " NATIVE " --in %s --out %s", at("retry.in"), out);
    program_result first = program_expect(NULL, 1, arguments);
    program_result again = program_expect(NULL, 1, arguments); /* what failed before still failed */
    assert_non_null(strstr(again.err, "2 answered before"));
    strcat(arguments, " --retry-failed -p hello");
    program_result third = program_expect(NULL, 0, arguments);
    assert_non_null(strstr(third.err, "1 answered, 0 failed, 1 answered before"));
    char *lines[3];
    assert_int_equal(read_lines(out, lines, 3), 2);
    assert_null(strstr(lines[1], "error"));
    free(lines[0]);
    program_deinit(&first);
    program_deinit(&again);
    program_deinit(&third);
}

static void guessing_ahead_changes_no_answer(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "{\"id\": 1, \"prompt\": \"one two one two one two\", \"max_tokens\": 40}\n"
                                           "{\"id\": 2, \"prompt\": \"x\", \"max_tokens\": 9, \"temperature\": 1}\n"
                                           "{\"id\": 3, \"prompt\": \"a b c a b c\", \"max_tokens\": 40}\n"};
    program_result plain = program_expect(&run, 0, "batch -m " NATIVE " --in - --ordered");
    program_result ahead = program_expect(&run, 0, "batch -m " NATIVE " --in - --ordered --speculate 6 --passes 2");
    assert_string_equal(plain.out, ahead.out);
    program_deinit(&plain);
    program_deinit(&ahead);
    program_result drawn = program_expect(&run, 2, "batch -m " NATIVE " --in - --speculate 6 --top-k 4");
    assert_non_null(strstr(drawn.err, "guesses greedy answers"));
    program_deinit(&drawn);
}

/* ---- prompts ----------------------------------------------------------------------------------------------------- */

static const char yaml[] = "greeting: Say hello.\n"
                           "long:\n"
                           "  system: You read documents.\n"
                           "  user: |\n"
                           "    Extract the fields\n"
                           "    as JSON.\n"
                           "  max_tokens: 3\n"
                           "  temperature: 0\n"
                           "  fields: [A, B]\n";

static void named_prompts_are_what_they_name(void **state)
{
    (void)state;
    char arguments[512];
    put(at("prompts.yaml"), yaml);
    const program_run run = {.stdin_text = "{\"id\": 1, \"prompt_name\": \"long\"}\n"
                                           "{\"id\": 2, \"prompt_name\": \"long\", \"max_tokens\": 5}\n"
                                           "{\"id\": 3, \"prompt_name\": \"lang\"}\n"
                                           "{\"id\": 4, \"max_tokens\": 1}\n"
                                           "{\"id\": 5, \"system\": \"You read documents.\", \"max_tokens\": 3,"
                                           " \"prompt\": \"Extract the fields\\nas JSON.\\n\"}\n"};
    snprintf(arguments, sizeof arguments,
             "batch -m " NATIVE " --in - --ordered --prompts %s --prompt-name greeting -n 4", at("prompts.yaml"));
    program_result r = program_expect(&run, 1, arguments);
    char *lines[6];
    put(at("answers"), r.out);
    assert_int_equal(read_lines(at("answers"), lines, 5), 5);
    assert_non_null(strstr(lines[0], "\"tokens\":4")); /* the command line stands over the prompt */
    assert_non_null(strstr(lines[1], "\"tokens\":5")); /* and the line over both */
    assert_non_null(strstr(lines[2], "did you mean"));
    assert_non_null(strstr(lines[3], "\"tokens\":1"));
    const char *a = strstr(lines[0], "\"prompt_tokens\""), *b = strstr(lines[4], "\"prompt_tokens\"");
    assert_int_equal(atoi(strchr(a, ':') + 1), atoi(strchr(b, ':') + 1));
    free(lines[0]);
    program_deinit(&r);
    snprintf(arguments, sizeof arguments, "run -m " NATIVE " --prompts %s --prompt-name long --json",
             at("prompts.yaml"));
    r = program_expect(NULL, 0, arguments);
    assert_non_null(strstr(r.out, "\"finish_reason\": \"length\""));
    program_deinit(&r);
}

static const struct {
    const char *yaml, *says;
} bad_yaml[] = {
    {"", "expected a mapping"},
    {"- a\n- b\n", "expected a mapping"},
    {"a: [b]\n", "is a list"},
    {"a: ''\n", "has no text"},
    {"a:\n  system: x\n", "has no text"},
    {"a: x\na: y\n", "line 2: \"a\" stands there twice"},
    {"a:\n  user: x\n  max_token: 3\n", "line 3: a prompt has no \"max_token\"; did you mean max_tokens"},
    {"a:\n  user: x\n  max_tokens: many\n", "must be a number"},
    {"a:\n  user: x\n  max_tokens: 1.5\n", "whole number"},
    {"a:\n  user: x\n  temperature: -1\n", "0 or more"},
    {"a:\n  user: x\n  fields: A\n", "must be a list"},
    {"a:\n  user: {b: c}\n", "must be a text"},
    {"a: \"x\n", "not YAML"},
    {"a: x\n---\nb: y\n", "more than one document"},
    {"a: \xff\n", "not YAML"},
    {"? [a]\n: b\n", "must be a text"},
};

static void broken_prompt_files_are_refused(void **state)
{
    (void)state;
    char arguments[256];
    snprintf(arguments, sizeof arguments, "run -m " NATIVE " --prompts %s", at("bad.yaml"));
    for (size_t i = 0; i < sizeof bad_yaml / sizeof bad_yaml[0]; i++) {
        put(at("bad.yaml"), bad_yaml[i].yaml);
        program_result r = program_expect(NULL, 3, arguments);
        if (strstr(r.err, bad_yaml[i].says) == NULL)
            fail_msg("\"%s\" is not in what is said of\n%s\n%s", bad_yaml[i].says, bad_yaml[i].yaml, r.err);
        program_deinit(&r);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static const program_refusal refusals[] = {
    {"batch", 2, "-m DIR"},
    {"batch -m " NATIVE, 2, "--in FILE is required"},
    {"batch -m " NATIVE " --in nowhere.jsonl", 3, "nowhere.jsonl"},
    {"batch -m " NATIVE " --in " GOLDEN, 3, "is a folder"},
    {"batch -m " GOLDEN "nowhere --in -", 3, "nowhere"},
    {"batch -m " NATIVE " --in - --sync never", 2, "line, second or end"},
    {"batch -m " NATIVE " --in - --retry-failed", 2, "--out"},
    {"batch -m " NATIVE " --in - --parallel 0", 2, "--parallel"},
    {"batch -m " NATIVE " --in - -p x --prompts y", 2, "give one of them"},
    {"batch -m " NATIVE " --in - --prompt-name y", 2, "--prompts"},
    {"batch -m " NATIVE " --in - --prompts " GOLDEN "nowhere.yaml", 3, "nowhere.yaml"},
    {"batch -m " NATIVE " --in - --out " GOLDEN "nowhere/out.jsonl", 3, "nowhere/out.jsonl"},
    {"batch -m " NATIVE " --in - --out " GOLDEN "README-text-image.md", 3, "no file of answers"},
    {"batch -m " NATIVE " --in " GOLDEN "README-text-image.md --out " GOLDEN "README-text-image.md", 2,
     "the same file"},
    {"batch -m " NATIVE " --in - --temperature 0 --top-k 3", 2, "cannot be meant"},
    {"batch -m " NATIVE " --in - --devices cpu/mem=1KiB", 4, "not"},
    {"batch -m " NATIVE " --in - x", 2, "takes no operands"},
};

static void mistakes_are_refused_with_a_sentence(void **state)
{
    (void)state;
    program_expect_refusals(refusals, sizeof refusals / sizeof refusals[0]);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "{\"prompt\": \"x\", \"max_tokens\": 2}\n"};
    program_result r = program_expect(&run, 1, "batch -m " NATIVE " --in - --out /dev/full");
    assert_non_null(strstr(r.err, "/dev/full"));
    program_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_batch_loses_and_doubles_nothing),
        cmocka_unit_test(a_killed_ordered_batch_keeps_the_order),
        cmocka_unit_test(a_signal_ends_it_between_two_lines),
        cmocka_unit_test(a_line_that_fails_spoils_no_other),
        cmocka_unit_test(failed_lines_are_asked_again_when_wanted),
        cmocka_unit_test(guessing_ahead_changes_no_answer),
        cmocka_unit_test(named_prompts_are_what_they_name),
        cmocka_unit_test(broken_prompt_files_are_refused),
        cmocka_unit_test(mistakes_are_refused_with_a_sentence),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests_name("cli_batch", tests, NULL, NULL);
}
