/* batch_line.c - one line of `berth batch --in` to a request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/batch.h"
#include "cli/rows.h"

enum { MAX_IMAGES = 4096, MAX_TOKENS = 1 << 24 };

berth_status batch_defaults_read(const cli_args *a, const char *file, batch_defaults *out, berth_error *err)
{
    *out = (batch_defaults){.args = a, .file = file};
    if (a->set[OPT_PROMPT] && (a->set[OPT_PROMPTS] || a->set[OPT_PROMPT_NAME]))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--prompt and --prompts both say what is asked; give one of them");
    if (a->set[OPT_PROMPT_NAME] && !a->set[OPT_PROMPTS])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--prompt-name names a prompt of a file; give --prompts FILE");
    berth_status st = a->set[OPT_PROMPTS] ? cli_prompts_read(a->text[OPT_PROMPTS], &out->prompts, err) : BERTH_OK;
    const cli_prompt *p;
    if (st == BERTH_OK && a->set[OPT_PROMPT_NAME])
        st = cli_prompts_find(&out->prompts, a->text[OPT_PROMPT_NAME], &p, err);
    if (st != BERTH_OK) batch_defaults_deinit(out);
    return st;
}

void batch_defaults_deinit(batch_defaults *d)
{
    cli_prompts_deinit(&d->prompts);
}

/* ---- the question ---------------------------------------------------------------------------------------------------- */

typedef struct question { /* texts are borrowed */
    const char *text, *system;
    const cli_prompt *named; /* or NULL */
} question;

/* A text member that may be absent. */
static berth_status text_of(const berth_json_node *row, const char *key, const char **out, berth_error *err)
{
    const berth_json_node *node = berth_json_get(row, key);
    *out = berth_json_as_string(node);
    if (*out != NULL || berth_json_type_of(node) == BERTH_JSON_NULL) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s is %s; it must be a text", key,
                      berth_json_type_name(berth_json_type_of(node)));
}

static berth_status named_prompt(const batch_defaults *d, const char *name, question *q, berth_error *err)
{
    if (d->prompts.n == 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "prompt_name \"%s\": there are no named prompts; give --prompts FILE",
                          name);
    if (name == NULL && d->args->set[OPT_PROMPT_NAME]) name = d->args->text[OPT_PROMPT_NAME];
    berth_status st = cli_prompts_find(&d->prompts, name, &q->named, err);
    if (st != BERTH_OK) return st;
    q->text = q->named->user;
    if (q->system == NULL) q->system = q->named->system;
    return BERTH_OK;
}

static berth_status read_question(const batch_defaults *d, const berth_json_node *row, question *q, berth_error *err)
{
    const char *name;
    berth_status st = text_of(row, "prompt", &q->text, err);
    if (st == BERTH_OK) st = text_of(row, "prompt_name", &name, err);
    if (st == BERTH_OK) st = text_of(row, "system", &q->system, err);
    if (st != BERTH_OK) return st;
    if (q->system == NULL && d->args->set[OPT_SYSTEM]) q->system = d->args->text[OPT_SYSTEM];
    if (q->text != NULL && name != NULL)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "prompt and prompt_name both say what is asked; give one of them");
    if (q->text != NULL) return BERTH_OK;
    if (name != NULL || d->prompts.n > 0) return named_prompt(d, name, q, err);
    if (d->args->set[OPT_PROMPT]) q->text = d->args->text[OPT_PROMPT];
    return q->text != NULL ? BERTH_OK
                           : BERTH_FAIL(err, BERTH_BAD_FILE,
                                        "nothing is asked; give prompt, prompt_name or messages, or --prompt for all");
}

/* ---- pictures -------------------------------------------------------------------------------------------------------- */

static berth_status add_image(const batch_defaults *d, const berth_json_node *node, char **out, berth_error *err)
{
    const char *name = berth_json_as_string(node);
    if (name == NULL || *name == '\0') return BERTH_FAIL(err, BERTH_BAD_FILE, "a picture must be the name of a file");
    if (cli_is_url(name))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a URL is not supported; download the picture and name the file",
                          name);
    *out = cli_picture_path(d->file, name);
    return *out != NULL ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a file name");
}

/* `image`, a name, or `images`, a list of names; paths owned, and the array too. */
static berth_status read_images(const batch_defaults *d, const berth_json_node *row, char ***out, int32_t *out_n,
                                berth_error *err)
{
    const berth_json_node *one = berth_json_get(row, "image"), *many = berth_json_get(row, "images");
    if (one != NULL && many != NULL) return BERTH_FAIL(err, BERTH_BAD_FILE, "give image or images, not both");
    if (many != NULL && berth_json_type_of(many) != BERTH_JSON_ARRAY)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "images must be a list of file names");
    const size_t n = one != NULL ? 1 : berth_json_size(many);
    if (n > MAX_IMAGES) return BERTH_FAIL(err, BERTH_BAD_FILE, "%zu pictures; a line may have %d", n, MAX_IMAGES);
    *out = calloc(n + 1, sizeof **out);
    if (*out == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu pictures", n);
    const berth_json_node *node = one != NULL ? one : berth_json_first(many);
    berth_status st = BERTH_OK;
    for (; st == BERTH_OK && *out_n < (int32_t)n; node = berth_json_next(node))
        st = add_image(d, node, &(*out)[(*out_n)++], err);
    return st;
}

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

