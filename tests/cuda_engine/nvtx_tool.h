/* nvtx_tool.h - a tool for NVTX ranges, loaded as NVIDIA's are (NVTX_INJECTION64_PATH), that keeps what it is told. */
#ifndef BERTH_TESTS_NVTX_TOOL_H
#define BERTH_TESTS_NVTX_TOOL_H

#include <stdint.h>

enum { NVTX_TOOL_MOST = 20000, NVTX_TOOL_NAME = 256 };

typedef struct nvtx_tool_report {
    int32_t n_pushed, n_popped, n_started, n_ended, n_wrong; /* wrong: ends of what was not begun */
    char pushed[NVTX_TOOL_MOST][NVTX_TOOL_NAME];
    char started[NVTX_TOOL_MOST][NVTX_TOOL_NAME];
} nvtx_tool_report;

typedef const nvtx_tool_report *nvtx_tool_report_fn(
    void); /* exported as "nvtx_tool_get_report"; nothing may be under way */

#endif
