/* world.c - see world.h. */
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void world_begin(world *w, const emu_control *emulator, const char *config, const void *image)
{
    emulator->reset(config);
    berth_error err = {0};
    assert_int_equal(berth_cu_driver_open(&w->cu, NULL, &err), BERTH_OK);
    for (int g = 1; g >= 0; g--) {
        assert_int_equal(w->cu.cuDevicePrimaryCtxRetain(&w->context[g], g), 0);
        assert_int_equal(w->cu.cuCtxPushCurrent(w->context[g]), 0);
        assert_int_equal(w->cu.cuMemAlloc(&w->memory[g], WORLD_BYTES), 0);
        assert_int_equal(w->cu.cuStreamCreate(&w->stream[g], BERTH_CU_STREAM_NON_BLOCKING), 0);
        assert_int_equal(w->cu.cuEventCreate(&w->event[g], BERTH_CU_EVENT_DISABLE_TIMING), 0);
    }
    assert_int_equal(w->cu.cuModuleLoadData(&w->module, image), 0);
    assert_int_equal(w->cu.cuModuleGetFunction(&w->scale, w->module, "scale"), 0);
}

void world_end(world *w, const emu_control *emulator)
{
    berth_cu_driver_close(&w->cu);
    emulator->reset("");
}

int world_launch(world *w, berth_cu_stream stream, berth_cu_ptr x, berth_cu_ptr y, uint32_t n)
{
    uint32_t a = 1, b = 1;
    void *params[] = {&x, &y, &a, &b, &n};
    return w->cu.cuLaunchKernel(w->scale, 8, 1, 1, 64, 1, 1, 0, stream, params, NULL);
}
