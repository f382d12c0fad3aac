/* arch_fixture.h - for tests: a golden model's programs under any placement. */
#ifndef BERTH_ARCH_FIXTURE_H
#define BERTH_ARCH_FIXTURE_H

#include "arch/arch.h"
#include "program/passes.h"

enum { FIXTURE_DEVICES = 8 };

extern const char *const fixture_models[]; /* NULL-terminated; folders of tests/golden/models */

typedef struct fixture {
    berth_model_data *model;
    berth_device_view devices[FIXTURE_DEVICES];
    const char *names[FIXTURE_DEVICES];
    berth_strategy_input in; /* n_devices may be changed */
    berth_programs programs; /* as built */
} fixture;

void fixture_open(fixture *f, const char *model, const berth_build_options *options);
void fixture_close(fixture *f);
berth_pass_env fixture_env(const fixture *f, const berth_placement *placement);

/* place, route, check, allot, check_memory on a copy of `built`; fails the test when one refuses. The caller
 * destroys. */
berth_program *fixture_passes(const berth_program *built, const berth_pass_env *env,
                              const berth_allot_options *options);

uint32_t fixture_random(uint64_t *state, uint32_t n); /* in [0, n) */

/* A random cut through the tree over in.n_devices devices. Depth 0: nearly whole; larger: finer; 100: every module
 * with tensors by itself, layer scales apart. */
berth_placement *fixture_placement(const fixture *f, uint64_t *random, uint32_t depth);

#endif
