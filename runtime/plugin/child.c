/* child.c - running a program in a process of its own, with a deadline, and leaving nothing of it behind.
 *
 * The caller may have many threads, so the child comes from posix_spawn and never from fork; may have its own idea of
 * SIGCHLD and SIGPIPE, so neither is relied on: requests travel in sealed memory and not through a pipe. Easy to get
 * wrong: a process number may be used again once it was waited for, so signals are sent before that only. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "plugin/plugin_internal.h"

enum {
    LOWEST_FD = 10,
    CHUNK = 65536
}; /* ours lie above those that the child gets, so that none is overwritten on the way */

typedef struct channels {
    int request, words; /* memory files */
    int reply[2];       /* a pipe */
} channels;

/* ---- descriptors ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void channels_close(channels *c)
{
    close_fd(&c->request);
    close_fd(&c->words);
    close_fd(&c->reply[0]);
    close_fd(&c->reply[1]);
}

static bool lift(int *fd)
{
    if (*fd < 0 || *fd >= LOWEST_FD) return *fd >= 0;
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, LOWEST_FD);
    close(*fd);
    *fd = high;
    return high >= 0;
}

static bool write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

static bool channels_open(channels *c, const void *request, size_t size, size_t words_size)
{
    *c = (channels){-1, -1, {-1, -1}};
    c->request = memfd_create("berth-request", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    c->words = memfd_create("berth-words", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (!lift(&c->request) || !lift(&c->words)) return false;
    if (pipe2(c->reply, O_CLOEXEC) != 0) {
        c->reply[0] = c->reply[1] = -1;
        return false;
    }
    if (!lift(&c->reply[0]) || !lift(&c->reply[1])) return false;
    if (!write_all(c->request, request, size) || lseek(c->request, 0, SEEK_SET) != 0 ||
        ftruncate(c->words, (off_t)words_size) != 0)
        return false;
    const int shape = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    return fcntl(c->request, F_ADD_SEALS, shape | F_SEAL_WRITE) == 0 && fcntl(c->words, F_ADD_SEALS, shape) == 0 &&
           fcntl(c->reply[0], F_SETFL, O_NONBLOCK) == 0;
}

/* ---- starting ---- */

static int add_actions(posix_spawn_file_actions_t *a, const channels *c)
{
    int e = posix_spawn_file_actions_addopen(a, 0, "/dev/null", O_RDONLY, 0);
    if (e == 0) e = posix_spawn_file_actions_addopen(a, 1, "/dev/null", O_WRONLY, 0);
    if (e == 0) e = posix_spawn_file_actions_adddup2(a, c->words, 2);
    if (e == 0) e = posix_spawn_file_actions_adddup2(a, c->request, BERTH_HOST_REQUEST_FD);
    if (e == 0) e = posix_spawn_file_actions_adddup2(a, c->reply[1], BERTH_HOST_REPLY_FD);
    if (e == 0) e = posix_spawn_file_actions_addclosefrom_np(a, BERTH_HOST_REPLY_FD + 1);
    return e;
}

static int add_attributes(posix_spawnattr_t *a)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int e = posix_spawnattr_setflags(a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (e == 0) e = posix_spawnattr_setpgroup(a, 0);
    if (e == 0) e = posix_spawnattr_setsigmask(a, &none);
    if (e == 0) e = posix_spawnattr_setsigdefault(a, &all);
    return e;
}

/* The child's environment is empty but for where its libraries lie: what else is in ours (tokens, paths) is no concern
 * of a plug-in. */
