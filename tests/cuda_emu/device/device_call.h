/* device_call.h - a call of an op as it would stand on a device: operands of chosen dtypes in memory of exactly their size, launched on the emulator and held
 * against the reference. */
#ifndef BERTH_TESTS_DEVICE_CALL_H
#define BERTH_TESTS_DEVICE_CALL_H

#include "kernels/cuda/launches.h"
#include "kernels/test_cases.h"
#include "tests/cuda_emu/device/emu.h"

/* Dtypes of a call's activations: the first operand's, the others', the result's. */
typedef struct dtype_mix {
    berth_dtype first, others, out;
} dtype_mix;

static inline dtype_mix all_of(berth_dtype dtype)
{
    return (dtype_mix){dtype, dtype, dtype};
}

/* A call whose tensors lie in memory of exactly their size, 64-byte aligned, as on a device. */
typedef struct device_call {
    berth_op_call call;
    emu_range ranges[BERTH_OP_INPUTS + 2];
    void *owned[BERTH_OP_INPUTS + 2];
    size_t n_ranges;
} device_call;

/* Memory of the device, owned by the call; filled with NaNs. */
void *device_bytes(device_call *d, size_t bytes, bool writable);
size_t tensor_bytes(const berth_tensor *t);

/* Copies the bed's call, its activations and state (may be NULL) rounded to the mix. */
void device_call_init(device_call *d, const berth_bed *b, const float *state, dtype_mix mix);
void device_call_deinit(device_call *d);

/* The output takes over the memory of the op's in-place input. */
void make_in_place(device_call *d);

/* Runs the op's launches, or these, on a GPU of that capability; `name` is for messages. */
void run_on_emulator(const device_call *d, const char *name, int32_t capability, uint64_t seed);
void run_launches(const device_call *d, const char *name, const berth_cuda_launch *launches, int32_t n, uint64_t seed);

/* The output in fp32; caller frees. */
float *widened_output(const device_call *d);

/* What the reference makes of the same operands (caller frees): the bed's activations are rounded in place first. */
float *reference(berth_bed *b, float *state, dtype_mix mix);

/* Fails where an element is further from the reference than the case allows and its storage in `dtype` explains. */
void check_output(const berth_op_case *c, berth_dtype dtype, const float *got, const float *want, size_t n);

#endif
