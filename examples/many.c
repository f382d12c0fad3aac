/* many.c - a load of requests from one thread: submitted while there is room, their ends taken from a completion queue
 * whose descriptor stands in an epoll loop beside a timer and Ctrl-C.
 *
 *     cc many.c -o many $(pkg-config --cflags --libs berth)
 *     ./many MODEL_DIR 'cpu*4' replicate=4 1000 'Extract the fields as JSON.' receipts/receipt-01.png receipts/receipt-02.png
 *
 * One line of JSON for each request, in the order in which they end; progress and the sum on standard error. Ctrl-C
 * cancels what is under way and still tells each end. */
#include <berth/berth.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { SEQUENCES = 8, WAITING = 64 }; /* on each replica at once; behind them in the engine's queue */

typedef struct job {
    uint64_t id;
    int is_over;
} job;

typedef struct load {
    berth_engine *engine;
    berth_queue *queue;
    const char *question, **pictures;
    int32_t n_pictures;
    job *jobs;
    int32_t n_jobs, n_submitted, n_over, n_good;
    int64_t n_tokens;
    int stopping;
} load;

/* Hands in requests until the engine says that its queue is full, which is no failure: an end makes room. */
static berth_status submit_some(load *l, berth_error *err)
{
    while (l->n_submitted < l->n_jobs && !l->stopping) {
        job *j = &l->jobs[l->n_submitted];
        const char *picture = l->pictures[l->n_submitted % l->n_pictures];
        const berth_content content[] = {
            {.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture},
            {.kind = BERTH_CONTENT_TEXT, .data = l->question, .size = strlen(l->question)},
        };
        const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
        berth_request request;
        berth_request_init(&request);
        request.turns = &turn; /* all of it is copied: nothing here must outlive the call */
        request.n_turns = 1;
        request.max_new_tokens = 128;
        request.quiet = 1; /* ends only, no tokens */
        berth_status st = berth_engine_submit(l->engine, &request, l->queue, j, &j->id, err);
        if (st == BERTH_BUSY) return BERTH_OK;
        if (st != BERTH_OK) return st;
        l->n_submitted++;
    }
    return BERTH_OK;
}

static void put_json(const char *text)
{
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if (*c < 0x20)
            printf("\\u%04x", *c);
        else
            putchar(*c);
    }
    putchar('"');
}

static void tell_end(load *l, const berth_completion *c)
{
    job *j = c->user;
    j->is_over = 1;
    l->n_over++;
    printf("{\"request\": %td, ", j - l->jobs);
    if (c->status == BERTH_OK) {
        l->n_good += strcmp(c->result->finish_reason, "cancelled") != 0;
        l->n_tokens += c->result->n_tokens;
        printf("\"finish\": \"%s\", \"replica\": %" PRId32 ", \"queue_ms\": %.2f, \"total_ms\": %.2f, \"text\": ",
               c->result->finish_reason, c->result->replica, (double)c->result->queue_ns / 1e6,
               (double)c->result->timings.total_ns / 1e6);
        put_json(c->result->text);
    } else {
        printf("\"error\": \"%s\", \"message\": ", berth_status_name(c->status));
        put_json(c->error->message);
    }
    puts("}");
}

/* Takes all that the queue holds now. The descriptor stays readable until the queue is empty. */
static berth_status take_ends(load *l, berth_error *err)
{
    for (;;) {
        berth_completion c = {.struct_size = sizeof c};
        berth_status st = berth_queue_next(l->queue, 0, &c, err);
        if (st != BERTH_OK) return st;
        const int was_empty = c.kind == BERTH_COMPLETION_NONE;
        if (c.kind == BERTH_COMPLETION_END) tell_end(l, &c);
        berth_completion_deinit(&c);
        if (!was_empty) continue;
        fflush(stdout); /* who reads along sees them now */
        return BERTH_OK;
    }
}

static void cancel_all(load *l)
{
    l->stopping = 1;
    for (int32_t i = 0; i < l->n_submitted; i++) {
        /* Not found: it ended meanwhile, and the queue tells so. */
        if (!l->jobs[i].is_over) (void)berth_engine_cancel(l->engine, l->jobs[i].id, NULL);
    }
}

static void tell_progress(load *l)
{
    berth_stats s = {.struct_size = sizeof s};
    if (berth_engine_get_stats(l->engine, &s, NULL) != BERTH_OK) return;
    fprintf(stderr, "%" PRId32 " of %" PRId32 " over, %" PRId32 " running, %" PRId32 " waiting\n", l->n_over, l->n_jobs,
            s.n_running, s.n_waiting);
}

