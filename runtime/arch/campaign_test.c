/* campaign_test.c - random placements of every golden model over 1 to 8 devices: what the passes make is right, and
 * the checkers catch what is taken away.
 *
 * Every program is also run without arithmetic, in random legal schedules, with memory that remembers which value
 * each cell holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch_fixture.h"

static const berth_build_options small = {
    .max_tiles = 3, .max_tokens = 48, .max_seqs = 3, .n_blocks = 6, .block = 16, .feature_rows = 40};

/* ---- editing a finished program --------------------------------------------------------------------------------- */

static void drop_wait(berth_program *p, int32_t op, int32_t k)
{
    berth_op *o = &p->ops[op];
    int32_t *w = &p->waits[o->first_wait];
    memmove(&w[k], &w[k + 1], (size_t)(o->n_waits - k - 1) * sizeof *w);
    o->n_waits--;
}

/* Takes op `gone` out; waits on it go too. */
static void drop_op(berth_program *p, int32_t gone)
{
    for (int32_t i = 0; i < p->n_ops; i++)
        for (int32_t k = p->ops[i].n_waits - 1; k >= 0; k--) {
            int32_t *on = &p->waits[p->ops[i].first_wait + k];
            if (*on == gone)
                drop_wait(p, i, k);
            else if (*on > gone)
                --*on;
        }
    memmove(&p->ops[gone], &p->ops[gone + 1], (size_t)(p->n_ops - gone - 1) * sizeof *p->ops);
    p->n_ops--;
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].producer == gone)
            p->values[i].producer = BERTH_NO_OP;
        else if (p->values[i].producer > gone)
            p->values[i].producer--;
}

static bool refused(const berth_program *p, const berth_pass_env *env, berth_error *err)
{
    berth_status st = berth_check(p, env, err);
    if (st == BERTH_OK) st = berth_check_memory(p, env, err);
    if (st != BERTH_OK) assert_int_equal(st, BERTH_AFFINITY);
    return st != BERTH_OK;
}

typedef struct tally {
    int programs, copies, waits, moved_ops, moved_values, schedules;
    int waitless, seen; /* programs with waits run without any; of those, how many schedules went wrong */
} tally;

static void every_dropped_copy_is_caught(const berth_program *p, const berth_pass_env *env, tally *t)
{
    for (int32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != BERTH_OP_COPY) continue;
        for (int rewire = 0; rewire < 2; rewire++) {
            berth_program *q = berth_program_copy(p);
            berth_error err = {0};
            int32_t from = p->ops[i].in[0], to = p->ops[i].out;
            drop_op(q, i);
            for (int32_t j = 0; j < q->n_ops && rewire; j++)
                for (int32_t k = 0; k < q->ops[j].n_in; k++)
                    if (q->ops[j].in[k] == to) q->ops[j].in[k] = from;
            if (!refused(q, env, &err))
                fail_msg("without the copy of %s to device %d: not caught", p->values[from].name, p->values[to].device);
            berth_program_destroy(q);
        }
        t->copies++;
    }
}

static void every_dropped_wait_is_caught(const berth_program *p, const berth_pass_env *env, tally *t)
{
    for (int32_t i = 0; i < p->n_ops; i++) {
        for (int32_t k = 0; k < p->ops[i].n_waits; k++) {
            berth_program *q = berth_program_copy(p);
            berth_error err = {0};
            drop_wait(q, i, k);
            if (!refused(q, env, &err))
                fail_msg("op %d without its wait for op %d: not caught", i, p->waits[p->ops[i].first_wait + k]);
            berth_program_destroy(q);
            t->waits++;
        }
    }
}

static void every_move_is_caught(const berth_program *p, const berth_pass_env *env, uint64_t *random, tally *t)
{
    berth_program *q = berth_program_copy(p);
    for (int32_t i = 0; i < p->n_ops && p->n_devices > 1; i++, t->moved_ops++) {
        berth_error err = {0};
        q->ops[i].device =
            (p->ops[i].device + 1 + (int32_t)fixture_random(random, (uint32_t)p->n_devices - 1)) % p->n_devices;
        if (!refused(q, env, &err))
            fail_msg("op %d moved from device %d to %d: not caught", i, p->ops[i].device, q->ops[i].device);
        q->ops[i].device = p->ops[i].device;
    }
    for (int32_t i = 0; i < p->n_values; i++, t->moved_values++) {
        berth_error err = {0};
        int32_t was = p->values[i].device, to = (int32_t)fixture_random(random, (uint32_t)p->n_devices + 1) - 1;
        if (to == was) to = was < 0 ? 0 : BERTH_DEVICE_HOST;
        q->values[i].device = to;
        if (!refused(q, env, &err))
            fail_msg("value %s moved from device %d to %d: not caught", p->values[i].name, was, to);
        q->values[i].device = was;
    }
    berth_program_destroy(q);
}

