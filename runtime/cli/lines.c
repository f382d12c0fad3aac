/* lines.c - see lines.h. */
#include "cli/lines.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

/* One read. At the end `over` is set. */
static berth_status refill(cli_lines *l, berth_error *err)
{
    ssize_t n;
    do {
        n = read(l->fd, l->chunk, sizeof l->chunk);
    } while (n < 0 && errno == EINTR);
    l->at = 0;
    l->n = n > 0 ? (size_t)n : 0;
    l->over = n <= 0;
    return n >= 0 ? BERTH_OK : BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "reading %s failed", l->what);
}

/* Moves bytes of the chunk into the line; true when the line's newline was among them. */
static berth_status take_bytes(cli_lines *l, bool *out_whole, berth_error *err)
{
    const char *begin = l->chunk + l->at;
    const char *end = memchr(begin, '\n', l->n - l->at);
    const size_t len = end ? (size_t)(end - begin) : l->n - l->at;
    l->at += len + (end != NULL);
    *out_whole = end != NULL;
    l->partial = end == NULL;
    if (l->line.len + len > CLI_LINE_BYTES) l->too_long = true;
    if (!l->too_long && !berth_buffer_append(&l->line, begin, len))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a line of %s", l->what);
    return BERTH_OK;
}

/* A last line needs no newline. */
static bool last_line(cli_lines *l)
{
    const bool any = l->over && l->partial;
    l->partial = false;
    return any;
}

static berth_status advance(cli_lines *l, int64_t reads, bool *out_any, berth_error *err)
{
    *out_any = false;
    if (!l->partial) {
        l->line.len = 0;
        l->too_long = false;
    }
    for (;;) {
        if (l->at < l->n) {
            berth_status st = take_bytes(l, out_any, err);
            if (st != BERTH_OK || *out_any) return st;
        }
        if (l->over) {
            *out_any = last_line(l);
            return BERTH_OK;
        }
        if (reads-- == 0) return BERTH_OK;
        berth_status st = refill(l, err);
        if (st != BERTH_OK) return st;
    }
}

berth_status cli_lines_next(cli_lines *l, bool *out_any, berth_error *err)
{
    return advance(l, -1, out_any, err);
}

berth_status cli_lines_try(cli_lines *l, bool *out_any, berth_error *err)
{
    return advance(l, memchr(l->chunk + l->at, '\n', l->n - l->at) != NULL ? 0 : 1, out_any, err);
}

bool cli_lines_buffered(const cli_lines *l)
{
    return memchr(l->chunk + l->at, '\n', l->n - l->at) != NULL || l->over;
}

bool cli_lines_blank(const cli_lines *l)
{
    return !l->too_long && strspn(l->line.data != NULL ? l->line.data : "", " \t\r") == l->line.len;
}

void cli_lines_deinit(cli_lines *l)
{
    berth_buffer_deinit(&l->line);
}
