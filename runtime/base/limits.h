/* limits.h - what the whole of berth agrees on: sizes of fixed arrays that several modules share. */
#ifndef BERTH_BASE_LIMITS_H
#define BERTH_BASE_LIMITS_H

/* Devices of one machine, and so of one program. Sets of devices are kept in 64 bits. */
#define BERTH_MAX_DEVICES 64

#endif
