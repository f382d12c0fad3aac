/* check_internal.h - what the checker's files share: the rules of each op kind, and saying what is wrong. */
#ifndef BERTH_CHECK_INTERNAL_H
#define BERTH_CHECK_INTERNAL_H

#include "program/program_internal.h"

bool berth_check_known(berth_op_kind kind);
bool berth_check_may_be_partial(berth_op_kind kind);
bool berth_check_dtype(berth_op_kind kind, int32_t operand, berth_dtype dtype); /* operand -1: the output */
bool berth_check_follows_device(berth_op_kind kind, int32_t operand); /* fp32, or what the device computes in */
bool berth_check_shapes(const berth_program *p, const berth_op *op);

/* "[tokens, 1536]" */
void berth_say_shape(const berth_value *v, berth_buffer *out);
const char *berth_word_symbol(berth_symbol s); /* "tokens"; "1" for none */

#endif
