/* plugin_test.c - plug-ins that do as they should and plug-ins that do harm, in process and in one of their own: each
 * gives the error that says what happened, the host lives, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/utf8.h"
#include "plugin/plugin.h"
#include "small_model.h"

#define PLUGIN(name) PLUGIN_DIR "/" name ".so"
#define THIS_FILE    BERTH_SOURCE_DIR "/tests/plugin/plugin_test.c"

static const berth_plugin_options here = {0},
                                  isolated = {.isolated = true, .timeout_ms = 600000, .host = STRATEGY_HOST};

/* ---- what a call may leave behind ---- */

static int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void assert_no_child(void)
{
    int status;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static berth_status place(const char *path, const char *argument, const berth_plugin_options *o, berth_placement **out,
                          berth_error *err)
{
    int before = count_descriptors();
    berth_strategy_input in = small_input();
    in.argument = argument;
    *err = (berth_error){0};
    berth_status st = berth_plugin_place(path, o, &in, out, err);
    assert_int_equal(count_descriptors(), before);
    assert_no_child();
    assert_int_equal(st == BERTH_OK, *out != NULL);
    if (st != BERTH_OK) {
        assert_int_equal(err->status, st);
        assert_true(berth_utf8_valid(err->message, strlen(err->message)));
        assert_null(strchr(err->message, '\x1B'));
        assert_null(err->native_api && strcmp(err->native_api, "errno") != 0 ? err->native_api : NULL);
    }
    return st;
}

static void expect(const char *path, const char *argument, const berth_plugin_options *o, berth_status status,
                   const char *says)
{
    berth_placement *p;
    berth_error err;
    berth_status st = place(path, argument, o, &p, &err);
    if (st != status)
        fail_msg("%s=%s%s: status %d, \"%s\"", path, argument ? argument : "", o->isolated ? " isolated" : "", st,
                 err.message);
    if (st != BERTH_OK && !strstr(err.message, says))
        fail_msg("%s=%s%s: \"%s\"", path, argument ? argument : "", o->isolated ? " isolated" : "", err.message);
    if (st == BERTH_OK && strcmp(p->note, says) != 0)
        fail_msg("%s=%s: note \"%s\"", path, argument ? argument : "", p->note);
    berth_placement_destroy(p);
}

/* ---- plug-ins that answer ---- */

/* What plugins/good.c makes of its inputs. */
static const char *read_note(void)
{
    static char note[32];
    const berth_strategy_input in = small_input();
    size_t sum = 0;
    for (int32_t i = 0; i < SMALL_NODES; i++)
        sum += strlen(berth_node_at(&in, i)->path) + strlen(berth_node_at(&in, i)->class_name) + (size_t)i;
    for (int32_t d = 0; d < SMALL_DEVICES; d++) sum += strlen(berth_device_at(&in, d)->name);
    for (int32_t k = 0; k < in.n_links; k++) sum += (size_t)(berth_link_at(&in, k)->from + berth_link_at(&in, k)->to);
    snprintf(note, sizeof note, "read %zu", sum);
    return note;
}

static void a_good_plugin_places(void **state)
{
    (void)state;
    const berth_plugin_options *ways[] = {&here, &isolated};
    for (int w = 0; w < 2; w++) {
        berth_placement *p;
        berth_error err;
        if (place(PLUGIN("good"), NULL, ways[w], &p, &err) != BERTH_OK) fail_msg("%s", err.message);
        assert_string_equal(p->strategy, "good");
        assert_string_equal(p->note, read_note()); /* it was given every name and link */
        assert_int_equal(p->n_replicas, 1);
        assert_int_equal(p->device_of[1], 0);
        assert_int_equal(p->device_of[4], 1);
        assert_int_equal(p->device_of[10], 2);
        berth_placement_destroy(p);
        assert_int_equal(place(PLUGIN("good"), "2", ways[w], &p, &err), BERTH_OK);
        assert_string_equal(p->strategy, "good=2");
        assert_int_equal(p->n_replicas, 2);
        assert_int_equal(p->device_of[0], 0);
        assert_int_equal(p->device_of[SMALL_NODES], 1);
        berth_placement_destroy(p);
        expect(PLUGIN("good"), "4", ways[w], BERTH_INVALID_ARGUMENT, "good=N takes 1 to 3, not 4");
        expect(PLUGIN("good"), "3", ways[w], BERTH_DOES_NOT_FIT, "on cpu:2");
    }
}

static void a_later_table_is_understood(void **state)
{
    (void)state;
    expect(PLUGIN("table_longer"), NULL, &here, BERTH_OK, "");
    expect(PLUGIN("table_longer"), NULL, &isolated, BERTH_OK, "");
}

/* ---- what is wrong before a call ---- */

static const struct {
    const char *path;
    berth_status status;
    const char *says;
} unusable[] = {
    {PLUGIN("not_there"), BERTH_NOT_FOUND, "not_there.so"},
    {PLUGIN_DIR, BERTH_BAD_FILE, "a folder"},
    {THIS_FILE, BERTH_BAD_FILE, "not a shared object (it does not begin as one); build it with cc -shared -fPIC"},
    {"/dev/null", BERTH_BAD_FILE, "not a regular file"},
    {PLUGIN("nothing"), BERTH_BAD_FILE, "has no function berth_strategy_plugin"},
    {PLUGIN("unresolved"), BERTH_BAD_FILE, "a_function_that_is_not_there"},
    {PLUGIN("table_no_table"), BERTH_UNSUPPORTED, "gave no table for interface 1"},
    {PLUGIN("table_other_abi"), BERTH_UNSUPPORTED, "made for interface 7; this berth has interface 1"},
    {PLUGIN("table_small"), BERTH_BAD_FILE, "struct_size of its table is"},
    {PLUGIN("table_huge"), BERTH_BAD_FILE, "struct_size of its table is"},
    {PLUGIN("table_no_place"), BERTH_BAD_FILE, "no place function"},
    {PLUGIN("table_no_name"), BERTH_BAD_FILE, "has no name"},
    {PLUGIN("table_bad_name"), BERTH_BAD_FILE, "an unusable name"},
    {PLUGIN("table_long_name"), BERTH_BAD_FILE, "an unusable name"},
};

static void what_cannot_be_used_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unusable / sizeof *unusable; i++) {
        expect(unusable[i].path, NULL, &here, unusable[i].status, unusable[i].says);
        expect(unusable[i].path, NULL, &isolated, unusable[i].status, unusable[i].says);
        berth_plugin *p;
        berth_error err = {0};
        assert_int_equal(berth_plugin_open(unusable[i].path, &p, &err), unusable[i].status);
        assert_null(p);
        assert_non_null(strstr(err.message, unusable[i].path));
    }
    berth_plugin_close(NULL);
}

