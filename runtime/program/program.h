/* program.h - the placed program: a flat list of ops over named values, and what the passes know of each.
 *
 * Owns the data structure that everything else walks. build (arch/) emits values and ops; place gives each op a
 * device; route puts in copies; check proves that every operand lies where its op runs; allot gives activations their
 * offsets. After allot a program is immutable and may be run, printed, predicted and explained.
 * Easy to get wrong: a value has ONE device (its affinity); the same tensor on a second device is another value, made
 * by a copy op. */
#ifndef BERTH_PROGRAM_PROGRAM_H
#define BERTH_PROGRAM_PROGRAM_H

#include "base/buffer.h"
#include "base/limits.h"
#include "base/status.h"
#include "kernels/ops.h"

enum {
    BERTH_DEVICE_HOST = -1, /* host memory: where inputs come from and outputs go */
    BERTH_DEVICE_NONE = -2  /* not placed yet */
};
enum { BERTH_NO_VALUE = -1, BERTH_NO_OP = -1 };

/* ---- shapes ----------------------------------------------------------------------------------------------------- */

typedef enum berth_symbol {
    BERTH_SYM_ONE = 0,    /* no symbol: the dimension is a number */
    BERTH_SYM_TILES,      /* image tiles in this encode pass */
    BERTH_SYM_FEATURES,   /* tiles * tokens_per_tile of this encode pass */
    BERTH_SYM_TOKENS,     /* rows of this step, prefill chunks and decode rows of all sequences together */
    BERTH_SYM_SEQS,       /* sequences in this step */
    BERTH_SYM_IMAGE_ROWS, /* rows of this step that are image features */
    BERTH_SYM_LOGITS,     /* rows whose logits are wanted */
    BERTH_SYM_BEST,       /* of those, rows whose best logits a sampler looks at */
    BERTH_SYM_COUNT
} berth_symbol;

typedef struct berth_dim {
    int64_t n; /* times the symbol's value */
    berth_symbol sym;
} berth_dim;

/* A number for each symbol: upper bounds (allot, predict) or one run's values. value[BERTH_SYM_ONE] is 1. */
typedef struct berth_sizes {
    int64_t value[BERTH_SYM_COUNT];
} berth_sizes;

/* ---- values and ops --------------------------------------------------------------------------------------------- */

typedef enum berth_value_kind {
    BERTH_VALUE_WEIGHT,     /* a parameter of the model; lives as long as the engine */
    BERTH_VALUE_INPUT,      /* written by the engine before a run, in host memory */
    BERTH_VALUE_ACTIVATION, /* made by an op, lives inside a run */
    BERTH_VALUE_STATE,      /* outlives runs: KV cache, image features; shared by both programs by its key */
} berth_value_kind;

typedef enum berth_partiality {
    BERTH_FULL = 0,
    BERTH_PARTIAL
} berth_partiality; /* PARTIAL: a sum over devices that was not reduced yet */

typedef enum berth_state_key { BERTH_STATE_NONE = 0, BERTH_STATE_KV, BERTH_STATE_FEATURES } berth_state_key;

/* What an INPUT holds; the engine fills them from the batch descriptor. Shapes in arch/. */
typedef enum berth_input_key {
    BERTH_INPUT_NONE = 0,
    BERTH_INPUT_PIXELS,       /* f32 [n_tiles, 3, S, S] */
    BERTH_INPUT_FEATURE_ROWS, /* i32 [n_features]: row of the feature store that each image feature goes to */
    BERTH_INPUT_TOKEN_IDS,    /* i32 [n_tokens] */
    BERTH_INPUT_POSITIONS,    /* i32 [n_tokens] */
    BERTH_INPUT_TOKEN_SEQ,    /* i32 [n_tokens]: which sequence of this step */
    BERTH_INPUT_SLOTS,        /* i32 [n_tokens]: KV slot each token's k and v go to */
    BERTH_INPUT_BLOCK_TABLE,  /* i32 [n_seqs, max_blocks] */
    BERTH_INPUT_INV_FREQ,     /* f32 [n_seqs, head_dim/2] */
    BERTH_INPUT_IMAGE_SRC,    /* i32 [n_image_rows]: row in the feature store */
    BERTH_INPUT_IMAGE_DST,    /* i32 [n_image_rows]: row of this step */
    BERTH_INPUT_LOGIT_ROWS,   /* i32 [n_logits]: rows of this step whose logits are wanted */
    BERTH_INPUT_BEST_ROWS,    /* i32 [n_best]: rows of the logits whose best are wanted */
    BERTH_INPUT_BEST_SCALES,  /* f32 [n_best]: 1 / temperature of each */
    BERTH_INPUT_COUNT
} berth_input_key;

/* How exact a value has to be; what dtype that is on a device: dtypes.c. */
typedef enum berth_precision {
    BERTH_PRECISION_EXACT = 0,
    BERTH_PRECISION_STREAM,
    BERTH_PRECISION_NARROW
} berth_precision;

