/* batch.h - what the parts of `berth batch` share: ids, lines of requests, and the file of answers. */
#ifndef BERTH_CLI_BATCH_H
#define BERTH_CLI_BATCH_H

#include "cli/lines.h"
#include "cli/setup.h"

/* ---- ids ------------------------------------------------------------------------------------------------------------- */

/* A set of ids in their JSON spelling ("\"a\"", "7"), each with a line number. */
typedef struct batch_ids {
    struct batch_id *slots; /* owned; a power of two of them */
    size_t n, n_slots;
} batch_ids;

/* Adds id (copied) unless it is there; *out_line is the line number it was added with, `line` when it is new. */
berth_status batch_ids_add(batch_ids *s, const char *id, size_t line, size_t *out_line, berth_error *err);
bool batch_ids_has(const batch_ids *s, const char *id);
void batch_ids_deinit(batch_ids *s);

/* The JSON spelling of a row's id, owned, in *out; NULL where it has none. Error: BERTH_BAD_FILE for what is neither a text nor a
 * whole number. */
berth_status batch_id_of(const berth_json_node *row, char **out, berth_error *err);

/* ---- journal --------------------------------------------------------------------------------------------------------- */

/* The file of answers is its own journal: whole lines are appended, one write each; when it is opened again, a torn last
 * line is cut off and the ids in it are known. */
typedef struct batch_journal batch_journal;

typedef enum batch_sync { BATCH_SYNC_SECOND, BATCH_SYNC_LINE, BATCH_SYNC_END } batch_sync;

typedef struct batch_found {             /* when it was opened */
    size_t n_lines, n_failed, n_dropped; /* answers kept; error objects among them; error objects taken out */
    bool cut;                            /* a torn line was there */
} batch_found;

/* path NULL or "-": standard output, which keeps nothing; so does what is no regular file. Errors: BERTH_BUSY (another process
 * writes it), BERTH_BAD_FILE (it holds something else), BERTH_IO_ERROR, BERTH_NOT_FOUND. */
berth_status batch_journal_open(const char *path, batch_sync sync, bool drop_failed, batch_journal **out,
                                batch_found *found, berth_error *err);
bool batch_journal_has(const batch_journal *j, const char *id);

/* Appends a line (with its newline). BERTH_IO_ERROR when it cannot be written whole; what was written of it is taken back. */
berth_status batch_journal_append(batch_journal *j, const char *line, size_t n, berth_error *err);

/* Everything is on the disk afterwards. NULL is fine. */
berth_status batch_journal_close(batch_journal *j, berth_error *err);

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

typedef struct batch_defaults { /* of lines that say nothing else */
    const cli_args *args;
    cli_prompts prompts;
    const char *file; /* the lines are from */
} batch_defaults;

berth_status batch_defaults_read(const cli_args *a, const char *file, batch_defaults *out, berth_error *err);
void batch_defaults_deinit(batch_defaults *d);

typedef struct batch_job {
    size_t number; /* of its line, from 1 */
    int64_t seq;   /* among the jobs of this run */
    char *id;      /* owned, JSON spelling; never NULL */
    cli_conversation conversation;
    berth_request request; /* borrows from the conversation */
} batch_job;

/* A line to a job. On failure too the job has its id, so that the answer can be an error; BERTH_OUT_OF_MEMORY alone leaves none. */
berth_status batch_job_read(const batch_defaults *d, const cli_lines *line, size_t number, batch_job *out,
                            berth_error *err);

/* The id that a line without one gets: its number and the digest of its bytes. Owned, JSON spelling; NULL: no memory. */
char *batch_line_id(size_t number, const char *line, size_t n);
void batch_job_deinit(batch_job *j);

#endif
