/* file.c - see file.h. What was opened is judged by its descriptor, never by its name: a name can be swapped in between.
 * Containment is the kernel's (openat2), or a walk that follows no link, never a comparison of strings alone. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/checked.h"

enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* ---- opening ---- */

static const char *kind_name(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

static berth_status not_regular(const char *shown, mode_t mode, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s is %s, not a regular file", shown, kind_name(mode));
}

/* Why open failed with `code`; `shown` is the name for the message. */
static berth_status open_failed(const char *shown, int code, berth_error *err)
{
    switch (code) {
    case ENOENT: return BERTH_FAIL_ERRNO(err, BERTH_NOT_FOUND, code, "cannot open %s", shown);
    case ENOTDIR: return BERTH_FAIL_ERRNO(err, BERTH_NOT_FOUND, code, "cannot open %s", shown);
    case ELOOP: return BERTH_FAIL_ERRNO(err, BERTH_BAD_FILE, code, "cannot open %s, symbolic links in a circle", shown);
    case ENOMEM: return BERTH_FAIL_ERRNO(err, BERTH_OUT_OF_MEMORY, code, "cannot open %s", shown);
    default: return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "cannot open %s", shown);
    }
}

/* Takes `fd`, checks that it is a regular file, and gives it on. */
static berth_status accept_regular(int fd, const char *shown, int *out_fd, size_t *out_size, berth_error *err)
{
    struct stat st;
    berth_status status = BERTH_OK;
    if (fstat(fd, &st) != 0)
        status = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "cannot examine %s", shown);
    else if (!S_ISREG(st.st_mode))
        status = not_regular(shown, st.st_mode, err);
    else if (st.st_size < 0 || (uintmax_t)st.st_size > SIZE_MAX)
        status = BERTH_FAIL(err, BERTH_BAD_FILE, "%s has an impossible size", shown);
    if (status != BERTH_OK) {
        close(fd);
        return status;
    }
    *out_fd = fd;
    *out_size = (size_t)st.st_size;
    return BERTH_OK;
}

static int open_retry(int dir_fd, const char *path, int flags)
{
    int fd;
    do fd = openat(dir_fd, path, flags);
    while (fd < 0 && errno == EINTR);
    return fd;
}

berth_status berth_file_open(const char *path, int *out_fd, size_t *out_size, berth_error *err)
{
    *out_fd = -1;
    *out_size = 0;
    if (!path || !*path) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a file was asked for with an empty name");
    int fd = open_retry(AT_FDCWD, path, OPEN_FLAGS);
    if (fd >= 0) return accept_regular(fd, path, out_fd, out_size, err);
    int code = errno;
    struct stat st; /* sockets and some devices refuse to be opened at all: say what they are */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) return not_regular(path, st.st_mode, err);
    return open_failed(path, code, err);
}

/* ---- opening inside a folder ---- */

static bool is_component(const char *name)
{
    if (!name || !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
    size_t n = 0;
    for (; name[n]; n++)
        if (name[n] == '/' || (unsigned char)name[n] < 0x20 || name[n] == 0x7F) return false;
    return n <= NAME_MAX;
}

/* openat2 that neither leaves `dir_fd` nor follows /proc's magic links. -1 and errno; ENOSYS on kernels before 5.6. */
static int open_beneath(int dir_fd, const char *name)
{
    struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd;
    int tries = 0;
    do fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 100))); /* EAGAIN: a rename raced with ".." */
    return (int)fd;
}

