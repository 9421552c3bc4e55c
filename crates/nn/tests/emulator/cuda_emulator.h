// CUDA's execution model on one CPU thread, so that the kernels' own source runs in tests without a GPU.
//
// Every thread of a block is a fiber; a block's fibers take turns and change at barriers and warp exchanges only. Blocks run
// one after the other, in ascending or descending order, and so do the fibers between barriers: a kernel whose result depends on
// the order of blocks, or that lacks a barrier, is found by comparing the two. Asynchronous copies are made at once in the one
// order and as late as allowed in the other. Reads and writes go to ordinary memory, so guard pages catch an index out of bounds.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __restrict__ __restrict

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace emulator {

constexpr int WARP = 32;
constexpr size_t STACK = 64 * 1024;

#if defined(__x86_64__)
// Saves the registers that a call must keep, changes stacks, and restores those of the other side.
extern "C" void emulator_switch(void** save, void* load);
__asm__(
    ".text\n.weak emulator_switch\n.hidden emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size emulator_switch, .-emulator_switch\n");
#endif

struct Barrier {
    unsigned members = 0, arrived = 0, generation = 0;
};

// A copy that was begun and not waited for.
struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    bool inside;

    void make() const {
        if (inside) {
            std::memcpy(to, from, bytes);
        } else {
            std::memset(to, 0, bytes);
        }
    }
};

struct Fiber {
#if defined(__x86_64__)
    void* sp = nullptr;
#else
    ucontext_t context;
#endif
    dim3 thread;
    bool done = false;
    unsigned exchanges = 0;
    std::vector<Copy> copies;
};

// The operands of a matrix instruction: 16 rows by 16, and 8 columns by 16.
struct Matrices {
    float left[16][16], right[8][16];
};

// What lanes show each other; twice, since one may already be at the next exchange while another still reads the last.
struct Warp {
    Barrier barrier;
    uint64_t slots[2][WARP];
    Matrices matrices[2];
};

// The block under way on this OS thread.
struct State {
    dim3 block, block_dim, grid_dim;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<char> stacks;
    Barrier barrier;
    unsigned current = 0;
    // Turns in a row in which no fiber came further.
    unsigned idle = 0;
    // Whether fibers take turns from the last to the first, and copies are made late.
    bool descending = false;
    const char* failure = nullptr;
    void (*body)(void**) = nullptr;
    void** arguments = nullptr;
#if defined(__x86_64__)
    void* scheduler = nullptr;
#else
    ucontext_t scheduler;
#endif
};

inline thread_local State state;

inline Fiber& self() { return state.fibers[state.current]; }

inline void yield() {
#if defined(__x86_64__)
    emulator_switch(&self().sp, state.scheduler);
#else
    swapcontext(&self().context, &state.scheduler);
#endif
}

// Waits until all members that still run have arrived.
inline void wait(Barrier& b) {
    unsigned mine = b.generation;
    state.idle = 0;
    if (++b.arrived == b.members) {
        b.arrived = 0;
        ++b.generation;
        return;
    }
    while (b.generation == mine) yield();
    state.idle = 0;
}

inline void leave(Barrier& b) {
    --b.members;
    if (b.arrived != 0) state.failure = "a barrier was reached by some threads only, the others have ended";
}

inline void enter() {
    state.body(state.arguments);
    if (!self().copies.empty()) state.failure = "a thread ended before its copies";
    self().done = true;
    state.idle = 0;
    leave(state.warps[state.current / WARP].barrier);
    leave(state.barrier);
    for (;;) yield();
}

inline void start(unsigned i) {
    char* stack = state.stacks.data() + i * STACK;
    Fiber& f = state.fibers[i];
#if defined(__x86_64__)
    auto top = reinterpret_cast<uintptr_t>(stack + STACK) & ~uintptr_t(15);
    auto sp = reinterpret_cast<void**>(top);
    *--sp = nullptr;                            // keeps the stack aligned as after a call
    *--sp = reinterpret_cast<void*>(&enter);    // where the first switch returns to
    for (int r = 0; r < 6; ++r) *--sp = nullptr;
    f.sp = sp;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
#endif
}

