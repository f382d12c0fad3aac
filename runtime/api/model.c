/* model.c - the model handle: headers checked at open, the tokenizer when first needed. */
#include <stdlib.h>

#include "api/api.h"
#include "base/status.h"

berth_status berth_model_open(berth_runtime *rt, const char *dir, const berth_model_options *options, berth_model **out,
                              berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(rt, BERTH_HANDLE_RUNTIME))
        return berth_handle_refuse("berth_model_open", BERTH_HANDLE_RUNTIME, err);
    if (dir == NULL || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_model_open: dir and out must not be NULL");
    berth_model_options o;
    berth_status st = berth_options_copy(&o, sizeof o, options, "berth_model_options", err);
    if (st != BERTH_OK) return st;
    berth_model *m = calloc(1, sizeof *m);
    if (m == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a model handle");
    const berth_model_data_options data_options = {.allow_missing_weights = o.allow_missing_weights != 0};
    st = berth_model_data_open(dir, &data_options, &m->data, err);
    if (st == BERTH_OK && pthread_mutex_init(&m->lock, NULL) != 0) {
        berth_model_data_release(m->data);
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a model handle");
    }
    if (st != BERTH_OK) {
        free(m);
        return st;
    }
    berth_handle_begin(&m->head, BERTH_HANDLE_MODEL, rt);
    if (berth_model_data_n_shards(m->data) == 0) {
        berth_log(rt, BERTH_LOG_WARNING, "%s holds no weight files; sizes are those that config.json implies", dir);
    }
    *out = m;
    return BERTH_OK;
}

void berth_model_retain(berth_model *model)
{
    berth_handle_retain(&model->head);
}

void berth_model_release(berth_model *model)
{
    if (model == NULL || !berth_handle_release(&model->head)) return;
    berth_tokenizer_close(model->tokenizer);
    berth_model_data_release(model->data);
    pthread_mutex_destroy(&model->lock);
    berth_handle_retire(&model->head, sizeof *model);
}

void berth_model_close(berth_model *model)
{
    if (berth_handle_end(model, BERTH_HANDLE_MODEL)) berth_model_release(model);
}

berth_status berth_model_tokenizer(berth_model *model, const berth_tokenizer **out, berth_error *err)
{
    pthread_mutex_lock(&model->lock);
    berth_status st = BERTH_OK;
    if (model->tokenizer == NULL) st = berth_tokenizer_open(berth_model_data_dir(model->data), &model->tokenizer, err);
    *out = model->tokenizer;
    pthread_mutex_unlock(&model->lock);
    return st;
}

berth_status berth_model_tokenize(berth_model *model, const char *text, size_t size, int32_t **out_ids, int32_t *out_n,
                                  berth_error *err)
{
    if (out_ids != NULL) *out_ids = NULL;
    if (out_n != NULL) *out_n = 0;
    if (!berth_handle_is(model, BERTH_HANDLE_MODEL))
        return berth_handle_refuse("berth_model_tokenize", BERTH_HANDLE_MODEL, err);
    if ((text == NULL && size > 0) || out_ids == NULL || out_n == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_model_tokenize: text and outputs must not be NULL");
    const berth_tokenizer *t = NULL;
    berth_ids ids = {0};
    berth_status st = berth_model_tokenizer(model, &t, err);
    if (st == BERTH_OK && !berth_ids_reserve(&ids, 1)) /* so that none are a pointer too */
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for token ids");
    if (st == BERTH_OK) st = berth_tokenizer_encode(t, text != NULL ? text : "", size, BERTH_MATCH_NONE, &ids, err);
    if (st == BERTH_OK && ids.len > INT32_MAX)
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%zu tokens are more than can be counted", ids.len);
    if (st != BERTH_OK) {
        berth_ids_deinit(&ids);
        return st;
    }
    *out_ids = ids.data;
    *out_n = (int32_t)ids.len;
    return BERTH_OK;
}

berth_status berth_model_detokenize(berth_model *model, const int32_t *ids, int32_t n, char **out, size_t *out_size,
                                    berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (out_size != NULL) *out_size = 0;
    if (!berth_handle_is(model, BERTH_HANDLE_MODEL))
        return berth_handle_refuse("berth_model_detokenize", BERTH_HANDLE_MODEL, err);
    if (n < 0 || (n > 0 && ids == NULL) || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_model_detokenize: %d ids, or no place for the text",
                          (int)n);
    const berth_tokenizer *t = NULL;
    berth_buffer text = {0};
    berth_status st = berth_model_tokenizer(model, &t, err);
    if (st == BERTH_OK) st = berth_tokenizer_decode(t, ids, (size_t)n, false, &text, err);
    const size_t size = text.len;
    if (st == BERTH_OK && (*out = berth_buffer_take(&text)) == NULL)
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the text of %d tokens", (int)n);
    berth_buffer_deinit(&text);
    if (st == BERTH_OK && out_size != NULL) *out_size = size;
    return st;
}
