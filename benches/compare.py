"""medft against PyTorch eager, alternately, one process at a time; prints a Markdown table.

    python benches/compare.py --medft target/release/medft            (all cases: about 9 minutes on two idle cores)
    python benches/compare.py --medft target/release/medft --case dinov2-s:train --rounds 5

Each row: the median over the rounds of images/s and of processor seconds an image, the largest memory, and the median of the
ratios round by round (above 1: medft is faster). The ratio of processor seconds is the steadier one on a busy machine.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

# Steps a process and rounds, by what one step costs.
CASES = {
    "dinov2-s:forward": (4, 3),
    "dinov2-s:train": (3, 3),
    "mae-b:forward": (3, 3),
    "mae-b:train": (1, 3),
}


def run(command, threads):
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    out = subprocess.run(command, env=env, capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{out.stderr}")
    return json.loads(out.stdout)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--medft", default="target/release/medft")
    p.add_argument("--python", default=sys.executable, help="an interpreter that has torch and timm")
    p.add_argument("--case", action="append", choices=sorted(CASES))
    p.add_argument("--rounds", type=int, help="default: by case")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--adamw", choices=["fused", "foreach"], default="fused")
    a = p.parse_args()
    step = str(pathlib.Path(__file__).with_name("pytorch_step.py"))
    gib = 1 << 30

    print("| case | PyTorch images/s | medft images/s | ratio | PyTorch CPU s/image | medft CPU s/image | ratio | PyTorch GiB | medft GiB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    engine = ""
    for case in a.case or CASES:
        backbone, what = case.split(":")
        steps, rounds = CASES[case]
        common = [what, "--backbone", backbone, "--batch", str(a.batch), "--steps", str(steps)]
        pairs = []
        for _ in range(a.rounds or rounds):
            torch = run([a.python, step, *common, "--threads", str(a.threads), "--adamw", a.adamw], a.threads)
            medft = run([a.medft, "--json", "bench", *common], a.threads)
            pairs.append((torch, medft))
        engine = pairs[0][0]["engine"]

        def median(f):
            return statistics.median(f(t, m) for t, m in pairs)

        speed = [median(lambda t, m, i=i: (t, m)[i]["images_per_s"]) for i in (0, 1)]
        cpu = [median(lambda t, m, i=i: (t, m)[i]["cpu_seconds_median"] / a.batch) for i in (0, 1)]
        memory = [max(pair[i]["peak_rss_bytes"] for pair in pairs) / gib for i in (0, 1)]
        wall_ratio = median(lambda t, m: m["images_per_s"] / t["images_per_s"])
        cpu_ratio = median(lambda t, m: t["cpu_seconds_median"] / m["cpu_seconds_median"])
        print(
            f"| {case.replace(':', ' ')} | {speed[0]:.2f} | {speed[1]:.2f} | {wall_ratio:.2f} "
            f"| {cpu[0]:.3f} | {cpu[1]:.3f} | {cpu_ratio:.2f} | {memory[0]:.2f} | {memory[1]:.2f} |",
            flush=True,
        )
    print(f"\n{engine}; batch {a.batch}, 224 px, float32, {a.threads} threads, AdamW {a.adamw}.")


if __name__ == "__main__":
    main()
