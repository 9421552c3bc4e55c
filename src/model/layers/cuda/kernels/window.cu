// Cutting a channels-last map into windows, and putting windows together again.
#include "common.cuh"

// A map (B, H, W, C) under (B, ny, nx) windows of wh x ww positions; what a window has beyond the map is padding.
struct Windows {
    u32 h, w, c, ny, nx, wh, ww;
    // Where value t of the windows (B, ny, nx, wh, ww, C) lies in the map; false for padding.
    __device__ bool in_map(u64 t, u64& at) const {
        u32 ch = u32(t % c);
        u64 p = t / c;
        u32 x = u32(p % ww), y = u32(p / ww % wh);
        u64 window = p / ww / wh;
        x += u32(window % nx) * ww;
        y += u32(window / nx % ny) * wh;
        at = ((window / nx / ny * h + y) * w + x) * c + ch;
        return x < w && y < h;
    }
    // Where value t of the map lies in the windows; false where no window reaches.
    __device__ bool in_windows(u64 t, u64& at) const {
        u32 ch = u32(t % c);
        u64 p = t / c;
        u32 x = u32(p % w), y = u32(p / w % h);
        u64 window = (p / w / h * ny + y / wh) * nx + x / ww;
        at = ((window * wh + y % wh) * ww + x % ww) * c + ch;
        return x / ww < nx && y / wh < ny;
    }
};

// count values of windows from a map; padding is `bias` (C) where has_bias, else zero.
template <class T>
__device__ void cut(const T* map, const T* bias, T* windows, u64 count, u32 has_bias, Windows z) {
    for (u64 t = first_item(); t < count; t += item_stride()) {
        u64 at;
        if (z.in_map(t, at))
            windows[t] = map[at];
        else if (has_bias)
            windows[t] = bias[t % z.c];
        else
            put(windows + t, Acc<T>(0));
    }
}

// count values of a map from its windows; zero where no window reaches.
template <class T>
__device__ void join(const T* windows, T* map, u64 count, Windows z) {
    for (u64 t = first_item(); t < count; t += item_stride()) {
        u64 at;
        if (z.in_windows(t, at))
            map[t] = windows[at];
        else
            put(map + t, Acc<T>(0));
    }
}

// Sums of the padding's gradients over blocks of windows' positions, (blocks, C). Added up by sum_parts.
template <class T, class A = Acc<T>>
__device__ void padding_sums(const T* d, A* parts, u64 rows, u32 blocks, Windows z) {
    for (u64 t = first_item(); t < u64(blocks) * z.c; t += item_stride()) {
        RowRange range = row_block(rows, blocks, t / z.c);
        A sum = 0;
        u64 at;
        for (u64 r = range.begin; r < range.end; ++r) {
            u64 i = r * z.c + t % z.c;
            if (!z.in_map(i, at)) sum += get(d[i]);
        }
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
