/* batch_journal.c - the file of answers as its own journal.
 *
 * A line is appended by one write, so a killed process leaves at most one torn line, at the end. Easy to get wrong: a
 * torn line may be valid JSON that lacks only its newline; it is cut off all the same. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "cli/batch.h"

struct batch_journal {
    const char *path; /* borrowed; NULL = standard output */
    int fd;
    bool regular, dirty;
    batch_sync sync;
    int64_t synced_ns;
    off_t size; /* of whole lines, when regular */
    batch_ids ids;
};

static const char *name_of(const batch_journal *j)
{
    return j->path != NULL ? j->path : "standard output";
}

/* ---- reading what is there ------------------------------------------------------------------------------------------- */

typedef struct answered { /* one line that was found */
    char *id;
    bool failed;
} answered;

static berth_status read_answer(const batch_journal *j, const cli_lines *l, size_t number, answered *out,
                                berth_error *err)
{
    char what[64];
    berth_json *json = NULL;
    *out = (answered){0};
    snprintf(what, sizeof what, "line %zu", number);
    if (l->too_long) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: line %zu is too long", j->path, number);
    berth_status st = berth_json_parse(l->line.data, l->line.len, what, &json, err);
    if (st == BERTH_OK) st = batch_id_of(berth_json_root(json), &out->id, err);
    if (st == BERTH_OK && out->id == NULL) st = BERTH_FAIL(err, BERTH_BAD_FILE, "line %zu has no id", number);
    if (st == BERTH_OK) out->failed = berth_json_get(berth_json_root(json), "error") != NULL;
    berth_json_destroy(json);
    if (st == BERTH_BAD_FILE) {
        berth_error_prefix(err, "%s: ", j->path);
        berth_error_append(err, "; so this is no file of answers: name another with --out, or remove it");
    }
    return st;
}

/* Writes all bytes. False with errno. */
static bool write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t done = write(fd, data, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        data += done;
        n -= (size_t)done;
    }
    return true;
}

static berth_status keep_answer(batch_journal *j, const cli_lines *l, size_t number, int copy_fd, batch_found *found,
                                berth_error *err)
{
    answered a;
    berth_status st = read_answer(j, l, number, &a, err);
    size_t before;
    if (st == BERTH_OK && a.failed && copy_fd >= 0) {
        found->n_dropped++;
    } else if (st == BERTH_OK) {
        st = batch_ids_add(&j->ids, a.id, number, &before, err);
        found->n_lines++;
        found->n_failed += a.failed;
        if (st == BERTH_OK && copy_fd >= 0 &&
            (!write_all(copy_fd, l->line.data, l->line.len) || !write_all(copy_fd, "\n", 1)))
            st = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "%s: the answers to keep cannot be written", j->path);
    }
    free(a.id);
    return st;
}

/* Takes in every whole line. A last line that was cut, or left as zeros by a machine that lost power, ends the file there. */
static berth_status read_answers(batch_journal *j, off_t size, int copy_fd, batch_found *found, berth_error *err)
{
    cli_lines l = {.fd = j->fd, .what = j->path};
    size_t number = 0;
    bool any;
    berth_status st;
    while ((st = cli_lines_next(&l, &any, err)) == BERTH_OK && any) {
        const off_t end = j->size + (off_t)l.line.len + 1;
        if (!l.too_long && end > size) break;
        if (!cli_lines_blank(&l)) st = keep_answer(j, &l, ++number, copy_fd, found, err);
        if (st == BERTH_BAD_FILE && !l.too_long && end == size) {
            st = BERTH_OK;
            break;
        }
        if (st != BERTH_OK) break;
        j->size = end;
    }
    cli_lines_deinit(&l);
    found->cut = st == BERTH_OK && j->size != size;
    return st;
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static berth_status open_failed(const batch_journal *j, int code, berth_error *err)
{
    return BERTH_FAIL_ERRNO(err, code == ENOENT ? BERTH_NOT_FOUND : BERTH_IO_ERROR, code, "--out %s cannot be written",
                            name_of(j));
}

static berth_status lock(const batch_journal *j, int fd, berth_error *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BUSY, "--out %s: another process is writing it", j->path);
}

