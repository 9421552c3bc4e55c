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
# Isolation off: MEDFT_ISA is read from the environment. Leaks ignored: rayon's threads outlive the tests, which Miri takes for one. Miri has no vector instructions and no assembly, so the generic tiles and
# libm's portable forms are what runs. Tree borrows, as crossbeam below rayon does not keep to the stacked ones. Products with every kind
# of operand and epilogue take a minute or two; MIRI_TESTS names others (`gemm:: cpu:: attentions norms`: hours).
MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks" MEDFT_ISA=generic RAYON_NUM_THREADS=2 \
  cargo "+$toolchain" miri test -p medft-nn --features libm/force-soft-floats --lib -- ${MIRI_TESTS:-a_product_without_depth operands_and_epilogues}
