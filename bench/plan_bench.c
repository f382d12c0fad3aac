/* plan_bench.c - how long it takes to decide where a model goes, and to open one with many tensors.
 *
 *   plan_bench [--json] [--only NAME] [--rounds N]
 *
 * Times are those of the calling thread (CPU time), the median of the rounds. "place" is one call of a strategy,
 * from the module tree to a device for every part; "open" reads config.json and safetensors headers. plan_bench.py
 * beside it times accelerate over the same model in the same run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/dtype.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "strategies/accelerate_model.h"
#include "strategies/registry.h"
#include "strategies/work.h"

enum { MAX_ROUNDS = 999, MAX_DEVICES = 16, N_OPEN_TENSORS = 100000 };

typedef struct options {
    const char *only;
    int rounds;
    bool json;
} options;

static void stop(const char *what)
{
    fprintf(stderr, "plan_bench: %s\n", what);
    exit(1);
}

static void need(berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) stop(err->message);
}

static double thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const options *o, const char *model, const char *what, double *us, int n)
{
    qsort(us, (size_t)n, sizeof *us, ascending);
    if (o->json)
        printf(
            "{\"model\":\"%s\",\"what\":\"%s\",\"median_us\":%.2f,\"least_us\":%.2f,\"most_us\":%.2f,\"rounds\":%d}\n",
            model, what, us[n / 2], us[0], us[n - 1], n);
    else
        printf("%-14s %-20s median %10.1f us   least %10.1f   most %10.1f   (%d rounds)\n", model, what, us[n / 2],
               us[0], us[n - 1], n);
    fflush(stdout);
}

/* ---- models ---- */

/* A tree made by hand: room for n nodes and their names. */
typedef struct tree {
    berth_node_view *nodes;
    char (*paths)[96];
    int32_t n, cap;
} tree;

static int32_t add(tree *t, int32_t parent, const char *name, const char *class_name, uint32_t flags, int64_t elements)
{
    int32_t i = t->n++;
    if (t->n > t->cap) stop("the tree is larger than planned");
    const char *above = parent < 0 ? "" : t->paths[parent];
    snprintf(t->paths[i], sizeof t->paths[i], "%.60s%s%.30s", above, *above ? "." : "", name);
    t->nodes[i] = (berth_node_view){.path = t->paths[i],
                                    .class_name = class_name,
                                    .parent = parent,
                                    .flags = flags,
                                    .tied_to = -1,
                                    .weight_bytes = (uint64_t)elements * 2,
                                    .flops_per_token = 2.0 * (double)elements,
                                    .n_elements = elements,
                                    .element_bits = elements ? 16 : 0};
    return i;
}

static void add_linear(tree *t, int32_t parent, const char *name, int64_t elements)
{
    int32_t i = add(t, parent, name, "Linear", 0, 0);
    add(t, i, "weight", "", BERTH_NODE_TENSOR, elements);
}

static void add_up(tree *t)
{
    for (int32_t i = t->n - 1; i > 0; i--) {
        berth_node_view *v = &t->nodes[i], *parent = &t->nodes[v->parent];
        parent->n_descendants += 1 + v->n_descendants;
        parent->weight_bytes += v->weight_bytes;
        parent->kv_bytes_per_token += v->kv_bytes_per_token;
        parent->flops_per_token += v->flops_per_token;
    }
}

/* 48 layers of 1,200 experts with three matrices each: 172,800 tensors, and as many Linears around them. */
static void make_experts(tree *t)
{
    enum { LAYERS = 48, EXPERTS = 1200 };
    *t = (tree){.cap = LAYERS * (EXPERTS * 7 + 16) + 16};
    t->nodes = calloc((size_t)t->cap, sizeof *t->nodes);
    t->paths = calloc((size_t)t->cap, sizeof *t->paths);
    if (!t->nodes || !t->paths) stop("no memory");
    int32_t root = add(t, -1, "", "MoeForCausalLM", 0, 0), model = add(t, root, "model", "MoeModel", 0, 0);
    add_linear(t, model, "embed_tokens", 151936L * 2048);
    int32_t layers = add(t, model, "layers", "ModuleList", 0, 0);
    for (int l = 0; l < LAYERS; l++) {
        char name[16];
        snprintf(name, sizeof name, "%d", l);
        int32_t layer = add(t, layers, name, "MoeDecoderLayer", BERTH_NODE_NO_SPLIT, 0);
        int32_t attention = add(t, layer, "self_attn", "Attention", 0, 0);
        t->nodes[attention].kv_bytes_per_token = 2048;
        add_linear(t, attention, "qkv_proj", 2048L * 6144);
        add_linear(t, attention, "o_proj", 2048L * 2048);
        int32_t experts = add(t, layer, "experts", "ModuleList", 0, 0);
        for (int e = 0; e < EXPERTS; e++) {
            snprintf(name, sizeof name, "%d", e);
            int32_t expert = add(t, experts, name, "Expert", 0, 0);
            add_linear(t, expert, "gate_proj", 2048L * 512);
            add_linear(t, expert, "up_proj", 2048L * 512);
            add_linear(t, expert, "down_proj", 2048L * 512);
        }
    }
    add_linear(t, root, "lm_head", 151936L * 2048);
    add_up(t);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, strlen(text), f) != strlen(text) || fclose(f) != 0) stop("cannot write a config.json");
}

