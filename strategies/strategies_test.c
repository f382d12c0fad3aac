/* strategies_test.c - each strategy on models whose answer can be worked out by hand, its arguments, its words, and the
 * ABI's layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "strategies/registry.h"

enum { MAX_NODES = 64, MAX_DEVICES = 8 };

/* A flat model: the root and one NO_SPLIT module with one tensor for each size. */
typedef struct flat {
    berth_node_view nodes[2 * MAX_NODES + 1];
    char paths[2 * MAX_NODES + 1][24];
    berth_device_view devices[MAX_DEVICES];
    char names[MAX_DEVICES][16];
    berth_strategy_input in;
    berth_strategy_output out;
    int32_t device_of[MAX_DEVICES * (2 * MAX_NODES + 1)];
    berth_error err;
    int32_t n_parts;
} flat;

static void flat_init(flat *f, const uint64_t *sizes, int32_t n, const uint64_t *budgets, int32_t n_devices)
{
    memset(f, 0, sizeof *f);
    f->n_parts = n;
    f->nodes[0] =
        (berth_node_view){.path = "", .class_name = "Model", .parent = -1, .n_descendants = 2 * n, .tied_to = -1};
    for (int32_t i = 0; i < n; i++) {
        berth_node_view *module = &f->nodes[1 + 2 * i], *tensor = module + 1;
        snprintf(f->paths[2 * i], sizeof f->paths[0], "part.%d", i);
        snprintf(f->paths[2 * i + 1], sizeof f->paths[0], "part.%d.weight", i);
        *module = (berth_node_view){.path = f->paths[2 * i],
                                    .class_name = "Block",
                                    .parent = 0,
                                    .n_descendants = 1,
                                    .flags = BERTH_NODE_NO_SPLIT,
                                    .tied_to = -1,
                                    .weight_bytes = sizes[i]};
        *tensor = (berth_node_view){.path = f->paths[2 * i + 1],
                                    .class_name = "",
                                    .parent = 1 + 2 * i,
                                    .flags = BERTH_NODE_TENSOR,
                                    .tied_to = -1,
                                    .weight_bytes = sizes[i]};
        f->nodes[0].weight_bytes += sizes[i];
    }
    for (int32_t d = 0; d < n_devices; d++) {
        snprintf(f->names[d], sizeof f->names[d], "cpu:%d", d);
        f->devices[d] = (berth_device_view){.name = f->names[d], .budget_bytes = budgets[d]};
    }
    f->in = (berth_strategy_input){.struct_size = sizeof f->in,
                                   .nodes = f->nodes,
                                   .node_size = sizeof *f->nodes,
                                   .n_nodes = 2 * n + 1,
                                   .devices = f->devices,
                                   .device_size = sizeof *f->devices,
                                   .n_devices = n_devices};
}

static berth_status flat_run(flat *f, const char *name)
{
    const berth_strategy *s = berth_strategy_find(name, &f->in.argument);
    assert_non_null(s);
    memset(f->device_of, 0xFF, sizeof f->device_of);
    memset(&f->err, 0, sizeof f->err);
    f->out = (berth_strategy_output){
        .struct_size = sizeof f->out, .device_of = f->device_of, .max_replicas = f->in.n_devices};
    berth_status st = s->check ? s->check(&f->in, &f->err) : BERTH_OK;
    return st == BERTH_OK ? s->place(&f->in, &f->out, &f->err) : st;
}

/* "0011|2233": the device of each part, a replica after the other. */
static const char *flat_answer(const flat *f)
{
    static char text[MAX_DEVICES * (MAX_NODES + 1)];
    size_t len = 0;
    for (int32_t r = 0; r < f->out.n_replicas; r++) {
        if (r > 0) text[len++] = '|';
        for (int32_t i = 0; i < f->n_parts; i++) {
            const int32_t *device_of = f->device_of + r * f->in.n_nodes;
            int32_t d = device_of[1 + 2 * i] >= 0 ? device_of[1 + 2 * i] : device_of[0];
            text[len++] = d < 0 ? '?' : (char)('0' + d);
        }
    }
    text[len] = '\0';
    return text;
}