/* ---- properties ------------------------------------------------------------------------------------------------- */

static void copies_are_single(const berth_program *p)
{
    for (int32_t i = 0; i < p->n_values; i++)
        for (int32_t k = i + 1; k < p->n_values; k++)
            if (p->values[i].origin >= 0 && p->values[i].origin == p->values[k].origin &&
                p->values[i].device == p->values[k].device)
                fail_msg("%s and %s are the same", p->values[i].name, p->values[k].name);
}

/* Every patchify reads what an earlier copy brought from the host's pixels to its own device. */
static void vision_gets_its_pixels(const berth_program *p)
{
    int32_t n = 0, pixels = berth_program_find_input(p, BERTH_INPUT_PIXELS);
    for (int32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != BERTH_OP_PATCHIFY) continue;
        const berth_value *v = &p->values[p->ops[i].in[0]];
        assert_int_equal(v->origin, pixels);
        assert_int_equal(v->device, p->ops[i].device);
        assert_true(v->producer >= 0 && v->producer < i);
        assert_int_equal(p->ops[v->producer].kind, BERTH_OP_COPY);
        assert_int_equal(p->ops[v->producer].in[0], pixels);
        n++;
    }
    assert_int_equal(n, strcmp(p->name, "encode") == 0);
}

static void features_cross_once(const berth_program *p)
{
    int32_t out = berth_program_find(p, "projector.out"), n = 0,
            store = berth_program_find_state(p, BERTH_STATE_FEATURES, -1);
    if (strcmp(p->name, "encode") != 0) return;
    for (int32_t i = 0; i < p->n_ops; i++)
        n += p->ops[i].kind == BERTH_OP_COPY && p->ops[i].in[0] == out && p->values[p->ops[i].out].device >= 0;
    assert_int_equal(n, p->values[out].device != p->values[store].device);
}

/* ---- running without arithmetic --------------------------------------------------------------------------------- */

enum { CELL = 64 };

typedef struct machine {
    const berth_program *p;
    int32_t *cells[FIXTURE_DEVICES + 1]; /* what each 64 bytes hold; the last is the host */
    bool *done;
    bool wrong; /* an op read what another value had overwritten, or nothing had written */
    char what[160];
} machine;

static int32_t *cells_of(const machine *m, const berth_value *v)
{
    return &m->cells[v->device < 0 ? FIXTURE_DEVICES : v->device][v->offset / CELL];
}

static bool in_memory(const berth_value *v)
{
    return v->kind == BERTH_VALUE_ACTIVATION || v->kind == BERTH_VALUE_INPUT;
}

static void expect_holds(machine *m, int32_t op, int32_t v)
{
    const berth_value *x = &m->p->values[v];
    if (!in_memory(x)) return;
    int32_t *c = cells_of(m, x);
    for (size_t i = 0; i < (x->bytes + CELL - 1) / CELL; i++)
        if (c[i] != v && !m->wrong) {
            m->wrong = true;
            snprintf(m->what, sizeof m->what, "op %d reads %s, and finds %s there", op, x->name,
                     c[i] < 0 ? "nothing" : m->p->values[c[i]].name);
        }
}

static void start_op(machine *m, int32_t i)
{
    const berth_op *op = &m->p->ops[i];
    const berth_value *y = &m->p->values[op->out];
    for (int32_t k = 0; k < op->n_in; k++) expect_holds(m, i, op->in[k]);
    if (!in_memory(y)) return;
    int32_t *c = cells_of(m, y);
    for (size_t j = 0; j < (y->bytes + CELL - 1) / CELL; j++) c[j] = op->out;
}

