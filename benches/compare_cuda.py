"""medft against PyTorch on one GPU, in bf16 and alternately: eager and compiled; prints a Markdown table.

    python benches/compare_cuda.py --medft target/cuda-kit/medft --python python3 --peak-tflops 989

Each row: images/s as the median over the rounds, and medft's share of the GPU's peak (model FLOPs utilisation: three forward
passes of multiply-adds a training step, two operations each; nothing for recomputation). `--peak-tflops` is the GPU's dense bf16
peak as its maker states it; without it the share is left out. VMamba has no counterpart in timm and is measured alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

# Multiply-adds of a forward pass at 224 px come from `medft bench`'s own count.
CASES = [
    ("dinov2-b", "train", True),
    ("mae-l", "train", True),
    ("aimv2-l", "train", True),
    ("sam2-b", "train", True),
    ("vmamba-s", "train", False),
    ("dinov2-b", "forward", True),
    ("mae-l", "forward", True),
]


def run(command):
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode != 0:
        return {"failed": (out.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(out.stdout)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--medft", default="target/cuda-kit/medft")
    p.add_argument("--python", default=sys.executable, help="an interpreter that has torch and timm")
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="bf16")
    p.add_argument("--case", action="append", help="such as mae-l:train; default: all")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--peak-tflops", type=float)
    a = p.parse_args()
    torch_step = str(Path(__file__).with_name("pytorch_step.py"))

    print("| case | PyTorch eager images/s | PyTorch compiled images/s | medft images/s | of eager | of compiled | medft utilisation |")
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    device = engine = ""
    for backbone, what, in_timm in CASES:
        if a.case and f"{backbone}:{what}" not in a.case:
            continue
        common = [what, "--backbone", backbone, "--batch", str(a.batch), "--steps", str(a.steps), "--precision", a.precision]
        found = {"eager": [], "compiled": [], "medft": []}
        for _ in range(a.rounds):
            found["medft"].append(run([a.medft, "--json", "--device", a.device, "bench", *common]))
            if in_timm:
                torch = [a.python, torch_step, *common, "--device", a.device, "--adamw", "fused"]
                found["eager"].append(run(torch))
                found["compiled"].append(run([*torch, "--compile"]))
        speed = {}
        for name, rounds in found.items():
            for r in rounds:
                if "failed" in r:
                    print(f"{name} {backbone} {what}: {r['failed']}", file=sys.stderr)
            good = [r for r in rounds if "failed" not in r]
            speed[name] = statistics.median(r["images_per_s"] for r in good) if good else None
            if good and name == "medft":
                device = good[0]["device"]
                macs = good[0].get("macs_per_image")
            elif good and name == "eager":
                engine = good[0]["engine"]

        def of(name):
            ours, theirs = speed["medft"], speed[name]
            return f"{ours / theirs:.2f}" if ours and theirs else "–"

        share = "–"
        if a.peak_tflops and speed["medft"] and macs:
            passes = 3 if what == "train" else 1
            share = f"{100 * 2 * passes * macs * speed['medft'] / (a.peak_tflops * 1e12):.0f} %"
        cells = [f"{speed[n]:.0f}" if speed[n] else "–" for n in ("eager", "compiled", "medft")]
        print(f"| {backbone} {what} | {' | '.join(cells)} | {of('eager')} | {of('compiled')} | {share} |", flush=True)
    print(f"\n{device}; {engine}; batch {a.batch}, 224 px, {a.precision}, fused AdamW, medians of {a.rounds} rounds of {a.steps} steps.")


if __name__ == "__main__":
    main()
