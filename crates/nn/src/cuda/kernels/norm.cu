// LayerNorm and RMSNorm over the last axis: a warp a row, or two narrow rows at once.
#include "pack.cuh"

// How a warp has rows: R rows at once, of which lane l has the packs l, l + 32, ... of N elements. They stay in registers, U packs
// a lane and row; with U = 0 they are read again in every pass.
template <u32 N_, u32 U_, u32 R_>
struct Rows {
    static constexpr u32 N = N_, U = U_, R = R_;
};

// Calls f(Rows) for rows of d elements; launch.rs counts on the number of rows.
template <u32 N, class F>
__device__ void by_width(u32 d, bool vector, F f) {
    if constexpr (N > 2) {
        if (vector && d <= 2 * WARP * N) return f(Rows<N, 2, 2>());
        if (vector && d <= 8 * WARP * N) return f(Rows<N, 8, 1>());
    }
    f(Rows<N, 0, 1>());
}

template <class T, class S>
struct Row {
    const T* p;
    Tile<T, S::N, larger(S::U, 1)> held;

    // The first d elements from p on; d = 0: no row, its elements are 0.
    __device__ void open(const T* from, u32 d) {
        p = from;
        u32 first = lane() * S::N;
        if constexpr (S::U > 0) held.load(p + first, WARP * S::N, d > first ? d - first : 0);
    }

    // This lane's u-th pack, which begins at the i-th of d elements.
    __device__ Tile<T, S::N> pack(u32 u, u32 i, u32 d, bool vector) const {
        Tile<T, S::N> one;
        if constexpr (S::U > 0) {
            memcpy(one.v[0], held.v[u], sizeof one.v[0]);
        } else {
            one.load(p + i, 0, d - i, vector);
        }
        return one;
    }
};

// Calls f(u, i, count) for this lane's packs of a row: the u-th begins at the i-th element and has `count` elements.
template <class S, class F>
__device__ void each_pack(u32 d, F f) {
    if constexpr (S::U > 0) {
#pragma unroll
        for (u32 u = 0; u < S::U; ++u) {
            u32 i = (u * WARP + lane()) * S::N;
            if (i < d) f(u, i, S::N);
        }
    } else {
#pragma unroll 1
        for (u32 i = lane() * S::N; i < d; i += WARP * S::N) f(0, i, d - i < S::N ? d - i : S::N);
    }
}

// Sums over a warp, of several values side by side.
template <class A, u32 R>
__device__ void warp_sums(A (&v)[R]) {
    for (int d = WARP / 2; d > 0; d /= 2) {
#pragma unroll
        for (u32 r = 0; r < R; ++r) v[r] += __shfl_xor_sync(0xffffffffu, v[r], d);
    }
}

// Calls f(first, count) for all groups of R rows of this warp.
template <u32 R, class F>
__device__ void each_rows(u64 rows, F f) {
    for (u64 first = first_row() * R; first < rows; first += row_stride() * R)
        f(first, rows - first < R ? u32(rows - first) : R);
}

// y = (x - mean) * rstd * w + b; stats (rows, 2): mean and 1/sqrt(var + eps), variance biased.
template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm(const X* x, const A* w, const A* b, Y* y, A* stats, u64 rows, u32 d, double eps) {
    constexpr u32 N = pack<X, Y>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(w) && fits<N>(b) && fits<N>(y);
    by_width<N>(d, vector, [&](auto s) {
        using S = decltype(s);
        each_rows<S::R>(rows, [&](u64 first, u32 count) {
            Row<X, S> row[S::R];
            A mean[S::R] = {}, rstd[S::R] = {};
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) row[r].open(x + (first + r) * d, r < count ? d : 0);
            each_pack<S>(d, [&](u32 u, u32 i, u32 n) {
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
#pragma unroll
                    for (u32 e = 0; e < N; ++e) mean[r] += get(v.v[0][e]);
                }
            });
            warp_sums(mean);
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) mean[r] /= A(d);
            each_pack<S>(d, [&](u32 u, u32 i, u32 n) {
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
#pragma unroll
                    for (u32 e = 0; e < N; ++e) {
                        A c = get(v.v[0][e]) - mean[r];
                        if (e < n) rstd[r] += c * c;
                    }
                }
            });
            warp_sums(rstd);
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) {
                rstd[r] = A(1) / sqrt_(rstd[r] / A(d) + A(eps));
                if (lane() == 0 && r < count) {
                    stats[2 * (first + r)] = mean[r];
                    stats[2 * (first + r) + 1] = rstd[r];
                }
            }
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
                Tile<A, N> scale, shift;
                scale.load(w + i, 0, d - i, vector);
                shift.load(b + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
                    auto f = [&](A v, A w, A b) { return (v - mean[r]) * rstd[r] * w + b; };
                    apply<Y>(f, v, scale, shift).store(y + (first + r) * d + i, 0, r < count ? d - i : 0, vector);
                }
            });
        });
    });
}

