/* decode.c - ids to text, whole and streaming. One streaming decoder does both, so that they cannot differ. */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

static const char replacement[] = "\xEF\xBF\xBD";

void berth_stream_decoder_init(berth_stream_decoder *d, const berth_tokenizer *t, bool skip_special)
{
    *d = (berth_stream_decoder){.tokenizer = t, .skip_special = skip_special};
}

/* Shows what can be shown of s[0, n), and returns how many bytes at its end may still become a character; -1: out of
 * memory. */
static int show(const char *s, size_t n, berth_buffer *out)
{
    size_t run = 0, i = 0;
    int held = 0;
    while (i < n && !held) {
        uint32_t cp;
        bool incomplete;
        int len = berth_utf8_decode(s + i, n - i, &cp, &incomplete);
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        if (!berth_buffer_append(out, s + run, i - run)) return -1;
        if (incomplete)
            held = -len;
        else if (!berth_buffer_append(out, replacement, 3))
            return -1;
        i += (size_t)-len;
        run = i;
    }
    return berth_buffer_append(out, s + run, i - run) ? held : -1;
}

/* Completes, or breaks off, the held bytes with bytes of s; returns how many it took, or -1. */
static int complete_held(berth_stream_decoder *d, const char *s, size_t n, berth_buffer *out)
{
    char joined[8];
    int n_held = d->n_held;
    size_t taken = n < 3 ? n : 3;
    memcpy(joined, d->held, (size_t)n_held);
    memcpy(joined + n_held, s, taken);
    uint32_t cp;
    bool incomplete;
    int len = berth_utf8_decode(joined, (size_t)n_held + taken, &cp, &incomplete);
    if (len < 0 && incomplete) {
        memcpy(d->held, joined, (size_t)-len);
        d->n_held = -len;
        return (int)taken;
    }
    d->n_held = 0;
    if (len < 0) return berth_buffer_append(out, replacement, 3) ? -len - n_held : -1;
    return berth_buffer_append(out, joined, (size_t)len) ? len - n_held : -1;
}

static bool push_bytes(berth_stream_decoder *d, const char *s, size_t n, berth_buffer *out)
{
    while (n && d->n_held) {
        int taken = complete_held(d, s, n, out);
        if (taken < 0) return false;
        s += taken;
        n -= (size_t)taken;
    }
    int held = show(s, n, out);
    if (held < 0) return false;
    if (held) memcpy(d->held, s + n - held, (size_t)held);
    if (n) d->n_held = held;
    return true;
}

bool berth_stream_decoder_push(berth_stream_decoder *d, int32_t id, berth_buffer *out)
{
    size_t n;
    bool special;
    const char *bytes = berth_tokenizer_token(d->tokenizer, id, &n, &special);
    if (!bytes || !n || (special && d->skip_special)) return true;
    return push_bytes(d, bytes, n, out);
}

bool berth_stream_decoder_flush(berth_stream_decoder *d, berth_buffer *out)
{
    bool held = d->n_held > 0;
    d->n_held = 0;
    return !held || berth_buffer_append(out, replacement, 3);
}

berth_status berth_tokenizer_decode(const berth_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                    berth_buffer *out, berth_error *err)
{
    berth_stream_decoder d;
    berth_stream_decoder_init(&d, t, skip_special);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) ok = berth_stream_decoder_push(&d, ids[i], out);
    if (ok && berth_stream_decoder_flush(&d, out)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the text of %zu tokens", n);
}
