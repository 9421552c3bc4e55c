// Activations, biases, SwiGLU's gate, residual sums, casts, sums over rows and parts.
#include "pack.cuh"

// GELU by erf.
struct Gelu {
    template <class A>
    static __device__ A value(A x) {
        return A(0.5) * x * (A(1) + erf_(x * A(0.70710678118654752440)));
    }
    template <class A>
    static __device__ A slope(A x) {
        A cdf = A(0.5) * (A(1) + erf_(x * A(0.70710678118654752440)));
        return cdf + x * (A(0.3989422804014327) * exp_(A(-0.5) * x * x));
    }
};

// x * sigmoid(1.702 x).
struct QuickGelu {
    template <class A>
    static __device__ A value(A x) {
        return x / (A(1) + exp_(A(-1.702) * x));
    }
    template <class A>
    static __device__ A slope(A x) {
        A s = A(1) / (A(1) + exp_(A(-1.702) * x));
        return s + A(1.702) * x * s * (A(1) - s);
    }
};

// x * sigmoid(x).
struct Silu {
    template <class A>
    static __device__ A value(A x) {
        return x / (A(1) + exp_(-x));
    }
    template <class A>
    static __device__ A slope(A x) {
        A s = A(1) / (A(1) + exp_(-x));
        return s + x * s * (A(1) - s);
    }
};

template <class F, class T>
__device__ void activation(const T* x, T* y, u64 n) {
    map(n, [](auto v) { return F::value(v); }, y, x);
}

template <class F, class T>
__device__ void activation_grad(const T* x, const T* dy, T* dx, u64 n) {
    map(n, [](auto v, auto g) { return g * F::slope(v); }, dx, x, dy);
}

// y = x + bias, rounded once: what cuBLASLt does with a bias.
template <class T, class A = Acc<T>>
__device__ void add_bias(const A* x, const T* bias, T* y, u64 n, u32 d) {
    for (u64 i = first_item(); i < n; i += item_stride()) put(y + i, x[i] + get(bias[i % d]));
}

template <class T>
__device__ void silu_mul(const T* x, const T* z, T* y, u64 n) {
    map(n, [](auto v, auto w) { return Silu::value(v) * w; }, y, x, z);
}

template <class T>
__device__ void silu_mul_grad(const T* x, const T* z, const T* dy, T* dx, T* dz, u64 n) {
    constexpr u32 N = pack<T>();
    bool vector = fits<N>(x) && fits<N>(z) && fits<N>(dy) && fits<N>(dx) && fits<N>(dz);
    tiles<N>(0, n, blockIdx.x, gridDim.x, vector, [&](auto s, u64 at, u64 step, u64 left) {
        auto v = read(s, x, at, step, left), w = read(s, z, at, step, left), g = read(s, dy, at, step, left);
        auto by_x = [](auto v, auto w, auto g) { return g * w * Silu::slope(v); };
        auto by_z = [](auto v, auto g) { return g * Silu::value(v); };
        apply<T>(by_x, v, w, g).store(dx + at, step, left);
        apply<T>(by_z, v, g).store(dz + at, step, left);
    });
}

// o = x + y.
template <class T, class A = Acc<T>>
__device__ void add(const A* x, const T* y, A* o, u64 n) {
    map(n, [](A v, A w) { return v + w; }, o, x, y);
}

// o = x + gamma * y.
template <class T, class A = Acc<T>>
__device__ void add_scaled(const A* x, const T* y, const A* gamma, A* o, u64 n, u32 d) {
    map(n, [](A v, A w, A c) { return v + c * w; }, o, x, y, Columns<A>{gamma, d});
}

// dy = d * gamma.
template <class T, class A = Acc<T>>
__device__ void add_scaled_dy(const A* d_o, const A* gamma, T* dy, u64 n, u32 d) {
    map(n, [](A g, A c) { return g * c; }, dy, d_o, Columns<A>{gamma, d});
}

// Sums of d * y over blocks of rows, (blocks, d): the gradient of gamma.
template <u32 N, class T, class A>
__device__ void dgamma(const A* d_o, const T* y, A* parts, u64 rows, u32 d, u32 blocks) {
    column_parts<N, 1>(parts, rows, d, blocks, [&](auto& sums, u64 r, u32 i, u64 left) {
        Tile<A, N, ROWS> g;
        Tile<T, N, ROWS> v;
        g.load(d_o + r * d + i, d, left * d);
        v.load(y + r * d + i, d, left * d);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) sums[0][e] += g.v[u][e] * get(v.v[u][e]);
        }
    });
}

