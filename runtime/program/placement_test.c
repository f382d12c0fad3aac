/* placement_test.c - strategies that answer wrongly, and device maps of all kinds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/toy.h"

/* ---- strategies ------------------------------------------------------------------------------------------------- */

static int32_t *answer_nodes,
    *answer_devices; /* what the strategy below answers: pairs, ended by -1; set by each case */
static int32_t answer_replicas;

static berth_status answer(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    (void)err;
    out->n_replicas = answer_replicas;
    for (int32_t r = 0; r < answer_replicas && r < out->max_replicas; r++)
        for (int i = 0; answer_nodes[i] >= 0; i++)
            out->device_of[r * in->n_nodes + answer_nodes[i]] = answer_devices[i];
    memset(out->note, 'n', sizeof out->note); /* not ended on purpose */
    return BERTH_OK;
}

static berth_status refuse(const berth_strategy_input *in, berth_error *err)
{
    (void)in;
    err->status = BERTH_DOES_NOT_FIT;
    snprintf(err->message, sizeof err->message, "too small");
    return BERTH_DOES_NOT_FIT;
}

static const berth_strategy toy = {
    .abi = BERTH_STRATEGY_ABI, .struct_size = sizeof(berth_strategy), .name = "toy", .place = answer};

static void what_a_strategy_answers_is_checked(void **state)
{
    (void)state;
    static const struct {
        int32_t nodes[6], devices[6], replicas;
        const char *says; /* NULL: right */
    } cases[] = {
        {{TOY_ROOT, -1}, {1}, 1, NULL},
        {{TOY_ROOT, -1}, {1}, 3, NULL},
        {{TOY_VISION, TOY_LAYERS, TOY_HEAD, -1}, {0, 1, 2}, 1, NULL},
        {{TOY_PROJ_W, TOY_PROJ_B, TOY_TEXT, TOY_HEAD_W, -1}, {0, 0, 1, 2}, 1, NULL},
        {{TOY_ROOT, -1}, {3}, 1, "strategy toy=x put the model on device 3; the machine has devices 0 to 2"},
        {{TOY_ROOT, -1}, {-2}, 1, "put the model on device -2"},
        {{TOY_ROOT, -1}, {INT32_MAX}, 1, "put the model on device 2147483647"},
        {{TOY_VISION, TOY_LAYERS, -1}, {0, 1}, 1, "strategy toy=x put tensor lm_head.weight on no device"},
        {{TOY_VISION, TOY_LAYER0, TOY_HEAD, -1},
         {0, 1, 1},
         1,
         "put tensor language_model.layers.1.norm.weight on no device"},
        {{TOY_VISION, TOY_TEXT, TOY_LAYER1, TOY_HEAD, -1},
         {0, 1, 2, 2},
         1,
         "put language_model on cpu:1, and language_model.layers.1 inside it on cpu:2 as well"},
        {{TOY_ROOT, TOY_PROJ_B, -1}, {0, 0}, 1, "put the model on cpu:0, and vision_model.proj.bias inside it"},
        {{TOY_ROOT, -1}, {0}, 0, "made 0 replicas"},
        {{TOY_ROOT, -1}, {0}, 4, "made 4 replicas; between 1 and 3"},
        {{-1}, {0}, 1, "put tensor vision_model.proj.weight on no device"},
    };
    berth_strategy_input in = toy_input();
    in.argument = "x";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_placement *p = NULL;
        berth_error err = {0};
        int32_t nodes[6], devices[6];
        memcpy(nodes, cases[i].nodes, sizeof nodes);
        memcpy(devices, cases[i].devices, sizeof devices);
        answer_nodes = nodes;
        answer_devices = devices;
        answer_replicas = cases[i].replicas;
        berth_status st = berth_placement_make(&toy, &in, &p, &err);
        assert_int_equal(st, cases[i].says ? BERTH_INVALID_ARGUMENT : BERTH_OK);
        assert_int_equal(p == NULL, cases[i].says != NULL);
        if (cases[i].says && !strstr(err.message, cases[i].says)) fail_msg("case %zu: %s", i, err.message);
        if (p) assert_string_equal(p->strategy, "toy=x");
        if (p) assert_int_equal(strlen(p->note), sizeof p->note - 1);
        berth_placement_destroy(p);
    }
}

