// Memory by packs: a thread reads several packs of neighbouring elements before it uses one of them, and writes them so.
//
// A pack is accessed at once where its address allows that, otherwise element by element. Results do not depend on which: what a
// thread has, and the order it adds in, follow from shapes and types.
#pragma once

#include "common.cuh"

#ifndef MEDFT_EMULATOR
// Copies a V; both addresses are multiples of its size.
template <class V>
__device__ inline void copy_vector(void* to, const void* from) {
    *static_cast<V*>(to) = *static_cast<const V*>(from);
}
#endif

__device__ constexpr u32 larger(u32 a, u32 b) { return a > b ? a : b; }

// Elements of a pack of operands of these types: 16 bytes of the widest. So a warp accesses memory without gaps, and what it
// writes at once are whole sectors.
template <class... T>
__device__ constexpr u32 pack() {
    u32 widest = 1;
    ((widest = larger(widest, sizeof(T))), ...);
    return 16 / widest;
}

// What `BYTES` bytes are accessed by.
template <u32 BYTES>
struct Vector {
    using type = uint4;
};
template <>
struct Vector<8> {
    using type = uint2;
};

// Whether packs of N elements from p on may be accessed at once.
template <u32 N, class T>
__device__ inline bool fits(const T* p) {
    return reinterpret_cast<u64>(p) % sizeof(typename Vector<N * sizeof(T)>::type) == 0;
}

// U packs of N elements.
template <class T, u32 N, u32 U = 1>
struct Tile {
    alignas(16) T v[U][N];

    // All bits zero: 0 in every type.
    __device__ void clear() { memset(v, 0, sizeof v); }

    // Reads packs that lie `step` elements apart, from p on; elements from the end-th on become 0. `vector`: packs fit and lie
    // before the end or behind it.
    __device__ void load(const T* p, u64 step, u64 end, bool vector = true) {
        clear();
#pragma unroll
        for (u32 u = 0; u < U; ++u) {
            if (N > 1 && vector) {
                if (u * step < end) copy_pack(v[u], p + u * step);
            } else {
#pragma unroll
                for (u32 e = 0; e < N; ++e)
                    if (u * step + e < end) v[u][e] = p[u * step + e];
            }
        }
    }

    // Writes those elements that lie before the end.
    __device__ void store(T* p, u64 step, u64 end, bool vector = true) const {
#pragma unroll
        for (u32 u = 0; u < U; ++u) {
            if (N > 1 && vector) {
                if (u * step < end) copy_pack(p + u * step, v[u]);
            } else {
#pragma unroll
                for (u32 e = 0; e < N; ++e)
                    if (u * step + e < end) p[u * step + e] = v[u][e];
            }
        }
    }

    static __device__ void copy_pack(T* to, const T* from) {
        using V = typename Vector<N * sizeof(T)>::type;
#pragma unroll
        for (u32 e = 0; e < N; e += sizeof(V) / sizeof(T)) copy_vector<V>(to + e, from + e);
    }
};

// Elements a thread has at once of each operand of an elementwise kernel; launch.rs counts on it.
constexpr u32 ITEMS = 8;

// The packs of a thread: U of N elements.
template <u32 N_, u32 U_>
struct Shape {
    static constexpr u32 N = N_, U = U_;
};

// Calls body(Shape, at, step, left) until all elements from begin to end have been visited, by `blocks` blocks of which this is
// the block-th: a thread has packs that lie `step` apart, from the at-th element on, which has `left` to the end.
template <u32 N, class Body>
__device__ void tiles_of(u64 begin, u64 end, u64 block, u64 blocks, Body body) {
    using S = Shape<N, N == 1 ? 1 : ITEMS / N>;
    u64 step = blockDim.x * N;
    for (u64 at = begin + block * step * S::U + threadIdx.x * N; at < end; at += blocks * step * S::U)
        body(S(), at, step, end - at);
}

// The same in packs of N elements where `vector`, and one by one what is left.
template <u32 N, class Body>
__device__ void tiles(u64 begin, u64 end, u64 block, u64 blocks, bool vector, Body body) {
    u64 whole = vector ? end - (end - begin) % N : begin;
    tiles_of<N>(begin, whole, block, blocks, body);
    tiles_of<1>(whole, end, block, blocks, body);
}

// t becomes t / d; returns the remainder. The compiler divides in 32 bits where both fit.
__device__ inline u32 take(u64& t, u32 d) {
    u64 q = t / d;
    u32 r = u32(t) - u32(q) * d;
    t = q;
    return r;
}

// An operand of one row, repeated for every row of the others.
template <class A>
struct Columns {
    const A* p;
    u32 d;
};

template <u32 N, class A>
__device__ inline bool fits(Columns<A> c) {
    return c.d % N == 0 && fits<N>(c.p);
}

template <class S, class T>
__device__ auto read(S, const T* p, u64 at, u64 step, u64 left) {
    Tile<T, S::N, S::U> x;
    x.load(p + at, step, left);
    return x;
}
template <class S, class A>
__device__ auto read(S, Columns<A> c, u64 at, u64 step, u64 left) {
    Tile<A, S::N, S::U> x;
#pragma unroll
    for (u32 u = 0; u < S::U; ++u) {
        u64 i = at + u * step;
        Tile<A, S::N> one;
        one.load(c.p + take(i, c.d), 0, u * step < left ? S::N : 0);
        memcpy(x.v[u], one.v[0], sizeof one.v[0]);
    }
    return x;
}

template <class T>
T element(const T*);
template <class A>
A element(Columns<A>);

// y = f(x...), element by element.
template <class O, class F, u32 N, u32 U, class... T>
__device__ auto apply(F f, const Tile<T, N, U>&... x) {
    Tile<O, N, U> y;
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
#pragma unroll
        for (u32 e = 0; e < N; ++e) put(&y.v[u][e], f(get(x.v[u][e])...));
    }
    return y;
}

// o[i] = f(in[i]...) for n elements.
template <class F, class O, class... In>
__device__ void map(u64 n, F f, O* o, In... in) {
    constexpr u32 N = pack<O, decltype(element(in))...>();
    bool vector = fits<N>(o) && (fits<N>(in) && ...);
    tiles<N>(0, n, blockIdx.x, gridDim.x, vector, [&](auto s, u64 at, u64 step, u64 left) {
        apply<O>(f, read(s, in, at, step, left)...).store(o + at, step, left);
    });
}

// Rows that a thread reads before it adds one up.
constexpr u32 ROWS = 8;

// SUMS sums of every column over blocks of rows, (blocks, SUMS, d), rows in ascending order: body(sums, r, i, left) adds to
// sums[.][.] the next min(left, ROWS) rows from r on, of the N columns from i on. Added up by sum_parts.
template <u32 N, u32 SUMS, class A, class Body>
__device__ void column_parts(A* parts, u64 rows, u32 d, u32 blocks, Body body) {
    u32 packs = d / N;
    for (u64 t = first_item(); t < u64(blocks) * packs; t += item_stride()) {
        u64 block = t;
        u32 i = take(block, packs) * N;
        RowRange range = row_block(rows, blocks, block);
        Tile<A, N, SUMS> sums;
        sums.clear();
        for (u64 r = range.begin; r < range.end; r += ROWS) body(sums.v, r, i, range.end - r);
        sums.store(parts + block * SUMS * d + i, d, u64(SUMS) * d);
    }
}
