/* plugin_internal.h - what the files of runtime/plugin and the program berth-strategy-host share. */
#ifndef BERTH_PLUGIN_INTERNAL_H
#define BERTH_PLUGIN_INTERNAL_H

#include "base/buffer.h"
#include "base/status.h"
#include "plugin/plugin.h"

enum {
    BERTH_PLUGIN_TIMEOUT_MS = 5000,
    BERTH_PLUGIN_TIMEOUT_MS_MOST = 3600 * 1000,
    BERTH_PLUGIN_NAME_SIZE = 48,
    BERTH_PLUGIN_NOTE_SIZE = 512, /* berth_strategy_output.note */
};

/* ---- calls (call.c) --------------------------------------------------------------------------------------------- */

typedef enum berth_plugin_phase {
    BERTH_PLUGIN_LOADING,
    BERTH_PLUGIN_CHECKING,
    BERTH_PLUGIN_PLACING,
    BERTH_PLUGIN_ANSWERING,
    BERTH_PLUGIN_PHASES
} berth_plugin_phase;

typedef struct berth_plugin_answer {
    int32_t n_replicas; /* as answered */
    char note[BERTH_PLUGIN_NOTE_SIZE];
    int32_t *device_of; /* owned; [n_replicas * n_nodes] where 1 <= n_replicas <= n_devices */
} berth_plugin_answer;
void berth_plugin_answer_deinit(berth_plugin_answer *a);

/* A call of check and place. `in` is all the plug-in's: a copy. `pristine` is compared with the bytes at `live` after
 * each function; NULL: they are write-protected. */
typedef struct berth_plugin_call {
    const berth_strategy *strategy;
    const char *path; /* for messages */
    const berth_strategy_input *in;
    const void *live, *pristine;
    size_t size;
    void (*on_phase)(void *user, berth_plugin_phase phase); /* NULL = none */
    void *user;
} berth_plugin_call;
berth_status berth_plugin_run(const berth_plugin_call *c, berth_plugin_answer *out, berth_error *err);

/* ---- requests (flat.c): a strategy's input as one block of bytes ------------------------------------------------ */

enum { BERTH_PLUGIN_DESCRIBE = 1, BERTH_PLUGIN_PLACE = 2 };

/* Pointers are offsets from the block's start until it is resolved; 0 = NULL. Both ends are the same build of berth:
 * `build` says so. */
typedef struct berth_flat {
    char magic[8];
    char build[24];        /* BERTH_VERSION */
    uint64_t size;         /* of the block */
    uint64_t memory_bytes; /* limit of the child's address space */
    int32_t what;          /* BERTH_PLUGIN_DESCRIBE or _PLACE */
    berth_strategy_input in;
} berth_flat;

/* One block for `in` (NULL for DESCRIBE); freed with free(). */
berth_status berth_flat_make(const berth_strategy_input *in, int32_t what, berth_flat **out, berth_error *err);

/* Turns offsets into pointers, in place. False: the block is not one of this build's, or says what cannot be. */
bool berth_flat_resolve(void *block, size_t size);

/* ---- replies (reply.c): what the child says --------------------------------------------------------------------- */

enum {
    BERTH_REPLY_PHASE = 1, /* int32 berth_plugin_phase */
    BERTH_REPLY_FAILED,    /* int32 berth_status, then its message */
    BERTH_REPLY_WORDS,     /* berth_plugin_words */
    BERTH_REPLY_PLACED,    /* int32 n_replicas, note[512], int32 device_of[] */
    BERTH_REPLY_INPUTS,    /* nothing: the plug-in wrote to its inputs */
    BERTH_REPLY_DONE,      /* nothing: WORDS was all that was asked for */
};

typedef struct berth_reply_head {
    uint32_t magic, kind;
    uint64_t size; /* of what follows */
} berth_reply_head;
enum { BERTH_REPLY_MAGIC = 0x42725031, BERTH_REPLY_SLACK = 8192 }; /* slack: all but device_of */

typedef struct berth_reply { /* points into the bytes read */
    bool is_whole;           /* a last record is there: FAILED, PLACED, INPUTS or DONE */
    bool is_garbage;
    uint32_t kind;            /* of the last record */
    berth_plugin_phase phase; /* the last one told */
    const char *words;        /* a berth_plugin_words, perhaps unaligned, its text not judged; NULL = none */
    const char *data;         /* of the last record */
    size_t size;
} berth_reply;
void berth_reply_read(const char *bytes, size_t n, berth_reply *out);

/* Exit statuses of berth-strategy-host that mean something; a plug-in that ends its process with one of them is
 * misnamed and nothing worse. */
enum { BERTH_HOST_NO_PIPE = 113, BERTH_HOST_NO_REQUEST = 114 };
enum { BERTH_HOST_REQUEST_FD = 3, BERTH_HOST_REPLY_FD = 4 };

/* ---- the child (child.c, host_path.c) --------------------------------------------------------------------------- */

typedef struct berth_child_end {
    bool timed_out, too_much, reaped_by_other;
    int wait_status; /* of waitpid, where not reaped_by_other */
    char words[512]; /* the beginning of what it wrote to standard error; any bytes, with a NUL behind */
} berth_child_end;

/* Runs `host plugin` with the request on its descriptor 3, and reads from its descriptor 4 until a whole reply, the
 * end, `most` bytes or the deadline. The child and its process group are gone when this returns, its descriptors
 * closed. Errors: BERTH_IO_ERROR, BERTH_NOT_FOUND, BERTH_OUT_OF_MEMORY: it could not be run. */
berth_status berth_child_run(const char *host, const char *plugin, const void *request, size_t size, size_t most,
                             int32_t timeout_ms, berth_buffer *reply, berth_child_end *end, berth_error *err);

/* Where berth-strategy-host is: `given`, or beside this program, or in ../libexec/berth, or where it was installed. The
 * caller frees. */
berth_status berth_host_path(const char *given, char **out, berth_error *err);

/* In a child process: berth_plugin_place and _describe do this when options say isolated. */
berth_status berth_plugin_ask(const char *path, const berth_plugin_options *o, const berth_strategy_input *in,
                              berth_plugin_words *out_words, berth_plugin_answer *out, berth_error *err);

#endif
