/* cut_qwen2.h - Qwen2's pre-tokenizer pattern as a matcher. See cut.h. */
#ifndef BERTH_TEXT_CUT_QWEN2_H
#define BERTH_TEXT_CUT_QWEN2_H

#include <stddef.h>

size_t berth_cut_next_qwen2(const char *text, size_t n);

#endif
