/* threads_test.c - events, gates, teams and lanes: nothing is lost, order is kept where it is promised, idle threads
 * sleep. Runs over lanes: runs_test.c. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "exec/lane.h"
#include "exec/team.h"

enum { SPIN_NS = 50000 };

/* ---- teams ------------------------------------------------------------------------------------------------------ */

typedef struct tally {
    _Atomic int32_t calls[16];
    _Atomic int32_t wrong;
    int32_t n_threads;
} tally;

static void count_call(void *arg, int32_t thread, int32_t n_threads)
{
    tally *t = arg;
    if (n_threads != t->n_threads || thread < 0 || thread >= n_threads)
        t->wrong++;
    else
        t->calls[thread]++;
}

static void every_thread_of_a_team_is_called_once(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 3, 7};
    static const int64_t spins[] = {0, SPIN_NS};
    for (int k = 0; k < 4; k++) {
        for (int s = 0; s < 2; s++) {
            berth_team *team = NULL;
            berth_error err = {0};
            assert_int_equal(berth_cpu_team_create(sizes[k], NULL, 0, false, spins[s], NULL, &team, &err), BERTH_OK);
            tally t = {.n_threads = sizes[k]};
            for (int i = 0; i < 300; i++) team->run(team, count_call, &t);
            for (int i = 0; i < sizes[k]; i++) assert_int_equal(t.calls[i], 300);
            assert_int_equal(t.wrong, 0);
            berth_cpu_team_destroy(team);
        }
    }
}

static void a_missing_core_is_an_error(void **state)
{
    (void)state;
    const int32_t cores[] = {4093};
    berth_team *team = NULL;
    berth_lane *lane = aligned_alloc(64, sizeof *lane);
    berth_error err = {0};
    assert_int_equal(berth_cpu_team_create(2, cores, 1, true, 0, NULL, &team, &err), BERTH_DEVICE_ERROR);
    assert_null(team);
    assert_int_equal(berth_lane_init(lane, cores, 1, 0, NULL, &err), BERTH_DEVICE_ERROR);
    berth_lane_deinit(lane);
    free(lane);
}

/* ---- lanes ------------------------------------------------------------------------------------------------------ */

enum { N_ITEMS = 2000 };

typedef struct journal { /* what a lane did */
    struct entry {
        int32_t share, item;
    } entries[8 * N_ITEMS];
    _Atomic int32_t n;
    berth_event done;
} journal;

typedef struct list {
    berth_share base; /* first */
    journal *journal;
    int32_t share, item;
    berth_event *ahead; /* item i needs i + 1 of it; NULL = nothing */
    berth_lane *wakes;  /* after every item */
} list;

static bool list_ready(berth_share *base)
{
    const list *l = (list *)(void *)base;
    return !l->ahead || berth_event_reached(l->ahead, (uint32_t)l->item + 1);
}

static void write_down(berth_share *base)
{
    list *l = (list *)(void *)base;
    journal *j = l->journal;
    j->entries[j->n++] = (struct entry){l->share, l->item++};
    berth_event_advance(&j->done, 1);
    if (l->wakes) berth_lane_wake(l->wakes);
}

static list make_list(journal *j, int32_t share, int32_t n_items)
{
    return (list){
        .base = {.is_ready = list_ready, .carry_out = write_down, .n_left = n_items}, .journal = j, .share = share};
}

static journal *make_journal(void)
{
    journal *j = aligned_alloc(64, (sizeof *j + 63) & ~(size_t)63);
    assert_non_null(j);
    j->n = 0;
    berth_event_init(&j->done);
    return j;
}

static berth_lane *make_lanes(int n, int64_t spin_ns)
{
    berth_lane *lanes = aligned_alloc(64, (size_t)n * sizeof *lanes);
    for (int i = 0; i < n; i++) assert_int_equal(berth_lane_init(&lanes[i], NULL, 0, spin_ns, NULL, NULL), BERTH_OK);
    return lanes;
}

