/* requests_test.c - requests by blocking call, by callback and by queue: they say the same, and each ends once. How they
 * end is in endings_test.c. */
#include "heard.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "image/image.h"

#define PICTURE FIXTURE_MODELS "ivl-native/images/main-1.png"

/* ---- the three ways -------------------------------------------------------------------------------------------------- */

static void hear_queue(berth_queue *q, heard *h, uint64_t id)
{
    berth_error err = {0};
    while (atomic_load(&h->n_ends) == 0) {
        berth_completion c = {.struct_size = sizeof c};
        must(berth_queue_next(q, -1, &c, &err), &err, "next");
        assert_true(c.id == id);
        assert_ptr_equal(c.user, h);
        if (c.kind == BERTH_COMPLETION_TOKEN) hear_token(h, &c.token);
        if (c.kind == BERTH_COMPLETION_END) hear_end(h, c.status, c.result);
        berth_completion_deinit(&c);
        assert_null(c.memory);
    }
}

static void expect_same(const heard *h, const berth_result *r, const char *way)
{
    if (h->status != BERTH_OK || h->n_ids != r->n_tokens || strcmp(h->end_text, r->text) != 0 || !h->in_order)
        fail_msg("%s: %s, %d tokens for %d: \"%s\" for \"%s\"", way, berth_status_name(h->status), (int)h->n_ids,
                 (int)r->n_tokens, h->end_text, r->text);
    assert_memory_equal(h->ids, r->token_ids, (size_t)r->n_tokens * sizeof h->ids[0]);
    assert_int_equal(strncmp(h->text, r->text, h->n_text), 0); /* what is held back comes with the end only */
    assert_int_equal(h->end_tokens, r->n_tokens);
    assert_string_equal(h->finish, r->finish_reason);
}

static void three_ways_say_the_same(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen2-text", "ivl-native", "ivl-remote"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        const fixture_options o = {.model = models[m], .devices = "cpu*2"};
        fixture f = fixture_open(&o);
        berth_queue *q = new_queue(&f);
        asking a;
        if (m == 0)
            ask(&a, "What is the total?", 24);
        else
            ask_picture(&a, PICTURE, "What is the total?", 24);
        a.request.logprobs = 1;
        berth_result r = run_request(f.engine, &a.request);
        assert_int_equal(r.n_tokens, 24);
        static heard blocked, back, queued;
        memset(&blocked, 0, sizeof blocked);
        memset(&back, 0, sizeof back);
        memset(&queued, 0, sizeof queued);
        a.request.on_token = on_token;
        a.request.on_token_user = &blocked;
        berth_result again = run_request(f.engine, &a.request);
        hear_end(&blocked, BERTH_OK, &again);
        start(&f, &a, &back);
        await_end(&back);
        hear_queue(q, &queued, submit(&f, &a, q, &queued));
        expect_same(&blocked, &r, "blocked");
        expect_same(&back, &r, "callback");
        expect_same(&queued, &r, "queue");
        for (int32_t i = 0; i < r.n_tokens; i++) {
            assert_true(queued.logprobs[i] < 0 && queued.logprobs[i] > -7); /* the most likely of some 500 */
            assert_true(queued.logprobs[i] == blocked.logprobs[i] && back.logprobs[i] == blocked.logprobs[i]);
        }
        berth_result_deinit(&r);
        berth_result_deinit(&again);
        berth_queue_destroy(q);
        fixture_close(&f);
    }
}

