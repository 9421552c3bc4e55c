#!/usr/bin/env bash
# Writes target/medft.cdx.json, a CycloneDX bill of the packages that the released binary is built from. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-cyclonedx >/dev/null || { echo "make sbom needs cargo-cyclonedx: cargo install cargo-cyclonedx --locked" >&2; exit 2; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) cargo cyclonedx --format json --spec-version 1.5 --features dicom --target x86_64-unknown-linux-gnu --override-filename medft.cdx
mkdir -p target
# Names of packages of this repository hold its place, which is nobody's business and another elsewhere.
sed "s|path+file://$PWD|path+file:medft|g" medft.cdx.json >target/medft.cdx.json
rm -f medft.cdx.json crates/*/medft.cdx.json
echo target/medft.cdx.json
