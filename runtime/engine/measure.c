/* measure.c - what an engine takes of its GPUs' memory by the driver's own count, beside what was planned.
 *
 * The driver counts for a whole GPU, other programs included, and only with a context there: so each GPU is looked at when
 * it has a context and nothing else of this engine, and again when all is made. What differs beyond what code and libraries
 * are expected to take is a note: another program may have grown meanwhile, so nothing fails for it. */
#include "base/text.h"
#include "cuda/device.h"
#include "engine/core.h"

/* Beyond the plan: kernels' code, cuBLAS's handle and workspace (32 MiB at most by its manual), pages of 2 MiB. An estimate,
 * never yet measured on a real GPU. */
enum { SLACK_BYTES = 128 << 20 };

static bool is_first_on_gpu(const berth_machine *m, int32_t d)
{
    if (m->devices[d].kind != BERTH_DEVICE_CUDA) return false;
    for (int32_t i = 0; i < d; i++)
        if (m->devices[i].kind == BERTH_DEVICE_CUDA && m->devices[i].physical == m->devices[d].physical) return false;
    return true;
}

void berth_measure_begin(berth_core *core)
{
    const berth_machine *m = core->plan->machine;
    for (int32_t d = 0; d < m->n_devices; d++) {
        if (!is_first_on_gpu(m, d)) continue;
        /* where this fails, what is made next fails too and says why; or it is not measured */
        if (berth_gpu_open(core->exec.cuda, m->devices[d].physical, 0, &core->gauges[d].keeper, NULL) != BERTH_OK)
            continue;
        uint64_t total = 0;
        core->gauges[d].is_known =
            berth_gpu_memory(core->gauges[d].keeper, &core->gauges[d].free_before, &total, NULL) == BERTH_OK;
        core->gauges[d].used_before = total - core->gauges[d].free_before;
    }
}

static void compare(berth_core *core, int32_t d, uint64_t taken, uint64_t planned)
{
    const uint64_t differs = taken > planned ? taken - planned : planned - taken;
    char texts[3][32];
    if (differs <= SLACK_BYTES + planned / 64) return;
    berth_buffer_printf(
        &core->notes, "cuda:%d: %s of its memory were planned and %s are taken; more than %s apart: %s\n",
        (int)core->plan->machine->devices[d].physical, berth_format_bytes(planned, texts[0], sizeof texts[0]),
        berth_format_bytes(taken, texts[1], sizeof texts[1]),
        berth_format_bytes(SLACK_BYTES + planned / 64, texts[2], sizeof texts[2]),
        taken > planned ? "another program took some meanwhile, or libraries take more than is known; "
                          "leave more room (/mem=)"
                        : "another program gave some back meanwhile");
}

void berth_measure_end(berth_core *core)
{
    const berth_machine *m = core->plan->machine;
    for (int32_t d = 0; d < m->n_devices; d++) {
        berth_gauge *g = &core->gauges[d];
        uint64_t free_now = 0, total = 0, planned = 0;
        if (!g->is_known || berth_gpu_memory(g->keeper, &free_now, &total, NULL) != BERTH_OK) continue;
        const uint64_t taken = g->free_before > free_now ? g->free_before - free_now : 0;
        for (int32_t i = d; i < m->n_devices; i++) {
            if (m->devices[i].kind != BERTH_DEVICE_CUDA || m->devices[i].physical != m->devices[d].physical) continue;
            planned += core->plan->devices[i].total;
            core->plan->measured[i] = (berth_measured){.taken = taken, .used_before = g->used_before};
        }
        compare(core, d, taken, planned);
    }
    berth_measure_close(core);
}

void berth_measure_close(berth_core *core)
{
    for (int32_t d = 0; d < BERTH_MAX_DEVICES; d++) {
        berth_gpu_close(core->gauges[d].keeper);
        core->gauges[d].keeper = NULL;
    }
}
