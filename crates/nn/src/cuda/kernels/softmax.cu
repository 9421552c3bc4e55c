// Softmax of scaled scores, a warp a row, and the loss over logits.
#include "common.cuh"

// p = softmax(scale * s) along rows of length n, in place.
template <class A>
__device__ void softmax(A* s, u64 rows, u32 n, double scale) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        A* row = s + r * n;
        A max = -INFINITY;
        for (u32 i = lane(); i < n; i += WARP) {
            A v = row[i] * A(scale);
            max = v > max ? v : max;
        }
        max = warp_max(max);
        A sum = 0;
        for (u32 i = lane(); i < n; i += WARP) sum += exp_(row[i] * A(scale) - max);
        A inv = A(1) / warp_sum(sum);
        for (u32 i = lane(); i < n; i += WARP) row[i] = exp_(row[i] * A(scale) - max) * inv;
    }
}

// dp becomes ds = scale * p * (dp - <p, dp>).
template <class A>
__device__ void softmax_grad(const A* p, A* dp, u64 rows, u32 n, double scale) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        A dot = 0;
        for (u32 i = lane(); i < n; i += WARP) dot += p[r * n + i] * dp[r * n + i];
        dot = warp_sum(dot);
        for (u32 i = lane(); i < n; i += WARP) dp[r * n + i] = A(scale) * p[r * n + i] * (dp[r * n + i] - dot);
    }
}

// losses (rows): -log softmax(x)[class]; dx: its gradient divided by the number of rows.
template <class A>
__device__ void cross_entropy(const A* x, const u32* classes, A* losses, A* dx, u64 rows, u32 n) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        const A* row = x + r * n;
        A max = -INFINITY;
        for (u32 i = lane(); i < n; i += WARP) max = row[i] > max ? row[i] : max;
        max = warp_max(max);
        A sum = 0;
        for (u32 i = lane(); i < n; i += WARP) sum += exp_(row[i] - max);
        sum = warp_sum(sum);
        u32 own = classes[r];
        for (u32 i = lane(); i < n; i += WARP)
            dx[r * n + i] = (exp_(row[i] - max) / sum - (i == own ? A(1) : A(0))) / A(rows);
        if (lane() == 0) losses[r] = log_(sum) + max - row[own];
    }
}

// losses (n): max(x, 0) - x y + ln(1 + e^-|x|); dx: (sigmoid(x) - y) / n.
template <class A>
__device__ void bce_with_logits(const A* x, const A* y, A* losses, A* dx, u64 n) {
    for (u64 i = first_item(); i < n; i += item_stride()) {
        A v = x[i], small = exp_(v > 0 ? -v : v);
        losses[i] = (v > 0 ? v : A(0)) - v * y[i] + log1p_(small);
        A s = (v > 0 ? A(1) : small) / (A(1) + small);
        dx[i] = (s - y[i]) / A(n);
    }
}

// mean (1) of n values; one block of SUM_THREADS threads.
template <class A>
__device__ void mean(const A* x, A* out, u64 n) {
    if (blockIdx.x != 0) return;
    A sum = 0;
    for (u64 i = threadIdx.x; i < n; i += SUM_THREADS) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum / A(n);
}

#define SOFTMAX(S, A)                                                              \
    KERNEL(softmax_##S, (A * s, u64 rows, u32 n, double scale)) {                  \
        softmax(s, rows, n, scale);                                                \
    }                                                                              \
    KERNEL(softmax_grad_##S, (const A* p, A* dp, u64 rows, u32 n, double scale)) { \
        softmax_grad(p, dp, rows, n, scale);                                       \
    }

SOFTMAX(f32, float)
SOFTMAX(f64, double)

#define LOSSES(S, A)                                                                                    \
    KERNEL(cross_entropy_##S, (const A* x, const u32* classes, A* losses, A* dx, u64 rows, u32 n)) {    \
        cross_entropy(x, classes, losses, dx, rows, n);                                                 \
    }                                                                                                   \
    KERNEL(bce_with_logits_##S, (const A* x, const A* y, A* losses, A* dx, u64 n)) {                    \
        bce_with_logits(x, y, losses, dx, n);                                                           \
    }                                                                                                   \
    KERNEL(mean_##S, (const A* x, A* out, u64 n)) { mean(x, out, n); }

LOSSES(f32, float)
LOSSES(f64, double)
