/* test_team.h - a small team of threads for the kernels' tests and benchmarks; the engine has its own. */
#ifndef BERTH_KERNELS_TEST_TEAM_H
#define BERTH_KERNELS_TEST_TEAM_H

#include "kernels/ops.h"

/* n_threads >= 1, the caller included. NULL when a thread cannot be had. Destroy from the thread that created it. */
berth_team *berth_test_team_create(int32_t n_threads);
void berth_test_team_destroy(berth_team *team);

#endif
