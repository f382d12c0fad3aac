/* allot_test.c - offsets, reuse and the waits it needs, and the checker of both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/toy.h"

/* ---- allot and check_memory ------------------------------------------------------------------------------------- */

static void allot_works_in_place_where_the_op_can(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 0, 0);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    berth_program *p = toy_allotted(&env, &options);
    const berth_value *n = &p->values[berth_program_find(p, "layer.0.n")],
                      *g = &p->values[berth_program_find(p, "layer.0.g")];
    const berth_value *a = &p->values[berth_program_find(p, "vision.a")],
                      *y = &p->values[berth_program_find(p, "layer.0")];
    assert_int_equal(n->offset, g->offset);     /* gelu over its operand */
    assert_int_not_equal(a->offset, n->offset); /* the norm's operand is read again by the sum */
    assert_int_not_equal(a->offset, y->offset); /* and once more at the end */
    assert_true(p->regions[0].activations > 0 && p->host_bytes >= 7 * 3 * 4 * 4 * 4 + 7 * 4 * 5 * 4);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

/* All traced values, or one that the host reads where it lies. */
static void allot_keeps_values_when_asked(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 0, 0);
    berth_pass_env env = toy_env(placement);
    for (int keep = 0; keep < 3; keep++) {
        berth_allot_options options = {.keep_traced = keep == 1};
        berth_program *p = toy_allotted(&env, &options);
        berth_value *v = &p->values[berth_program_find(p, "layer.0")];
        if (keep == 2) {
            v->is_kept = true;
            assert_int_equal(berth_check_memory(p, &env, NULL), BERTH_AFFINITY); /* others lie there later */
            assert_int_equal(berth_allot(p, &options, NULL), BERTH_OK);
            assert_int_equal(berth_check_memory(p, &env, NULL), BERTH_OK);
        }
        bool overwritten = false;
        for (int32_t i = 0; i < p->n_values; i++) {
            const berth_value *x = &p->values[i];
            bool later = x->kind == BERTH_VALUE_ACTIVATION && x->device == 0 && x->producer > v->producer;
            overwritten |= later && x->offset < v->offset + v->bytes && v->offset < x->offset + x->bytes;
        }
        assert_int_equal(overwritten, keep == 0);
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

static size_t a_thousand_a_thread(const berth_op_call *shapes, int32_t n_threads)
{
    (void)shapes;
    return 1000 * (size_t)n_threads;
}

static void allot_plans_workspace_per_device(void **state)
{
    (void)state;
    berth_kernels kernels = {.name = "test", .workspace[BERTH_OP_GELU] = a_thousand_a_thread};
    const int32_t n_threads[3] = {1, 2, 3};
    berth_placement *placement = toy_split(0, 1, 1);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {.kernels = &kernels, .n_threads = n_threads};
    berth_program *p = toy_allotted(&env, &options);
    assert_int_equal(p->regions[0].workspace, 0);
    assert_int_equal(p->regions[1].workspace, 2048);
    assert_int_equal(p->regions[2].workspace, 0);
    berth_error err = {0};
    p->regions[1].workspace = 2047;
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_AFFINITY);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void allot_refuses_what_no_computer_holds(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    static const int64_t bounds[] = {INT64_MAX, INT64_MAX / 3, INT64_MAX / 64, -1};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        berth_error err = {0};
        berth_program *p = toy_routed(&env);
        p->bounds.value[BERTH_SYM_TILES] = bounds[i];
        assert_int_equal(berth_allot(p, &options, &err), BERTH_INVALID_ARGUMENT);
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

typedef struct spoiler {
    const char *says; /* NULL: right all the same */
    void (*spoil)(berth_program *p);
} spoiler;

static void shifted(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0@cpu:2")].offset =
        p->values[berth_program_find(p, "vision.a@cpu:2")].offset;
}
static void outside(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset = 1 << 20;
}
static void outside_wrapped(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset = SIZE_MAX - 63;
}
static void unaligned(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset += 4;
}
static void too_small(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].bytes--;
}
static void no_region(berth_program *p)
{
    p->regions[1].activations = 0;
}
static void no_host(berth_program *p)
{
    p->host_bytes = 0;
}
static void shared_host(berth_program *p)
{
    p->values[berth_program_find(p, "logits@host")].offset = p->values[berth_program_find(p, "pixels")].offset;
}

static void check_memory_refuses_what_is_spoilt(void **state)
{
    (void)state;
    static const spoiler cases[] = {
        {"share memory on cpu:2", shifted},
        {"does not lie in", outside},
        {"does not lie in", outside_wrapped},
        {"does not lie in", unaligned},
        {"less than it can need", too_small},
        {"does not lie in", no_region},
        {"of the host", no_host},
        {NULL, shared_host},
    };
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_error err = {0};
        berth_program *p = toy_allotted(&env, &options);
        cases[i].spoil(p);
        berth_status st = berth_check_memory(p, &env, &err);
        if (!cases[i].says) { /* the pixels are read long before: reusing their memory would be right */
            assert_int_equal(st, BERTH_OK);
        } else {
            assert_int_equal(st, BERTH_AFFINITY);
            if (!strstr(err.message, cases[i].says)) fail_msg("case %zu: \"%s\"", i, err.message);
        }
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

/* Two values of cpu:0 are copied to cpu:1; the second takes the first's memory. Without a wait, the slow reader would
 * see the second's bytes. */
static void reuse_waits_for_readers_on_other_lanes(void **state)
{
    (void)state;
    const berth_dim dims[] = {{1, BERTH_SYM_TILES}, {1024, BERTH_SYM_ONE}};
    const char *const names[] = {"cpu:0", "cpu:1"};
    berth_sizes bounds = {.value = {1, 4}};
    berth_program *p = berth_program_create("reuse", &bounds);
    berth_pass_env env = {.n_devices = 2, .device_names = names};
    berth_value v = {.kind = BERTH_VALUE_INPUT,
                     .n_dims = 2,
                     .param = -1,
                     .layer = -1,
                     .node = -1,
                     .device = BERTH_DEVICE_HOST,
                     .origin = -1,
                     .producer = -1};
    memcpy(v.dims, dims, sizeof dims);
    p->n_devices = 2;
    snprintf(v.name, sizeof v.name, "%s", "in");
    int32_t last = -1, in = berth_program_add_value(p, &v);
    v.kind = BERTH_VALUE_ACTIVATION;
    for (int i = 0; i < 4; i++) { /* cpu:0: copies of the input, each read on cpu:1 only */
        v.device = 0;
        snprintf(v.name, sizeof v.name, "x%d", i);
        berth_op op = {.kind = BERTH_OP_GELU,
                       .in = {in},
                       .n_in = 1,
                       .node = -1,
                       .layer = -1,
                       .device = 0,
                       .out = berth_program_add_value(p, &v)};
        berth_program_add_op(p, &op);
        v.device = 1;
        snprintf(v.name, sizeof v.name, "y%d", i);
        berth_op add = {.kind = last < 0 ? BERTH_OP_GELU : BERTH_OP_ADD,
                        .in = {op.out, last},
                        .n_in = last < 0 ? 1 : 2,
                        .node = -1,
                        .layer = -1,
                        .device = 1};
        add.out = last = berth_program_add_value(p, &v);
        berth_program_add_op(p, &add);
    }
    berth_error err = {0};
    berth_allot_options options = {0};
    assert_int_equal(berth_route(p, &env, &err), BERTH_OK);
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);
    assert_int_equal(berth_allot(p, &options, &err), BERTH_OK);
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_OK);
    assert_int_equal(p->values[berth_program_find(p, "x0")].offset, p->values[berth_program_find(p, "x1")].offset);
    const berth_op *x1 = &p->ops[toy_op(p, "x1")];
    assert_int_equal(x1->n_waits, 1);
    assert_int_equal(p->waits[x1->first_wait], toy_op(p, "x0@cpu:1"));
    p->ops[toy_op(p, "x1")].n_waits = 0;
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);              /* every edge is still ordered ... */
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_AFFINITY); /* ... and the memory is not */
    assert_non_null(strstr(err.message, "\"x0\" and \"x1\" share memory on cpu:0"));
    berth_program_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allot_works_in_place_where_the_op_can),
        cmocka_unit_test(allot_keeps_values_when_asked),
        cmocka_unit_test(allot_plans_workspace_per_device),
        cmocka_unit_test(allot_refuses_what_no_computer_holds),
        cmocka_unit_test(check_memory_refuses_what_is_spoilt),
        cmocka_unit_test(reuse_waits_for_readers_on_other_lanes),
    };
    return cmocka_run_group_tests_name("memory of a toy model", tests, NULL, NULL);
}
