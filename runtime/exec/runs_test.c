/* runs_test.c - runs in flight over lanes: each gives what it gives alone, whatever its neighbours do; order between
 * runs where it is asked for; a failure is one run's; a lane that waits holds nobody up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "exec/team.h"
#include "exec/toy_exec.h"

enum { FLOATS = TOY_SIDE * TOY_SIDE, FLIGHT = 8, SPIN_NS = 50000 };

/* ---- the work ----------------------------------------------------------------------------------------------------*/

/* GELU counts up by one, so that a value tells how far it is from its run's input. */
static void add_one(const berth_op_call *call)
{
    const float *x = call->in[0].data;
    float *y = call->out.data;
    for (int i = 0; i < FLOATS; i++) y[i] = x[i] + 1;
}

static void mean(const berth_op_call *call)
{
    const float *a = call->in[0].data, *b = call->in[1].data;
    float *y = call->out.data;
    for (int i = 0; i < FLOATS; i++) y[i] = 0.5f * (a[i] + b[i]) + (float)i / 64;
}

static const berth_kernels counting = {.name = "counting", .run = {[BERTH_OP_GELU] = add_one, [BERTH_OP_ADD] = mean}};

typedef struct slot { /* a run and its own memory */
    toy_bound bound;
    berth_run *run;
} slot;

static void make_slots(slot *slots, int n, toy_exec *t, const berth_program *p)
{
    for (int i = 0; i < n; i++) {
        toy_bind(&slots[i].bound, t, p);
        assert_int_equal(berth_run_create(&t->exec, UINT64_MAX, &slots[i].run, NULL), BERTH_OK);
        assert_non_null(slots[i].run);
    }
}

static void free_slots(slot *slots, int n)
{
    for (int i = 0; i < n; i++) {
        berth_run_destroy(slots[i].run);
        toy_unbind(&slots[i].bound);
    }
}

static void fill(const slot *s, float value)
{
    float *x = s->bound.input;
    for (int i = 0; i < FLOATS; i++) x[i] = value + (float)i;
}

static void start(const slot *s, const berth_run_options *options)
{
    berth_error err = {0};
    if (berth_run_start(s->run, &s->bound.bound, &toy_sizes, options, &err) != BERTH_OK) fail_msg("%s", err.message);
}

static void finish(const slot *s)
{
    berth_error err = {0};
    if (berth_run_finish(s->run, &err) != BERTH_OK) fail_msg("%s", err.message);
}

/* ---- many in flight --------------------------------------------------------------------------------------------- */

enum { INPUTS = 40 };

static void run_alone(const slot *s, float results[INPUTS][FLOATS], uint64_t *edges)
{
    for (int i = 0; i < INPUTS; i++) {
        fill(s, (float)(3 * i));
        assert_int_equal(berth_run_program(s->run, &s->bound.bound, &toy_sizes, NULL, edges, NULL), BERTH_OK);
        memcpy(results[i], s->bound.output, sizeof results[i]);
    }
}

static void check_result(const slot *s, const float *want)
{
    finish(s);
    assert_memory_equal(s->bound.output, want, FLOATS * sizeof *want);
}

/* Slots take turns, some after the run before, and are finished in random order. */
static void run_together(slot *slots, int flight, float results[INPUTS][FLOATS], uint64_t *edges, uint64_t *seed)
{
    int input_of[FLIGHT];
    for (int k = 0; k < FLIGHT; k++) input_of[k] = -1;
    berth_event notify;
    berth_event_init(&notify);
    const berth_run *newest = NULL;
    for (int i = 0; i < INPUTS; i++) {
        int k = (int)(toy_next(seed) % (uint32_t)flight);
        if (input_of[k] >= 0) check_result(&slots[k], results[input_of[k]]);
        fill(&slots[k], (float)(3 * i));
        input_of[k] = i;
        const berth_run_options options = {.edge_bytes = edges,
                                           .notify = &notify,
                                           .after = toy_next(seed) % 2 && newest != slots[k].run ? newest : NULL};
        start(&slots[k], &options);
        newest = slots[k].run;
    }
    berth_event_wait(&notify, INPUTS, 0);
    for (int k = 0; k < flight; k++) {
        if (input_of[k] < 0) continue;
        assert_true(berth_run_over(slots[k].run));
        check_result(&slots[k], results[input_of[k]]);
    }
}