template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm_dx(const X* x, const A* w, const A* stats, const Y* dy, X* dx, u64 rows, u32 d) {
    constexpr u32 N = pack<X, Y>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(w) && fits<N>(dy) && fits<N>(dx);
    by_width<N>(d, vector, [&](auto s) {
        using S = decltype(s);
        each_rows<S::R>(rows, [&](u64 first, u32 count) {
            Row<X, S> row[S::R];
            Row<Y, S> grad[S::R];
            A mean[S::R], rstd[S::R], a[S::R] = {}, c[S::R] = {};
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) {
                row[r].open(x + (first + r) * d, r < count ? d : 0);
                grad[r].open(dy + (first + r) * d, r < count ? d : 0);
                mean[r] = r < count ? stats[2 * (first + r)] : A(0);
                rstd[r] = r < count ? stats[2 * (first + r) + 1] : A(0);
            }
            each_pack<S>(d, [&](u32 u, u32 i, u32 n) {
                Tile<A, N> scale;
                scale.load(w + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
                    auto g = grad[r].pack(u, i, d, vector);
#pragma unroll
                    for (u32 e = 0; e < N; ++e) {
                        A by_norm = get(g.v[0][e]) * scale.v[0][e];
                        a[r] += by_norm;
                        if (e < n) c[r] += by_norm * ((get(v.v[0][e]) - mean[r]) * rstd[r]);
                    }
                }
            });
            warp_sums(a);
            warp_sums(c);
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) {
                a[r] /= A(d);
                c[r] /= A(d);
            }
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
                Tile<A, N> scale;
                scale.load(w + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto f = [&](A g, A v, A w) { return rstd[r] * (g * w - a[r] - (v - mean[r]) * rstd[r] * c[r]); };
                    apply<X>(f, grad[r].pack(u, i, d, vector), row[r].pack(u, i, d, vector), scale)
                        .store(dx + (first + r) * d + i, 0, r < count ? d - i : 0, vector);
                }
            });
        });
    });
}

// y = x * r * w, r = 1/sqrt(mean(x^2) + eps); stats (rows): r.
template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm(const X* x, const A* w, Y* y, A* stats, u64 rows, u32 d, double eps) {
    constexpr u32 N = pack<X, Y>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(w) && fits<N>(y);
    by_width<N>(d, vector, [&](auto s) {
        using S = decltype(s);
        each_rows<S::R>(rows, [&](u64 first, u32 count) {
            Row<X, S> row[S::R];
            A rms[S::R] = {};
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) row[r].open(x + (first + r) * d, r < count ? d : 0);
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
#pragma unroll
                    for (u32 e = 0; e < N; ++e) rms[r] += get(v.v[0][e]) * get(v.v[0][e]);
                }
            });
            warp_sums(rms);
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) {
                rms[r] = A(1) / sqrt_(rms[r] / A(d) + A(eps));
                if (lane() == 0 && r < count) stats[first + r] = rms[r];
            }
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
                Tile<A, N> scale;
                scale.load(w + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto f = [&](A v, A w) { return v * rms[r] * w; };
                    apply<Y>(f, row[r].pack(u, i, d, vector), scale)
                        .store(y + (first + r) * d + i, 0, r < count ? d - i : 0, vector);
                }
            });
        });
    });
}

