// The emulator's one entry: runs a kernel by name.
#include "cuda_emulator.h"

// Returns null, or what went wrong. `arguments` points to `count` pointers to argument values.
extern "C" const char* emulator_run(const char* name, unsigned grid, unsigned block, void** arguments, size_t count,
                                    int descending) {
    auto found = emulator::kernels().find(name);
    if (found == emulator::kernels().end()) return "there is no such kernel";
    if (found->second.arguments != count) return "the number of arguments is wrong";
    if (found->second.threads != 0 && found->second.threads != block) return "the kernel is for blocks of another size";
    auto& s = emulator::state;
    s.body = found->second.call;
    s.arguments = arguments;
    s.grid_dim = dim3{grid, 1, 1};
    s.block_dim = dim3{block, 1, 1};
    s.failure = nullptr;
    s.descending = descending != 0;
    for (unsigned i = 0; i < grid && !s.failure; ++i) {
        s.block = dim3{descending ? grid - 1 - i : i, 0, 0};
        emulator::run_block(block);
    }
    return s.failure;
}

// A digest of the kernels' names and numbers of arguments, one a line; the caller's buffer is filled up to `size`.
extern "C" size_t emulator_list(char* buffer, size_t size) {
    std::string all;
    for (auto& k : emulator::kernels()) all += k.first + " " + std::to_string(k.second.arguments) + "\n";
    size_t n = all.size() < size ? all.size() : size;
    std::memcpy(buffer, all.data(), n);
    return all.size();
}