static void a_strategys_own_refusal_is_passed_on(void **state)
{
    (void)state;
    berth_strategy_input in = toy_input();
    berth_placement *p;
    berth_error err = {0};
    berth_strategy s = toy;
    s.check = refuse;
    assert_int_equal(berth_placement_make(&s, &in, &p, &err), BERTH_DOES_NOT_FIT);
    assert_string_equal(err.message, "too small");
    assert_null(p);
    s = toy;
    s.abi = 2;
    assert_int_equal(berth_placement_make(&s, &in, &p, &err), BERTH_INVALID_ARGUMENT);
    s = toy;
    s.place = NULL;
    assert_int_equal(berth_placement_make(&s, &in, &p, &err), BERTH_INVALID_ARGUMENT);
    in.n_devices = 0;
    assert_int_equal(berth_placement_make(&toy, &in, &p, &err), BERTH_INVALID_ARGUMENT);
}

/* ---- maps ------------------------------------------------------------------------------------------------------- */

typedef struct map_case {
    const char *map;
    const char *as; /* the placement as a map again; NULL: refused */
    const char *says;
} map_case;

static const map_case maps[] = {
    {"{\"\": 2}", "{\"\": 2}", NULL},
    {"{\"\": \"cpu:1\", \"lm_head\": 0}", "{\"vision_model\": 1, \"language_model\": 1, \"lm_head\": 0}", NULL},
    {"{\"\": 0, \"language_model.layers.1\": 1, \"language_model\": 2}",
     "{\"vision_model\": 0, \"language_model.layers.0\": 2, \"language_model.layers.1\": 1, \"lm_head\": 0}", NULL},
    {"{\"vision_model\": \"0\", \"language_model\": \"1\", \"lm_head\": \"2\"}",
     "{\"vision_model\": 0, \"language_model\": 1, \"lm_head\": 2}", NULL},
    /* each tensor by itself */
    {"{\"vision_model.proj.weight\": 1, \"vision_model.proj.bias\": 1, \"language_model.layers.0.norm.weight\": 0, "
     "\"language_model.layers.1.norm.weight\": 0, \"lm_head.weight\": 2}",
     "{\"vision_model\": 1, \"language_model\": 0, \"lm_head\": 2}", NULL},
    /* a tied head that is left out lies with what it is tied to */
    {"{\"vision_model\": 1, \"language_model\": 0}", "{\"vision_model\": 1, \"language_model\": 0, \"lm_head\": 1}",
     NULL},
    /* names of other layouts of the same model */
    {"{\"vision_tower\": 1, \"model.language_model.layers\": 0, \"language_model.lm_head\": 2}",
     "{\"vision_model\": 1, \"language_model\": 0, \"lm_head\": 2}", NULL},
    {"{\"model.vision_tower\": 1, \"language_model.model.layers.0\": 0, \"model.layers.1\": 2, \"lm_head\": 2}",
     "{\"vision_model\": 1, \"language_model.layers.0\": 0, \"language_model.layers.1\": 2, \"lm_head\": 2}", NULL},

    {"{\"vision_modle\": 1}", NULL,
     "the model has no module or tensor \"vision_modle\"; the nearest name is \"vision_model\""},
    {"{\"\": 0, \"language_model.layers.7\": 1}", NULL,
     "no module or tensor \"language_model.layers.7\"; the nearest name is \"language_model.layers.0\""},
    {"{\"\": 0, \"vision_model.\": 1}", NULL, "no module or tensor \"vision_model.\""},
    {"{\"language_model\": 0, \"lm_head\": 0}", NULL, "my.json put tensor vision_model.proj.weight on no device"},
    {"{}", NULL, "put tensor vision_model.proj.weight on no device"},
    {"{\"\": 3}", NULL, "device 3; there are devices 0 to 2"},
    {"{\"\": -1}", NULL, "device -1"},
    {"{\"\": 1e30}", NULL, "is put on a number"},
    {"{\"\": 0.5}", NULL, "is put on a number"},
    {"{\"\": null}", NULL, "is put on null"},
    {"{\"\": [0]}", NULL, "a device is a number or a name"},
    {"{\"\": \"cpu\"}", NULL, "there are several such devices; name one by its number, as in \"cpu:0\""},
    {"{\"\": \"disk\"}", NULL, "does not offload"},
    {"{\"\": \"cuda:0\"}", NULL, "\"cuda:0\", which is not a device here; there are cpu:0, cpu:1, cpu:2"},
    {"{\"\": \"cuda\"}", NULL, "not a device here"},
    {"{\"\": \"7\"}", NULL, "not a device here"},
    {"{\"\": \"99999999999999999999\"}", NULL, "not a device here"},
    {"{\"\": \"\"}", NULL, "not a device here"},
    {"{\"vision_model\": 0, \"vision_tower\": 1, \"\": 0}", NULL,
     "my.json names vision_model twice, the second time as \"vision_tower\""},
    {"[0]", NULL, "my.json is an array; a device map is an object"},
    {"3", NULL, "a device map is an object"},
};