static void a_picture_is_the_same_from_file_bytes_and_pixels(void **state)
{
    (void)state;
    const fixture_options o = {.model = "ivl-native"};
    fixture f = fixture_open(&o);
    asking a;
    ask_picture(&a, PICTURE, "What is the total?", 12);
    berth_result of_file = run_request(f.engine, &a.request);
    static char bytes[1 << 16];
    FILE *file = fopen(PICTURE, "rb");
    assert_non_null(file);
    const size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    a.content[0] = (berth_content){.kind = BERTH_CONTENT_IMAGE_BYTES, .data = bytes, .size = n};
    berth_result of_bytes = run_request(f.engine, &a.request);
    berth_image img = {0};
    berth_error err = {0};
    must(berth_image_load(PICTURE, NULL, &img, &err), &err, "picture");
    a.content[0] = (berth_content){.kind = BERTH_CONTENT_PIXELS,
                                   .data = (const char *)img.rgb,
                                   .size = (size_t)img.width * (size_t)img.height * 3,
                                   .width = img.width,
                                   .height = img.height};
    berth_result of_pixels = run_request(f.engine, &a.request);
    assert_int_equal(of_file.n_tokens, 12);
    assert_memory_equal(of_bytes.token_ids, of_file.token_ids, 12 * sizeof(int32_t));
    assert_memory_equal(of_pixels.token_ids, of_file.token_ids, 12 * sizeof(int32_t));
    a.content[0].height++;
    berth_result refused = {.struct_size = sizeof refused};
    assert_int_equal(berth_engine_run(f.engine, &a.request, &refused, &err), BERTH_INVALID_ARGUMENT);
    berth_image_deinit(&img);
    berth_result_deinit(&of_file);
    berth_result_deinit(&of_bytes);
    berth_result_deinit(&of_pixels);
    fixture_close(&f);
}

/* The stages of a picture's request: each has taken time, and parts lie within their wholes. */
static void stages_are_timed_apart(void **state)
{
    (void)state;
    static const fixture_options engines[] = {
        {.model = "ivl-native"},
        {.model = "ivl-remote", .devices = "cpu*3", .strategy = "balanced"},
        {.model = "ivl-native", .devices = "cpu*2", .strategy = "replicate"},
        {.model = "ivl-native", .engine = {.strict = 1}},
    };
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        fixture f = fixture_open(&engines[i]);
        asking a;
        ask_picture(&a, PICTURE, "What is the total?", 3);
        a.request.no_prefix_cache = 1;
        berth_result r = run_request(f.engine, &a.request);
        const berth_timings *t = &r.timings;
        assert_true(r.decode_image_ns > 0 && r.tiles_ns > 0 && r.decode_image_ns + r.tiles_ns <= t->image_ns);
        assert_true(r.project_ns > 0 && r.project_ns < t->encode_ns);
        assert_true(t->image_ns + t->tokenize_ns + t->encode_ns + t->prefill_ns + t->decode_ns <= t->total_ns);
        berth_result_deinit(&r);
        ask(&a, "What is the total?", 3);
        r = run_request(f.engine, &a.request);
        assert_true(r.decode_image_ns == 0 && r.tiles_ns == 0 && r.project_ns == 0 && r.timings.prefill_ns > 0);
        berth_result_deinit(&r);
        fixture_close(&f);
    }
}

/* What is submitted is copied: the caller's memory may change at once. */
static void submitting_copies_the_request(void **state)
{
    (void)state;
    const fixture_options o = {.model = "ivl-native"};
    fixture f = fixture_open(&o);
    berth_queue *q = new_queue(&f);
    asking a;
    char text[] = "What is the total?", role[] = "user", path[512];
    snprintf(path, sizeof path, "%s", PICTURE);
    ask_picture(&a, path, text, 8);
    berth_result r = run_request(f.engine, &a.request);
    a.turn.role = role;
    const uint64_t id = submit(&f, &a, q, NULL);
    memset(text, 'x', sizeof text);
    memset(role, 'x', sizeof role);
    memset(path, 'x', sizeof path);
    memset(&a, 0xff, sizeof a);
    berth_completion c = wait_end(q, id);
    assert_int_equal(c.status, BERTH_OK);
    assert_string_equal(c.result->text, r.text);
    berth_completion_deinit(&c);
    berth_result_deinit(&r);
    berth_queue_destroy(q);
    fixture_close(&f);
}

