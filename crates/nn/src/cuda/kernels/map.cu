// Channels-last maps: depthwise convolution, the unfold of a general one, max pooling. A thread has a pack of channels where their
// number is a multiple of it, otherwise one.
#include "pack.cuh"

// Neighbouring positions of a line that a thread of a convolution with k = 3 has at once.
constexpr u32 STRIP = 4;

// What such a strip reads of one line of a map: from the position before it to the one behind, zero outside the map.
template <class T, u32 N>
struct Line {
    T v[STRIP + 2][N];
    bool inside[STRIP + 2];

    // `line`: N channels of its first position.
    __device__ void load(const T* line, u32 ox, u32 w, u32 c) {
#pragma unroll
        for (u32 j = 0; j < STRIP + 2; ++j) {
            inside[j] = ox + j > 0 && ox + j <= w;
            Tile<T, N> one;
            one.load(inside[j] ? line + (ox + j - 1) * u64(c) : line, 0, inside[j] ? N : 0);
            memcpy(v[j], one.v[0], sizeof v[j]);
        }
    }
};

// Depthwise convolution, stride 1, odd kernel, size kept. x, y (B, H, W, C), weight (C, 1, k, k); bias (C) where has_bias;
// flip reads the kernel backwards, which is the gradient by x.
template <class T, class A>
__device__ void depthwise_any(const T* x, const A* weight, const A* bias, T* y, u64 b, u32 h, u32 w, u32 c, u32 k,
                              u32 has_bias, u32 flip) {
    int p = k / 2;
    for (u64 t = first_item(); t < b * h * w * c; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, c);
        int ox = take(image, w), oy = take(image, h);
        A sum = has_bias ? bias[ch] : A(0);
        for (int i = 0; i < int(k); ++i) {
            int iy = oy + i - p;
            if (iy < 0 || iy >= int(h)) continue;
            for (int j = 0; j < int(k); ++j) {
                int ix = ox + j - p;
                if (ix < 0 || ix >= int(w)) continue;
                int tap = i * k + j;
                if (flip) tap = k * k - 1 - tap;
                sum += get(x[((image * h + iy) * w + ix) * c + ch]) * weight[u64(ch) * k * k + tap];
            }
        }
        put(y + t, sum);
    }
}

// The same for k = 3: a thread has N channels of STRIP positions, and their weights.
template <u32 N, class T, class A>
__device__ void depthwise_3(const T* x, const A* weight, const A* bias, T* y, u64 b, u32 h, u32 w, u32 c, u32 has_bias,
                            u32 flip) {
    u32 strips = (w + STRIP - 1) / STRIP, packs = c / N;
    for (u64 t = first_item(); t < b * h * strips * packs; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, packs) * N, ox = take(image, strips) * STRIP, oy = take(image, h);
        // The e-th channel's taps, in the order that they are applied in.
        Tile<A, N, 9> flat;
        flat.load(weight + ch * u64(9), N, 9 * N);
        A taps[9][N], sum[STRIP][N] = {};
#pragma unroll
        for (u32 tap = 0; tap < 9; ++tap) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) {
                u32 from = e * 9 + tap, back = e * 9 + 8 - tap;
                taps[tap][e] = flip ? flat.v[back / N][back % N] : flat.v[from / N][from % N];
            }
        }
        Tile<A, N> start;
        start.load(has_bias ? bias + ch : bias, 0, has_bias ? N : 0);
#pragma unroll
        for (u32 s = 0; s < STRIP; ++s) memcpy(sum[s], start.v[0], sizeof sum[s]);
#pragma unroll
        for (u32 i = 0; i < 3; ++i) {
            if (oy + i == 0 || oy + i > h) continue;
            Line<T, N> line;
            line.load(x + (image * h + oy + i - 1) * w * c + ch, ox, w, c);
#pragma unroll
            for (u32 s = 0; s < STRIP; ++s) {
#pragma unroll
                for (u32 j = 0; j < 3; ++j) {
                    if (!line.inside[s + j]) continue;
#pragma unroll
                    for (u32 e = 0; e < N; ++e) sum[s][e] += get(line.v[s + j][e]) * taps[i * 3 + j][e];
                }
            }
        }
        Tile<T, N, STRIP> out;
