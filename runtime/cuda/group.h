/* group.h - NCCL between GPUs of this process: copies from one GPU to another, sums over all of them, and an end to
 * what hangs. No NCCL type is seen from here on. Nobody needs NCCL: without it berth_gpu_copy_peer and staging do its
 * work.
 *
 * NCCL's kernels wait for each other on the GPUs. Two of them that are queued as A, B on one GPU and as B, A on
 * another wait for ever, and so do two whose streams the GPU happens to run one after the other: CUDA promises no
 * more. Hence four rules, all kept in here, so that lanes may call from their own threads in any order:
 *   - Both halves of a copy, and all parts of a sum, are queued by one call in one NCCL group. There is no call that
 *     queues a send and leaves the receive to another thread, so there is no order of two threads to get wrong.
 *   - One lock for the whole group is held meanwhile: every GPU gets its halves in the same order. Work that was
 *     queued before never waits for work that was queued after, on any GPU, so some oldest copy can always go on.
 *   - Each edge, "from GPU a to GPU b", has a communicator of two ranks of its own. On one communicator NCCL carries
 *     out one thing after the other: with one for all GPUs, a stage could not send before it has received the next
 *     batch. Few blocks a kernel (max_ctas) leave room for all edges' kernels at once.
 *   - Connections are made when the group is, by a first exchange on each edge, which is its proof too, not in the
 *     middle of a step.
 * Communicators are non-blocking ones, made in one NCCL group by one thread (ncclCommInitRankConfig; ncclCommInitAll
 * takes no configuration), so that no call into NCCL waits and everything can be aborted at a deadline.
 *
 * Lost: after a failure inside NCCL, or when a copy has not ended `timeout_ns` after all that it waited for had,
 * every communicator of the group is aborted, and the group is lost for good. Its GPUs are not. What was under way
 * then *ends*, with void data: whoever waited for a copy asks berth_gpu_group_state before he believes what it
 * brought.
 *
 * Threads: copy, sum, state, stats, abort from any threads; create, destroy, prove by one while no other is inside. A
 * thread of the group's own looks at copies under way, a few times a second; it sleeps while there are none.
 *
 * Errors besides those of device.h have native_api "nccl" and native_code. */
#ifndef BERTH_CUDA_GROUP_H
#define BERTH_CUDA_GROUP_H

#include "base/dtype.h"
#include "cuda/device.h"

typedef struct berth_gpu_group berth_gpu_group;

/* Bytes go from one member to another; each is a number of `gpus` of the create call. From one to itself is allowed,
 * so that NCCL can be tried where there is one GPU. */
typedef struct berth_gpu_edge {
    int32_t from, to;
} berth_gpu_edge;

typedef struct berth_gpu_group_options { /* zero means the default */
    const char *nccl;                    /* path of NCCL; NULL = libnccl.so.2. Borrowed during the call */
    int64_t timeout_ns; /* for one copy or sum from when it could begin, and for the making; 0 = 30 s */
    int32_t max_ctas;   /* blocks of a kernel of NCCL's; 0 = 4, 2 where GPUs are shared */
    int32_t depth;      /* copies under way on an edge before one more waits for the oldest; 0 = 16 */
    size_t proof_bytes; /* sent over each edge and compared when the group is made; 0 = 256 KiB */
    bool all_reduce;    /* also a communicator over all members, for berth_gpu_group_all_reduce */
} berth_gpu_group_options;

/* Makes, connects and proves (berth_gpu_prove) a communicator for each of `edges` (no edge twice; with none, only the
 * sum's) over `gpus` [n]. They are borrowed, and outlive the group; `options` may be NULL. NCCL takes some MiB of
 * both GPUs for each edge. Returns when all can be used. On failure *out is NULL and nothing is left behind. Errors,
 * each with what to do: BERTH_INVALID_ARGUMENT (edges), BERTH_NOT_FOUND (no NCCL), BERTH_UNSUPPORTED (too old, a
 * function is missing, two ends of an edge or two members of a sum are on one GPU and this NCCL cannot),
 * BERTH_MISMATCH (what an edge brings is not what was sent), BERTH_DEVICE_ERROR (NCCL's own; the deadline). */
berth_status berth_gpu_group_create(berth_gpu *const *gpus, int32_t n, const berth_gpu_edge *edges, int32_t n_edges,
                                    const berth_gpu_group_options *options, berth_gpu_group **out, berth_error *err);

/* Waits for copies under way, at most until their deadline, and ends everything. After the streams' last use by copies,
 * before the streams and the GPUs end. */
void berth_gpu_group_destroy(berth_gpu_group *group);

/* Why two logical devices cannot be the ends of an edge, or BERTH_OK: BERTH_UNSUPPORTED when they are on one GPU and
 * the NCCL that was opened takes each GPU once (before 2.30, or NCCL_MULTI_RANK_GPU_ENABLE is not 1). For a policy to
 * ask before it plans; opens and closes the library. Errors besides: those of opening it. */
berth_status berth_gpu_group_can(const berth_gpu *from, const berth_gpu *to, const char *library, berth_error *err);

/* Queues a copy on `s`, a stream of `to`: it begins after what `s` has queued, and what `s` queues from now on comes
 * after it, as with berth_gpu_copy_peer. What made `src`, and what last read `dst`, is for `s` to have awaited
 * before; when `s` is past the copy, `src` may be written again. The issuing thread is held up for a launch, or for
 * room (depth). BERTH_INVALID_ARGUMENT: no such edge, no bytes, or `s` is not of `to`. Not while a stream is captured
 * for a graph. */
berth_status berth_gpu_group_copy(berth_gpu_group *group, int32_t from, berth_gpu_ptr src, int32_t to,
                                  berth_gpu_ptr dst, size_t bytes, berth_gpu_stream *s, berth_error *err);

/* to[i][k] = sum over all members j of from[j][k], k < n, in NCCL's order of adding, the same bits for each i. fp32,
 * fp16 or bf16 elements. from, to, streams [number of members]: `streams[i]` is of member i, and orders its part as
 * in a copy; to[i] may be from[i]. Needs option all_reduce. BERTH_UNSUPPORTED: another dtype. */
berth_status berth_gpu_group_all_reduce(berth_gpu_group *group, const berth_gpu_ptr *from, const berth_gpu_ptr *to,
                                        size_t n, berth_dtype dtype, berth_gpu_stream *const *streams,
                                        berth_error *err);

/* As berth_gpu_prove, with this group's copies: is what arrives what was sent? */
berth_status berth_gpu_group_prove(berth_gpu_group *group, int32_t from, berth_gpu_ptr src, int32_t to,
                                   berth_gpu_ptr dst, size_t bytes, berth_error *err);

/* BERTH_OK, or the error that the group was lost with, the same for ever. Takes no driver call. */
berth_status berth_gpu_group_state(berth_gpu_group *group, berth_error *err);

/* Ends what is under way with void data; the group is lost. Later ones do nothing. */
void berth_gpu_group_abort(berth_gpu_group *group);

typedef struct berth_gpu_edge_stats {
    uint64_t n_copies, bytes; /* queued; the making and proofs counted in */
} berth_gpu_edge_stats;
berth_gpu_edge_stats berth_gpu_group_stats(berth_gpu_group *group, int32_t from, int32_t to); /* zeros: no such edge */

int32_t berth_gpu_group_version(const berth_gpu_group *group); /* 22809 = NCCL 2.28.9 */

#endif
