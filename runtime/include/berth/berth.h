/* berth.h - the interface for programs that embed berth: open a model, see where every tensor would live, run requests.
 *
 * Order of use: runtime -> model -> plan -> engine -> requests. Each can be inspected before the next is made. Rules
 * for all:
 *   - Every call that can fail returns a berth_status and fills the optional `err`. Nothing prints, exits, aborts or
 *     keeps global state; runtimes do not know of each other.
 *   - Option structs begin with struct_size; zero means the default for every other field. Bytes behind what this
 *     library knows must be zero.
 *   - `create`/`open` give a handle that the caller ends with `destroy`/`close` (NULL is fine). Handles retain what
 *     they were made from, so they may be ended in any order.
 *   - Text returned as `char *` belongs to the caller: berth_free. Strings in option structs are borrowed for the call.
 *   - Functions on different handles may be called from any threads. On one handle: functions taking `const` handles,
 *     and all of engine, session and queue, from any threads; others one at a time.
 *     `destroy` and `close` come last: nobody else may be in a call on that handle.
 *   - A handle of the wrong kind or one that was ended already is refused (BERTH_INVALID_ARGUMENT), as long as its
 *     runtime lives.
 *   - In the child of a fork, calls on handles made before are refused (BERTH_INVALID_ARGUMENT); no handler is
 *     installed, no signal is taken.
 *   - From a callback every function may be called but those that would wait for the callback itself: destroying its
 *     engine or queue, or running a request to its end (refused, BERTH_BUSY).
 *     It returns: no exception and no longjmp may cross the library. */
#ifndef BERTH_BERTH_H
#define BERTH_BERTH_H

#include "berth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct berth_runtime berth_runtime;
typedef struct berth_model berth_model;
typedef struct berth_plan berth_plan;
typedef struct berth_engine berth_engine;
typedef struct berth_session berth_session;
typedef struct berth_queue berth_queue;

BERTH_API const char *berth_version(void); /* "0.1.0"; static */
BERTH_API void berth_free(void *text);     /* what the library returned as char * */

/* ---- runtime ---------------------------------------------------------------------------------------------------- */

typedef enum berth_log_level {
    BERTH_LOG_DEBUG,  /* what is of use while searching for a mistake */
    BERTH_LOG_INFO,   /* what was done */
    BERTH_LOG_WARNING /* what is probably not meant */
} berth_log_level;

/* What a runtime asks of the program around it. */
typedef struct berth_runtime_options {
    size_t struct_size;
    void (*log)(void *user, berth_log_level level, const char *message); /* from any thread; NULL = silent */
    void *log_user;
    /* Memory of devices (arenas: KV, activations, copied weights), aligned to 4096; weights used in place are mapped from
     * their files all the same. Both or none; called from any thread; NULL from `allocate` = none left */
    void *(*allocate)(void *user, size_t size);
    void (*release)(void *user, void *memory, size_t size); /* what `allocate` gave, with the same size */
    void *memory_user;
    /* On each thread berth makes ("lane cpu:0", "loop 0", "host 1", "deadlines", "delivery"), first and last thing it
     * does */
    void (*thread_begin)(void *user, const char *name);
    void (*thread_end)(void *user, const char *name); /* the same name again */
    void *thread_user;
} berth_runtime_options;

/* A runtime, from which everything else is made. Errors: BERTH_INVALID_ARGUMENT, BERTH_OUT_OF_MEMORY. */
BERTH_API berth_status berth_runtime_create(const berth_runtime_options *options, berth_runtime **out,
                                            berth_error *err);
BERTH_API void berth_runtime_destroy(berth_runtime *rt);

/* ---- model ------------------------------------------------------------------------------------------------------ */

/* How a model directory is read. */
typedef struct berth_model_options {
    size_t struct_size;
    int32_t
        allow_missing_weights; /* nonzero: config.json alone, or with weight files cut off behind their headers, is enough, for planning */
} berth_model_options;

/* Opens a Hugging Face model directory (InternVL3 in both layouts, Qwen2/Qwen3): configuration and safetensors headers,
 * checked; no weights are read. Errors: BERTH_NOT_FOUND, BERTH_BAD_FILE, BERTH_UNSUPPORTED, BERTH_IO_ERROR. */