template <class T, class A = Acc<T>>
__device__ void add_scaled_dgamma(const A* d_o, const T* y, A* parts, u64 rows, u32 d, u32 blocks) {
    constexpr u32 N = pack<A>();
    bool vector = d % N == 0 && fits<N>(d_o) && fits<N>(y) && fits<N>(parts);
    vector ? dgamma<N>(d_o, y, parts, rows, d, blocks) : dgamma<1>(d_o, y, parts, rows, d, blocks);
}

// Sums of columns over blocks of rows, (blocks, d).
template <u32 N, class T, class A>
__device__ void sum_columns(const T* x, A* parts, u64 rows, u32 d, u32 blocks) {
    column_parts<N, 1>(parts, rows, d, blocks, [&](auto& sums, u64 r, u32 i, u64 left) {
        Tile<T, N, ROWS> v;
        v.load(x + r * d + i, d, left * d);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) sums[0][e] += get(v.v[u][e]);
        }
    });
}

template <class T, class A = Acc<T>>
__device__ void column_sums(const T* x, A* parts, u64 rows, u32 d, u32 blocks) {
    constexpr u32 N = pack<A>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(parts);
    vector ? sum_columns<N>(x, parts, rows, d, blocks) : sum_columns<1>(x, parts, rows, d, blocks);
}

// The sum of `parts` packs that lie `step` apart in steps of LANES, of which this thread adds those from the first-th on.
template <u32 N, u32 LANES, class A>
__device__ Tile<A, N> sum_packs(const A* from, u32 first, u32 parts, u64 step) {
    Tile<A, N> sum;
    sum.load(from + first * step, 0, N);
    for (u32 p = first + LANES; p < parts; p += ROWS * LANES) {
        Tile<A, N, ROWS> v;
        v.load(from + p * step, LANES * step, (parts - p) * step);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) sum.v[0][e] += v.v[u][e];
        }
    }
    return sum;
}

// (outer, parts, len) -> (outer, len): up to 32 parts are added in ascending order; a warp's lanes share more of them.
template <u32 N, class A>
__device__ void add_parts(const A* x, A* y, u64 outer, u32 parts, u64 len) {
    bool shared = parts > WARP;
    u64 packs = len / N;
    for (u64 t = shared ? first_row() : first_item(); t < outer * packs; t += shared ? row_stride() : item_stride()) {
        u64 row = t / packs, i = t % packs * N;
        const A* from = x + row * parts * len + i;
        if (!shared) {
            sum_packs<N, 1>(from, 0, parts, len).store(y + row * len + i, 0, N);
            continue;
        }
        auto sum = sum_packs<N, WARP>(from, lane(), parts, len);
        for (u32 e = 0; e < N; ++e) sum.v[0][e] = warp_sum(sum.v[0][e]);
        if (lane() == 0) sum.store(y + row * len + i, 0, N);
    }
}

template <class A>
__device__ void sum_parts(const A* x, A* y, u64 outer, u32 parts, u64 len) {
    constexpr u32 N = pack<A>();
    bool vector = len % N == 0 && fits<N>(x) && fits<N>(y);
    vector ? add_parts<N>(x, y, outer, parts, len) : add_parts<1>(x, y, outer, parts, len);
}

// Where element t of one part, as (B, H, N, d), lies in a packed projection (B, N, parts, H, d).
struct HeadIndex {
    u32 n, parts, part, h, d;
    __device__ u64 packed(u64 t) const {
        u64 e = t % d, i = t / d;
        u64 row = i % n;
        i /= n;
        u64 head = i % h, b = i / h;
        return (((b * n + row) * parts + part) * h + head) * d + e;
    }
};

// One part of a packed projection by heads; count = B H N d.
template <class T>
__device__ void split_heads(const T* packed, T* split, u64 count, HeadIndex at) {
    for (u64 t = first_item(); t < count; t += item_stride()) split[t] = packed[at.packed(t)];
}

