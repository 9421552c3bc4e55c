// Activations with and without bias, SwiGLU's gate, residual sums, casts, sums over rows and parts.
#include "common.cuh"

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
    for (u64 i = first_item(); i < n; i += item_stride()) put(y + i, F::value(get(x[i])));
}

template <class F, class T>
__device__ void activation_grad(const T* x, const T* dy, T* dx, u64 n) {
    for (u64 i = first_item(); i < n; i += item_stride()) put(dx + i, get(dy[i]) * F::slope(get(x[i])));
}

// pre += bias, in place; y = act(pre) of the rounded sum, so that the backward pass sees the same value.
template <class F, class T, class A = Acc<T>>
__device__ void bias_activation(T* pre, const A* bias, T* y, u64 n, u32 d) {
    for (u64 i = first_item(); i < n; i += item_stride()) {
        put(pre + i, get(pre[i]) + bias[i % d]);
        put(y + i, F::value(get(pre[i])));
    }
}

template <class T, class A = Acc<T>>
__device__ void add_bias(T* x, const A* bias, u64 n, u32 d) {
    for (u64 i = first_item(); i < n; i += item_stride()) put(x + i, get(x[i]) + bias[i % d]);
}

template <class T>
__device__ void silu_mul(const T* x, const T* z, T* y, u64 n) {
    for (u64 i = first_item(); i < n; i += item_stride()) put(y + i, Silu::value(get(x[i])) * get(z[i]));
}

template <class T, class A = Acc<T>>
__device__ void silu_mul_grad(const T* x, const T* z, const T* dy, T* dx, T* dz, u64 n) {
    for (u64 i = first_item(); i < n; i += item_stride()) {
        A g = get(dy[i]), v = get(x[i]);
        put(dx + i, g * get(z[i]) * Silu::slope(v));
        put(dz + i, g * Silu::value(v));
    }
}

// o = x + y.
template <class T, class A = Acc<T>>
__device__ void add(const A* x, const T* y, A* o, u64 n) {
    for (u64 i = first_item(); i < n; i += item_stride()) o[i] = x[i] + get(y[i]);
}

// o = x + gamma * y.
template <class T, class A = Acc<T>>
__device__ void add_scaled(const A* x, const T* y, const A* gamma, A* o, u64 n, u32 d) {
    for (u64 i = first_item(); i < n; i += item_stride()) o[i] = x[i] + gamma[i % d] * get(y[i]);
}

// dy = d * gamma.
template <class T, class A = Acc<T>>
__device__ void add_scaled_dy(const A* d_o, const A* gamma, T* dy, u64 n, u32 d) {
    for (u64 i = first_item(); i < n; i += item_stride()) put(dy + i, d_o[i] * gamma[i % d]);
}

// Sums of d * y over blocks of rows, (blocks, d): the gradient of gamma. Added up by sum_parts.
template <class T, class A = Acc<T>>
__device__ void add_scaled_dgamma(const A* d_o, const T* y, A* parts, u64 rows, u32 d, u32 blocks) {
    for (u64 t = first_item(); t < u64(blocks) * d; t += item_stride()) {
        RowRange range = row_block(rows, blocks, t / d);
        A sum = 0;
        for (u64 r = range.begin; r < range.end; ++r) sum += d_o[r * d + t % d] * get(y[r * d + t % d]);
        parts[t] = sum;
    }
}

// Sums of columns over blocks of rows, (blocks, d).
template <class T, class A = Acc<T>>
__device__ void column_sums(const T* x, A* parts, u64 rows, u32 d, u32 blocks) {
    for (u64 t = first_item(); t < u64(blocks) * d; t += item_stride()) {
        RowRange range = row_block(rows, blocks, t / d);
        A sum = 0;
        for (u64 r = range.begin; r < range.end; ++r) sum += get(x[r * d + t % d]);
        parts[t] = sum;
    }
}

// (outer, parts, len) -> (outer, len): the parts added in ascending order.
template <class A>
__device__ void sum_parts(const A* x, A* y, u64 outer, u32 parts, u64 len) {
    for (u64 t = first_item(); t < outer * len; t += item_stride()) {
        const A* from = x + t / len * parts * len + t % len;
        A sum = from[0];
        for (u32 p = 1; p < parts; ++p) sum += from[p * len];
        y[t] = sum;
    }
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
    KERNEL(NAME##_grad_##S, (const T* x, const T* dy, T* dx, u64 n)) { activation_grad<F>(x, dy, dx, n); } \
    KERNEL(bias_##NAME##_##S, (T * pre, const Acc<T>* bias, T* y, u64 n, u32 d)) {                    \
        bias_activation<F>(pre, bias, y, n, d);                                                       \
    }

#define ELEMENTWISE(S, T)                                                                                          \
    ACTIVATION(S, T, gelu, Gelu)                                                                                   \
    ACTIVATION(S, T, quick_gelu, QuickGelu)                                                                        \
    ACTIVATION(S, T, silu, Silu)                                                                                   \
    KERNEL(add_bias_##S, (T * x, const Acc<T>* bias, u64 n, u32 d)) { add_bias(x, bias, n, d); }                   \
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
    for (u64 i = first_item(); i < n; i += item_stride()) put(y + i, Acc<Y>(get(x[i])));
}

#define CAST(S, X, Y) \
    KERNEL(cast_##S, (const X* x, Y* y, u64 n)) { cast(x, y, n); }
CAST(f32_bf16, float, bf16)
CAST(bf16_f32, bf16, float)
CAST(f32_f16, float, half_t)
CAST(f16_f32, half_t, float)
