#!/usr/bin/env bash
# Prints the environment in which the feature `cuda` builds, as lines for `eval`, on a machine with or without CUDA:
#
#     eval "$(scripts/cuda-env.sh)" && cargo build --release --features cuda
#
# nvcc 13.0, its headers and libraries come from PyPI's nvidia-* packages (1.2 GB; needs python3 with pip, and cc), into
# $MEDFT_CUDA_DIR (default: ~/.cache/medft/cuda-13.0), also where another version is installed: one compiler, one result.
# The shared libraries are linked through lazy_stubs.py, so that the binary also starts where they are missing.
# At run time the libraries cublas, cublasLt and curand are looked for in LD_LIBRARY_PATH and in ld.so's cache; the lines printed
# add those of the packages. CUDA_COMPUTE_CAP is the least capability the kernels are compiled for (default 80: A100 and later).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${MEDFT_CUDA_DIR:-$HOME/.cache/medft/cuda-13.0}
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.0.2.14 nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88)

if [ ! -e "$dir/ready" ]; then
  mkdir -p "$dir"
  src=$dir/wheels/nvidia/cu13
  if [ ! -e "$src/bin/nvcc" ]; then
    python3 -m pip install --quiet --root-user-action ignore --no-deps --no-compile --target "$dir/wheels" "${packages[@]}" >&2
  fi
  chmod +x "$src"/bin/* "$src"/nvvm/bin/*
  for d in bin include nvvm; do ln -sfn "$src/$d" "$dir/$d"; done
  mkdir -p "$dir/lib"
  ln -sfn lib "$dir/lib64"
  # The runtime is linked statically: a kernel library of candle needs it and nothing else brings it.
  for f in libcudart_static.a libcudadevrt.a; do ln -sf "$src/lib/$f" "$dir/lib/$f"; done
  ln -sf "$src/lib/libcudart_static.a" "$dir/lib/libcudart.a"
  python3 "$here/lazy_stubs.py" "$src" "$dir/lib" >&2
  touch "$dir/ready"
fi

cat <<END
export CUDA_HOME='$dir' CUDA_ROOT='$dir' CUDA_PATH='$dir' NVCC='$dir/bin/nvcc'
export PATH='$dir/bin':"\$PATH" CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
export LD_LIBRARY_PATH='$dir/wheels/nvidia/cu13/lib'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export LIBRARY_PATH='$dir/lib'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
END