static void remove_dir(const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    rmdir(dir);
}

static berth_model_data *open_config(const char *text)
{
    char dir[] = "/tmp/berth-plan-bench-XXXXXX";
    berth_model_data *m = NULL;
    berth_error err = {0};
    const berth_model_data_options opening = {.allow_missing_weights = true};
    if (!mkdtemp(dir)) stop("no folder in /tmp");
    write_text(dir, "config.json", text);
    berth_status st = berth_model_data_open(dir, &opening, &m, &err);
    remove_dir(dir);
    need(st, &err);
    return m;
}

static const char internvl_8b[] =
    "{\"model_type\":\"internvl_chat\",\"architectures\":[\"InternVLChatModel\"],\"torch_dtype\":\"bfloat16\","
    "\"downsample_ratio\":0.5,\"ps_version\":\"v2\",\"select_layer\":-1,\"force_image_size\":448,"
    "\"template\":\"internvl2_5\",\"dynamic_image_size\":true,\"max_dynamic_patch\":12,\"use_thumbnail\":true,"
    "\"llm_config\":{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":3584,"
    "\"num_hidden_layers\":28,\"num_attention_heads\":28,\"num_key_value_heads\":4,\"intermediate_size\":18944,"
    "\"vocab_size\":151674,\"max_position_embeddings\":32768,\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,"
    "\"tie_word_embeddings\":false,\"hidden_act\":\"silu\"},"
    "\"vision_config\":{\"architectures\":[\"InternVisionModel\"],\"model_type\":\"intern_vit_6b\","
    "\"hidden_size\":1024,\"num_hidden_layers\":24,\"num_attention_heads\":16,\"intermediate_size\":4096,"
    "\"image_size\":448,\"patch_size\":14,\"norm_type\":\"layer_norm\",\"qkv_bias\":true,"
    "\"qk_normalization\":false,\"hidden_act\":\"gelu\"}}";

static const char shape_405b[] =
    "{\"model_type\":\"qwen2\",\"architectures\":[\"Qwen2ForCausalLM\"],\"torch_dtype\":\"bfloat16\","
    "\"hidden_size\":16384,\"num_hidden_layers\":126,\"num_attention_heads\":128,\"num_key_value_heads\":8,"
    "\"intermediate_size\":53248,\"vocab_size\":128256,\"max_position_embeddings\":32768,\"rms_norm_eps\":1e-06,"
    "\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"hidden_act\":\"silu\"}";

/* ---- placing ---- */

static void set_devices(berth_strategy_input *in, berth_device_view *devices, berth_link_view *links, int32_t n,
                        bool knows_rates)
{
    static const char *const names[MAX_DEVICES] = {"d:0", "d:1", "d:2",  "d:3",  "d:4",  "d:5",  "d:6",  "d:7",
                                                   "d:8", "d:9", "d:10", "d:11", "d:12", "d:13", "d:14", "d:15"};
    uint64_t total = berth_node_at(in, 0)->weight_bytes;
    in->n_links = 0;
    for (int32_t d = 0; d < n; d++) {
        devices[d] = (berth_device_view){.name = names[d],
                                         .budget_bytes = total / (uint64_t)n * 3 / 2 + ((uint64_t)2 << 30),
                                         .flops = knows_rates ? 75e12 : 0,
                                         .bytes_per_second = knows_rates ? 765e9 : 0,
                                         .physical = d};
        for (int32_t to = 0; to < n && knows_rates; to++) /* a quad's wiring, repeated */
            if (to != d)
                links[in->n_links++] = (berth_link_view){
                    .from = d,
                    .to = to,
                    .bytes_per_second = (d % 4) + (to % 4) == 3 || (d % 4) + (to % 4) == 5 ? 48e9 : 25e9,
                    .latency_ns = 7200};
    }
    in->devices = devices;
    in->device_size = sizeof *devices;
    in->n_devices = n;
    in->links = links;
    in->link_size = sizeof *links;
}

