/* alloc_test.c - building a model's programs and every pass over them while the n-th allocation fails: a status, no
 * leak, no crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch_fixture.h"
#include "tests/failing.h"

static const char map[] =
    "{\"\": 0, \"vision_model\": 1, \"language_model.layers.1\": 2, \"model.language_model.norm\": 3}";

static berth_status passes(berth_program *p, const berth_pass_env *env, berth_error *err)
{
    berth_allot_options options = {.kernels = berth_kernels_ref()};
    berth_buffer text = {0};
    berth_status st = berth_place(p, env, err);
    if (st == BERTH_OK) st = berth_route(p, env, err);
    if (st == BERTH_OK) st = berth_check(p, env, err);
    if (st == BERTH_OK) st = berth_allot(p, &options, err);
    if (st == BERTH_OK) st = berth_check_memory(p, env, err);
    if (st == BERTH_OK && !berth_program_print(p, env, &text)) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory");
    if (st == BERTH_OK && !berth_program_json(p, env, &text)) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory");
    berth_buffer_deinit(&text);
    return st;
}

static berth_status all(void *arg, berth_error *err)
{
    const fixture *f = arg;
    const berth_build_options options = {.max_tiles = 2, .max_tokens = 32, .trace = true};
    berth_programs programs;
    berth_placement *placement = NULL;
    berth_program *copy = NULL;
    berth_buffer text = {0};
    berth_status st = berth_arch_build(f->model, &options, &programs, err);
    if (st == BERTH_OK) st = berth_placement_from_map(map, sizeof map - 1, "map", &f->in, &placement, err);
    if (st == BERTH_OK && !berth_placement_to_map(placement, &f->in, 0, &text))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory");
    if (st == BERTH_OK && !(copy = berth_program_copy(programs.step)))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory");
    berth_pass_env env = fixture_env(f, placement);
    if (st == BERTH_OK) st = passes(programs.encode, &env, err);
    if (st == BERTH_OK) st = passes(copy, &env, err);
    berth_buffer_deinit(&text);
    berth_program_destroy(copy);
    berth_placement_destroy(placement);
    berth_programs_deinit(&programs);
    return st;
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    const berth_build_options options = {0};
    fixture f;
    fixture_open(&f, "ivl-native", &options);
    long n = failing_each("programs", all, &f);
    print_message("%ld allocations, each failed once\n", n);
    assert_true(n > 100);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_allocation_may_fail)};
    return cmocka_run_group_tests_name("programs without memory", tests, NULL, NULL);
}
