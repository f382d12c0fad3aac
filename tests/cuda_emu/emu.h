/* emu.h - steering the emulated CUDA driver from a test. The form of its kernel images is in image.h.
 *
 * The emulator is a libcuda.so.1 of its own over up to 8 emulated GPUs, found through LD_LIBRARY_PATH, never installed.
 * Configuration: the environment variable CUDA_EMU (or emu_reset), "key=value" separated by ';' or lines; "@FILE" reads
 * a file. A key may name one GPU ("cap.1=70"); without it, all.
 *   gpus=2           how many, 0 to 8; default 1            cap=80      compute capability, default 80
 *   mem=64MiB        memory, default 256MiB                 mode=0      compute mode: 0, 2 prohibited, 3 exclusive
 *   context_mem=0    of it taken by a context, as hardware does (some hundred MiB)
 *   name=TEXT        default "Emulated GPU"                 busy=0      1: another process holds it (mode 3)
 *   peer=1           peer access; peer.0.1=0: not from 0 to 1           driver=12040  version
 *   lie.0.1=1    copies from 0 to 1 succeed and bring zeros; 2: bring nothing; 3: spoil a byte a page from 64 KiB on
 *   host_gbps=12     GB/s of copies from and to the host, on the emulated clock that timed events read
 *   peer_gbps=25     the same between GPUs; peer_gbps.0.1=5
 *   cublaslt=1       0: cuBLASLt finds no algorithm for anything
 *   init=0           what cuInit returns                    seed=1      order of execution
 *   fail=12:700      the 12th call returns 700 (calls of cuGetErrorName and cuGetErrorString are not counted)
 *   lazy=0           1: nothing is carried out that nobody waits for, nor for a query
 *   skip_wait=3      the 3rd cuStreamWaitEvent does nothing, as if the program had left it out; lazy=1, and what it would
 *                    have waited for comes last of all that can go
 *   skip_wait=7.2    the same for each wait for the 2nd record of the 7th event that was created, which is held from its
 *                    record on: a name that does not depend on what other threads do
 *   hold_ms=0        so long a thread that waits for what is held waits for others to queue on the stream that a wait was
 *                    left out of; for programs of several threads
 *   skip_copy=3      the 3rd copy that is queued (those of graphs are not counted) brings nothing;
 *                    where the same bytes are there already, they are spoilt
 *   exit=97          end the process with this status when it ends with leaks or misuse
 *
 * Work is queued and carried out only when its result must be known, in a seeded random order that streams and events
 * allow. Device memory is mapped without access except while a kernel runs. Calls that hardware would let pass although
 * they are wrong (destroyed handles, memory freed while queued work uses it, copies past an allocation, a stream of
 * another context) are refused and counted as misuse. What the emulator does not know it refuses. */
#ifndef CUDA_EMU_EMU_H
#define CUDA_EMU_EMU_H

#include <stdint.h>

enum { EMU_MOST_WAITS = 256 };

typedef struct emu_wait { /* for which record of which event, both from 1 */
    uint32_t event, record;
} emu_wait;

typedef struct emu_report {
    uint64_t calls;             /* that could have been failed */
    uint64_t queued, executed;  /* pieces of work; a graph's launch is one that is queued, its nodes are carried out */
    uint64_t n_waits, n_copies; /* waits of streams for events, asked for; copies queued */
    int32_t contexts, allocations, pinned, streams, events, modules; /* alive now, as the two below */
    int32_t graphs;                                                  /* executable ones counted in */
    int32_t handles;                                                 /* of cuBLAS, communicators of NCCL */
    int32_t architecture;                                            /* of what was taken of the last fatbin; 0: none */
    int32_t n_failed;                                                /* calls that failed as they were told to */
    int32_t misuses;
    char misuse[200];               /* the last one */
    emu_wait waits[EMU_MOST_WAITS]; /* the first of n_waits */
    char skipped[80];               /* the wait or copy that was left out; "": it was not come to */
} emu_report;

/* Exported by the emulated library, to be found with dlsym. */
typedef void emu_report_fn(emu_report *out);   /* "emu_get_report" */
typedef void emu_reset_fn(const char *config); /* "emu_reset": drops everything and starts anew */
/* "emu_fail_after": the n-th call from now fails with this code (n 0: none), instead of what was told before. For programs of
 * several threads, whose calls up to here are not the same number each time. */
typedef void emu_fail_after_fn(uint64_t n, int code);
/* "emu_know_fatbin": these bytes, borrowed until they are replaced (NULL: none), stand for a unit ("rope.cu") of this build,
 * compiled by a toolkit (13000) that the test has at hand. */
typedef void emu_know_fatbin_fn(const char *unit, const void *image, uint64_t bytes, int toolkit);

#endif