static void bench_strategies(const options *o, const char *model, const berth_strategy_input *in, int32_t *device_of,
                             const char *suffix)
{
    static const char *const more[] = {"optimal=latency", "optimal=capacity"};
    int32_t n = berth_strategy_count(), n_more = (int32_t)(sizeof more / sizeof *more);
    for (int32_t i = 0; i < n + n_more; i++) {
        berth_strategy_input asked = *in;
        const char *name = i < n ? berth_strategy_at(i)->name : more[i - n];
        const berth_strategy *s = berth_strategy_find(name, &asked.argument);
        double us[MAX_ROUNDS];
        int rounds = 0;
        berth_error err = {0};
        while (rounds < o->rounds) {
            berth_strategy_output out = {.struct_size = sizeof out, .device_of = device_of, .max_replicas = 1};
            out.max_replicas = in->n_devices;
            memset(device_of, 0xff, (size_t)in->n_devices * (size_t)in->n_nodes * sizeof *device_of);
            double from = thread_us();
            berth_status st = s->check ? s->check(&asked, &err) : BERTH_OK;
            if (st == BERTH_OK) st = s->place(&asked, &out, &err);
            us[rounds++] = thread_us() - from;
            if (st != BERTH_OK && st != BERTH_DOES_NOT_FIT) break;
        }
        char what[48];
        snprintf(what, sizeof what, "%s%s", name, suffix);
        if (rounds == o->rounds)
            report(o, model, what, us, rounds);
        else if (!o->json)
            printf("%-14s %-20s %.100s\n", model, what, err.message);
    }
}

/* Its map over a tree that is there already, as accelerate's own planner has it; and the tree. */
static void bench_accelerate(const options *o, const char *model, const berth_strategy_input *in)
{
    static const char *const no_split[] = {"InternVisionModel", "Qwen2DecoderLayer"};
    berth_accelerate_budget budgets[MAX_DEVICES + 1];
    double map_us[MAX_ROUNDS], tree_us[MAX_ROUNDS];
    for (int32_t d = 0; d < in->n_devices; d++)
        budgets[d] = (berth_accelerate_budget){.device = d, .bytes = (double)berth_device_at(in, d)->budget_bytes};
    budgets[in->n_devices] = (berth_accelerate_budget){.device = BERTH_ACCELERATE_CPU, .bytes = 64e9};
    for (int r = 0; r < o->rounds; r++) {
        berth_tree modules;
        berth_accelerate_result result;
        berth_error err = {0};
        double from = thread_us();
        need(berth_accelerate_tree(in, &modules, &err), &err);
        tree_us[r] = thread_us() - from;
        const berth_accelerate_request req = {.tree = &modules,
                                              .strategy = BERTH_ACCELERATE_BALANCED,
                                              .dtype_bits = 16,
                                              .no_split = no_split,
                                              .n_no_split = 2,
                                              .budgets = budgets,
                                              .n_budgets = in->n_devices + 1};
        from = thread_us();
        need(berth_accelerate_place(&req, &result, &err), &err);
        map_us[r] = thread_us() - from;
        berth_accelerate_deinit(&result);
        berth_tree_deinit(&modules);
    }
    report(o, model, "accelerate's map", map_us, o->rounds);
    report(o, model, "accelerate's tree", tree_us, o->rounds);
}

/* The slowest device for one request (work.h) under a map; hops are left out, which favours accelerate's. */
static double slowest_device(const berth_strategy_input *in, const int32_t *device_of)
{
    berth_chain c;
    berth_work w;
    berth_error err = {0};
    double most = 0;
    need(berth_chain_init(&c, in, &err), &err);
    need(berth_work_init(&w, &c, in, &err), &err);
    for (int32_t d = 0; d < in->n_devices; d++) {
        berth_work_sums sum[2] = {{0}};
        for (int32_t p = 0; p < c.n_pieces; p++) {
            int32_t atom = c.piece_atom[p], node = c.piece_node[p];
            if (p > 0 && c.piece_atom[p - 1] == atom) continue;
            while (device_of[node] < 0 && berth_node_at(in, node)->n_descendants > 0) node++; /* a part tells */
            if (device_of[node] != d) continue;
            const berth_work_sums *a = &w.sums[atom], *b = &w.sums[atom + 1];
            sum[1].encode_flops += b->encode_flops - a->encode_flops;
            sum[1].encode_bytes += b->encode_bytes - a->encode_bytes;
            sum[1].prefill_flops += b->prefill_flops - a->prefill_flops;
            sum[1].prefill_bytes += b->prefill_bytes - a->prefill_bytes;
            sum[1].decode_flops += b->decode_flops - a->decode_flops;
            sum[1].decode_bytes += b->decode_bytes - a->decode_bytes;
        }
        const berth_work of_device = {.sums = sum};
        double seconds = berth_work_seconds(&of_device, 0, 1, berth_device_at(in, d)->flops,
                                            berth_device_at(in, d)->bytes_per_second);
        if (seconds > most) most = seconds;
    }
    berth_work_deinit(&w);
    berth_chain_deinit(&c);
    return most;
}

