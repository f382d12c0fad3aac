/* words.h - how strategies refuse and remark. Needs berth/strategy.h only, so that a strategy copied out of the tree
 * takes these two files along. */
#ifndef BERTH_STRATEGIES_WORDS_H
#define BERTH_STRATEGIES_WORDS_H

#include <stdbool.h>

#include "berth/strategy.h"

/* Fills err (may be NULL) and is `status`. */
berth_status berth_refuse(berth_error *err, berth_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "3.27 GiB (3511234567 bytes)"; "512 bytes" below 1024. */
const char *berth_bytes_in_words(uint64_t bytes, char *out, size_t n);

/* Adds a sentence to out->note; what does not fit is left out whole. */
void berth_note(berth_strategy_output *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "cpu:0, cpu:1 and 3 more" for the devices with wanted[d]. */
const char *berth_device_names(const berth_strategy_input *in, const bool *wanted, char *out, size_t n);

/* Notes which devices hold no part of the model in any replica; nothing when all are used. */
void berth_note_empty_devices(const berth_strategy_input *in, berth_strategy_output *out);

/* `check` of a strategy that takes no argument. */
berth_status berth_check_no_argument(const berth_strategy_input *in, const char *name, berth_error *err);

/* The argument as a count or an index in [low, high]; false when it is anything else. */
bool berth_read_argument(const char *argument, int32_t low, int32_t high, int32_t *out);

#endif
