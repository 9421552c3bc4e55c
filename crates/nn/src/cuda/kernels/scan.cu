// The selective scan of VMamba in K directions, and the reordering of maps that it implies. See layers/scan.
#include "common.cuh"

// Steps between two stored states, and the most states of a channel; repeated in layers/cuda/scan.rs.
constexpr u32 STEPS = 32;
constexpr u32 MAX_STATES = 16;

// Sizes of a call: images, positions, channels, directions, states, rank of the step sizes.
struct Scan {
    u32 b, l, d, k, n, r;
    __device__ u32 q() const { return r + 2 * n; }
    __device__ u32 p() const { return r + n + 2; }
    __device__ u32 chunks() const { return (l + STEPS - 1) / STEPS; }
};

template <class A>
__device__ A softplus(A x) {
    return (x > 0 ? x : A(0)) + log1p_(exp_(x > 0 ? -x : x));
}

// The derivative of softplus.
template <class A>
__device__ A sigmoid(A x) {
    A z = exp_(x > 0 ? -x : x);
    return (x > 0 ? A(1) : z) / (A(1) + z);
}

// A thread an image, direction and channel. u (B, L, D), raw (K, B L, D): steps before bias and softplus, projected
// (B, L, K Q): step input, B, C; parameters (K D, P): step weights, log -A, skip, bias; orders (K, L).
// y (B, K, L, D) in the map's order; states (B, K, chunks, N, D) at the start of every chunk.
template <class A>
__device__ void scan_forward(const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders, A* y,
                             A* states, Scan z) {
    for (u64 t = first_item(); t < u64(z.b) * z.k * z.d; t += item_stride()) {
        u64 d = t % z.d, k = t / z.d % z.k, b = t / z.d / z.k;
        const A* own = parameters + (k * z.d + d) * z.p() + z.r;
        A a[MAX_STATES], h[MAX_STATES];
        for (u32 s = 0; s < z.n; ++s) {
            a[s] = -exp_(own[s]);
            h[s] = 0;
        }
        A skip = own[z.n], bias = own[z.n + 1];
        for (u32 i = 0; i < z.l; ++i) {
            u64 position = orders[k * z.l + i], row = b * z.l + position;
            if (i % STEPS == 0)
                for (u32 s = 0; s < z.n; ++s)
                    states[(((b * z.k + k) * z.chunks() + i / STEPS) * z.n + s) * z.d + d] = h[s];
            A dt = softplus(raw[(k * z.b * z.l + row) * z.d + d] + bias), v = u[row * z.d + d], sum = skip * v;
            const A* bc = projected + (row * z.k + k) * z.q() + z.r;
            for (u32 s = 0; s < z.n; ++s) {
                h[s] = exp_(dt * a[s]) * h[s] + dt * v * bc[s];
                sum += bc[z.n + s] * h[s];
            }
            y[((b * z.k + k) * z.l + position) * z.d + d] = sum;
        }
    }
}