static void finish_op(machine *m, int32_t i)
{
    const berth_op *op = &m->p->ops[i];
    const berth_value *y = &m->p->values[op->out];
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *x = &m->p->values[op->in[k]];
        bool over = k == berth_op_infos[op->kind].inplace && in_memory(y) && in_memory(x) && x->device == y->device &&
                    x->offset == y->offset;
        if (!over) expect_holds(m, i, op->in[k]);
    }
    if (in_memory(y)) expect_holds(m, i, op->out);
    m->done[i] = true;
}

static bool may_start(const machine *m, int32_t i)
{
    const berth_op *op = &m->p->ops[i];
    for (int32_t k = 0; k < op->n_waits; k++)
        if (!m->done[m->p->waits[op->first_wait + k]]) return false;
    return true;
}

/* One random schedule: lanes in order, ops of different lanes at the same time wherever waits allow. */
static void run_schedule(machine *m, uint64_t *random)
{
    const berth_program *p = m->p;
    int32_t next[FIXTURE_DEVICES] = {0}, running[FIXTURE_DEVICES], left = p->n_ops, idle = 0;
    for (int d = 0; d < FIXTURE_DEVICES; d++) running[d] = -1;
    while (left > 0) {
        int32_t d = (int32_t)fixture_random(random, (uint32_t)p->n_devices);
        assert_true(++idle < 1 << 20);
        if (running[d] >= 0) {
            if (fixture_random(random, 3) == 0) continue; /* slow */
            finish_op(m, running[d]);
            running[d] = -1;
            left--;
            continue;
        }
        while (next[d] < p->n_ops && p->ops[next[d]].device != d) next[d]++;
        if (next[d] == p->n_ops || !may_start(m, next[d])) continue;
        running[d] = next[d]++;
        start_op(m, running[d]);
    }
}

/* Runs `p` once; true if every op read what it should. */
static bool schedule_is_right(const berth_program *p, uint64_t *random, char what[160])
{
    machine m = {.p = p};
    for (int d = 0; d <= FIXTURE_DEVICES; d++) {
        size_t bytes = d == FIXTURE_DEVICES ? p->host_bytes : d < p->n_devices ? p->regions[d].activations : 0;
        m.cells[d] = malloc((bytes / CELL + 1) * sizeof *m.cells[d]);
        memset(m.cells[d], 0xff, (bytes / CELL + 1) * sizeof *m.cells[d]);
    }
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == BERTH_VALUE_INPUT)
            for (size_t j = 0; j < (p->values[i].bytes + CELL - 1) / CELL; j++) cells_of(&m, &p->values[i])[j] = i;
    m.done = calloc((size_t)p->n_ops, 1);
    run_schedule(&m, random);
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].device == BERTH_DEVICE_HOST) expect_holds(&m, -1, i);
    for (int d = 0; d <= FIXTURE_DEVICES; d++) free(m.cells[d]);
    free(m.done);
    snprintf(what, 160, "%s", m.what);
    return !m.wrong;
}

static void schedules_are_right(const berth_program *p, uint64_t *random, tally *t)
{
    char what[160];
    for (int i = 0; i < 3; i++, t->schedules++)
        if (!schedule_is_right(p, random, what)) fail_msg("%s", what);
    if (p->n_waits == 0) return;
    berth_program *q = berth_program_copy(p); /* the test of the test: without waits it goes wrong */
    for (int32_t i = 0; i < q->n_ops; i++) q->ops[i].n_waits = 0;
    t->waitless++;
    t->seen += !schedule_is_right(q, random, what);
    berth_program_destroy(q);
}

/* ---- the campaign ----------------------------------------------------------------------------------------------- */

static void try_program(const berth_program *built, const berth_pass_env *env, uint64_t *random, bool mutate, tally *t)
{
    int32_t threads[FIXTURE_DEVICES] = {1, 1, 1, 1, 1, 1, 1, 1};
    berth_allot_options options = {
        .kernels = berth_kernels_ref(), .n_threads = threads, .keep_traced = fixture_random(random, 4) == 0};
    if (!built) return;
    berth_program *p = fixture_passes(built, env, &options);
    copies_are_single(p);
    vision_gets_its_pixels(p);
    features_cross_once(p);
    schedules_are_right(p, random, t);
    if (mutate) {
        every_dropped_copy_is_caught(p, env, t);
        every_dropped_wait_is_caught(p, env, t);
        every_move_is_caught(p, env, random, t);
    }
    berth_program_destroy(p);
    t->programs++;
}

