/* listing.h - "a, b, c and 14 more": a list for an error message, cut after the first few. */
#ifndef BERTH_MODEL_LISTING_H
#define BERTH_MODEL_LISTING_H

#include <stddef.h>

#define BERTH_LISTING_SHOWN 5
#define BERTH_LISTING_BYTES 440 /* so that four lists fit into one error */

typedef struct berth_listing {
    size_t count; /* of all, shown or not */
    size_t shown, len;
    char text[BERTH_LISTING_BYTES];
} berth_listing; /* {0} is an empty list */

void berth_listing_add(berth_listing *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends " and N more" where some were not shown. Call once, then read `text`. */
const char *berth_listing_end(berth_listing *l);

#endif