/* A plug-in cut anywhere: refused, or (where only its tables of symbols for linkers are gone) good. */
static void a_cut_file_is_refused(void **state)
{
    (void)state;
    static char bytes[1 << 20];
    FILE *in = fopen(PLUGIN("good"), "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_true(size > 4096 && size < sizeof bytes);
    int refused = 0;
    for (size_t n = 0; n < size; n += n < 1024 ? 61 : size / 37) {
        char path[] = "/tmp/berth-cut-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        close(fd);
        berth_plugin *p;
        berth_error err = {0};
        berth_status st = berth_plugin_open(path, &p, &err);
        assert_true(st == BERTH_OK || st == BERTH_BAD_FILE);
        refused += st != BERTH_OK;
        berth_plugin_close(p);
        unlink(path);
    }
    assert_true(refused > 30);
}

/* ---- harm ---- */

typedef struct harm {
    const char *argument;
    berth_status status;
    const char *says;
} harm;

/* Both in process and isolated: these end nothing. */
static const harm answers[] = {
    {"no-replicas", BERTH_INVALID_ARGUMENT, "made 0 replicas; between 1 and 3"},
    {"negative", BERTH_INVALID_ARGUMENT, "made -2147483648 replicas"},
    {"too-many", BERTH_INVALID_ARGUMENT, "made 4 replicas"},
    {"far-too-many", BERTH_INVALID_ARGUMENT, "made 2147483647 replicas"},
    {"nothing", BERTH_INVALID_ARGUMENT, "put tensor vision.weight on no device"},
    {"two-places", BERTH_INVALID_ARGUMENT, "put the model on cpu:0, and head.weight inside it on cpu:1 as well"},
    {"no-device", BERTH_INVALID_ARGUMENT, "put the model on device 3; the machine has devices 0 to 2"},
    {"below-device", BERTH_INVALID_ARGUMENT, "put vision on device -2"},
    {"garbage", BERTH_INVALID_ARGUMENT, "; the machine has devices 0 to 2"},
    /* 1200 weights, 8 * 10 KV, 1000 reserve, of 2000 */
    {"over-budget", BERTH_DOES_NOT_FIT,
     "on cpu:2; with 1000 B for the activations of 1 replica(s) that is over its limit of 1.95 KiB; missing: 280 B "
     "(280 bytes)"},
    {"overrun", BERTH_BAD_FILE, "wrote outside of device_of"},
    {"underrun", BERTH_BAD_FILE, "wrote outside of device_of"},
    {"own-storage", BERTH_BAD_FILE, "changed struct_size, device_of or max_replicas"},
    {"own-capacity", BERTH_BAD_FILE, "changed struct_size, device_of or max_replicas"},
    {"write-node", BERTH_BAD_FILE, "wrote to its inputs"},
    {"write-path", BERTH_BAD_FILE, "wrote to its inputs"},
    {"write-device", BERTH_BAD_FILE, "wrote to its inputs"},
    {"write-counts", BERTH_BAD_FILE, "wrote to its inputs"},
    {"check-write", BERTH_BAD_FILE, "wrote to its inputs"},
    {"refuse", BERTH_DOES_NOT_FIT, "bad.so: I will not\\x1B[31m"},
    {"refuse-endless", BERTH_DOES_NOT_FIT, "bad.so: eeeeeeee"},
    {"refuse-silent", BERTH_DOES_NOT_FIT, "place refused (does not fit) and gave no reason"},
    {"status=99", BERTH_BAD_FILE, "place returned 99, which is no status"},
    {"status=-1", BERTH_BAD_FILE, "place returned -1, which is no status"},
    {"strange-note", BERTH_OK, "\\xFF\\x1B[2J\\u{202E} end"},
    {"something else", BERTH_OK, ""},
};

static void wrong_answers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        expect(PLUGIN("bad"), answers[i].argument, &here, answers[i].status, answers[i].says);
        expect(PLUGIN("bad"), answers[i].argument, &isolated, answers[i].status, answers[i].says);
    }
    for (int w = 0; w < 2; w++) {
        berth_placement *p;
        berth_error err;
        assert_int_equal(place(PLUGIN("bad"), "endless-note", w ? &isolated : &here, &p, &err), BERTH_OK);
        assert_int_equal(strlen(p->note), sizeof p->note - 1);
        berth_placement_destroy(p);
    }
}

