/* bytes_test.c - what crosses to and from a child process: requests mean the same at another address, and no bytes make
 * either end read outside of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "plugin/plugin_internal.h"
#include "small_model.h"
#include "tests/random.h"

static uint64_t seed = 0x9E3779B97F4A7C15u;

static uint32_t below(uint32_t n)
{
    return test_random_below(&seed, n);
}

/* ---- requests ---- */

static berth_flat *request(size_t *out_size)
{
    berth_strategy_input in = small_input();
    berth_flat *f;
    berth_error err;
    in.argument = "an argument";
    assert_int_equal(berth_flat_make(&in, BERTH_PLUGIN_PLACE, &f, &err), BERTH_OK);
    *out_size = (size_t)f->size;
    return f;
}

static void *moved(const void *block, size_t size) /* exactly as large, so that a sanitizer sees its end */
{
    void *to = malloc(size ? size : 1);
    assert_non_null(to);
    memcpy(to, block, size);
    return to;
}

static void requests_mean_the_same_elsewhere(void **state)
{
    (void)state;
    size_t size;
    berth_flat *made = request(&size), *f = moved(made, size);
    free(made);
    assert_true(berth_flat_resolve(f, size));
    const berth_strategy_input was = small_input(), *in = &f->in;
    assert_int_equal(in->n_nodes, was.n_nodes);
    assert_int_equal(in->context_tokens, was.context_tokens);
    assert_string_equal(in->argument, "an argument");
    for (int32_t i = 0; i < was.n_nodes; i++) {
        const berth_node_view *a = berth_node_at(&was, i), *b = berth_node_at(in, i);
        assert_string_equal(a->path, b->path);
        assert_string_equal(a->class_name, b->class_name);
        assert_true((const char *)b->path > (const char *)f && (const char *)b->path < (const char *)f + size);
        assert_memory_equal(&a->parent, &b->parent, sizeof *a - offsetof(berth_node_view, parent));
    }
    for (int32_t d = 0; d < was.n_devices; d++) {
        assert_string_equal(berth_device_at(&was, d)->name, berth_device_at(in, d)->name);
        assert_int_equal(berth_device_at(&was, d)->budget_bytes, berth_device_at(in, d)->budget_bytes);
    }
    assert_memory_equal(in->links, was.links, 2 * sizeof(berth_link_view));
    free(f);
}

/* Uses all that a resolved block points to. */
static size_t read_through(const berth_flat *f)
{
    size_t sum = 0;
    const berth_strategy_input *in = &f->in;
    if (f->what != BERTH_PLUGIN_PLACE) return 0;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *v = berth_node_at(in, i);
        sum += v->weight_bytes + (v->path ? strlen(v->path) : 0) + (v->class_name ? strlen(v->class_name) : 0);
    }
    for (int32_t d = 0; d < in->n_devices; d++)
        sum += berth_device_at(in, d)->name ? strlen(berth_device_at(in, d)->name) : 0;
    for (int32_t k = 0; k < in->n_links; k++) sum += (size_t)berth_link_at(in, k)->to;
    return sum + (in->argument ? strlen(in->argument) : 0);
}

static void no_request_is_read_outside_of_itself(void **state)
{
    (void)state;
    size_t size, sum = 0;
    int n_resolved = 0, n_refused = 0;
    berth_flat *made = request(&size);
    for (int i = 0; i < 20000; i++) {
        size_t n = below(4) ? size : below((uint32_t)size + 1);
        unsigned char *block = moved(made, n);
        for (uint32_t k = below(4); k > 0 && n > 0; k--) {
            size_t at = below(3) ? below((uint32_t)n) : sizeof(berth_flat) / 4 + below((uint32_t)sizeof(berth_flat));
            if (at < n) block[at] = below(2) ? (unsigned char)below(256) : (unsigned char)(block[at] + 1);
        }
        bool ok = berth_flat_resolve(block, n);
        if (ok) sum += read_through((const berth_flat *)(const void *)block);
        ok ? n_resolved++ : n_refused++;
        free(block);
    }
    free(made);
    assert_true(n_resolved > 1000 && n_refused > 1000 && sum > 0);
}

/* Its own program of another version, or anything else on its descriptor 3. */
static void the_host_refuses_requests_that_are_not_its_own(void **state)
{
    (void)state;
    size_t size;
    berth_flat *made = request(&size);
    for (int i = 0; i < 4; i++) {
        unsigned char *block = moved(made, size);
        if (i == 1) block[0]++;
        if (i == 2) block[offsetof(berth_flat, build)]++;
        if (i == 3) block[size - 1] = 1;
        berth_buffer reply = {0};
        berth_child_end end;
        berth_error err;
        assert_int_equal(
            berth_child_run(STRATEGY_HOST, PLUGIN_DIR "/good.so", block, size, 1 << 20, 600000, &reply, &end, &err),
            BERTH_OK);
        berth_reply r;
        berth_reply_read(reply.data, reply.len, &r);
        assert_int_equal(r.is_whole, i == 0);
        if (i > 0) assert_int_equal(WEXITSTATUS(end.wait_status), BERTH_HOST_NO_REQUEST);
        berth_buffer_deinit(&reply);
        free(block);
    }
    free(made);
}

