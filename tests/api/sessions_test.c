/* sessions_test.c - a conversation says the same with a session as without, whatever was kept, given up, forked, saved
 * or rewound, and computes only what is new. */
#include "hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"

#define PICTURE(n) FIXTURE_MODELS "ivl-native/images/main-" #n ".png"

enum { MAX_TURNS = 16, N_NEW = 8 };

/* The same conversation told whole each time: what a session must agree with. */
typedef struct history {
    berth_turn turns[MAX_TURNS];
    berth_content contents[MAX_TURNS][2];
    char *answers[MAX_TURNS];
    int32_t n;
} history;

static void history_deinit(history *h)
{
    for (int32_t i = 0; i < h->n; i++) free(h->answers[i]);
}

/* A user's turn, with a picture when `picture`. */
static void say(history *h, const char *text, const char *picture)
{
    berth_content *c = h->contents[h->n];
    int32_t n = 0;
    if (picture != NULL) c[n++] = (berth_content){.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture};
    c[n++] = (berth_content){.kind = BERTH_CONTENT_TEXT, .data = text, .size = strlen(text)};
    h->answers[h->n] = NULL;
    h->turns[h->n++] = (berth_turn){.role = "user", .content = c, .n_content = n};
}

static void note_answer(history *h, const char *text)
{
    berth_content *c = h->contents[h->n];
    h->answers[h->n] = strdup(text);
    c[0] = (berth_content){.kind = BERTH_CONTENT_TEXT, .data = h->answers[h->n], .size = strlen(text)};
    h->turns[h->n++] = (berth_turn){.role = "assistant", .content = c, .n_content = 1};
}

static berth_request request_of(const berth_turn *turns, int32_t n, berth_session *s)
{
    berth_request r;
    berth_request_init(&r);
    r.turns = turns;
    r.n_turns = n;
    r.max_new_tokens = N_NEW;
    r.ignore_stop = 1;
    r.session = s;
    return r;
}

/* The newest turn on the session, and the whole on `plain`: the same tokens. Gives the tokens reused. */
static int32_t ask_both(berth_engine *plain, berth_engine *e, berth_session *s, history *h, berth_queue *q)
{
    berth_request whole = request_of(h->turns, h->n, NULL), last = request_of(&h->turns[h->n - 1], 1, s);
    whole.no_prefix_cache = 1;
    berth_result a = run_request(plain, &whole), b;
    berth_error err = {0};
    if (q != NULL) {
        uint64_t id;
        must(berth_engine_submit(e, &last, q, NULL, &id, &err), &err, "submit");
        berth_completion c = wait_end(q, id);
        must(c.status, c.error, "turn");
        b = *c.result;
        *c.result = (berth_result){.struct_size = sizeof b};
        berth_completion_deinit(&c);
    } else {
        b = run_request(e, &last);
    }
    assert_int_equal(a.n_prompt_tokens, b.n_prompt_tokens);
    assert_int_equal(a.n_tokens, b.n_tokens);
    assert_memory_equal(a.token_ids, b.token_ids, (size_t)a.n_tokens * sizeof(int32_t));
    assert_string_equal(a.text, b.text);
    note_answer(h, a.text);
    const int32_t n = b.n_reused_tokens;
    berth_result_deinit(&a);
    berth_result_deinit(&b);
    return n;
}

static berth_session *new_session(berth_engine *e)
{
    berth_session *s = NULL;
    berth_error err = {0};
    must(berth_session_create(e, &s, &err), &err, "session");
    return s;
}

static berth_session_info info_of(berth_session *s)
{
    berth_session_info info = {.struct_size = sizeof info};
    berth_error err = {0};
    must(berth_session_get_info(s, &info, &err), &err, "info");
    return info;
}

static const fixture_options options = {.model = "ivl-native", .context = 1024, .n_seqs = 3};