/* Only isolated: in process these would take the host along. */
static const harm deaths[] = {
    {"crash", BERTH_BAD_FILE, "bad.so crashed in place: signal 11 (Segmentation fault)"},
    {"check-crash", BERTH_BAD_FILE, "bad.so crashed in check: signal 11 (Segmentation fault)"},
    {"trap", BERTH_BAD_FILE, "crashed in place: signal"},
    {"abort", BERTH_BAD_FILE, "crashed in place: signal 6 (Aborted); it wrote: bad.c: I give up"},
    {"overflow", BERTH_BAD_FILE, "crashed in place: signal 11 (Segmentation fault)"},
    {"exit", BERTH_BAD_FILE, "ended its process in place, with exit status 3 and without an answer"},
    {"exit-0", BERTH_BAD_FILE, "ended its process in place, with exit status 0"},
    {"close", BERTH_BAD_FILE, "closed the descriptor for its answer"},
    {"flood", BERTH_BAD_FILE, "answered with more than the"},
    {"babble", BERTH_BAD_FILE, "answered with bytes that are no answer"},
    {"short-answer", BERTH_BAD_FILE, "answered with bytes that are no answer"},
    {"print", BERTH_OK, ""},
};

static void deaths_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++)
        expect(PLUGIN("bad"), deaths[i].argument, &isolated, deaths[i].status, deaths[i].says);
    expect(PLUGIN("table_load_crash"), NULL, &isolated, BERTH_BAD_FILE, "crashed while it was loaded: signal 11");
    expect(PLUGIN("table_load_exit"), NULL, &isolated, BERTH_BAD_FILE,
           "ended its process while it was loaded, with exit status 9");
    expect(PLUGIN("table_entry_crash"), NULL, &isolated, BERTH_BAD_FILE, "crashed while it was loaded: signal 11");
}

