/* file_test.c - which files are read, which are refused, and that no link leads out of a folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

static char root[] = "/tmp/berth-file-test-XXXXXX"; /* the working directory of every test */

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void put_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

static int make_tree(void **state)
{
    (void)state;
    char target[256];
    if (!mkdtemp(root) || chdir(root) != 0) return -1;
    mkdir("model", 0777);
    mkdir("model/sub", 0777);
    put("model/file", "inside");
    put("model/empty", "");
    put("outside", "outside");
    mkfifo("model/fifo", 0666);
    put_socket("model/socket");
    bool ok = symlink("file", "model/link") == 0 && symlink("link", "model/link2") == 0 &&
              symlink("sub/../file", "model/winding") == 0 && symlink("../outside", "model/escape") == 0 &&
              symlink("../model/file", "model/out-and-in") == 0 && symlink("loop", "model/loop") == 0 &&
              symlink("nothing", "model/dangling") == 0 && symlink("sub", "model/to-folder") == 0 &&
              symlink("fifo", "model/to-fifo") == 0 && symlink("/dev/zero", "model/to-device") == 0 &&
              symlink("/etc/passwd", "model/to-passwd") == 0 && symlink("/proc/self/exe", "model/magic") == 0;
    snprintf(target, sizeof target, "%s/model/file", root);
    ok = ok && symlink(target, "model/absolute") == 0;

    /* the Hugging Face cache: models--x/snapshots/<revision>/<name> -> ../../blobs/<hash> */
    static const char *const folders[] = {"hub",       "hub/snapshots", "hub/snapshots/r1", "hub/snapshots/r2",
                                          "hub/blobs", "hub/blobsx",    "hub/refs"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) ok = ok && mkdir(folders[i], 0777) == 0;
    put("hub/blobs/aa", "blob");
    put("hub/blobsx/aa", "not a blob");
    put("hub/refs/main", "ref");
    put("hub/snapshots/r2/file", "another revision");
    ok = ok && symlink("../../blobs/aa", "hub/snapshots/r1/blob") == 0 &&
         symlink("../../refs/main", "hub/snapshots/r1/ref") == 0 &&
         symlink("../../blobsx/aa", "hub/snapshots/r1/near") == 0 &&
         symlink("../../../outside", "hub/snapshots/r1/escape") == 0 &&
         symlink("../r2/file", "hub/snapshots/r1/sibling") == 0 &&
         symlink("../../blobs/../../outside", "hub/snapshots/r1/through") == 0 &&
         symlink("snapshots/r1", "hub/current") == 0;
    snprintf(target, sizeof target, "%s/hub/blobs/aa", root);
    ok = ok && symlink(target, "hub/snapshots/r1/absolute") == 0;
    return ok ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static int remove_tree(void **state)
{
    (void)state;
    return chdir("/") == 0 ? nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) : -1;
}

static void open_takes_regular_files_only(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        berth_status status;
        const char *says;
    } cases[] = {
        {"model/file", BERTH_OK, NULL},
        {"model/link", BERTH_OK, NULL},
        {"model/escape", BERTH_OK, NULL},
        {"model/empty", BERTH_OK, NULL},
        {"nothing", BERTH_NOT_FOUND, "No such file"},
        {"model/file/x", BERTH_NOT_FOUND, "Not a directory"},
        {"model/dangling", BERTH_NOT_FOUND, "No such file"},
        {"model", BERTH_BAD_FILE, "a folder"},
        {"model/fifo", BERTH_BAD_FILE, "FIFO"},
        {"model/socket", BERTH_BAD_FILE, "socket"},
        {"/dev/null", BERTH_BAD_FILE, "device"},
        {"/dev/tty", BERTH_BAD_FILE, "device"},
        {"model/loop", BERTH_BAD_FILE, "link"},
        {"", BERTH_INVALID_ARGUMENT, "empty"},
        {NULL, BERTH_INVALID_ARGUMENT, "empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = 99;
        size_t size = 99;
        berth_error err = {0};
        berth_status status = berth_file_open(cases[i].path, &fd, &size, &err);
        if (status != cases[i].status) fail_msg("%s: status %d, %s", cases[i].path, status, err.message);
        if (status == BERTH_OK) {
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
            close(fd);
            continue;
        }
        assert_int_equal(fd, -1);
        assert_int_equal(size, 0);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s: %s", cases[i].path, err.message);
    }
}

typedef struct in_case {
    const char *dir, *name;
    berth_status status;
    const char *text; /* what is read, or what the error says */
} in_case;

