#!/usr/bin/env bash
# Prints the environment in which the feature `cuda` builds, as lines for `eval`, on a machine with or without CUDA:
#
#     eval "$(scripts/cuda-env.sh)" && cargo build --release --features cuda
#
# nvcc 13.0, its headers and libraries come from PyPI's nvidia-* packages (1.2 GB; needs python3 with pip, and cc), into
# $MEDFT_CUDA_DIR (default: ~/.cache/medft/cuda-13.0), also where another version is installed: one compiler, one result.
# The shared libraries are linked through lazy_stubs.py, so that the binary also starts where they are missing.
# At run time the driver must be one for CUDA 13 (R580 or later); the libraries cublas, cublasLt and curand are looked for where
# lazy_stubs.py says, these packages among them: the program starts without make. CUDA_COMPUTE_CAP is the capability that candle's
# kernels are compiled for (default 80: A100 and later; later GPUs' drivers finish them); medft's own are compiled for all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${MEDFT_CUDA_DIR:-$HOME/.cache/medft/cuda-13.0}
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.0.2.14 nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88)

if [ "$(uname -m)" != x86_64 ]; then
  echo "cuda-env.sh: builds with CUDA are for x86-64, and this machine is $(uname -m) (GH200 and Grace are aarch64): MEDFT_CUDA=0 make build builds without" >&2
  exit 1
fi
# Other stubs are made anew.
ready=$dir/ready-$(cksum <"$here/lazy_stubs.py" | cut -d' ' -f1)
if [ ! -e "$ready" ]; then
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
  touch "$ready"
fi

cat <<END
export CUDA_HOME='$dir' CUDA_ROOT='$dir' CUDA_PATH='$dir' NVCC='$dir/bin/nvcc'
export PATH='$dir/bin':"\$PATH" CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
export LD_LIBRARY_PATH='$dir/wheels/nvidia/cu13/lib'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export LIBRARY_PATH='$dir/lib'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
END