static void random_placements(void **state)
{
    (void)state;
    uint64_t random = 20260101;
    tally t = {0};
    for (int m = 0; fixture_models[m]; m++) {
        for (int trace = 0; trace < 2; trace++) {
            berth_build_options options = small;
            options.trace = trace;
            fixture f;
            fixture_open(&f, fixture_models[m], &options);
            for (int i = 0; i < 48; i++) {
                static const uint32_t depths[] = {20, 60, 85, 100};
                f.in.n_devices = 1 + i % FIXTURE_DEVICES;
                berth_placement *p = fixture_placement(&f, &random, depths[i / FIXTURE_DEVICES % 4]);
                berth_pass_env env = fixture_env(&f, p);
                try_program(f.programs.encode, &env, &random, i % 3 == 0, &t);
                try_program(f.programs.step, &env, &random, i % 3 == 0, &t);
                berth_placement_destroy(p);
            }
            fixture_close(&f);
        }
    }
    print_message(
        "%d programs, %d schedules; caught: %d dropped copies, %d dropped waits, %d moved ops, %d moved values\n",
        t.programs, t.schedules, t.copies, t.waits, t.moved_ops, t.moved_values);
    print_message("without waits %d of %d programs went wrong in one random schedule\n", t.seen, t.waitless);
    assert_true(t.copies > 1000 && t.waits > 1000 && t.seen > t.waitless / 2);
}

/* The tower alone on the last device, the language model on the others. */
static void a_tower_on_a_device_without_layers_gets_its_pixels(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "ivl-native", &small);
    for (int32_t d = 0; d < FIXTURE_DEVICES; d++) {
        char map[256];
        berth_error err = {0};
        berth_placement *p;
        snprintf(map, sizeof map, "{\"\": %d, \"vision_tower\": %d}", (d + 1) % FIXTURE_DEVICES, d);
        if (berth_placement_from_map(map, strlen(map), "map", &f.in, &p, &err) != BERTH_OK) fail_msg("%s", err.message);
        berth_pass_env env = fixture_env(&f, p);
        berth_allot_options options = {.kernels = berth_kernels_ref()};
        berth_program *q = fixture_passes(f.programs.encode, &env, &options);
        vision_gets_its_pixels(q);
        for (int32_t i = 0; i < q->n_ops; i++)
            if (q->ops[i].kind == BERTH_OP_PATCHIFY) assert_int_equal(q->ops[i].device, d);
        berth_program_destroy(q);
        berth_placement_destroy(p);
    }
    fixture_close(&f);
}

/* ---- device maps between layouts -------------------------------------------------------------------------------- */

static berth_placement *from_map(const fixture *f, const char *map)
{
    berth_placement *p;
    berth_error err = {0};
    if (berth_placement_from_map(map, strlen(map), "map", &f->in, &p, &err) != BERTH_OK)
        fail_msg("%s: %s", map, err.message);
    return p;
}

/* Does the map put each parameter of one model where it puts the same parameter of the other? (Both have two vision
 * and three text layers.) */
static void expect_same_places(const fixture *a, const fixture *b, const char *map)
{
    berth_placement *p = from_map(a, map), *q = from_map(b, map);
    for (int32_t i = 0; i < berth_model_data_n_params(a->model); i++) {
        const berth_param *x = berth_model_data_param(a->model, i);
        int32_t k = berth_model_data_find(b->model, x->role, x->layer);
        if (k < 0) continue; /* a bias or norm that only one of them has */
        int32_t there = berth_placement_device(q, &b->in, 0, berth_model_data_param(b->model, k)->node, NULL);
        if (berth_placement_device(p, &a->in, 0, x->node, NULL) != there)
            fail_msg("%s: %s goes elsewhere", map, x->tensor);
    }
    berth_placement_destroy(p);
    berth_placement_destroy(q);
}

