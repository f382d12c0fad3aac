/* plugin.h - strategies from shared objects: found, loaded, called, judged, and kept from harming the host.
 *
 * Two ways to call one. In process: fast, its inputs are a private copy that is compared afterwards, but a plug-in that
 * crashes takes the host along, as any library does. Isolated: in a child process (the program berth-strategy-host)
 * with limits on time and memory, where nothing it does reaches the host but a message that is validated. Either way
 * its answer is judged by berth_placement_accept. Nothing here keeps state: a plug-in is loaded for one call and closed
 * after it. */
#ifndef BERTH_PLUGIN_PLUGIN_H
#define BERTH_PLUGIN_PLUGIN_H

#include <stdbool.h>

#include "program/placement.h"

/* Zero means the default everywhere. Borrowed during calls. */
typedef struct berth_plugin_options {
    const char *dir;    /* a folder whose NAME.so are strategies called NAME; NULL = none */
    const char *host;   /* path of berth-strategy-host; NULL = beside the program or where it was installed */
    bool isolated;      /* call in a child process */
    int32_t timeout_ms; /* isolated: the child is ended after so long; 0 = 5000 */
} berth_plugin_options;

typedef struct berth_plugin berth_plugin;

/* Loads a shared object and its table of functions. Errors, each naming the file: BERTH_NOT_FOUND; BERTH_BAD_FILE (no
 * regular file, no shared object, cut off, does not load, no berth_strategy_plugin, a table without name or place);
 * BERTH_UNSUPPORTED (another machine, another interface version). */
berth_status berth_plugin_open(const char *path, berth_plugin **out, berth_error *err);
void berth_plugin_close(berth_plugin *p); /* NULL is fine */

/* The table, completed with NULL where the plug-in was built for an older berth. Its name and words are copies; valid
 * while the plug-in is open. */
const berth_strategy *berth_plugin_strategy(const berth_plugin *p);

/* Whether `name` ("./mine.so", "/abs/x.so=2", "mine=2" with dir/mine.so) means a plug-in: *out_path is its file (owned
 * by the caller; NULL: it does not) and *out_argument what stands behind '=' (borrowed from `name`, NULL = nothing). A
 * name with a '/' or one that ends in .so is always a file's. */
berth_status berth_plugin_find(const char *name, const berth_plugin_options *o, char **out_path,
                               const char **out_argument, berth_error *err);

/* Loads the plug-in and lets it place `in` (whose argument is already set). Errors: those of berth_plugin_open, the
 * plug-in's own refusal, what berth_placement_accept refuses, BERTH_DEADLINE (over the time), BERTH_BAD_FILE (crashed,
 * ended its process, wrote to its inputs, answered garbage), BERTH_NOT_FOUND (no berth-strategy-host). */
berth_status berth_plugin_place(const char *path, const berth_plugin_options *o, const berth_strategy_input *in,
                                berth_placement **out, berth_error *err);

typedef struct berth_plugin_words { /* what a plug-in says of itself; valid UTF-8 */
    char name[48], about[256], source[256];
} berth_plugin_words;
berth_status berth_plugin_describe(const char *path, const berth_plugin_options *o, berth_plugin_words *out,
                                   berth_error *err);

/* The names that a folder's *.so give, in byte order; an owned array of owned strings. */
typedef struct berth_plugin_names {
    char **names;
    int32_t n;
} berth_plugin_names;
berth_status berth_plugin_names_read(const char *dir, berth_plugin_names *out, berth_error *err);
void berth_plugin_names_deinit(berth_plugin_names *n);

#endif
