/* program.h - for tests: the berth program run as a user runs it, its output and exit code caught. */
#ifndef BERTH_TESTS_CLI_PROGRAM_H
#define BERTH_TESTS_CLI_PROGRAM_H

#include <stddef.h>

#include "base/json.h"

#define GOLDEN BERTH_SOURCE_DIR "/tests/golden/"

typedef struct program_run {
    const char *stdin_text; /* NULL: nothing */
    size_t stdin_size;      /* of stdin_text; 0: strlen */
    const char *folder;     /* where it runs; NULL: here */
} program_run;

typedef struct program_result {
    int code;        /* exit code; 128 + n when signal n ended it */
    char *out, *err; /* owned, with a NUL behind */
    size_t out_size, err_size;
} program_result;

/* Runs `berth` with words of `arguments`, which are set apart by single blanks ("\t" inside a word stands for a blank).
 * Fails the test when it cannot be run. */
program_result program(const program_run *run, const char *arguments);
void program_deinit(program_result *r);

/* Runs, checks the exit code, and shows both outputs when it is another. */
program_result program_expect(const program_run *run, int code, const char *arguments);

/* Each run ends with its code, says so on standard error behind "berth: ", and has nothing on standard output. */
typedef struct program_refusal {
    const char *arguments;
    int code;
    const char *says;
} program_refusal;
void program_expect_refusals(const program_refusal *rows, size_t n);

char *test_read(const char *path, size_t *out_size); /* owned; fails the test when it cannot be read */
char *test_folder(void);                             /* a new empty folder; static text, removed at exit */

/* Deep equality; the order of members does not count. */
int json_equal(const berth_json_node *a, const berth_json_node *b);

#endif
