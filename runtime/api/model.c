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
