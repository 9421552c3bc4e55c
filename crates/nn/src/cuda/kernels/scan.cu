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

// One chunk of one direction and channel: positions of its steps, step sizes and parameters.
template <class A>
struct Chunk {
    const A *raw, *own;
    const u32* orders;
    Scan z;
    u64 b, k, d;
    u32 first, steps;

    __device__ Chunk(const A* raw_, const A* parameters, const u32* orders_, Scan z_, u64 b_, u64 k_, u64 d_, u32 c)
        : raw(raw_), own(parameters + (k_ * z_.d + d_) * z_.p() + z_.r), orders(orders_), z(z_), b(b_), k(k_), d(d_),
          first(c * STEPS), steps(z_.l - c * STEPS < STEPS ? z_.l - c * STEPS : STEPS) {}

    __device__ A rate(u32 s) const { return -exp_(own[s]); }
    __device__ A skip() const { return own[z.n]; }
    __device__ A bias() const { return own[z.n + 1]; }
    // Of the i-th step: its position, its row in (B L), where its raw step size is, and that with bias and softplus.
    __device__ u64 position(u32 i) const { return orders[k * z.l + first + i]; }
    __device__ u64 row(u32 i) const { return b * z.l + position(i); }
    __device__ u64 at(u32 i) const { return (k * z.b * z.l + row(i)) * z.d + d; }
    __device__ A dt(u32 i) const { return softplus(raw[at(i)] + bias()); }
};

// Where the s-th state of a chunk is in (B, K, chunks, N, D).
__device__ inline u64 state_at(Scan z, u64 b, u64 k, u32 c, u32 s, u64 d) {
    return (((b * z.k + k) * z.chunks() + c) * z.n + s) * z.d + d;
}

// A thread a chunk and channel: what the chunk alone adds to the states behind it, ends (B, K, chunks, N, D), and the sum of its step
// sizes, spans (B, K, chunks, D). u (B, L, D), raw (K, B L, D): steps before bias and softplus, projected (B, L, K Q): step input,
// B, C; parameters (K D, P): step weights, log -A, skip, bias; orders (K, L).
template <class A>
__device__ void scan_ends(const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders, A* ends,
                          A* spans, Scan z) {
    for (u64 t = first_item(); t < u64(z.b) * z.k * z.chunks() * z.d; t += item_stride()) {
        u64 d = t % z.d, c = t / z.d % z.chunks(), k = t / z.d / z.chunks() % z.k, b = t / z.d / z.chunks() / z.k;
        Chunk<A> chunk(raw, parameters, orders, z, b, k, d, u32(c));
        A h[MAX_STATES], a[MAX_STATES], span = 0;
        for (u32 s = 0; s < z.n; ++s) {
            h[s] = 0;
            a[s] = chunk.rate(s);
        }
        for (u32 i = 0; i < chunk.steps; ++i) {
            u64 row = chunk.row(i);
            A dt = chunk.dt(i), v = u[row * z.d + d];
            const A* bc = projected + (row * z.k + k) * z.q() + z.r;
            for (u32 s = 0; s < z.n; ++s) h[s] = exp_(dt * a[s]) * h[s] + dt * v * bc[s];
            span += dt;
        }
        for (u32 s = 0; s < z.n; ++s) ends[state_at(z, b, k, u32(c), s, d)] = h[s];
        spans[t] = span;
    }
}

// The same backwards: what a chunk alone adds to the gradient of the states before it.
template <class A>
__device__ void scan_begins(const A* raw, const A* projected, const A* parameters, const u32* orders, const A* dy, A* begins,
                            A* spans, Scan z) {
    for (u64 t = first_item(); t < u64(z.b) * z.k * z.chunks() * z.d; t += item_stride()) {
        u64 d = t % z.d, c = t / z.d % z.chunks(), k = t / z.d / z.chunks() % z.k, b = t / z.d / z.chunks() / z.k;
        Chunk<A> chunk(raw, parameters, orders, z, b, k, d, u32(c));
        A g[MAX_STATES], a[MAX_STATES], span = 0;
        for (u32 s = 0; s < z.n; ++s) {
            g[s] = 0;
            a[s] = chunk.rate(s);
        }
        for (u32 i = chunk.steps; i-- > 0;) {
            u64 row = chunk.row(i);
            A dt = chunk.dt(i), grad = dy[row * z.d + d];
            const A* bc = projected + (row * z.k + k) * z.q() + z.r;
            for (u32 s = 0; s < z.n; ++s) g[s] = (g[s] + bc[z.n + s] * grad) * exp_(dt * a[s]);
            span += dt;
        }
        for (u32 s = 0; s < z.n; ++s) begins[state_at(z, b, k, u32(c), s, d)] = g[s];
        spans[t] = span;
    }
}

