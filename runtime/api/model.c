/* model.c - the model handle: headers checked at open, the tokenizer when first needed. */
#include <stdlib.h>

#include "api/api.h"
#include "base/status.h"

berth_status berth_model_open(berth_runtime *rt, const char *dir, const berth_model_options *options, berth_model **out,
                              berth_error *err)
{
    if (rt == NULL || dir == NULL || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_model_open: runtime, dir and out must not be NULL");
    *out = NULL;
    berth_model_options o;
    berth_status st = berth_options_copy(&o, sizeof o, options, "berth_model_options", err);
    if (st != BERTH_OK) return st;
    berth_model *m = calloc(1, sizeof *m);
    if (m == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a model handle");
    const berth_model_data_options data_options = {.allow_missing_weights = o.allow_missing_weights != 0};
    st = berth_model_data_open(dir, &data_options, &m->data, err);
    if (st != BERTH_OK) {
        free(m);
        return st;
    }
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        berth_model_data_release(m->data);
        free(m);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a model handle");
    }
    atomic_init(&m->refs, 1);
    m->rt = rt;
    berth_runtime_retain(rt);
    if (berth_model_data_n_shards(m->data) == 0) {
        berth_log(rt, BERTH_LOG_WARNING, "%s holds no weight files; sizes are those that config.json implies", dir);
    }
    *out = m;
    return BERTH_OK;
}

void berth_model_retain(berth_model *model)
{
    atomic_fetch_add(&model->refs, 1);
}

void berth_model_close(berth_model *model)
{
    if (model == NULL || atomic_fetch_sub(&model->refs, 1) != 1) return;
    berth_tokenizer_close(model->tokenizer);
    berth_model_data_release(model->data);
    pthread_mutex_destroy(&model->lock);
    berth_runtime_destroy(model->rt);
    free(model);
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
