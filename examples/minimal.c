/* minimal.c - a picture and a question in, the answer out.
 *
 *     cc minimal.c -o minimal $(pkg-config --cflags --libs berth)
 *     ./minimal MODEL_DIR receipt.png 'Extract the fields as JSON.' */
#include <berth/berth.h>

#include <stdio.h>
#include <string.h>

/* One user turn: the picture, then the question. */
static berth_status ask(berth_engine *engine, const char *picture, const char *question, berth_error *err)
{
    const berth_content content[] = {
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture},
        {.kind = BERTH_CONTENT_TEXT, .data = question, .size = strlen(question)},
    };
    const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
    berth_result result = {.struct_size = sizeof result};
    berth_request request;
    berth_request_init(&request);
    request.turns = &turn;
    request.n_turns = 1;
    berth_status st = berth_engine_run(engine, &request, &result, err);
    if (st == BERTH_OK) puts(result.text);
    berth_result_deinit(&result);
    return st;
}

int main(int argc, char **argv)
{
    berth_error err = {0};
    berth_runtime *rt = NULL;
    berth_model *model = NULL;
    berth_plan *plan = NULL;
    berth_engine *engine = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL_DIR PICTURE QUESTION\n", argv[0]);
        return 2;
    }
    /* Options may be NULL: all defaults, which is one CPU device. The engine takes the plan. */
    berth_status st = berth_runtime_create(NULL, &rt, &err);
    if (st == BERTH_OK) st = berth_model_open(rt, argv[1], NULL, &model, &err);
    if (st == BERTH_OK) st = berth_plan_create(model, NULL, &plan, &err);
    if (st == BERTH_OK) st = berth_engine_create(plan, NULL, &engine, &err);
    if (st == BERTH_OK) st = ask(engine, argv[2], argv[3], &err);
    if (st != BERTH_OK) fprintf(stderr, "%s: %s\n", berth_status_name(st), err.message);
    berth_engine_destroy(engine);
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return st == BERTH_OK ? 0 : 1;
}