static const in_case in_cases[] = {
    {"model", "file", BERTH_OK, "inside"},
    {"model/", "file", BERTH_OK, "inside"},
    {"./model/sub/..", "file", BERTH_OK, "inside"},
    {"model", "empty", BERTH_OK, ""},
    {"model", "link", BERTH_OK, "inside"},
    {"model", "link2", BERTH_OK, "inside"},
    {"model", "winding", BERTH_OK, "inside"},
    {"model", "out-and-in", BERTH_OK, "inside"},
    {"model", "absolute", BERTH_OK, "inside"},
    {"model", "escape", BERTH_BAD_FILE, "leads out"},
    {"model", "to-device", BERTH_BAD_FILE, "leads out"},
    {"model", "to-passwd", BERTH_BAD_FILE, "leads out"},
    {"model", "magic", BERTH_BAD_FILE, "leads out"},
    {"model", "loop", BERTH_BAD_FILE, "link"},
    {"model", "dangling", BERTH_NOT_FOUND, "No such file"},
    {"model", "nothing", BERTH_NOT_FOUND, "No such file"},
    {"model", "sub", BERTH_BAD_FILE, "a folder"},
    {"model", "to-folder", BERTH_BAD_FILE, "a folder"},
    {"model", "fifo", BERTH_BAD_FILE, "FIFO"},
    {"model", "to-fifo", BERTH_BAD_FILE, "FIFO"},
    {"model", "socket", BERTH_BAD_FILE, "socket"},
    {"model", "../outside", BERTH_BAD_FILE, "plain file name"},
    {"model", "sub/../file", BERTH_BAD_FILE, "plain file name"},
    {"model", "/etc/passwd", BERTH_BAD_FILE, "plain file name"},
    {"model", ".", BERTH_BAD_FILE, "plain file name"},
    {"model", "..", BERTH_BAD_FILE, "plain file name"},
    {"model", "", BERTH_BAD_FILE, "plain file name"},
    {"model", NULL, BERTH_BAD_FILE, "plain file name"},
    {"model", "a\nb", BERTH_BAD_FILE, "plain file name"},
    {"model", "a\x7F", BERTH_BAD_FILE, "plain file name"},
    {"", "outside", BERTH_INVALID_ARGUMENT, "empty"},
    {NULL, "outside", BERTH_INVALID_ARGUMENT, "empty"},
    {"nowhere", "file", BERTH_NOT_FOUND, "nowhere"},
    {"outside", "file", BERTH_NOT_FOUND, "outside"},
    {"model/loop", "file", BERTH_BAD_FILE, "link"},
    {"hub/snapshots/r1", "blob", BERTH_OK, "blob"},
    {"hub/current", "blob", BERTH_OK, "blob"},
    {"hub/snapshots/r1", "absolute", BERTH_OK, "blob"},
    {"hub/snapshots/r1", "ref", BERTH_BAD_FILE, "leads out"},
    {"hub/snapshots/r1", "near", BERTH_BAD_FILE, "leads out"},
    {"hub/snapshots/r1", "escape", BERTH_BAD_FILE, "leads out"},
    {"hub/snapshots/r1", "sibling", BERTH_BAD_FILE, "leads out"},
    {"hub/snapshots/r1", "through", BERTH_BAD_FILE, "leads out"},
};

/* NULL, or a description of the first case that came out otherwise. */
static const char *run_in_cases(char *note, size_t n)
{
    for (size_t i = 0; i < sizeof in_cases / sizeof *in_cases; i++) {
        const in_case *c = &in_cases[i];
        char *data;
        size_t size;
        berth_error err = {0};
        berth_status status = berth_file_read_in(c->dir, c->name, 1000, &data, &size, &err);
        const char *got = status == BERTH_OK ? data : err.message;
        bool same = status == c->status &&
                    (status == BERTH_OK ? strcmp(got, c->text) == 0 : strstr(got, c->text) && !data && !size);
        if (!same)
            snprintf(note, n, "%s + %s: status %d, %.200s", c->dir ? c->dir : "-", c->name ? c->name : "-", status,
                     got);
        free(data);
        if (!same) return note;
    }
    return NULL;
}

static void open_in_stays_inside(void **state)
{
    (void)state;
    char note[512];
    const char *wrong = run_in_cases(note, sizeof note);
    if (wrong) fail_msg("%s", wrong);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    int fd;
    size_t size;
    assert_int_equal(berth_file_open_in("model", name, &fd, &size, NULL), BERTH_BAD_FILE);
    name[255] = '\0';
    assert_int_equal(berth_file_open_in("model", name, &fd, &size, NULL), BERTH_NOT_FOUND);
    assert_true(berth_file_exists_in("model", "file") && berth_file_exists_in("model", "dangling") &&
                berth_file_exists_in("model", "sub"));
    assert_false(berth_file_exists_in("model", "nothing") || berth_file_exists_in("model", "../outside") ||
                 berth_file_exists_in("", "outside") || berth_file_exists_in("nowhere", "file"));
}

