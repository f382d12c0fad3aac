/* choose.c - the next token from a row of logits: the largest, which the row's statistics name, or a sampler's choice from the
 * row's best, or from all of it. A whole row stays on the head's device until somebody wants it; the host reads it in place
 * where it can, else it is brought. */
#include <stdlib.h>

#include "base/clock.h"
#include "engine/core.h"

static const float *address_of(const berth_logit_row *row)
{
    return row->pass->logits + (size_t)row->index * (size_t)row->pass->replica->core->config->text.vocab;
}

berth_status berth_rows_init(berth_replica *r, berth_error *err)
{
    berth_unit *u = &r->core->exec.units[r->passes[0].logits_on];
    size_t bytes = (size_t)r->core->config->text.vocab * sizeof *r->row;
    if (u->backend->is_host && !r->core->options.strict) return BERTH_OK;
    if (u->backend->pin) {
        void *p = NULL;
        berth_status st = u->backend->pin(u, bytes, &p, err);
        r->row = p;
        if (st == BERTH_OK) r->row_pinner = u;
        return st;
    }
    r->row = malloc(bytes);
    return r->row ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a row of %zu bytes of logits", bytes);
}

void berth_rows_deinit(berth_replica *r)
{
    if (r->row_pinner)
        r->row_pinner->backend->unpin(r->row_pinner, r->row);
    else
        free(r->row);
}

/* In strict mode the device's memory is open to the host for this read only. */
static berth_status bring(berth_logit_row *row, berth_error *err)
{
    const berth_replica *r = row->pass->replica;
    berth_exec *exec = &r->core->exec;
    int32_t d = row->pass->logits_on, n = exec->n_units;
    berth_unit *u = &exec->units[d];
    size_t bytes = (size_t)r->core->config->text.vocab * sizeof *r->row;
    int64_t began = berth_now_ns();
    if (exec->strict) {
        pthread_mutex_lock(&exec->strict_lock);
        berth_strict_open(exec->strict, d, false);
    }
    berth_status st = u->backend->read(u, r->row, address_of(row), bytes, err);
    if (exec->strict) {
        berth_strict_only(exec->strict, BERTH_DEVICE_HOST);
        pthread_mutex_unlock(&exec->strict_lock);
    }
    if (st != BERTH_OK) {
        berth_error_append(err, "; reading a row of logits of device %s", u->info->name);
        if (err) err->device = d;
        return st;
    }
    berth_core_result *result = &row->who->result;
    if (!u->backend->is_host) result->edge_bytes[d * (n + 1) + n] += bytes;
    if (!u->backend->is_host && exec->times_copies)
        result->edge_ns[d * (n + 1) + n] += (uint64_t)(berth_now_ns() - began);
    row->whole = r->row;
    return BERTH_OK;
}

berth_status berth_row_read(berth_logit_row *row, berth_error *err)
{
    if (row->whole) return BERTH_OK;
    if (row->pass->replica->row) return bring(row, err);
    row->whole = address_of(row);
    return BERTH_OK;
}

berth_status berth_row_choose(berth_logit_row *row, int32_t *out_id, berth_error *err)
{
    const berth_active *a = row->who;
    int32_t index = a->result.n_ids;
    if (index < a->request->n_forced) {
        *out_id = a->request->forced[index];
        return BERTH_OK;
    }
    *out_id = (int32_t)row->stats[BERTH_STAT_ARGMAX];
    if (!a->sampler || (row->best && berth_sampler_next_of_best(a->sampler, row->best, row->stats, out_id)))
        return BERTH_OK;
    berth_status st = berth_row_read(row, err);
    if (st == BERTH_OK) *out_id = berth_sampler_next(a->sampler, row->whole);
    return st;
}