static void free_lanes(berth_lane *lanes, int n)
{
    for (int i = 0; i < n; i++) berth_lane_deinit(&lanes[i]);
    free(lanes);
}

/* A share that holds its lane's first place until `go`. */
static void hold(list *l, journal *j, berth_event *go)
{
    berth_event_init(go);
    *l = make_list(j, -1, 1);
    l->ahead = go;
}

static void the_oldest_share_that_is_ready_goes_first(void **state)
{
    (void)state;
    enum { SHARES = 300 };
    journal *j = make_journal();
    berth_lane *lane = make_lanes(1, 0);
    static list lists[SHARES];
    list held;
    berth_event go;
    hold(&held, j, &go);
    uint32_t n = 0;
    berth_lane_add(lane, &held.base);
    for (int32_t i = 0; i < SHARES; i++) {
        lists[i] = make_list(j, i, 1 + i % 11);
        n += 1 + (uint32_t)i % 11;
        berth_lane_add(lane, &lists[i].base);
    }
    berth_event_wait(&j->done, n, 0); /* all but the one that is not ready */
    for (int32_t i = 0, at = 0; i < SHARES; i++) {
        for (int32_t k = 0; k <= i % 11; k++, at++) {
            assert_int_equal(j->entries[at].share, i);
            assert_int_equal(j->entries[at].item, k);
        }
    }
    berth_event_advance(&go, 1);
    berth_lane_wake(lane);
    berth_event_wait(&j->done, n + 1, 0);
    assert_int_equal(j->entries[n].share, -1);
    free_lanes(lane, 1);
    free(j);
}

/* The second share may do its i-th item after the first's i-th on the other lane. */
static void lanes_wait_for_each_other(void **state)
{
    (void)state;
    for (int spins = 0; spins < 2; spins++) {
        journal *first = make_journal(), *second = make_journal();
        berth_lane *lanes = make_lanes(2, spins ? SPIN_NS : 0);
        list a = make_list(first, 0, N_ITEMS), b = make_list(second, 1, N_ITEMS);
        a.wakes = &lanes[1];
        b.ahead = &first->done;
        berth_lane_add(&lanes[1], &b.base); /* waits for what is added after it */
        berth_lane_add(&lanes[0], &a.base);
        berth_event_wait(&second->done, N_ITEMS, 0);
        assert_int_equal(first->n, N_ITEMS);
        free_lanes(lanes, 2);
        free(first);
        free(second);
    }
}

typedef struct giver {
    berth_lane *lane;
    list lists[100];
} giver;

static void *give(void *arg)
{
    giver *g = arg;
    for (int i = 0; i < 100; i++) berth_lane_add(g->lane, &g->lists[i].base);
    return NULL;
}