static berth_status real_of(const berth_json_node *row, const char *key, bool *out_any, float *out, berth_error *err)
{
    const berth_json_node *node = berth_json_get(row, key);
    double x;
    *out_any = node != NULL;
    if (node == NULL) return BERTH_OK;
    if (!berth_json_as_f64(node, &x) || x < 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s must be a number, 0 or more", key);
    *out = (float)x;
    return BERTH_OK;
}

/* As on the command line: any of these draws, temperature 0 alone is greedy. */
static berth_status read_sampling(const berth_json_node *row, berth_request *r, berth_error *err)
{
    bool temperature, top_p, min_p, penalty;
    float t = 1;
    berth_status st = real_of(row, "temperature", &temperature, &t, err);
    if (st == BERTH_OK) st = real_of(row, "top_p", &top_p, &r->top_p, err);
    if (st == BERTH_OK) st = real_of(row, "min_p", &min_p, &r->min_p, err);
    if (st == BERTH_OK) st = real_of(row, "repetition_penalty", &penalty, &r->repetition_penalty, err);
    if (st == BERTH_OK) st = cli_row_int(row, "top_k", 0, MAX_TOKENS, &r->top_k, err);
    if (st != BERTH_OK) return st;
    const bool draws = top_p || min_p || berth_json_get(row, "top_k") != NULL;
    if (temperature && t == 0 && draws)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "temperature 0 together with top_k, top_p or min_p cannot be meant");
    if (temperature && t > 0) r->temperature = t;
    if (temperature || draws) r->sample = draws || t > 0;
    if (r->sample) r->speculate = 0; /* it guesses greedy answers */
    const berth_json_node *seed = berth_json_get(row, "seed");
    int64_t n = 0;
    if (seed != NULL && (!berth_json_as_i64(seed, &n) || n < 0))
        return BERTH_FAIL(err, BERTH_BAD_FILE, "seed must be a whole number, 0 or more");
    if (seed != NULL) r->seed = (uint64_t)n;
    return BERTH_OK;
}

static berth_status read_numbers(const berth_json_node *row, berth_request *r, berth_error *err)
{
    bool ignore_stop = r->ignore_stop != 0;
    berth_status st = cli_row_int(row, "max_tokens", 1, MAX_TOKENS, &r->max_new_tokens, err);
    if (st == BERTH_OK) st = cli_row_int(row, "max_tiles", 1, 1024, &r->max_tiles, err);
    if (st == BERTH_OK) st = cli_row_bool(row, "ignore_stop", &ignore_stop, err);
    r->ignore_stop = ignore_stop;
    return st == BERTH_OK ? read_sampling(row, r, err) : st;
}

/* ---- a line ---------------------------------------------------------------------------------------------------------- */

static berth_status read_conversation(const batch_defaults *d, const berth_json_node *row, cli_conversation *c,
                                      berth_error *err)
{
    static const char *const others[] = {"prompt", "prompt_name", "system", "image", "images"};
    const berth_json_node *messages = berth_json_get(row, "messages");
    for (size_t i = 0; messages != NULL && i < sizeof others / sizeof others[0]; i++) {
        if (berth_json_get(row, others[i]) != NULL)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "messages is the whole conversation; leave out %s", others[i]);
    }
    if (messages != NULL) return cli_conversation_parse(messages, d->file, c, err);
    question q = {0};
    char **images = NULL;
    int32_t n_images = 0;
    berth_status st = read_question(d, row, &q, err);
    if (st == BERTH_OK) st = read_images(d, row, &images, &n_images, err);
    if (st == BERTH_OK)
        st = cli_conversation_make(q.system, (const char *const *)images, n_images, q.text, strlen(q.text), c, err);
    if (st == BERTH_OK && q.named != NULL) cli_conversation_advise(c, q.named);
    for (int32_t i = 0; i < n_images; i++) free(images[i]);
    free(images);
    return st;
}

static berth_status read_row(const batch_defaults *d, const berth_json_node *row, batch_job *j, berth_error *err)
{
    if (berth_json_type_of(row) != BERTH_JSON_OBJECT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "the line is %s; a request is an object",
                          berth_json_type_name(berth_json_type_of(row)));
    berth_status st = batch_id_of(row, &j->id, err);
    if (st == BERTH_OK) st = read_conversation(d, row, &j->conversation, err);
    if (st != BERTH_OK) return st;
    cli_request_init(d->args, &j->conversation, &j->request);
    j->request.quiet = 1;
    return read_numbers(row, &j->request, err);
}

berth_status batch_job_read(const batch_defaults *d, const cli_lines *line, size_t number, batch_job *out,
                            berth_error *err)
{
    *out = (batch_job){.number = number};
    char what[48];
    berth_json *json = NULL;
    snprintf(what, sizeof what, "line %zu", number);
    berth_status st = line->too_long
                          ? BERTH_FAIL(err, BERTH_BAD_FILE, "the line has more than %zu bytes", CLI_LINE_BYTES)
                          : berth_json_parse(line->line.data, line->line.len, what, &json, err);
    if (st == BERTH_OK) st = read_row(d, berth_json_root(json), out, err);
    berth_json_destroy(json);
    if (out->id == NULL) out->id = batch_line_id(number, line->line.data, line->too_long ? 0 : line->line.len);
    if (out->id == NULL) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for line %zu", number);
    if (st == BERTH_OUT_OF_MEMORY) batch_job_deinit(out);
    return st;
}

void batch_job_deinit(batch_job *j)
{
    cli_conversation_deinit(&j->conversation);
    free(j->id);
    j->id = NULL;
}
