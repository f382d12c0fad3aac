/* queue.h - the completion queue's insides. */
#ifndef BERTH_API_QUEUE_H
#define BERTH_API_QUEUE_H

#include "api/api.h"
#include "api/mailbox.h"

struct berth_queue {
    berth_handle head;
    berth_mailbox *mailbox;
};

#endif
