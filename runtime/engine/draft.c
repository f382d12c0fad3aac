/* draft.c - prompt lookup: what came after the last tokens when they stood here before is a good guess of what comes
 * now, when an answer repeats its prompt's words.
 *
 * Source: Saxena 2023, "Prompt Lookup Decoding"; transformers' PromptLookupCandidateGenerator. */
#include <string.h>

#include "engine/core.h"

enum { LONGEST = 4 }; /* tokens that have to be equal: as many as can be found, at least one */

int32_t berth_draft(const int32_t *ids, int64_t n, int32_t most, int32_t *out)
{
    int64_t best_at = -1;
    int32_t best = 0;
    for (int64_t end = n - 1; end > 0 && best < LONGEST; end--) { /* the newest of equally long ones */
        int32_t equal = 0;
        while (equal < LONGEST && equal < end && ids[end - 1 - equal] == ids[n - 1 - equal]) equal++;
        if (equal <= best) continue;
        best = equal;
        best_at = end;
    }
    int32_t n_out = 0;
    while (best_at >= 0 && n_out < most && best_at + n_out < n) {
        out[n_out] = ids[best_at + n_out];
        n_out++;
    }
    return n_out;
}
