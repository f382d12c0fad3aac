/* stream.c - the answer as it is made, stopped by Ctrl-C, with what each part of it took.
 *
 *     cc stream.c -o stream $(pkg-config --cflags --libs berth)
 *     ./stream MODEL_DIR receipt.png 'Read all the text.' 'cpu*4' balanced
 *
 * Shows the token callback, cancelling from a signal handler, logging, and the numbers that come with a result. Text goes to
 * standard output, everything else to standard error. */
#include <berth/berth.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* berth reads it between two steps; a signal handler may set it, as another thread may. */
static volatile int stop;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    stop = 1;
}

static void on_log(void *user, berth_log_level level, const char *message)
{
    (void)user;
    if (level >= BERTH_LOG_WARNING) fprintf(stderr, "berth: %s\n", message);
}

/* Called on the thread that runs the request. `text` is complete UTF-8 and may be empty. */
static int32_t on_token(void *user, const berth_token *token)
{
    int32_t *n_seen = user;
    *n_seen = token->index + 1;
    fwrite(token->text, 1, token->text_size, stdout);
    fflush(stdout);
    return !ferror(stdout); /* nobody reads any more: stop */
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void tell(const berth_result *r, int32_t n_seen)
{
    const berth_timings *t = &r->timings;
    fprintf(stderr, "\nended by %s; %" PRId32 " tokens seen of %" PRId32 ", prompt of %" PRId32 ", %" PRId32 " tiles\n",
            r->finish_reason, n_seen, r->n_tokens, r->n_prompt_tokens, r->n_tiles);
    fprintf(stderr,
            "ms: picture %.2f, prompt text %.2f, encode %.2f, prefill %.2f, first token %.2f, decode %.2f, all %.2f\n",
            ms(t->image_ns), ms(t->tokenize_ns), ms(t->encode_ns), ms(t->prefill_ns), ms(t->first_token_ns),
            ms(t->decode_ns), ms(t->total_ns));
}

static berth_status answer(berth_engine *engine, const char *picture, const char *question, berth_error *err)
{
    const berth_content content[] = {
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture},
        {.kind = BERTH_CONTENT_TEXT, .data = question, .size = strlen(question)},
    };
    const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
    int32_t n_seen = 0;
    berth_result result = {.struct_size = sizeof result};
    berth_request request;
    berth_request_init(&request);
    request.turns = &turn;
    request.n_turns = 1;
    request.on_token = on_token;
    request.on_token_user = &n_seen;
    request.cancel = &stop;
    berth_status st = berth_engine_run(engine, &request, &result, err);
    if (st == BERTH_OK) tell(&result, n_seen); /* a stopped request is no failure: its end says "cancelled" */
    berth_result_deinit(&result);
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: %s MODEL_DIR PICTURE QUESTION [DEVICES [STRATEGY]]\n", argv[0]);
        return 2;
    }
    berth_error err = {0};
    berth_runtime *rt = NULL;
    berth_model *model = NULL;
    berth_plan *plan = NULL;
    berth_engine *engine = NULL;
    const berth_runtime_options runtime_options = {.struct_size = sizeof runtime_options, .log = on_log};
    const berth_plan_options plan_options = {.struct_size = sizeof plan_options,
                                             .devices = argc > 4 ? argv[4] : NULL,
                                             .strategy = argc > 5 ? argv[5] : NULL};
    signal(SIGINT, on_interrupt); /* berth itself takes no signal */
    berth_status st = berth_runtime_create(&runtime_options, &rt, &err);
    if (st == BERTH_OK) st = berth_model_open(rt, argv[1], NULL, &model, &err);
    if (st == BERTH_OK) st = berth_plan_create(model, &plan_options, &plan, &err);
    if (st == BERTH_OK) st = berth_engine_create(plan, NULL, &engine, &err);
    if (st == BERTH_OK) st = answer(engine, argv[2], argv[3], &err);
    if (st != BERTH_OK) fprintf(stderr, "%s: %s\n", berth_status_name(st), err.message);
    berth_engine_destroy(engine);
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return st == BERTH_OK ? 0 : 1;
}