typedef struct hand_case {
    const char *strategy;
    uint64_t sizes[10];
    uint64_t budgets[5];
    const char *expected; /* "0112", or words of the refusal after '!' */
} hand_case;

static const hand_case hand_cases[] = {
    {"single", {1, 2, 3}, {6, 9}, "000"},
    {"single", {1, 2, 4}, {6, 9}, "111"},
    {"single=1", {1, 2, 3}, {6, 9}, "111"},
    {"single=0",
     {1, 2, 4},
     {6, 9},
     "!does not fit on cpu:0: weights and KV cache for 0 tokens need 7 bytes, and there is room for 6 bytes; missing: "
     "1 bytes"},
    {"single", {5, 5}, {6, 9}, "!does not fit on cpu:1"},
    {"replicate", {1, 2}, {3, 3, 4}, "00|11|22"},
    {"replicate", {1, 2}, {3, 2, 4}, "!does not fit on cpu:1"},
    {"replicate=2", {4, 4, 4, 4}, {9, 9, 9, 9}, "0011|2233"},
    {"replicate=2", {3, 3, 3}, {3, 3, 3, 9}, "!does not fit on cpu:0, cpu:1"},
    {"replicate=2", {3, 3, 3}, {3, 3, 3, 9, 9}, "012|334"},
    {"replicate=1", {4, 4, 4, 4}, {9, 9, 9, 9}, "0123"},
    {"replicate=3", {1}, {9, 9}, "!takes the number of copies, 1 to 2"},
    {"replicate=0", {1}, {9, 9}, "!takes the number of copies"},
    {"replicate=-1", {1}, {9, 9}, "!takes the number of copies"},
    {"replicate=", {1}, {9, 9}, "!takes the number of copies"},
    {"replicate=2x", {1}, {9, 9}, "!takes the number of copies"},
    {"replicate=4294967297", {1}, {9, 9}, "!takes the number of copies"},
    {"single=2", {1}, {9, 9}, "!takes the index of a device, 0 to 1"},
    {"balanced=2", {1}, {9, 9}, "!takes no argument"},
    {"sequential", {1, 1, 1, 1}, {9, 9, 9}, "0000"},
    {"sequential", {3, 3, 3, 3}, {7, 7, 7}, "0011"},
    {"sequential", {3, 8, 3}, {7, 9, 7}, "012"},
    {"sequential", {8, 3}, {7, 9, 7}, "12"}, /* too large an atom skips a device */
    {"sequential",
     {3, 8, 3},
     {7, 7, 7},
     "!part.1 needs 8 bytes in one piece, and the most that one device has is 7 bytes; missing: 1 bytes"},
    {"sequential",
     {5, 5, 5},
     {8, 8},
     "!16 bytes of room would do for 15 bytes, but not in whole modules in order: part.2 finds no place; missing: 5 "
     "bytes"},
    {"balanced", {2, 2, 2, 2}, {9, 9}, "0011"},
    {"balanced", {2, 2, 2, 2, 2, 2, 2, 2}, {99, 99, 99, 99}, "00112233"},
    {"balanced", {6, 2, 2, 2}, {9, 9}, "0111"},
    {"balanced", {2, 2, 2, 20}, {99, 99, 99, 99}, "0123"}, /* no device is empty without need */
    {"balanced", {20, 2, 2, 2}, {99, 99, 99, 99}, "0123"},
    {"balanced", {2, 2, 2, 6}, {9, 9}, "0001"},
    {"balanced",
     {3, 3, 3},
     {9, 90},
     "111"}, /* by room: any of them on device 0 makes it a third full, all on device 1 a tenth */
    {"balanced", {4, 4, 4, 4, 4, 4}, {10, 20}, "001111"},
    {"balanced", {4, 4, 4, 4, 4, 4}, {20, 10}, "000011"},
    {"balanced", {1, 1}, {9, 9, 9, 9}, "01"},
    {"balanced", {5, 5, 5}, {5, 0, 11}, "022"},
    {"balanced", {5, 5, 5}, {5, 5, 4}, "!missing: 1 bytes"},
    {"balanced_low_0", {2, 2, 2, 2, 2, 2}, {99, 99, 99, 99}, "112233"},
    {"balanced_low_0", {2, 2, 2, 2}, {99, 99}, "1111"},
    {"balanced_low_0", {2, 2, 2, 2}, {99, 5}, "0011"},
    {"balanced_low_0", {2, 2, 2, 2}, {1, 5}, "!missing: 2 bytes"},
    {"balanced_low_0", {2, 2}, {9}, "00"},
    {"auto", {2, 2}, {4, 9, 9}, "11"},
    {"auto", {4, 4, 4}, {9, 9}, "001"},
    {"auto", {4, 4, 4}, {4, 4}, "!missing: 4 bytes"},
    {"optimal", {4, 4, 4, 4}, {99, 99}, "0011"},
    {"optimal", {2, 9, 2}, {9, 4, 4}, "102"}, /* only another order fits */
    {"optimal=speed", {1}, {9}, "!takes throughput, latency or capacity"},
    {"optimal=latency", {1, 1}, {9, 9, 9, 9, 9}, "00"},
    {"internvl", {1, 1}, {9}, "!this model has none with a KV cache"},
    {"deepspeed=nonsense", {1, 1}, {9}, "!takes uniform, parameters or type:REGEX"},
    {"deepspeed=type:(", {1, 1}, {9}, "!takes uniform, parameters or type:REGEX"},
    {"deepspeed=type:block", {1, 1, 1, 1}, {9, 9}, "0011"},
    {"deepspeed=uniform", {1, 1, 1, 1, 1}, {9, 9, 9}, "00112"},
    {"layer=1", {1}, {9, 9}, "!takes 2 weights"},
    {"layer=0,0", {1}, {9, 9}, "!takes 2 weights"},
    {"layer=1,-1", {1}, {9, 9}, "!takes 2 weights"},
    {"layer=1,nan", {1}, {9, 9}, "!takes 2 weights"},
    {"layer=1,2,3", {1}, {9, 9}, "!takes 2 weights"},
};

