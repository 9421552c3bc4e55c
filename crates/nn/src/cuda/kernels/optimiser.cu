// AdamW over many tensors in one launch, and the norm of all gradients.
#include "pack.cuh"

// Elements of a chunk: the unit that a gradient's squares are summed in, and that one block updates.
constexpr u32 CHUNK = 4096;

// One parameter; the layout is repeated in cuda/optimiser.rs.
struct Slot {
    float* p;
    const float* g;
    float* m;
    float* v;
    u64 n;
    // 1 - lr * weight decay; lr / (1 - beta1^t); sqrt(1 - beta2^t).
    float shrink, step, bias2;
    // What the copy is of: nothing, bf16 or half.
    u32 kind;
    void* copy;
};

// A chunk of a parameter.
struct Piece {
    u32 slot, chunk;
};

// m += (g - m)(1 - b1); v = v b2 + g^2 (1 - b2); p = p shrink - step * (m / (sqrt(v) / bias2 + eps)), with g scaled first.
KERNEL(adamw, (const Slot* slots, const Piece* pieces, u32 count, float scale)) {
    constexpr float B1 = float(1.0 - 0.9), B2 = float(1.0 - 0.999), KEEP2 = 0.999f, EPS = 1e-8f;
    constexpr u32 N = pack<float>();
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        Slot s = slots[pieces[i].slot];
        u64 begin = u64(pieces[i].chunk) * CHUNK, end = begin + CHUNK < s.n ? begin + CHUNK : s.n;
        auto brain = static_cast<bf16*>(s.copy);
        auto half = static_cast<half_t*>(s.copy);
        bool vector = fits<N>(s.p) && fits<N>(s.g) && fits<N>(s.m) && fits<N>(s.v) && fits<N>(brain);
        tiles<N>(begin, end, 0, 1, vector, [&](auto shape, u64 at, u64 step, u64 left) {
            auto p = read(shape, s.p, at, step, left), g = read(shape, s.g, at, step, left);
            auto m = read(shape, s.m, at, step, left), v = read(shape, s.v, at, step, left);
            m = apply<float>([&](float g, float m) { return m + (g * scale - m) * B1; }, g, m);
            v = apply<float>([&](float g, float v) { return v * KEEP2 + g * scale * (g * scale) * B2; }, g, v);
            p = apply<float>([&](float p, float m, float v) {
                return p * s.shrink - s.step * (m / (sqrtf(v) / s.bias2 + EPS));
            }, p, m, v);
            m.store(s.m + at, step, left);
            v.store(s.v + at, step, left);
            p.store(s.p + at, step, left);
            auto same = [](float p) { return p; };
            if (s.kind == 1) apply<bf16>(same, p).store(brain + at, step, left);
            if (s.kind == 2) apply<half_t>(same, p).store(half + at, step, left);
        });
    }
}

// The sum of squares of every chunk of all gradients, in double; SUM_THREADS threads a block.
KERNEL(square_sums, (const Slot* slots, const Piece* pieces, u32 count, double* sums)) {
    constexpr u32 N = pack<float>(), U = CHUNK / SUM_THREADS / N;
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        Slot s = slots[pieces[i].slot];
        u64 begin = u64(pieces[i].chunk) * CHUNK, end = begin + CHUNK < s.n ? begin + CHUNK : s.n;
        u64 own = begin + threadIdx.x * N;
        Tile<float, N, U> g;
        g.load(s.g + own, SUM_THREADS * N, own < end ? end - own : 0, end % N == 0 && fits<N>(s.g));
        double sum = 0;
#pragma unroll
        for (u32 u = 0; u < U; ++u) {
#pragma unroll
            for (u32 e = 0; e < N; ++e) sum += double(g.v[u][e]) * double(g.v[u][e]);
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) sums[i] = sum;
    }
}

// The sum (1) of n values; one block of SUM_THREADS threads.
KERNEL(sum_f64, (const double* x, double* out, u64 n)) {
    if (blockIdx.x != 0) return;
    double sum = 0;
    for (u64 i = threadIdx.x; i < n; i += SUM_THREADS * ROWS) {
        Tile<double, 1, ROWS> v;
        v.load(x + i, SUM_THREADS, n - i);
#pragma unroll
        for (u32 u = 0; u < ROWS; ++u) sum += v.v[u][0];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}
