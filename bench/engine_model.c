/* engine_model.c - see engine_model.h. Values are uniform with a deviation of 0.02, norms are 1. config.json is written
 * last: a folder that has it is whole. */
#include "bench/engine_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/dtype.h"
#include "base/file.h"

enum { VALUES = 1 << 16, CHUNK = 1 << 19 };

typedef struct writer {
    berth_buffer header;
    FILE *file;
    uint64_t offset; /* in the data section */
    uint64_t seed;
    uint16_t table[VALUES], chunk[CHUNK];
    bool failed;
} writer;

typedef struct tensor {
    const char *name;
    int64_t dims[4]; /* ended by a 0 where there are fewer */
    bool is_norm;
} tensor;

typedef void (*tensor_fn)(writer *w, const char *prefix, const tensor *t);

static uint64_t elements(const tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < 4 && t->dims[i]; i++) n *= (uint64_t)t->dims[i];
    return n;
}

/* One line of the header. */
static void describe(writer *w, const char *prefix, const tensor *t)
{
    const uint64_t bytes = elements(t) * 2;
    berth_buffer_printf(&w->header, "%s\"%s%s\":{\"dtype\":\"BF16\",\"shape\":[", w->header.len > 1 ? "," : "", prefix,
                        t->name);
    for (int i = 0; i < 4 && t->dims[i]; i++)
        berth_buffer_printf(&w->header, "%s%lld", i ? "," : "", (long long)t->dims[i]);
    berth_buffer_printf(&w->header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->offset,
                        (unsigned long long)(w->offset + bytes));
    w->offset += bytes;
}

static void fill(writer *w, size_t n, bool is_norm)
{
    if (is_norm) {
        for (size_t i = 0; i < n; i++) w->chunk[i] = berth_f32_to_bf16(1.0f);
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        w->seed ^= w->seed << 13;
        w->seed ^= w->seed >> 7;
        w->seed ^= w->seed << 17;
        for (int k = 0; k < 4; k++) w->chunk[i + (size_t)k] = w->table[w->seed >> 16 * k & 0xffff];
    }
}

static void write_data(writer *w, const char *prefix, const tensor *t)
{
    (void)prefix;
    size_t left = (size_t)elements(t);
    while (left && !w->failed) {
        size_t n = left < CHUNK ? left : CHUNK;
        fill(w, n, t->is_norm);
        w->failed = fwrite(w->chunk, sizeof *w->chunk, n, w->file) != n;
        left -= n;
    }
}

static void each_of(writer *w, const char *prefix, const tensor *list, size_t n, tensor_fn fn)
{
    for (size_t i = 0; i < n; i++) fn(w, prefix, &list[i]);
}

static void each_text(writer *w, const engine_model_shape *s, tensor_fn fn)
{
    const int64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const char *root = s->vision.hidden ? "language_model." : "";
    char prefix[96];
    const tensor layer[] = {
        {"input_layernorm.weight", {s->hidden}, true},
        {"self_attn.q_proj.weight", {q, s->hidden}, false},
        {"self_attn.q_proj.bias", {q}, false},
        {"self_attn.k_proj.weight", {kv, s->hidden}, false},
        {"self_attn.k_proj.bias", {kv}, false},
        {"self_attn.v_proj.weight", {kv, s->hidden}, false},
        {"self_attn.v_proj.bias", {kv}, false},
        {"self_attn.o_proj.weight", {s->hidden, q}, false},
        {"mlp.gate_proj.weight", {s->ffn, s->hidden}, false},
        {"mlp.up_proj.weight", {s->ffn, s->hidden}, false},
        {"mlp.down_proj.weight", {s->hidden, s->ffn}, false},
        {"post_attention_layernorm.weight", {s->hidden}, true},
    };
    fn(w, root, &(tensor){"model.embed_tokens.weight", {s->vocab, s->hidden}, false});
    for (int64_t l = 0; l < s->n_layers; l++) {
        snprintf(prefix, sizeof prefix, "%smodel.layers.%lld.", root, (long long)l);
        each_of(w, prefix, layer, sizeof layer / sizeof *layer, fn);
    }
    fn(w, root, &(tensor){"model.norm.weight", {s->hidden}, true});
    if (!s->tied) fn(w, root, &(tensor){"lm_head.weight", {s->vocab, s->hidden}, false});
}

