#!/usr/bin/env bash
# What needs the CUDA toolkit (see cuda-env.sh): build | check | test.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
kit=$target/cuda-kit

# The newest test program of that name.
program() { find "$target/release/deps" -maxdepth 1 -name "$1-*" -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-; }

build() {
  env=$(scripts/cuda-env.sh)
  eval "$env"
  cargo build --release --features cuda --bin medft
  cargo test --release --features cuda --test cuda --no-run
  # A folder that can be carried to a machine without Rust.
  rm -rf "$kit" && mkdir -p "$kit"
  strip -o "$kit/medft" "$target/release/medft"
  strip -o "$kit/cuda" "$(program cuda)"
  tar -C "$target" -c cuda-kit | xz -T0 -3 >"$kit.tar.xz"
  echo "built: $kit/medft and $kit/cuda ($(du -sh "$kit" | cut -f1)); packed: $kit.tar.xz ($(du -sh "$kit.tar.xz" | cut -f1))"
}

check() {
  env=$(scripts/cuda-env.sh)
  eval "$env"
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
  for source in crates/nn/src/cuda/kernels/*.cu; do
    for arch in 80 86 89 90 100 120; do
      "$NVCC" -cubin -O3 -std=c++17 -arch="sm_$arch" -o "$out/kernel.cubin" "$source"
      echo "$source: sm_$arch, $(stat -c %s "$out/kernel.cubin") bytes"
    done
  done
  cargo check --release --features cuda --all-targets
}

# Programs that `build` has made are used where cargo is missing.
run_tests() {
  if command -v cargo >/dev/null; then build >&2; fi
  if [ ! -x "$kit/medft" ] && [ -e "$kit.tar.xz" ]; then python3 -m tarfile -e "$kit.tar.xz" "$target"; fi
  [ -x "$kit/medft" ] || { echo "no $kit/medft: run \`make cuda\` first, on a machine with cargo, and bring $kit or $kit.tar.xz here" >&2; exit 1; }
  "${PYTHON:-python3}" benches/test_cuda.py --kit "$kit" --python "${PYTHON:-python3}" "$@"
}

case "${1:-}" in
  build) build ;;
  check) check ;;
  test) shift; run_tests "$@" ;;
  *) echo "usage: scripts/cuda.sh build | check | test" >&2; exit 2 ;;
esac
