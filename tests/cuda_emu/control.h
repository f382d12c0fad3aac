/* control.h - a test's hold on the emulated driver: its steering, its account, and the codes that calls fail with. */
#ifndef CUDA_EMU_CONTROL_H
#define CUDA_EMU_CONTROL_H

#include "base/status.h"
#include "emu.h"

/* Of the libcuda.so.1 in use, which stays open until emu_control_close. */
typedef struct emu_control {
    void *opened;
    emu_report_fn *report;
    emu_reset_fn *reset;
    emu_fail_after_fn *fail_after;
} emu_control;

void emu_control_open(emu_control *c); /* ends the test when there is none */
void emu_control_close(emu_control *c);

/* The account; the running test fails where a call was wrong or anything is alive, and says `what`. */
emu_report emu_control_tidy(const emu_control *c, const char *what);

/* What driver calls are made to fail with: an error of the call, no memory, and each kind that ruins a context. */
typedef struct fault_code {
    int code;
    berth_status status; /* once a context exists */
} fault_code;
enum { N_FAULT_CODES = 7 };
extern const fault_code fault_codes[N_FAULT_CODES];

/* The whole file, owned by the caller; ends the test when it cannot be read. */
void *read_image(const char *path);

#endif