/* How much sooner the slowest device is done than under accelerate's map, on devices of 16 GiB. */
static void compare_stages(const options *o, const char *model, const berth_strategy_input *given, int32_t *device_of)
{
    berth_strategy_input in = *given;
    berth_device_view devices[MAX_DEVICES];
    berth_accelerate_model a;
    berth_error err = {0};
    for (int32_t d = 0; d < in.n_devices; d++) {
        devices[d] = *berth_device_at(given, d);
        devices[d].budget_bytes = (uint64_t)16 << 30;
    }
    in.devices = devices;
    need(berth_accelerate_for_input(&in, BERTH_ACCELERATE_BALANCED, 16, (uint64_t)64 << 30, &a, &err), &err);
    double theirs = slowest_device(&in, a.device_of);
    berth_accelerate_model_deinit(&a);
    berth_strategy_output out = {.struct_size = sizeof out, .device_of = device_of, .max_replicas = in.n_devices};
    memset(device_of, 0xff, (size_t)in.n_devices * (size_t)in.n_nodes * sizeof *device_of);
    need(berth_strategy_find("optimal", &in.argument)->place(&in, &out, &err), &err);
    double ours = slowest_device(&in, device_of);
    if (o->json)
        printf("{\"model\":\"%s\",\"what\":\"slowest stage\",\"optimal_s\":%.4f,\"accelerate_s\":%.4f}\n", model, ours,
               theirs);
    else
        printf("%-14s slowest stage, predicted: optimal %.3f s, accelerate's map %.3f s, %.2f times\n", model, ours,
               theirs, theirs / ours);
}

static void bench_model(const options *o, const char *name, const berth_node_view *nodes, int32_t n_nodes,
                        int32_t n_devices, bool registers)
{
    berth_device_view devices[MAX_DEVICES];
    berth_link_view links[MAX_DEVICES * MAX_DEVICES];
    berth_strategy_input in = {.struct_size = sizeof in,
                               .nodes = nodes,
                               .node_size = sizeof *nodes,
                               .n_nodes = n_nodes,
                               .context_tokens = 4096,
                               .max_tiles = 4};
    if (o->only && strcmp(o->only, name) != 0) return;
    int32_t *device_of = malloc((size_t)n_devices * (size_t)n_nodes * sizeof *device_of);
    if (!device_of) stop("no memory");
    set_devices(&in, devices, links, n_devices, false);
    bench_strategies(o, name, &in, device_of, "");
    if (registers) bench_accelerate(o, name, &in);
    in.request_tiles = 13;
    in.request_prompt_tokens = 3448;
    in.request_new_tokens = 600;
    in.hidden_bytes_per_token = 4 * 3584;
    in.hidden_bytes_per_tile = 4 * 1025 * 1024;
    set_devices(&in, devices, links, n_devices, true);
    bench_strategies(o, name, &in, device_of, " +rates");
    if (registers && n_devices == 4) compare_stages(o, name, &in, device_of);
    free(device_of);
}

/* ---- opening ---- */

/* Tensor i of a language model: as many decoder layers as a model may have, the rest under a name that is no module of
 * it, the three others last. */