BERTH_API berth_status berth_model_open(berth_runtime *rt, const char *dir, const berth_model_options *options,
                                        berth_model **out, berth_error *err);
BERTH_API void berth_model_close(berth_model *model);

/* Layout, sizes, dtypes, context, image settings, tensors and bytes as JSON; schema: docs/embedding.md. NULL: out of
 * memory. */
BERTH_API char *berth_model_json(const berth_model *model);

/* Token ids of plain text, as in a user's turn (special tokens are not recognised); `out_ids` is the caller's:
 * berth_free. */
BERTH_API berth_status berth_model_tokenize(berth_model *model, const char *text, size_t size, int32_t **out_ids,
                                            int32_t *out_n, berth_error *err);
/* Text of token ids, `out_size` bytes and a NUL; `out` is the caller's: berth_free. */
BERTH_API berth_status berth_model_detokenize(berth_model *model, const int32_t *ids, int32_t n, char **out,
                                              size_t *out_size, berth_error *err);

/* ---- plan ------------------------------------------------------------------------------------------------------- */

/* What to place, on what, by which rule. */
typedef struct berth_plan_options {
    size_t struct_size;
    const char *devices;    /* "cpu*4/mem=8GiB", ...; NULL = "cpu". The grammar is in docs/devices.md */
    const char *strategy;   /* "auto", "balanced_low_0", "replicate=2", a plug-in "./mine.so=2", ...; NULL = "auto" */
    const char *device_map; /* JSON text, Hugging Face form; replaces the strategy */
    /* "auto", "fp32", "fp16", "bf16": what devices compute in. NULL = "auto": bf16 where a device has it, else fp16;
     * fp32 on plain cpu devices */
    const char *dtype;
    int64_t context;          /* tokens of one sequence, tokens; 0 = min(the model's, 4096) */
    int32_t n_seqs;           /* sequences kept at once; 0 = 1 */
    int32_t chunk;            /* tokens of one prefill pass; 0 = 512 */
    int32_t tiles;            /* image tiles of one encode pass; 0 = 4 */
    int32_t max_tiles;        /* image tiles kept at once; 0 = two full pictures */
    const char *kernels;      /* "ref", "avx2", ...; NULL = the fastest this machine can run */
    int32_t trace;            /* nonzero: logits for all positions, and values may be traced */
    const char *strategy_dir; /* a folder of plug-ins: its mine.so is the strategy "mine"; NULL = none */
    /* nonzero: a plug-in runs in a process of its own; its crash, loop or garbage is an error and nothing more */
    int32_t isolated;
    int32_t strategy_timeout_ms; /* isolated: the plug-in is ended after so long; 0 = 5000 */
    /* isolated: path of berth-strategy-host; NULL = beside the program, or where berth was installed */
    const char *strategy_host;
    /* a folder looked in first for NAME.json where `devices` names a profile or machine; NULL = none */
    const char *profile_dir;
    /* NULL-terminated "GLOB=DEVICE" over whatever decided: module paths, or vision, projector, text.layer.3 and the like;
     * the last one that fits wins */
    const char *const *place;
    const char *split; /* "3,1": shares of the decoder layers, one a device, by llama.cpp's rule */
    /* "20,8": decoder layers on each device, exactly; the embedding goes with the first, norm and head with the last */
    const char *layers;
    const char *vision_device; /* the device of the vision tower and the projector */
    const char *compat;        /* "accelerate": the placement accelerate makes with these budgets; NULL = berth's own */
    /* nonzero: where the strategy refuses for want of memory, the plan it makes on devices larger by one factor, which
     * then does not fit */
    int32_t show_misfit;
    int32_t passes;    /* passes in flight at once, so that stages overlap; 0 = as many as stages, at most n_seqs */
    int64_t kv_tokens; /* KV tokens of all sequences together, so that many short ones fit; 0 = context * n_seqs */
    int32_t
        draft; /* tokens a request may guess ahead at most (berth_request.speculate): memory for their logits; 0 = none */
    /* nonzero: GPUs take only kernels in which a token's numbers do not depend on what else a pass carries, so that
     * tokens are the same alone and in company to the last bit; slower prefill. Cpu devices always do so. Of
     * 64 bits, since what follows a last field of 32 was padding that nobody had to clear */
    int64_t batch_invariant;
} berth_plan_options;

