/* test_folder.c - see test_folder.h. */
#include "text/test_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

void test_folder_init(test_folder *f)
{
    strcpy(f->path, "/tmp/berth-text-test-XXXXXX");
    assert_non_null(mkdtemp(f->path));
}

void test_folder_deinit(test_folder *f)
{
    DIR *dir = opendir(f->path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (unlinkat(dirfd(dir), e->d_name, 0) != 0) unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
    closedir(dir);
    assert_int_equal(rmdir(f->path), 0);
}

void test_folder_put(const test_folder *f, const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    unlink(path); /* some file systems write a truncated file out at once */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

char *test_read(const char *path, size_t *out_n)
{
    char *data = NULL;
    berth_error err = {0};
    if (berth_file_read(path, (size_t)64 << 20, &data, out_n, &err) != BERTH_OK) fail_msg("%s", err.message);
    return data;
}

void test_folder_copy(const test_folder *f, const char *name, const char *from_path)
{
    size_t n;
    char *data = test_read(from_path, &n);
    test_folder_put(f, name, data, n);
    free(data);
}