inline void run_block(unsigned threads) {
    State& s = state;
    s.fibers.assign(threads, Fiber());
    s.warps.assign((threads + WARP - 1) / WARP, Warp());
    s.stacks.resize(threads * STACK);
    s.barrier = Barrier{threads};
    for (unsigned w = 0; w < s.warps.size(); ++w) {
        unsigned left = threads - w * WARP;
        s.warps[w].barrier.members = left < WARP ? left : WARP;
        // An exchange with a lane that is not there must not go unnoticed.
        std::memset(s.warps[w].slots, 0xff, sizeof s.warps[w].slots);
    }
    for (unsigned i = 0; i < threads; ++i) {
        s.fibers[i].thread = dim3{i, 0, 0};
        start(i);
    }
    unsigned running = threads;
    s.idle = 0;
    while (running > 0 && !s.failure) {
        if (++s.idle > 2) s.failure = "a barrier was not reached by all threads of a block or warp";
        for (unsigned turn = 0; turn < threads && !s.failure; ++turn) {
            unsigned i = s.descending ? threads - 1 - turn : turn;
            if (s.fibers[i].done) continue;
            s.current = i;
#if defined(__x86_64__)
            emulator_switch(&s.scheduler, s.fibers[i].sp);
#else
            swapcontext(&s.scheduler, &s.fibers[i].context);
#endif
            if (s.fibers[i].done) --running;
        }
    }
}

inline uint64_t exchange(uint64_t value, unsigned from) {
    Warp& w = state.warps[state.current / WARP];
    unsigned lane = state.current % WARP;
    uint64_t* slots = w.slots[self().exchanges++ % 2];
    slots[lane] = value;
    wait(w.barrier);
    return slots[from % WARP];
}

template <class T>
T exchange_value(T value, unsigned from) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(bits, from);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Kernels by name, with a function that calls them with a list of pointers to arguments, as cuLaunchKernel does.
struct Kernel {
    void (*call)(void**);
    size_t arguments;
    // Threads of a block, where the kernel counts on them.
    unsigned threads;
};

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

template <auto F>
struct Caller;
template <class... A, void (*F)(A...)>
struct Caller<F> {
    static constexpr size_t COUNT = sizeof...(A);
    template <size_t... I>
    static void unpack(void** p, std::index_sequence<I...>) {
        F(*static_cast<std::decay_t<A>*>(p[I])...);
    }
    static void call(void** p) { unpack(p, std::make_index_sequence<COUNT>()); }
};

struct Register {
    Register(const char* name, Kernel k) { kernels()[name] = k; }
};

}  // namespace emulator

#define threadIdx (emulator::self().thread)
#define blockIdx (emulator::state.block)
#define blockDim (emulator::state.block_dim)
#define gridDim (emulator::state.grid_dim)

inline void __syncthreads() { emulator::wait(emulator::state.barrier); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulator::exchange_value(value, emulator::state.current % emulator::WARP ^ static_cast<unsigned>(mask));
}

template <class T>
T __ldg(const T* p) {
    return *p;
}

struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};

// Copies a V between memory and registers (kernels/pack.cuh); the device refuses an address that is not a multiple of its size.
template <class V>
void copy_vector(void* to, const void* from) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % sizeof(V) == 0) {
        std::memcpy(to, from, sizeof(V));
    } else {
        emulator::state.failure = "a vector is accessed at an address that is not a multiple of its size";
    }
}

// bfloat16 and half: storage only, with round to nearest even, as the hardware converts.
struct __nv_bfloat16 {
    uint16_t bits;
};
struct __half {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t b = uint32_t(x.bits) << 16;
    float f;
    std::memcpy(&f, &b, 4);
    return f;
}

inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    uint32_t b;
    std::memcpy(&b, &f, 4);
    if ((b & 0x7fffffff) > 0x7f800000) return __nv_bfloat16{0x7fff};
    return __nv_bfloat16{uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16)};
}

inline float __half2float(__half x) {
    uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    float f;
    if (exponent == 0) {
        f = std::ldexp(float(fraction), -24);
        return sign ? -f : f;
    }
    uint32_t b = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | fraction << 13;
    std::memcpy(&f, &b, 4);
    return f;
}