/* Decides placement and memory, and proves that every operand of every op lies where the op runs. Succeeds also when
 * the plan does not fit (berth_plan_fits). Errors: BERTH_INVALID_ARGUMENT, BERTH_UNSUPPORTED, BERTH_DOES_NOT_FIT (the
 * strategy finds no placement, or answers one over a device's limit), BERTH_AFFINITY, BERTH_DEVICE_ERROR (a device that
 * is not there); for a plug-in also BERTH_NOT_FOUND, BERTH_BAD_FILE (does not load, crashed, answered garbage),
 * BERTH_DEADLINE. docs/strategy-plugins.md has the rules. */
BERTH_API berth_status berth_plan_create(const berth_model *model, const berth_plan_options *options, berth_plan **out,
                                         berth_error *err);
BERTH_API void berth_plan_destroy(berth_plan *plan);

typedef struct berth_plan_device { /* one device, all replicas on it; bytes */
    size_t struct_size;            /* set by the caller */
    const char *name;              /* "cpu:2"; valid while the plan lives */
    uint64_t weights;              /* held by it, copied or mapped */
    uint64_t kv;                   /* keys and values of its layers, for all planned tokens */
    uint64_t features;             /* image features that wait for the language model */
    uint64_t activations;          /* values of the largest pass */
    uint64_t workspace;            /* scratch memory of its kernels */
    uint64_t total;                /* of the five above */
    uint64_t limit;                /* that total must not exceed */
    uint64_t kv_per_token;         /* of its layers, one token */
    int32_t n_cores;               /* that compute for it */
    int32_t shares_cores;          /* nonzero: with other devices */
    uint64_t context;              /* what a backend takes for itself, outside of total and limit */
    const char *profile;           /* what the device wears, "A10"; "" = nothing */
    const char *dtype;             /* what it computes in: "f32", "f16", "bf16" */
    uint64_t token_bytes;          /* weights read for one generated token */
    double token_seconds;          /* the same by the device's memory rate; 0 = rate not known */
    /* Of an engine's plan: by how much its GPU's free memory fell while the engine was made, all its devices on that GPU
     * together. 0 = not measured */
    uint64_t taken;
    uint64_t used_before; /* of that GPU, before: its context, other engines and programs */
} berth_plan_device;

typedef struct berth_plan_module { /* one node of the module tree */
    size_t struct_size;
    const char *path;       /* "language_model.model.layers.3"; valid while the plan lives */
    const char *class_name; /* "Qwen2DecoderLayer"; "" for tensors */
    int32_t parent;         /* its index, always smaller; -1 for the root */
    int32_t depth;          /* 0 for the root */
    int32_t is_tensor;      /* nonzero: a tensor, else a module */
    uint64_t weight_bytes;  /* subtree */
    int32_t is_unit;        /* a part that is placed as a whole: a layer, or a module beside layers that owns tensors */
} berth_plan_module;

/* Nonzero: every device's total is within its limit. Else what the worst one misses, and its index; both may be NULL. */
BERTH_API int32_t berth_plan_fits(const berth_plan *plan, uint64_t *out_missing_bytes, int32_t *out_device);
BERTH_API const char *berth_plan_strategy(const berth_plan *plan); /* its name, with the argument: "replicate=2" */
BERTH_API const char *berth_plan_note(const berth_plan *plan);     /* what the strategy wants known; "" */
BERTH_API const char *berth_plan_refusal(
    const berth_plan *plan);                                     /* with show_misfit: the strategy's own words; or "" */
BERTH_API int32_t berth_plan_n_devices(const berth_plan *plan);  /* of the plan, also those left empty */
BERTH_API int32_t berth_plan_n_replicas(const berth_plan *plan); /* whole copies of the model, at least 1 */
BERTH_API int32_t berth_plan_n_modules(const berth_plan *plan);  /* and tensors: nodes of the tree, in pre-order */
/* Facts of one device. Errors: BERTH_INVALID_ARGUMENT (no such device). */
BERTH_API berth_status berth_plan_get_device(const berth_plan *plan, int32_t device, berth_plan_device *out,
                                             berth_error *err);