static void runs_in_flight_give_what_they_give_alone(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 48; round++) {
        int32_t n_lanes = 1 + round % 4, n_ops = 1 + (int32_t)(toy_next(&seed) % 60);
        toy_exec t;
        slot slots[FLIGHT];
        static float results[INPUTS][FLOATS];
        uint64_t alone[(TOY_LANES + 1) * (TOY_LANES + 1)] = {0}, together[(TOY_LANES + 1) * (TOY_LANES + 1)] = {0};
        toy_exec_init(&t, n_lanes, &counting, round % 3 == 0 ? SPIN_NS : 0);
        berth_program *p = toy_random(n_lanes, n_ops, seed);
        make_slots(slots, FLIGHT, &t, p);
        run_alone(&slots[0], results, alone);
        run_together(slots, 1 + (int)(toy_next(&seed) % FLIGHT), results, together, &seed);
        assert_memory_equal(alone, together, sizeof alone);
        free_slots(slots, FLIGHT);
        berth_program_destroy(p);
        toy_exec_deinit(&t);
    }
}

/* ---- order between runs ----------------------------------------------------------------------------------------- */

enum { CHAIN_OPS = 24, CHAIN = 120, RING = 3 };

typedef struct place_in_chain {
    _Atomic int32_t *ticket;
    int32_t tickets[64]; /* by op; which came first, over all runs */
} place_in_chain;

static void take_ticket(void *user, const berth_bound *b, int32_t op, const berth_op_call *call)
{
    (void)b;
    (void)call;
    place_in_chain *at = user;
    at->tickets[op] = atomic_fetch_add(at->ticket, 1);
}

/* A chain longer than its ring of runs: each is started anew while the one after it may still be in flight. */
static void a_run_follows_the_one_it_is_after(void **state)
{
    (void)state;
    for (int32_t n_lanes = 1; n_lanes <= 4; n_lanes++) {
        toy_exec t;
        slot slots[RING];
        _Atomic int32_t ticket = 0;
        static place_in_chain places[CHAIN];
        berth_watch watches[CHAIN];
        toy_exec_init(&t, n_lanes, &counting, n_lanes % 2 ? SPIN_NS : 0);
        berth_program *p = toy_chain(n_lanes, CHAIN_OPS, 3);
        assert_true(p->n_ops <= 64);
        make_slots(slots, RING, &t, p);
        for (int i = 0; i < CHAIN; i++) {
            const slot *s = &slots[i % RING];
            if (i >= RING) finish(s);
            places[i] = (place_in_chain){.ticket = &ticket};
            watches[i] = (berth_watch){take_ticket, &places[i]};
            const berth_run_options options = {.watch = &watches[i], .after = i ? slots[(i - 1) % RING].run : NULL};
            fill(s, (float)i);
            start(s, &options);
        }
        for (int k = 0; k < RING; k++) finish(&slots[k]);
        for (int i = 1; i < CHAIN; i++)
            for (int32_t op = 0; op < p->n_ops; op++) assert_true(places[i - 1].tickets[op] < places[i].tickets[op]);
        free_slots(slots, RING);
        berth_program_destroy(p);
        toy_exec_deinit(&t);
    }
}

/* ---- a lane that waits ------------------------------------------------------------------------------------------ */

enum { HELD = 1000, FREE_RUN = 2000 };

static berth_event go, seen;

/* The run of input HELD stays in its second op, on lane 1, until `go`. */
static void hold_second(const berth_op_call *call)
{
    float x = *(const float *)call->in[0].data;
    if (x == HELD + 1) berth_event_wait(&go, 1, 0);
    add_one(call);
    if (x == FREE_RUN) berth_event_advance(&seen, 1);
}

