/* placement_golden.h - the cases of tests/golden/placement, for the tests of accelerate and of the published schemes. */
#ifndef BERTH_STRATEGIES_PLACEMENT_GOLDEN_H
#define BERTH_STRATEGIES_PLACEMENT_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "strategies/accelerate.h"

#define PLACEMENT_GOLDEN(name) BERTH_SOURCE_DIR "/tests/golden/placement/" name

/* NULL, with a line on the test's error stream, where the file cannot be read. */
berth_json *golden_open(const char *path);

/* 0, "cpu" or "disk" as they stand in maps and budgets; and back. */
int32_t golden_device(const berth_json_node *node);
const char *golden_device_name(int32_t device);

typedef struct golden_case {
    berth_accelerate_request req; /* points into this struct and the JSON */
    berth_accelerate_budget budgets[32];
    const char *classes[32];
} golden_case;

/* A case's request for a tree, which is borrowed. */
void golden_read(const berth_json_node *c, const berth_tree *tree, golden_case *out);
/* The cleaned map as a set: accelerate's order of it depends on a hash. */
void golden_check_map(const char *id, const berth_json_node *expected, const berth_tree *t,
                      const berth_accelerate_result *r);

#endif
