/* deliver.h - those that take what requests tell on behalf of callbacks. */
#ifndef BERTH_API_DELIVER_H
#define BERTH_API_DELIVER_H

#include "api/call.h"

/* The delivery thread of an engine, from its creation until all that was told is delivered. */
berth_status berth_delivery_start(berth_engine *e, const berth_thread_watch *watch, berth_error *err);
void berth_delivery_stop(berth_engine *e);

/* Takes what `c` tells from its own mailbox, calls on_token on this thread, and returns at its end. */
void berth_call_wait(berth_call *c);

#endif
