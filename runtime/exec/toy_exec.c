/* toy_exec.c - the passes make real programs of what is emitted here; what they refuse is a mistake of the test. */
#include "exec/toy_exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program/passes.h"

enum { PAGE = 4096 };

const berth_sizes toy_sizes = {.value = {[BERTH_SYM_ONE] = 1}};

static const char *const names[TOY_LANES] = {"cpu:0", "cpu:1", "cpu:2", "cpu:3", "cpu:4", "cpu:5", "cpu:6", "cpu:7"};

static void must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "toy: %s\n", err->message);
    __builtin_trap();
}

static void *must_have(void *p)
{
    must(p ? BERTH_OK : BERTH_OUT_OF_MEMORY, &(berth_error){.message = "out of memory"});
    return p;
}

void toy_exec_init(toy_exec *t, int32_t n_lanes, const berth_kernels *kernels, int64_t spin_ns)
{
    berth_error err = {0};
    *t = (toy_exec){.exec = {.n_units = n_lanes, .transport = berth_transport_find("local")}};
    size_t size = (size_t)n_lanes * sizeof(berth_unit);
    t->exec.units = must_have(aligned_alloc(64, size));
    memset(t->exec.units, 0, size);
    pthread_mutex_init(&t->exec.strict_lock, NULL);
    for (int32_t d = 0; d < n_lanes; d++) {
        berth_unit *u = &t->exec.units[d];
        snprintf(t->infos[d].name, sizeof t->infos[d].name, "%s", names[d]);
        u->info = &t->infos[d];
        u->backend = &berth_backend_cpu;
        u->kernels = kernels;
        u->spin_ns = spin_ns;
        must(berth_lane_init(&u->lane, NULL, 0, spin_ns, NULL, &err), &err);
    }
}

void toy_exec_deinit(toy_exec *t)
{
    for (int32_t d = 0; d < t->exec.n_units; d++) berth_lane_deinit(&t->exec.units[d].lane);
    pthread_mutex_destroy(&t->exec.strict_lock);
    free(t->exec.units);
}

void toy_bind(toy_bound *b, const toy_exec *t, const berth_program *p)
{
    berth_error err = {0};
    berth_bound_memory memory = {0};
    *b = (toy_bound){0};
    for (int32_t d = 0; d < t->exec.n_units; d++) {
        size_t size = (p->regions[d].activations + PAGE) & ~(size_t)(PAGE - 1); /* whole pages: strict mode */
        memory.activations[d] = b->arenas[d] = must_have(aligned_alloc(PAGE, size));
    }
    must(berth_bound_init(&b->bound, p, &t->exec, &memory, &err), &err);
    for (int32_t v = 0; v < p->n_values; v++) {
        if (p->values[v].kind == BERTH_VALUE_INPUT)
            b->input = b->bound.data[v];
        else if (p->values[v].device == BERTH_DEVICE_HOST)
            b->output = b->bound.data[v];
    }
}

void toy_unbind(toy_bound *b)
{
    berth_bound_deinit(&b->bound);
    for (int32_t d = 0; d < TOY_LANES; d++) free(b->arenas[d]);
}

/* ---- programs --------------------------------------------------------------------------------------------------- */

static int32_t add_value(berth_program *p, berth_value_kind kind, int32_t device)
{
    berth_value v = {.kind = kind,
                     .n_dims = 2,
                     .dims = {{TOY_SIDE, BERTH_SYM_ONE}, {TOY_SIDE, BERTH_SYM_ONE}},
                     .param = -1,
                     .layer = -1,
                     .node = -1,
                     .device = device,
                     .origin = BERTH_NO_VALUE,
                     .producer = BERTH_NO_OP};
    snprintf(v.name, sizeof v.name, "v%d", (int)p->n_values);
    if (kind == BERTH_VALUE_INPUT) v.input = BERTH_INPUT_PIXELS;
    return berth_program_add_value(p, &v);
}

toy_builder toy_build(int32_t n_lanes)
{
    toy_builder b = {.program = must_have(berth_program_create("toy", &toy_sizes)), .n_lanes = n_lanes};
    b.program->n_devices = n_lanes;
    b.newest = add_value(b.program, BERTH_VALUE_INPUT, BERTH_DEVICE_HOST);
    return b;
}

int32_t toy_emit(toy_builder *b, int32_t device, int32_t x, int32_t y)
{
    berth_op op = {.kind = y < 0 ? BERTH_OP_GELU : BERTH_OP_ADD,
                   .in = {x, y},
                   .n_in = y < 0 ? 1 : 2,
                   .node = -1,
                   .layer = -1,
                   .device = device};
    op.out = add_value(b->program, BERTH_VALUE_ACTIVATION, device);
    if (op.out < 0 || berth_program_add_op(b->program, &op) < 0) must_have(NULL);
    return b->newest = op.out;
}

berth_program *toy_finish(toy_builder *b)
{
    berth_error err = {0};
    berth_program *p = b->program;
    const berth_pass_env env = {.n_devices = b->n_lanes, .device_names = names};
    p->values[b->newest].is_output = true;
    must(berth_route(p, &env, &err), &err);
    must(berth_check(p, &env, &err), &err);
    must(berth_allot(p, &(berth_allot_options){0}, &err), &err);
    must(berth_check_memory(p, &env, &err), &err);
    return p;
}

berth_program *toy_chain(int32_t n_lanes, int32_t n_ops, int32_t run)
{
    toy_builder b = toy_build(n_lanes);
    for (int32_t i = 0; i < n_ops; i++) toy_emit(&b, i / run % n_lanes, b.newest, -1);
    return toy_finish(&b);
}

uint32_t toy_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

berth_program *toy_random(int32_t n_lanes, int32_t n_ops, uint64_t seed)
{
    toy_builder b = toy_build(n_lanes);
    for (int32_t i = 0; i < n_ops; i++) {
        uint32_t n = (uint32_t)b.newest + 1;
        int32_t x = (int32_t)(toy_next(&seed) % n), y = toy_next(&seed) % 3 ? (int32_t)(toy_next(&seed) % n) : -1;
        if (toy_next(&seed) % 2) x = b.newest; /* chains as well as fans */
        toy_emit(&b, (int32_t)(toy_next(&seed) % (uint32_t)n_lanes), x, y);
    }
    return toy_finish(&b);
}