static void each_vision(writer *w, const engine_model_shape *s, tensor_fn fn)
{
    const engine_vision_shape *v = &s->vision;
    const int64_t side = v->image / v->patch, positions = side * side + 1, joined = 4 * v->hidden;
    char prefix[96];
    const tensor layer[] = {
        {"attn.proj.bias", {v->hidden}, false},
        {"attn.proj.weight", {v->hidden, v->hidden}, false},
        {"attn.qkv.bias", {3 * v->hidden}, false},
        {"attn.qkv.weight", {3 * v->hidden, v->hidden}, false},
        {"ls1", {v->hidden}, false},
        {"ls2", {v->hidden}, false},
        {"mlp.fc1.bias", {v->ffn}, false},
        {"mlp.fc1.weight", {v->ffn, v->hidden}, false},
        {"mlp.fc2.bias", {v->hidden}, false},
        {"mlp.fc2.weight", {v->hidden, v->ffn}, false},
        {"norm1.bias", {v->hidden}, false},
        {"norm1.weight", {v->hidden}, true},
        {"norm2.bias", {v->hidden}, false},
        {"norm2.weight", {v->hidden}, true},
    };
    const tensor around[] = {
        {"vision_model.embeddings.class_embedding", {1, 1, v->hidden}, false},
        {"vision_model.embeddings.patch_embedding.bias", {v->hidden}, false},
        {"vision_model.embeddings.patch_embedding.weight", {v->hidden, 3, v->patch, v->patch}, false},
        {"vision_model.embeddings.position_embedding", {1, positions, v->hidden}, false},
        {"mlp1.0.bias", {joined}, false},
        {"mlp1.0.weight", {joined}, true},
        {"mlp1.1.bias", {s->hidden}, false},
        {"mlp1.1.weight", {s->hidden, joined}, false},
        {"mlp1.3.bias", {s->hidden}, false},
        {"mlp1.3.weight", {s->hidden, s->hidden}, false},
    };
    each_of(w, "", around, sizeof around / sizeof *around, fn);
    for (int64_t l = 0; l < v->n_layers; l++) {
        snprintf(prefix, sizeof prefix, "vision_model.encoder.layers.%lld.", (long long)l);
        each_of(w, prefix, layer, sizeof layer / sizeof *layer, fn);
    }
}

static void each_tensor(writer *w, const engine_model_shape *s, tensor_fn fn)
{
    each_text(w, s, fn);
    if (s->vision.hidden) each_vision(w, s, fn);
}

static void text_config(berth_buffer *b, const engine_model_shape *s)
{
    berth_buffer_printf(b,
                        "{\n  \"architectures\": [\"Qwen2ForCausalLM\"],\n  \"model_type\": \"qwen2\",\n"
                        "  \"hidden_act\": \"silu\",\n  \"max_position_embeddings\": 32768,\n"
                        "  \"rms_norm_eps\": 1e-06,\n  \"rope_theta\": 1000000.0,\n  \"torch_dtype\": \"bfloat16\",\n"
                        "  \"bos_token_id\": 1,\n  \"eos_token_id\": 2,\n");
    berth_buffer_printf(b,
                        "  \"hidden_size\": %lld,\n  \"num_hidden_layers\": %lld,\n  \"num_attention_heads\": %lld,\n"
                        "  \"num_key_value_heads\": %lld,\n  \"head_dim\": %lld,\n  \"intermediate_size\": %lld,\n"
                        "  \"vocab_size\": %lld,\n  \"tie_word_embeddings\": %s\n}",
                        (long long)s->hidden, (long long)s->n_layers, (long long)s->n_heads, (long long)s->n_kv_heads,
                        (long long)s->head_dim, (long long)s->ffn, (long long)s->vocab, s->tied ? "true" : "false");
}

