// Channels-last maps: depthwise convolution, the unfold of a general one, max pooling.
#include "common.cuh"

// Depthwise convolution, stride 1, odd kernel, size kept. x, y (B, H, W, C), weight (C, 1, k, k); bias (C) where has_bias;
// flip reads the kernel backwards, which is the gradient by x.
template <class T, class A = Acc<T>>
__device__ void depthwise(const T* x, const A* weight, const A* bias, T* y, u64 b, u32 h, u32 w, u32 c, u32 k, u32 has_bias,
                          u32 flip) {
    int p = k / 2;
    for (u64 t = first_item(); t < b * h * w * c; t += item_stride()) {
        u64 ch = t % c, image = t / c / w / h;
        int ox = t / c % w, oy = t / c / w % h;
        A sum = has_bias ? bias[ch] : A(0);
        for (int i = 0; i < int(k); ++i) {
            int iy = oy + i - p;
            if (iy < 0 || iy >= int(h)) continue;
            for (int j = 0; j < int(k); ++j) {
                int ix = ox + j - p;
                if (ix < 0 || ix >= int(w)) continue;
                int tap = i * k + j;
                if (flip) tap = k * k - 1 - tap;
                sum += get(x[((image * h + iy) * w + ix) * c + ch]) * weight[ch * k * k + tap];
            }
        }
        put(y + t, sum);
    }
}

// Sums over blocks of lines, (blocks, C, k k): the gradient by the kernel. Added up by sum_parts.
template <class T, class A = Acc<T>>
__device__ void depthwise_dweight(const T* x, const T* dy, A* parts, u64 b, u32 h, u32 w, u32 c, u32 k, u32 blocks) {
    int p = k / 2;
    for (u64 t = first_item(); t < u64(blocks) * k * k * c; t += item_stride()) {
        u64 ch = t % c, block = t / c / (k * k);
        u32 tap = t / c % (k * k);
        RowRange lines = row_block(b * h, blocks, block);
        A sum = 0;
        for (u64 line = lines.begin; line < lines.end; ++line) {
            int iy = int(line % h) + int(tap / k) - p;
            if (iy < 0 || iy >= int(h)) continue;
            for (int ox = 0; ox < int(w); ++ox) {
                int ix = ox + int(tap % k) - p;
                if (ix < 0 || ix >= int(w)) continue;
                sum += get(x[((line / h * h + iy) * w + ix) * c + ch]) * get(dy[(line * w + ox) * c + ch]);
            }
        }
        parts[(block * c + ch) * k * k + tap] = sum;
    }
}

// Sizes of an unfold: input H, W, C; output Ho, Wo; kernel, stride, padding.
struct Unfold {
    u32 h, w, c, ho, wo, k, stride, padding;
};

// x (B, H, W, C) -> y (B, Ho Wo, k k C), zero-padded.
template <class T>
__device__ void unfold(const T* x, T* y, u64 b, Unfold z) {
    u64 row = u64(z.k) * z.k * z.c;
    for (u64 t = first_item(); t < b * z.ho * z.wo * row; t += item_stride()) {
        u64 ch = t % z.c, o = t / row;
        u32 tap = t / z.c % (z.k * z.k);
        long long iy = (long long)(o / z.wo % z.ho) * z.stride + tap / z.k - z.padding;
        long long ix = (long long)(o % z.wo) * z.stride + tap % z.k - z.padding;
        bool inside = iy >= 0 && iy < z.h && ix >= 0 && ix < z.w;
        u64 image = o / z.wo / z.ho;
        put(y + t, inside ? get(x[((image * z.h + iy) * z.w + ix) * z.c + ch]) : Acc<T>(0));
    }
}

// The gradient by x: every input adds up the outputs that read it, in ascending order.
template <class T>
__device__ void unfold_grad(const T* dy, T* dx, u64 b, Unfold z) {
    for (u64 t = first_item(); t < b * z.h * z.w * z.c; t += item_stride()) {
        u64 ch = t % z.c, image = t / z.c / z.w / z.h;
        int x = int(t / z.c % z.w) + int(z.padding), y = int(t / z.c / z.w % z.h) + int(z.padding);
        Acc<T> sum = 0;
        for (int i = int(z.k) - 1; i >= 0; --i) {
            if (y < i || (y - i) % int(z.stride) != 0 || (y - i) / int(z.stride) >= int(z.ho)) continue;
            for (int j = int(z.k) - 1; j >= 0; --j) {
                if (x < j || (x - j) % int(z.stride) != 0 || (x - j) / int(z.stride) >= int(z.wo)) continue;
                u64 o = (image * z.ho + (y - i) / z.stride) * z.wo + (x - j) / z.stride;
                sum += get(dy[(o * z.k * z.k + i * z.k + j) * z.c + ch]);
            }
        }
        put(dx + t, sum);
    }
}

// Max pooling with kernel = stride = (py, px); the rest of the border is dropped.
template <class T>
__device__ void max_pool(const T* x, T* y, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    u32 oh = h / py, ow = w / px;
    for (u64 t = first_item(); t < b * oh * ow * c; t += item_stride()) {
        u64 ch = t % c, ox = t / c % ow, oy = t / c / ow % oh, image = t / c / ow / oh;
        Acc<T> max = 0;
        for (u32 i = 0; i < py * px; ++i) {
            Acc<T> v = get(x[((image * h + oy * py + i / px) * w + ox * px + i % px) * c + ch]);
            max = i == 0 || v > max ? v : max;
        }
        put(y + t, max);
    }
}

// Of equal values the first in reading order gets the gradient.
template <class T>
__device__ void max_pool_grad(const T* x, const T* y, const T* dy, T* dx, u64 b, u32 h, u32 w, u32 c, u32 py, u32 px) {
    u32 oh = h / py, ow = w / px;
    for (u64 t = first_item(); t < b * h * w * c; t += item_stride()) {
        u64 ch = t % c, ix = t / c % w, iy = t / c / w % h, image = t / c / w / h;
        u64 ox = ix / px, oy = iy / py, o = ((image * oh + oy) * ow + ox) * c + ch;
        Acc<T> g = 0;
        if (ox < ow && oy < oh && get(x[t]) == get(y[o])) {
            bool first = true;
            for (u32 i = 0; i < iy % py * px + ix % px && first; ++i)
                first = get(x[((image * h + oy * py + i / px) * w + ox * px + i % px) * c + ch]) != get(y[o]);
            if (first) g = get(dy[o]);
        }
        put(dx + t, g);
    }
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