#pragma unroll
        for (u32 s = 0; s < STRIP; ++s) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) put(&out.v[s][e], sum[s][e]);
        }
        out.store(y + ((image * h + oy) * w + ox) * c + ch, c, u64(w - ox) * c);
    }
}

template <class T, class A = Acc<T>>
__device__ void depthwise(const T* x, const A* weight, const A* bias, T* y, u64 b, u32 h, u32 w, u32 c, u32 k, u32 has_bias,
                          u32 flip) {
    constexpr u32 N = pack<A>();
    if (k == 3 && c % N == 0 && fits<N>(x) && fits<N>(weight) && fits<N>(y) && (fits<N>(bias) || !has_bias)) {
        depthwise_3<N>(x, weight, bias, y, b, h, w, c, has_bias, flip);
    } else {
        depthwise_any(x, weight, bias, y, b, h, w, c, k, has_bias, flip);
    }
}

// Sums over blocks of lines, (blocks, C, k k): the gradient by the kernel. Added up by sum_parts.
template <class T, class A>
__device__ void dweight_any(const T* x, const T* dy, A* parts, u64 b, u32 h, u32 w, u32 c, u32 k, u32 blocks) {
    int p = k / 2;
    for (u64 t = first_item(); t < u64(blocks) * k * k * c; t += item_stride()) {
        u64 block = t;
        u32 ch = take(block, c), tap = take(block, k * k);
        RowRange lines = row_block(b * h, blocks, block);
        A sum = 0;
        for (u64 line = lines.begin; line < lines.end; ++line) {
            u64 image = line;
            int iy = int(take(image, h)) + int(tap / k) - p;
            if (iy < 0 || iy >= int(h)) continue;
            for (int ox = 0; ox < int(w); ++ox) {
                int ix = ox + int(tap % k) - p;
                if (ix < 0 || ix >= int(w)) continue;
                sum += get(x[((image * h + iy) * w + ix) * c + ch]) * get(dy[(line * w + ox) * c + ch]);
            }
        }
        parts[(block * c + ch) * k * k + tap] = sum;
    }
}

// The same for k = 3: a thread has all taps of N channels.
template <u32 N, class T, class A>
__device__ void dweight_3(const T* x, const T* dy, A* parts, u64 b, u32 h, u32 w, u32 c, u32 blocks) {
    u32 packs = c / N;
    for (u64 t = first_item(); t < u64(blocks) * packs; t += item_stride()) {
        u64 block = t;
        u32 ch = take(block, packs) * N;
        RowRange lines = row_block(b * h, blocks, block);
        A sums[9][N] = {};
        for (u64 line = lines.begin; line < lines.end; ++line) {
            u64 image = line;
            u32 oy = take(image, h);
            for (u32 ox = 0; ox < w; ox += STRIP) {
                Tile<T, N, STRIP> g;
                g.load(dy + (line * w + ox) * c + ch, c, u64(w - ox) * c);
#pragma unroll
                for (u32 i = 0; i < 3; ++i) {
                    if (oy + i == 0 || oy + i > h) continue;
                    Line<T, N> from;
                    from.load(x + (image * h + oy + i - 1) * w * c + ch, ox, w, c);
#pragma unroll
                    for (u32 s = 0; s < STRIP; ++s) {
#pragma unroll
                        for (u32 j = 0; j < 3; ++j) {
                            if (ox + s >= w || !from.inside[s + j]) continue;
#pragma unroll
                            for (u32 e = 0; e < N; ++e) sums[i * 3 + j][e] += get(from.v[s + j][e]) * get(g.v[s][e]);
                        }
                    }
                }
            }
        }
        Tile<A, N, 9> flat;
#pragma unroll
        for (u32 i = 0; i < 9 * N; ++i) flat.v[i / N][i % N] = sums[i % 9][i / 9];
        flat.store(parts + (block * c + ch) * 9, N, 9 * N);
    }
}

template <class T, class A = Acc<T>>
__device__ void depthwise_dweight(const T* x, const T* dy, A* parts, u64 b, u32 h, u32 w, u32 c, u32 k, u32 blocks) {
    constexpr u32 N = pack<A>();
    if (k == 3 && c % N == 0 && fits<N>(x) && fits<N>(dy) && fits<N>(parts)) {
        dweight_3<N>(x, dy, parts, b, h, w, c, blocks);
    } else {
        dweight_any(x, dy, parts, b, h, w, c, k, blocks);
    }
}

