/* strategy_host.c - the program berth-strategy-host: loads one plug-in, calls it with the request on descriptor 3, and
 * writes what it answers to descriptor 4.
 *
 * Started by isolated.c, and of no use by hand. What the plug-in is given is mapped read-only; a write there is told
 * from other crashes by its address. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/plugin_internal.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#if defined(SANITIZED)
enum { LIMITS_MEMORY = 0 }; /* their shadow memory is terabytes of addresses */
#else
enum { LIMITS_MEMORY = 1 };
#endif

static struct {
    char *at;
    size_t size;
} request; /* for the signal handler; set once before it is installed */

/* ---- replies ---- */

static void put(const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(BERTH_HOST_REPLY_FD, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) _exit(BERTH_HOST_NO_PIPE);
        p += done;
        n -= (size_t)done;
    }
}

static void put_head(uint32_t kind, size_t size)
{
    const berth_reply_head head = {.magic = BERTH_REPLY_MAGIC, .kind = kind, .size = size};
    put(&head, sizeof head);
}

static void put_phase(void *user, berth_plugin_phase phase)
{
    (void)user;
    const int32_t value = (int32_t)phase;
    put_head(BERTH_REPLY_PHASE, sizeof value);
    put(&value, sizeof value);
}

static int put_failure(berth_status status, const berth_error *err)
{
    const int32_t value = (int32_t)status;
    size_t n = strlen(err->message) + 1;
    put_head(BERTH_REPLY_FAILED, sizeof value + n);
    put(&value, sizeof value);
    put(err->message, n);
    return 0;
}

static int put_answer(const berth_strategy_input *in, const berth_plugin_answer *a)
{
    bool is_count = a->n_replicas >= 1 && a->n_replicas <= in->n_devices;
    size_t rows = is_count ? (size_t)a->n_replicas * (size_t)in->n_nodes * sizeof *a->device_of : 0;
    put_head(BERTH_REPLY_PLACED, sizeof a->n_replicas + sizeof a->note + rows);
    put(&a->n_replicas, sizeof a->n_replicas);
    put(a->note, sizeof a->note);
    put(a->device_of, rows);
    return 0;
}

/* ---- limits ---- */

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)context;
    const char *at = info->si_addr;
    if (info->si_code > 0 && at >= request.at && at < request.at + request.size) {
        put_head(BERTH_REPLY_INPUTS, 0);
        _exit(0);
    }
    raise(sig); /* SA_RESETHAND: this one ends the process when the handler returns */
}

static void watch_faults(void)
{
    static char stack[65536]; /* a plug-in that used up its own still reports */
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaltstack(&own, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

static void limit(int what, uint64_t bytes)
{
    const struct rlimit r = {.rlim_cur = (rlim_t)bytes, .rlim_max = (rlim_t)bytes};
    setrlimit((__rlimit_resource_t)what, &r);
}

static berth_flat *take_request(void)
{
    struct stat st;
    if (fstat(BERTH_HOST_REQUEST_FD, &st) != 0 || st.st_size <= 0) return NULL;
    request.size = (size_t)st.st_size;
    void *at = mmap(NULL, request.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, BERTH_HOST_REQUEST_FD, 0);
    close(BERTH_HOST_REQUEST_FD);
    if (at == MAP_FAILED || !berth_flat_resolve(at, request.size) || mprotect(at, request.size, PROT_READ) != 0)
        return NULL;
    request.at = at;
    return at;
}

/* ---- */

static int serve(const char *path, const berth_flat *flat)
{
    berth_error err = {0};
    berth_plugin *plugin;
    berth_status st = berth_plugin_open(path, &plugin, &err);
    if (st != BERTH_OK) return put_failure(st, &err);
    const berth_strategy *s = berth_plugin_strategy(plugin);
    berth_plugin_words words = {0};
    snprintf(words.name, sizeof words.name, "%s", s->name);
    snprintf(words.about, sizeof words.about, "%s", s->about);
    snprintf(words.source, sizeof words.source, "%s", s->source ? s->source : "");
    put_head(BERTH_REPLY_WORDS, sizeof words);
    put(&words, sizeof words);
    if (flat->what == BERTH_PLUGIN_DESCRIBE) {
        put_head(BERTH_REPLY_DONE, 0);
        return 0;
    }
    berth_plugin_answer answer;
    const berth_plugin_call call = {.strategy = s, .path = path, .in = &flat->in, .on_phase = put_phase};
    st = berth_plugin_run(&call, &answer, &err);
    return st == BERTH_OK ? put_answer(&flat->in, &answer) : put_failure(st, &err);
}

int main(int argc, char **argv)
{
    struct stat st;
    if (argc != 2 || fstat(BERTH_HOST_REPLY_FD, &st) != 0 || !S_ISFIFO(st.st_mode)) {
        fputs("berth-strategy-host: started by berth to run a strategy plug-in in a process of its own; of no use by "
              "hand\n",
              stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN); /* a caller that is gone: write fails */
    limit(RLIMIT_CORE, 0);
    berth_flat *flat = take_request();
    if (!flat) _exit(BERTH_HOST_NO_REQUEST);
    if (LIMITS_MEMORY) limit(RLIMIT_AS, flat->memory_bytes);
    watch_faults();
    _exit(serve(argv[1], flat)); /* the plug-in's exit handlers are not asked */
}
