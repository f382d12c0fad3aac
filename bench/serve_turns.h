/* serve_turns.h - what a machine gives to work that changes cores: the probe for one stream over devices in a row. */
#ifndef BERTH_BENCH_SERVE_TURNS_H
#define BERTH_BENCH_SERVE_TURNS_H

#include <stddef.h>
#include <stdint.h>

typedef struct serve_turns serve_turns;

/* Room for passes that read `bytes`, as a token reads the weights. Ends the program when there is no memory. */
serve_turns *serve_turns_create(size_t bytes);
void serve_turns_free(serve_turns *t); /* NULL is fine */

/* Passes a second of plain reads where core 0 reads the first half of each and core 1 the rest, over those where `core`
 * (0 or 1) reads all. Who waits for its turn spins: nothing is asleep, nothing else is done. */
double serve_turns_ratio(serve_turns *t, int32_t core);

#endif
