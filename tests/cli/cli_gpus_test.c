/* cli_gpus_test.c - `berth devices` and device lists on emulated GPUs: machines as users have them, and each that cannot be
 * used is one clear line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "program.h"

#define V100X4 "gpus=4;cap=70;mem=32MiB;name=Tesla V100-SXM2-16GB"
#define A10X2  "gpus=2;cap=86;mem=32MiB;name=NVIDIA A10;peer=0"

#define NATIVE "-m " GOLDEN "models/ivl-native "

static void emulate(const char *config)
{
    char text[512];
    snprintf(text, sizeof text, "%s;exit=97", config); /* leaks and misuse end the program with 97 */
    setenv("CUDA_EMU", text, 1);
}

/* ---- berth devices ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *gpus, *arguments;
    int code;
    const char *words[8]; /* on standard output, or on standard error where the code is not 0 */
} cases[] = {
    {V100X4,
     "devices --devices all",
     0,
     {"CUDA        driver for CUDA 12.4; 4 GPUs\n",
      "cuda:3      Tesla V100-SXM2-16GB, compute capability 7.0 (auto is f16), 32.00 MiB, 32.00 MiB free, PCI "
      "0000:04:00.0\n",
      "peer copies each GPU reaches each other\n", "cuda:0      30.00 MiB   2.00 MiB  7.0   f16     95.7     765",
      "each pair  peer ", "cuda:0: rates predicted by profile V100-SXM2-16GB; --measure measures them"}},
    {A10X2,
     "devices --devices all",
     0,
     {"peer copies none: copies between GPUs go through host memory\n", "8.6  bf16     69.0     510",
      "0 - 1      host"}},
    {A10X2,
     "devices --devices cuda:1*2,cpu/mem=1GiB",
     0,
     {"cuda:1.0    15.00 MiB   1.00 MiB", "cuda:1.1    15.00 MiB", "cpu:0        1.00 GiB", "0 - 1      same GPU"}},
    {"gpus=8;mem=16MiB;peer.0.7=0",
     "devices --devices all",
     0,
     {"cuda:7      Emulated GPU", "peer copies cuda:0 reaches cuda:1, cuda:2, cuda:3, cuda:4, cuda:5, cuda:6\n",
      "            cuda:7 reaches cuda:0,", "cuda:7: no profile has its name"}},
    {"gpus=3;cap=75;mem=16MiB;name=Tesla T4;mode.1=2;mode.2=3;busy.2=1",
     "devices --devices all",
     0,
     {"cuda:1 (Tesla T4) cannot be used: its compute mode is \"prohibited\"",
      "cuda:2 (Tesla T4) cannot be used: its compute mode is \"exclusive\" and another process has it",
      "cuda:0      15.00 MiB",
      "\ncuda:2      15.00 MiB"}}, /* which process has a GPU may have changed until it is opened */
    {"gpus=1;driver=11080",
     "devices",
     0,
     {"CUDA        none: the CUDA driver serves CUDA 11.8, and 12.0 is needed; update NVIDIA's driver", "cpu:0"}},
    {"gpus=0",
     "devices --devices all",
     0,
     {"CUDA        none: ", "check nvidia-smi and CUDA_VISIBLE_DEVICES", "cpu:0"}},
    {"gpus=1;init=804", "devices", 0, {"none: the CUDA driver does not start: "}},
    {A10X2,
     "devices --probe",
     0,
     {"proofs      cuda:0 > cuda:1 arrives, by way of the host\n",
      "            cuda:1 > cuda:0 arrives, by way of the host\n"}},
    {"gpus=2;mem=16MiB", "devices --probe", 0, {"cuda:1 > cuda:0 arrives, by peer copy\n"}},
    {"gpus=2;mem=16MiB;lie.1.0=2", "devices --probe", 6, {"there are GPUs between which copies do not bring"}},
    /* what cannot be had */
    {V100X4, "devices --devices cuda:4", 5, {"\"cuda:4\": there is no cuda:4; there are cuda:0 to cuda:3"}},
    {"gpus=0", "devices --devices cuda:0", 5, {"\"cuda:0\": the CUDA driver does not start: CUDA_ERROR_NO_DEVICE"}},
    {"gpus=1;driver=11080", "devices --devices all", 5, {"\"all\": the CUDA driver serves CUDA 11.8"}},
    {"gpus=1;mode=2",
     "devices --devices cuda:0",
     5,
     {"its compute mode is \"prohibited\"; allow it with nvidia-smi -i"}},
    {"gpus=1;cap=61", "devices --devices cuda:0", 5, {"has compute capability 6.1, and berth's kernels need 7.0"}},
    {A10X2, "devices --devices cuda:0/mem=1GiB", 2, {"the limits of its devices are 1.00 GiB together"}},
    {A10X2, "devices --devices cuda:0,cuda:0", 2, {"cuda:0*2 makes two devices of it"}},
    {A10X2, "devices --devices 2xA10 --measure", 2, {"A10:0 wears a profile and is not there to be measured"}},
    /* what is decided from it */
    {V100X4, "plan " NATIVE "--devices all --strategy balanced", 0, {"cuda:0", "cuda:3", "f16"}},
    {V100X4,
     "plan " NATIVE "--devices all --dtype bf16",
     3,
     {"cuda:0 has compute capability 7.0 and no bf16 of its own", "use fp16"}},
    {A10X2, "plan " NATIVE "--devices cuda:0*4 --strategy balanced", 0, {"cuda:0.3", "bf16"}},
    {A10X2,
     "plan " NATIVE "--devices cuda:0,cpu --threads 1 --max-memory cuda:0=20MiB --strategy balanced",
     0,
     {"  20.00 MiB ", "cpu:0"}},
};

