/* failing.h - tests in which the n-th allocation fails: the linker puts these wrappers in place of malloc and its kin (the
 * FAILING words of berth_test, see cmake/BerthTargets.cmake).
 *
 * Set n_calls to 0 and fail_at to n, run, set fail_at to 0; the n-th call failed if n_calls has reached n. Calls of all
 * threads count. */
#ifndef BERTH_TESTS_FAILING_H
#define BERTH_TESTS_FAILING_H

#include <stdatomic.h>
#include <stdbool.h>

typedef struct failing_state {
    _Atomic long n_calls, fail_at; /* fail_at 0: never */
    _Atomic bool for_ever;         /* all calls behind it fail too */
} failing_state;

extern failing_state faults;

#endif
