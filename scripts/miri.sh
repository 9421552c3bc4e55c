#!/usr/bin/env bash
# The host side of crates/nn under Miri, where that component is installed (`rustup component add miri` on a nightly toolchain).
# Interpreted code is some hundred times slower, so only the tests of what is unsafe run: products, attention, parallel loops, norms.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=${MIRI_TOOLCHAIN:-nightly}
if ! cargo "+$toolchain" miri --version >/dev/null 2>&1; then
  echo "skipped: Miri (the toolchain $toolchain has no component miri)"
  exit 0
fi
# Isolation off: MEDFT_ISA is read from the environment. Miri has no vector instructions, so the generic tiles are what runs.
MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-disable-isolation" MEDFT_ISA=generic RAYON_NUM_THREADS=2 \
  cargo "+$toolchain" miri test -p medft-nn --lib -- cpu:: gemm:: pool:: attentions norms activations linear_with position_tables --skip exp_erf_and_ln_agree_with_libm
