/* reply.c - reading what a child process says. Nothing is believed: the plug-in shares its process, and may have
 * written any byte of it. */
#include <string.h>

#include "plugin/plugin_internal.h"

/* Smallest and largest size of a record's data. */
static bool is_size(uint32_t kind, uint64_t size)
{
    switch (kind) {
    case BERTH_REPLY_PHASE: return size == sizeof(int32_t);
    case BERTH_REPLY_FAILED: return size > sizeof(int32_t) && size <= sizeof(int32_t) + BERTH_ERROR_MESSAGE_SIZE;
    case BERTH_REPLY_WORDS: return size == sizeof(berth_plugin_words);
    case BERTH_REPLY_PLACED: return size >= sizeof(int32_t) + BERTH_PLUGIN_NOTE_SIZE && size % sizeof(int32_t) == 0;
    case BERTH_REPLY_INPUTS:
    case BERTH_REPLY_DONE: return size == 0;
    default: return false;
    }
}

static bool take_phase(const char *data, berth_reply *out)
{
    int32_t phase;
    memcpy(&phase, data, sizeof phase);
    if (phase < 0 || phase >= BERTH_PLUGIN_PHASES) return false;
    out->phase = (berth_plugin_phase)phase;
    return true;
}

void berth_reply_read(const char *bytes, size_t n, berth_reply *out)
{
    *out = (berth_reply){.phase = BERTH_PLUGIN_LOADING};
    for (size_t at = 0; n - at >= sizeof(berth_reply_head);) {
        berth_reply_head head;
        memcpy(&head, bytes + at, sizeof head);
        if (head.magic != BERTH_REPLY_MAGIC || !is_size(head.kind, head.size)) {
            out->is_garbage = true;
            return;
        }
        at += sizeof head;
        if (head.size > n - at) return; /* more is to come */
        if (head.kind != BERTH_REPLY_PHASE && head.kind != BERTH_REPLY_WORDS) {
            out->is_whole = true;
            out->kind = head.kind;
            out->data = bytes + at;
            out->size = (size_t)head.size;
            return;
        }
        if (head.kind == BERTH_REPLY_WORDS) out->words = bytes + at;
        if (head.kind == BERTH_REPLY_PHASE && !take_phase(bytes + at, out)) {
            out->is_garbage = true;
            return;
        }
        at += (size_t)head.size;
    }
}