static void errors_of_preparing_come_with_the_end(void **state)
{
    (void)state;
    const fixture_options o = {.model = "ivl-native"};
    fixture f = fixture_open(&o);
    berth_queue *q = new_queue(&f);
    asking a;
    ask_picture(&a, "/no/such/picture.png", "?", 4);
    berth_completion c = wait_end(q, submit(&f, &a, q, NULL));
    assert_int_equal(c.status, BERTH_NOT_FOUND);
    assert_int_equal(c.error->status, BERTH_NOT_FOUND);
    assert_non_null(strstr(c.error->message, "picture.png"));
    assert_null(c.result);
    berth_completion_deinit(&c);
    static char long_text[4096];
    memset(long_text, 'y', sizeof long_text - 1);
    ask(&a, long_text, 4);
    c = wait_end(q, submit(&f, &a, q, NULL));
    assert_int_equal(c.status, BERTH_INVALID_ARGUMENT); /* over the context */
    berth_completion_deinit(&c);
    ask(&a, "What is the total?", 4); /* and the places in the queue are there again */
    berth_result r = run_request(f.engine, &a.request);
    assert_int_equal(r.n_tokens, 4);
    berth_result_deinit(&r);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* ---- the descriptor -------------------------------------------------------------------------------------------------- */

static void an_epoll_loop_gets_everything(void **state)
{
    (void)state;
    enum { N = 24 };
    fixture f = fixture_open(NULL);
    berth_queue *q = new_queue(&f);
    berth_error err = {0};
    assert_false(is_readable(q));
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, berth_queue_descriptor(q), &event), 0);
    static heard all[N];
    memset(all, 0, sizeof all);
    asking a;
    ask(&a, "What is the total?", 10);
    for (int i = 0; i < N; i++) submit(&f, &a, q, &all[i]);
    for (int n_over = 0; n_over < N;) {
        assert_int_equal(epoll_wait(epoll, &event, 1, -1), 1);
        for (;;) {
            berth_completion c = {.struct_size = sizeof c};
            must(berth_queue_next(q, 0, &c, &err), &err, "next");
            if (c.kind == BERTH_COMPLETION_NONE) break;
            if (c.kind == BERTH_COMPLETION_TOKEN) hear_token(c.user, &c.token);
            if (c.kind == BERTH_COMPLETION_END) {
                hear_end(c.user, c.status, c.result);
                n_over++;
            }
            berth_completion_deinit(&c);
        }
    }
    assert_false(is_readable(q));
    for (int i = 0; i < N; i++) {
        assert_true(all[i].in_order);
        assert_int_equal(all[i].n_ids, 10);
        assert_int_equal(atomic_load(&all[i].n_ends), 1);
        assert_string_equal(all[i].end_text, all[0].end_text);
    }
    close(epoll);
    berth_queue_destroy(q);
    fixture_close(&f);
}

static void next_waits_no_longer_than_asked(void **state)
{
    (void)state;
    fixture f = fixture_open(NULL);
    berth_queue *q = new_queue(&f);
    berth_error err = {0};
    for (int64_t ms = 0; ms <= 20; ms += 10) {
        berth_completion c = {.struct_size = sizeof c};
        must(berth_queue_next(q, ms, &c, &err), &err, "next");
        assert_int_equal(c.kind, BERTH_COMPLETION_NONE);
    }
    asking a;
    ask(&a, "What is the total?", 5);
    a.request.quiet = 1;
    const uint64_t id = submit(&f, &a, q, NULL);
    berth_completion c = {.struct_size = sizeof c};
    must(berth_queue_next(q, -1, &c, &err), &err, "next");
    assert_int_equal(c.kind, BERTH_COMPLETION_END); /* quiet: no tokens before it */
    assert_true(c.id == id);
    assert_int_equal(c.result->n_tokens, 5);
    berth_completion_deinit(&c);
    berth_queue_destroy(q);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_ways_say_the_same),
        cmocka_unit_test(a_picture_is_the_same_from_file_bytes_and_pixels),
        cmocka_unit_test(stages_are_timed_apart),
        cmocka_unit_test(submitting_copies_the_request),
        cmocka_unit_test(errors_of_preparing_come_with_the_end),
        cmocka_unit_test(an_epoll_loop_gets_everything),
        cmocka_unit_test(next_waits_no_longer_than_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