/* Facts of one node of the tree. Errors: BERTH_INVALID_ARGUMENT (no such node). */
BERTH_API berth_status berth_plan_get_module(const berth_plan *plan, int32_t module, berth_plan_module *out,
                                             berth_error *err);
/* The device on which a module (or tensor) lives in a replica; -1 when its parts live on several. */
BERTH_API int32_t berth_plan_module_device(const berth_plan *plan, int32_t replica, int32_t module);

/* One routed copy: a value that is read where it was not made. In program order, encode before step. */
typedef struct berth_plan_copy {
    size_t struct_size;
    const char *program; /* "encode" (pictures) or "step" (tokens); valid while the plan lives, as all names here */
    const char *value;   /* "pixel_values", "projector.out", "text.layer.3", ... */
    int32_t from, to;    /* device indices; -1 = host memory */
    uint64_t bytes_at_bounds; /* of the largest pass the plan allows for */
} berth_plan_copy;
BERTH_API int32_t berth_plan_n_copies(const berth_plan *plan, int32_t replica); /* in one pass of each program */
/* One of them, in program order. Errors: BERTH_INVALID_ARGUMENT (no such replica or copy). */
BERTH_API berth_status berth_plan_get_copy(const berth_plan *plan, int32_t replica, int32_t copy, berth_plan_copy *out,
                                           berth_error *err);

/* The device with the least room left, the kind of memory that takes most on it ("weights", "kv", ...), and that room;
 * negative when it does not fit. */
BERTH_API int32_t berth_plan_binds(const berth_plan *plan, const char **out_kind, int64_t *out_room);

/* Bytes that a request moves between memories: n_tiles image tiles encoded, then a prompt of n_prompt tokens, then n_new
 * generated ones. `out` [(n_devices + 1)^2], row = from, column = to, n_devices = the host; as berth_result counts them.
 * With 0 prompt tokens nothing but the pictures, and so on. */
BERTH_API berth_status berth_plan_edges(const berth_plan *plan, int32_t replica, int32_t n_tiles, int64_t n_prompt,
                                        int64_t n_new, uint64_t *out, berth_error *err);
BERTH_API int32_t berth_plan_image_tiles(const berth_plan *plan); /* of one picture, at most; 0 = the model sees none */
BERTH_API int32_t berth_plan_chunk(const berth_plan *plan);       /* prompt tokens of one pass */

/* What was planned for, defaults filled in. */
typedef struct berth_plan_sizes {
    size_t struct_size;
    int64_t context;   /* tokens of one sequence */
    int32_t n_seqs;    /* sequences kept at once */
    int32_t chunk;     /* prompt tokens of one pass */
    int32_t tiles;     /* image tiles of one pass */
    int32_t max_tiles; /* image tiles kept at once */
} berth_plan_sizes;
/* Fills `out`, of which struct_size is set. BERTH_INVALID_ARGUMENT otherwise. */
BERTH_API berth_status berth_plan_get_sizes(const berth_plan *plan, berth_plan_sizes *out, berth_error *err);

/* What would still fit, each with the other settings as asked; 0 = not even 1. */
typedef struct berth_plan_limits {
    size_t struct_size;
    int64_t context;     /* tokens of one sequence; at most the larger of the model's and what was asked */
    int32_t n_seqs;      /* at most 4096 */
    int32_t tiles;       /* of one encode pass, at most max_tiles; 0 also when the model sees no pictures */
    int32_t weights_fit; /* zero: not even the least of everything fits, as when the weights alone are too large */
} berth_plan_limits;
/* Finds them by planning again some 40 times. Errors: as berth_plan_create but for want of memory. */
BERTH_API berth_status berth_plan_limits_find(const berth_model *model, const berth_plan_options *options,
                                              berth_plan_limits *out, berth_error *err);

enum { BERTH_EXPLAIN_JSON = 1 }; /* flags: JSON, not text */
/* Why a module, value or op (by its number, "step:41", or the value it makes) is where it is, who is before and after
 * it, and, for values, who writes and reads it. Text, or JSON with BERTH_EXPLAIN_JSON. Errors: BERTH_NOT_FOUND with the
 * nearest names. */
BERTH_API berth_status berth_plan_explain(const berth_plan *plan, int32_t replica, const char *name, uint32_t flags,
                                          char **out, berth_error *err);

