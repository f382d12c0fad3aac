/* transport_test.c - every transport of the list that moves bytes of the host carries odd sizes whole, and in strict mode opens only what each half
 * needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/transport.h"

typedef struct watch {
    bool open[3], writable[3]; /* host, device 0, device 1 */
    bool together;             /* both sides were open at once */
    int32_t n_calls;
} watch;

static void watch_open(void *user, int32_t device, bool writable)
{
    watch *w = user;
    w->n_calls++;
    if (device == BERTH_COPY_CLOSE_ALL) {
        memset(w->open, 0, sizeof w->open);
        memset(w->writable, 0, sizeof w->writable);
        return;
    }
    w->open[device + 1] = true;
    w->writable[device + 1] = writable;
    if (w->open[1] && w->open[2]) w->together = true;
}

static void copies_are_whole(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 4096, (1 << 20) - 1, 1 << 20, (2 << 20) + 7};
    for (int32_t t = 0; t < berth_transport_count(); t++) {
        const berth_transport *tr = berth_transport_at(t);
        if (!(tr->edges >> BERTH_EDGE_HOST & 1)) continue;
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            size_t n = sizes[k];
            unsigned char *src = malloc(n + 1), *dst = calloc(1, n + 1), *staging = malloc(tr->staging_bytes + 1);
            for (size_t i = 0; i < n; i++) src[i] = (unsigned char)(i * 7 + i / 251);
            dst[n] = 0xa5;
            watch w = {0};
            berth_error err = {0};
            berth_copy c = {.from = 0,
                            .to = 1,
                            .src = src,
                            .dst = dst,
                            .bytes = n,
                            .staging = staging,
                            .staging_bytes = tr->staging_bytes,
                            .open = watch_open,
                            .open_user = &w};
            assert_int_equal(tr->copy(&c, &err), BERTH_OK);
            assert_memory_equal(src, dst, n);
            assert_int_equal(dst[n], 0xa5);
            if (n) {
                assert_true(w.n_calls > 0);
                assert_true(w.open[2] && w.writable[2] && !w.writable[1]);
                assert_int_equal(w.together, strcmp(tr->name, "local") == 0);
            }
            free(src);
            free(dst);
            free(staging);
        }
    }
}

static void staged_refuses_to_run_without_staging(void **state)
{
    (void)state;
    char a[4] = "abc", b[4] = "";
    berth_error err = {0};
    berth_copy c = {.from = 0, .to = 1, .src = a, .dst = b, .bytes = 4};
    assert_int_equal(berth_transport_find("staged")->copy(&c, &err), BERTH_INTERNAL);
    assert_string_equal(b, "");
}

static void names_are_found(void **state)
{
    (void)state;
    assert_ptr_equal(berth_transport_find("local"), berth_transport_at(0));
    assert_null(berth_transport_find("nvlink"));
    assert_null(berth_transport_at(-1));
    assert_null(berth_transport_at(berth_transport_count()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_whole),
        cmocka_unit_test(staged_refuses_to_run_without_staging),
        cmocka_unit_test(names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
