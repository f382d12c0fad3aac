/* embed_example.c - the smallest program that embeds berth: what an installation must be able to build. Shows where a
 * model would live, without loading it. */
#include <berth/berth.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    berth_error err = {0};
    berth_runtime *rt = NULL;
    berth_model *model = NULL;
    berth_plan *plan = NULL;
    const berth_runtime_options runtime_options = {.struct_size = sizeof runtime_options};
    const berth_model_options model_options = {.struct_size = sizeof model_options, .allow_missing_weights = 1};
    const berth_plan_options plan_options = {
        .struct_size = sizeof plan_options, .devices = "cpu*2", .strategy = "balanced"};
    berth_status st = berth_runtime_create(&runtime_options, &rt, &err);
    if (st == BERTH_OK) st = berth_model_open(rt, argc > 1 ? argv[1] : ".", &model_options, &model, &err);
    if (st == BERTH_OK) st = berth_plan_create(model, &plan_options, &plan, &err);
    if (st != BERTH_OK) {
        fprintf(stderr, "%s: %s\n", berth_status_name(st), err.message);
    } else {
        printf("berth %s: %d modules on %d devices by %s\n", berth_version(), (int)berth_plan_n_modules(plan),
               (int)berth_plan_n_devices(plan), berth_plan_strategy(plan));
    }
    berth_plan_destroy(plan);
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return st == BERTH_OK ? 0 : 1;
}
