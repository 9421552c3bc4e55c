// LayerNorm and RMSNorm over the last axis: forward a warp a row, or two narrow rows at once; backward a team of warps a row.
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

// How a block has rows: teams of T threads, each with R rows at once, of which thread t has the packs t, t + T, ... of N elements. They
// stay in registers, U packs a thread and row; with U = 0 they are read again.
template <u32 N_, u32 U_, u32 T_, u32 R_>
struct Teams {
    static constexpr u32 N = N_, U = U_, T = T_, R = R_;
};

// Calls f(Teams) for rows of d elements. Which follows from d alone: it is the order of sums.
template <u32 N, class F>
__device__ void by_team(u32 d, F f) {
    u32 packs = d / N;
    if (d % N != 0) return d <= WARP ? f(Teams<1, 1, WARP, 2>()) : f(Teams<1, 0, SUM_THREADS, 1>());
    if (packs <= WARP) return f(Teams<N, 1, WARP, 2>());
    if (packs <= 2 * WARP) return f(Teams<N, 1, 2 * WARP, 2>());
    if (packs <= 4 * WARP) return f(Teams<N, 1, 4 * WARP, 2>());
    if (packs <= SUM_THREADS) return f(Teams<N, 1, SUM_THREADS, 2>());
    if (packs <= 2 * SUM_THREADS) return f(Teams<N, 2, SUM_THREADS, 1>());
    f(Teams<N, 0, SUM_THREADS, 1>());
}

// A thread's part of a row of d elements; where the row is not inside, its elements are 0.
template <class T, class S>
struct Part {
    const T* p;
    bool inside, vector;
    Tile<T, S::N, larger(S::U, 1)> held;

    __device__ void open(const T* row, u32 d, bool is_inside, bool is_vector) {
        p = row;
        inside = is_inside;
        vector = is_vector;
        u32 first = threadIdx.x % S::T * S::N;
        if constexpr (S::U > 0) held.load(p + first, S::T * S::N, inside && d > first ? d - first : 0, vector);
    }

    // The u-th pack, which begins at the i-th element.
    __device__ Tile<T, S::N> pack(u32 u, u32 i) const {
        Tile<T, S::N> one;
        if constexpr (S::U > 0) {
            memcpy(one.v[0], held.v[u], sizeof one.v[0]);
        } else {
            one.load(p + i, 0, inside ? S::N : 0, vector);
        }
        return one;
    }
};

// Calls f(u, i) for this thread's packs of a row of d elements: the u-th begins at the i-th.
template <class S, class F>
__device__ void each_part(u32 d, F f) {
    u32 first = threadIdx.x % S::T * S::N;
    if constexpr (S::U > 0) {
#pragma unroll
        for (u32 u = 0; u < S::U; ++u) {
            u32 i = first + u * S::T * S::N;
            if (i < d) f(u, i);
        }
    } else {
#pragma unroll 1
        for (u32 i = first; i < d; i += S::T * S::N) f(0, i);
    }
}

// Sums over a team of T threads; every thread of a team gets its own.
template <u32 T, class A, u32 R>
__device__ void team_sums(A (&v)[R]) {
    warp_sums(v);
    if constexpr (T > WARP) {
        __shared__ A warps[SUM_THREADS / WARP][R];
        __syncthreads();  // the array may still be read by an earlier sum
        if (lane() == 0) {
#pragma unroll
            for (u32 r = 0; r < R; ++r) warps[threadIdx.x / WARP][r] = v[r];
        }
        __syncthreads();
        u32 first = threadIdx.x / T * (T / WARP);
#pragma unroll
        for (u32 r = 0; r < R; ++r) {
            v[r] = warps[first][r];
            for (u32 i = 1; i < T / WARP; ++i) v[r] += warps[first + i][r];
        }
    }
}

// COUNT values of every thread of a block; one array for all forms of a kernel.
template <class A, u32 COUNT>
__device__ A* exchange() {
    __shared__ A all[COUNT * SUM_THREADS];
    return all;
}

