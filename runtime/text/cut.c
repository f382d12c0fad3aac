/* cut.c - the list of known pre-tokenizer patterns. To add one: its matcher in a file of its own, and a line here. */
#include "text/cut.h"

#include <string.h>

#include "text/cut_qwen2.h"

/* Source: Qwen/Qwen2-7B tokenizer.json; Qwen2.5 and Qwen3 carry the same text. */
#define QWEN2_PATTERN                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"   \
    "|\\s+(?!\\S)|\\s+"

static const berth_cut_rule rules[] = {
    {"qwen2", QWEN2_PATTERN, berth_cut_next_qwen2},
};

const berth_cut_rule *berth_cut_find(const char *pattern)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].pattern, pattern) == 0) return &rules[i];
    return NULL;
}

const berth_cut_rule *berth_cut_qwen2(void)
{
    return &rules[0];
}
