/* emu_run.c - what an op does when its turn has come, and how long it takes on the emulated clock: a fixed time plus
 * its bytes over the link's rate, one op after the other. Rates come from the configuration, so that what measures
 * links can be tested; they say nothing about any GPU. */
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

static int launch(const emu_op *op)
{
    void *params[64];
    uint8_t *copy =
        aligned_alloc(16, op->owned_bytes); /* a kernel may change its arguments, a graph's node is launched again */
    if (!copy) abort();
    memcpy(copy, op->owned, op->owned_bytes);
    size_t at = 0;
    for (uint32_t i = 0; i < op->kernel->n_params; i++) {
        params[i] = copy + at;
        at += (op->kernel->param_bytes[i] + 15u) & ~(size_t)15;
    }
    char error[512] = "";
    emu_image_launch l = op->launch;
    emu_image_range *ranges = emu_open_ranges(op->context, &l.n_ranges);
    l.ranges = ranges;
    l.seed = emu_random();
    l.error = error;
    l.error_bytes = sizeof error;
    emu_open(op->context, true);
    int code = op->kernel->run(op->kernel, &l, params);
    emu_open(op->context, false);
    free(ranges);
    free(copy);
    if (error[0]) emu_misuse(0, "kernel %s: %s", op->kernel->name, error);
    return code;
}

/* After what was given the addresses of memory. */
static int check_red_zones(const char *name)
{
    for (int g = 0; g < emu.config.n_gpus; g++) {
        if (!emu_red_zones_whole(g))
            return emu_misuse(BERTH_CU_ILLEGAL_ADDRESS, "%s wrote beside an allocation of GPU %d", name, g);
    }
    return 0;
}

/* A copy between GPUs over a link that reports success whatever it brings. */
static void lie(int how, uint8_t *dst, const uint8_t *src, size_t bytes)
{
    enum { PAGE = 4096, FROM = 64 << 10 };
    if (how == 1) memset(dst, 0, bytes);
    if (how != 3) return;
    memcpy(dst, src, bytes);
    for (size_t at = 0; at < bytes && bytes >= FROM; at += PAGE) dst[at] ^= 0x40;
}

static void copy(const emu_op *op)
{
    uint8_t *dst = op->dst_gpu >= 0 ? emu_alias(op->dst_gpu, op->dst) : op->dst;
    const uint8_t *src = op->src_gpu >= 0 ? emu_alias(op->src_gpu, op->src) : op->src;
    const bool between = op->src_gpu >= 0 && op->dst_gpu >= 0 && op->src_gpu != op->dst_gpu;
    const int how = between ? emu.config.gpu[op->src_gpu].lie[op->dst_gpu] : 0;
    if (how)
        lie(how, dst, src, op->bytes);
    else
        memcpy(dst, src, op->bytes);
}

/* What a copy that was left out would have brought is not there: neither by chance, as the same bytes of the one before. */
static void leave_out(const emu_op *op)
{
    uint8_t *dst = op->dst_gpu >= 0 ? emu_alias(op->dst_gpu, op->dst) : op->dst;
    const uint8_t *src = op->src_gpu >= 0 ? emu_alias(op->src_gpu, op->src) : op->src;
    if (memcmp(dst, src, op->bytes) == 0) memset(dst, EMU_FRESH, op->bytes);
}

enum { FIXED_NS = 5000, OWN_GBPS = 500 };

static uint64_t duration_ns(const emu_op *op)
{
    const int from = op->src_gpu, to = op->dst_gpu;
    if (op->kind == EMU_RECORD || op->kind == EMU_WAIT) return 0;
    if (op->kind == EMU_SET) return FIXED_NS + op->bytes / OWN_GBPS;
    if (op->kind != EMU_COPY) return FIXED_NS;
    if (from == to) return FIXED_NS + op->bytes / OWN_GBPS;
    if (from < 0) return FIXED_NS + op->bytes / (size_t)emu.config.gpu[to].host_gbps;
    if (to < 0) return FIXED_NS + op->bytes / (size_t)emu.config.gpu[from].host_gbps;
    if (emu.config.gpu[from].peer[to]) return FIXED_NS + op->bytes / (size_t)emu.config.gpu[from].peer_gbps[to];
    return 2 * FIXED_NS + op->bytes / (size_t)emu.config.gpu[from].host_gbps +
           op->bytes / (size_t)emu.config.gpu[to].host_gbps;
}

int emu_perform(const emu_op *op, void *user)
{
    emu.report.executed++;
    emu.now_ns += duration_ns(op);
    if (!op->context->alive) return emu_misuse(BERTH_CU_CONTEXT_IS_DESTROYED, "work runs in a context that ended");
    if (op->context->error) return op->context->error;
    int code = 0;
    if (op->kind == EMU_COPY && !op->is_skipped) copy(op);
    if (op->kind == EMU_COPY && op->is_skipped) leave_out(op);
    if (op->kind == EMU_SET) memset(emu_alias(op->dst_gpu, op->dst), op->value, op->bytes);
    if (op->kind == EMU_RECORD) op->mark->at_ns = emu.now_ns;
    if (op->kind == EMU_LAUNCH) code = launch(op);
    if (op->kind == EMU_WORK) code = op->work.run(user);
    if (code == 0 && (op->kind == EMU_LAUNCH || op->kind == EMU_WORK))
        code = check_red_zones(op->kind == EMU_WORK ? op->work.name : "a kernel");
    return code;
}
