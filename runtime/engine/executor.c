/* executor.c - one run of a bound program over the lanes. */
#include "engine/executor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct lane_share { /* the argument of one lane's job */
    berth_run *run;
    int32_t device;
} lane_share;

struct berth_run {
    berth_exec *exec;
    const berth_bound *bound;
    berth_sizes sizes;
    const berth_watch *watch;
    uint64_t *edge_bytes;
    uint32_t base[BERTH_MAX_DEVICES]; /* each lane's count before its first op of this run */
    lane_share shares[BERTH_MAX_DEVICES];
    _Atomic bool failed;
    pthread_mutex_t lock; /* error and watch */
    berth_status status;
    berth_error error;
};

typedef struct op_step { /* one op under way */
    berth_run *run;
    int32_t op;
    berth_op_call call;
    berth_status status;
    berth_error error;
} op_step;

berth_run *berth_run_create(berth_exec *exec)
{
    berth_run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->exec = exec;
    pthread_mutex_init(&r->lock, NULL);
    for (int32_t d = 0; d < exec->n_units; d++) r->shares[d] = (lane_share){r, d};
    return r;
}

void berth_run_destroy(berth_run *r)
{
    if (!r) return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- one op ----------------------------------------------------------------------------------------------------- */

static void strict_open(void *user, int32_t device, bool writable)
{
    berth_strict *s = user;
    if (device == BERTH_COPY_CLOSE_ALL)
        berth_strict_close_all(s);
    else
        berth_strict_open(s, device, writable);
}

static void carry_copy(op_step *s)
{
    berth_run *r = s->run;
    const berth_exec *exec = r->exec;
    const berth_op *op = &r->bound->program->ops[s->op];
    const berth_value *from = &r->bound->program->values[op->in[0]], *to = &r->bound->program->values[op->out];
    const berth_unit *unit = &exec->units[op->device];
    berth_copy c = {.from = from->device,
                    .to = to->device,
                    .src = s->call.in[0].data,
                    .dst = s->call.out.data,
                    .staging = unit->staging,
                    .staging_bytes = unit->staging_bytes};
    if (!berth_value_bytes(to, &r->sizes, &c.bytes) || c.bytes == 0) return;
    if (exec->strict) {
        c.open = strict_open;
        c.open_user = exec->strict;
    }
    s->status = exec->transport->copy(&c, &s->error);
    int32_t n = exec->n_units, row = c.from < 0 ? n : c.from, column = c.to < 0 ? n : c.to;
    r->edge_bytes[row * (n + 1) + column] += c.bytes; /* an edge belongs to one lane */
}

static void carry_out(void *arg)
{
    op_step *s = arg;
    const berth_op *op = &s->run->bound->program->ops[s->op];
    if (op->kind == BERTH_OP_COPY) {
        carry_copy(s);
        return;
    }
    if (berth_tensor_elements(&s->call.out) == 0) return;
    berth_unit *unit = &s->run->exec->units[op->device];
    s->call.team = unit->team;
    s->call.workspace = s->run->bound->workspace[op->device];
    s->call.workspace_bytes = op->workspace;
    berth_kernels_run(s->run->exec->kernels, &s->call);
}

static const char *device_name(const berth_exec *exec, int32_t d)
{
    return d < 0 ? "the host" : exec->units[d].info->name;
}

static bool holds(const berth_tensor *t, const void *address)
{
    uintptr_t first = (uintptr_t)t->data, at = (uintptr_t)address;
    return at >= first && at - first < (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

/* Words for an access that page protection stopped. */
static void fail_access(op_step *s, const void *address)
{
    const berth_exec *exec = s->run->exec;
    const berth_program *p = s->run->bound->program;
    const berth_op *op = &p->ops[s->op];
    const char *out = p->values[op->out].name, *here = exec->units[op->device].info->name;
    int32_t owner;
    if (!berth_strict_owner(exec->strict, address, &owner)) {
        s->status = BERTH_FAIL(&s->error, BERTH_DEVICE_ERROR,
                               "strict: op %s (%s) on %s touched %p, which is no device's memory",
                               berth_op_infos[op->kind].name, out, here, address);
        s->error.device = op->device;
        return;
    }
    const char *which = NULL;
    for (int32_t k = 0; k < op->n_in && !which; k++)
        if (holds(&s->call.in[k], address)) which = p->values[op->in[k]].name;
    if (!which && holds(&s->call.out, address)) which = out;
    s->status = BERTH_FAIL(&s->error, BERTH_DEVICE_ERROR,
                           "strict: op %s (%s, program %s) on %s touched memory of %s%s%s; no copy brought it to %s",
                           berth_op_infos[op->kind].name, out, p->name, here, device_name(exec, owner),
                           which ? ", where its operand lies: " : "", which ? which : "", here);
    s->error.device = op->device;
}

static void carry_out_strict(op_step *s)
{
    berth_exec *exec = s->run->exec;
    void *address = NULL;
    berth_strict_only(exec->strict, s->run->bound->program->ops[s->op].device);
    if (!berth_strict_guard(carry_out, s, &address)) fail_access(s, address);
}

static void note_failure(berth_run *r, const op_step *s)
{
    pthread_mutex_lock(&r->lock);
    if (!atomic_load(&r->failed)) {
        r->status = s->status;
        r->error = s->error;
        atomic_store(&r->failed, true);
    }
    pthread_mutex_unlock(&r->lock);
}

static void show(berth_run *r, const op_step *s)
{
    if (!r->watch) return;
    pthread_mutex_lock(&r->lock);
    r->watch->see(r->watch->user, r->bound, s->op, &s->call);
    pthread_mutex_unlock(&r->lock);
}

static void wait_for_others(berth_run *r, const berth_op *op, int64_t spin_ns)
{
    const berth_program *p = r->bound->program;
    for (int32_t k = 0; k < op->n_waits; k++) {
        int32_t on = p->waits[op->first_wait + k], lane = p->ops[on].device;
        if (lane == op->device) continue;
        berth_lane_wait(&r->exec->units[lane].lane, r->base[lane] + (uint32_t)r->bound->lane_index[on] + 1, spin_ns);
    }
}

static void lane_item(void *arg, int32_t item)
{
    const lane_share *share = arg;
    berth_run *r = share->run;
    if (atomic_load(&r->failed)) return;
    op_step s;
    s.run = r;
    s.op = r->bound->lane_ops[r->bound->lane_first[share->device] + item];
    s.status = BERTH_OK;
    const berth_op *op = &r->bound->program->ops[s.op];
    wait_for_others(r, op, r->exec->units[share->device].spin_ns);
    if (atomic_load(&r->failed)) return;
    berth_bound_call(r->bound, s.op, &r->sizes, &s.call);
    if (r->exec->strict) {
        pthread_mutex_lock(&r->exec->strict_lock);
        carry_out_strict(&s);
        if (s.status == BERTH_OK) show(r, &s);
        pthread_mutex_unlock(&r->exec->strict_lock);
    } else {
        carry_out(&s);
        if (s.status == BERTH_OK) show(r, &s);
    }
    if (s.status != BERTH_OK) note_failure(r, &s);
}

/* ---- one run ---------------------------------------------------------------------------------------------------- */

static int32_t ops_on(const berth_bound *b, int32_t d)
{
    return b->lane_first[d + 1] - b->lane_first[d];
}

static void submit(berth_run *r)
{
    berth_exec *exec = r->exec;
    if (exec->shares_lanes) pthread_mutex_lock(&exec->submit_lock);
    for (int32_t d = 0; d < exec->n_units; d++) /* all, before any starts; other lanes may be another replica's */
        if (ops_on(r->bound, d)) r->base[d] = exec->units[d].lane.n_issued;
    for (int32_t d = 0; d < exec->n_units; d++)
        if (ops_on(r->bound, d)) berth_lane_submit(&exec->units[d].lane, lane_item, &r->shares[d], ops_on(r->bound, d));
    if (exec->shares_lanes) pthread_mutex_unlock(&exec->submit_lock);
}

berth_status berth_run_program(berth_run *r, const berth_bound *b, const berth_sizes *sizes, const berth_watch *watch,
                               uint64_t *edge_bytes, berth_error *err)
{
    berth_exec *exec = r->exec;
    r->bound = b;
    r->sizes = *sizes;
    r->watch = watch;
    r->edge_bytes = edge_bytes;
    r->status = BERTH_OK;
    atomic_store(&r->failed, false);
    submit(r);
    /* This thread does not spin: its core is one of those that now compute. */
    for (int32_t d = 0; d < exec->n_units; d++)
        if (ops_on(b, d)) berth_lane_wait(&exec->units[d].lane, r->base[d] + (uint32_t)ops_on(b, d), 0);
    if (exec->strict) berth_strict_only(exec->strict, BERTH_DEVICE_HOST);
    if (r->status != BERTH_OK && err) *err = r->error;
    return r->status;
}