// A thread a state and channel, from chunk to chunk in either direction: what a chunk adds becomes what it is entered with.
template <class A>
__device__ void scan_carry(const A* parameters, const A* spans, A* states, u32 backwards, Scan z) {
    for (u64 t = first_item(); t < u64(z.b) * z.k * z.n * z.d; t += item_stride()) {
        u64 d = t % z.d, s = t / z.d % z.n, k = t / z.d / z.n % z.k, b = t / z.d / z.n / z.k;
        A a = -exp_(parameters[(k * z.d + d) * z.p() + z.r + s]), carried = 0;
        for (u32 i = 0; i < z.chunks(); ++i) {
            u32 c = backwards ? z.chunks() - 1 - i : i;
            u64 at = state_at(z, b, k, c, u32(s), d);
            A added = states[at];
            states[at] = carried;
            carried = exp_(a * spans[((b * z.k + k) * z.chunks() + c) * z.d + d]) * carried + added;
        }
    }
}

// A thread a chunk and channel. y (B, K, L, D) in the map's order; states (B, K, chunks, N, D) at the start of every chunk.
template <class A>
__device__ void scan_forward(const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,
                             const A* states, A* y, Scan z) {
    for (u64 t = first_item(); t < u64(z.b) * z.k * z.chunks() * z.d; t += item_stride()) {
        u64 d = t % z.d, c = t / z.d % z.chunks(), k = t / z.d / z.chunks() % z.k, b = t / z.d / z.chunks() / z.k;
        Chunk<A> chunk(raw, parameters, orders, z, b, k, d, u32(c));
        A a[MAX_STATES], h[MAX_STATES];
        for (u32 s = 0; s < z.n; ++s) {
            a[s] = chunk.rate(s);
            h[s] = states[state_at(z, b, k, u32(c), s, d)];
        }
        for (u32 i = 0; i < chunk.steps; ++i) {
            u64 row = chunk.row(i);
            A dt = chunk.dt(i), v = u[row * z.d + d], sum = chunk.skip() * v;
            const A* bc = projected + (row * z.k + k) * z.q() + z.r;
            for (u32 s = 0; s < z.n; ++s) {
                h[s] = exp_(dt * a[s]) * h[s] + dt * v * bc[s];
                sum += bc[z.n + s] * h[s];
            }
            y[((b * z.k + k) * z.l + chunk.position(i)) * z.d + d] = sum;
        }
    }
}