static void answers_worked_out_by_hand(void **state)
{
    (void)state;
    static flat f;
    for (size_t k = 0; k < sizeof hand_cases / sizeof *hand_cases; k++) {
        const hand_case *c = &hand_cases[k];
        int32_t n = 0, n_devices = 0;
        while (n < 10 && c->sizes[n]) n++;
        for (int32_t d = 0; d < 5; d++)
            if (c->budgets[d]) n_devices = d + 1;
        flat_init(&f, c->sizes, n, c->budgets, n_devices);
        berth_status st = flat_run(&f, c->strategy);
        if (c->expected[0] == '!') {
            if (st == BERTH_OK || !strstr(f.err.message, c->expected + 1))
                fail_msg("case %zu, %s: %s", k, c->strategy, st == BERTH_OK ? flat_answer(&f) : f.err.message);
        } else {
            if (st != BERTH_OK) fail_msg("case %zu, %s: %s", k, c->strategy, f.err.message);
            if (strcmp(flat_answer(&f), c->expected) != 0)
                fail_msg("case %zu, %s: %s, not %s", k, c->strategy, flat_answer(&f), c->expected);
        }
    }
}

/* Two parts of a vision model, an embedding, `n_layers` layers with KV, a norm and a head, each of one byte. */
static const char *lay_out(const char *strategy, int32_t n_layers, int32_t n_devices)
{
    static flat f;
    uint64_t sizes[MAX_NODES], budgets[MAX_DEVICES];
    for (int32_t i = 0; i < n_layers + 5; i++) sizes[i] = 1;
    for (int32_t d = 0; d < n_devices; d++) budgets[d] = 1000;
    flat_init(&f, sizes, n_layers + 5, budgets, n_devices);
    for (int32_t i = 3; i < n_layers + 3; i++) f.nodes[1 + 2 * i].kv_bytes_per_token = 1;
    berth_status st = flat_run(&f, strategy);
    static char message[BERTH_ERROR_MESSAGE_SIZE];
    memcpy(message, f.err.message, sizeof message);
    return st == BERTH_OK ? flat_answer(&f) : message;
}

