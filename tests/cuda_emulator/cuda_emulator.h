// CUDA's execution model on one CPU thread, so that the kernels' own source runs in tests without a GPU.
//
// Every thread of a block is a fiber; a block's fibers take turns and change at barriers and warp exchanges only. Blocks run
// one after the other, in ascending or descending order: a kernel whose result depends on the order of blocks is found by
// comparing the two. Reads and writes go to ordinary memory, so guard pages catch an index out of bounds.
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

struct Fiber {
#if defined(__x86_64__)
    void* sp = nullptr;
#else
    ucontext_t context;
#endif
    dim3 thread;
    bool done = false;
    unsigned exchanges = 0;
};

struct Warp {
    Barrier barrier;
    uint64_t slots[2][WARP];
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
        for (unsigned i = 0; i < threads && !s.failure; ++i) {
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

#define KERNEL(name, parameters)                                                                    \
    extern "C" void name parameters;                                                                \
    static emulator::Register name##_registered(#name, {emulator::Caller<&name>::call,              \
                                                        emulator::Caller<&name>::COUNT});           \
    extern "C" void name parameters