#define BERTH_VALUE_NAME 64
#define BERTH_VALUE_DIMS BERTH_TENSOR_DIMS

typedef struct berth_value {
    char name[BERTH_VALUE_NAME]; /* unique in a program; "vision.layer.0.attn", copies: "pixel_values@cpu:1" */
    berth_value_kind kind;
    berth_dtype dtype;
    int32_t n_dims;
    berth_dim dims[BERTH_VALUE_DIMS];
    berth_partiality partiality;
    bool is_output; /* wanted in host memory when the run is over */
    bool is_kept;   /* stays where it was made until the run is over: the host may read it there then */
    bool is_traced; /* one of the names users compare: berth trace writes it by default */
    int32_t param;  /* WEIGHT: index in the model's parameters; else -1 */
    berth_state_key state;
    int32_t layer; /* STATE: key and layer (-1 = none); layer also tells users where any value belongs */
    berth_input_key input;
    int32_t node; /* module tree node it belongs to; -1 = none (inputs) */
    /* place and route */
    int32_t device;   /* affinity: device index, BERTH_DEVICE_HOST, or BERTH_DEVICE_NONE before place */
    int32_t origin;   /* value of which this is a routed copy; BERTH_NO_VALUE */
    int32_t producer; /* op that writes it; BERTH_NO_OP for weights, inputs, and states (written in place) */
    /* allot */
    size_t offset;             /* ACTIVATION, and INPUT on host: from the start of its device's activation region */
    size_t bytes;              /* upper bound */
    berth_precision precision; /* set by dtypes */
} berth_value;

typedef struct berth_op {
    berth_op_kind kind;
    berth_op_attrs attrs;
    int32_t in[BERTH_OP_INPUTS], n_in;
    int32_t out;
    int32_t node;  /* the module it belongs to: place looks its device up; -1 for copies */
    int32_t layer; /* for messages; -1 */
    /* cheap and pure: place makes one per device that reads it instead of copying its result (rope tables) */
    bool replicate;
    /* where it runs; a copy runs on its destination's lane (on the source's when the destination is the host) */
    int32_t device;
    /* happens-before across lanes: this op waits for these ops of other lanes. Lanes are in order, so only the newest
     * of each matters. */
    int32_t first_wait, n_waits; /* in program->waits */
    size_t workspace;            /* bytes, upper bound; set by allot */
} berth_op;

typedef struct berth_region { /* what a program needs of a device, bytes, upper bounds */
    size_t activations;       /* values between ops, workspace not included */
    size_t workspace;
} berth_region;

typedef struct berth_program {
    char name[16]; /* "encode" or "step" */
    berth_value *values;
    int32_t n_values, cap_values;
    berth_op *ops;
    int32_t n_ops, cap_ops;
    int32_t *waits;
    int32_t n_waits, cap_waits;
    berth_sizes bounds;
    int32_t n_devices;                       /* set by place */
    berth_region regions[BERTH_MAX_DEVICES]; /* set by allot */
    size_t host_bytes;                       /* inputs and outputs in host memory; set by allot */
} berth_program;

berth_program *berth_program_create(const char *name, const berth_sizes *bounds); /* NULL: out of memory */
void berth_program_destroy(berth_program *p);
berth_program *berth_program_copy(const berth_program *p); /* for passes and tests that edit; NULL: out of memory */

/* Emitting; indices, or -1 when out of memory (a builder may emit on and check once: -1 operands are refused by the
 * checker). add_op notes itself as the producer of an activation. Fields of values are taken as they are: zero is a
 * device and a value, so say BERTH_DEVICE_NONE, BERTH_NO_VALUE, BERTH_NO_OP where nothing is meant. */
int32_t berth_program_add_value(berth_program *p, const berth_value *v);
int32_t berth_program_add_op(berth_program *p, const berth_op *op);
bool berth_program_add_wait(berth_program *p, int32_t op,
                            int32_t on); /* only while `op` is the newest with waits; see route.c */

int64_t berth_dim_of(berth_dim d, const berth_sizes *sizes);
bool berth_value_bytes(const berth_value *v, const berth_sizes *sizes, size_t *out); /* false: overflow */
int32_t berth_program_find(const berth_program *p, const char *name);                /* value index; -1 */
int32_t berth_program_find_input(const berth_program *p, berth_input_key key);       /* the host value */
int32_t berth_program_find_state(const berth_program *p, berth_state_key key, int32_t layer);
int32_t berth_program_find_copy(
    const berth_program *p, int32_t value,
    int32_t device); /* itself, or its routed copy there (BERTH_DEVICE_HOST: an output's); -1 */

/* The call's shapes for these sizes (data pointers NULL): for workspace, cost and the executor. */
void berth_program_shapes(const berth_program *p, const berth_op *op, const berth_sizes *sizes, berth_op_call *out);

#endif
