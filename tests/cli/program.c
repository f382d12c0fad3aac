/* program.c - see program.h. Output goes through files, so that no pipe can fill up. */
#include "program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

enum { MAX_WORDS = 64 };

static char folder[64];

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d != NULL) closedir(d);
    rmdir(folder);
}

char *test_folder(void)
{
    if (folder[0] == '\0') {
        strcpy(folder, "/tmp/berth-cli-XXXXXX");
        assert_non_null(mkdtemp(folder));
        atexit(remove_folder);
    }
    return folder;
}

char *test_read(const char *path, size_t *out_size)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) fail_msg("%s: %s", path, strerror(errno));
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long size = ftell(f);
    rewind(f);
    char *data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, f), (size_t)size);
    data[size] = '\0';
    fclose(f);
    *out_size = (size_t)size;
    return data;
}

static void write_file(const char *path, const char *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Cuts `text` (edited) into words behind words[0]. */
static void split(char *text, char **words)
{
    int n = 1;
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        for (char *p = word; *p; p++) *p = *p == '\t' ? ' ' : *p;
        assert_true(n < MAX_WORDS);
        words[n++] = word;
    }
    words[n] = NULL;
}

program_result program(const program_run *run, const char *arguments)
{
    static const program_run nothing;
    char in[96], out[96], err[96], *text = strdup(arguments), *words[MAX_WORDS + 1] = {(char *)BERTH_PROGRAM};
    if (run == NULL) run = &nothing;
    snprintf(in, sizeof in, "%s/stdin", test_folder());
    snprintf(out, sizeof out, "%s/stdout", test_folder());
    snprintf(err, sizeof err, "%s/stderr", test_folder());
    const char *given = run->stdin_text != NULL ? run->stdin_text : "";
    write_file(in, given, run->stdin_size ? run->stdin_size : strlen(given));
    split(text, words);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (run->folder != NULL) posix_spawn_file_actions_addchdir_np(&actions, run->folder);
    pid_t pid;
    int status = 0;
    assert_int_equal(posix_spawn(&pid, BERTH_PROGRAM, &actions, NULL, words, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    while (waitpid(pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    free(text);
    program_result r = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
    r.out = test_read(out, &r.out_size);
    r.err = test_read(err, &r.err_size);
    return r;
}

program_result program_expect(const program_run *run, int code, const char *arguments)
{
    program_result r = program(run, arguments);
    if (r.code != code)
        fail_msg("berth %s: exit code %d, not %d\n--- standard output\n%.2000s\n--- standard error\n%.4000s", arguments,
                 r.code, code, r.out, r.err);
    return r;
}

void program_deinit(program_result *r)
{
    free(r->out);
    free(r->err);
}

void program_expect_refusals(const program_refusal *rows, size_t n)
{
    for (const program_refusal *c = rows; c < rows + n; c++) {
        program_result r = program_expect(NULL, c->code, c->arguments);
        if (strstr(r.err, c->says) == NULL) fail_msg("berth %s: \"%s\" is not in:\n%s", c->arguments, c->says, r.err);
        if (strncmp(r.err, "berth: ", 7) != 0) fail_msg("berth %s: says\n%s", c->arguments, r.err);
        if (r.out_size != 0) fail_msg("berth %s: standard output has\n%s", c->arguments, r.out);
        program_deinit(&r);
    }
}

int json_equal(const berth_json_node *a, const berth_json_node *b)
{
    const berth_json_type type = berth_json_type_of(a);
    bool x, y;
    double p, q;
    if (type != berth_json_type_of(b) || (a == NULL) != (b == NULL)) return 0;
    switch (type) {
    case BERTH_JSON_BOOL: return berth_json_as_bool(a, &x) && berth_json_as_bool(b, &y) && x == y;
    case BERTH_JSON_NUMBER: return berth_json_as_f64(a, &p) && berth_json_as_f64(b, &q) && p == q;
    case BERTH_JSON_STRING: return strcmp(berth_json_as_string(a), berth_json_as_string(b)) == 0;
    case BERTH_JSON_ARRAY:
        a = berth_json_first(a);
        b = berth_json_first(b);
        for (; a != NULL && b != NULL; a = berth_json_next(a), b = berth_json_next(b)) {
            if (!json_equal(a, b)) return 0;
        }
        return a == NULL && b == NULL;
    case BERTH_JSON_OBJECT:
        if (berth_json_size(a) != berth_json_size(b)) return 0;
        for (const berth_json_node *m = berth_json_first(a); m != NULL; m = berth_json_next(m)) {
            if (!json_equal(m, berth_json_get(b, berth_json_key(m)))) return 0;
        }
        return 1;
    default: return 1;
    }
}