enum { BERTH_ALL_REPLICAS = -1 }; /* for berth_plan_dot: every replica in one drawing */
/* Graphviz: devices as clusters, modules as nodes, edges with bytes a token and a tile. */
BERTH_API char *berth_plan_dot(const berth_plan *plan, int32_t replica);

enum { BERTH_PLAN_WITH_PROGRAM = 1 }; /* flags: every op and value too */
/* The whole plan as JSON; schema: docs/plan-schema.md. NULL: out of memory. */
BERTH_API char *berth_plan_json(const berth_plan *plan, uint32_t flags);
BERTH_API char *berth_plan_program_text(const berth_plan *plan, int32_t replica); /* for reading */
BERTH_API char *berth_plan_device_map(const berth_plan *plan, int32_t replica);   /* Hugging Face form */

/* ---- engine ----------------------------------------------------------------------------------------------------- */

/* Which of the waiting requests starts first. */
typedef enum berth_start_order {
    BERTH_ORDER_ARRIVAL, /* the oldest */
    BERTH_ORDER_LONGEST  /* the longest (prompt and answer): a batch of known work ends soonest so */
} berth_start_order;

/* How an engine loads and serves. */
typedef struct berth_engine_options {
    size_t struct_size;
    /* nonzero: other devices' memory is unreadable while an op runs; slow, installs a SIGSEGV guard while such engines
     * live */
    int32_t strict;
    const char *transport; /* "local", "staged", "peer", "nccl"; NULL = the best that each edge can have */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* while loading, on the calling thread */
    void *progress_user;
    int32_t queue;           /* requests that may wait; one more is BERTH_BUSY; 0 = 1024 */
    int32_t host_threads;    /* decode pictures and build prompts ahead of need; 0 = 2 */
    berth_start_order order; /* which waiting request of equal priority starts first */
    /* nonzero: computed KV is not kept for later requests with the same beginning; sessions keep theirs */
    int32_t no_prefix_cache;
    /* bytes of tokens that a request's consumer may leave untaken before the request ends with BERTH_SLOW_CONSUMER; 0 =
     * 256 KiB */
    int64_t consumer_bytes;
    /* nonzero: NVTX ranges for NVIDIA's tools, of each op queued on a GPU (op, value with its layer, device, requests) and of
     * each pass; GPU work is then not replayed as graphs. Where no tool listens: a warning, and nothing more */
    int64_t nvtx;
    /* nonzero: copies that are queued on GPUs are timed too (berth_result.edge_ns); some microseconds each */
    int64_t time_copies;
} berth_engine_options;

/* Loads the model under the plan; the plan belongs to the engine from the call on, on failure too. Errors:
 * BERTH_DOES_NOT_FIT (names the missing bytes), BERTH_BAD_FILE (tokenizer, weights), BERTH_OUT_OF_MEMORY,
 * BERTH_DEVICE_ERROR. */
BERTH_API berth_status berth_engine_create(berth_plan *take_plan, const berth_engine_options *options,
                                           berth_engine **out, berth_error *err);
/* Cancels what waits and runs, and returns when every request has told its end (blocking callers have returned,
 * callbacks were called, queues hold the rest). */
BERTH_API void berth_engine_destroy(berth_engine *engine);
BERTH_API const berth_plan *berth_engine_plan(const berth_engine *engine); /* valid while the engine lives */

typedef struct berth_stats { /* since the engine was made, all replicas together */
    size_t struct_size;
    int32_t n_waiting, n_running, n_sessions;   /* now */
    int64_t n_submitted, n_finished, n_refused; /* requests: taken, ended in any way, not taken (BERTH_BUSY) */
    int64_t n_encode_passes, n_step_passes;     /* passes of the two programs */
    int64_t n_tiles, n_tiles_reused;            /* image tiles: encoded; whose features were there already */
    int64_t n_prompt_tokens, n_reused_tokens;   /* tokens of prompts, and of those what was computed before */
    int64_t n_new_tokens;                       /* generated */
    int64_t kv_tokens, kv_used, kv_cached; /* tokens: capacity; held by running requests and sessions; kept for reuse */
    int64_t loop_ns, busy_ns;              /* the scheduler's own work; time with a pass in flight */
    /* weights that no device uses in place in their files: how long reading them all took, and their bytes on the devices */
    int64_t load_ns, load_bytes;
} berth_stats;
/* Counts and times so far. What waits and runs is of one moment, the rest is read one after the other while work goes on.
 * Who was told a request's end finds it counted as ended. */