// The whole backward pass in one: dx, with `onto` added, and the parameters' sums over blocks of rows, parts (blocks, SUMS, d), of
// dy * normalised and, of LayerNorm, of dy; sum_parts adds them up. `copy` is dx in dy's type. Null: dx, copy and parts where they
// are not wanted, onto where there is nothing. SUM_THREADS threads a block.
template <bool LAYER, class X, class Y, class A = Acc<X>>
__device__ void norm_backward(const X* x, const A* w, const A* stats, const Y* dy, const X* onto, X* dx, Y* copy, A* parts,
                              u64 rows, u32 d, u32 blocks) {
    constexpr u32 WIDE = pack<X, Y>(), SUMS = LAYER ? 2 : 1;
    bool vector = fits<WIDE>(x) && fits<WIDE>(w) && fits<WIDE>(dy) && fits<WIDE>(onto) && fits<WIDE>(dx) &&
                  fits<WIDE>(copy) && fits<WIDE>(parts);
    by_team<WIDE>(d, [&](auto s) {
        using S = decltype(s);
        constexpr u32 N = S::N, R = S::R, TEAMS = SUM_THREADS / S::T;
        u32 team = threadIdx.x / S::T;
        for (u64 block = blockIdx.x; block < blocks; block += gridDim.x) {
            RowRange range = row_block(rows, blocks, block);
            A* out = parts + block * SUMS * d;
            Tile<A, N, larger(S::U, 1)> sums[SUMS];
            for (u32 k = 0; k < SUMS; ++k) sums[k].clear();
            for (u64 first = range.begin; first < range.end; first += TEAMS * R) {
                Part<X, S> row[R];
                Part<Y, S> grad[R];
                A mean[R], scale[R], both[2 * R] = {};
#pragma unroll
                for (u32 r = 0; r < R; ++r) {
                    u64 at = first + team * R + r;
                    bool inside = at < range.end;
                    row[r].open(x + at * d, d, inside, vector);
                    grad[r].open(dy + at * d, d, inside, vector);
                    mean[r] = LAYER && inside ? stats[2 * at] : A(0);
                    scale[r] = inside ? stats[LAYER ? 2 * at + 1 : at] : A(0);
                }
                // Sums over rows of dy * w * normalised and of dy * w.
                each_part<S>(d, [&](u32 u, u32 i) {
                    Tile<A, N> weight;
                    weight.load(w + i, 0, N, vector);
#pragma unroll
                    for (u32 r = 0; r < R; ++r) {
                        auto v = row[r].pack(u, i);
                        auto g = grad[r].pack(u, i);
#pragma unroll
                        for (u32 e = 0; e < N; ++e) {
                            A by_norm = get(g.v[0][e]) * weight.v[0][e];
                            both[r] += by_norm * ((get(v.v[0][e]) - mean[r]) * scale[r]);
                            if (LAYER) both[R + r] += by_norm;
                        }
                    }
                });
                team_sums<S::T>(both);
#pragma unroll
                for (u32 r = 0; r < 2 * R; ++r) both[r] /= A(d);
                each_part<S>(d, [&](u32 u, u32 i) {
                    Tile<A, N> weight;
                    weight.load(w + i, 0, N, vector);
                    if constexpr (S::U == 0) {
#pragma unroll
                        for (u32 k = 0; k < SUMS; ++k) sums[k].load(out + k * d + i, 0, parts && first > range.begin ? N : 0, vector);
                    }
#pragma unroll
                    for (u32 r = 0; r < R; ++r) {
                        u64 at = (first + team * R + r) * d + i;
                        auto v = row[r].pack(u, i);
                        auto g = grad[r].pack(u, i);
#pragma unroll
                        for (u32 e = 0; e < N; ++e) {
                            A by_y = get(g.v[0][e]);
                            sums[0].v[u][e] += by_y * ((get(v.v[0][e]) - mean[r]) * scale[r]);
                            if (LAYER) sums[SUMS - 1].v[u][e] += by_y;
                        }
                        if (!dx || !row[r].inside) continue;
                        auto f = [&](A g, A v, A w) {
                            return scale[r] * (g * w - both[R + r] - (v - mean[r]) * scale[r] * both[r]);
                        };
                        auto own = apply<A>(f, g, v, weight);
                        if (onto) {
                            Tile<X, N> there;
                            there.load(onto + at, 0, N, vector);
                            own = apply<A>([](A a, A b) { return a + b; }, there, own);
                        }
                        auto same = [](A v) { return v; };
                        apply<X>(same, own).store(dx + at, 0, N, vector);
                        if (copy) apply<Y>(same, own).store(copy + at, 0, N, vector);
                    }
                    if constexpr (S::U == 0) {
#pragma unroll
                        for (u32 k = 0; k < SUMS; ++k) sums[k].store(out + k * d + i, 0, parts ? N : 0, vector);
                    }
                });
            }
            if (!parts) continue;
            if constexpr (S::U == 0) {
                if (range.begin >= range.end) each_part<S>(d, [&](u32, u32 i) {
                    for (u32 k = 0; k < SUMS; ++k) sums[k].store(out + k * d + i, 0, N, vector);
                });
                continue;
            }
            if constexpr (TEAMS > 1) {
                // Threads' sums side by side, so that neighbours are in other banks.
                A* all = exchange<A, SUMS * WIDE>();
                __syncthreads();  // it may still be read for the block before
#pragma unroll
                for (u32 k = 0; k < SUMS; ++k) {
#pragma unroll
                    for (u32 e = 0; e < N; ++e) all[(k * N + e) * SUM_THREADS + threadIdx.x] = sums[k].v[0][e];
                }
                __syncthreads();
                if (team > 0) continue;
#pragma unroll
                for (u32 k = 0; k < SUMS; ++k) {
#pragma unroll
                    for (u32 e = 0; e < N; ++e) {
                        for (u32 t = 1; t < TEAMS; ++t)
                            sums[k].v[0][e] += all[(k * N + e) * SUM_THREADS + t * S::T + threadIdx.x];
                    }
                }
            }
            each_part<S>(d, [&](u32 u, u32 i) {
#pragma unroll
                for (u32 k = 0; k < SUMS; ++k) {
                    Tile<A, N> one;
                    memcpy(one.v[0], sums[k].v[u], sizeof one.v[0]);
                    one.store(out + k * d + i, 0, N, vector);
                }
            });
        }
    });
}