static int start(const char *host, const char *plugin, const channels *c, pid_t *out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *libraries = NULL;
    const char *path = getenv("LD_LIBRARY_PATH");
    if (path && asprintf(&libraries, "LD_LIBRARY_PATH=%s", path) < 0) return ENOMEM;
    char *const arguments[] = {(char *)(uintptr_t)host, (char *)(uintptr_t)plugin, NULL};
    char *const environment[] = {libraries, NULL};
    int e = posix_spawn_file_actions_init(&actions);
    if (e == 0) {
        e = posix_spawnattr_init(&attributes);
        if (e == 0) {
            e = add_actions(&actions, c);
            if (e == 0) e = add_attributes(&attributes);
            if (e == 0) e = posix_spawn(out, host, &actions, &attributes, arguments, environment);
            posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    free(libraries);
    return e;
}

/* ---- listening ---- */

static int ms_until(int64_t deadline_ns)
{
    int64_t left = deadline_ns - berth_now_ns();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* Reads what is there. False: the reply is at its end, one way or another. */
static bool read_some(int fd, size_t most, berth_buffer *reply, berth_child_end *end)
{
    char chunk[CHUNK];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    if ((size_t)n > most - reply->len) {
        end->too_much = true;
        return false;
    }
    if (!berth_buffer_append(reply, chunk, (size_t)n)) return false;
    berth_reply r;
    berth_reply_read(reply->data, reply->len, &r);
    return !r.is_whole && !r.is_garbage;
}

static void listen_to(int fd, size_t most, int64_t deadline_ns, berth_buffer *reply, berth_child_end *end)
{
    for (bool more = true; more;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int wait = ms_until(deadline_ns);
        int n = wait == 0 ? 0 : poll(&p, 1, wait);
        if (n == 0) end->timed_out = true;
        more = n != 0;
        if (n > 0) more = read_some(fd, most, reply, end);
        if (n < 0 && errno != EINTR && errno != EAGAIN) more = false;
    }
}

/* ---- ending ---- */

/* 1: it has ended and can be waited for; 0: it runs; -1: somebody else in this program waited for it. */
static int has_ended(pid_t pid)
{
    siginfo_t info = {0};
    int e;
    do e = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    while (e != 0 && errno == EINTR);
    return e != 0 ? -1 : info.si_pid == pid;
}

/* Lets a child that gave no answer come to its own end, so that its status tells why. */
static void await(pid_t pid, int64_t deadline_ns, berth_child_end *end)
{
    while (has_ended(pid) == 0) {
        if (ms_until(deadline_ns) == 0) {
            end->timed_out = true;
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void finish(pid_t pid, berth_child_end *end)
{
    if (has_ended(pid) < 0) {
        end->reaped_by_other = true;
        return;
    }
    kill(-pid, SIGKILL); /* also what it started */
    kill(pid, SIGKILL);  /* also when it left its group */
    pid_t got;
    do got = waitpid(pid, &end->wait_status, 0);
    while (got < 0 && errno == EINTR);
    end->reaped_by_other = got < 0;
}

berth_status berth_child_run(const char *host, const char *plugin, const void *request, size_t size, size_t most,
                             int32_t timeout_ms, berth_buffer *reply, berth_child_end *end, berth_error *err)
{
    *end = (berth_child_end){0};
    channels c;
    pid_t pid;
    int64_t deadline_ns = berth_now_ns() + (int64_t)timeout_ms * 1000000;
    if (!channels_open(&c, request, size, sizeof end->words - 1)) {
        berth_status st =
            BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "plug-in %s: no channel to a process of its own", plugin);
        channels_close(&c);
        return st;
    }
    int e = start(host, plugin, &c, &pid);
    close_fd(&c.reply[1]); /* so that the child's is the last */
    if (e != 0) {
        channels_close(&c);
        return BERTH_FAIL_ERRNO(err,
                                e == ENOENT   ? BERTH_NOT_FOUND
                                : e == ENOMEM ? BERTH_OUT_OF_MEMORY
                                              : BERTH_IO_ERROR,
                                e, "plug-in %s: the program %s does not start", plugin, host);
    }
    listen_to(c.reply[0], most, deadline_ns, reply, end);
    berth_reply r;
    berth_reply_read(reply->data, reply->len, &r);
    if (!r.is_whole && !r.is_garbage && !end->too_much && !end->timed_out && !reply->failed)
        await(pid, deadline_ns, end);
    finish(pid, end);
    ssize_t n = pread(c.words, end->words, sizeof end->words - 1, 0);
    end->words[n > 0 ? n : 0] = '\0';
    channels_close(&c);
    return reply->failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer of plug-in %s", plugin)
                         : BERTH_OK;
}
