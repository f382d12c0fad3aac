/* flight.h - many requests at once, told of as they end.
 *
 * What a request points to stays as it is until its end was told. All functions from one thread. */
#ifndef BERTH_CLI_FLIGHT_H
#define BERTH_CLI_FLIGHT_H

#include "berth/berth.h"

typedef struct cli_flight cli_flight;

typedef struct cli_landing { /* the end of one request */
    void *user;              /* as given with it; NULL = none ended in time */
    berth_status status;
    berth_result result; /* with BERTH_OK */
    berth_error error;   /* with another status */
    int64_t ended_ns;    /* berth_now_ns() at its end */
} cli_landing;

/* `n` requests run at once, at most; more may be submitted and wait. The engine outlives the flight. */
berth_status cli_flight_open(berth_engine *engine, int32_t n, cli_flight **out, berth_error *err);

/* Ends what runs within one step; what was not told of is never told, but its `user` given to `drop` (may be NULL). */
void cli_flight_close(cli_flight *f, void (*drop)(void *user));

/* `user` must not be NULL. */
berth_status cli_flight_submit(cli_flight *f, const berth_request *request, void *user, berth_error *err);

int cli_flight_descriptor(const cli_flight *f); /* readable while an end waits to be told */

/* The next end, waiting at most timeout_ms (-1: for ever). */
berth_status cli_flight_next(cli_flight *f, int64_t timeout_ms, cli_landing *out, berth_error *err);
void cli_landing_deinit(cli_landing *l);

#endif