static void a_session_says_what_the_whole_conversation_says(void **state)
{
    (void)state;
    static const fixture_options engines[] = {
        {.model = "ivl-native", .context = 1024, .n_seqs = 3},
        {.model = "ivl-native", .context = 1024, .devices = "cpu*2", .strategy = "balanced"},
        {.model = "ivl-native", .context = 1024, .devices = "cpu*2", .strategy = "replicate"},
        {.model = "ivl-remote", .context = 1024},
        {.model = "qwen2-text", .context = 1024},
    };
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        fixture f = fixture_open(&engines[i]);
        berth_queue *q = NULL;
        berth_error err = {0};
        must(berth_queue_create(f.rt, &q, &err), &err, "queue");
        berth_session *s = new_session(f.engine);
        history h = {0};
        const bool sees = strcmp(engines[i].model, "qwen2-text") != 0;
        say(&h, "What is the total?", sees ? PICTURE(0) : NULL);
        ask_both(f.engine, f.engine, s, &h, NULL);
        say(&h, "And the date?", NULL);
        const int32_t second = ask_both(f.engine, f.engine, s, &h, q);
        say(&h, "And of this one?", sees ? PICTURE(1) : NULL);
        const int32_t third = ask_both(f.engine, f.engine, s, &h, NULL);
        say(&h, "Which is larger?", NULL);
        const int32_t fourth = ask_both(f.engine, f.engine, s, &h, q);
        assert_true(second >= 16 && third > second && fourth > third);
        const berth_session_info info = info_of(s);
        assert_int_equal(info.n_turns, 8);
        assert_int_equal(info.n_images, sees ? 2 : 0);
        assert_true(info.n_tokens > fourth && info.replica >= 0);
        for (int32_t t = 0; t < 8; t++) {
            char *role = NULL, *text = NULL, want[256];
            must(berth_session_get_turn(s, t, &role, &text, &err), &err, "turn");
            const berth_turn *told = &h.turns[t];
            snprintf(want, sizeof want, "%s%s", told->n_content == 2 ? "<image>" : "",
                     told->content[told->n_content - 1].data);
            assert_string_equal(role, told->role);
            assert_string_equal(text, want);
            berth_free(role);
            berth_free(text);
        }
        berth_session_destroy(s);
        berth_queue_destroy(q);
        history_deinit(&h);
        fixture_close(&f);
    }
}

