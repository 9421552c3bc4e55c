// What a warp does with tensor cores: 16-bit matrix fragments, products with float32 sums, and copies into shared memory that
// run beside the arithmetic. Inline PTX for compute capability 8.0 on, or the emulator's forms of the same instructions.
//
// Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"). With g = lane / 4 and
// t = lane % 4, each register of a 16-bit fragment holds two neighbours along the summed axis, the lower one in its low half:
//   left  (16 rows, 16 summed):    [0] row g,     2t | 2t+1     [1] row g + 8, the same
//                                  [2] row g, 2t+8 | 2t+9       [3] row g + 8, the same
//   right (16 summed, 8 columns):  [0] 2t | 2t+1, column g      [1] 2t+8 | 2t+9, column g
//   sum   (16 rows, 8 columns):    [0] row g, column 2t   [1] row g, column 2t+1   [2], [3] the same of row g + 8
// So two neighbouring sums (16 × 16), rounded and packed in pairs, are a left fragment as they stand.
#pragma once

#include "common.cuh"

using u16 = unsigned short;

#ifdef MEDFT_EMULATOR

template <class T>
inline void mma(float (&sum)[4], const u32 (&left)[4], u32 right0, u32 right1) {
    emulator::mma<T>(sum, left, right0, right1);
}
inline void ldmatrix(u32 (&r)[4], const u16* row) { emulator::ldmatrix(r, row, false); }
inline void ldmatrix_transposed(u32 (&r)[4], const u16* row) { emulator::ldmatrix(r, row, true); }
template <u32 BYTES>
inline void copy_async(void* to, const void* from, bool inside) {
    emulator::copy_async(to, from, BYTES, inside);
}
inline void copies_done() { emulator::copies_done(); }
inline float exp2_(float x) { return exp2f(x); }
template <class T>
inline u32 pack(float low, float high) {
    T pair[2];
    put(pair, low);
    put(pair + 1, high);
    u32 r;
    std::memcpy(&r, pair, 4);
    return r;
}
template <class T>
inline float unpack(u16 bits) {
    T x;
    std::memcpy(&x, &bits, 2);
    return get(x);
}

#else

__device__ inline u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// sum += left · right.
template <class T>
__device__ inline void mma(float (&sum)[4], const u32 (&left)[4], u32 right0, u32 right1);
template <>
__device__ inline void mma<bf16>(float (&sum)[4], const u32 (&left)[4], u32 right0, u32 right1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}
template <>
__device__ inline void mma<half_t>(float (&sum)[4], const u32 (&left)[4], u32 right0, u32 right1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// Four 8 × 8 matrices from shared memory, one a register. Lane 8i + j gives where row j of matrix i begins (16 bytes, aligned);
// a lane gets of each matrix row g, columns 2t | 2t+1.
__device__ inline void ldmatrix(u32 (&r)[4], const u16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of the transposes: a lane gets of each matrix, as it lies, rows 2t | 2t+1 of column g.
__device__ inline void ldmatrix_transposed(u32 (&r)[4], const u16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Begins a copy of BYTES (4 or 16, both sides aligned) into shared memory; zeros where not `inside`, and nothing is read then.
template <u32 BYTES>
__device__ inline void copy_async(void* to, const void* from, bool inside) {
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(inside ? BYTES : 0u)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(inside ? BYTES : 0u)
                     : "memory");
    }
}
// Waits for all copies that this thread has begun; a barrier shows them to the others.
__device__ inline void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// 2^x to 2 units in the last place; 0 for -infinity.
__device__ inline float exp2_(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two values rounded to 16 bits, the first in the low half.
template <class T>
__device__ inline u32 pack(float low, float high);
template <>
__device__ inline u32 pack<bf16>(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<u32*>(&v);
}
template <>
__device__ inline u32 pack<half_t>(float low, float high) {
    __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<u32*>(&v);
}

template <class T>
__device__ inline float unpack(u16 bits);
template <>
__device__ inline float unpack<bf16>(u16 bits) {
    return __uint_as_float(u32(bits) << 16);
}
template <>
__device__ inline float unpack<half_t>(u16 bits) {
    return __half2float(__ushort_as_half(bits));
}

#endif