/* Opens the absolute, link-free `path` component by component, so that a link put there meanwhile is not followed. */
static int open_without_links(char *path)
{
    int dir_fd = open_retry(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *rest = path + 1, *slash;
    while (dir_fd >= 0 && (slash = strchr(rest, '/'))) {
        *slash = '\0';
        int next = open_retry(dir_fd, rest, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int code = errno;
        close(dir_fd);
        errno = code;
        *slash = '/';
        dir_fd = next;
        rest = slash + 1;
    }
    if (dir_fd < 0) return -1;
    int fd = open_retry(dir_fd, rest, OPEN_FLAGS | O_NOFOLLOW);
    int code = errno;
    close(dir_fd);
    errno = code;
    return fd;
}

static bool is_below(const char *path, const char *folder, size_t folder_len)
{
    return strncmp(path, folder, folder_len) == 0 && path[folder_len] == '/';
}

/* Whether links out of the resolved folder `dir` may lead to `target`: within `dir`, or, for R/snapshots/X as the Hugging
 * Face cache lays it out, within R/blobs. */
static bool may_lead_to(const char *dir, const char *target)
{
    size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);
    if (is_below(target, dir, len)) return true;
    static const char snapshots[] = "/snapshots", blobs[] = "/blobs";
    const char *last = strrchr(dir, '/');
    size_t parent_len = (size_t)(last - dir), tail = sizeof snapshots - 1;
    if (parent_len <= tail || memcmp(last - tail, snapshots, tail) != 0) return false;
    size_t root_len = parent_len - tail;
    return is_below(target, dir, root_len) && is_below(target + root_len, blobs, sizeof blobs - 1);
}

/* The way for absolute links, links into the cache, and kernels without openat2: resolve, judge, then open what was
 * judged and nothing else. Sets *escapes when the file lies where no link may lead. -1 and errno. */
static int open_resolved(const char *dir, const char *shown, bool *escapes)
{
    int fd = -1;
    char *real_dir = realpath(dir, NULL);
    char *real_file = real_dir ? realpath(shown, NULL) : NULL;
    *escapes = false;
    if (real_file) {
        *escapes = !may_lead_to(real_dir, real_file);
        if (!*escapes) fd = open_without_links(real_file);
    }
    int code = errno;
    free(real_dir);
    free(real_file);
    errno = code;
    return fd;
}

/* A socket or a device that cannot be opened: say what it is, else why. */
static berth_status open_in_failed(int dir_fd, const char *name, const char *shown, int code, berth_error *err)
{
    struct stat st;
    if (code != ELOOP && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode) &&
        !S_ISLNK(st.st_mode))
        return not_regular(shown, st.st_mode, err);
    return open_failed(shown, code, err);
}

/* `shown` is dir "/" name. */
static berth_status open_in(const char *dir, const char *name, const char *shown, int *out_fd, size_t *out_size,
                            berth_error *err)
{
    int dir_fd = open_retry(AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) return open_failed(dir, errno, err);
    bool escapes = false;
    int fd = open_beneath(dir_fd, name);
    int code = errno;
    if (fd < 0 && (code == EXDEV || code == ENOSYS || code == EPERM || code == EINVAL || code == EAGAIN)) {
        fd = open_resolved(dir, shown, &escapes);
        code = errno;
    }
    berth_status status;
    if (fd >= 0)
        status = accept_regular(fd, shown, out_fd, out_size, err);
    else if (escapes)
        status = BERTH_FAIL(err, BERTH_BAD_FILE,
                            "%s is a symbolic link that leads out of its folder; put the file itself there", shown);
    else
        status = open_in_failed(dir_fd, name, shown, code, err);
    close(dir_fd);
    return status;
}

/* dir "/" name for messages and realpath; NULL with the status set. */
static char *join(const char *dir, const char *name, berth_status *status, berth_error *err)
{
    *status = BERTH_OK;
    if (!dir || !*dir) {
        *status = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a folder was asked for with an empty name");
        return NULL;
    }
    if (!is_component(name)) {
        *status = BERTH_FAIL(err, BERTH_BAD_FILE,
                             "\"%.300s\" is not a plain file name; only files directly inside %.1000s are read",
                             name ? name : "", dir);
        return NULL;
    }
    berth_buffer path = {0};
    size_t len = strlen(dir);
    berth_buffer_append(&path, dir, len);
    if (dir[len - 1] != '/') berth_buffer_putc(&path, '/');
    berth_buffer_puts(&path, name);
    char *text = berth_buffer_take(&path);
    if (!text) *status = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the name of a file in %s", dir);
    return text;
}

berth_status berth_file_open_in(const char *dir, const char *name, int *out_fd, size_t *out_size, berth_error *err)
{
    *out_fd = -1;
    *out_size = 0;
    berth_status status;
    char *shown = join(dir, name, &status, err);
    if (!shown) return status;
    status = open_in(dir, name, shown, out_fd, out_size, err);
    free(shown);
    return status;
}

bool berth_file_exists_in(const char *dir, const char *name)
{
    if (!dir || !*dir || !is_component(name)) return false;
    int dir_fd = open_retry(AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) return false;
    struct stat st;
    bool exists = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    close(dir_fd);
    return exists;
}

/* ---- reading ---- */

