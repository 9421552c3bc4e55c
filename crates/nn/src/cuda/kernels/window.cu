// Cutting a channels-last map into windows, and putting windows together again.
#include "pack.cuh"

// A map (B, H, W, C) under (B, ny, nx) windows of wh x ww positions; what a window has beyond the map is padding.
struct Windows {
    u32 h, w, c, ny, nx, wh, ww;
    // Where position p of the windows (B, ny, nx, wh, ww) lies in the map (B, H, W); false for padding.
    __device__ bool in_map(u64 p, u64& at) const {
        u32 x = take(p, ww), y = take(p, wh);
        x += take(p, nx) * ww;
        y += take(p, ny) * wh;
        at = (p * h + y) * w + x;
        return x < w && y < h;
    }
    // Where position p of the map lies in the windows; false where no window reaches.
    __device__ bool in_windows(u64 p, u64& at) const {
        u32 x = take(p, w), y = take(p, h), wx = x / ww, wy = y / wh;
        at = (((p * ny + wy) * nx + wx) * wh + (y - wy * wh)) * ww + (x - wx * ww);
        return wx < nx && wy < ny;
    }
};

// count positions of windows from a map; padding is `bias` (C) where has_bias, else zero.
template <u32 N, class T>
__device__ void cut_by(const T* map, const T* bias, T* windows, u64 count, u32 has_bias, Windows z) {
    u32 packs = z.c / N;
    for (u64 t = first_item(); t < count * packs; t += item_stride()) {
        u64 p = t, at;
        u32 ch = take(p, packs) * N;
        bool inside = z.in_map(p, at);
        Tile<T, N> v;
        v.load(inside ? map + at * z.c + ch : bias + ch, 0, inside || has_bias ? N : 0);
        v.store(windows + t * N, 0, N);
    }
}

template <class T>
__device__ void cut(const T* map, const T* bias, T* windows, u64 count, u32 has_bias, Windows z) {
    constexpr u32 N = pack<T>();
    bool vector = z.c % N == 0 && fits<N>(map) && fits<N>(bias) && fits<N>(windows);
    vector ? cut_by<N>(map, bias, windows, count, has_bias, z) : cut_by<1>(map, bias, windows, count, has_bias, z);
}

// count positions of a map from its windows; zero where no window reaches.
template <u32 N, class T>
__device__ void join_by(const T* windows, T* map, u64 count, Windows z) {
    u32 packs = z.c / N;
    for (u64 t = first_item(); t < count * packs; t += item_stride()) {
        u64 p = t, at;
        u32 ch = take(p, packs) * N;
        bool inside = z.in_windows(p, at);
        Tile<T, N> v;
        v.load(inside ? windows + at * z.c + ch : windows, 0, inside ? N : 0);
        v.store(map + t * N, 0, N);
    }
}

template <class T>
__device__ void join(const T* windows, T* map, u64 count, Windows z) {
    constexpr u32 N = pack<T>();
    bool vector = z.c % N == 0 && fits<N>(windows) && fits<N>(map);
    vector ? join_by<N>(windows, map, count, z) : join_by<1>(windows, map, count, z);
}

// Sums of the padding's gradients over blocks of windows' positions, (blocks, C). Added up by sum_parts.
template <class T, class A = Acc<T>>
__device__ void padding_sums(const T* d, A* parts, u64 rows, u32 blocks, Windows z) {
    for (u64 t = first_item(); t < u64(blocks) * z.c; t += item_stride()) {
        u64 block = t, at;
        u32 ch = take(block, z.c);
        RowRange range = row_block(rows, blocks, block);
        A sum = 0;
        for (u64 r = range.begin; r < range.end; ++r)
            if (!z.in_map(r, at)) sum += get(d[r * z.c + ch]);
        parts[t] = sum;
    }
}

#define WINDOWS(S, T)                                                                                               \
    KERNEL(cut_windows_##S, (const T* map, const T* bias, T* windows, u64 count, u32 has_bias, u32 h, u32 w, u32 c, \
                             u32 ny, u32 nx, u32 wh, u32 ww)) {                                                     \
        cut(map, bias, windows, count, has_bias, Windows{h, w, c, ny, nx, wh, ww});                                 \
    }                                                                                                               \
    KERNEL(join_windows_##S,                                                                                        \
           (const T* windows, T* map, u64 count, u32 h, u32 w, u32 c, u32 ny, u32 nx, u32 wh, u32 ww)) {            \
        join(windows, map, count, Windows{h, w, c, ny, nx, wh, ww});                                                \
    }                                                                                                               \
    KERNEL(padding_sums_##S, (const T* d, Acc<T>* parts, u64 rows, u32 blocks, u32 h, u32 w, u32 c, u32 ny, u32 nx, \
                              u32 wh, u32 ww)) {                                                                    \
        padding_sums(d, parts, rows, blocks, Windows{h, w, c, ny, nx, wh, ww});                                     \
    }

WINDOWS(f32, float)
WINDOWS(f64, double)
WINDOWS(bf16, bf16)
WINDOWS(f16, half_t)