static void machines_as_users_have_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emulate(cases[i].gpus);
        program_result r = program_expect(NULL, cases[i].code, cases[i].arguments);
        const char *text = cases[i].code ? r.err : r.out;
        for (const char *const *word = cases[i].words; *word; word++)
            if (!strstr(text, *word))
                fail_msg("%s on %s: no \"%s\" in\n%s", cases[i].arguments, cases[i].gpus, *word, text);
        program_deinit(&r);
    }
}

static void json_says_the_same(void **state)
{
    (void)state;
    emulate("gpus=2;cap=86;mem=32MiB;name=NVIDIA A10;peer.0.1=0");
    program_result r = program_expect(NULL, 0, "devices --devices all --json --probe");
    berth_json *json;
    int64_t number;
    assert_int_equal(berth_json_parse(r.out, r.out_size, "devices", &json, NULL), BERTH_OK);
    const berth_json_node *root = berth_json_root(json), *gpu = berth_json_first(berth_json_get(root, "gpus"));
    assert_string_equal(berth_json_as_string(berth_json_get(gpu, "model")), "NVIDIA A10");
    assert_string_equal(berth_json_as_string(berth_json_get(gpu, "auto_dtype")), "bf16");
    assert_int_equal(berth_json_size(berth_json_get(gpu, "reaches")), 0);
    assert_int_equal(berth_json_size(berth_json_get(berth_json_next(gpu), "reaches")), 1);
    assert_true(berth_json_as_i64(berth_json_get(gpu, "free_bytes"), &number) && number == 32 << 20);
    assert_int_equal(berth_json_size(berth_json_get(root, "proofs")), 2);
    assert_non_null(berth_json_get(berth_json_get(root, "libraries"), "cublas"));
    berth_json_destroy(json);
    program_deinit(&r);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void what_is_measured_is_kept(void **state)
{
    (void)state;
    char arguments[256], path[128];
    snprintf(path, sizeof path, "%s/machine.json", test_folder());
    emulate(V100X4 ";lie.2.3=1");
    snprintf(arguments, sizeof arguments, "devices --measure --save %s", path);
    program_result r = program_expect(NULL, 0, arguments);
    assert_non_null(strstr(r.out, "measured    20"));
    assert_non_null(strstr(r.out, "cuda:2 > cuda:3 copies from cuda:2 to cuda:3 lie"));
    assert_non_null(strstr(r.out, "cuda:3: TFLOP/s and GB/s measured 20"));
    assert_null(strstr(r.out, "bf16")); /* which a V100 has not */
    program_deinit(&r);
    size_t size;
    char *text = test_read(path, &size);
    assert_non_null(strstr(text, "berth devices --measure, 20"));
    assert_non_null(strstr(text, "driver for CUDA 12.4"));
    free(text);
    /* the same machine knows it; the copies that lie have no measured rate */
    snprintf(arguments, sizeof arguments, "devices --devices %s --json", path);
    r = program_expect(NULL, 0, arguments);
    berth_json *json;
    assert_int_equal(berth_json_parse(r.out, r.out_size, "devices", &json, NULL), BERTH_OK);
    const berth_json_node *links = berth_json_get(berth_json_root(json), "links");
    int n = 0, n_measured = 0;
    for (const berth_json_node *l = berth_json_first(links); l; l = berth_json_next(l), n++) {
        bool is_measured = false;
        assert_true(berth_json_as_bool(berth_json_get(l, "measured"), &is_measured));
        n_measured += is_measured;
    }
    assert_int_equal(n, 12);
    assert_int_equal(n_measured, 11);
    berth_json_destroy(json);
    program_deinit(&r);
    /* another does not */
    emulate(A10X2);
    r = program_expect(NULL, 5, arguments);
    assert_non_null(strstr(r.err, "its cuda:0 is Tesla V100-SXM2-16GB, and here that is NVIDIA A10"));
    program_deinit(&r);
    unlink(path);
}

static void cores_are_measured(void **state)
{
    (void)state;
    emulate("gpus=1;mem=16MiB");
    program_result r = program_expect(NULL, 0, "devices --measure --devices cpu,cuda:0*2");
    assert_non_null(strstr(r.out, "cpu:0      reads "));
    assert_non_null(strstr(r.out, "cuda:0.0   copies within "));
    assert_null(strstr(r.out, "cuda:0.1   copies within ")); /* one GPU, measured once */
    assert_non_null(strstr(r.out, "cuda:0.1: TFLOP/s and GB/s measured 20"));
    program_deinit(&r);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

/* Greedy and sampled: a choice from what two GPUs tell of the logits is the cpu's from all of them. */
static void answers_are_the_cpus(void **state)
{
    (void)state;
    static const char *const options[] = {"", " --repetition-penalty 1.3", " --top-k 30 --temperature 1.2 --seed 5",
                                          " --sample --seed 6"};
    emulate("gpus=2;mem=32MiB;seed=3");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char arguments[256];
        program_result r[2];
        for (int k = 0; k < 2; k++) {
            snprintf(arguments, sizeof arguments, "run " NATIVE "-p Hello -n 5 --dtype fp32 --devices %s%s",
                     k ? "cuda:0,cuda:1 --strategy balanced" : "cpu", options[i]);
            r[k] = program_expect(NULL, 0, arguments);
        }
        assert_true(r[0].out_size > 0);
        if (strcmp(r[0].out, r[1].out) != 0) fail_msg("%s: \"%s\", on GPUs \"%s\"", options[i], r[0].out, r[1].out);
        for (int k = 0; k < 2; k++) program_deinit(&r[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_as_users_have_them), cmocka_unit_test(json_says_the_same),
        cmocka_unit_test(what_is_measured_is_kept),    cmocka_unit_test(cores_are_measured),
        cmocka_unit_test(answers_are_the_cpus),
    };
    return cmocka_run_group_tests_name("GPUs on the command line", tests, NULL, NULL);
}