static void device_maps_are_read_or_refused(void **state)
{
    (void)state;
    berth_strategy_input in = toy_input();
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        berth_placement *p = NULL;
        berth_error err = {0};
        berth_buffer as = {0};
        berth_status st = berth_placement_from_map(maps[i].map, strlen(maps[i].map), "my.json", &in, &p, &err);
        if (maps[i].as) {
            if (st != BERTH_OK) fail_msg("%s: %s", maps[i].map, err.message);
            assert_true(berth_placement_to_map(p, &in, 0, &as));
            assert_string_equal(as.data, maps[i].as);
            assert_string_equal(p->strategy, "device-map");
        } else {
            assert_int_equal(st, BERTH_INVALID_ARGUMENT);
            if (!strstr(err.message, maps[i].says)) fail_msg("%s: %s", maps[i].map, err.message);
            assert_null(p);
        }
        berth_buffer_deinit(&as);
        berth_placement_destroy(p);
    }
}

static void a_map_that_is_no_json_is_a_bad_file(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{\"\": 0", "{\"\": 0, \"\": 1}", "{\"a\": 0,}", "{\"\": 0} x"};
    berth_strategy_input in = toy_input();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        berth_placement *p;
        berth_error err = {0};
        assert_int_equal(berth_placement_from_map(texts[i], strlen(texts[i]), "my.json", &in, &p, &err),
                         BERTH_BAD_FILE);
        assert_non_null(strstr(err.message, "my.json"));
        assert_null(p);
    }
}

static void a_bare_kind_means_its_only_device(void **state)
{
    (void)state;
    const berth_device_view two[] = {{.name = "cuda:0"}, {.name = "cpu:0"}};
    berth_strategy_input in = toy_input();
    in.devices = two;
    in.n_devices = 2;
    const char *map = "{\"vision_model\": \"cuda\", \"language_model\": \"cpu\", \"lm_head\": \"cuda:0\"}";
    berth_placement *p;
    berth_error err = {0};
    if (berth_placement_from_map(map, strlen(map), "map", &in, &p, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_int_equal(p->device_of[TOY_VISION], 0);
    assert_int_equal(p->device_of[TOY_TEXT], 1);
    assert_int_equal(p->device_of[TOY_HEAD], 0);
    berth_placement_destroy(p);
}

/* ---- questions -------------------------------------------------------------------------------------------------- */

static void devices_come_from_the_nearest_placed_node(void **state)
{
    (void)state;
    berth_strategy_input in = toy_input();
    int32_t device_of[TOY_NODES], by;
    for (int i = 0; i < TOY_NODES; i++) device_of[i] = -1;
    device_of[TOY_VISION] = 2;
    device_of[TOY_LAYER0] = 1;
    berth_placement *p = toy_placement(device_of);
    assert_int_equal(berth_placement_device(p, &in, 0, TOY_PROJ_B, &by), 2);
    assert_int_equal(by, TOY_VISION);
    assert_int_equal(berth_placement_device(p, &in, 0, TOY_TEXT, &by), 1); /* its first placed part */
    assert_int_equal(by, TOY_LAYER0);
    assert_int_equal(berth_placement_device(p, &in, 0, TOY_ROOT, &by), 2);
    assert_int_equal(berth_placement_device(p, &in, 0, TOY_HEAD_W, &by), -1);
    assert_int_equal(by, -1);
    assert_int_equal(berth_placement_device(p, &in, 1, TOY_VISION, NULL), -1);
    assert_int_equal(berth_placement_device(p, &in, -1, TOY_VISION, NULL), -1);
    assert_int_equal(berth_placement_device(p, &in, 0, TOY_NODES, NULL), -1);
    berth_buffer why = {0};
    assert_true(berth_placement_why(p, &in, 0, TOY_PROJ_W, &why));
    assert_string_equal(why.data, "strategy toy put vision_model on cpu:2");
    berth_buffer_deinit(&why);
    assert_true(berth_placement_why(p, &in, 0, TOY_HEAD, &why));
    assert_string_equal(why.data, "strategy toy put lm_head nowhere");
    berth_buffer_deinit(&why);
    berth_placement_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_strategy_answers_is_checked),
        cmocka_unit_test(a_strategys_own_refusal_is_passed_on),
        cmocka_unit_test(device_maps_are_read_or_refused),
        cmocka_unit_test(a_map_that_is_no_json_is_a_bad_file),
        cmocka_unit_test(a_bare_kind_means_its_only_device),
        cmocka_unit_test(devices_come_from_the_nearest_placed_node),
    };
    return cmocka_run_group_tests_name("placements", tests, NULL, NULL);
}
