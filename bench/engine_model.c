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

typedef void (*tensor_fn)(writer *w, const char *name, int64_t rows, int64_t cols, bool is_norm);

/* One line of the header. cols 0: a vector. */
static void describe(writer *w, const char *name, int64_t rows, int64_t cols, bool is_norm)
{
    (void)is_norm;
    uint64_t bytes = (uint64_t)rows * (uint64_t)(cols ? cols : 1) * 2;
    berth_buffer_printf(&w->header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld", w->header.len > 1 ? "," : "", name,
                        (long long)rows);
    if (cols) berth_buffer_printf(&w->header, ",%lld", (long long)cols);
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

static void write_data(writer *w, const char *name, int64_t rows, int64_t cols, bool is_norm)
{
    (void)name;
    size_t left = (size_t)rows * (size_t)(cols ? cols : 1);
    while (left && !w->failed) {
        size_t n = left < CHUNK ? left : CHUNK;
        fill(w, n, is_norm);
        w->failed = fwrite(w->chunk, sizeof *w->chunk, n, w->file) != n;
        left -= n;
    }
}

static void each_tensor(writer *w, const engine_model_shape *s, tensor_fn fn)
{
    const int64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const struct {
        const char *name;
        int64_t rows, cols;
        bool is_norm;
    } layer[] = {
        {"input_layernorm.weight", s->hidden, 0, true},
        {"self_attn.q_proj.weight", q, s->hidden, false},
        {"self_attn.q_proj.bias", q, 0, false},
        {"self_attn.k_proj.weight", kv, s->hidden, false},
        {"self_attn.k_proj.bias", kv, 0, false},
        {"self_attn.v_proj.weight", kv, s->hidden, false},
        {"self_attn.v_proj.bias", kv, 0, false},
        {"self_attn.o_proj.weight", s->hidden, q, false},
        {"mlp.gate_proj.weight", s->ffn, s->hidden, false},
        {"mlp.up_proj.weight", s->ffn, s->hidden, false},
        {"mlp.down_proj.weight", s->hidden, s->ffn, false},
        {"post_attention_layernorm.weight", s->hidden, 0, true},
    };
    fn(w, "model.embed_tokens.weight", s->vocab, s->hidden, false);
    for (int64_t l = 0; l < s->n_layers; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)l, layer[i].name);
            fn(w, name, layer[i].rows, layer[i].cols, layer[i].is_norm);
        }
    fn(w, "model.norm.weight", s->hidden, 0, true);
    if (!s->tied) fn(w, "lm_head.weight", s->vocab, s->hidden, false);
}

static void config_text(berth_buffer *b, const engine_model_shape *s)
{
    berth_buffer_printf(b,
                        "{\n  \"architectures\": [\"Qwen2ForCausalLM\"],\n  \"model_type\": \"qwen2\",\n"
                        "  \"hidden_act\": \"silu\",\n  \"max_position_embeddings\": 32768,\n"
                        "  \"rms_norm_eps\": 1e-06,\n  \"rope_theta\": 1000000.0,\n  \"torch_dtype\": \"bfloat16\",\n"
                        "  \"bos_token_id\": 1,\n  \"eos_token_id\": 2,\n");
    berth_buffer_printf(b,
                        "  \"hidden_size\": %lld,\n  \"num_hidden_layers\": %lld,\n  \"num_attention_heads\": %lld,\n"
                        "  \"num_key_value_heads\": %lld,\n  \"head_dim\": %lld,\n  \"intermediate_size\": %lld,\n"
                        "  \"vocab_size\": %lld,\n  \"tie_word_embeddings\": %s\n}\n",
                        (long long)s->hidden, (long long)s->n_layers, (long long)s->n_heads, (long long)s->n_kv_heads,
                        (long long)s->head_dim, (long long)s->ffn, (long long)s->vocab, s->tied ? "true" : "false");
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
