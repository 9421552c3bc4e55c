#!/usr/bin/env bash
# Builds what a release consists of into a folder: release.sh FOLDER
#
# One archive and its checksum: the binary, man pages, completions, licences. The binary is linked statically (static-pie) against
# glibc, with LTO, and stripped; no debug information, no paths of the machine it was built on. Functions of the same code
# are folded into one, relative relocations are packed.
set -euo pipefail
out=$(mkdir -p "${1:?usage: scripts/release.sh FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
name=medft-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)-$target

RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=pie --remap-path-prefix=$PWD=medft --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
  ${CARGO:-cargo} rustc --profile dist --locked --features dicom --target "$target" --bin medft -- \
  -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs
binary=${CARGO_TARGET_DIR:-target}/$target/dist/medft

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=$scratch/$name
mkdir -p "$folder/completions"
cp "$binary" LICENSE-MIT LICENSE-APACHE NOTICE README.md CHANGELOG.md CITATION.cff "$folder/"
cp templates/fonts/LICENSE "$folder/LICENSE-FONT"
for shell in bash zsh fish; do "$binary" completions $shell >"$folder/completions/medft.$shell"; done
"$binary" man "$folder/man"
# The same bytes from the same commit: sorted, without owner, time or the umask of whoever packs.
tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$(git log -1 --format=%ct)" -c "$name" |
  gzip -9n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
