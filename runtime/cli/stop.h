/* stop.h - Ctrl-C and SIGTERM as something to poll for, so that a command ends its work in order instead of being cut off.
 *
 * Opened before the engine is: threads made afterwards leave these signals to the descriptor. */
#ifndef BERTH_CLI_STOP_H
#define BERTH_CLI_STOP_H

#include <signal.h>
#include <stdbool.h>

#include "berth/status.h"

typedef struct cli_stop {
    int fd; /* readable when a signal came; -1 = not open */
    sigset_t before;
} cli_stop;

berth_status cli_stop_open(cli_stop *s, berth_error *err);

/* Where there is nothing to end in order yet: a signal that came ends the process as if none of this had been opened. */
void cli_stop_if_asked(void);

/* The signal that came, 0 for none; does not wait. */
int cli_stop_came(cli_stop *s);

/* From here on a signal ends the process at once, as it did before: for whoever presses Ctrl-C twice. */
void cli_stop_close(cli_stop *s);

#endif
