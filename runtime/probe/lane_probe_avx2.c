/* lane_probe_avx2.c - the probes with vectors of 8. */
#define BERTH_LANES      8
#define BERTH_LANE_PROBE berth_lane_probe_avx2
#include "probe/lane_probe_width.h"
