/* halves.cuh - the 16-bit float types of device code. */
#ifndef BERTH_CUDA_HALVES_CUH
#define BERTH_CUDA_HALVES_CUH

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};

#endif
