/* emu_nccl.h - steering the emulated NCCL from a test. It is a libnccl.so.2 of its own over the emulated driver's GPUs.
 *
 * Configuration: the environment variable NCCL_EMU (or emu_nccl_reset), "key=value" separated by ';'.
 *   version=22809    what ncclGetVersion says
 *   seed=1           order of adding, and how long things are in progress
 *   progress=3       the most often a communicator is said to be in progress; 0: everything is done at once
 *   fail=12:3        the 12th call returns 3 (the two that give texts are not counted); one that gives something up does
 *                    so all the same
 *   async=2:6        the 2nd exchange brings nothing, and its communicators say error 6 from then on
 *   hang=2           the 2nd exchange never ends, until its communicators are aborted; 0 = none
 *   lie=2:1          the 2nd exchange brings zeros; 2: nothing; 3: spoils a byte
 *   absent=1         a rank that joined a communicator is never seen by the others
 * An exchange is one send with its receive, or one sum over all ranks; they count from 1 in the order they are matched.
 * NCCL_MULTI_RANK_GPU_ENABLE=1 counts as in NCCL from version 2.30 on: one GPU may then be two ranks.
 *
 * Nothing is queued before a communicator has been asked until it is no longer in progress, and nothing is sent before
 * both sides have come to it in the order of their streams. A send's source must keep its bytes until the *send* is
 * over. Stricter than NCCL: two streams in one group, calls while in progress or without a current context,
 * communicators destroyed with work queued or not finalized, counts, types and kinds that differ between ranks, a rank
 * that is left in a group of its own: misuse, named on standard error, and refused. When somebody waits and nothing in
 * the whole process can go on, a side whose other side is not there is a deadlock: that is misuse too, and the
 * communicator is broken, so that the test ends. (In NCCL another thread might still bring the other side; berth never
 * relies on that.) */
#ifndef CUDA_EMU_EMU_NCCL_H
#define CUDA_EMU_EMU_NCCL_H

#include <stdint.h>

typedef struct emu_nccl_report {
    uint64_t calls;     /* that could have been failed */
    uint64_t exchanges; /* that were matched */
    uint64_t aborted;   /* communicators */
    int32_t comms;      /* alive now */
    int32_t n_failed;   /* calls that failed as they were told to */
} emu_nccl_report;

/* Exported by the emulated library, to be found with dlsym. Misuse is in the driver's report (emu.h). */
typedef void emu_nccl_report_fn(emu_nccl_report *out); /* "emu_nccl_get_report" */
typedef void emu_nccl_reset_fn(const char *config);    /* "emu_nccl_reset"; after emu_reset */

#endif
