/* file.h - reading strangers' files: only regular files, never more than a stated limit, never outside a folder.
 * Opening is non-blocking, so that a FIFO in a model folder is an error and not a hang. */
#ifndef BERTH_BASE_FILE_H
#define BERTH_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Opens a regular file for reading and gives its descriptor (caller closes) and size. Errors: BERTH_NOT_FOUND (no such
 * file), BERTH_BAD_FILE (a folder, FIFO, socket, device), BERTH_IO_ERROR (permission and all else). */
berth_status berth_file_open(const char *path, int *out_fd, size_t *out_size, berth_error *err);

/* As berth_file_open for `name`, one path component, inside folder `dir`. The resolved file may be a symbolic link
 * inside the folder's parent tree as the Hugging Face cache makes them (snapshots/X/f -> ../../blobs/h); any other way
 * out of the folder is BERTH_BAD_FILE. */
berth_status berth_file_open_in(const char *dir, const char *name, int *out_fd, size_t *out_size, berth_error *err);

/* The whole file as bytes with a NUL behind them (caller frees). Over `limit` bytes: BERTH_BAD_FILE before any read. */
berth_status berth_file_read(const char *path, size_t limit, char **out_data, size_t *out_size, berth_error *err);
berth_status berth_file_read_in(const char *dir, const char *name, size_t limit, char **out_data, size_t *out_size,
                                berth_error *err);

bool berth_file_exists_in(const char *dir, const char *name); /* something (of any kind) of that name is there */

/* Writes a file so that it is whole or not there: a temporary beside it, fsync, rename. The old file stays on failure. */
berth_status berth_file_write(const char *path, const void *data, size_t size, berth_error *err);

/* What berth_file_write would refuse whatever it is given: to be asked before long work whose result goes to `path`. */
berth_status berth_file_may_write(const char *path, berth_error *err);

#endif
