/* listing.c - see listing.h. */
#include "model/listing.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TAIL 40 /* room for " and N more" */

void berth_listing_add(berth_listing *l, const char *fmt, ...)
{
    l->count++;
    if (l->count > BERTH_LISTING_SHOWN) return;
    char item[sizeof l->text];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(item, sizeof item, fmt, args);
    va_end(args);
    size_t gap = l->len ? 2 : 0;
    if (n < 0 || l->len + gap + (size_t)n + TAIL > sizeof l->text) {
        if (l->len) return; /* counted, not shown */
        n = (int)(sizeof l->text - TAIL - 1);
        if ((size_t)n > strlen(item)) n = (int)strlen(item);
    }
    memcpy(l->text + l->len, ", ", gap);
    memcpy(l->text + l->len + gap, item, (size_t)n);
    l->len += gap + (size_t)n;
    l->text[l->len] = '\0';
    l->shown++;
}

const char *berth_listing_end(berth_listing *l)
{
    if (l->count > l->shown) snprintf(l->text + l->len, sizeof l->text - l->len, " and %zu more", l->count - l->shown);
    return l->text;
}
