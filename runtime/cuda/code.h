/* code.h - berth's own kernels on one GPU: loaded once, then ops are queued on its streams.
 *
 * Whence: the build's image where it fits GPU and driver, else the embedded source, compiled by the libnvrtc that
 * is found and kept in a cache folder. Images of one load are all of one kind. Kernels are looked up while
 * loading; running an op allocates nothing, waits for nothing and calls the driver once a launch.
 *
 * Threads: load and unload from one thread; in between, any threads may run ops, one at a time per stream. */
#ifndef BERTH_CUDA_CODE_H
#define BERTH_CUDA_CODE_H

#include "cuda/device.h"
#include "kernels/ops.h"

typedef struct berth_gpu_code berth_gpu_code;

/* What decides which kernels an op gets; the plan knows it before a GPU is opened. */
typedef struct berth_gpu_code_target {
    int32_t capability; /* 86 = 8.6 */
    /* Only kernels whose bits for a row do not depend on the call's other rows: no cuBLAS; slower prefill. */
    bool batch_invariant;
} berth_gpu_code_target;

/* {0} is the default of all. Strings are borrowed during the call. */
typedef struct berth_gpu_code_options {
    bool batch_invariant; /* as above */
    bool compile;         /* from source, whatever images the build has */
    /* NULL: $XDG_CACHE_HOME/berth, else ~/.cache/berth; "": none. Made when it is not there; one that cannot be used is
     * no error. */
    const char *cache_dir;
    const char *nvrtc; /* a libnvrtc by path; NULL: whichever is found (nvrtc.h) */
    /* A libcublas by path; NULL: whichever is found; "": none. One that does not open is no error: our kernels do its
     * part. */
    const char *cublas;
} berth_gpu_code_options;

/* `options` may be NULL; `gpu` is borrowed until unload. Compiling takes seconds to a minute, once per GPU
 * architecture. Errors besides those of device.h: BERTH_UNSUPPORTED (neither an image nor an NVRTC for this GPU;
 * what helps is said), BERTH_INTERNAL (source that does not compile, with the log's beginning). */
berth_status berth_gpu_code_load(berth_gpu *gpu, const berth_gpu_code_options *options, berth_gpu_code **out,
                                 berth_error *err);
void berth_gpu_code_unload(berth_gpu_code *code); /* after its ops are over; NULL is fine */

/* Makes what ops on this stream need besides (a cuBLAS handle); done already is fine. Not during a capture, and
 * once before the stream's first op. */
berth_status berth_gpu_code_prepare(berth_gpu_code *code, berth_gpu_stream *s, berth_error *err);
/* Gives it up again: after its ops are over, before the stream is destroyed. One that was never prepared is fine. */
void berth_gpu_code_forget(berth_gpu_code *code, berth_gpu_stream *s);

/* Queues the op on `s`, a prepared stream of the code's GPU. Addresses in `call` (operands and workspace) are
 * device memory cast to pointers, 16-byte aligned (the workspace 256), that must stay until the stream is over;
 * call->attrs is read during the call, team is not used; call->workspace holds what berth_gpu_code_workspace says,
 * and is this stream's alone meanwhile. A shape without elements queues nothing. May be captured into a graph.
 * Errors besides those of device.h: BERTH_UNSUPPORTED (no kernel for these dtypes or shapes on this GPU; COPY is
 * never one), which berth_gpu_code_has foretells. */
berth_status berth_gpu_code_run(berth_gpu_code *code, berth_gpu_stream *s, const berth_op_call *call, berth_error *err);

/* Whether these ops are better queued as one; then berth_gpu_code_run_fused does it, with the bits that they give apart.
 * Calls as above; what lies between the ops is neither written nor read. */
bool berth_gpu_code_fuses(const berth_gpu_code *code, const berth_fused_call *call);
berth_status berth_gpu_code_run_fused(berth_gpu_code *code, berth_gpu_stream *s, const berth_fused_call *call,
                                      berth_error *err);

/* Bytes of scratch on the device for these shapes (data pointers are not looked at). Pure: needs no GPU. Monotone
 * in every dimension. */
size_t berth_gpu_code_workspace(const berth_op_call *shapes, const berth_gpu_code_target *target);

/* Kernels of this build take these shapes and dtypes on such a GPU. Pure. */
bool berth_gpu_code_has(const berth_op_call *shapes, const berth_gpu_code_target *target);

typedef enum berth_gpu_code_origin {
    BERTH_GPU_CODE_BUILT_IN, /* an image of this build */
    BERTH_GPU_CODE_COMPILED, /* now, by NVRTC */
    BERTH_GPU_CODE_CACHED    /* earlier, by NVRTC */
} berth_gpu_code_origin;

typedef struct berth_gpu_code_facts {
    berth_gpu_code_origin origin;
    int32_t nvrtc_version; /* 12090 = 12.9; 0: not used */
    bool has_cublas;
    int32_t n_kernels; /* found on this GPU */
    int64_t load_ns;   /* compiling counted in */
    char note[256];    /* what did not work and was done without: an unwritable cache, no cuBLAS; "" = nothing */
} berth_gpu_code_facts;

const berth_gpu_code_facts *berth_gpu_code_about(const berth_gpu_code *code); /* borrowed */

#endif