static void an_edited_turn_reuses_what_came_before(void **state)
{
    (void)state;
    fixture f = fixture_open(&options);
    berth_session *s = new_session(f.engine);
    berth_error err = {0};
    history h = {0};
    say(&h, "What is the total?", PICTURE(0));
    ask_both(f.engine, f.engine, s, &h, NULL);
    say(&h, "And the date?", NULL);
    ask_both(f.engine, f.engine, s, &h, NULL);
    must(berth_session_rewind(s, 2, &err), &err, "rewind");
    free(h.answers[3]);
    h.n = 2;
    say(&h, "And the name of the shop?", NULL);
    assert_true(ask_both(f.engine, f.engine, s, &h, NULL) >= 16);
    must(berth_session_rewind(s, 0, &err), &err, "rewind");
    assert_int_equal(info_of(s).n_turns, 0);
    assert_int_equal(berth_session_rewind(s, 1, &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_session_rewind(s, -1, &err), BERTH_INVALID_ARGUMENT);
    berth_session_destroy(s);
    history_deinit(&h);
    fixture_close(&f);
}

/* More tokens than a KV block holds. */
static const char long_question[] = "Read the receipt from the top to the bottom, line by line, and then tell me what "
                                    "the total is, with the tax that was paid and the name of the shop.";

static void a_fork_goes_its_own_way(void **state)
{
    (void)state;
    fixture f = fixture_open(&options);
    berth_session *s = new_session(f.engine), *t = NULL;
    berth_error err = {0};
    history h = {0}, g = {0};
    say(&h, long_question, PICTURE(1));
    say(&g, long_question, PICTURE(1));
    ask_both(f.engine, f.engine, s, &h, NULL);
    note_answer(&g, h.answers[1]);
    must(berth_session_fork(s, &t, &err), &err, "fork");
    say(&h, "And the date?", NULL);
    say(&g, "Who sold it?", NULL);
    assert_true(ask_both(f.engine, f.engine, t, &g, NULL) >= 64);
    assert_true(ask_both(f.engine, f.engine, s, &h, NULL) >= 16);
    berth_session_destroy(s);
    say(&g, "And what?", NULL);
    ask_both(f.engine, f.engine, t, &g, NULL);
    berth_session_destroy(t);
    history_deinit(&h);
    history_deinit(&g);
    fixture_close(&f);
}

/* More idle sessions than the KV has room for: the oldest are given up, and say the same all the same. */
static void sessions_that_were_given_up_say_the_same(void **state)
{
    (void)state;
    enum { N = 12 };
    static const fixture_options small = {.model = "ivl-native", .context = 256, .n_seqs = 2};
    fixture f = fixture_open(&small);
    berth_session *s[N];
    static history h[N];
    memset(h, 0, sizeof h);
    static const char *const questions[] = {long_question, "Who sold it?", "And the date?"};
    int32_t n_given_up = 0;
    for (int32_t i = 0; i < N; i++) s[i] = new_session(f.engine);
    for (int32_t round = 0; round < 2; round++) {
        for (int32_t i = 0; i < N; i++) {
            say(&h[i], questions[(i + round) % 3], round == 0 ? (i % 2 ? PICTURE(0) : PICTURE(1)) : NULL);
            n_given_up += round == 1 && info_of(s[i]).n_tokens == 0;
            ask_both(f.engine, f.engine, s[i], &h[i], NULL);
        }
    }
    print_message("%d of %d were given up\n", (int)n_given_up, N);
    assert_true(n_given_up > 0);
    for (int32_t i = 0; i < N; i++) {
        berth_session_destroy(s[i]);
        history_deinit(&h[i]);
    }
    fixture_close(&f);
}

static void one_request_at_a_time(void **state)
{
    (void)state;
    static const fixture_options long_context = {.context = 4096};
    fixture f = hold_open(&long_context);
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_queue_create(f.rt, &q, &err), &err, "queue");
    berth_session *s = new_session(f.engine), *other = NULL;
    asking a;
    ask(&a, "What is the total?", 3000);
    a.request.session = s;
    a.request.quiet = 1;
    uint64_t id;
    hold(); /* the request is under way */
    must(berth_engine_submit(f.engine, &a.request, q, NULL, &id, &err), &err, "submit");
    await_running(&f, 1);
    assert_int_equal(berth_engine_submit(f.engine, &a.request, q, NULL, NULL, &err), BERTH_BUSY);
    berth_result r = {.struct_size = sizeof r};
    assert_int_equal(berth_engine_run(f.engine, &a.request, &r, &err), BERTH_BUSY);
    assert_int_equal(berth_session_fork(s, &other, &err), BERTH_BUSY);
    assert_int_equal(berth_session_rewind(s, 0, &err), BERTH_BUSY);
    assert_int_equal(berth_session_save(s, "/nowhere/at/all", &err), BERTH_BUSY);
    assert_int_equal(info_of(s).n_turns, 0);
    must(berth_engine_cancel(f.engine, id, &err), &err, "cancel");
    let_go();
    berth_completion c = wait_end(q, id);
    const bool began = c.result->n_tokens > 0;
    berth_completion_deinit(&c);
    assert_int_equal(info_of(s).n_turns, began ? 2 : 0); /* nothing of what ended before its first token */
    a.request.max_new_tokens = 3;
    must(berth_engine_submit(f.engine, &a.request, q, NULL, &id, &err), &err, "submit");
    berth_session_destroy(s); /* under its request, which goes on */
    c = wait_end(q, id);
    assert_int_equal(c.status, BERTH_OK);
    assert_int_equal(c.result->n_tokens, 3);
    berth_completion_deinit(&c);
    a.request.session = s; /* ended */
    assert_int_equal(berth_engine_submit(f.engine, &a.request, q, NULL, NULL, &err), BERTH_INVALID_ARGUMENT);
    s = new_session(f.engine);
    a.request.session = s;
    fixture second = fixture_open(NULL);
    assert_int_equal(berth_engine_run(second.engine, &a.request, &r, &err), BERTH_INVALID_ARGUMENT);
    fixture_close(&second);
    berth_engine_destroy(f.engine);
    f.engine = NULL;
    assert_int_equal(info_of(s).n_turns, 0);
    assert_int_equal(berth_session_fork(s, &other, &err), BERTH_INVALID_ARGUMENT);
    berth_session_destroy(s);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* What takes and leaves nothing for others, by the engine's or the request's word, still has its own session. */
static void a_session_keeps_its_own_without_a_prefix_cache(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        fixture_options o = options;
        o.engine.no_prefix_cache = way == 0;
        fixture f = fixture_open(&o), plain = fixture_open(&options);
        berth_session *s = new_session(f.engine);
        history h = {0};
        int32_t reused = 0;
        for (int turn = 0; turn < 3; turn++) {
            say(&h, long_question, turn == 0 ? PICTURE(1) : NULL);
            berth_request whole = request_of(h.turns, h.n, NULL), last = request_of(&h.turns[h.n - 1], 1, s);
            last.no_prefix_cache = way == 1;
            berth_result want = run_request(plain.engine, &whole), got = run_request(f.engine, &last);
            assert_memory_equal(got.token_ids, want.token_ids, (size_t)want.n_tokens * sizeof(int32_t));
            assert_true(turn == 0 ? got.n_reused_tokens == 0 : got.n_reused_tokens > reused + 32);
            reused = got.n_reused_tokens;
            note_answer(&h, got.text);
            berth_result_deinit(&want);
            berth_result_deinit(&got);
        }
        berth_request other = request_of(h.turns, 1, NULL);
        berth_result r = run_request(f.engine, &other); /* nothing was left to it */
        assert_int_equal(r.n_reused_tokens, 0);
        berth_result_deinit(&r);
        berth_session_destroy(s);
        history_deinit(&h);
        fixture_close(&f);
        fixture_close(&plain);
    }
}