static void a_run_that_comes_back_does_not_block_the_next(void **state)
{
    (void)state;
    const berth_kernels kernels = {.name = "holding", .run = {[BERTH_OP_GELU] = hold_second}};
    toy_exec t;
    slot slots[2];
    berth_event_init(&go);
    berth_event_init(&seen);
    toy_exec_init(&t, 2, &kernels, 0);
    toy_builder b = toy_build(2);
    toy_emit(&b, 0, b.newest, -1);
    toy_emit(&b, 1, b.newest, -1);
    toy_emit(&b, 0, b.newest, -1); /* back on lane 0 */
    berth_program *p = toy_finish(&b);
    make_slots(slots, 2, &t, p);
    fill(&slots[0], HELD);
    fill(&slots[1], FREE_RUN);
    start(&slots[0], NULL);
    start(&slots[1], NULL);
    berth_event_wait(&seen, 1, 0); /* would never come if lane 0 were in order over runs */
    assert_false(berth_run_over(slots[0].run));
    assert_false(berth_run_over(slots[1].run)); /* its op on lane 1 is behind the held one */
    berth_event_advance(&go, 1);
    for (int i = 0; i < 2; i++) {
        finish(&slots[i]);
        assert_true(*(float *)slots[i].bound.output == (float)(i ? FREE_RUN : HELD) + 3);
    }
    free_slots(slots, 2);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

/* ---- marks ------------------------------------------------------------------------------------------------------ */

enum { TIMED_OPS = 6 };
static int64_t begun_at[TIMED_OPS + 1], done_at[TIMED_OPS + 1]; /* of the op that reads this number */

static void add_one_timed(const berth_op_call *call)
{
    const int32_t k = (int32_t) * (const float *)call->in[0].data;
    begun_at[k] = berth_now_ns();
    add_one(call);
    done_at[k] = berth_now_ns();
}

static void a_mark_tells_when_its_op_was_done(void **state)
{
    (void)state;
    const berth_kernels kernels = {.name = "timed", .run = {[BERTH_OP_GELU] = add_one_timed}};
    toy_exec t;
    slot s;
    toy_exec_init(&t, 3, &kernels, 0);
    berth_program *p = toy_chain(3, TIMED_OPS, 1);
    make_slots(&s, 1, &t, p);
    int32_t k = 0; /* ops of the chain before op i, which may be a copy */
    for (int32_t i = -1; i < p->n_ops; i++) {
        const berth_run_options options = {.mark = i + 1};
        fill(&s, 0);
        const int64_t before = berth_now_ns();
        start(&s, &options);
        finish(&s);
        const int64_t at = berth_run_marked_ns(s.run);
        if (i < 0) {
            assert_true(at == 0);
            continue;
        }
        k += p->ops[i].kind == BERTH_OP_GELU;
        assert_true(at >= before && at <= berth_now_ns());
        if (p->ops[i].kind != BERTH_OP_GELU) continue;
        assert_true(at >= done_at[k - 1] && (k == TIMED_OPS || at <= begun_at[k]));
    }
    assert_int_equal(k, TIMED_OPS);
    free_slots(&s, 1);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

/* ---- a race between runs ---------------------------------------------------------------------------------------- */

static _Atomic int32_t n_begun;

/* add_one, but HELD stays in its second op until `go`; counts first ops. */
static void hold_and_count(const berth_op_call *call)
{
    float x = *(const float *)call->in[0].data;
    if (x == HELD + 1) berth_event_wait(&go, 1, 0);
    add_one(call);
    if (x == HELD || x == FREE_RUN) atomic_fetch_add(&n_begun, 1);
}

/* The op behind the second one of FREE_RUN: what the second one made is there. */
static void tell_second(const berth_op_call *call)
{
    if (*(const float *)call->in[0].data == FREE_RUN + 2) berth_event_advance(&seen, 1);
}

/* Stands between two runs in lane 0 and is looked at after the older was found not ready: lets both of them become ready
 * before the lane comes to the younger. */
static bool between_is_ready(berth_share *s)
{
    (void)s;
    if (atomic_load(&n_begun) < 2) return berth_event_reached(&seen, 1);
    berth_event_advance(&go, 1);
    berth_event_wait(&seen, 1, 0);
    atomic_store(&n_begun, 0);
    return false; /* this time: the lane goes on to the younger */
}

static void nothing(berth_share *s)
{
    (void)s;
}

static void a_run_does_not_overtake_the_one_it_is_after(void **state)
{
    (void)state;
    const berth_kernels kernels = {.name = "holding",
                                   .run = {[BERTH_OP_GELU] = hold_and_count, [BERTH_OP_ADD] = tell_second}};
    toy_exec t;
    slot slots[2];
    _Atomic int32_t ticket = 0;
    place_in_chain places[2] = {{.ticket = &ticket}, {.ticket = &ticket}};
    const berth_watch watches[2] = {{take_ticket, &places[0]}, {take_ticket, &places[1]}};
    berth_share between = {.is_ready = between_is_ready, .carry_out = nothing, .n_left = 1};
    berth_event_init(&go);
    berth_event_init(&seen);
    atomic_store(&n_begun, 0);
    toy_exec_init(&t, 2, &kernels, 0);
    toy_builder b = toy_build(2);
    int32_t second = toy_emit(&b, 1, toy_emit(&b, 0, b.newest, -1), -1);
    toy_emit(&b, 1, second, second);
    toy_emit(&b, 0, second, -1);
    berth_program *p = toy_finish(&b);
    make_slots(slots, 2, &t, p);
    fill(&slots[0], HELD);
    fill(&slots[1], FREE_RUN);
    start(&slots[0], &(berth_run_options){.watch = &watches[0]});
    berth_lane_add(&t.exec.units[0].lane, &between);
    start(&slots[1], &(berth_run_options){.watch = &watches[1], .after = slots[0].run});
    for (int i = 0; i < 2; i++) finish(&slots[i]);
    for (int32_t op = 0; op < p->n_ops; op++) assert_true(places[0].tickets[op] < places[1].tickets[op]);
    free_slots(slots, 2);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

enum { BAD = 5000, FAIL_AT = 7 };

static berth_status copy_or_fail(const berth_copy *c, berth_error *err)
{
    if (*(const float *)c->src == BAD + FAIL_AT) return BERTH_FAIL(err, BERTH_DEVICE_ERROR, "the wire broke");
    memcpy(c->dst, c->src, c->bytes);
    return BERTH_OK;
}

static void a_failure_is_one_runs(void **state)
{
    (void)state;
    static const berth_transport breaking = {.name = "breaking", .copy = copy_or_fail};
    toy_exec t;
    slot slots[FLIGHT];
    toy_exec_init(&t, 3, &counting, 0);
    t.exec.transport = &breaking;
    berth_program *p = toy_chain(3, 20, 1);
    make_slots(slots, FLIGHT, &t, p);
    for (int round = 0; round < 60; round++) {
        berth_event notify;
        berth_event_init(&notify);
        uint32_t bad = (uint32_t)round * 0x9e3779b9u >> 24; /* a set of slots */
        for (int i = 0; i < FLIGHT; i++) {
            fill(&slots[i], (float)(bad >> i & 1 ? BAD : 10 * i));
            const berth_run_options options = {.notify = &notify, .after = i % 3 ? slots[i - 1].run : NULL};
            start(&slots[i], &options);
        }
        berth_event_wait(&notify, FLIGHT, 0);
        for (int i = 0; i < FLIGHT; i++) {
            berth_error err = {0};
            assert_int_equal(berth_run_finish(slots[i].run, &err), bad >> i & 1 ? BERTH_DEVICE_ERROR : BERTH_OK);
            if (bad >> i & 1)
                assert_string_equal(err.message, "the wire broke");
            else
                assert_true(*(float *)slots[i].bound.output == (float)(10 * i + 20));
        }
    }
    free_slots(slots, FLIGHT);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

static void what_cannot_be_started_is_refused(void **state)
{
    (void)state;
    const berth_kernels kernels = {.name = "holding", .run = {[BERTH_OP_GELU] = hold_second}};
    toy_exec t;
    slot one[2], other;
    berth_error err = {0};
    berth_event notify;
    berth_event_init(&go);
    berth_event_init(&notify);
    toy_exec_init(&t, 2, &kernels, 0);
    berth_program *p = toy_chain(2, 4, 1), *q = toy_chain(2, 6, 1), *none = berth_program_create("none", &toy_sizes);
    make_slots(one, 2, &t, p);
    make_slots(&other, 1, &t, q);
    assert_int_equal(berth_run_finish(one[0].run, &err), BERTH_OK); /* never started */
    fill(&one[0], HELD);
    fill(&other, 0);
    start(&one[0], NULL);
    assert_int_equal(berth_run_start(one[0].run, &one[0].bound.bound, &toy_sizes, NULL, &err), BERTH_INVALID_ARGUMENT);
    const berth_run_options options = {.after = one[0].run, .notify = &notify};
    assert_int_equal(berth_run_start(other.run, &other.bound.bound, &toy_sizes, &options, &err),
                     BERTH_INVALID_ARGUMENT);
    berth_event_advance(&go, 1);
    finish(&one[0]);
    start(&other, &options); /* it is over: nothing to come after */
    finish(&other);
    toy_bound empty = {0};
    berth_bound_memory memory = {0};
    none->n_devices = 2;
    assert_int_equal(berth_bound_init(&empty.bound, none, &t.exec, &memory, &err), BERTH_OK);
    assert_int_equal(berth_run_start(other.run, &empty.bound, &toy_sizes, &options, &err), BERTH_OK);
    assert_true(berth_run_over(other.run)); /* no op, no lane */
    finish(&other);
    assert_int_equal(berth_event_value(&notify), 2);
    berth_bound_deinit(&empty.bound);
    free_slots(one, 2);
    free_slots(&other, 1);
    berth_program_destroy(p);
    berth_program_destroy(q);
    berth_program_destroy(none);
    toy_exec_deinit(&t);
}

/* ---- several threads -------------------------------------------------------------------------------------------- */

typedef struct loop { /* a replica's thread: runs in flight on its own program */
    toy_exec *t;
    const berth_program *program;
    int32_t n_runs, wrong;
    unsigned long thread;
} loop;

static void *run_loop(void *arg)
{
    loop *l = arg;
    slot slots[4];
    berth_event notify;
    berth_event_init(&notify);
    make_slots(slots, 4, l->t, l->program);
    for (int32_t i = 0; i < l->n_runs + 4; i++) {
        const slot *s = &slots[i % 4];
        if (i >= 4) {
            berth_event_wait(&notify, (uint32_t)i - 3, 0);
            finish(s);
            l->wrong += *(float *)s->bound.output != (float)(i - 4 + 40);
        }
        if (i >= l->n_runs) continue;
        fill(s, (float)i);
        start(s, &(berth_run_options){.notify = &notify});
    }
    free_slots(slots, 4);
    return NULL;
}

/* In-order lanes would need one order of submission over all lanes here, or wait for each other in a circle. */
static void replicas_with_opposite_stages_share_two_lanes(void **state)
{
    (void)state;
    toy_exec t;
    toy_exec_init(&t, 2, &counting, 0);
    toy_builder b[2] = {toy_build(2), toy_build(2)};
    for (int k = 0; k < 2; k++)
        for (int32_t i = 0; i < 40; i++) toy_emit(&b[k], i / 20 != k, b[k].newest, -1);
    loop loops[4];
    berth_program *programs[2] = {toy_finish(&b[0]), toy_finish(&b[1])};
    for (int i = 0; i < 4; i++) {
        loops[i] = (loop){.t = &t, .program = programs[i % 2], .n_runs = 500};
        assert_int_equal(berth_thread_start(&loops[i].thread, run_loop, &loops[i], NULL, 0, NULL, NULL), BERTH_OK);
    }
    for (int i = 0; i < 4; i++) {
        berth_thread_join(loops[i].thread);
        assert_int_equal(loops[i].wrong, 0);
    }
    for (int k = 0; k < 2; k++) berth_program_destroy(programs[k]);
    toy_exec_deinit(&t);
}

/* ---- strict mode ------------------------------------------------------------------------------------------------ */

static void guard(toy_exec *t, const slot *slots, int n)
{
    assert_int_equal(berth_strict_create(t->exec.n_units, &t->exec.strict, NULL), BERTH_OK);
    for (int i = 0; i < n; i++) {
        const berth_bound *b = &slots[i].bound.bound;
        for (int32_t d = 0; d < t->exec.n_units; d++)
            assert_int_equal(berth_strict_add(t->exec.strict, d, slots[i].bound.arenas[d],
                                              b->program->regions[d].activations, true, NULL),
                             BERTH_OK);
        assert_int_equal(berth_strict_add(t->exec.strict, BERTH_DEVICE_HOST, b->host, b->host_bytes, true, NULL),
                         BERTH_OK);
    }
    berth_strict_only(t->exec.strict, BERTH_DEVICE_HOST);
}

/* Results are read and inputs written while other runs are under way; a run whose copy from the host is missing fails
 * by name, the others do not. */
static void strict_mode_takes_runs_in_flight(void **state)
{
    (void)state;
    enum { SLOTS = 4 };
    toy_exec t;
    slot slots[SLOTS + 1];
    toy_exec_init(&t, 3, &counting, 0);
    berth_program *p = toy_chain(3, 12, 2), *bad = berth_program_copy(p);
    assert_int_equal(bad->ops[0].kind, BERTH_OP_COPY);
    assert_int_equal(bad->ops[1].in[0], bad->ops[0].out);
    bad->ops[1].in[0] = bad->ops[0].in[0];
    make_slots(slots, SLOTS, &t, p);
    make_slots(&slots[SLOTS], 1, &t, bad);
    guard(&t, slots, SLOTS + 1);
    for (int i = 0; i < 100; i++) {
        const slot *s = &slots[i % SLOTS];
        if (i >= SLOTS) {
            finish(s);
            assert_true(*(float *)s->bound.output == (float)(i - SLOTS + 12));
        }
        fill(s, (float)i);
        start(s, NULL);
        if (i % 10) continue;
        berth_error err = {0};
        fill(&slots[SLOTS], 0);
        start(&slots[SLOTS], NULL);
        assert_int_equal(berth_run_finish(slots[SLOTS].run, &err), BERTH_DEVICE_ERROR);
        assert_non_null(strstr(err.message, "touched memory of the host"));
    }
    for (int k = 0; k < SLOTS; k++) finish(&slots[k]);
    berth_strict_destroy(t.exec.strict);
    t.exec.strict = NULL;
    free_slots(slots, SLOTS + 1);
    berth_program_destroy(p);
    berth_program_destroy(bad);
    toy_exec_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_flight_give_what_they_give_alone),
        cmocka_unit_test(a_run_follows_the_one_it_is_after),
        cmocka_unit_test(a_run_that_comes_back_does_not_block_the_next),
        cmocka_unit_test(a_mark_tells_when_its_op_was_done),
        cmocka_unit_test(a_run_does_not_overtake_the_one_it_is_after),
        cmocka_unit_test(a_failure_is_one_runs),
        cmocka_unit_test(what_cannot_be_started_is_refused),
        cmocka_unit_test(replicas_with_opposite_stages_share_two_lanes),
        cmocka_unit_test(strict_mode_takes_runs_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
