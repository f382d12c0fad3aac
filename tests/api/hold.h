/* hold.h - stops the lanes of an engine, the threads that run its passes, at any moment and for as long as a test needs: what
 * runs goes on running and what waits goes on waiting, however slow or busy the machine is. A signal stops them. */
#ifndef BERTH_TESTS_API_HOLD_H
#define BERTH_TESTS_API_HOLD_H

#include "fixture.h"

/* As fixture_open, of an engine that can be held; one at a time. */
fixture hold_open(const fixture_options *o);

void hold(void); /* returns when every lane stands still */
void let_go(void);

#endif