/* A new name is on the disk once its folder is. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

/* The file without its failed lines, in place of the file. */
static berth_status drop_failed(batch_journal *j, off_t size, batch_found *found, berth_error *err)
{
    char *part = NULL;
    if (asprintf(&part, "%s.XXXXXX", j->path) < 0) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a name");
    const int fd = mkostemp(part, O_CLOEXEC | O_APPEND);
    if (fd < 0) {
        berth_status st = open_failed(j, errno, err);
        free(part);
        return st;
    }
    struct stat s;
    berth_status st = read_answers(j, size, fd, found, err);
    if (st == BERTH_OK) st = lock(j, fd, err);
    if (st == BERTH_OK && (fstat(j->fd, &s) != 0 || fchmod(fd, s.st_mode & 0777) != 0 || fsync(fd) != 0 ||
                           fstat(fd, &s) != 0 || rename(part, j->path) != 0))
        st = open_failed(j, errno, err);
    if (st == BERTH_OK) {
        close(j->fd);
        j->fd = fd;
        j->size = s.st_size;
        sync_folder(j->path);
    } else {
        unlink(part);
        close(fd);
    }
    free(part);
    return st;
}

static berth_status open_regular(batch_journal *j, bool without_failed, batch_found *found, berth_error *err)
{
    const bool is_new = access(j->path, F_OK) != 0;
    struct stat s;
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0 || fstat(j->fd, &s) != 0) return open_failed(j, errno, err);
    berth_status st = lock(j, j->fd, err);
    if (st == BERTH_OK && is_new) sync_folder(j->path);
    if (st == BERTH_OK && without_failed) return drop_failed(j, s.st_size, found, err);
    if (st == BERTH_OK) st = read_answers(j, s.st_size, -1, found, err);
    if (st == BERTH_OK && found->cut && ftruncate(j->fd, j->size) != 0) st = open_failed(j, errno, err);
    return st;
}

berth_status batch_journal_open(const char *path, batch_sync sync, bool without_failed, batch_journal **out,
                                batch_found *found, berth_error *err)
{
    struct stat s;
    *out = NULL;
    *found = (batch_found){0};
    batch_journal *j = calloc(1, sizeof *j);
    if (j == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answers");
    *j = (batch_journal){.path = path != NULL && strcmp(path, "-") != 0 ? path : NULL, .fd = -1, .sync = sync};
    j->synced_ns = berth_now_ns();
    berth_status st = BERTH_OK;
    if (j->path == NULL) {
        j->fd = STDOUT_FILENO;
    } else if (stat(j->path, &s) == 0 && !S_ISREG(s.st_mode)) {
        j->fd = open(j->path, O_WRONLY | O_CLOEXEC);
        if (j->fd < 0) st = open_failed(j, errno, err);
    } else {
        j->regular = true;
        st = open_regular(j, without_failed, found, err);
    }
    if (st != BERTH_OK) {
        batch_journal_close(j, NULL);
        return st;
    }
    *out = j;
    return BERTH_OK;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

bool batch_journal_has(const batch_journal *j, const char *id)
{
    return batch_ids_has(&j->ids, id);
}

static berth_status sync_now(batch_journal *j, berth_error *err)
{
    if (!j->regular || !j->dirty) return BERTH_OK;
    j->dirty = false;
    j->synced_ns = berth_now_ns();
    if (fdatasync(j->fd) == 0) return BERTH_OK;
    return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "%s: answers cannot be forced onto the disk", name_of(j));
}

berth_status batch_journal_append(batch_journal *j, const char *line, size_t n, berth_error *err)
{
    if (!write_all(j->fd, line, n)) {
        const int code = errno;
        if (j->regular && ftruncate(j->fd, j->size) != 0) j->dirty = true; /* the next start cuts it */
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "an answer cannot be written to %s", name_of(j));
    }
    j->size += (off_t)n;
    j->dirty = true;
    const bool due =
        j->sync == BATCH_SYNC_LINE || (j->sync == BATCH_SYNC_SECOND && berth_now_ns() - j->synced_ns > 1000000000);
    return due ? sync_now(j, err) : BERTH_OK;
}

berth_status batch_journal_close(batch_journal *j, berth_error *err)
{
    if (j == NULL) return BERTH_OK;
    berth_status st = sync_now(j, err);
    if (j->path != NULL && j->fd >= 0) close(j->fd);
    batch_ids_deinit(&j->ids);
    free(j);
    return st;
}