BERTH_API berth_status berth_engine_get_stats(berth_engine *engine, berth_stats *out, berth_error *err);

/* The way that bytes take from one memory to another. */
typedef struct berth_edge {
    size_t struct_size;
    const char *transport; /* "local", "staged", "peer", "nccl"; "": no copy of the plan goes there */
    const char *note;      /* why it has no better one, where a better one was tried; "" */
} berth_edge;
/* Devices by their index in the plan; n_devices is the host. Strings are valid while the engine lives. Errors:
 * BERTH_INVALID_ARGUMENT. */
BERTH_API berth_status berth_engine_get_edge(berth_engine *engine, int32_t from, int32_t to, berth_edge *out,
                                             berth_error *err);

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* What a piece of a turn is. */
typedef enum berth_content_kind {
    BERTH_CONTENT_TEXT,        /* UTF-8 */
    BERTH_CONTENT_IMAGE_FILE,  /* a picture by its path */
    BERTH_CONTENT_IMAGE_BYTES, /* an encoded picture in memory */
    BERTH_CONTENT_PIXELS       /* a decoded picture in memory */
} berth_content_kind;

/* A text or a picture. */
typedef struct berth_content {
    berth_content_kind kind; /* decides which of the others are read */
    const char *data; /* TEXT: UTF-8; IMAGE_FILE: path (NUL-terminated); IMAGE_BYTES: a PNG, JPEG, WebP, GIF or BMP */
    size_t size;      /* TEXT, IMAGE_BYTES, PIXELS: bytes */
    int32_t width, height; /* PIXELS: u8 RGB [height, width, 3], size = 3 * width * height */
} berth_content;

typedef struct berth_turn {       /* one message of the conversation */
    const char *role;             /* "system", "user" or "assistant" */
    const berth_content *content; /* [n_content], in the order in which the model sees them */
    int32_t n_content;            /* at least 1 */
} berth_turn;

typedef struct berth_token { /* what on_token is told */
    int32_t id, index;       /* index from 0 */
    const char *text;        /* new text that may be shown (complete UTF-8), may be ""; borrowed for the call */
    size_t text_size;        /* bytes, without the NUL */
    int64_t at_ns;           /* since the request was submitted */
    float logprob;           /* natural logarithm of its probability before sampling's processors; 0 unless asked for */
} berth_token;

/* A conversation to be continued, and how. */
typedef struct berth_request {
    size_t struct_size;
    const berth_turn *turns;  /* the conversation; its last turn is the user's */
    int32_t n_turns;          /* at least 1 */
    int32_t max_new_tokens;   /* 0 = 512 */
    int32_t max_tiles;        /* per picture; 0 = the model's */
    int32_t sample;           /* nonzero: draw; 0 = greedy */
    float temperature;        /* used when sample; 0 is refused; leave at 1 for none */
    int32_t top_k;            /* 0 = off */
    float top_p, min_p;       /* top_p 1 = off, min_p 0 = off */
    float repetition_penalty; /* 1 = off */
    uint64_t seed;            /* of what is drawn; the same seed draws the same */
    int32_t ignore_stop;      /* nonzero: go on past end-of-turn tokens */
    /* zero stops the request with this token; NULL = none. berth_engine_run: on the calling thread; berth_engine_start: on
     * the engine's delivery thread; berth_engine_submit: not called, the queue has the tokens */
    int32_t (*on_token)(void *user, const berth_token *token);
    void *on_token_user;
    const volatile int *cancel; /* another thread sets it nonzero to cancel; NULL = none */
    int32_t priority;           /* larger starts first */
    int64_t deadline_ms;        /* from submission; then it ends with what there is ("deadline"); 0 = none */
    int32_t
        speculate; /* tokens guessed ahead from the prompt's own words; same tokens, fewer passes; greedy only; 0 = off */
    int32_t logprobs;        /* nonzero: tokens carry their logprob */
    int32_t no_prefix_cache; /* nonzero: takes nothing computed for others, leaves nothing; its session's own stays */
    int32_t quiet;           /* nonzero: queues get the end, not the tokens */
    berth_session *session;  /* `turns` follow what the session remembers; NULL = a conversation of its own */
} berth_request;