// Sizes of an unfold: input H, W, C; output Ho, Wo; kernel, stride, padding.
struct Unfold {
    u32 h, w, c, ho, wo, k, stride, padding;
};

// x (B, H, W, C) -> y (B, Ho Wo, k k C), zero-padded.
template <u32 N, class T>
__device__ void unfold_by(const T* x, T* y, u64 b, Unfold z) {
    u32 packs = z.c / N, taps = z.k * z.k;
    for (u64 t = first_item(); t < b * z.ho * z.wo * taps * packs; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, packs) * N, tap = take(image, taps);
        int ix = int(take(image, z.wo) * z.stride + tap % z.k) - int(z.padding);
        int iy = int(take(image, z.ho) * z.stride + tap / z.k) - int(z.padding);
        bool inside = iy >= 0 && iy < int(z.h) && ix >= 0 && ix < int(z.w);
        Tile<T, N> v;
        v.load(inside ? x + ((image * z.h + iy) * z.w + ix) * z.c + ch : x, 0, inside ? N : 0);
        v.store(y + t * N, 0, N);
    }
}

template <class T>
__device__ void unfold(const T* x, T* y, u64 b, Unfold z) {
    constexpr u32 N = pack<T>();
    z.c % N == 0 && fits<N>(x) && fits<N>(y) ? unfold_by<N>(x, y, b, z) : unfold_by<1>(x, y, b, z);
}

// The gradient by x: every input adds up the outputs that read it, in ascending order.
template <u32 N, class T>
__device__ void unfold_grad_by(const T* dy, T* dx, u64 b, Unfold z) {
    u32 packs = z.c / N;
    int stride = z.stride;
    for (u64 t = first_item(); t < b * z.h * z.w * packs; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, packs) * N;
        int x = take(image, z.w) + z.padding, y = take(image, z.h) + z.padding;
        Tile<Acc<T>, N> sum;
        sum.clear();
        for (int i = int(z.k) - 1; i >= 0; --i) {
            if (y < i || (y - i) % stride != 0 || (y - i) / stride >= int(z.ho)) continue;
            for (int j = int(z.k) - 1; j >= 0; --j) {
                if (x < j || (x - j) % stride != 0 || (x - j) / stride >= int(z.wo)) continue;
                u64 o = (image * z.ho + (y - i) / stride) * z.wo + (x - j) / stride;
                Tile<T, N> v;
                v.load(dy + (o * z.k * z.k + i * z.k + j) * z.c + ch, 0, N);
                sum = apply<Acc<T>>([](Acc<T> s, Acc<T> v) { return s + v; }, sum, v);
            }
        }
        apply<T>([](Acc<T> s) { return s; }, sum).store(dx + t * N, 0, N);
    }
}

template <class T>
__device__ void unfold_grad(const T* dy, T* dx, u64 b, Unfold z) {
    constexpr u32 N = pack<T>();
    z.c % N == 0 && fits<N>(dy) && fits<N>(dx) ? unfold_grad_by<N>(dy, dx, b, z) : unfold_grad_by<1>(dy, dx, b, z);
}

// Max pooling with kernel = stride = (py, px); the rest of the border is dropped.
template <u32 N, class T>
__device__ void max_pool_by(const T* x, T* y, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    u32 oh = h / py, ow = w / px, packs = c / N;
    for (u64 t = first_item(); t < b * oh * ow * packs; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, packs) * N, ox = take(image, ow), oy = take(image, oh);
        const T* corner = x + ((image * h + oy * py) * w + ox * px) * c + ch;
        Tile<T, N> max, v;
        max.load(corner, 0, N);
        for (u32 i = 1; i < py * px; ++i) {
            v.load(corner + (u64(i / px) * w + i % px) * c, 0, N);
            max = apply<T>([](Acc<T> m, Acc<T> v) { return v > m ? v : m; }, max, v);
        }
        max.store(y + t * N, 0, N);
    }
}

template <class T>
__device__ void max_pool(const T* x, T* y, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    constexpr u32 N = pack<T>();
    c % N == 0 && fits<N>(x) && fits<N>(y) ? max_pool_by<N>(x, y, b, h, w, c, py, px) : max_pool_by<1>(x, y, b, h, w, c, py, px);
}