static void maps_of_one_layout_place_the_others(void **state)
{
    (void)state;
    static const char *const maps[] = {
        "{\"vision_model\": 1, \"mlp1\": 2, \"language_model\": 3}",
        "{\"vision_tower\": 1, \"multi_modal_projector\": 2, \"language_model\": 3, \"lm_head\": 4}",
        "{\"model\": 1, \"lm_head\": 4}",
        "{\"model\": 1, \"model.language_model.layers.1\": 3, \"lm_head\": 4}",
        "{\"\": 1, \"model.vision_tower.encoder.layer.1\": 2, \"model.language_model.norm\": 3, "
        "\"language_model.model.embed_tokens\": 4}",
        "{\"\": 1, \"vision_model.embeddings\": 2, \"vision_model.encoder.layers.0.norm1\": 3, \"mlp1.1\": 4, "
        "\"mlp1.2\": 5, \"language_model.lm_head\": 6}",
        "{\"\": 1, \"model.vision_tower.embeddings.patch_embeddings\": 2, "
        "\"model.vision_tower.encoder.layer.0.attention.projection_layer\": 3, "
        "\"model.vision_tower.encoder.layer.1.lambda_2\": 4, \"multi_modal_projector.linear_2\": 5, "
        "\"language_model.layers.2.mlp\": 6}",
    };
    fixture a, b;
    fixture_open(&a, "ivl-remote", &small);
    fixture_open(&b, "ivl-qwen3", &small);
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) expect_same_places(&a, &b, maps[i]);
    fixture_close(&a);
    fixture_close(&b);
}

/* ---- how much memory reuse saves -------------------------------------------------------------------------------- */

typedef struct footprint {
    size_t sum, live, region;
} footprint;

static footprint footprint_of(const berth_program *p, int32_t device)
{
    footprint f = {.region = p->regions[device].activations};
    int32_t *last = malloc((size_t)p->n_values * sizeof *last);
    for (int32_t i = 0; i < p->n_values; i++) last[i] = p->values[i].producer;
    for (int32_t i = 0; i < p->n_ops; i++)
        for (int32_t k = 0; k < p->ops[i].n_in; k++) last[p->ops[i].in[k]] = i;
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].device == device && p->values[i].producer >= 0) f.sum += p->values[i].bytes;
    for (int32_t at = 0; at < p->n_ops; at++) {
        size_t live = 0;
        for (int32_t i = 0; i < p->n_values; i++) {
            const berth_value *v = &p->values[i];
            bool made_here = v->producer == at, over = false;
            int32_t k = made_here ? berth_op_infos[p->ops[at].kind].inplace : -1; /* in place: counted at the operand */
            if (k >= 0)
                over = last[p->ops[at].in[k]] == at && p->values[p->ops[at].in[k]].kind == BERTH_VALUE_ACTIVATION;
            if (v->device == device && v->producer >= 0 && v->producer <= at && last[i] >= at && !over)
                live += v->bytes;
        }
        if (live > f.live) f.live = live;
    }
    free(last);
    return f;
}

static void reuse_comes_near_what_is_alive(void **state)
{
    (void)state;
    const berth_build_options large = {.max_tiles = 13, .max_tokens = 512, .max_seqs = 4};
    for (int m = 0; fixture_models[m]; m++) {
        fixture f;
        fixture_open(&f, fixture_models[m], &large);
        uint64_t random = 7;
        for (int32_t n = 1; n <= 4; n += 3) {
            f.in.n_devices = n;
            berth_placement *placement = fixture_placement(&f, &random, n == 1 ? 0 : 80);
            berth_pass_env env = fixture_env(&f, placement);
            berth_allot_options options = {0};
            for (int which = 0; which < 2; which++) {
                const berth_program *built = which ? f.programs.step : f.programs.encode;
                if (!built) continue;
                berth_program *p = fixture_passes(built, &env, &options);
                for (int32_t d = 0; d < n; d++) {
                    footprint x = footprint_of(p, d);
                    if (n == 1)
                        print_message("%-16s %-6s: sum %8zu, alive at once %8zu, region %8zu\n", fixture_models[m],
                                      p->name, x.sum, x.live, x.region);
                    assert_true(x.region <= x.sum + 64 * (size_t)p->n_values);
                    assert_true(x.region <= x.live + x.live / 5 + 4096);
                    assert_true(n > 1 || x.region * 2 < x.sum);
                }
                berth_program_destroy(p);
            }
            berth_placement_destroy(placement);
        }
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_placements),
        cmocka_unit_test(a_tower_on_a_device_without_layers_gets_its_pixels),
        cmocka_unit_test(maps_of_one_layout_place_the_others),
        cmocka_unit_test(reuse_comes_near_what_is_alive),
    };
    return cmocka_run_group_tests_name("placements of golden models", tests, NULL, NULL);
}
