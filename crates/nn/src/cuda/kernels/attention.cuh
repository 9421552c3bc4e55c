// Attention of 16-bit operands on tensor cores; scores live in registers only (the method of FlashAttention-2).
//
// A block of four warps owns 64 rows of one head, 16 a warp: queries in the forward pass and for dq, keys for dk and dv. It walks
// over the other side in steps of a few rows, which lie twice in shared memory: while one copy is computed on, the next step is
// fetched into the other. No block adds to what another wrote, so nothing depends on the grid.
//
// With c = log2(e) / √d: p = 2^(c q·k - lse), where lse is the binary logarithm of a row's sum of 2^(c q·k). p and ds are rounded
// to the operands' type before a product, all sums are float32.
#pragma once

#include "mma.cuh"

// Threads of a block (`TEAM` in attention.rs), rows that it owns, rows that a warp owns.
constexpr u32 TEAM = 128;
constexpr u32 OWN = 64;
constexpr u32 SHARE = 16;

struct Sizes {
    u32 b, n, m, h, d;
    float scale;

    __device__ float binary() const { return scale * 1.44269504f; }
};

// One head's rows in an operand (B, rows, parts, H, d).
template <class P>
struct Rows {
    P* at;
    u32 stride, count, d;
    // All rows begin at multiples of 16 bytes and have a multiple of 16 bytes.
    bool wide;

    __device__ Rows(P* base, Sizes z, u32 rows, u32 part, u32 parts, u32 image, u32 head)
        : stride(parts * z.h * z.d), count(rows), d(z.d) {
        at = base + (u64(image) * rows * stride + (part * z.h + head) * d);
        wide = d % 8 == 0 && reinterpret_cast<u64>(base) % 16 == 0;
    }
};

template <class T>
__device__ inline const u16* bits(const T* p) {
    return reinterpret_cast<const u16*>(p);
}

// What a block works on.
struct Task {
    u32 image, head, first;

    __device__ Task(u32 i, Sizes z, u32 rows) {
        u32 tiles = (rows + OWN - 1) / OWN;
        first = i % tiles * OWN;
        head = i / tiles % z.h;
        image = i / tiles / z.h;
    }
    static __device__ u32 count(Sizes z, u32 rows) { return z.b * z.h * ((rows + OWN - 1) / OWN); }
};

// Rows in shared memory. Eight elements of padding shift each row by an odd number of 16-byte units (W is a multiple of 16), so
// the eight rows that ldmatrix reads at once lie in different banks.
template <u32 ROWS, u32 W>
struct alignas(16) Tile {
    u16 at[ROWS][W + 8];
};

// Rows [first, first + ROWS) of operands with as many rows each to shared memory, zeros beyond their rows and columns; they are
// there after `copies_done` and a barrier.
template <u32 ROWS, u32 W, u32 N>
__device__ inline void stage(Tile<ROWS, W>* const (&to)[N], const Rows<const u16> (&from)[N], u32 first) {
    constexpr u32 CHUNKS = W / 8;
    const u32 count = from[0].count, d = from[0].d;
    bool wide = true;
#pragma unroll
    for (u32 x = 0; x < N; ++x) wide = wide && from[x].wide;
    for (u32 i = threadIdx.x; i < ROWS * CHUNKS; i += TEAM) {
        u32 r = i / CHUNKS, c = i % CHUNKS * 8;
        bool inside = first + r < count && c < d;
#pragma unroll
        for (u32 x = 0; x < N; ++x) {
            u16* cell = &to[x]->at[r][c];
            const u16* p = from[x].at + (inside ? u64(first + r) * from[x].stride + c : 0);
            if (wide) {
                copy_async<16>(cell, p, inside);
            } else {
#pragma unroll 1
                for (u32 j = 0; j < 8; ++j) cell[j] = inside && c + j < d ? p[j] : u16(0);
            }
        }
    }
}

// Left fragments of 16 rows, held in registers.
template <u32 W>
struct Held {
    u32 at[W / 16][4];

