/* tokenizer_internal.h - what the files of text/ share about a tokenizer: its parts, and how the two loaders fill it. */
#ifndef BERTH_TEXT_TOKENIZER_INTERNAL_H
#define BERTH_TEXT_TOKENIZER_INTERNAL_H

#include "text/added.h"
#include "text/cut.h"
#include "text/merges.h"
#include "text/template.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

#define BERTH_TOKENIZER_FILE_MAX ((size_t)256 << 20)

struct berth_tokenizer {
    berth_vocab vocab;
    berth_merges merges;
    berth_added added;
    int32_t *owner;       /* [size] entry + 1 of vocab, -(index + 1) of added, 0 = nobody */
    int32_t size;         /* largest id + 1 */
    int32_t byte_id[256]; /* the token of each single byte */
    const berth_cut_rule *cut;
    bool nfc;           /* text is normalised before it is cut */
    bool ignore_merges; /* a piece that is a token needs no merging */
    berth_template_system template_system;
    berth_error template_error; /* status BERTH_OK: the chat template is one of a known family, or there is none */
};

/* Which file is at fault when the parts contradict each other. */
typedef struct berth_load_files {
    const char *vocab, *merges, *added;
} berth_load_files;

/* ---- the loaders: fill vocab, merges, added and the rules ---- */

berth_status berth_tokenizer_load_json(const char *dir, berth_tokenizer *t, berth_error *err);
berth_status berth_tokenizer_load_slow(const char *dir, berth_tokenizer *t, berth_error *err);

/* tokenizer.json's normalizer, pre_tokenizer, post_processor or decoder: `n` bytes of JSON. */
berth_status berth_load_rule(berth_tokenizer *t, const char *key, const char *json, size_t n, berth_error *err);

/* Checks the whole and builds the tables: called once both are done. */
berth_status berth_load_finish(berth_tokenizer *t, const berth_load_files *files, berth_error *err);

/* ---- what both loaders say in the same words; `file` names the file at fault ---- */

/* Checks length and adds. `id` is a JSON number as written. */
berth_status berth_load_token(berth_tokenizer *t, const char *file, const char *spelled, size_t len, const char *id,
                              size_t id_len, berth_error *err);
berth_status berth_load_added(berth_tokenizer *t, const char *file, const char *content, size_t len, int64_t id,
                              bool special, bool normalized, berth_error *err);
berth_status berth_load_index_vocab(berth_tokenizer *t, const char *file, berth_error *err);

/* Adds the merge of two spelled tokens; the vocabulary must have been indexed. `scratch` is the caller's, to save
 * allocations. */
berth_status berth_load_merge(berth_tokenizer *t, const char *file, const char *left, size_t n_left, const char *right,
                              size_t n_right, berth_buffer *scratch, berth_error *err);
/* The same for a merge spelled "left right". */
berth_status berth_load_merge_line(berth_tokenizer *t, const char *file, const char *line, size_t n,
                                   berth_buffer *scratch, berth_error *err);

#endif
