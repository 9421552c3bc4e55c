#!/usr/bin/env bash
# Holds the packages against deny.toml and against what the sources use. What is not installed or cannot be reached is said to be skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
need() { command -v "$1" >/dev/null 2>&1 || { echo "skipped: $1 is not installed (cargo install $1 --locked)"; return 1; }; }

if need cargo-deny; then
  # Two versions of a package are warned of, with the whole tree above either; `cargo deny list` and `cargo tree -d` say the same in short.
  cargo deny --all-features --log-level error check licenses bans sources
  # The advisories are a Git repository that is brought here or was before.
  if cargo deny --all-features fetch db >/dev/null 2>&1 || compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/" >/dev/null; then
    cargo deny --all-features --offline check advisories
  else
    echo "skipped: the advisory database cannot be reached"
  fi
fi
if need cargo-machete; then cargo machete; fi