static void many_threads_add_and_none_is_lost(void **state)
{
    (void)state;
    journal *j = make_journal();
    berth_lane *lane = make_lanes(1, 0);
    static giver givers[4];
    unsigned long threads[4];
    for (int32_t t = 0; t < 4; t++) {
        givers[t].lane = lane;
        for (int32_t i = 0; i < 100; i++) givers[t].lists[i] = make_list(j, 100 * t + i, 3);
        assert_int_equal(berth_thread_start(&threads[t], give, &givers[t], NULL, 0, NULL, NULL), BERTH_OK);
    }
    for (int t = 0; t < 4; t++) berth_thread_join(threads[t]);
    free_lanes(lane, 1); /* carries out what was added */
    assert_int_equal(j->n, 4 * 100 * 3);
    int32_t newest[4] = {-1, -1, -1, -1}, items[400] = {0};
    for (int32_t i = 0; i < j->n; i++) {
        struct entry e = j->entries[i];
        assert_int_equal(e.item, items[e.share]++);
        if (e.item == 0) assert_int_equal(e.share % 100, ++newest[e.share / 100]); /* in each thread's order */
    }
    free(j);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void idle_threads_take_no_processor_time(void **state)
{
    (void)state;
    berth_team *team = NULL;
    berth_lane *lane = aligned_alloc(64, sizeof *lane);
    assert_int_equal(berth_cpu_team_create(4, NULL, 0, false, SPIN_NS, NULL, &team, NULL), BERTH_OK);
    assert_int_equal(berth_lane_init(lane, NULL, 0, SPIN_NS, NULL, NULL), BERTH_OK);
    tally t = {.n_threads = 4};
    team->run(team, count_call, &t);
    const struct timespec settle = {.tv_nsec = 30000000}, rest = {.tv_nsec = 200000000};
    journal *j = make_journal();
    list held;
    berth_event go;
    hold(&held, j, &go);
    berth_lane_add(lane, &held.base); /* a lane that waits for others sleeps too */
    nanosleep(&settle, NULL);
    double before = processor_seconds();
    nanosleep(&rest, NULL);
    double used = processor_seconds() - before;
    if (used > 0.02) fail_msg("%.3f s of processor time in 0.2 s of rest", used);
    berth_event_advance(&go, 1);
    berth_lane_wake(lane);
    berth_cpu_team_destroy(team);
    berth_lane_deinit(lane);
    assert_int_equal(j->n, 1);
    free(j);
    free(lane);
}

/* ---- events and gates ------------------------------------------------------------------------------------------- */

static void events_wrap(void **state)
{
    (void)state;
    berth_event e;
    berth_event_init(&e);
    atomic_store(&e.value, UINT32_MAX - 1);
    assert_true(berth_event_reached(&e, UINT32_MAX - 1));
    assert_false(berth_event_reached(&e, 1));
    berth_event_advance(&e, 3);
    assert_true(berth_event_reached(&e, 1));
    berth_event_wait(&e, 1, 0);
}

static void *advance_once(void *arg)
{
    const struct timespec soon = {.tv_nsec = 5000000};
    nanosleep(&soon, NULL);
    berth_event_advance(arg, 1);
    return NULL;
}

static void a_wait_ends_at_its_deadline_or_before(void **state)
{
    (void)state;
    static const int64_t spins[] = {0, SPIN_NS, 3600000000000};
    for (int k = 0; k < 3; k++) {
        berth_event e;
        berth_event_init(&e);
        int64_t now = berth_now_ns();
        assert_true(berth_event_wait_until(&e, 0, spins[k], now - 1));
        assert_false(berth_event_wait_until(&e, 1, spins[k], -1));
        assert_false(berth_event_wait_until(&e, 1, spins[k], now));
        assert_false(berth_event_wait_until(&e, 1, spins[k], now + 3000000));
        assert_true(berth_now_ns() >= now + 3000000);
        assert_int_equal(e.sleepers, 0);
        unsigned long thread;
        assert_int_equal(berth_thread_start(&thread, advance_once, &e, NULL, 0, NULL, NULL), BERTH_OK);
        assert_true(berth_event_wait_until(&e, 1, spins[k], now + 3600000000000));
        berth_thread_join(thread);
    }
}

static void *open_gate(void *arg)
{
    berth_gate_open(arg);
    return NULL;
}

static void a_gate_may_be_freed_once_it_is_open(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        berth_gate *g = malloc(sizeof *g);
        unsigned long thread;
        berth_gate_init(g);
        berth_gate_wait(g); /* it starts open */
        berth_gate_close(g);
        assert_int_equal(berth_thread_start(&thread, open_gate, g, NULL, 0, NULL, NULL), BERTH_OK);
        if (i % 2) sched_yield();
        berth_gate_wait(g);
        free(g);
        berth_thread_join(thread);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_of_a_team_is_called_once),
        cmocka_unit_test(a_missing_core_is_an_error),
        cmocka_unit_test(idle_threads_take_no_processor_time),
        cmocka_unit_test(the_oldest_share_that_is_ready_goes_first),
        cmocka_unit_test(lanes_wait_for_each_other),
        cmocka_unit_test(many_threads_add_and_none_is_lost),
        cmocka_unit_test(events_wrap),
        cmocka_unit_test(a_wait_ends_at_its_deadline_or_before),
        cmocka_unit_test(a_gate_may_be_freed_once_it_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