/* The request's numbers with defaults set (temperature 1, top_p 1, repetition_penalty 1); begin with this. */
BERTH_API void berth_request_init(berth_request *r);

typedef struct berth_timings { /* nanoseconds */
    int64_t image_ns;          /* decoding pictures and cutting tiles, on host threads */
    int64_t tokenize_ns;       /* building the prompt */
    int64_t encode_ns;         /* passes with its tiles */
    int64_t prefill_ns;        /* passes with its prompt */
    int64_t decode_ns;         /* passes with its further tokens */
    int64_t first_token_ns;    /* from submission to the first token */
    int64_t total_ns;          /* from submission to the end */
} berth_timings;

/* A request's answer and what it took. Set struct_size before the call; berth_result_deinit after it. */
typedef struct berth_result {
    size_t struct_size;
    char *text;                    /* the answer, stop tokens left out */
    int32_t *token_ids;            /* the stop token included */
    int32_t n_tokens;              /* of token_ids */
    int32_t n_prompt_tokens;       /* pictures included */
    int32_t n_tiles;               /* of its pictures */
    int32_t replica;               /* that answered */
    const char *finish_reason;     /* "stop", "length", "cancelled", "deadline"; static */
    berth_timings timings;         /* of this request */
    uint64_t *edge_bytes;          /* [(n_devices + 1)^2], row = from, column = to; index n_devices is the host */
    int32_t n_devices;             /* of the plan */
    int32_t n_reused_tokens;       /* of the prompt, computed before */
    int32_t n_drafted, n_accepted; /* speculation */
    int64_t queue_ns;              /* from submission to the first pass */
    int64_t decode_image_ns;       /* of timings.image_ns: reading and decoding pictures */
    int64_t tiles_ns;              /* of timings.image_ns: scaling pictures and cutting tiles */
    int64_t project_ns;            /* of timings.encode_ns: behind the vision tower's last op, in the projector */
    /* as edge_bytes: what those copies took; of copies queued on GPUs only with time_copies of berth_engine_options, else 0 */
    uint64_t *edge_ns;
} berth_result;

/* Runs one request to its end; the calling thread waits. Errors: BERTH_INVALID_ARGUMENT (options, roles, over the
 * context), BERTH_BAD_FILE / BERTH_NOT_FOUND (pictures), BERTH_NUMERIC (non-finite or constant logits, with the first
 * op at fault), BERTH_DEVICE_ERROR, BERTH_OUT_OF_MEMORY, BERTH_BUSY (the queue is full, the session in use). On failure
 * `out` is empty. */
BERTH_API berth_status berth_engine_run(berth_engine *engine, const berth_request *request, berth_result *out,
                                        berth_error *err);
BERTH_API void berth_result_deinit(berth_result *r);

/* ---- requests that are not waited for --------------------------------------------------------------------------- */

/* Submitting copies everything the request points to (but `cancel`, the session and callbacks' user pointers) and
 * returns at once; pictures are read on the engine's own threads. An id is never 0 and never used again in its engine;
 * it is set before anything can be told of it. Errors at once: BERTH_INVALID_ARGUMENT, BERTH_BUSY; all others come with
 * the end. */

/* Tells a queue. `user` comes back in every completion. */
BERTH_API berth_status berth_engine_submit(berth_engine *engine, const berth_request *request, berth_queue *queue,
                                           void *user, uint64_t *out_id, berth_error *err);

/* Told once of a request's end. `result` is borrowed for the call (NULL unless status is BERTH_OK), as is `why`. */
typedef void (*berth_on_end)(void *user, uint64_t id, berth_status status, const berth_result *result,
                             const berth_error *why);
/* Calls back, on the engine's delivery thread, one call at a time: request->on_token for tokens, then on_end once
 * (required). A callback that blocks holds up other callbacks, never the engine. */
BERTH_API berth_status berth_engine_start(berth_engine *engine, const berth_request *request, berth_on_end on_end,
                                          void *user, uint64_t *out_id, berth_error *err);

