/* request.h - what a caller asks for, read and checked, and the copy that a request not waited for needs. */
#ifndef BERTH_API_REQUEST_H
#define BERTH_API_REQUEST_H

#include "api/api.h"

/* The caller's request, defaults filled in, everything checked that does not need its pictures. What it points to is
 * still the caller's. BERTH_INVALID_ARGUMENT. */
berth_status berth_request_read(const berth_request *given, berth_request *out, berth_sampling *out_sampling,
                                berth_error *err);

/* Turns with all that they point to, in one block whose beginning they are; free() it. */
berth_status berth_turns_copy(const berth_turn *turns, int32_t n_turns, berth_turn **out, berth_error *err);

#endif