static void what_takes_too_long_is_ended(void **state)
{
    (void)state;
    berth_plugin_options o = isolated;
    o.timeout_ms = 150;
    expect(PLUGIN("bad"), "loop", &o, BERTH_DEADLINE, "gave no answer within 150 ms (");
    expect(PLUGIN("bad"), "hide-and-loop", &o, BERTH_DEADLINE, "gave no answer within 150 ms");
    expect(PLUGIN("bad"), "close-and-loop", &o, BERTH_DEADLINE, "gave no answer within 150 ms");
    expect(PLUGIN("bad"), "fork", &o, BERTH_DEADLINE, "gave no answer within 150 ms");
    expect(PLUGIN("table_load_loop"), NULL, &o, BERTH_DEADLINE, "within 150 ms (while it was loaded)");
    o.timeout_ms = -1;
    expect(PLUGIN("good"), NULL, &o, BERTH_INVALID_ARGUMENT, "strategy_timeout_ms = -1 is out of range");
}

static void memory_is_limited(void **state)
{
    (void)state;
    if (SANITIZED) skip(); /* their shadow memory cannot be limited */
    expect(PLUGIN("bad"), "much-memory", &isolated, BERTH_OK, "none given");
}

/* ---- the host ---- */

static void a_host_that_is_not_there_is_named(void **state)
{
    (void)state;
    berth_plugin_options o = isolated;
    o.host = "/nowhere/berth-strategy-host";
    expect(PLUGIN("good"), NULL, &o, BERTH_NOT_FOUND, "strategy host /nowhere/berth-strategy-host is not there");
    o.host = THIS_FILE;
    expect(PLUGIN("good"), NULL, &o, BERTH_NOT_FOUND, "is not there, or is no program");
    o.host = "/bin/true";
    expect(PLUGIN("good"), NULL, &o, BERTH_BAD_FILE, "with exit status 0 and without an answer");
}

static void *call_often(void *failures)
{
    for (int i = 0; i < 6; i++) {
        static const char *const arguments[] = {"crash", "nothing", "", "exit", "write-node", "too-many"};
        static const berth_status wanted[] = {BERTH_BAD_FILE, BERTH_INVALID_ARGUMENT, BERTH_OK,
                                              BERTH_BAD_FILE, BERTH_BAD_FILE,         BERTH_INVALID_ARGUMENT};
        berth_strategy_input in = small_input();
        berth_placement *p;
        berth_error err = {0};
        in.argument = arguments[i];
        if (berth_plugin_place(PLUGIN("bad"), &isolated, &in, &p, &err) != wanted[i]) ++*(int *)failures;
        berth_placement_destroy(p);
    }
    return NULL;
}

static void many_threads_may_call(void **state)
{
    (void)state;
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    int failures[THREADS] = {0}, before = count_descriptors();
    for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_create(&threads[t], NULL, call_often, &failures[t]), 0);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        assert_int_equal(failures[t], 0);
    }
    assert_int_equal(count_descriptors(), before);
    assert_no_child();
}

