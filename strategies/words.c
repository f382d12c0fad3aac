/* words.c - see words.h. */
#include "strategies/words.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Copies what fits; bytes that are not printable ASCII, which only a stranger's names bring in, become \xNN. */
static void copy_printable(char *out, size_t n, const char *text)
{
    size_t len = 0;
    for (; *text; text++) {
        bool is_plain = *text >= 0x20 && *text < 0x7F;
        if (len + (is_plain ? 1 : 4) >= n) break;
        if (is_plain)
            out[len++] = *text;
        else
            len += (size_t)snprintf(out + len, n - len, "\\x%02X", (unsigned char)*text);
    }
    out[len] = '\0';
}

berth_status berth_refuse(berth_error *err, berth_status status, const char *fmt, ...)
{
    if (!err) return status;
    char text[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    *err = (berth_error){.status = status, .device = -1, .file = __FILE__};
    copy_printable(err->message, sizeof err->message, text);
    return status;
}

const char *berth_bytes_in_words(uint64_t bytes, char *out, size_t n)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (unit < 5 && bytes >> (10 * (unit + 2))) unit++;
    uint64_t whole = bytes >> (10 * (unit + 1)), rest = bytes & (((uint64_t)1 << (10 * (unit + 1))) - 1);
    unsigned hundredths = (unsigned)(((unsigned __int128)rest * 100) >> (10 * (unit + 1)));
    if (bytes < 1024)
        snprintf(out, n, "%u bytes", (unsigned)bytes);
    else
        snprintf(out, n, "%" PRIu64 ".%02u %s (%" PRIu64 " bytes)", whole, hundredths, units[unit], bytes);
    return out;
}

void berth_note(berth_strategy_output *out, const char *fmt, ...)
{
    size_t len = strnlen(out->note, sizeof out->note), room = sizeof out->note - len;
    char raw[sizeof out->note], text[4 * sizeof out->note];
    va_list args;
    va_start(args, fmt);
    int wanted = vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    if (wanted < 0 || (size_t)wanted >= sizeof raw) return;
    copy_printable(text, sizeof text, raw);
    size_t text_len = strlen(text), gap = len > 0 ? 2 : 0; /* "; " */
    if (text_len + gap + 1 > room) return;
    if (gap) memcpy(out->note + len, "; ", gap);
    memcpy(out->note + len + gap, text, text_len + 1);
}

const char *berth_device_names(const berth_strategy_input *in, const bool *wanted, char *out, size_t n)
{
    size_t len = 0, listed = 0, total = 0;
    out[0] = '\0';
    for (int32_t d = 0; d < in->n_devices; d++) total += wanted[d];
    for (int32_t d = 0; d < in->n_devices && listed < 6; d++) {
        if (!wanted[d]) continue;
        const char *name = berth_device_at(in, d)->name;
        if (len + strlen(name) + 24 > n) break;
        len += (size_t)snprintf(out + len, n - len, "%s%s", listed ? ", " : "", name);
        listed++;
    }
    if (listed < total) snprintf(out + len, n - len, " and %zu more", total - listed);
    return out;
}

void berth_note_empty_devices(const berth_strategy_input *in, berth_strategy_output *out)
{
    enum { MOST = 256 };
    bool empty[MOST];
    char names[200];
    int32_t n_empty = 0;
    if (in->n_devices > MOST) return;
    for (int32_t d = 0; d < in->n_devices; d++) empty[d] = true;
    for (size_t i = 0; i < (size_t)out->n_replicas * (size_t)in->n_nodes; i++)
        if (out->device_of[i] >= 0) empty[out->device_of[i]] = false;
    for (int32_t d = 0; d < in->n_devices; d++) n_empty += empty[d];
    if (n_empty > 0)
        berth_note(out, "%s %s left empty", berth_device_names(in, empty, names, sizeof names),
                   n_empty > 1 ? "are" : "is");
}

berth_status berth_check_no_argument(const berth_strategy_input *in, const char *name, berth_error *err)
{
    if (!in->argument) return BERTH_OK;
    return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                        "strategy %s takes no argument, and \"=%.40s\" was given; write %s", name, in->argument, name);
}

bool berth_read_argument(const char *argument, int32_t low, int32_t high, int32_t *out)
{
    int64_t value = 0;
    if (!argument || !*argument) return false;
    for (; *argument >= '0' && *argument <= '9'; argument++)
        if (value <= INT32_MAX) value = value * 10 + (*argument - '0');
    if (*argument || value < low || value > high) return false;
    *out = (int32_t)value;
    return true;
}
