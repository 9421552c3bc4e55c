"""Static libraries that stand for NVIDIA's shared ones at link time.

candle links libcuda, libcublas, libcublasLt, libcurand and libnvrtc when the program is built, so a plain build neither links
nor starts where they are missing. Each library made here holds one jump per exported function: the first call opens the real
library and looks the function up; where the library is missing, the call returns that library's own error. So the same binary
runs on machines without a driver (`--device cpu`). CUDA_LAZY_DEBUG=1 prints why a library could not be opened.

A library is looked for where the loader looks (LD_LIBRARY_PATH, ld.so's cache), then in MEDFT_CUDA_LIBRARIES, beside the program
(in its folder and in lib/ there), where scripts/cuda-env.sh puts NVIDIA's packages, in a conda environment and in /usr/local: a
program that was built is started without make.

    python3 scripts/lazy_stubs.py TOOLKIT OUT      TOOLKIT holds include/ and lib/; OUT/lib*.a are written
"""

import pathlib
import platform
import re
import subprocess
import sys

# name: shared objects to try, pattern of the functions, the status that says "not there" in that library's enumeration
LIBRARIES = {
    "cuda": (["libcuda.so.1"], None, 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": (["libcublas.so.13"], "cublas", 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublasLt": (["libcublasLt.so.13"], "cublasLt", 1),
    "curand": (["libcurand.so.10"], "curand", 101),  # CURAND_STATUS_NOT_INITIALIZED
    "nvrtc": (["libnvrtc.so.13"], "nvrtc", 11),  # NVRTC_ERROR_INTERNAL_ERROR
}

# Integer arguments of a call in the System V ABI, and rax (the number of vector registers of a variadic call).
SAVED = ["rax", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10"]


def functions(toolkit, name, sonames, prefix):
    """The functions of a library: the driver's from its header (its library is part of the driver), the others' from the library."""
    if prefix is None:
        header = (toolkit / "include" / "cuda.h").read_text(errors="replace")
        return sorted(set(re.findall(r"\bcu[A-Z]\w+", header)))
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", toolkit / "lib" / sonames[0]], capture_output=True, text=True, check=True
    ).stdout
    return sorted({m.group(1) for m in re.finditer(rf" [TWi] ({prefix}\w*)", listing)})


def assembly(p, symbols):
    """One jump through a slot per function; an empty slot enters the resolver with every argument register saved."""
    lines = [".text"]
    for i, s in enumerate(symbols):
        # r11 is free at a call boundary.
        lines.append(
            f".globl {s}\n.type {s}, @function\n{s}:\n  mov {p}_slots+{8 * i}(%rip), %r11\n  test %r11, %r11\n"
            f"  jz 1f\n  jmp *%r11\n1: mov ${i}, %r11d\n  jmp {p}_enter"
        )
    push = "".join(f"  push %{r}\n" for r in SAVED)
    pop = "".join(f"  pop %{r}\n" for r in reversed(SAVED))
    save = "".join(f"  movups %xmm{k}, {16 * k}(%rsp)\n" for k in range(8))
    load = "".join(f"  movups {16 * k}(%rsp), %xmm{k}\n" for k in range(8))
    lines.append(
        f"{p}_enter:\n  push %rbp\n  mov %rsp, %rbp\n{push}  sub $128, %rsp\n{save}"
        f"  and $-16, %rsp\n  mov %r11d, %edi\n  call {p}_resolve\n  lea -192(%rbp), %rsp\n"
        f"  mov %rax, %r11\n{load}  add $128, %rsp\n{pop}  pop %rbp\n  jmp *%r11"
    )
    lines.append(f".bss\n.balign 8\n.globl {p}_slots\n{p}_slots: .zero {8 * len(symbols)}")
    lines.append('.section .note.GNU-stack,"",@progbits\n')
    return "\n".join(lines)


def resolver(p, name, sonames, symbols, status):
    """The C side: opens the library once, looks functions up, answers for a missing one."""
    table = ", ".join(f'"{s}"' for s in symbols)
    objects = ", ".join(f'"{s}"' for s in sonames)
    return f"""#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern void *{p}_slots[];
static const char *const names[] = {{{table}}};
static const char *const sonames[] = {{{objects}}};
static int absent(void) {{ return {status}; }}
static const char *absent_text(void) {{ return "lib{name} could not be loaded"; }}
static int absent_out(int e, const char **s) {{ (void)e; *s = absent_text(); return 0; }}
static void *handle;
static int tried;
static void *in_folder(const char *folder, const char *below, const char *soname) {{
  char path[4096];
  if (!folder || !*folder || snprintf(path, sizeof path, "%s%s/%s", folder, below, soname) >= (int)sizeof path) return 0;
  return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}}
static void *elsewhere(const char *soname) {{
  static const char *const packages = "/wheels/nvidia/cu13/lib";
  void *h = in_folder(getenv("MEDFT_CUDA_LIBRARIES"), "", soname);
  char self[2048];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n > 0) {{
    self[n] = 0;
    char *end = strrchr(self, '/');
    if (end) *end = 0;
    if (!h) h = in_folder(self, "", soname);
    if (!h) h = in_folder(self, "/lib", soname);
  }}
  if (!h) h = in_folder(getenv("MEDFT_CUDA_DIR"), packages, soname);
  char cache[2048];
  const char *home = getenv("HOME");
  if (!h && home && snprintf(cache, sizeof cache, "%s/.cache/medft/cuda-13.0", home) < (int)sizeof cache) h = in_folder(cache, packages, soname);
  if (!h) h = in_folder(getenv("CONDA_PREFIX"), "/lib", soname);
  if (!h) h = in_folder("/usr/local", "/cuda-13/lib64", soname);
  if (!h) h = in_folder("/usr/local", "/cuda/lib64", soname);
  return h;
}}
__attribute__((visibility("hidden"))) void *{p}_resolve(unsigned i) {{
  if (!__atomic_load_n(&tried, __ATOMIC_ACQUIRE)) {{
    void *h = 0;
    char why[512] = "";
    for (unsigned k = 0; !h && k < sizeof sonames / sizeof *sonames; k++) {{
      h = dlopen(sonames[k], RTLD_NOW | RTLD_GLOBAL);
      if (!h) snprintf(why, sizeof why, "%s", dlerror());
      if (!h) h = elsewhere(sonames[k]);
    }}
    if (!h && getenv("CUDA_LAZY_DEBUG")) fprintf(stderr, "{name}: %s\\n", why);
    __atomic_store_n(&handle, h, __ATOMIC_RELEASE);
    __atomic_store_n(&tried, 1, __ATOMIC_RELEASE);
  }}
  void *h = __atomic_load_n(&handle, __ATOMIC_ACQUIRE);
  void *f = h ? dlsym(h, names[i]) : 0;
  if (!f) return !strncmp(names[i], "cuGetError", 10) ? (void *)absent_out
      : strstr(names[i], "GetErrorString") || strstr(names[i], "GetStatus") ? (void *)absent_text : (void *)absent;
  __atomic_store_n(&{p}_slots[i], f, __ATOMIC_RELEASE);
  return f;
}}
"""


def main(toolkit, out):
    if platform.machine() not in ("x86_64", "AMD64"):
        sys.exit(
            f"lazy_stubs.py: the jumps are written for x86-64, and this machine is {platform.machine()} (GH200 and Grace are aarch64): "
            "build with NVIDIA's toolkit installed and its lib64 in LIBRARY_PATH, without scripts/cuda-env.sh"
        )
    out.mkdir(parents=True, exist_ok=True)
    work = out / "stubs"
    work.mkdir(exist_ok=True)
    for name, (sonames, prefix, status) in LIBRARIES.items():
        p = f"__lazy_{name}"
        symbols = functions(toolkit, name, sonames, prefix)
        (work / f"{name}.s").write_text(assembly(p, symbols))
        (work / f"{name}_resolve.c").write_text(resolver(p, name, sonames, symbols, status))
        objects = []
        for source in [f"{name}.s", f"{name}_resolve.c"]:
            objects.append(str((work / source).with_suffix(".o")))
            subprocess.run(["cc", "-O2", "-fPIC", "-c", "-o", objects[-1], str(work / source)], check=True)
        archive = out / f"lib{name}.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", archive, *objects], check=True)
        print(f"lib{name}.a: {len(symbols)} functions", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
