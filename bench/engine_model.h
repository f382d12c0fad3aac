/* engine_model.h - a model folder with random bf16 weights in a published model's shape, for programs that measure. */
#ifndef BERTH_BENCH_ENGINE_MODEL_H
#define BERTH_BENCH_ENGINE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct engine_vision_shape { /* InternViT; all zero: no vision */
    int64_t hidden, n_layers, n_heads, ffn, image, patch;
} engine_vision_shape;

typedef struct engine_model_shape { /* of a Qwen2 language model */
    int64_t hidden, n_layers, n_heads, n_kv_heads, head_dim, ffn, vocab;
    bool tied;                  /* the head is the embedding */
    engine_vision_shape vision; /* with one it is an InternVL model in the remote-code layout */
    int64_t max_tiles;          /* of a picture, the thumbnail not counted */
} engine_model_shape;

#define ENGINE_MODEL_FILE "model.safetensors"

/* Makes `dir` with config.json and one safetensors file; leaves it alone when it holds that shape already. The header is
 * padded to 8 bytes, as the usual writer does, so weights are aligned to 8 bytes and no more. Errors: BERTH_IO_ERROR,
 * BERTH_OUT_OF_MEMORY. */
berth_status engine_model_make(const char *dir, const engine_model_shape *shape, berth_error *err);

#endif
