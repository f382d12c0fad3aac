/* random.h - random numbers for tests: the same everywhere for the same seed, which is never 0. Source: Vigna, ACM TOMS 42
 * (2016) 30 (xorshift64*). */
#ifndef BERTH_TESTS_RANDOM_H
#define BERTH_TESTS_RANDOM_H

#include <stdint.h>

static inline uint64_t test_random(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545F4914F6CDD1Du;
}

static inline uint32_t test_random_below(uint64_t *seed, uint32_t n)
{
    return (uint32_t)(test_random(seed) >> 33) % n;
}

#endif
