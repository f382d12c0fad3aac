/* test_folder.h - for tests: a scratch folder, filled with small files and removed again. */
#ifndef BERTH_TEXT_TEST_FOLDER_H
#define BERTH_TEXT_TEST_FOLDER_H

#include <stddef.h>

#include "text/tokenizer.h"

typedef struct test_folder {
    char path[64];
} test_folder;

void test_folder_init(test_folder *f);
void test_folder_deinit(test_folder *f); /* with its files */
void test_folder_put(const test_folder *f, const char *name, const void *data, size_t n);
void test_folder_copy(const test_folder *f, const char *name, const char *from_path);

/* Reads a file whole (the caller frees), or fails the test. */
char *test_read(const char *path, size_t *out_n);

#endif
