/* policy.c - what each device of a plan multiplies in. */
#include "plan/plan_internal.h"

static berth_dtype automatic(const berth_device *d)
{
    if (d->capability == 0) return BERTH_F32;
    return berth_device_has_dtype(d, BERTH_BF16) ? BERTH_BF16 : BERTH_F16;
}

berth_status berth_plan_check_kinds(const berth_machine *machine, berth_error *err)
{
    for (int32_t d = 0; d < machine->n_devices; d++)
        if (!berth_backend_of(machine->devices[d].kind))
            return BERTH_FAIL(err, BERTH_UNSUPPORTED, "device %s: this build computes on cpu devices only",
                              machine->devices[d].name);
    return BERTH_OK;
}

berth_status berth_plan_policy(const berth_machine *machine, berth_plan_dtype want, berth_dtype *out_compute,
                               uint32_t *out_dtypes, berth_error *err)
{
    static const berth_dtype asked[] = {
        [BERTH_PLAN_FP32] = BERTH_F32, [BERTH_PLAN_FP16] = BERTH_F16, [BERTH_PLAN_BF16] = BERTH_BF16};
    for (int32_t i = 0; i < machine->n_devices; i++) {
        const berth_device *d = &machine->devices[i];
        bool is_plain = d->capability == 0; /* rounds as a device would that has the dtype */
        out_compute[i] = want == BERTH_PLAN_AUTO ? automatic(d) : asked[want];
        out_dtypes[i] = 1u << BERTH_F32;
        for (int t = BERTH_F16; t <= BERTH_BF16; t++) {
            /* Where all is computed in fp32, weights are read as they are stored and widened, which loses nothing. */
            bool is_storage = out_compute[i] == BERTH_F32;
            if (is_plain || is_storage || berth_device_has_dtype(d, (berth_dtype)t)) out_dtypes[i] |= 1u << t;
        }
        if (out_dtypes[i] >> out_compute[i] & 1) continue;
        return BERTH_FAIL(
            err, BERTH_UNSUPPORTED,
            "dtype bf16: device %s has compute capability %d.%d and no bf16 of its own (that begins with 8.0); "
            "use fp16, which it has, fp32, or auto, which takes the best of each device",
            d->name, (int)d->capability / 10, (int)d->capability % 10);
    }
    return BERTH_OK;
}
