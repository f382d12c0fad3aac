/* hold.c - see hold.h. The signal's handler has no other argument than these globals. */
#include "hold.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { MOST_LANES = 8, SIGNAL = SIGUSR2 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t lanes[MOST_LANES]; /* under the lock */
static int32_t n_lanes, n_expected;
static atomic_bool is_held;
static atomic_int n_standing;

static void stand_still(int number)
{
    (void)number;
    const int before = errno;
    atomic_fetch_add(&n_standing, 1);
    while (atomic_load(&is_held)) sleep_us(100);
    atomic_fetch_sub(&n_standing, 1);
    errno = before;
}

static bool is_lane(const char *name)
{
    return strncmp(name, "lane ", 5) == 0;
}

static void begin(void *user, const char *name)
{
    sigset_t set;
    (void)user;
    if (!is_lane(name)) return;
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_mutex_lock(&lock);
    if (n_lanes < MOST_LANES) lanes[n_lanes++] = pthread_self();
    pthread_mutex_unlock(&lock);
}

static void end(void *user, const char *name)
{
    (void)user;
    pthread_mutex_lock(&lock);
    n_lanes -= is_lane(name);
    pthread_mutex_unlock(&lock);
}

fixture hold_open(const fixture_options *o)
{
    const struct sigaction action = {.sa_handler = stand_still};
    const berth_runtime_options runtime = {.struct_size = sizeof runtime, .thread_begin = begin, .thread_end = end};
    fixture_options options = *o;
    options.runtime = &runtime;
    assert_int_equal(sigaction(SIGNAL, &action, NULL), 0);
    const fixture f = fixture_open(&options);
    n_expected = berth_plan_n_devices(berth_engine_plan(f.engine));
    assert_in_range(n_expected, 1, MOST_LANES);
    return f;
}

static int32_t signal_all(void)
{
    pthread_mutex_lock(&lock);
    const int32_t n = n_lanes;
    for (int32_t i = 0; n == n_expected && i < n; i++) pthread_kill(lanes[i], SIGNAL);
    pthread_mutex_unlock(&lock);
    return n;
}

void hold(void)
{
    assert_false(atomic_load(&is_held));
    atomic_store(&is_held, true);
    while (signal_all() < n_expected) sleep_us(100); /* a lane may not have begun yet */
    while (atomic_load(&n_standing) < n_expected) sleep_us(100);
}

void let_go(void)
{
    atomic_store(&is_held, false);
    while (atomic_load(&n_standing) > 0) sleep_us(100);
}