/* A program whose children are waited for by somebody else, or by the kernel. */
static void a_host_that_ignores_children_gets_answers(void **state)
{
    (void)state;
    signal(SIGCHLD, SIG_IGN);
    expect(PLUGIN("good"), "1", &isolated, BERTH_OK, read_note());
    expect(PLUGIN("bad"), "crash", &isolated, BERTH_BAD_FILE, "its process ended in place without an answer");
    signal(SIGCHLD, SIG_DFL);
}

static void a_host_without_low_descriptors_gets_answers(void **state)
{
    (void)state;
    int saved = fcntl(0, F_DUPFD_CLOEXEC, 100);
    close(0);
    expect(PLUGIN("good"), "1", &isolated, BERTH_OK, read_note());
    if (saved >= 0) dup2(saved, 0);
    if (saved >= 0) close(saved);
}

/* ---- names ---- */

static void names_mean_files(void **state)
{
    (void)state;
    static const struct {
        const char *name, *path, *argument;
    } cases[] = {
        {"./a.so", "./a.so", NULL}, {"./a.so=2", "./a.so", "2"},    {"/x/a.so=", "/x/a.so", ""},
        {"a.so", "a.so", NULL},     {"a.so=b=c", "a.so", "b=c"},    {"/x/a=1/b.so", "/x/a=1/b.so", NULL},
        {"./plug", "./plug", NULL}, {"balanced", NULL, NULL},       {"replicate=2", NULL, NULL},
        {".so", NULL, NULL},        {"good", PLUGIN("good"), NULL}, {"good=x", PLUGIN("good"), "x"},
        {"not_there", NULL, NULL},
    };
    const berth_plugin_options o = {.dir = PLUGIN_DIR};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path;
        const char *argument = NULL;
        berth_error err = {0};
        assert_int_equal(berth_plugin_find(cases[i].name, &o, &path, &argument, &err), BERTH_OK);
        if (!path != !cases[i].path || (path && strcmp(path, cases[i].path) != 0))
            fail_msg("%s: %s", cases[i].name, path ? path : "no plug-in");
        if (path && cases[i].argument) assert_string_equal(argument, cases[i].argument);
        if (path && !cases[i].argument) assert_null(argument);
        free(path);
    }
}

static void folders_are_listed(void **state)
{
    (void)state;
    berth_plugin_names names;
    berth_error err = {0};
    assert_int_equal(berth_plugin_names_read(PLUGIN_DIR, &names, &err), BERTH_OK);
    bool good = false;
    for (int32_t i = 0; i < names.n; i++) {
        good |= strcmp(names.names[i], "good") == 0;
        if (i > 0) assert_true(strcmp(names.names[i - 1], names.names[i]) < 0);
    }
    assert_true(good);
    berth_plugin_names_deinit(&names);
    assert_int_equal(berth_plugin_names_read("/nowhere", &names, &err), BERTH_NOT_FOUND);
    berth_plugin_names_deinit(&names);
    for (int w = 0; w < 2; w++) {
        berth_plugin_words words;
        assert_int_equal(berth_plugin_describe(PLUGIN("good"), w ? &isolated : &here, &words, &err), BERTH_OK);
        assert_string_equal(words.name, "good");
        assert_string_equal(words.about, "as it should be");
        assert_string_equal(words.source, "nobody");
    }
    assert_int_equal(berth_plugin_describe(PLUGIN("table_load_exit"), &isolated, &(berth_plugin_words){0}, &err),
                     BERTH_BAD_FILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_plugin_places),
        cmocka_unit_test(a_later_table_is_understood),
        cmocka_unit_test(what_cannot_be_used_is_named),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(wrong_answers_are_refused),
        cmocka_unit_test(deaths_are_told),
        cmocka_unit_test(what_takes_too_long_is_ended),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(a_host_that_is_not_there_is_named),
        cmocka_unit_test(many_threads_may_call),
        cmocka_unit_test(a_host_that_ignores_children_gets_answers),
        cmocka_unit_test(a_host_without_low_descriptors_gets_answers),
        cmocka_unit_test(names_mean_files),
        cmocka_unit_test(folders_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
