# medft: one binary. `make demo` shows the whole way, `make test` proves it, `make reproduce` does the paper.
CARGO ?= cargo
MEDFT = $(CARGO) run --release --quiet --bin medft --

.PHONY: build demo test reproduce lint unit clean-demo

build:
	$(CARGO) build --release --bin medft

# Phantom data, small models, no network, no account: to reports/demo/README.md in minutes.
demo: build
	$(MEDFT) reproduce demo

# The paper. Without its data and weights this prints what is missing and how to get it, and ends with code 1.
reproduce: build
	$(MEDFT) reproduce experiments/paper.toml

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings

unit:
	$(CARGO) test --release

test: lint unit demo

clean-demo:
	rm -rf data/phantom results/demo results/.cache reports/demo