/* What belongs to the layers goes where each scheme puts it: the first stage has what comes before them, the last, or
 * device 0, what comes after. */
static void schemes_told_in_layers(void **state)
{
    (void)state;
    assert_string_equal(lay_out("internvl", 8, 2), "000"
                                                   "00011110"
                                                   "00");
    assert_string_equal(lay_out("internvl", 8, 1), "000"
                                                   "00000000"
                                                   "00");
    assert_string_equal(lay_out("vllm", 8, 3), "000"
                                               "00011122"
                                               "22");
    assert_string_equal(lay_out("vllm=1,7,0", 8, 3), "000"
                                                     "01111111"
                                                     "22");
    assert_string_equal(lay_out("vllm=0,0,8", 8, 3), "000"
                                                     "22222222"
                                                     "22");
    assert_string_equal(lay_out("vllm", 2, 4), "000"
                                               "12"
                                               "33");
    assert_string_equal(lay_out("sglang", 8, 3), "000"
                                                 "00111222"
                                                 "22");
    assert_string_equal(lay_out("sglang", 7, 3), "000"
                                                 "0011222"
                                                 "22");
    assert_string_equal(lay_out("vllm", 7, 3), "000"
                                               "0011122"
                                               "22");
    assert_string_equal(lay_out("layer", 8, 2), "000"
                                                "00000111"
                                                "11");
    assert_string_equal(lay_out("layer=3,1", 7, 2), "000"
                                                    "0000001"
                                                    "11");
    assert_string_equal(lay_out("layer=1,0.0", 7, 2), "000"
                                                      "0000000"
                                                      "00");
    assert_non_null(strstr(lay_out("vllm=1,2", 8, 2), "the counts sum to 3, and the model has 8 layers"));
    assert_non_null(strstr(lay_out("vllm=1", 8, 2), "takes 2 counts of layers"));
    assert_non_null(strstr(lay_out("vllm=-1,9", 8, 2), "takes 2 counts of layers"));
    assert_non_null(strstr(lay_out("sglang=1,2", 8, 2), "takes no argument"));
}

/* InternVL3-8B in 2-byte weights: vision tower, projector, embedding, 28 layers, norm, head. The least possible largest
 * shares were found by an exhaustive search with exact rationals. */
static void eight_billion_parameters(void **state)
{
    (void)state;
    static flat f;
    uint64_t sizes[33] = {608024576, 55080960, 1087199232}, budgets[8];
    for (int i = 0; i < 28; i++) sizes[3 + i] = 466115584;
    sizes[31] = 7168;
    sizes[32] = 1087199232;
    static const struct {
        int32_t n_devices;
        uint64_t budget, largest;
    } cases[] = {{2, 25769803776u, 8078940160u}, {4, 34359738368u, 4195040256u}, {8, 17179869184u, 2330577920u}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        uint64_t load[8] = {0}, largest = 0;
        for (int32_t d = 0; d < cases[k].n_devices; d++) budgets[d] = cases[k].budget;
        flat_init(&f, sizes, 33, budgets, cases[k].n_devices);
        assert_int_equal(flat_run(&f, "balanced"), BERTH_OK);
        for (int32_t i = 0; i < 33; i++) load[f.device_of[1 + 2 * i]] += sizes[i];
        for (int32_t d = 0; d < cases[k].n_devices; d++) {
            assert_true(load[d] > 0);
            if (load[d] > largest) largest = load[d];
        }
        assert_int_equal(largest, cases[k].largest);
        assert_string_equal(f.out.note, "");
    }
    for (int32_t d = 0; d < 4; d++) budgets[d] = 17179869184u;
    flat_init(&f, sizes, 33, budgets, 4);
    assert_int_equal(flat_run(&f, "balanced_low_0"), BERTH_OK);
    for (int32_t i = 0; i < 33; i++) assert_true(f.device_of[1 + 2 * i] >= 1);
    assert_string_equal(f.out.note, "cpu:0 is left empty");
}

