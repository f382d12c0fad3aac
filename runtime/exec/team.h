/* team.h - the threads of one CPU device: the berth_team that kernels see, made of the caller and helper threads.
 *
 * Helpers wait for the next parallel region by spinning for `spin_ns` and then sleeping, so a region is cheap while a
 * token is made and an idle engine takes no processor time. One thread at a time may call run (the device's lane). */
#ifndef BERTH_EXEC_TEAM_H
#define BERTH_EXEC_TEAM_H

#include "base/status.h"
#include "kernels/ops.h"

/* Start and end of a thread, as the program around berth wants to know them: called by the thread, first and last. */
typedef struct berth_thread_watch {
    void (*begin)(void *user, const char *name); /* either may be NULL */
    void (*end)(void *user, const char *name);
    void *user;
} berth_thread_watch;

typedef struct berth_thread_label {
    berth_thread_watch watch;
    char name[32]; /* "lane cpu:0" */
} berth_thread_label;

/* Helper i is bound to the one core cores[i % n_cores] when `pin` (nobody else's cores: two threads that spin for each
 * other must not be put on one), else to all of `cores`; NULL = anywhere. n_threads counts the caller: 1 makes no
 * helper. Error: BERTH_DEVICE_ERROR when a thread cannot be made or bound. */
berth_status berth_cpu_team_create(int32_t n_threads, const int32_t *cores, int32_t n_cores, bool pin, int64_t spin_ns,
                                   const berth_thread_label *label, berth_team **out, berth_error *err);
void berth_cpu_team_destroy(berth_team *team);

/* Starts a thread with all signals blocked (a library's threads take none of its host's) and bound to `cores`. `label`
 * is copied; NULL = nobody wants to know. */
berth_status berth_thread_start(unsigned long *out_thread, void *(*body)(void *), void *arg, const int32_t *cores,
                                int32_t n_cores, const berth_thread_label *label, berth_error *err);
void berth_thread_join(unsigned long thread);

#endif