// A warp a chunk and 32 channels, states recomputed from the stored ones; grads (B, K, chunks, N, D) of the states behind every
// chunk. du (B, K, L, D) and draw (K, B L, D) in the map's order; shares (B, blocks, L, K 2N) of dB and dC; tables
// (B, chunks, K D, N + 2): gradients of log -A, skip, bias. Added up by sum_parts.
template <class A>
__device__ void scan_backward(const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,
                              const A* states, const A* grads, const A* dy, A* du, A* draw, A* shares, A* tables, Scan z) {
    u32 blocks = (z.d + WARP - 1) / WARP;
    for (u64 w = first_row(); w < u64(z.b) * z.k * z.chunks() * blocks; w += row_stride()) {
        u64 block = w % blocks, c = w / blocks % z.chunks(), k = w / blocks / z.chunks() % z.k;
        u64 b = w / blocks / z.chunks() / z.k, d = block * WARP + lane();
        bool inside = d < z.d;
        if (!inside) d = z.d - 1;  // a lane without a channel repeats the last one and adds nothing
        Chunk<A> chunk(raw, parameters, orders, z, b, k, d, u32(c));
        A* table = tables + ((b * z.chunks() + c) * z.k * z.d + k * z.d + d) * (z.n + 2);
        A dt[STEPS], du_[STEPS], ddt[STEPS], h[STEPS + 1], dskip = 0, dbias = 0;
        for (u32 i = 0; i < chunk.steps; ++i) {
            dt[i] = chunk.dt(i);
            du_[i] = chunk.skip() * (inside ? dy[chunk.row(i) * z.d + d] : A(0));
            ddt[i] = 0;
        }
        // As on the CPU, sums over steps run from the last to the first.
        for (u32 i = chunk.steps; i-- > 0;) {
            u64 row = chunk.row(i);
            dskip += u[row * z.d + d] * (inside ? dy[row * z.d + d] : A(0));
        }
        for (u32 s = 0; s < z.n; ++s) {
            A a = chunk.rate(s), da = 0, g = inside ? grads[state_at(z, b, k, u32(c), s, d)] : A(0);
            h[0] = states[state_at(z, b, k, u32(c), s, d)];
            for (u32 i = 0; i < chunk.steps; ++i) {
                u64 row = chunk.row(i);
                A share = dt[i] * u[row * z.d + d] * projected[(row * z.k + k) * z.q() + z.r + s];
                h[i + 1] = exp_(dt[i] * a) * h[i] + share;
            }
            for (u32 i = chunk.steps; i-- > 0;) {
                u64 position = chunk.position(i), row = chunk.row(i);
                const A* bc = projected + (row * z.k + k) * z.q() + z.r;
                A grad = inside ? dy[row * z.d + d] : A(0), v = u[row * z.d + d];
                A dc = warp_sum(h[i + 1] * grad);
                g += bc[z.n + s] * grad;
                A db = warp_sum(g * (dt[i] * v));
                A carried = g * exp_(dt[i] * a), through = carried * h[i];
                du_[i] += g * dt[i] * bc[s];
                ddt[i] += g * v * bc[s] + through * a;
                da += through * dt[i];
                g = carried;
                if (lane() == 0) {
                    A* share = shares + (((b * blocks + block) * z.l + position) * z.k + k) * 2 * z.n;
                    share[s] = db;
                    share[z.n + s] = dc;
                }
            }
            if (inside) table[s] = da * a;
        }
        for (u32 i = chunk.steps; i-- > 0;) {
            A slope = ddt[i] * sigmoid(raw[chunk.at(i)] + chunk.bias());
            dbias += slope;
            if (inside) {
                draw[chunk.at(i)] = slope;
                du[((b * z.k + k) * z.l + chunk.position(i)) * z.d + d] = du_[i];
            }
        }
        if (inside) {
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

#define SIZES u32 b, u32 l, u32 d, u32 k, u32 n, u32 r
#define SCANS(S, A)                                                                                                    \
    KERNEL(scan_ends_##S, (const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,       \
                           A* ends, A* spans, SIZES)) {                                                                \
        scan_ends(u, raw, projected, parameters, orders, ends, spans, Scan{b, l, d, k, n, r});                         \
    }                                                                                                                  \
    KERNEL(scan_begins_##S, (const A* raw, const A* projected, const A* parameters, const u32* orders, const A* dy,    \
                             A* begins, A* spans, SIZES)) {                                                            \
        scan_begins(raw, projected, parameters, orders, dy, begins, spans, Scan{b, l, d, k, n, r});                    \
    }                                                                                                                  \
    KERNEL(scan_carry_##S, (const A* parameters, const A* spans, A* states, u32 backwards, SIZES)) {                   \
        scan_carry(parameters, spans, states, backwards, Scan{b, l, d, k, n, r});                                      \
    }                                                                                                                  \
    KERNEL(scan_forward_##S, (const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,    \
                              const A* states, A* y, SIZES)) {                                                         \
        scan_forward(u, raw, projected, parameters, orders, states, y, Scan{b, l, d, k, n, r});                        \
    }                                                                                                                  \
    KERNEL(scan_backward_##S, (const A* u, const A* raw, const A* projected, const A* parameters, const u32* orders,   \
                               const A* states, const A* grads, const A* dy, A* du, A* draw, A* shares, A* tables,     \
                               SIZES)) {                                                                               \
        scan_backward(u, raw, projected, parameters, orders, states, grads, dy, du, draw, shares, tables,              \
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
