/* placements.h - several placements in one command: every strategy on every device list in every dtype. */
#ifndef BERTH_CLI_PLACEMENTS_H
#define BERTH_CLI_PLACEMENTS_H

#include "cli/setup.h"

typedef struct cli_placement {
    const char *devices, *strategy, *dtype; /* borrowed */
} cli_placement;

typedef struct cli_placements {
    cli_placement *list; /* owned; devices change slowest, dtypes fastest */
    int32_t n;
    char **strategies, **dtypes; /* owned lists, NULL-terminated */
} cli_placements;

/* From --devices (repeated), --strategy and --dtype (lists). Errors: BERTH_INVALID_ARGUMENT. */
berth_status cli_placements_read(const cli_args *a, cli_placements *out, berth_error *err);
void cli_placements_deinit(cli_placements *p);

/* The options as if only this placement had been given. A view: not to be ended. */
cli_args cli_placement_args(const cli_args *a, const cli_placement *p);

/* What the placement's answers may depend on: the dtype that all its devices compute in ("f32"), or, where they differ, the
 * placement's own name, as it then matters which layer is where. Placements of one arithmetic must give the same greedy tokens. */
void cli_placement_arithmetic(const berth_plan *plan, const cli_placement *p, char *out, size_t n);

/* Cuts a list at its commas: owned, NULL-terminated. What begins with a digit belongs to the item before it, as in
 * "layer=3,1,optimal", unless the list is one of numbers. Errors: BERTH_INVALID_ARGUMENT (an empty item). */
berth_status cli_split_list(const char *list, cli_option option, char ***out, berth_error *err);
void cli_free_list(char **list);

#endif