// Of equal values the first in reading order gets the gradient.
template <u32 N, class T>
__device__ void max_pool_grad_by(const T* x, const T* y, const T* dy, T* dx, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    u32 oh = h / py, ow = w / px, packs = c / N;
    for (u64 t = first_item(); t < b * h * w * packs; t += item_stride()) {
        u64 image = t;
        u32 ch = take(image, packs) * N, ix = take(image, w), iy = take(image, h), ox = ix / px, oy = iy / py;
        bool pooled = ox < ow && oy < oh;
        u64 o = ((image * oh + oy) * ow + ox) * c + ch;
        Tile<T, N> own, max, g, before;
        own.load(x + t * N, 0, N);
        max.load(pooled ? y + o : y, 0, pooled ? N : 0);
        g.load(pooled ? dy + o : dy, 0, pooled ? N : 0);
        bool first[N];
#pragma unroll
        for (u32 e = 0; e < N; ++e) first[e] = pooled && get(own.v[0][e]) == get(max.v[0][e]);
        for (u32 i = 0; pooled && i < iy % py * px + ix % px; ++i) {
            before.load(x + ((image * h + oy * py + i / px) * w + ox * px + i % px) * c + ch, 0, N);
#pragma unroll
            for (u32 e = 0; e < N; ++e) first[e] = first[e] && get(before.v[0][e]) != get(max.v[0][e]);
        }
#pragma unroll
        for (u32 e = 0; e < N; ++e) {
            if (!first[e]) put(&g.v[0][e], Acc<T>(0));
        }
        g.store(dx + t * N, 0, N);
    }
}

template <class T>
__device__ void max_pool_grad(const T* x, const T* y, const T* dy, T* dx, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    constexpr u32 N = pack<T>();
    bool vector = c % N == 0 && fits<N>(x) && fits<N>(y) && fits<N>(dy) && fits<N>(dx);
    vector ? max_pool_grad_by<N>(x, y, dy, dx, b, h, w, c, py, px) : max_pool_grad_by<1>(x, y, dy, dx, b, h, w, c, py, px);
}

#define MAPS(S, T)                                                                                                      \
    KERNEL(depthwise_##S, (const T* x, const Acc<T>* weight, const Acc<T>* bias, T* y, u64 b, u32 h, u32 w, u32 c,      \
                           u32 k, u32 has_bias, u32 flip)) {                                                            \
        depthwise(x, weight, bias, y, b, h, w, c, k, has_bias, flip);                                                   \
    }                                                                                                                   \
    KERNEL(depthwise_dweight_##S,                                                                                       \
           (const T* x, const T* dy, Acc<T>* parts, u64 b, u32 h, u32 w, u32 c, u32 k, u32 blocks)) {                   \
        depthwise_dweight(x, dy, parts, b, h, w, c, k, blocks);                                                         \
    }                                                                                                                   \
    KERNEL(unfold_##S, (const T* x, T* y, u64 b, u32 h, u32 w, u32 c, u32 ho, u32 wo, u32 k, u32 stride, u32 padding)) { \
        unfold(x, y, b, Unfold{h, w, c, ho, wo, k, stride, padding});                                                   \
    }                                                                                                                   \
    KERNEL(unfold_grad_##S,                                                                                             \
           (const T* dy, T* dx, u64 b, u32 h, u32 w, u32 c, u32 ho, u32 wo, u32 k, u32 stride, u32 padding)) {          \
        unfold_grad(dy, dx, b, Unfold{h, w, c, ho, wo, k, stride, padding});                                            \
    }                                                                                                                   \
    KERNEL(max_pool_##S, (const T* x, T* y, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px)) {                              \
        max_pool(x, y, b, h, w, c, py, px);                                                                             \
    }                                                                                                                   \
    KERNEL(max_pool_grad_##S,                                                                                           \
           (const T* x, const T* y, const T* dy, T* dx, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px)) {                  \
        max_pool_grad(x, y, dy, dx, b, h, w, c, py, px);                                                                \
    }

MAPS(f32, float)
MAPS(f64, double)
MAPS(bf16, bf16)
MAPS(f16, half_t)