    // Rows [first, first + 16) from memory.
    __device__ Held(const Rows<const u16>& from, u32 first) {
        u32 g = lane() / 4, t = lane() % 4;
#pragma unroll
        for (u32 k = 0; k < W / 16; ++k) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                u32 row = first + g + i % 2 * 8, column = k * 16 + t * 2 + i / 2 * 8;
                at[k][i] = 0;
                if (row >= from.count || column >= from.d) continue;
                const u16* p = from.at + u64(row) * from.stride + column;
                if (from.wide) {
                    at[k][i] = *reinterpret_cast<const u32*>(p);
                } else {
                    at[k][i] = p[0] | (column + 1 < from.d ? u32(p[1]) << 16 : 0u);
                }
            }
        }
    }
    __device__ void get(u32 (&left)[4], u32 k) const {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) left[i] = at[k][i];
    }
};

// The same in shared memory.
template <u32 W>
struct Lying {
    const u16* row;

    __device__ Lying(const Tile<OWN, W>& tile, u32 first) : row(&tile.at[first + lane() % 16][lane() / 16 * 8]) {}
    __device__ void get(u32 (&left)[4], u32 k) const { ldmatrix(left, row + k * 16); }
};

// s = left · tileᵀ (16 × ROWS). A right fragment wants neighbours along the width, as rows lie: four 8 × 8 matrices are rows
// 0-7 and 8-15, each in two halves of 16 columns.
template <class T, u32 ROWS, u32 W, class Left>
__device__ inline void scores(float (&s)[ROWS / 8][4], const Left& from, const Tile<ROWS, W>& tile) {
    u32 l = lane();
#pragma unroll
    for (u32 j = 0; j < ROWS / 8; ++j) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
#pragma unroll
    for (u32 k = 0; k < W / 16; ++k) {
        u32 left[4];
        from.get(left, k);
#pragma unroll
        for (u32 j = 0; j < ROWS / 16; ++j) {
            u32 r[4];
            ldmatrix(r, &tile.at[j * 16 + l / 16 * 8 + l % 8][k * 16 + l / 8 % 2 * 8]);
            mma<T>(s[2 * j], left, r[0], r[1]);
            mma<T>(s[2 * j + 1], left, r[2], r[3]);
        }
    }
}

// sum (16 × W) += s (16 × ROWS, rounded) · tile. A right fragment wants neighbours along the rows: transposed matrices, rows 0-7
// and 8-15 of eight columns, then of the next eight.
template <class T, u32 ROWS, u32 W>
__device__ inline void add_product(float (&sum)[W / 8][4], const float (&s)[ROWS / 8][4], const Tile<ROWS, W>& tile) {
    u32 l = lane();
#pragma unroll
    for (u32 k = 0; k < ROWS / 16; ++k) {
        const float(&a)[4] = s[2 * k], (&b)[4] = s[2 * k + 1];
        u32 left[4] = {pack<T>(a[0], a[1]), pack<T>(a[2], a[3]), pack<T>(b[0], b[1]), pack<T>(b[2], b[3])};
#pragma unroll
        for (u32 j = 0; j < W / 16; ++j) {
            u32 r[4];
            ldmatrix_transposed(r, &tile.at[k * 16 + l % 16][j * 16 + l / 16 * 8]);
            mma<T>(sum[2 * j], left, r[0], r[1]);
            mma<T>(sum[2 * j + 1], left, r[2], r[3]);
        }
    }
}

template <u32 W>
__device__ inline void clear(float (&sum)[W / 8][4]) {
#pragma unroll
    for (u32 j = 0; j < W / 8; ++j) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0;
}

// Rows g and g + 8 from `first` on of `sum`, times a factor each.
template <class T, u32 W>
__device__ inline void store(const Rows<T>& to, u32 first, const float (&sum)[W / 8][4], float f0, float f1) {
    u32 g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (u32 r = 0; r < 2; ++r) {
        u32 row = first + g + r * 8;
        if (row >= to.count) continue;
        T* p = to.at + u64(row) * to.stride;
        float f = r == 0 ? f0 : f1;
#pragma unroll
        for (u32 j = 0; j < W / 8; ++j) {
            u32 column = j * 8 + t * 2;
            if (column >= to.d) continue;
            float low = sum[j][2 * r] * f, high = sum[j][2 * r + 1] * f;
            if (to.wide) {
                *reinterpret_cast<u32*>(p + column) = pack<T>(low, high);
            } else {
                put(p + column, low);
                if (column + 1 < to.d) put(p + column + 1, high);
            }
        }
    }
}