static void kv_and_reserve_count(void **state)
{
    (void)state;
    static flat f;
    const uint64_t sizes[] = {100, 100}, budgets[] = {300, 300};
    flat_init(&f, sizes, 2, budgets, 2);
    for (int i = 0; i < 2; i++) f.nodes[1 + 2 * i].kv_bytes_per_token = 10;
    f.nodes[0].kv_bytes_per_token = 20;
    f.in.context_tokens = 5;
    assert_int_equal(flat_run(&f, "sequential"), BERTH_OK); /* 200 + 100 */
    assert_string_equal(flat_answer(&f), "00");
    f.in.context_tokens = 6;
    assert_int_equal(flat_run(&f, "sequential"), BERTH_OK);
    assert_string_equal(flat_answer(&f), "01");
    f.devices[0].reserved_bytes = 150;
    assert_int_equal(flat_run(&f, "sequential"), BERTH_DOES_NOT_FIT);
    assert_non_null(strstr(f.err.message, "a context of 5 tokens would fit"));
    f.devices[0].reserved_bytes = 400; /* more than there is: no room, not a huge one */
    f.in.context_tokens = 5;
    assert_int_equal(flat_run(&f, "sequential"), BERTH_OK);
    assert_string_equal(flat_answer(&f), "11");
    f.in.context_tokens = INT64_MAX;
    f.nodes[1].kv_bytes_per_token = f.nodes[3].kv_bytes_per_token = UINT64_MAX / 2;
    for (int32_t i = 0; i < berth_strategy_count(); i++)
        assert_int_equal(flat_run(&f, berth_strategy_at(i)->name), BERTH_DOES_NOT_FIT);
    flat_run(&f, "balanced");
    assert_non_null(strstr(f.err.message, "a context of 0 tokens would fit"));
}

/* The head shares the embedding's storage: once where both lie on one device, twice where not. */
static void tied_weights_count_where_they_are_held(void **state)
{
    (void)state;
    static flat f;
    const uint64_t sizes[] = {100, 10, 10, 0}, budgets[] = {120, 120};
    flat_init(&f, sizes, 4, budgets, 2);
    f.nodes[8].tied_to = 2;
    assert_int_equal(flat_run(&f, "single"), BERTH_OK);
    assert_string_equal(f.out.note, "cpu:1 is left empty");
    assert_int_equal(flat_run(&f, "balanced"), BERTH_OK); /* 110 | 110: the tensor is held twice */
    assert_string_equal(flat_answer(&f), "0011");
    assert_string_equal(f.out.note, "tied tensor part.0.weight is held on cpu:0 and on cpu:1, 100 bytes each");
    f.devices[1].budget_bytes = 60;
    assert_int_equal(flat_run(&f, "balanced"), BERTH_OK);
    assert_string_equal(flat_answer(&f), "0000");
    f.devices[0].budget_bytes = 115;
    assert_int_equal(flat_run(&f, "balanced"), BERTH_DOES_NOT_FIT);
}

static void auto_takes_the_fastest_when_all_are_known(void **state)
{
    (void)state;
    static flat f;
    const uint64_t sizes[] = {1, 1}, budgets[] = {2, 9, 3};
    flat_init(&f, sizes, 2, budgets, 3);
    f.devices[0].bytes_per_second = 1e9;
    f.devices[1].bytes_per_second = 1e9;
    assert_int_equal(flat_run(&f, "auto"), BERTH_OK);
    assert_string_equal(flat_answer(&f), "11"); /* one rate is unknown: the largest */
    f.devices[2].bytes_per_second = 2e9;
    assert_int_equal(flat_run(&f, "auto"), BERTH_OK);
    assert_string_equal(flat_answer(&f), "22");
    assert_string_equal(f.out.note, "auto chose single: the model fits on cpu:2; cpu:0, cpu:1 are left empty");
}

