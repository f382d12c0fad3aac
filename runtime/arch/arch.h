/* arch.h - from an opened model to its programs: the list of architectures berth can run.
 *
 * An architecture is one file that emits ops over named values, and one line in arch.c. It names no device, no
 * strategy and no file: weights come by role from runtime/model.
 * A model has up to two programs over one module tree and one placement:
 *   encode  pixels of image tiles -> rows of the feature store (absent for models that read text only)
 *   step    token ids and feature rows -> logits
 * Both share the states KV(layer) and FEATURES, found by key (berth_program_find_state). Names of values that users
 * compare are those of the reference vectors:
 *   vision.embed, vision.layer.0.attn, vision.layer.0.mlp, vision.layer.N, vision.out, vision.shuffled, projector.out,
 *   text.embed, text.layer.0.attn, text.layer.0.mlp, text.layer.N, text.norm, logits. Outputs of step:
 * `logits.stats` [n_logits, 8] and `logits.best` [n_best, 264]; `logits` [n_logits, V] are kept where the head is.
 *
 * Inputs (host, i32 unless said; filled by the engine before each run):
 *   encode: PIXELS f32 [tiles, 3, S, S], FEATURE_ROWS [tokens_per_tile*tiles]
 *   step:   TOKEN_IDS, POSITIONS, TOKEN_SEQ, SLOTS [tokens]; BLOCK_TABLE [seqs, max_blocks]; INV_FREQ f32 [seqs,
 * head_dim/2]; LOGIT_ROWS [logits]; BEST_ROWS, BEST_SCALES f32 [best];
 *           IMAGE_SRC, IMAGE_DST [image_rows] where there is a vision tower
 * States: KV(layer) f32 [n_blocks, 2, kv_heads, block, head_dim]; FEATURES f32 [feature_rows, D].
 * The final norm and the head run on the rows LOGIT_ROWS names only: to trace all positions, name all of them. */
#ifndef BERTH_ARCH_ARCH_H
#define BERTH_ARCH_ARCH_H

#include "model/model.h"
#include "program/program.h"

enum { BERTH_DEFAULT_BLOCK = 32 }; /* tokens a KV block */

/* Upper bounds and sizes of states. All counts at least 1 where they matter; zero means the default said. */
typedef struct berth_build_options {
    int64_t max_tiles;    /* tiles in one encode pass; 0 = 1 */
    int64_t max_tokens;   /* tokens in one step; 0 = 512 */
    int64_t max_seqs;     /* sequences in one step; 0 = 1 */
    int64_t max_logits;   /* rows whose logits are wanted in one step; 0 = max_seqs, or max_tokens when tracing */
    int64_t max_blocks;   /* KV blocks of one sequence (columns of its table); 0 = n_blocks */
    int64_t n_blocks;     /* KV blocks a layer; 0 = enough for max_tokens */
    int64_t feature_rows; /* rows of the feature store; 0 = max_tiles * tokens_per_tile */
    int32_t block;        /* tokens a block; 0 = BERTH_DEFAULT_BLOCK */
    /* traced values are outputs too: route brings each to the host, as "name@host" (berth_program_find_copy) */
    bool trace;
} berth_build_options;

typedef struct berth_programs {
    berth_program *encode; /* NULL: the model reads text only */
    berth_program *step;
} berth_programs;

typedef struct berth_arch {
    const char *name;  /* "internvl" */
    const char *about; /* one line for users */
    bool (*can)(const berth_model_config *config);
    berth_status (*build)(const berth_model_data *m, const berth_build_options *options, berth_programs *out,
                          berth_error *err);
} berth_arch;

int32_t berth_arch_count(void);
const berth_arch *berth_arch_at(int32_t i);
const berth_arch *berth_arch_find(const berth_model_config *config); /* NULL: none can */

/* Finds the architecture, fills defaults, builds. The programs are not placed yet; the caller deinits. Errors:
 * BERTH_UNSUPPORTED, BERTH_INVALID_ARGUMENT (a bound out of range), BERTH_OUT_OF_MEMORY. */
berth_status berth_arch_build(const berth_model_data *m, const berth_build_options *options, berth_programs *out,
                              berth_error *err);
void berth_programs_deinit(berth_programs *p);

#endif
