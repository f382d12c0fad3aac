#include "arch/arch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "program/placement_internal.h"

const char *const fixture_models[] = {"ivl-native", "ivl-remote", "ivl-remote-6b", "ivl-rms-qknorm",
                                      "ivl-tied",   "ivl-qwen3",  "qwen2-text",    NULL};

void fixture_open(fixture *f, const char *model, const berth_build_options *options)
{
    static const char *const names[FIXTURE_DEVICES] = {"cpu:0", "cpu:1", "cpu:2", "cpu:3",
                                                       "cpu:4", "cpu:5", "cpu:6", "cpu:7"};
    char dir[512];
    berth_error err = {0};
    memset(f, 0, sizeof *f);
    snprintf(dir, sizeof dir, BERTH_SOURCE_DIR "/tests/golden/models/%s", model);
    if (berth_model_data_open(dir, NULL, &f->model, &err) != BERTH_OK) fail_msg("%s: %s", model, err.message);
    if (berth_arch_build(f->model, options, &f->programs, &err) != BERTH_OK) fail_msg("%s: %s", model, err.message);
    for (int i = 0; i < FIXTURE_DEVICES; i++) {
        f->names[i] = names[i];
        f->devices[i] = (berth_device_view){.name = names[i], .budget_bytes = UINT64_C(1) << 40, .physical = i};
    }
    f->in = (berth_strategy_input){.struct_size = sizeof f->in,
                                   .nodes = berth_model_data_nodes(f->model),
                                   .node_size = sizeof(berth_node_view),
                                   .n_nodes = berth_model_data_n_nodes(f->model),
                                   .devices = f->devices,
                                   .device_size = sizeof f->devices[0],
                                   .n_devices = FIXTURE_DEVICES,
                                   .context_tokens = 64,
                                   .max_tiles = 4};
}

void fixture_close(fixture *f)
{
    berth_programs_deinit(&f->programs);
    berth_model_data_release(f->model);
}

berth_pass_env fixture_env(const fixture *f, const berth_placement *placement)
{
    return (berth_pass_env){.nodes = f->in.nodes,
                            .n_nodes = f->in.n_nodes,
                            .n_devices = f->in.n_devices,
                            .device_names = f->names,
                            .placement = placement};
}

berth_program *fixture_passes(const berth_program *built, const berth_pass_env *env, const berth_allot_options *options)
{
    berth_error err = {0};
    berth_program *p = berth_program_copy(built);
    assert_non_null(p);
    if (berth_place(p, env, &err) != BERTH_OK) fail_msg("place: %s", err.message);
    if (berth_route(p, env, &err) != BERTH_OK) fail_msg("route: %s", err.message);
    if (berth_check(p, env, &err) != BERTH_OK) fail_msg("check: %s", err.message);
    if (berth_allot(p, options, &err) != BERTH_OK) fail_msg("allot: %s", err.message);
    if (berth_check(p, env, &err) != BERTH_OK) fail_msg("check after allot: %s", err.message);
    if (berth_check_memory(p, env, &err) != BERTH_OK) fail_msg("check_memory: %s", err.message);
    return p;
}

uint32_t fixture_random(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % n);
}

static bool is_layer_scale(const char *path)
{
    const char *leaf = strrchr(path, '.');
    return leaf && (strncmp(leaf, ".ls", 3) == 0 || strncmp(leaf, ".lambda_", 8) == 0);
}

berth_placement *fixture_placement(const fixture *f, uint64_t *random, uint32_t depth)
{
    berth_placement *p;
    berth_error err = {0};
    if (berth_placement_create(&f->in, 1, &p, &err) != BERTH_OK) fail_msg("%s", err.message);
    snprintf(p->strategy, sizeof p->strategy, "random");
    uint32_t n = (uint32_t)f->in.n_devices;
    for (int32_t i = 0; i < f->in.n_nodes;) {
        const berth_node_view *node = berth_node_at(&f->in, i);
        bool descend =
            !(node->flags & BERTH_NODE_TENSOR) && node->n_descendants > 0 && fixture_random(random, 100) < depth;
        int32_t end = i + 1 + node->n_descendants;
        int32_t own = (int32_t)fixture_random(random, n);
        if (!descend) {
            p->device_of[i] = own;
            i = end;
            continue;
        }
        /* tensors of its own are read by one op, and stay together; but for layer scales */
        for (int32_t k = i + 1; k < end; k += 1 + berth_node_at(&f->in, k)->n_descendants) {
            const berth_node_view *child = berth_node_at(&f->in, k);
            if (child->flags & BERTH_NODE_TENSOR)
                p->device_of[k] = is_layer_scale(child->path) ? (int32_t)fixture_random(random, n) : own;
        }
        i++;
        while (i < end && berth_node_at(&f->in, i)->flags & BERTH_NODE_TENSOR) i++;
    }
    return p;
}
