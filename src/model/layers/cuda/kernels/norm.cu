// LayerNorm and RMSNorm over the last axis: a warp a row.
#include "common.cuh"

// y = (x - mean) * rstd * w + b; stats (rows, 2): mean and 1/sqrt(var + eps), variance biased.
template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm(const X* x, const A* w, const A* b, Y* y, A* stats, u64 rows, u32 d, double eps) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        const X* row = x + r * d;
        A sum = 0;
        for (u32 i = lane(); i < d; i += WARP) sum += get(row[i]);
        A mean = warp_sum(sum) / A(d);
        A squares = 0;
        for (u32 i = lane(); i < d; i += WARP) {
            A c = get(row[i]) - mean;
            squares += c * c;
        }
        A rstd = A(1) / sqrt_(warp_sum(squares) / A(d) + A(eps));
        for (u32 i = lane(); i < d; i += WARP) put(y + r * d + i, (get(row[i]) - mean) * rstd * w[i] + b[i]);
        if (lane() == 0) {
            stats[2 * r] = mean;
            stats[2 * r + 1] = rstd;
        }
    }
}

template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm_dx(const X* x, const A* w, const A* stats, const Y* dy, X* dx, u64 rows, u32 d) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        A mean = stats[2 * r], rstd = stats[2 * r + 1];
        A a = 0, c = 0;
        for (u32 i = lane(); i < d; i += WARP) {
            A g = get(dy[r * d + i]) * w[i];
            a += g;
            c += g * ((get(x[r * d + i]) - mean) * rstd);
        }
        a = warp_sum(a) / A(d);
        c = warp_sum(c) / A(d);
        for (u32 i = lane(); i < d; i += WARP) {
            A g = get(dy[r * d + i]) * w[i];
            put(dx + r * d + i, rstd * (g - a - (get(x[r * d + i]) - mean) * rstd * c));
        }
    }
}

// Sums over blocks of rows, (blocks, 2, d): dw and db. Added up by sum_parts.
template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm_dparams(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    for (u64 t = first_item(); t < u64(blocks) * d; t += item_stride()) {
        u64 block = t / d, i = t % d;
        RowRange range = row_block(rows, blocks, block);
        A dw = 0, db = 0;
        for (u64 r = range.begin; r < range.end; ++r) {
            A g = get(dy[r * d + i]);
            dw += g * ((get(x[r * d + i]) - stats[2 * r]) * stats[2 * r + 1]);
            db += g;
        }
        parts[(block * 2) * d + i] = dw;
        parts[(block * 2 + 1) * d + i] = db;
    }
}

// y = x * r * w, r = 1/sqrt(mean(x^2) + eps); stats (rows): r.
template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm(const X* x, const A* w, Y* y, A* stats, u64 rows, u32 d, double eps) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        A squares = 0;
        for (u32 i = lane(); i < d; i += WARP) {
            A v = get(x[r * d + i]);
            squares += v * v;
        }
        A rms = A(1) / sqrt_(warp_sum(squares) / A(d) + A(eps));
        for (u32 i = lane(); i < d; i += WARP) put(y + r * d + i, get(x[r * d + i]) * rms * w[i]);
        if (lane() == 0) stats[r] = rms;
    }
}

template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm_dx(const X* x, const A* w, const A* stats, const Y* dy, X* dx, u64 rows, u32 d) {
    for (u64 r = first_row(); r < rows; r += row_stride()) {
        A rms = stats[r], c = 0;
        for (u32 i = lane(); i < d; i += WARP) c += get(dy[r * d + i]) * w[i] * get(x[r * d + i]);
        c = warp_sum(c) / A(d) * rms * rms;
        for (u32 i = lane(); i < d; i += WARP)
            put(dx + r * d + i, rms * (get(dy[r * d + i]) * w[i] - get(x[r * d + i]) * c));
    }
}

// Sums over blocks of rows, (blocks, d).
template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm_dparams(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    for (u64 t = first_item(); t < u64(blocks) * d; t += item_stride()) {
        u64 block = t / d, i = t % d;
        RowRange range = row_block(rows, blocks, block);
        A dw = 0;
        for (u64 r = range.begin; r < range.end; ++r) dw += get(dy[r * d + i]) * (get(x[r * d + i]) * stats[r]);
        parts[t] = dw;
    }
}

#define NORMS(S, X, Y)                                                                                                \
    KERNEL(layer_norm_##S, (const X* x, const Acc<X>* w, const Acc<X>* b, Y* y, Acc<X>* stats, u64 rows, u32 d,       \
                            double eps)) {                                                                            \
        layer_norm(x, w, b, y, stats, rows, d, eps);                                                                  \
    }                                                                                                                 \
    KERNEL(layer_norm_dx_##S,                                                                                         \
           (const X* x, const Acc<X>* w, const Acc<X>* stats, const Y* dy, X* dx, u64 rows, u32 d)) {                 \
        layer_norm_dx(x, w, stats, dy, dx, rows, d);                                                                  \
    }                                                                                                                 \
    KERNEL(layer_norm_dparams_##S,                                                                                    \
           (const X* x, const Acc<X>* stats, const Y* dy, Acc<X>* parts, u64 rows, u32 d, u32 blocks)) {              \
        layer_norm_dparams(x, stats, dy, parts, rows, d, blocks);                                                     \
    }                                                                                                                 \
    KERNEL(rms_norm_##S, (const X* x, const Acc<X>* w, Y* y, Acc<X>* stats, u64 rows, u32 d, double eps)) {           \
        rms_norm(x, w, y, stats, rows, d, eps);                                                                       \
    }                                                                                                                 \
    KERNEL(rms_norm_dx_##S,                                                                                           \
           (const X* x, const Acc<X>* w, const Acc<X>* stats, const Y* dy, X* dx, u64 rows, u32 d)) {                 \
        rms_norm_dx(x, w, stats, dy, dx, rows, d);                                                                    \
    }                                                                                                                 \
    KERNEL(rms_norm_dparams_##S,                                                                                      \
           (const X* x, const Acc<X>* stats, const Y* dy, Acc<X>* parts, u64 rows, u32 d, u32 blocks)) {              \
        rms_norm_dparams(x, stats, dy, parts, rows, d, blocks);                                                       \
    }

NORMS(f32_f32, float, float)
NORMS(f64_f64, double, double)
NORMS(f32_bf16, float, bf16)
NORMS(f32_f16, float, half_t)
NORMS(bf16_bf16, bf16, bf16)
NORMS(f16_f16, half_t, half_t)
