// AdamW over many tensors in one launch, and the norm of all gradients.
#include "common.cuh"

// Elements of a chunk: the unit that a gradient's squares are summed in, and that one block updates.
constexpr u32 CHUNK = 4096;

// One parameter; the layout is repeated in layers/cuda/optimiser.rs.
struct Slot {
    float* p;
    const float* g;
    float* m;
    float* v;
    u64 n;
    // 1 - lr * weight decay; lr / (1 - beta1^t); sqrt(1 - beta2^t).
    float shrink, step, bias2, unused;
};

// A chunk of a parameter.
struct Piece {
    u32 slot, chunk;
};

// m += (g - m)(1 - b1); v = v b2 + g^2 (1 - b2); p = p shrink - step * (m / (sqrt(v) / bias2 + eps)), with g scaled first.
KERNEL(adamw, (const Slot* slots, const Piece* pieces, u32 count, float scale)) {
    constexpr float B1 = float(1.0 - 0.9), B2 = float(1.0 - 0.999), KEEP2 = 0.999f, EPS = 1e-8f;
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        Slot s = slots[pieces[i].slot];
        u64 begin = u64(pieces[i].chunk) * CHUNK, end = begin + CHUNK < s.n ? begin + CHUNK : s.n;
        for (u64 e = begin + threadIdx.x; e < end; e += blockDim.x) {
            float d = s.g[e] * scale;
            float m = s.m[e] + (d - s.m[e]) * B1;
            float v = s.v[e] * KEEP2 + d * d * B2;
            s.m[e] = m;
            s.v[e] = v;
            s.p[e] = s.p[e] * s.shrink - s.step * (m / (sqrtf(v) / s.bias2 + EPS));
        }
    }
}

// The sum of squares of every chunk of all gradients, in double; SUM_THREADS threads a block.
KERNEL(square_sums, (const Slot* slots, const Piece* pieces, u32 count, double* sums)) {
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        Slot s = slots[pieces[i].slot];
        u64 begin = u64(pieces[i].chunk) * CHUNK, end = begin + CHUNK < s.n ? begin + CHUNK : s.n;
        double sum = 0;
        for (u64 e = begin + threadIdx.x; e < end; e += SUM_THREADS) sum += double(s.g[e]) * double(s.g[e]);
        sum = block_sum(sum);
        if (threadIdx.x == 0) sums[i] = sum;
    }
}

// The sum (1) of n values; one block of SUM_THREADS threads.
KERNEL(sum_f64, (const double* x, double* out, u64 n)) {
    if (blockIdx.x != 0) return;
    double sum = 0;
    for (u64 i = threadIdx.x; i < n; i += SUM_THREADS) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}