// Sum and maximum over the four lanes that share a row.
__device__ inline float quad_sum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}
__device__ inline float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

// The operands of a call: q (B, N, H, d), k and v (B, M, H, d), or without k and v a packed projection q (B, N, 3, H, d).
template <class T>
struct Operands {
    const T *q, *k, *v;
    Sizes z;

    __device__ bool packed() const { return k == nullptr; }
    __device__ Rows<const u16> queries(Task t) const {
        return {bits(q), z, z.n, 0, packed() ? 3u : 1u, t.image, t.head};
    }
    __device__ Rows<const u16> keys(Task t) const {
        return packed() ? Rows<const u16>(bits(q), z, z.n, 1, 3, t.image, t.head)
                        : Rows<const u16>(bits(k), z, z.m, 0, 1, t.image, t.head);
    }
    __device__ Rows<const u16> values(Task t) const {
        return packed() ? Rows<const u16>(bits(q), z, z.n, 2, 3, t.image, t.head)
                        : Rows<const u16>(bits(v), z, z.m, 0, 1, t.image, t.head);
    }
};

// o (B, N, H, d) and lse (B, H, N).
template <class T, u32 W>
__device__ void attention(Operands<T> in, T* o, float* lse) {
    constexpr u32 STEP = 32;
    __shared__ Tile<STEP, W> ks[2], vs[2];
    const Sizes z = in.z;
    const float c = z.binary();
    const u32 g = lane() / 4, t = lane() % 4;
    for (u32 i = blockIdx.x; i < Task::count(z, z.n); i += gridDim.x) {
        Task task(i, z, z.n);
        const auto k = in.keys(task), v = in.values(task);
        const u32 row = task.first + threadIdx.x / WARP * SHARE;
        stage({&ks[0], &vs[0]}, {k, v}, 0);
        Held<W> q(in.queries(task), row);
        float sum[W / 8][4], top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
        clear<W>(sum);
        for (u32 key = 0, turn = 0; key < z.m; key += STEP, turn ^= 1) {
            copies_done();
            __syncthreads();  // this step has come, and nobody reads the last one any more
            if (key + STEP < z.m) stage({&ks[turn ^ 1], &vs[turn ^ 1]}, {k, v}, key + STEP);
            if (row >= z.n) continue;
            float s[STEP / 8][4];
            scores<T>(s, q, ks[turn]);
            if (key + STEP > z.m) {
#pragma unroll
                for (u32 j = 0; j < STEP / 8; ++j) {
#pragma unroll
                    for (u32 e = 0; e < 4; ++e) s[j][e] = key + j * 8 + t * 2 + e % 2 < z.m ? s[j][e] : -INFINITY;
                }
            }
#pragma unroll
            for (u32 r = 0; r < 2; ++r) {
                float most = top[r], part = 0;
#pragma unroll
                for (u32 j = 0; j < STEP / 8; ++j) most = fmaxf(most, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
                most = quad_max(most);
                // The first step has a key that is not masked: `most` is finite from there on, and the first factor is 0.
                float shift = most * c, fade = exp2_(fmaf(top[r], c, -shift));
                top[r] = most;
#pragma unroll
                for (u32 j = 0; j < STEP / 8; ++j) {
#pragma unroll
                    for (u32 e = 2 * r; e < 2 * r + 2; ++e) part += s[j][e] = exp2_(fmaf(s[j][e], c, -shift));
                }
                total[r] = fmaf(total[r], fade, part);
#pragma unroll
                for (u32 j = 0; j < W / 8; ++j) {
                    sum[j][2 * r] *= fade;
                    sum[j][2 * r + 1] *= fade;
                }
            }
            add_product<T>(sum, s, vs[turn]);
        }
        __syncthreads();  // before the next task's first step
        if (row >= z.n) continue;
        total[0] = quad_sum(total[0]);
        total[1] = quad_sum(total[1]);
        store<T, W>(Rows<T>(o, z, z.n, 0, 1, task.image, task.head), row, sum, 1 / total[0], 1 / total[1]);
        float* to = lse + (u64(task.image) * z.h + task.head) * z.n;
#pragma unroll
        for (u32 r = 0; r < 2; ++r) {
            u32 own = row + g + r * 8;
            if (t == 0 && own < z.n) to[own] = fmaf(top[r], c, log2f(total[r]));
        }
    }
}

// dq, and dots (B, H, N): <o, do> of every row, which is what the softmax's gradient subtracts.
template <class T, u32 W>
__device__ void attention_dq(Operands<T> in, const T* o, const T* d_o, const float* lse, T* dq, float* dots) {
    constexpr u32 STEP = 32;
    __shared__ Tile<STEP, W> ks[2], vs[2];
    const Sizes z = in.z;
    const float c = z.binary();
    const u32 g = lane() / 4, t = lane() % 4;
    for (u32 i = blockIdx.x; i < Task::count(z, z.n); i += gridDim.x) {
        Task task(i, z, z.n);
        const auto k = in.keys(task), v = in.values(task);
        const u32 row = task.first + threadIdx.x / WARP * SHARE;
        stage({&ks[0], &vs[0]}, {k, v}, 0);
        Held<W> dy(Rows<const u16>(bits(d_o), z, z.n, 0, 1, task.image, task.head), row);
        float dot[2] = {0, 0}, log[2];
        {
            Held<W> y(Rows<const u16>(bits(o), z, z.n, 0, 1, task.image, task.head), row);
#pragma unroll
            for (u32 j = 0; j < W / 16; ++j) {
#pragma unroll
                for (u32 e = 0; e < 4; ++e) {
                    u32 a = y.at[j][e], b = dy.at[j][e];
                    dot[e % 2] = fmaf(unpack<T>(u16(a)), unpack<T>(u16(b)), dot[e % 2]);
                    dot[e % 2] = fmaf(unpack<T>(u16(a >> 16)), unpack<T>(u16(b >> 16)), dot[e % 2]);
                }
            }
        }
        const u64 stats = (u64(task.image) * z.h + task.head) * z.n;
#pragma unroll
        for (u32 r = 0; r < 2; ++r) {
            u32 own = row + g + r * 8;
            dot[r] = quad_sum(dot[r]);
            log[r] = own < z.n ? lse[stats + own] : 0;
            if (t == 0 && own < z.n) dots[stats + own] = dot[r];
        }
        Held<W> q(in.queries(task), row);
        float sum[W / 8][4];
        clear<W>(sum);
        for (u32 key = 0, turn = 0; key < z.m; key += STEP, turn ^= 1) {
            copies_done();
            __syncthreads();
            if (key + STEP < z.m) stage({&ks[turn ^ 1], &vs[turn ^ 1]}, {k, v}, key + STEP);
            if (row >= z.n) continue;
            float s[STEP / 8][4], dp[STEP / 8][4];
            scores<T>(s, q, ks[turn]);
            scores<T>(dp, dy, vs[turn]);
#pragma unroll
            for (u32 j = 0; j < STEP / 8; ++j) {
#pragma unroll
                for (u32 e = 0; e < 4; ++e) {
                    float p = exp2_(fmaf(s[j][e], c, -log[e / 2]));
                    // Masked: a zero key's p may be infinite where all scores are far below zero.
                    s[j][e] = key + j * 8 + t * 2 + e % 2 < z.m ? p * (dp[j][e] - dot[e / 2]) : 0;
                }
            }
            add_product<T>(sum, s, ks[turn]);
        }
        __syncthreads();
        if (row >= z.n) continue;
        store<T, W>(Rows<T>(dq, z, z.n, 0, in.packed() ? 3 : 1, task.image, task.head), row, sum, z.scale, z.scale);
    }
}

// dk and dv, or the last two parts of a packed gradient. Rows are keys here: what is computed are the transposes of scores.
template <class T, u32 W>
__device__ void attention_dkv(Operands<T> in, const T* d_o, const float* lse, const float* dots, T* dk, T* dv) {
    constexpr u32 STEP = W > 96 ? 16 : 32;
    __shared__ Tile<STEP, W> qs[2], dys[2];
    __shared__ float logs[2][STEP], dot[2][STEP];
    // Two sums of W columns leave registers for v, not for k as well.
    __shared__ Tile<OWN, W> ks;
    const Sizes z = in.z;
    const float c = z.binary();
    const u32 t = lane() % 4;
    for (u32 i = blockIdx.x; i < Task::count(z, z.m); i += gridDim.x) {
        Task task(i, z, z.m);
        const auto q = in.queries(task);
        const Rows<const u16> dy(bits(d_o), z, z.n, 0, 1, task.image, task.head);
        const u32 share = threadIdx.x / WARP * SHARE, row = task.first + share;
        const u64 stats = (u64(task.image) * z.h + task.head) * z.n;
        // Beyond the last query all is zero: q = 0 and lse = 0 give p = 1, which meets do = 0 and ds = 0.
        auto fetch = [&](u32 turn, u32 query) {
            stage({&qs[turn], &dys[turn]}, {q, dy}, query);
            if (threadIdx.x < 2 * STEP) {
                u32 j = threadIdx.x % STEP;
                bool inside = query + j < z.n;
                const float* from = (threadIdx.x < STEP ? lse : dots) + stats + (inside ? query + j : 0);
                copy_async<4>(threadIdx.x < STEP ? &logs[turn][j] : &dot[turn][j], from, inside);
            }
        };
        stage({&ks}, {in.keys(task)}, task.first);
        fetch(0, 0);
        Lying<W> k(ks, share);
        Held<W> v(in.values(task), row);
        float sum_k[W / 8][4], sum_v[W / 8][4];
        clear<W>(sum_k);
        clear<W>(sum_v);
        for (u32 query = 0, turn = 0; query < z.n; query += STEP, turn ^= 1) {
            copies_done();
            __syncthreads();
            if (query + STEP < z.n) fetch(turn ^ 1, query + STEP);
            if (row >= z.m) continue;
            float s[STEP / 8][4], dp[STEP / 8][4];
            scores<T>(s, k, qs[turn]);
#pragma unroll
            for (u32 j = 0; j < STEP / 8; ++j) {
#pragma unroll
                for (u32 e = 0; e < 4; ++e) s[j][e] = exp2_(fmaf(s[j][e], c, -logs[turn][j * 8 + t * 2 + e % 2]));
            }
            add_product<T>(sum_v, s, dys[turn]);
            scores<T>(dp, v, dys[turn]);
#pragma unroll
            for (u32 j = 0; j < STEP / 8; ++j) {
#pragma unroll
                for (u32 e = 0; e < 4; ++e) s[j][e] *= dp[j][e] - dot[turn][j * 8 + t * 2 + e % 2];
            }
            add_product<T>(sum_k, s, qs[turn]);
        }
        __syncthreads();
        if (row >= z.m) continue;
        const bool packed = dv == nullptr;
        const u32 parts = packed ? 3 : 1;
        store<T, W>(Rows<T>(dk, z, z.m, packed ? 1 : 0, parts, task.image, task.head), row, sum_k, z.scale, z.scale);
        store<T, W>(Rows<T>(packed ? dk : dv, z, z.m, packed ? 2 : 0, parts, task.image, task.head), row, sum_v, 1, 1);
    }
}

#define ATTENTION(W, S, T)                                                                                                   \
    KERNEL_OF(TEAM, attention_##W##_##S, (const T* q, const T* k, const T* v, T* o, float* lse, u32 b, u32 n, u32 m, u32 h,   \
                                          u32 d, float scale)) {                                                             \
        attention<T, W>({q, k, v, {b, n, m, h, d, scale}}, o, lse);                                                          \
    }                                                                                                                        \
    KERNEL_OF(TEAM, attention_dq_##W##_##S,                                                                                  \
              (const T* q, const T* k, const T* v, const T* o, const T* d_o, const float* lse, T* dq, float* dots, u32 b,    \
               u32 n, u32 m, u32 h, u32 d, float scale)) {                                                                   \
        attention_dq<T, W>({q, k, v, {b, n, m, h, d, scale}}, o, d_o, lse, dq, dots);                                        \
    }                                                                                                                        \
    KERNEL_OF(TEAM, attention_dkv_##W##_##S,                                                                                 \
              (const T* q, const T* k, const T* v, const T* d_o, const float* lse, const float* dots, T* dk, T* dv, u32 b,   \
               u32 n, u32 m, u32 h, u32 d, float scale)) {                                                                   \
        attention_dkv<T, W>({q, k, v, {b, n, m, h, d, scale}}, d_o, lse, dots, dk, dv);                                      \
    }