/* Modules without bytes join their neighbours, a module's own tensors stay with it, and large ones are divided. */
static void atoms(void **state)
{
    (void)state;
    static const struct {
        int32_t parent, n_descendants;
        uint32_t flags;
        uint64_t bytes;
    } tree[] = {
        {-1, 12, 0, 70},                 /* 0 the model */
        {0, 0, 0, 0},                    /* 1 nothing */
        {0, 4, 0, 40},                   /* 2 embeddings: owns a tensor, holds a module: one atom */
        {2, 0, BERTH_NODE_TENSOR, 10},   /* 3 */
        {2, 2, 0, 30},                   /* 4 */
        {4, 0, BERTH_NODE_TENSOR, 20},   /* 5 */
        {4, 0, BERTH_NODE_TENSOR, 10},   /* 6 */
        {0, 0, 0, 0},                    /* 7 nothing */
        {0, 4, 0, 30},                   /* 8 layers: owns a tensor, but holds a NO_SPLIT module */
        {8, 0, BERTH_NODE_TENSOR, 10},   /* 9 */
        {8, 1, BERTH_NODE_NO_SPLIT, 20}, /* 10 */
        {10, 0, BERTH_NODE_TENSOR, 20},  /* 11 */
        {8, 0, 0, 0},                    /* 12 nothing */
    };
    static flat f;
    const uint64_t sizes[] = {1}, budgets[] = {40, 10, 20};
    flat_init(&f, sizes, 1, budgets, 3);
    f.in.n_nodes = 13;
    for (int32_t i = 0; i < 13; i++)
        f.nodes[i] = (berth_node_view){.path = "x",
                                       .class_name = "",
                                       .parent = tree[i].parent,
                                       .n_descendants = tree[i].n_descendants,
                                       .flags = tree[i].flags,
                                       .tied_to = -1,
                                       .weight_bytes = tree[i].bytes};
    static const int32_t expected[13] = {-1, 0, 0, -1, -1, -1, -1, 0, -1, 1, 2, -1, 2};
    assert_int_equal(flat_run(&f, "balanced"), BERTH_OK);
    assert_memory_equal(f.device_of, expected, sizeof expected);
    f.devices[0].budget_bytes = 39;
    assert_int_equal(flat_run(&f, "balanced"), BERTH_DOES_NOT_FIT);
    f.devices[0].budget_bytes = 1000;
    f.in.n_nodes = 1; /* nothing but a root */
    f.nodes[0].n_descendants = 0;
    static const struct {
        const char *name;
        berth_status status;
    } alone[] = {{"single", BERTH_OK},         {"auto", BERTH_OK},          {"sequential", BERTH_OK},
                 {"balanced", BERTH_OK},       {"optimal", BERTH_OK},       {"deepspeed", BERTH_OK},
                 {"balanced_low_0", BERTH_OK}, {"vllm", BERTH_UNSUPPORTED}, {"replicate", BERTH_DOES_NOT_FIT}};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        berth_status st = flat_run(&f, alone[i].name);
        if (st != alone[i].status) fail_msg("%s: %s %s", alone[i].name, berth_status_name(st), f.err.message);
    }
}

