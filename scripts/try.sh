#!/bin/sh
# make try: a published table run again on this machine, without an account; see README.md.
#
# try.sh MEDFT   MEDFT is the binary. MEDFT_TRY_STUDY, MEDFT_TRY_SETS and MEDFT_TRY_BACKBONES name another study, its sets and backbones (the test
#                of this script has small ones); BROWSER opens the page, where it is set or a desktop is there.
set -u
medft=$1
study=${MEDFT_TRY_STUDY-medmnistplus}
sets=${MEDFT_TRY_SETS-breastmnist retinamnist}
backbones=${MEDFT_TRY_BACKBONES-vit-b vit-clip-b dino-b}
name=$(basename "$study" .toml)

cat <<END
try      linear probing of three ViT-B/16 on BreastMNIST and RetinaMNIST at 28 pixels, as Doerrich et al. (2025) published it: 18 runs
         fetches 4 MB of images (Zenodo, CC BY 4.0) and 1.04 GB of weights (Hugging Face: 346 + 346 + 343 MB, Apache-2.0), each once
         takes about half an hour on 2 cores, nearly all of it the features (7,140 images at the 4.3 a second of docs/PERFORMANCE.md), each once
         stop it with Ctrl-C whenever you like: run again, it goes on where it was
END

# The images come first and are few: whether there is a network shows within seconds, and is said in one line.
# shellcheck disable=SC2086
if ! said=$(MEDFT_HTTP_BACKOFF_MS=${MEDFT_HTTP_BACKOFF_MS-100} "$medft" data fetch $sets --accept-terms 2>&1); then
    case $said in
    *"io: "* | *"timed out"* | *"onnection"*)
        host=$(printf '%s\n' "$said" | sed -n 's|.*\(https\{0,1\}://[^/ ]*\)/.*|\1|p' | head -n 1)
        echo "try      no network: ${host:-the publisher} cannot be reached; everything else is ready, so run \`make try\` again with one" >&2
        exit 1
        ;;
    esac
    printf '%s\n' "$said" >&2
    exit 1
fi
printf '%s\n' "$said"
# shellcheck disable=SC2086
"$medft" weights fetch $backbones || exit
# shellcheck disable=SC2086
"$medft" data verify $sets || exit
only=$(for set in $sets; do printf 'dataset=%s,' "$set"; done)
"$medft" reproduce "$study" --only "${only%,}"
code=$?
# The report of a part of a study lies below that of the whole.
page=$(ls -t "${MEDFT_REPORTS_DIR-reports}/$name"/only-*/index.html 2>/dev/null | head -n 1)
if [ -f "$page" ]; then
    echo "try      the answer is $page"
    for open in ${BROWSER-} xdg-open open; do
        if [ -n "${BROWSER-}${DISPLAY-}${WAYLAND_DISPLAY-}" ] || [ "$open" = open ]; then
            command -v "$open" >/dev/null 2>&1 && "$open" "$page" >/dev/null 2>&1 && break
        fi
    done
fi
exit $code
