# medft: one binary. `make demo` shows the whole way, `make test` proves it, `make reproduce` does the paper.
CARGO ?= cargo
MEDFT = "$${CARGO_TARGET_DIR:-target}/release/medft"

# With CUDA where a compiler or a driver for it is found; MEDFT_CUDA=0 builds without, MEDFT_CUDA=1 with.
CUDA_HERE := $(shell { command -v nvcc || command -v nvidia-smi; } >/dev/null 2>&1 && echo 1 || echo 0)
MEDFT_CUDA ?= $(CUDA_HERE)
# Two steps, so that a set-up that fails ends the recipe.
ENV = $(if $(filter 1,$(MEDFT_CUDA)),env=$$(scripts/cuda-env.sh) && eval "$$env" &&)
FEATURES = $(if $(filter 1,$(MEDFT_CUDA)),--features cuda)


# Where tests note that they cannot run here.
SKIPPED = $(abspath $(or $(CARGO_TARGET_DIR),target)/skipped-tests)

# Where man pages go.
MANDIR ?= target/man

.PHONY: build demo try man test reproduce lint unit deps sbom cuda check-cuda test-cuda clean-demo

build:
	$(ENV) $(CARGO) build --release --bin medft $(FEATURES)

# Phantom data, small models, no network, no account: to reports/demo/README.md in minutes.
demo: build
	$(ENV) $(MEDFT) reproduce demo --device cpu

# A published table run again on this machine, without an account: open images and weights, half an hour on 2 cores.
try: build
	$(ENV) scripts/try.sh $(MEDFT)

# The paper. Without its data and weights this prints what is missing and how to get it, and ends with code 1.
reproduce: build
	$(ENV) $(MEDFT) reproduce paper

# A page a verb; `man -l target/man/medft-run.1` shows one.
man: build
	$(ENV) $(MEDFT) man $(MANDIR)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --release --all-targets --features medft/dicom -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --release --no-deps --document-private-items --quiet

# What cannot run here is told at the end: a line a test with its reason, and how many they are.
unit:
	@rm -f "$(SKIPPED)"
	@mkdir -p "$(dir $(SKIPPED))"
	MEDFT_SKIPPED="$(SKIPPED)" $(CARGO) test --workspace --release
	@if [ -s "$(SKIPPED)" ]; then sort -u "$(SKIPPED)"; fi; echo "skipped, of all tests: $$(sort -u "$(SKIPPED)" 2>/dev/null | wc -l)"

# Tests need no GPU. Where the binary is built with CUDA, theirs is built apart: it would take its place.
test: MEDFT_CUDA = 0
ifeq ($(CUDA_HERE),1)
test: export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)/cpu
endif
test: lint unit demo

# What is known of the packages: licences, sources, bans, advisories (deny.toml); none that nothing uses.
deps:
	scripts/deps.sh

# The packages that the released binary is built from, as CycloneDX: target/medft.cdx.json.
sbom:
	scripts/sbom.sh

# The binary with CUDA and its test programs, also on a machine without a GPU (25 minutes on 2 cores the first time).
cuda:
	scripts/cuda.sh build

# Kernels for every GPU from A100 on, and the types of what calls them; needs no GPU.
check-cuda:
	scripts/cuda.sh check

# On a CUDA machine: parity, gradients, determinism and speed in one table.
test-cuda:
	scripts/cuda.sh test

clean-demo:
	rm -rf data/phantom results/demo results/.cache reports/demo