template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm_dx(const X* x, const A* w, const A* stats, const Y* dy, X* dx, u64 rows, u32 d) {
    constexpr u32 N = pack<X, Y>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(w) && fits<N>(dy) && fits<N>(dx);
    by_width<N>(d, vector, [&](auto s) {
        using S = decltype(s);
        each_rows<S::R>(rows, [&](u64 first, u32 count) {
            Row<X, S> row[S::R];
            Row<Y, S> grad[S::R];
            A rms[S::R], c[S::R] = {};
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) {
                row[r].open(x + (first + r) * d, r < count ? d : 0);
                grad[r].open(dy + (first + r) * d, r < count ? d : 0);
                rms[r] = r < count ? stats[first + r] : A(0);
            }
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
                Tile<A, N> scale;
                scale.load(w + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto v = row[r].pack(u, i, d, vector);
                    auto g = grad[r].pack(u, i, d, vector);
#pragma unroll
                    for (u32 e = 0; e < N; ++e) c[r] += get(g.v[0][e]) * scale.v[0][e] * get(v.v[0][e]);
                }
            });
            warp_sums(c);
#pragma unroll
            for (u32 r = 0; r < S::R; ++r) c[r] = c[r] / A(d) * rms[r] * rms[r];
            each_pack<S>(d, [&](u32 u, u32 i, u32) {
                Tile<A, N> scale;
                scale.load(w + i, 0, d - i, vector);
#pragma unroll
                for (u32 r = 0; r < S::R; ++r) {
                    auto f = [&](A g, A v, A w) { return rms[r] * (g * w - v * c[r]); };
                    apply<X>(f, grad[r].pack(u, i, d, vector), row[r].pack(u, i, d, vector), scale)
                        .store(dx + (first + r) * d + i, 0, r < count ? d - i : 0, vector);
                }
            });
        });
    });
}

// Sums over blocks of rows, (blocks, 2, d): dw and db.
template <u32 N, class X, class Y, class A>
__device__ void layer_norm_sums(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    column_parts<N, 2>(parts, rows, d, blocks, [&](auto& sums, u64 r, u32 i, u64 left) {
        Tile<X, N, ROWS> v;
        Tile<Y, N, ROWS> g;
        Tile<A, 1, 2 * ROWS> own;
        v.load(x + r * d + i, d, left * d);
        g.load(dy + r * d + i, d, left * d);
        own.load(stats + 2 * r, 1, 2 * left);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) {
                A by_y = get(g.v[u][e]);
                sums[0][e] += by_y * ((get(v.v[u][e]) - own.v[2 * u][0]) * own.v[2 * u + 1][0]);
                sums[1][e] += by_y;
            }
        }
    });
}

template <class X, class Y, class A = Acc<X>>
__device__ void layer_norm_dparams(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    constexpr u32 N = pack<A>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(dy) && fits<N>(parts);
    vector ? layer_norm_sums<N>(x, stats, dy, parts, rows, d, blocks)
           : layer_norm_sums<1>(x, stats, dy, parts, rows, d, blocks);
}

// Sums over blocks of rows, (blocks, d).
template <u32 N, class X, class Y, class A>
__device__ void rms_norm_sums(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    column_parts<N, 1>(parts, rows, d, blocks, [&](auto& sums, u64 r, u32 i, u64 left) {
        Tile<X, N, ROWS> v;
        Tile<Y, N, ROWS> g;
        Tile<A, 1, ROWS> own;
        v.load(x + r * d + i, d, left * d);
        g.load(dy + r * d + i, d, left * d);
        own.load(stats + r, 1, left);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) sums[0][e] += get(g.v[u][e]) * (get(v.v[u][e]) * own.v[u][0]);
        }
    });
}

template <class X, class Y, class A = Acc<X>>
__device__ void rms_norm_dparams(const X* x, const A* stats, const Y* dy, A* parts, u64 rows, u32 d, u32 blocks) {
    constexpr u32 N = pack<A>();
    bool vector = d % N == 0 && fits<N>(x) && fits<N>(dy) && fits<N>(parts);
    vector ? rms_norm_sums<N>(x, stats, dy, parts, rows, d, blocks) : rms_norm_sums<1>(x, stats, dy, parts, rows, d, blocks);
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