template <class T>
__device__ void merge_heads(const T* split, T* packed, u64 count, HeadIndex at) {
    for (u64 t = first_item(); t < count; t += item_stride()) packed[at.packed(t)] = split[t];
}

#define ACTIVATION(S, T, NAME, F)                                                                     \
    KERNEL(NAME##_##S, (const T* x, T* y, u64 n)) { activation<F>(x, y, n); }                         \
    KERNEL(NAME##_grad_##S, (const T* x, const T* dy, T* dx, u64 n)) { activation_grad<F>(x, dy, dx, n); }

#define ELEMENTWISE(S, T)                                                                                          \
    ACTIVATION(S, T, gelu, Gelu)                                                                                   \
    ACTIVATION(S, T, quick_gelu, QuickGelu)                                                                        \
    ACTIVATION(S, T, silu, Silu)                                                                                   \
    KERNEL(add_bias_##S, (const Acc<T>* x, const T* bias, T* y, u64 n, u32 d)) { add_bias(x, bias, y, n, d); }     \
    KERNEL(silu_mul_##S, (const T* x, const T* z, T* y, u64 n)) { silu_mul(x, z, y, n); }                          \
    KERNEL(silu_mul_grad_##S, (const T* x, const T* z, const T* dy, T* dx, T* dz, u64 n)) {                        \
        silu_mul_grad(x, z, dy, dx, dz, n);                                                                        \
    }                                                                                                              \
    KERNEL(add_##S, (const Acc<T>* x, const T* y, Acc<T>* o, u64 n)) { add(x, y, o, n); }                          \
    KERNEL(add_scaled_##S, (const Acc<T>* x, const T* y, const Acc<T>* gamma, Acc<T>* o, u64 n, u32 d)) {          \
        add_scaled(x, y, gamma, o, n, d);                                                                          \
    }                                                                                                              \
    KERNEL(add_scaled_dy_##S, (const Acc<T>* d_o, const Acc<T>* gamma, T* dy, u64 n, u32 d)) {                     \
        add_scaled_dy(d_o, gamma, dy, n, d);                                                                       \
    }                                                                                                              \
    KERNEL(add_scaled_dgamma_##S, (const Acc<T>* d_o, const T* y, Acc<T>* parts, u64 rows, u32 d, u32 blocks)) {   \
        add_scaled_dgamma(d_o, y, parts, rows, d, blocks);                                                         \
    }                                                                                                              \
    KERNEL(column_sums_##S, (const T* x, Acc<T>* parts, u64 rows, u32 d, u32 blocks)) {                            \
        column_sums(x, parts, rows, d, blocks);                                                                    \
    }

ELEMENTWISE(f32, float)
ELEMENTWISE(f64, double)
ELEMENTWISE(bf16, bf16)
ELEMENTWISE(f16, half_t)

#define HEADS(S, T)                                                                                                \
    KERNEL(split_heads_##S, (const T* packed, T* split, u64 count, u32 n, u32 parts, u32 part, u32 h, u32 d)) {    \
        split_heads(packed, split, count, HeadIndex{n, parts, part, h, d});                                        \
    }                                                                                                              \
    KERNEL(merge_heads_##S, (const T* split, T* packed, u64 count, u32 n, u32 parts, u32 part, u32 h, u32 d)) {    \
        merge_heads(split, packed, count, HeadIndex{n, parts, part, h, d});                                        \
    }

HEADS(f32, float)
HEADS(f64, double)

KERNEL(sum_parts_f32, (const float* x, float* y, u64 outer, u32 parts, u64 len)) { sum_parts(x, y, outer, parts, len); }
KERNEL(sum_parts_f64, (const double* x, double* y, u64 outer, u32 parts, u64 len)) { sum_parts(x, y, outer, parts, len); }

template <class X, class Y>
__device__ void cast(const X* x, Y* y, u64 n) {
    map(n, [](auto v) { return Acc<Y>(v); }, y, x);
}

#define CAST(S, X, Y) \
    KERNEL(cast_##S, (const X* x, Y* y, u64 n)) { cast(x, y, n); }
CAST(f32_bf16, float, bf16)
CAST(bf16_f32, bf16, float)
CAST(f32_f16, float, half_t)
CAST(f16_f32, half_t, float)