/* Ends a request within one step; its end is told as always ("cancelled"). BERTH_NOT_FOUND: it is over, or never was. */
BERTH_API berth_status berth_engine_cancel(berth_engine *engine, uint64_t id, berth_error *err);

/* What a queue tells. */
typedef enum berth_completion_kind {
    BERTH_COMPLETION_NONE,  /* nothing: the time was over first */
    BERTH_COMPLETION_TOKEN, /* a token of a request */
    BERTH_COMPLETION_END    /* a request's end; told once, last */
} berth_completion_kind;

/* One thing told by a queue. */
typedef struct berth_completion {
    size_t struct_size;
    berth_completion_kind kind; /* decides which of the others are set */
    uint64_t id;                /* of the request */
    void *user;                 /* as submitted */
    berth_token token;          /* TOKEN */
    berth_status status;        /* END */
    berth_result *result;       /* END with BERTH_OK; what it holds may be moved out, leaving it zero */
    berth_error *error;         /* END with another status */
    void *memory;               /* behind all of the above; deinit frees it */
} berth_completion;

/* A queue takes completions of any engines of its runtime, from any number of requests, in the order of each request. */
BERTH_API berth_status berth_queue_create(berth_runtime *rt, berth_queue **out, berth_error *err);
/* Requests that still tell it go on untold and are cancelled. */
BERTH_API void berth_queue_destroy(berth_queue *queue);
/* Readable (poll, epoll) while the queue is not empty; the caller must not read from or close it. */
BERTH_API int berth_queue_descriptor(const berth_queue *queue);
/* The next completion, waiting at most `timeout_ms` (0 = do not wait, -1 = for ever). The caller ends what it was given
 * with berth_completion_deinit. */
BERTH_API berth_status berth_queue_next(berth_queue *queue, int64_t timeout_ms, berth_completion *out,
                                        berth_error *err);
BERTH_API void berth_completion_deinit(berth_completion *c);

/* ---- sessions --------------------------------------------------------------------------------------------------- */

/* A conversation that remembers its turns and keeps their KV: a request with `session` says only the new turns, and
 * computes only what is new. When it ends with BERTH_OK its turns and the answer are remembered; when it fails or is
 * cancelled before its first token, nothing is. One request at a time (BERTH_BUSY). KV of idle sessions is given up,
 * oldest first, when running requests need the room: later turns then take longer and say the same. */
BERTH_API berth_status berth_session_create(berth_engine *engine, berth_session **out, berth_error *err);
BERTH_API void berth_session_destroy(berth_session *session);

/* What a session holds. */
typedef struct berth_session_info {
    size_t struct_size;
    int32_t n_turns;  /* remembered, answers included */
    int32_t n_tokens; /* whose KV is kept */
    int32_t replica;  /* that keeps it; -1 = none yet */
    int32_t n_images; /* in its turns */
} berth_session_info;
/* Facts of a session, as they are now. */
BERTH_API berth_status berth_session_get_info(berth_session *session, berth_session_info *out, berth_error *err);
/* Text of a remembered turn (pictures as "<image>"); berth_free. */
BERTH_API berth_status berth_session_get_turn(berth_session *session, int32_t turn, char **out_role, char **out_text,
                                              berth_error *err);
/* Forgets all but the first n turns: to edit the last, rewind before it and say it anew. */
BERTH_API berth_status berth_session_rewind(berth_session *session, int32_t n_turns, berth_error *err);
/* A second conversation with the same past; both share its KV. */
BERTH_API berth_status berth_session_fork(berth_session *session, berth_session **out, berth_error *err);
/* Writes turns, pictures and KV to a file, atomically, with a SHA-256. Errors: BERTH_IO_ERROR, BERTH_BUSY. */
BERTH_API berth_status berth_session_save(berth_session *session, const char *path, berth_error *err);
/* Reads such a file, checked by its SHA-256; any plan of the same model takes it. Errors: BERTH_NOT_FOUND,
 * BERTH_IO_ERROR, BERTH_BAD_FILE, BERTH_UNSUPPORTED (another model). */
BERTH_API berth_status berth_session_load(berth_engine *engine, const char *path, berth_session **out,
                                          berth_error *err);

#ifdef __cplusplus
}
#endif
#endif
