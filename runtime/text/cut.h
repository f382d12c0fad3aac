/* cut.h - the pre-tokenizers: where a text is cut into the pieces that merges may not cross.
 *
 * A tokenizer file names its rule by a regular expression. No expression out of a file is ever run: the known ones are
 * compiled by hand here, in time linear in the text, and any other is refused. Pure. */
#ifndef BERTH_TEXT_CUT_H
#define BERTH_TEXT_CUT_H

#include <stddef.h>

/* The length in bytes of the piece that begins at `text` (n > 0 bytes of valid UTF-8 left). */
typedef size_t (*berth_cut_fn)(const char *text, size_t n);

typedef struct berth_cut_rule {
    const char *name;    /* the model family it came with */
    const char *pattern; /* as tokenizer.json spells it */
    berth_cut_fn next;
} berth_cut_rule;

/* The rule of that pattern; NULL when it is not one of the known ones. */
const berth_cut_rule *berth_cut_find(const char *pattern);

/* The rule that Qwen2's slow files imply. */
const berth_cut_rule *berth_cut_qwen2(void);

#endif
