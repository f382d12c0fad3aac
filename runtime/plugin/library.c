/* library.c - opening a shared object and checking the table it gives. What the dynamic loader would stumble over (a
 * cut file, another machine's) is looked at first. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"
#include "plugin/plugin_internal.h"

#define ENTRY "berth_strategy_plugin"

struct berth_plugin {
    void *handle;
    char name[BERTH_PLUGIN_NAME_SIZE], about[256], source[256];
    berth_strategy strategy;
};

#if __SIZEOF_POINTER__ == 8
enum { OUR_CLASS = ELFCLASS64 };
#else
enum { OUR_CLASS = ELFCLASS32 };
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { OUR_ORDER = ELFDATA2LSB };
#else
enum { OUR_ORDER = ELFDATA2MSB };
#endif
#if defined(__x86_64__)
enum { OUR_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OUR_MACHINE = EM_AARCH64 };
#else
enum { OUR_MACHINE = 0 }; /* not known here: left to the loader */
#endif

/* ---- the file ---- */

static berth_status no_object(const char *path, const char *what, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s: %s; build it with cc -shared -fPIC", path, what);
}

/* The loader maps segments by what the program headers say: past a cut file's end it would die of a bus error. */
static berth_status check_segments(const char *path, int fd, size_t size, const ElfW(Ehdr) * head, berth_error *err)
{
    if (head->e_phentsize != sizeof(ElfW(Phdr)) || head->e_phnum == 0)
        return no_object(path, "its ELF header lists no segments", err);
    for (size_t i = 0; i < head->e_phnum; i++) {
        ElfW(Phdr) segment;
        size_t at, end;
        if (!berth_add_size(head->e_phoff, i * sizeof segment, &at) || at > size || size - at < sizeof segment ||
            pread(fd, &segment, sizeof segment, (off_t)at) != (ssize_t)sizeof segment)
            return no_object(path, "the file is cut off before the end of its segment table", err);
        if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
        if (!berth_add_size(segment.p_offset, segment.p_filesz, &end) || end > size)
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "plug-in %s: the file is cut off: it has %zu bytes, and segment %zu ends at %zu", path,
                              size, i, end);
    }
    return BERTH_OK;
}

static berth_status check_object(const char *path, int fd, size_t size, berth_error *err)
{
    ElfW(Ehdr) head;
    if (size < sizeof head || pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return no_object(path, "not a shared object (it does not begin as one)", err);
    if (head.e_ident[EI_CLASS] != OUR_CLASS || head.e_ident[EI_DATA] != OUR_ORDER ||
        (OUR_MACHINE != 0 && head.e_machine != OUR_MACHINE))
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "plug-in %s is built for another machine (ELF class %d, machine %d); build it here", path,
                          (int)head.e_ident[EI_CLASS], (int)head.e_machine);
    if (head.e_type != ET_DYN)
        return no_object(path, head.e_type == ET_REL ? "an object file that was not linked" : "not a shared object",
                         err);
    return check_segments(path, fd, size, &head, err);
}

static berth_status check_file(const char *path, berth_error *err)
{
    int fd;
    size_t size;
    berth_status st = berth_file_open(path, &fd, &size, err);
    if (st != BERTH_OK) {
        berth_error_prefix(err, "plug-in: ");
        return st;
    }
    st = check_object(path, fd, size, err);
    close(fd);
    return st;
}

/* ---- the table ---- */

static bool is_name(const char *s)
{
    size_t n = strnlen(s, BERTH_PLUGIN_NAME_SIZE);
    return n > 0 && n < BERTH_PLUGIN_NAME_SIZE && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static berth_status take_table(berth_plugin *p, const char *path, const berth_strategy *given, berth_error *err)
{
    size_t least = offsetof(berth_strategy, place) + sizeof given->place;
    if (!given)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "plug-in %s: " ENTRY
                          " gave no table for interface %d: it serves another one; build it with this "
                          "berth's berth/strategy.h",
                          path, BERTH_STRATEGY_ABI);
    if (given->abi != BERTH_STRATEGY_ABI)
        return BERTH_FAIL(
            err, BERTH_UNSUPPORTED,
            "plug-in %s was made for interface %u; this berth has interface %d; build it with this berth's "
            "berth/strategy.h",
            path, (unsigned)given->abi, BERTH_STRATEGY_ABI);
    if (given->struct_size < least || given->struct_size > 65536)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s: struct_size of its table is %zu; it must be sizeof(berth_strategy)", path,
                          given->struct_size);
    size_t known = given->struct_size < sizeof p->strategy ? given->struct_size : sizeof p->strategy;
    memcpy(&p->strategy, given, known);
    p->strategy.struct_size = sizeof p->strategy;
    if (!p->strategy.place) return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s: its table has no place function", path);
    if (!p->strategy.name || !is_name(p->strategy.name))
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s: its table has %s name; a name is 1 to %d lower case letters, digits and '_'",
                          path, p->strategy.name ? "an unusable" : "no", BERTH_PLUGIN_NAME_SIZE - 1);
    snprintf(p->name, sizeof p->name, "%s", p->strategy.name);
    snprintf(p->about, sizeof p->about, "%.250s", p->strategy.about ? p->strategy.about : "");
    snprintf(p->source, sizeof p->source, "%.250s", p->strategy.source ? p->strategy.source : "");
    p->strategy.name = p->name;
    p->strategy.about = p->about;
    p->strategy.source = p->strategy.source ? p->source : NULL;
    return BERTH_OK;
}

static const char *loader_words(void)
{
    const char *words = dlerror();
    return words ? words : "no reason given";
}

static berth_status load(berth_plugin *p, const char *path, const char *file, berth_error *err)
{
    p->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!p->handle) return BERTH_FAIL(err, BERTH_BAD_FILE, "plug-in %s does not load: %s", path, loader_words());
    void *found = dlsym(p->handle, ENTRY);
    berth_strategy_plugin_fn entry;
    if (!found)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "plug-in %s has no function " ENTRY
                          "; a plug-in defines it as berth/strategy.h says, and does not hide it",
                          path);
    _Static_assert(sizeof entry == sizeof found, "POSIX: a function's address fits a pointer");
    memcpy(&entry, &found, sizeof entry);
    return take_table(p, path, entry(BERTH_STRATEGY_ABI), err);
}

berth_status berth_plugin_open(const char *path, berth_plugin **out, berth_error *err)
{
    *out = NULL;
    berth_status st = check_file(path, err);
    if (st != BERTH_OK) return st;
    char *file = realpath(path, NULL); /* dlopen would look for a bare name elsewhere */
    if (!file) return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "plug-in %s cannot be resolved", path);
    berth_plugin *p = calloc(1, sizeof *p);
    st = p ? load(p, path, file, err) : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for plug-in %s", path);
    free(file);
    if (st != BERTH_OK) {
        berth_plugin_close(p);
        return st;
    }
    *out = p;
    return BERTH_OK;
}

void berth_plugin_close(berth_plugin *p)
{
    if (!p) return;
    if (p->handle) dlclose(p->handle);
    free(p);
}

const berth_strategy *berth_plugin_strategy(const berth_plugin *p)
{
    return &p->strategy;
}