/* Takes `fd`, of `size` bytes. */
static berth_status read_whole(int fd, size_t size, size_t limit, const char *shown, char **out_data, size_t *out_size,
                               berth_error *err)
{
    berth_status status = BERTH_OK;
    size_t capacity, done = 0;
    char *data = NULL;
    if (size > limit) {
        status = BERTH_FAIL(err, BERTH_BAD_FILE, "%s has %zu bytes; at most %zu are read", shown, size, limit);
        goto out;
    }
    if (!berth_add_size(size, 1, &capacity) || !(data = malloc(capacity))) {
        status = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the %zu bytes of %s", size, shown);
        goto out;
    }
    while (done < size) {
        ssize_t n = pread(fd, data + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status = BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "cannot read %s at byte %zu", shown, done);
            goto out;
        }
        if (n == 0) {
            status = BERTH_FAIL(err, BERTH_IO_ERROR, "%s ended at byte %zu of %zu: it was cut while being read", shown,
                                done, size);
            goto out;
        }
        done += (size_t)n;
    }
    data[size] = '\0';
    *out_data = data;
    *out_size = size;
    data = NULL;
out:
    free(data);
    close(fd);
    return status;
}

berth_status berth_file_read(const char *path, size_t limit, char **out_data, size_t *out_size, berth_error *err)
{
    int fd;
    size_t size;
    *out_data = NULL;
    *out_size = 0;
    berth_status status = berth_file_open(path, &fd, &size, err);
    return status == BERTH_OK ? read_whole(fd, size, limit, path, out_data, out_size, err) : status;
}

berth_status berth_file_read_in(const char *dir, const char *name, size_t limit, char **out_data, size_t *out_size,
                                berth_error *err)
{
    int fd = -1;
    size_t size = 0;
    berth_status status = BERTH_OK;
    *out_data = NULL;
    *out_size = 0;
    char *shown = join(dir, name, &status, err);
    if (!shown) return status;
    status = open_in(dir, name, shown, &fd, &size, err);
    if (status == BERTH_OK) status = read_whole(fd, size, limit, shown, out_data, out_size, err);
    free(shown);
    return status;
}

/* ---- writing ---- */

/* Creates a file of a fresh name beside `path`. The name is the caller's to free, also on failure (NULL: no memory). */
static int create_temporary(const char *path, char **out_name)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash + 1 - path) : 0;
    int fd = -1;
    *out_name = NULL;
    for (int tries = 0; fd < 0 && tries < 16; tries++) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, GRND_NONBLOCK) < 0) number = (uint64_t)getpid() << 8 | (uint64_t)tries;
        berth_buffer name = {0};
        berth_buffer_printf(&name, "%.*s.berth-%016llx.tmp", folder, path, (unsigned long long)number);
        free(*out_name);
        *out_name = berth_buffer_take(&name);
        if (!*out_name) {
            errno = ENOMEM;
            return -1;
        }
        fd = open(*out_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0 && errno != EEXIST && errno != EINTR) break;
    }
    return fd;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return fsync(fd) == 0;
}

/* Makes the rename itself durable; file systems that cannot are none of our business. */
static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : NULL;
    int fd = slash && !folder ? -1 : open_retry(AT_FDCWD, folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    free(folder);
}

static berth_status check_target(const char *path, berth_error *err)
{
    if (!path || !*path) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a file was to be written with an empty name");
    struct stat st; /* the rename would replace a device by a file */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s is %s; only regular files are written", path,
                          kind_name(st.st_mode));
    return BERTH_OK;
}

static berth_status refuse_temporary(const char *path, int code, berth_error *err)
{
    return BERTH_FAIL_ERRNO(err,
                            code == ENOMEM   ? BERTH_OUT_OF_MEMORY
                            : code == ENOENT ? BERTH_NOT_FOUND
                                             : BERTH_IO_ERROR,
                            code, "cannot create a file beside %s", path);
}

berth_status berth_file_may_write(const char *path, berth_error *err)
{
    berth_status status = check_target(path, err);
    if (status != BERTH_OK) return status;
    char *temporary;
    const int fd = create_temporary(path, &temporary);
    if (fd < 0) {
        status = refuse_temporary(path, errno, err);
    } else {
        close(fd);
        unlink(temporary);
    }
    free(temporary);
    return status;
}

berth_status berth_file_write(const char *path, const void *data, size_t size, berth_error *err)
{
    berth_status status = check_target(path, err);
    if (status != BERTH_OK) return status;
    char *temporary;
    int fd = create_temporary(path, &temporary);
    if (fd < 0) {
        status = refuse_temporary(path, errno, err);
        free(temporary);
        return status;
    }
    bool ok = write_all(fd, data, size);
    int code = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        code = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        code = errno;
    }
    if (!ok) unlink(temporary);
    free(temporary);
    if (!ok) return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, code, "cannot write %zu bytes to %s", size, path);
    sync_folder_of(path);
    return BERTH_OK;
}
