/* lane_probe_generic.c - the probes with vectors of 4. */
#define BERTH_LANES      4
#define BERTH_LANE_PROBE berth_lane_probe_generic
#include "probe/lane_probe_width.h"