inline __half __float2half_rn(float f) {
    uint32_t b;
    std::memcpy(&b, &f, 4);
    uint16_t sign = b >> 16 & 0x8000;
    b &= 0x7fffffff;
    if (b > 0x7f800000) return __half{0x7fff};
    if (b >= 0x477ff000) return __half{uint16_t(sign | 0x7c00)};
    if (b < 0x38800000) {
        // Subnormal: a multiple of 2^-24; nearbyint rounds to nearest even.
        float a;
        std::memcpy(&a, &b, 4);
        return __half{uint16_t(sign | uint16_t(std::nearbyint(std::ldexp(a, 24))))};
    }
    return __half{uint16_t(sign | ((b - 0x38000000 + 0xfff + (b >> 13 & 1)) >> 13))};
}

// Matrix instructions of a warp. Fragments as the PTX ISA has them, under "Matrix Fragments for mma.m16n8k16 with floating point
// type": a0 … a7, b0 … b3, c0 … c3 are a lane's elements in the order of its registers, two a register in a and b.
namespace emulator {

inline float number(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float number(__half x) { return __half2float(x); }

// mma.sync.aligned.m16n8k16.row.col.f32.T.T.f32: c += a b.
template <class T>
void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    Warp& warp = state.warps[state.current / WARP];
    unsigned lane = state.current % WARP, group = lane >> 2, in_group = lane % 4;
    Matrices& m = warp.matrices[self().exchanges++ % 2];
    unsigned b[2] = {b0, b1};
    T left[8], right[4];
    std::memcpy(left, a, sizeof left);
    std::memcpy(right, b, sizeof right);
    for (unsigned i = 0; i < 8; ++i) {
        unsigned row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
        unsigned column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
        m.left[row][column] = number(left[i]);
    }
    for (unsigned i = 0; i < 4; ++i) {
        unsigned row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
        m.right[group][row] = number(right[i]);
    }
    wait(warp.barrier);
    for (unsigned i = 0; i < 4; ++i) {
        const float* x = m.left[i < 2 ? group : group + 8];
        const float* y = m.right[in_group * 2 + (i & 1)];
        float sum = 0;
        for (unsigned k = 0; k < 16; ++k) sum += x[k] * y[k];
        c[i] += sum;
    }
}

// ldmatrix.sync.aligned.m8n8.x4{.trans}.shared.b16: lanes 8i to 8i + 7 give the addresses of matrix i's rows.
inline void ldmatrix(unsigned (&r)[4], const void* address, bool transposed) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) state.failure = "ldmatrix: a row does not begin at a multiple of 16 bytes";
    Warp& warp = state.warps[state.current / WARP];
    unsigned lane = state.current % WARP;
    uint64_t* slots = warp.slots[self().exchanges++ % 2];
    slots[lane] = reinterpret_cast<uint64_t>(address);
    wait(warp.barrier);
    auto element = [&](unsigned matrix, unsigned row, unsigned column) {
        return unsigned(reinterpret_cast<const uint16_t*>(slots[matrix * 8 + row])[column]);
    };
    unsigned major = lane / 4, minor = lane % 4 * 2;
    for (unsigned i = 0; i < 4; ++i) {
        unsigned low = transposed ? element(i, minor, major) : element(i, major, minor);
        unsigned high = transposed ? element(i, minor + 1, major) : element(i, major, minor + 1);
        r[i] = low | high << 16;
    }
}

// cp.async: `bytes` to shared memory, zeros where not `inside`.
inline void copy_async(void* to, const void* from, unsigned bytes, bool inside) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes != 0) {
        state.failure = "cp.async: an address is not aligned";
        return;
    }
    Copy copy{to, from, bytes, inside};
    if (state.descending) {
        self().copies.push_back(copy);
    } else {
        copy.make();
    }
}

// cp.async.wait_all, for the copies of the calling thread.
inline void copies_done() {
    for (const Copy& c : self().copies) c.make();
    self().copies.clear();
}

}  // namespace emulator

#define KERNEL_OF(threads, name, parameters)                                                          \
    extern "C" void name parameters;                                                                  \
    static emulator::Register name##_registered(                                                      \
        #name, {emulator::Caller<&name>::call, emulator::Caller<&name>::COUNT, threads});             \
    extern "C" void name parameters
#define KERNEL(name, parameters) KERNEL_OF(0, name, parameters)
#define KERNEL_BY(threads, blocks, name, parameters) KERNEL_OF(threads, name, parameters)