static berth_safetensors_entry tiny_tensor(int32_t i, char name[80])
{
    enum { LAYERS = 1024, PER_LAYER = 12, N_TOP = 3 };
    typedef struct form {
        const char *name;
        int32_t n_dims, rows, cols;
    } form;
    static const form parts[PER_LAYER] = {
        {"input_layernorm.weight", 1, 8, 1},
        {"self_attn.q_proj.weight", 2, 8, 8},
        {"self_attn.q_proj.bias", 1, 8, 1},
        {"self_attn.k_proj.weight", 2, 4, 8},
        {"self_attn.k_proj.bias", 1, 4, 1},
        {"self_attn.v_proj.weight", 2, 4, 8},
        {"self_attn.v_proj.bias", 1, 4, 1},
        {"self_attn.o_proj.weight", 2, 8, 8},
        {"post_attention_layernorm.weight", 1, 8, 1},
        {"mlp.gate_proj.weight", 2, 8, 8},
        {"mlp.up_proj.weight", 2, 8, 8},
        {"mlp.down_proj.weight", 2, 8, 8},
    };
    static const form top[N_TOP] = {
        {"model.embed_tokens.weight", 2, 16, 8}, {"lm_head.weight", 2, 16, 8}, {"model.norm.weight", 1, 8, 1}};
    static const uint16_t zeros[128];
    const bool is_top = i >= N_OPEN_TENSORS - N_TOP;
    const form *f = is_top ? &top[i - (N_OPEN_TENSORS - N_TOP)] : &parts[i % PER_LAYER];
    const int32_t layer = i / PER_LAYER;
    if (is_top)
        snprintf(name, 80, "%s", f->name);
    else
        snprintf(name, 80, "%s.layers.%d.%s", layer < LAYERS ? "model" : "drafter", layer, f->name);
    return (berth_safetensors_entry){.name = name,
                                     .dtype = BERTH_BF16,
                                     .n_dims = f->n_dims,
                                     .dims = {f->rows, f->cols},
                                     .data = zeros,
                                     .n_bytes = (size_t)f->rows * (size_t)f->cols * 2};
}

static void write_tiny_model(const char *dir)
{
    static const char config[] =
        "{\"model_type\":\"qwen2\",\"architectures\":[\"Qwen2ForCausalLM\"],\"torch_dtype\":\"bfloat16\","
        "\"hidden_size\":8,\"num_hidden_layers\":1024,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
        "\"intermediate_size\":8,\"vocab_size\":16,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-06,"
        "\"rope_theta\":10000.0,\"tie_word_embeddings\":false,\"hidden_act\":\"silu\"}";
    berth_safetensors_entry *e = calloc(N_OPEN_TENSORS, sizeof *e);
    char(*names)[80] = calloc(N_OPEN_TENSORS, sizeof *names), path[128];
    berth_error err = {0};
    if (!e || !names) stop("no memory");
    for (int32_t i = 0; i < N_OPEN_TENSORS; i++) e[i] = tiny_tensor(i, names[i]);
    write_text(dir, "config.json", config);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    need(berth_safetensors_write(path, e, N_OPEN_TENSORS, &err), &err);
    free(e);
    free(names);
}

static void bench_open(const options *o)
{
    if (o->only && strcmp(o->only, "headers") != 0) return;
    char dir[] = "/tmp/berth-plan-bench-XXXXXX";
    if (!mkdtemp(dir)) stop("no folder in /tmp");
    write_tiny_model(dir);
    double us[MAX_ROUNDS];
    for (int r = 0; r < o->rounds; r++) {
        berth_model_data *m = NULL;
        berth_error err = {0};
        double from = thread_us();
        berth_status st = berth_model_data_open(dir, NULL, &m, &err);
        us[r] = thread_us() - from;
        if (st != BERTH_OK) remove_dir(dir);
        need(st, &err);
        berth_model_data_release(m);
    }
    remove_dir(dir);
    report(o, "headers", "open 100,000", us, o->rounds);
}

int main(int argc, char **argv)
{
    options o = {.rounds = 31};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            o.json = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            o.only = argv[++i];
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            o.rounds = atoi(argv[++i]);
        else
            stop("usage: plan_bench [--json] [--only internvl3-8b|405b|experts|headers] [--rounds N]");
    }
    if (o.rounds < 1 || o.rounds > MAX_ROUNDS) stop("--rounds takes 1 to 999");
    berth_model_data *m = open_config(internvl_8b);
    bench_model(&o, "internvl3-8b", berth_model_data_nodes(m), berth_model_data_n_nodes(m), 4, true);
    berth_model_data_release(m);
    m = open_config(shape_405b);
    bench_model(&o, "405b", berth_model_data_nodes(m), berth_model_data_n_nodes(m), 16, true);
    berth_model_data_release(m);
    if (!o.only || strcmp(o.only, "experts") == 0) {
        tree t;
        make_experts(&t);
        bench_model(&o, "experts", t.nodes, t.n, 8, false);
        free(t.nodes);
        free(t.paths);
    }
    bench_open(&o);
    return 0;
}
