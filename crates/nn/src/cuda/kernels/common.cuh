// What all kernels share: element types, loops over work that do not depend on the grid, sums in a fixed order.
//
// Rules: no atomics; a sum's order follows from shapes, never from the launch; arithmetic in float (double for double), whatever
// the element type in memory. Work is spread by a stride of the whole grid, so any grid gives the same bytes.
#pragma once

#ifdef MEDFT_EMULATOR
#include "cuda_emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define KERNEL(name, parameters) extern "C" __global__ void name parameters
// A kernel for blocks of `threads`.
#define KERNEL_OF(threads, name, parameters) extern "C" __global__ void __launch_bounds__(threads) name parameters
// The same, so many of which have room beside each other.
#define KERNEL_BY(threads, blocks, name, parameters) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters
#endif

using bf16 = __nv_bfloat16;
using half_t = __half;
using u32 = unsigned int;
using u64 = unsigned long long;

// The type that values of T are computed in.
template <class T>
struct Compute {
    using type = float;
};
template <>
struct Compute<double> {
    using type = double;
};
template <class T>
using Acc = typename Compute<T>::type;

__device__ inline float get(float x) { return x; }
__device__ inline double get(double x) { return x; }
__device__ inline float get(bf16 x) { return __bfloat162float(x); }
__device__ inline float get(half_t x) { return __half2float(x); }

__device__ inline void put(float* p, float x) { *p = x; }
__device__ inline void put(double* p, double x) { *p = x; }
__device__ inline void put(bf16* p, float x) { *p = __float2bfloat16_rn(x); }
__device__ inline void put(half_t* p, float x) { *p = __float2half_rn(x); }

__device__ inline float exp_(float x) { return expf(x); }
__device__ inline double exp_(double x) { return exp(x); }
__device__ inline float erf_(float x) { return erff(x); }
__device__ inline double erf_(double x) { return erf(x); }
__device__ inline float sqrt_(float x) { return sqrtf(x); }
__device__ inline double sqrt_(double x) { return sqrt(x); }
__device__ inline float log_(float x) { return logf(x); }
__device__ inline double log_(double x) { return log(x); }
__device__ inline float log1p_(float x) { return log1pf(x); }
__device__ inline double log1p_(double x) { return log1p(x); }

constexpr u32 WARP = 32;

// The first item of this thread and the distance to its next.
__device__ inline u64 first_item() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline u64 item_stride() { return u64(gridDim.x) * blockDim.x; }

// The same for work that a warp does together.
__device__ inline u64 first_row() { return first_item() / WARP; }
__device__ inline u64 row_stride() { return item_stride() / WARP; }
__device__ inline u32 lane() { return threadIdx.x % WARP; }

// Sum and maximum over a warp; every lane gets the same value.
template <class A>
__device__ inline A warp_sum(A v) {
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
template <class A>
__device__ inline A warp_max(A v) {
    for (int d = WARP / 2; d > 0; d /= 2) {
        A o = __shfl_xor_sync(0xffffffffu, v, d);
        v = o > v ? o : v;
    }
    return v;
}

// Threads of a block that sums over all of its threads.
constexpr u32 SUM_THREADS = 256;

// Sum over a block of SUM_THREADS threads; every thread gets the same value.
template <class A>
__device__ inline A block_sum(A v) {
    __shared__ A warps[SUM_THREADS / WARP];
    v = warp_sum(v);
    __syncthreads();  // the array may still be read by an earlier sum
    if (lane() == 0) warps[threadIdx.x / WARP] = v;
    __syncthreads();
    A sum = warps[0];
    for (u32 i = 1; i < SUM_THREADS / WARP; ++i) sum += warps[i];
    return sum;
}

// Rows [begin, end) of the i-th of `blocks` blocks of rows; the partition follows from the number of rows alone.
struct RowRange {
    u64 begin, end;
};
__device__ inline RowRange row_block(u64 rows, u64 blocks, u64 i) {
    u64 per = (rows + blocks - 1) / blocks;
    u64 begin = i * per, end = begin + per;
    return {begin < rows ? begin : rows, end < rows ? end : rows};
}
