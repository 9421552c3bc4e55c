"""medft's image path against torchvision on Pillow, alternately, one thread each; prints a Markdown table.

    python benches/compare_images.py --medft target/release/medft ISIC=../isic/images DDSM:1=../ddsm/images

A folder is NAME=PATH, or NAME:1=PATH to read as grey. For each folder three rows: decode and resize; augmentation from
medft's cache against what torchvision does every epoch (decode, resize, augment); the same against torchvision's
augmentation of images that are already resized and in memory. Milliseconds of processor time an image, the median over the
rounds; ratios are the median of the ratios round by round, above 1 where medft is faster. `same pixels` says whether both
decoded and resized all images to the same bytes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROWS = [
    ("decode, resize", "decode", "decode"),
    ("augment from cache, against decode, resize, augment", "epoch", "augment"),
    ("augment from cache, against augment in memory", "augment", "augment"),
]


def run(command):
    env = dict(os.environ, RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    out = subprocess.run(command, env=env, capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{out.stderr}")
    return json.loads(out.stdout)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--medft", default="target/release/medft")
    p.add_argument("--python", default=sys.executable, help="an interpreter that has torchvision")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=3, help="passes over the images a round")
    p.add_argument("folders", nargs="+", metavar="NAME[:1]=PATH")
    a = p.parse_args()
    script = str(pathlib.Path(__file__).with_name("torchvision_images.py"))

    print("| images | what | torchvision ms | medft ms | ratio | lowest | highest | same pixels |")
    print("|---|---|--:|--:|--:|--:|--:|---|", flush=True)
    engine = ""
    for folder in a.folders:
        name, path = folder.split("=", 1)
        name, _, channels = name.partition(":")
        for title, theirs, ours in ROWS:
            common = ["--images", path, "--channels", channels or "3", "--steps", str(a.steps)]
            pairs = []
            for _ in range(a.rounds):
                torch = run([a.python, script, theirs, *common])
                pairs.append((torch, run([a.medft, "--json", "bench", ours, *common])))
            engine = pairs[0][0]["engine"]
            assert all(t["batch"] == m["batch"] for t, m in pairs), "both must see the same files"
            ms = [statistics.median(pair[i]["cpu_seconds_median"] / pair[i]["batch"] * 1e3 for pair in pairs) for i in (0, 1)]
            ratios = [t["cpu_seconds_median"] / m["cpu_seconds_median"] for t, m in pairs]
            same = "–"
            if theirs == "decode":
                same = "yes" if all(t["pixels_sha256"] == m["pixels_sha256"] for t, m in pairs) else "no"
            print(
                f"| {name}, {pairs[0][0]['batch']} | {title} | {ms[0]:.2f} | {ms[1]:.2f} | {statistics.median(ratios):.2f} "
                f"| {min(ratios):.2f} | {max(ratios):.2f} | {same} |",
                flush=True,
            )
    print(f"\n{engine}.")


if __name__ == "__main__":
    main()