static void registry(void **state)
{
    (void)state;
    const char *argument = "";
    assert_true(berth_strategy_count() >= 6);
    assert_null(berth_strategy_at(-1));
    assert_null(berth_strategy_at(berth_strategy_count()));
    for (int32_t i = 0; i < berth_strategy_count(); i++) {
        const berth_strategy *s = berth_strategy_at(i);
        assert_int_equal(s->abi, BERTH_STRATEGY_ABI);
        assert_int_equal(s->struct_size, sizeof *s);
        assert_true(strlen(s->about) > 10 && s->place);
        assert_ptr_equal(berth_strategy_find(s->name, &argument), s);
        assert_null(argument);
    }
    assert_string_equal(berth_strategy_find("replicate=2", &argument)->name, "replicate");
    assert_string_equal(argument, "2");
    assert_string_equal(berth_strategy_find("replicate=", NULL)->name, "replicate");
    static const char *const unknown[] = {"", "=", "bal", "balanced_low_", "Balanced", "balanced_low_01", "=single"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_null(berth_strategy_find(unknown[i], &argument));
}

/* A plug-in built against an older berth relies on these numbers (64-bit, System V ABI). */
static void abi_layout(void **state)
{
    (void)state;
#define PIN(type, field, offset) assert_int_equal(offsetof(type, field), offset)
    PIN(berth_node_view, path, 0);
    PIN(berth_node_view, class_name, 8);
    PIN(berth_node_view, parent, 16);
    PIN(berth_node_view, n_descendants, 20);
    PIN(berth_node_view, flags, 24);
    PIN(berth_node_view, tied_to, 28);
    PIN(berth_node_view, weight_bytes, 32);
    PIN(berth_node_view, kv_bytes_per_token, 40);
    PIN(berth_node_view, flops_per_token, 48);
    PIN(berth_node_view, flops_per_tile, 56);
    PIN(berth_node_view, n_elements, 64);
    PIN(berth_node_view, element_bits, 72);
    PIN(berth_node_view, attention_flops_per_pair, 80);
    PIN(berth_node_view, attention_flops_per_tile, 88);
    PIN(berth_device_view, name, 0);
    PIN(berth_device_view, budget_bytes, 8);
    PIN(berth_device_view, reserved_bytes, 16);
    PIN(berth_device_view, flops, 24);
    PIN(berth_device_view, bytes_per_second, 32);
    PIN(berth_device_view, physical, 40);
    PIN(berth_link_view, from, 0);
    PIN(berth_link_view, to, 4);
    PIN(berth_link_view, bytes_per_second, 8);
    PIN(berth_link_view, latency_ns, 16);
    PIN(berth_strategy_input, struct_size, 0);
    PIN(berth_strategy_input, nodes, 8);
    PIN(berth_strategy_input, node_size, 16);
    PIN(berth_strategy_input, n_nodes, 24);
    PIN(berth_strategy_input, devices, 32);
    PIN(berth_strategy_input, device_size, 40);
    PIN(berth_strategy_input, n_devices, 48);
    PIN(berth_strategy_input, links, 56);
    PIN(berth_strategy_input, link_size, 64);
    PIN(berth_strategy_input, n_links, 72);
    PIN(berth_strategy_input, argument, 80);
    PIN(berth_strategy_input, context_tokens, 88);
    PIN(berth_strategy_input, max_tiles, 96);
    PIN(berth_strategy_input, request_tiles, 100);
    PIN(berth_strategy_input, request_prompt_tokens, 104);
    PIN(berth_strategy_input, request_new_tokens, 112);
    PIN(berth_strategy_input, hidden_bytes_per_token, 120);
    PIN(berth_strategy_input, hidden_bytes_per_tile, 128);
    PIN(berth_strategy_output, struct_size, 0);
    PIN(berth_strategy_output, device_of, 8);
    PIN(berth_strategy_output, max_replicas, 16);
    PIN(berth_strategy_output, n_replicas, 20);
    PIN(berth_strategy_output, note, 24);
    PIN(berth_strategy, abi, 0);
    PIN(berth_strategy, struct_size, 8);
    PIN(berth_strategy, name, 16);
    PIN(berth_strategy, about, 24);
    PIN(berth_strategy, source, 32);
    PIN(berth_strategy, check, 40);
    PIN(berth_strategy, place, 48);
    assert_true(sizeof(berth_strategy) >= 56);
    assert_int_equal(BERTH_STRATEGY_ABI, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_worked_out_by_hand),
        cmocka_unit_test(schemes_told_in_layers),
        cmocka_unit_test(eight_billion_parameters),
        cmocka_unit_test(kv_and_reserve_count),
        cmocka_unit_test(tied_weights_count_where_they_are_held),
        cmocka_unit_test(auto_takes_the_fastest_when_all_are_known),
        cmocka_unit_test(atoms),
        cmocka_unit_test(registry),
        cmocka_unit_test(abi_layout),
    };
    return cmocka_run_group_tests_name("strategies", tests, NULL, NULL);
}