/* A request that failed leaves the session as it was. */
static void a_failure_leaves_no_trace(void **state)
{
    (void)state;
    fixture f = fixture_open(&options);
    berth_session *s = new_session(f.engine);
    berth_error err = {0};
    history h = {0};
    say(&h, "What is the total?", PICTURE(0));
    ask_both(f.engine, f.engine, s, &h, NULL);
    asking bad;
    ask_picture(&bad, "/no/such/picture.png", "?", 4);
    bad.request.session = s;
    berth_result r = {.struct_size = sizeof r};
    assert_int_equal(berth_engine_run(f.engine, &bad.request, &r, &err), BERTH_NOT_FOUND);
    assert_int_equal(info_of(s).n_turns, 2);
    say(&h, "And the date?", NULL);
    assert_true(ask_both(f.engine, f.engine, s, &h, NULL) >= 16);
    berth_session_destroy(s);
    history_deinit(&h);
    fixture_close(&f);
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */

typedef struct saved {
    char path[64];
    history h;
    fixture f;
} saved;

/* A session of two turns with a picture, saved. */
static void make_saved(saved *v)
{
    memset(v, 0, sizeof *v);
    v->f = fixture_open(&options);
    berth_session *s = new_session(v->f.engine);
    berth_error err = {0};
    say(&v->h, "What is the total?", PICTURE(1));
    ask_both(v->f.engine, v->f.engine, s, &v->h, NULL);
    snprintf(v->path, sizeof v->path, "/tmp/berth-session-XXXXXX");
    const int fd = mkstemp(v->path);
    assert_true(fd >= 0);
    close(fd);
    must(berth_session_save(s, v->path, &err), &err, "save");
    berth_session_destroy(s);
}

static void drop_saved(saved *v)
{
    unlink(v->path);
    history_deinit(&v->h);
    fixture_close(&v->f);
}

static void a_saved_session_goes_on_under_any_plan(void **state)
{
    (void)state;
    static const fixture_options plans[] = {
        {.model = "ivl-native", .context = 1024},
        {.model = "ivl-native", .context = 512, .devices = "cpu*3", .strategy = "balanced"},
        {.model = "ivl-native", .context = 512, .devices = "cpu*2", .strategy = "replicate"},
    };
    static saved v;
    make_saved(&v);
    berth_error err = {0};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        fixture g = fixture_open(&plans[i]);
        berth_session *s = NULL;
        must(berth_session_load(g.engine, v.path, &s, &err), &err, "load");
        assert_int_equal(info_of(s).n_turns, 2);
        assert_int_equal(info_of(s).n_images, 1);
        say(&v.h, "And the date?", NULL);
        assert_true(ask_both(v.f.engine, g.engine, s, &v.h, NULL) >= 16);
        free(v.h.answers[3]);
        v.h.n = 2;
        berth_session_destroy(s);
        fixture_close(&g);
    }
    static const fixture_options others[] = {{.model = "ivl-remote", .context = 512}, {.model = "qwen2-text"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        fixture g = fixture_open(&others[i]);
        berth_session *s = NULL;
        assert_int_equal(berth_session_load(g.engine, v.path, &s, &err), BERTH_UNSUPPORTED);
        assert_null(s);
        fixture_close(&g);
    }
    berth_session *s = NULL;
    assert_int_equal(berth_session_load(v.f.engine, "/no/such/file", &s, &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_session_load(v.f.engine, FIXTURE_MODELS "ivl-native/config.json", &s, &err), BERTH_BAD_FILE);
    s = new_session(v.f.engine);
    assert_int_equal(berth_session_save(s, "/no/such/folder/file", &err), BERTH_NOT_FOUND);
    must(berth_session_save(s, v.path, &err), &err, "save an empty one");
    berth_session_destroy(s);
    must(berth_session_load(v.f.engine, v.path, &s, &err), &err, "load an empty one");
    assert_int_equal(info_of(s).n_turns, 0);
    berth_session_destroy(s);
    drop_saved(&v);
}

/* A conversation with a picture on an engine of its own, saved to `path` and given as bytes. */
static char *bytes_saved_by(const fixture_options *o, history *h, const char *path, size_t *out_n)
{
    fixture f = fixture_open(o);
    berth_session *s = new_session(f.engine);
    berth_error err = {0};
    char *bytes = NULL;
    say(h, long_question, PICTURE(1));
    ask_both(f.engine, f.engine, s, h, NULL);
    must(berth_session_save(s, path, &err), &err, "save");
    must(berth_file_read(path, 1 << 26, &bytes, out_n, &err), &err, "read");
    berth_session_destroy(s);
    fixture_close(&f);
    return bytes;
}

/* Where devices' memory is closed to the host, sessions are saved and loaded all the same, and it is closed again after. */
static void strict_engines_save_and_load(void **state)
{
    (void)state;
    static const fixture_options plain = {.model = "ivl-native", .context = 512};
    static const fixture_options stricts[] = {
        {.model = "ivl-native", .context = 512, .engine = {.strict = 1}},
        {.model = "ivl-native", .context = 512, .devices = "cpu*3", .strategy = "balanced", .engine = {.strict = 1}},
        {.model = "ivl-native", .context = 512, .devices = "cpu*2", .strategy = "replicate", .engine = {.strict = 1}},
    };
    char path[] = "/tmp/berth-session-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    size_t n = 0;
    history h = {0};
    char *want = bytes_saved_by(&plain, &h, path, &n);
    history_deinit(&h);
    berth_error err = {0};
    for (size_t i = 0; i < sizeof stricts / sizeof stricts[0]; i++) {
        size_t n_got = 0;
        h = (history){0};
        char *got = bytes_saved_by(&stricts[i], &h, path, &n_got);
        assert_int_equal(n_got, n);
        assert_memory_equal(got, want, n);
        free(got);
        fixture f = fixture_open(&stricts[i]), g = fixture_open(&plain);
        berth_session *s = NULL;
        must(berth_session_load(f.engine, path, &s, &err), &err, "load");
        say(&h, "And the date?", NULL);
        assert_true(ask_both(g.engine, f.engine, s, &h, NULL) >= 64); /* it goes on from the file's KV */
        say(&h, "Who sold it?", NULL);
        ask_both(g.engine, f.engine, s, &h, NULL);
        berth_session_destroy(s);
        history_deinit(&h);
        fixture_close(&f);
        fixture_close(&g);
    }
    free(want);
    unlink(path);
}

static void write_file(const char *path, const char *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* What a stranger may make of a file, with a hash that is right: it is refused, or it is a session that can be asked. */
static void hostile_files_are_refused_or_harmless(void **state)
{
    (void)state;
    enum { HASH = 32, N = 1500 };
    static saved v;
    make_saved(&v);
    berth_error err = {0};
    char *good = NULL;
    size_t n = 0;
    must(berth_file_read(v.path, 1 << 26, &good, &n, &err), &err, "read");
    char *bytes = malloc(n + 64);
    assert_non_null(bytes);
    uint32_t seed = 1;
    int32_t n_taken = 0, n_plain = 0;
    for (int32_t i = 0; i < N; i++) {
        size_t len = n;
        memcpy(bytes, good, n);
        for (int32_t k = 0; k <= i % 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            /* most of them where the structure is: before and behind the picture */
            size_t at = (seed >> 8) % (i % 4 == 0 ? n : 160);
            const uint32_t how = seed % 5, word = how == 0 ? 0xffffffffu : how == 1 ? 0x7fffffffu : seed;
            if (how < 3 && at + 4 <= n)
                memcpy(bytes + at, &word, 4);
            else
                bytes[at] = (char)(seed >> 24);
        }
        if (i % 7 == 0) len = (seed >> 4) % n;
        if (i % 2 == 0 && len > 48 + HASH) { /* size and hash made right again */
            const uint64_t size = len;
            if (i % 4 == 0) memcpy(bytes + 16, &size, sizeof size);
            berth_sha256(bytes, len - HASH, (uint8_t *)bytes + len - HASH);
        }
        write_file(v.path, bytes, len);
        berth_session *s = NULL;
        const berth_status st = berth_session_load(v.f.engine, v.path, &s, &err);
        if (st == BERTH_OK) {
            n_taken++;
            asking a;
            ask(&a, "And?", 2);
            a.request.session = s;
            berth_result r = {.struct_size = sizeof r};
            if (n_taken % 8 == 1) (void)berth_engine_run(v.f.engine, &a.request, &r, &err);
            berth_result_deinit(&r);
            berth_session_destroy(s);
        } else {
            n_plain += i % 2;
            assert_true(st == BERTH_BAD_FILE || st == BERTH_UNSUPPORTED || st == BERTH_NUMERIC);
            assert_null(s);
        }
    }
    print_message("%d of %d were taken\n", (int)n_taken, N);
    assert_int_equal(n_plain, N / 2); /* a hash that is wrong is always seen */
    assert_true(n_taken > 0);
    free(bytes);
    free(good);
    drop_saved(&v);
}

/* KV out of a file is believed for its own conversation only: what is computed behind it is nobody else's. */
static void false_kv_reaches_no_other_request(void **state)
{
    (void)state;
    enum { HASH = 32 };
    fixture f = fixture_open(&options), clean = fixture_open(&options);
    berth_session *s = new_session(clean.engine);
    berth_error err = {0};
    history h = {0};
    say(&h, long_question, PICTURE(1));
    ask_both(clean.engine, clean.engine, s, &h, NULL);
    char path[] = "/tmp/berth-session-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    must(berth_session_save(s, path, &err), &err, "save");
    const int32_t n_kept = info_of(s).n_tokens;
    berth_session_destroy(s);
    char *bytes = NULL;
    size_t n = 0;
    must(berth_file_read(path, 1 << 26, &bytes, &n, &err), &err, "read");
    berth_plan_device device = {.struct_size = sizeof device};
    must(berth_plan_get_device(berth_engine_plan(f.engine), 0, &device, &err), &err, "device");
    const size_t rows = (size_t)n_kept * device.kv_per_token; /* of all layers, at the end of the file */
    for (size_t at = n - HASH - rows + 16; at < n - HASH - rows + rows / 4; at += 4) /* of the first layer */
        memcpy(bytes + at, &(float){0.25f}, sizeof(float));
    assert_true(berth_sha256(bytes, n - HASH, (uint8_t *)bytes + n - HASH));
    write_file(path, bytes, n);
    must(berth_session_load(f.engine, path, &s, &err), &err, "load");
    say(&h, long_question, NULL);
    berth_request told = request_of(&h.turns[2], 1, s), whole = request_of(h.turns, 3, NULL);
    berth_result lie = run_request(f.engine, &told);
    assert_true(lie.n_reused_tokens >= 64); /* it did believe it */
    for (int32_t i = 0; i < 2; i++) {
        berth_result want = run_request(clean.engine, &whole), got = run_request(f.engine, &whole);
        assert_memory_equal(got.token_ids, want.token_ids, (size_t)want.n_tokens * sizeof(int32_t));
        assert_memory_not_equal(lie.token_ids, want.token_ids, (size_t)want.n_tokens * sizeof(int32_t));
        berth_result_deinit(&want);
        berth_result_deinit(&got);
    }
    berth_result_deinit(&lie);
    berth_session_destroy(s);
    free(bytes);
    unlink(path);
    history_deinit(&h);
    fixture_close(&f);
    fixture_close(&clean);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_says_what_the_whole_conversation_says),
        cmocka_unit_test(an_edited_turn_reuses_what_came_before),
        cmocka_unit_test(a_fork_goes_its_own_way),
        cmocka_unit_test(sessions_that_were_given_up_say_the_same),
        cmocka_unit_test(one_request_at_a_time),
        cmocka_unit_test(a_session_keeps_its_own_without_a_prefix_cache),
        cmocka_unit_test(a_failure_leaves_no_trace),
        cmocka_unit_test(a_saved_session_goes_on_under_any_plan),
        cmocka_unit_test(strict_engines_save_and_load),
        cmocka_unit_test(hostile_files_are_refused_or_harmless),
        cmocka_unit_test(false_kv_reaches_no_other_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