/* Makes openat2 fail with `code` for this process. */
static bool forbid_openat2(int code)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void open_in_works_without_openat2(void **state)
{
    (void)state;
    static const int codes[] = {ENOSYS, EPERM}; /* an old kernel; an old container runtime */
    for (size_t i = 0; i < 2; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            char note[512];
            if (!forbid_openat2(codes[i])) _exit(77);
            const char *wrong = run_in_cases(note, sizeof note);
            if (wrong) fprintf(stderr, "%s\n", wrong);
            _exit(wrong ? 1 : 0);
        }
        int result;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result));
        if (WEXITSTATUS(result) == 77) skip(); /* no seccomp here */
        assert_int_equal(WEXITSTATUS(result), 0);
    }
}

static void *swap_links(void *stop)
{
    while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
        if (symlink("file", "model/.new") == 0) rename("model/.new", "model/swapped");
        if (symlink("../outside", "model/.new") == 0) rename("model/.new", "model/swapped");
        if (symlink("../model/file", "model/.new") == 0) rename("model/.new", "model/swapped");
    }
    return NULL;
}

static void open_in_withstands_swapped_links(void **state)
{
    (void)state;
    bool stop = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, swap_links, &stop), 0);
    int n_inside = 0, n_escapes = 0, n_refused = 0;
    for (int i = 0; i < 5000 || n_inside == 0 || n_refused == 0; i++) { /* until both kinds were met */
        char *data;
        size_t size;
        const berth_status st = berth_file_read_in("model", "swapped", 100, &data, &size, NULL);
        n_refused += st == BERTH_BAD_FILE;
        if (st != BERTH_OK) continue;
        n_inside += strcmp(data, "inside") == 0;
        n_escapes += strcmp(data, "inside") != 0;
        free(data);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    unlink("model/swapped");
    unlink("model/.new");
    assert_int_equal(n_escapes, 0);
}

static void read_keeps_to_its_limit(void **state)
{
    (void)state;
    char *data;
    size_t size;
    berth_error err;
    assert_int_equal(berth_file_read("model/file", 6, &data, &size, &err), BERTH_OK);
    assert_int_equal(size, 6);
    assert_memory_equal(data, "inside", 7);
    free(data);
    assert_int_equal(berth_file_read("model/file", 5, &data, &size, &err), BERTH_BAD_FILE);
    assert_null(data);
    assert_non_null(strstr(err.message, "6 bytes"));
    int fd = open("sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0); /* refused by its size alone */
    close(fd);
    assert_int_equal(berth_file_read("sparse", 1 << 20, &data, &size, &err), BERTH_BAD_FILE);
    assert_int_equal(unlink("sparse"), 0);
}

static int count_entries(void)
{
    int n = 0;
    FILE *list = popen("ls -A | wc -l", "r");
    assert_non_null(list);
    assert_int_equal(fscanf(list, "%d", &n), 1);
    pclose(list);
    return n;
}

static void write_is_whole_or_nothing(void **state)
{
    (void)state;
    berth_error err;
    char *data;
    size_t size;
    mode_t old_mask = umask(027);
    assert_int_equal(berth_file_write("written", "first", 5, &err), BERTH_OK);
    umask(old_mask);
    struct stat st;
    assert_int_equal(stat("written", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(berth_file_write("model/../written", "second\0!", 8, &err), BERTH_OK);
    assert_int_equal(berth_file_read("written", 100, &data, &size, &err), BERTH_OK);
    assert_int_equal(size, 8);
    assert_memory_equal(data, "second\0!", 8);
    free(data);
    int before = count_entries();
    assert_int_equal(berth_file_write("nowhere/x", "x", 1, &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_file_write("model", "x", 1, &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_write("/dev/null", "x", 1, &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_write("", "x", 1, &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_may_write("nowhere/x", &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_file_may_write("model", &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_may_write("/dev/null", &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_may_write("", &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_file_may_write("written", &err), BERTH_OK);
    assert_int_equal(berth_file_may_write("new", &err), BERTH_OK);
    assert_int_equal(access("new", F_OK), -1);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));

    struct rlimit old_limit, limit; /* a full disk, as near as one can come without one */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    limit = old_limit;
    limit.rlim_cur = 10000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char *large = calloc(1, 20000);
    berth_status status = berth_file_write("written", large, 20000, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    free(large);
    assert_int_equal(status, BERTH_IO_ERROR);
    assert_int_equal(err.native_code, EFBIG);
    assert_int_equal(berth_file_read("written", 100, &data, &size, &err), BERTH_OK);
    assert_int_equal(size, 8);
    free(data);
    assert_int_equal(count_entries(), before); /* no temporary is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_takes_regular_files_only), cmocka_unit_test(open_in_stays_inside),
        cmocka_unit_test(open_in_works_without_openat2), cmocka_unit_test(open_in_withstands_swapped_links),
        cmocka_unit_test(read_keeps_to_its_limit),       cmocka_unit_test(write_is_whole_or_nothing),
    };
    return cmocka_run_group_tests_name("file", tests, make_tree, remove_tree);
}