/* ---- replies ---- */

static size_t add(char *bytes, size_t n, uint32_t kind, const void *data, size_t size)
{
    const berth_reply_head head = {.magic = BERTH_REPLY_MAGIC, .kind = kind, .size = size};
    memcpy(bytes + n, &head, sizeof head);
    if (size > 0) memcpy(bytes + n + sizeof head, data, size);
    return n + sizeof head + size;
}

static size_t whole_reply(char *bytes)
{
    static const berth_plugin_words words = {.name = "name"};
    static const int32_t phase = BERTH_PLUGIN_PLACING;
    static char answer[sizeof(int32_t) + BERTH_PLUGIN_NOTE_SIZE + SMALL_NODES * sizeof(int32_t)] = {1};
    size_t n = add(bytes, 0, BERTH_REPLY_WORDS, &words, sizeof words);
    n = add(bytes, n, BERTH_REPLY_PHASE, &phase, sizeof phase);
    return add(bytes, n, BERTH_REPLY_PLACED, answer, sizeof answer);
}

static void a_reply_is_whole_at_its_last_byte_only(void **state)
{
    (void)state;
    static char bytes[4096];
    size_t n = whole_reply(bytes);
    for (size_t cut = 0; cut < n; cut++) {
        char *part = moved(bytes, cut);
        berth_reply r;
        berth_reply_read(part, cut, &r);
        assert_false(r.is_whole || r.is_garbage);
        free(part);
    }
    berth_reply r;
    berth_reply_read(bytes, n, &r);
    assert_true(r.is_whole && !r.is_garbage && r.kind == BERTH_REPLY_PLACED && r.phase == BERTH_PLUGIN_PLACING);
    assert_string_equal(r.words, "name");
}

static void records_that_cannot_be_are_garbage(void **state)
{
    (void)state;
    static const struct {
        uint32_t kind;
        size_t size;
    } wrong[] = {{0, 0},
                 {99, 4},
                 {BERTH_REPLY_PHASE, 0},
                 {BERTH_REPLY_PHASE, 8},
                 {BERTH_REPLY_FAILED, 4},
                 {BERTH_REPLY_FAILED, 4 + BERTH_ERROR_MESSAGE_SIZE + 1},
                 {BERTH_REPLY_WORDS, 1},
                 {BERTH_REPLY_PLACED, 4},
                 {BERTH_REPLY_PLACED, 4 + BERTH_PLUGIN_NOTE_SIZE + 3},
                 {BERTH_REPLY_INPUTS, 1},
                 {BERTH_REPLY_DONE, 1}};
    static char bytes[8192], zeros[4096];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        berth_reply r;
        berth_reply_read(bytes, add(bytes, 0, wrong[i].kind, zeros, wrong[i].size), &r);
        if (!r.is_garbage || r.is_whole) fail_msg("record %zu", i);
    }
    static const int32_t no_phase = BERTH_PLUGIN_PHASES;
    berth_reply r;
    berth_reply_read(bytes, add(bytes, 0, BERTH_REPLY_PHASE, &no_phase, sizeof no_phase), &r);
    assert_true(r.is_garbage);
}

static void no_reply_is_read_outside_of_itself(void **state)
{
    (void)state;
    static char bytes[4096];
    size_t n = whole_reply(bytes), sum = 0;
    int n_whole = 0, n_garbage = 0;
    for (int i = 0; i < 20000; i++) {
        size_t size = below(3) ? n : below((uint32_t)n + 1);
        char *mine = moved(bytes, size);
        for (uint32_t k = below(3); k > 0 && size > 0; k--)
            mine[below(2) ? below((uint32_t)size) : below(24) % size] = (char)below(256);
        berth_reply r;
        berth_reply_read(mine, size, &r);
        for (size_t k = 0; r.is_whole && k < r.size; k++) sum += (unsigned char)r.data[k];
        for (size_t k = 0; r.words && k < sizeof(berth_plugin_words); k++) sum += (unsigned char)r.words[k];
        n_whole += r.is_whole;
        n_garbage += r.is_garbage;
        free(mine);
    }
    assert_true(n_whole > 1000 && n_garbage > 1000 && sum > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_mean_the_same_elsewhere),
        cmocka_unit_test(no_request_is_read_outside_of_itself),
        cmocka_unit_test(the_host_refuses_requests_that_are_not_its_own),
        cmocka_unit_test(a_reply_is_whole_at_its_last_byte_only),
        cmocka_unit_test(records_that_cannot_be_are_garbage),
        cmocka_unit_test(no_reply_is_read_outside_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
