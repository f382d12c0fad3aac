/* threads_test.c - events, teams and lanes: nothing is lost, order is kept, idle threads sleep, and an empty parallel
 * region is cheap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/lane.h"
#include "engine/team.h"

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
            assert_int_equal(berth_cpu_team_create(sizes[k], NULL, 0, false, spins[s], &team, &err), BERTH_OK);
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
    assert_int_equal(berth_cpu_team_create(2, cores, 1, true, 0, &team, &err), BERTH_DEVICE_ERROR);
    assert_null(team);
    assert_int_equal(berth_lane_init(lane, cores, 1, 0, &err), BERTH_DEVICE_ERROR);
    berth_lane_deinit(lane);
    free(lane);
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
    assert_int_equal(berth_cpu_team_create(4, NULL, 0, false, SPIN_NS, &team, NULL), BERTH_OK);
    assert_int_equal(berth_lane_init(lane, NULL, 0, SPIN_NS, NULL), BERTH_OK);
    tally t = {.n_threads = 4};
    team->run(team, count_call, &t);
    const struct timespec settle = {.tv_nsec = 30000000}, rest = {.tv_nsec = 200000000};
    nanosleep(&settle, NULL);
    double before = processor_seconds();
    nanosleep(&rest, NULL);
    double used = processor_seconds() - before;
    if (used > 0.02) fail_msg("%.3f s of processor time in 0.2 s of rest", used);
    berth_cpu_team_destroy(team);
    berth_lane_deinit(lane);
    free(lane);
}

/* ---- lanes ------------------------------------------------------------------------------------------------------ */

typedef struct journal {
    int32_t items[4096];
    int32_t n;
    berth_lane *other; /* wait for it before each item */
    uint32_t other_base;
} journal;

static void write_down(void *arg, int32_t item)
{
    journal *j = arg;
    if (j->other) berth_lane_wait(j->other, j->other_base + (uint32_t)item + 1, SPIN_NS);
    j->items[j->n++] = item;
}

static void items_run_in_order_and_are_counted(void **state)
{
    (void)state;
    berth_lane *lane = aligned_alloc(64, sizeof *lane);
    journal *j = calloc(1, sizeof *j);
    assert_int_equal(berth_lane_init(lane, NULL, 0, 0, NULL), BERTH_OK);
    uint32_t base = 0;
    int32_t n = 0;
    for (int32_t job = 0; job < 3 * BERTH_LANE_JOBS; job++) { /* more than the ring holds */
        int32_t items = job % 11;
        assert_int_equal(berth_lane_submit(lane, write_down, j, items), base);
        base += (uint32_t)items;
        n += items;
    }
    berth_lane_wait(lane, base, 0);
    assert_int_equal(j->n, n);
    for (int32_t job = 0, at = 0; job < 3 * BERTH_LANE_JOBS; job++)
        for (int32_t i = 0; i < job % 11; i++) assert_int_equal(j->items[at++], i);
    berth_lane_deinit(lane);
    free(lane);
    free(j);
}

static void lanes_wait_for_each_other(void **state)
{
    (void)state;
    enum { N = 2000 };
    berth_lane *lanes = aligned_alloc(64, 2 * sizeof *lanes);
    journal *first = calloc(1, sizeof *first), *second = calloc(1, sizeof *second);
    for (int i = 0; i < 2; i++) assert_int_equal(berth_lane_init(&lanes[i], NULL, 0, i ? SPIN_NS : 0, NULL), BERTH_OK);
    second->other = &lanes[0];
    second->other_base = lanes[0].n_issued;
    berth_lane_submit(&lanes[1], write_down, second, N); /* waits for what is submitted after it */
    berth_lane_submit(&lanes[0], write_down, first, N);
    berth_lane_wait(&lanes[1], N, 0);
    assert_int_equal(first->n, N);
    assert_int_equal(second->n, N);
    for (int i = 0; i < 2; i++) berth_lane_deinit(&lanes[i]);
    free(lanes);
    free(first);
    free(second);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_of_a_team_is_called_once),
        cmocka_unit_test(a_missing_core_is_an_error),
        cmocka_unit_test(idle_threads_take_no_processor_time),
        cmocka_unit_test(items_run_in_order_and_are_counted),
        cmocka_unit_test(lanes_wait_for_each_other),
        cmocka_unit_test(events_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
