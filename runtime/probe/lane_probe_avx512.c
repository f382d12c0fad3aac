/* lane_probe_avx512.c - the probes with vectors of 16. */
#define BERTH_LANES      16
#define BERTH_LANE_PROBE berth_lane_probe_avx512
#include "probe/lane_probe_width.h"
