/* bench_reference.c - the tokens that placements must agree on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/bench.h"

static berth_status keep(bench_reference *ref, int32_t check, const char *who, const int32_t *ids, int32_t n,
                         berth_error *err)
{
    ref->ids[check] = malloc((size_t)n * sizeof *ids + 1);
    if (ref->ids[check] == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for tokens");
    memcpy(ref->ids[check], ids, (size_t)n * sizeof *ids);
    ref->n[check] = n;
    snprintf(ref->who[check], sizeof ref->who[check], "%s", who);
    return BERTH_OK;
}

berth_status bench_reference_take(bench_reference *ref, int32_t check, const char *who, const int32_t *ids, int32_t n,
                                  berth_error *err)
{
    if (ref->ids[check] == NULL) return keep(ref, check, who, ids, n, err);
    for (int32_t i = 0; i < n && i < ref->n[check]; i++) {
        if (ids[i] == ref->ids[check][i]) continue;
        return BERTH_FAIL(err, BERTH_MISMATCH,
                          "greedy tokens differ: %s gives %d where %s gives %d (prompt %d, token %d of the answer); no "
                          "numbers are given",
                          who, (int)ids[i], ref->who[check], (int)ref->ids[check][i], (int)check + 1, (int)i + 1);
    }
    if (n == ref->n[check]) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_MISMATCH,
                      "greedy answers differ: %s gives %d tokens where %s gives %d (prompt %d); no "
                      "numbers are given",
                      who, (int)n, ref->who[check], (int)ref->n[check], (int)check + 1);
}

void bench_reference_deinit(bench_reference *ref)
{
    for (int k = 0; k < BENCH_CHECKS; k++) free(ref->ids[k]);
    *ref = (bench_reference){0};
}
