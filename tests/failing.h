/* failing.h - tests in which the n-th allocation fails: the linker puts these wrappers in place of malloc and its kin (the
 * FAILING words of berth_test, see cmake/BerthTargets.cmake).
 *
 * Calls of all threads count. What a library outside of berth allocates does not, unless it is given malloc as a hook. */
#ifndef BERTH_TESTS_FAILING_H
#define BERTH_TESTS_FAILING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/status.h"

typedef struct failing_state {
    _Atomic long n_calls, fail_at; /* fail_at: the first call is 1; 0 = none fails */
    _Atomic long n_frees;
    _Atomic bool for_ever; /* all calls behind it fail too */
} failing_state;

extern failing_state faults;

/* The n-th call from here on fails (and all behind it). */
void failing_start(long n, bool for_ever);
/* None fails any more. Whether the n-th was reached. */
bool failing_stop(void);

typedef berth_status failing_work(void *arg, berth_error *err);

/* Does `work` with its first allocation failing, with its second, ... until it comes to an end before; all of this twice,
 * the second time `for_ever`. It must give BERTH_OK at the end and BERTH_OUT_OF_MEMORY with a message before, else the
 * test fails and says `what`. Gives how many allocations there are. */
long failing_each(const char *what, failing_work *work, void *arg);

#endif