static void vision_config(berth_buffer *b, const engine_vision_shape *v)
{
    berth_buffer_printf(b,
                        "{\"model_type\": \"intern_vit_6b\", \"hidden_act\": \"gelu\", \"hidden_size\": %lld, "
                        "\"num_hidden_layers\": %lld, \"num_attention_heads\": %lld, \"intermediate_size\": %lld, "
                        "\"image_size\": %lld, \"patch_size\": %lld, \"num_channels\": 3, \"layer_norm_eps\": 1e-06, "
                        "\"norm_type\": \"layer_norm\", \"qk_normalization\": false, \"qkv_bias\": true}",
                        (long long)v->hidden, (long long)v->n_layers, (long long)v->n_heads, (long long)v->ffn,
                        (long long)v->image, (long long)v->patch);
}

static void config_text(berth_buffer *b, const engine_model_shape *s)
{
    if (!s->vision.hidden) {
        text_config(b, s);
        berth_buffer_puts(b, "\n");
        return;
    }
    berth_buffer_printf(b,
                        "{\"architectures\": [\"InternVLChatModel\"], \"model_type\": \"internvl_chat\",\n"
                        "\"downsample_ratio\": 0.5, \"dynamic_image_size\": true, \"force_image_size\": %lld,\n"
                        "\"max_dynamic_patch\": %lld, \"min_dynamic_patch\": 1, \"ps_version\": \"v2\", "
                        "\"select_layer\": -1,\n\"template\": \"internvl2_5\", \"torch_dtype\": \"bfloat16\", "
                        "\"use_thumbnail\": true,\n\"llm_config\": ",
                        (long long)s->vision.image, (long long)s->max_tiles);
    text_config(b, s);
    berth_buffer_puts(b, ",\n\"vision_config\": ");
    vision_config(b, &s->vision);
    berth_buffer_puts(b, "}\n");
}

static bool holds(const char *dir, const berth_buffer *config)
{
    char *data = NULL;
    size_t n = 0;
    bool same = berth_file_exists_in(dir, ENGINE_MODEL_FILE) &&
                berth_file_read_in(dir, "config.json", 1 << 16, &data, &n, NULL) == BERTH_OK && n == config->len &&
                memcmp(data, config->data, n) == 0;
    free(data);
    return same;
}

static bool write_weights(writer *w, const engine_model_shape *s)
{
    for (int i = 0; i < VALUES; i++) {
        float unit = ((float)i + 0.5f) / (VALUES / 2) - 1;
        w->table[i] = berth_f32_to_bf16(unit * 0.02f * sqrtf(3.0f));
    }
    w->seed = 88172645463325252u;
    berth_buffer_putc(&w->header, '{');
    each_tensor(w, s, describe);
    berth_buffer_putc(&w->header, '}');
    while (w->header.len % 8 && !w->header.failed) berth_buffer_putc(&w->header, ' ');
    if (w->header.failed) return false;
    uint64_t n = w->header.len; /* little endian, as the machines these programs run on */
    w->failed = fwrite(&n, sizeof n, 1, w->file) != 1 || fwrite(w->header.data, 1, n, w->file) != n;
    each_tensor(w, s, write_data);
    /* On the disk before anything is measured: else it is written back meanwhile. */
    return !w->failed && fflush(w->file) == 0 && fsync(fileno(w->file)) == 0;
}

berth_status engine_model_make(const char *dir, const engine_model_shape *shape, berth_error *err)
{
    char path[4096];
    berth_buffer config = {0};
    writer *w = NULL;
    berth_status st = BERTH_OK;
    config_text(&config, shape);
    if (config.failed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a configuration");
    if (holds(dir, &config)) goto done;
    int length = snprintf(path, sizeof path, "%s/" ENGINE_MODEL_FILE, dir);
    w = calloc(1, sizeof *w);
    bool opened = w && length < (int)sizeof path && (mkdir(dir, 0777) == 0 || errno == EEXIST);
    if (opened) w->file = fopen(path, "wb");
    if (!w || !w->file || !write_weights(w, shape)) {
        int code = errno;
        st = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "cannot make a model in %s", dir);
        goto done;
    }
    length = snprintf(path, sizeof path, "%s/config.json", dir);
    st = berth_file_write(path, config.data, config.len, err);
done:
    if (w && w->file && fclose(w->file) != 0 && st == BERTH_OK)
        st = BERTH_FAIL(err, BERTH_IO_ERROR, "cannot finish the weights in %s", dir);
    if (w) berth_buffer_deinit(&w->header);
    free(w);
    berth_buffer_deinit(&config);
    return st;
}