static berth_status system_error(berth_error *err, const char *what)
{
    snprintf(err->message, sizeof err->message, "%s: %s", what, strerror(errno));
    return BERTH_IO_ERROR;
}

/* One turn of the loop: sleeps until something is to be done. */
static berth_status wait_and_serve(load *l, int loop, int timer, int signals, berth_error *err)
{
    struct epoll_event events[3];
    const int n = epoll_wait(loop, events, 3, -1);
    if (n < 0) return errno == EINTR ? BERTH_OK : system_error(err, "epoll_wait");
    for (int i = 0; i < n; i++) {
        uint64_t ticks;
        struct signalfd_siginfo info;
        if (events[i].data.fd == timer) {
            if (read(timer, &ticks, sizeof ticks) > 0) tell_progress(l);
        } else if (events[i].data.fd == signals) {
            if (read(signals, &info, sizeof info) > 0) cancel_all(l);
        } else {
            berth_status st = take_ends(l, err);
            if (st == BERTH_OK) st = submit_some(l, err);
            if (st != BERTH_OK) return st;
        }
    }
    return BERTH_OK;
}

static int watch(int loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return fd >= 0 && epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0;
}

static berth_status serve(load *l, const sigset_t *interrupts, berth_error *err)
{
    const struct itimerspec each_second = {{1, 0}, {1, 0}};
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    const int signals = signalfd(-1, interrupts, SFD_CLOEXEC | SFD_NONBLOCK);
    berth_status st = BERTH_OK;
    if (loop < 0 || timer < 0 || timerfd_settime(timer, 0, &each_second, NULL) != 0 || !watch(loop, timer) ||
        !watch(loop, signals) || !watch(loop, berth_queue_descriptor(l->queue)))
        st = system_error(err, "event loop");
    if (st == BERTH_OK) st = submit_some(l, err);
    while (st == BERTH_OK && l->n_over < (l->stopping ? l->n_submitted : l->n_jobs))
        st = wait_and_serve(l, loop, timer, signals, err);
    if (loop >= 0) close(loop);
    if (timer >= 0) close(timer);
    if (signals >= 0) close(signals);
    return st;
}

static berth_status open_engine(berth_runtime *rt, char **argv, berth_engine **out, berth_error *err)
{
    const berth_plan_options plan_options = {.struct_size = sizeof plan_options,
                                             .devices = argv[2],
                                             .strategy = argv[3],
                                             .context = 512,
                                             .n_seqs = SEQUENCES};
    const berth_engine_options engine_options = {.struct_size = sizeof engine_options, .queue = WAITING};
    berth_model *model = NULL;
    berth_plan *plan = NULL;
    berth_status st = berth_model_open(rt, argv[1], NULL, &model, err);
    if (st == BERTH_OK) st = berth_plan_create(model, &plan_options, &plan, err);
    if (st == BERTH_OK) st = berth_engine_create(plan, &engine_options, out, err);
    berth_model_close(model); /* the engine keeps what it was made from */
    return st;
}

int main(int argc, char **argv)
{
    const long n = argc >= 7 ? strtol(argv[4], NULL, 10) : 0;
    if (n < 1 || n > 10000000) {
        fprintf(stderr, "usage: %s MODEL_DIR DEVICES STRATEGY REQUESTS QUESTION PICTURE...\n", argv[0]);
        return 2;
    }
    sigset_t interrupts; /* blocked before berth makes threads, so that none of them is interrupted */
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupts, NULL);

    berth_error err = {0};
    berth_runtime *rt = NULL;
    load l = {.question = argv[5], .pictures = (const char **)argv + 6, .n_pictures = argc - 6, .n_jobs = (int32_t)n};
    l.jobs = calloc((size_t)n, sizeof *l.jobs);
    berth_status st = l.jobs == NULL ? BERTH_OUT_OF_MEMORY : berth_runtime_create(NULL, &rt, &err);
    if (st == BERTH_OK) st = berth_queue_create(rt, &l.queue, &err);
    if (st == BERTH_OK) st = open_engine(rt, argv, &l.engine, &err);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (st == BERTH_OK) st = serve(&l, &interrupts, &err);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    if (st != BERTH_OK) fprintf(stderr, "%s: %s\n", berth_status_name(st), err.message);
    fprintf(stderr, "%" PRId32 " of %" PRId32 " answered, %.1f requests and %.0f tokens a second\n", l.n_good, l.n_over,
            l.n_over / seconds, (double)l.n_tokens / seconds);
    berth_engine_destroy(l.engine);
    berth_queue_destroy(l.queue);
    berth_runtime_destroy(rt);
    free(l.jobs);
    return st == BERTH_OK && l.n_good == l.n_jobs ? 0 : 1;
}