// A warp an image, direction and 32 channels; chunks from the last to the first, states recomputed from the stored ones.
// du (B, K, L, D) and draw (K, B L, D) in the map's order; shares (B, blocks, L, K 2N) of dB and dC; tables (B, K D, N + 2):
// gradients of log -A, skip, bias. Added up by sum_parts.
template <class A>
__device__ void scan_backward(const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,
                              const A* states, const A* dy, A* du, A* draw, A* shares, A* tables, Scan z) {
    u32 blocks = (z.d + WARP - 1) / WARP;
    for (u64 w = first_row(); w < u64(z.b) * z.k * blocks; w += row_stride()) {
        u64 block = w % blocks, k = w / blocks % z.k, b = w / blocks / z.k;
        u64 d = block * WARP + lane();
        bool inside = d < z.d;
        if (!inside) d = z.d - 1;  // a lane without a channel repeats the last one and adds nothing
        const A* own = parameters + (k * z.d + d) * z.p() + z.r;
        A g[MAX_STATES], da[MAX_STATES], dskip = 0, dbias = 0;
        for (u32 s = 0; s < z.n; ++s) g[s] = da[s] = 0;
        A skip = own[z.n], bias = own[z.n + 1];
        for (u32 c = z.chunks(); c-- > 0;) {
            u32 first = c * STEPS, steps = z.l - first < STEPS ? z.l - first : STEPS;
            A dt[STEPS], du_[STEPS], ddt[STEPS], h[STEPS + 1];
            for (u32 i = 0; i < steps; ++i) {
                u64 row = b * z.l + orders[k * z.l + first + i];
                dt[i] = softplus(raw[(k * z.b * z.l + row) * z.d + d] + bias);
                A grad = inside ? dy[row * z.d + d] : A(0);
                du_[i] = skip * grad;
                ddt[i] = 0;
            }
            // As on the CPU, sums over steps run from the last to the first.
            for (u32 i = steps; i-- > 0;) {
                u64 row = b * z.l + orders[k * z.l + first + i];
                dskip += u[row * z.d + d] * (inside ? dy[row * z.d + d] : A(0));
            }
            for (u32 s = 0; s < z.n; ++s) {
                A a = -exp_(own[s]);
                h[0] = states[(((b * z.k + k) * z.chunks() + c) * z.n + s) * z.d + d];
                for (u32 i = 0; i < steps; ++i) {
                    u64 row = b * z.l + orders[k * z.l + first + i];
                    A share = dt[i] * u[row * z.d + d] * projected[(row * z.k + k) * z.q() + z.r + s];
                    h[i + 1] = exp_(dt[i] * a) * h[i] + share;
                }
                for (u32 i = steps; i-- > 0;) {
                    u64 position = orders[k * z.l + first + i], row = b * z.l + position;
                    const A* bc = projected + (row * z.k + k) * z.q() + z.r;
                    A grad = inside ? dy[row * z.d + d] : A(0), v = u[row * z.d + d];
                    A dc = warp_sum(h[i + 1] * grad);
                    g[s] += bc[z.n + s] * grad;
                    A db = warp_sum(g[s] * (dt[i] * v));
                    A carried = g[s] * exp_(dt[i] * a), through = carried * h[i];
                    du_[i] += g[s] * dt[i] * bc[s];
                    ddt[i] += g[s] * v * bc[s] + through * a;
                    da[s] += through * dt[i];
                    g[s] = carried;
                    if (lane() == 0) {
                        A* share = shares + (((b * blocks + block) * z.l + position) * z.k + k) * 2 * z.n;
                        share[s] = db;
                        share[z.n + s] = dc;
                    }
                }
            }
            for (u32 i = steps; i-- > 0;) {
                u64 position = orders[k * z.l + first + i], row = b * z.l + position;
                u64 at = (k * z.b * z.l + row) * z.d + d;
                A slope = ddt[i] * sigmoid(raw[at] + bias);
                dbias += slope;
                if (inside) {
                    draw[at] = slope;
                    du[((b * z.k + k) * z.l + position) * z.d + d] = du_[i];
                }
            }
        }
        if (inside) {
            A* table = tables + (b * z.k * z.d + k * z.d + d) * (z.n + 2);
            for (u32 s = 0; s < z.n; ++s) table[s] = da[s] * -exp_(own[s]);
            table[z.n] = dskip;
            table[z.n + 1] = dbias;
        }
    }
}

// (B, L, D) -> (B, K, L, D): the map's positions in every order.
template <class T>
__device__ void cross_scan(const T* x, const u32* orders, T* y, u64 b, u32 k, u32 l, u32 d) {
    for (u64 t = first_item(); t < b * k * l * d; t += item_stride()) {
        u64 e = t % d, i = t / d % l, direction = t / d / l % k, image = t / d / l / k;
        y[t] = x[(image * l + orders[direction * l + i]) * d + e];
    }
}

// (B, K, L, D) -> (B, L, D): the sum of all directions in the map's order; places (K, L) invert the orders.
template <class T>
__device__ void cross_merge(const T* x, const u32* places, T* y, u64 b, u32 k, u32 l, u32 d) {
    for (u64 t = first_item(); t < b * l * d; t += item_stride()) {
        u64 e = t % d, p = t / d % l, image = t / d / l;
        Acc<T> sum = 0;
        for (u32 i = 0; i < k; ++i) sum += get(x[((image * k + i) * l + places[i * l + p]) * d + e]);
        put(y + t, sum);
    }
}

#define SCANS(S, A)                                                                                                    \
    KERNEL(scan_forward_##S, (const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,    \
                              A* y, A* states, u32 b, u32 l, u32 d, u32 k, u32 n, u32 r)) {                            \
        scan_forward(u, raw, projected, parameters, orders, y, states, Scan{b, l, d, k, n, r});                        \
    }                                                                                                                  \
    KERNEL(scan_backward_##S, (const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,   \
                               const A* states, const A* dy, A* du, A* draw, A* shares, A* tables, u32 b, u32 l,       \
                               u32 d, u32 k, u32 n, u32 r)) {                                                          \
        scan_backward(u, raw, projected, parameters, orders, states, dy, du, draw, shares, tables,                     \
                      Scan{b, l, d, k, n, r});                                                                         \
    }

SCANS(f32, float)
SCANS(f64, double)

#define CROSS(S, T)                                                                                       \
    KERNEL(cross_scan_##S, (const T* x, const u32* orders, T* y, u64 b, u32 k, u32 l, u32 d)) {           \
        cross_scan(x, orders, y, b, k, l, d);                                                             \
    }                                                                                                     \
    KERNEL(cross_merge_##S, (const T* x, const u32* places, T* y, u64 b, u32 k, u32 l, u32 d)) {          \
        cross_merge(x, places, y, b, k, l, d);                                                            \
    }

CROSS(f32, float)
CROSS(f64, double)
CROSS(bf16, bf16)
CROSS(f16, half_t)