#define NORMS(S, X, Y)                                                                                                \
    KERNEL(layer_norm_##S, (const X* x, const Acc<X>* w, const Acc<X>* b, Y* y, Acc<X>* stats, u64 rows, u32 d,       \
                            double eps)) {                                                                            \
        layer_norm(x, w, b, y, stats, rows, d, eps);                                                                  \
    }                                                                                                                 \
    KERNEL_BY(SUM_THREADS, 2, layer_norm_backward_##S,                                                                  \
              (const X* x, const Acc<X>* w, const Acc<X>* stats, const Y* dy, const X* onto, X* dx, Y* copy,          \
               Acc<X>* parts, u64 rows, u32 d, u32 blocks)) {                                                         \
        norm_backward<true>(x, w, stats, dy, onto, dx, copy, parts, rows, d, blocks);                                 \
    }                                                                                                                 \
    KERNEL(rms_norm_##S, (const X* x, const Acc<X>* w, Y* y, Acc<X>* stats, u64 rows, u32 d, double eps)) {           \
        rms_norm(x, w, y, stats, rows, d, eps);                                                                       \
    }                                                                                                                 \
    KERNEL_BY(SUM_THREADS, 2, rms_norm_backward_##S,                                                                    \
              (const X* x, const Acc<X>* w, const Acc<X>* stats, const Y* dy, const X* onto, X* dx, Y* copy,          \
               Acc<X>* parts, u64 rows, u32 d, u32 blocks)) {                                                         \
        norm_backward<false>(x, w, stats, dy, onto, dx, copy, parts, rows, d, blocks);                                \
    }

NORMS(f32_f32, float, float)
NORMS(f64_f64, double, double)
NORMS(f32_bf16, float, bf16)
NORMS(f32_f16, float, half_t)
NORMS(bf16_bf16, bf16, bf16)
NORMS(f16_f16, half_t, half_t)
