"""Everything that needs a GPU, in one table: gradients, parity, determinism, speed against PyTorch, the loader, memory.

    make cuda                                        # anywhere; makes target/cuda-kit
    python benches/test_cuda.py --kit target/cuda-kit --python python3

Runs on a machine with a CUDA device, without Rust. PyTorch (`--python`: an interpreter that has torch and timm) and medft are
measured one after the other, never at once, on random weights and images. A row is printed when it is known, and all of them
again at the end as one Markdown table; `--out` keeps them as JSON. With `--seconds` no row is begun that is not likely to end in
time; what was left out is named. Ends with 1 where a row does not hold.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Dense bf16 peaks as NVIDIA states them, TFLOP/s.
PEAKS = {"H200": 989.4, "H100 80GB HBM3": 989.4, "A100": 312.0}
GB = 1e9

# Test groups of the program `cuda`: (row, filter, likely seconds).
TESTS = [("gradients and ops", "ops::", 60), ("parity", "parity::", 60), ("optimiser", "optimiser::", 20), ("determinism, kill and resume", "resume::", 30)]

# (backbone, what, in timm, least of eager, likely seconds).
SPEED = [
    ("mae-l", "train", True, 1.0, 150),
    ("dinov2-b", "train", True, 1.0, 90),
    ("aimv2-l", "train", True, 1.0, 150),
    ("sam2-b", "train", True, 1.0, 120),
    ("vmamba-s", "train", False, None, 40),
    ("mae-l", "forward", True, 1.2, 90),
    ("dinov2-b", "forward", True, 1.2, 60),
]

# Unfrozen runs that must fit 80 GB at batch 64: (backbone, head).
MEMORY = [("aimv2-h", "linear"), ("sam2-l", "linear"), ("mae-h", "mha")]


class Table:
    def __init__(self):
        self.rows = []
        self.start = time.monotonic()

    def elapsed(self):
        return time.monotonic() - self.start

    def add(self, what, found, asked, holds, since):
        verdict = {True: "holds", False: "does not hold", None: "–"}[holds]
        self.rows.append([what, found, asked, verdict, f"{time.monotonic() - since:.0f}"])
        print(f"{what}: {found} ({verdict})", file=sys.stderr, flush=True)

    def markdown(self):
        lines = ["| what | found | asked for | | seconds |", "|---|---|---|---|--:|"]
        return "\n".join(lines + [f"| {' | '.join(r)} |" for r in self.rows])


def measured(command):
    """The JSON that a command prints, or {"failed": its last words}."""
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode != 0:
        return {"failed": (out.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(out.stdout)


def medft(a, what, backbone, *more):
    return measured([f"{a.kit}/medft", "--json", "--device", a.device, "bench", what, "--backbone", backbone, "--precision", a.precision, *more])


def find_libraries(a):
    """Lets medft find cublas, cublasLt and curand where PyTorch brought them and the system has none."""
    script = "import site, glob; print(':'.join(d for s in site.getsitepackages() for d in glob.glob(s + '/nvidia/*/lib')))"
    found = subprocess.run([a.python, "-c", script], capture_output=True, text=True).stdout.strip()
    paths = [p for p in (os.environ.get("LD_LIBRARY_PATH"), found) if p]
    if paths:
        os.environ["LD_LIBRARY_PATH"] = ":".join(paths)


def tests(a, table):
    env = dict(os.environ, MEDFT_FIXTURES=a.fixtures)
    for what, group, _ in wanted(a, table, TESTS):
        since = time.monotonic()
        out = subprocess.run([f"{a.kit}/cuda", group, "--nocapture", "--test-threads", "1"], env=env, capture_output=True, text=True)
        Path(a.out).with_suffix(f".{group.rstrip(':')}.log").write_text(out.stdout + out.stderr)
        found = re.search(r"(\d+) passed; (\d+) failed", out.stdout)
        failed = re.findall(r"^    (\S+)$", out.stdout, re.M)
        skipped = "skipped: no CUDA device" in out.stdout
        said = f"{found[1]} passed, {found[2]} failed {' '.join(dict.fromkeys(failed))}".strip() if found else f"ended with {out.returncode}"
        table.add(what, "no CUDA device" if skipped else said, "all pass", out.returncode == 0 and not skipped, since)


def speed(a, table):
    torch_step = str(Path(__file__).with_name("pytorch_step.py"))
    for backbone, what, in_timm, least, _ in wanted(a, table, SPEED):
        for batch in a.batch:
            since = time.monotonic()
            common = ["--batch", str(batch), "--steps", str(a.steps)]
            rounds = {"medft": [], "eager": [], "compiled": []}
            for _ in range(a.rounds):
                rounds["medft"].append(medft(a, what, backbone, *common))
                if in_timm and not a.no_torch:
                    torch = [a.python, torch_step, what, "--backbone", backbone, *common, "--precision", a.precision, "--device", a.device]
                    r = measured(torch + ([] if a.no_compile else ["--compile"]))
                    rounds["eager"].append(r)
                    rounds["compiled"].append(r.get("compiled", {"failed": "not compiled"}))
            good = {k: [r for r in v if "failed" not in r] for k, v in rounds.items()}
            fast = {k: statistics.median(r["images_per_s"] for r in v) for k, v in good.items() if v}
            for k, v in rounds.items():
                for r in v:
                    if "failed" in r and r["failed"] != "not compiled":
                        print(f"{k}: {r['failed']}", file=sys.stderr)
            row = f"{backbone} {what}, batch {batch}, {a.precision}"
            if "medft" not in fast:
                table.add(row, rounds["medft"][0]["failed"], "", False, since)
                continue
            ours = fast["medft"]
            parts = [f"{ours:.0f} images/s"]
            parts += [f"PyTorch {k} {v:.0f}, ratio {ours / v:.2f}" for k, v in fast.items() if k != "medft"]
            for k in ("medft", "eager"):
                peak = good.get(k) and good[k][0].get("peak_device_bytes")
                if peak:
                    parts.append(f"{k} {peak / GB:.1f} GB")
            macs, share = good["medft"][0].get("macs_per_image"), None
            peak = a.peak_tflops or next((p for n, p in PEAKS.items() if n in good["medft"][0]["device"]), None)
            if macs and peak:
                # Three forward passes of multiply-adds a training step, two operations each; nothing for recomputation.
                share = 2 * (3 if what == "train" else 1) * macs * ours / (peak * 1e12)
                parts.append(f"model FLOPs utilisation {100 * share:.0f} %")
            bounds, holds = [], []
            if least and batch == a.batch[0]:
                bounds.append(f"{least} of eager")
                holds.append(ours >= least * fast["eager"] if "eager" in fast else None)
            if (backbone, what) == ("mae-l", "train"):
                bounds.append("utilisation 40 %")
                holds.append(share >= 0.4 if share else None)
            verdict = False if False in holds else None if None in holds or not holds else True
            table.add(row, "; ".join(parts), ", ".join(bounds), verdict, since)


def feed(a, table):
    for backbone, _ in wanted(a, table, [("dinov2-b", 60)]):
        since = time.monotonic()
        common = ["--batch", str(a.batch[0]), "--steps", str(3 * a.steps)]
        alone = medft(a, "train", backbone, *common)
        with tempfile.TemporaryDirectory() as drawn:
            if not a.images:
                subprocess.run([f"{a.kit}/medft", "--data-dir", drawn, "data", "synth", "isic2019"], check=True, capture_output=True)
            fed = medft(a, "train", backbone, *common, "--images", a.images or drawn)
        failed = alone.get("failed") or fed.get("failed")
        if failed:
            table.add(f"{backbone} fed by the loader", failed, "", False, since)
            continue
        share = fed["images_per_s"] / alone["images_per_s"]
        found = f"{fed['images_per_s']:.0f} images/s, {100 * share:.0f} % of the same steps without loading"
        table.add(f"{backbone} fed by the loader", found, "95 %", share >= 0.95, since)


def memory(a, table):
    for backbone, head, _ in wanted(a, table, [(*m, 60) for m in MEMORY]):
        since = time.monotonic()
        for more in ([], ["--checkpointing"]):
            r = medft(a, "train", backbone, "--head", head, "--batch", "64", "--steps", "2", *more)
            row = f"{backbone} + {head}, unfrozen, batch 64{', checkpointing' if more else ''}"
            if "failed" in r:
                table.add(row, r["failed"], "80 GB", None if not more else False, since)
                continue
            peak = r.get("peak_device_bytes")
            found = f"{peak / GB:.1f} GB, {r['images_per_s']:.0f} images/s" if peak else "peak not known"
            table.add(row, found, "80 GB", peak <= 80 * GB if peak else None, since)
            if peak and peak <= 80 * GB:
                break


def wanted(a, table, cases):
    """The cases that are asked for and likely to end in time; the last value of each is its seconds."""
    for case in cases:
        if a.seconds and table.elapsed() + case[-1] > a.seconds:
            table.add(" ".join(str(c) for c in case[:2]), "not run: no time left", "", None, time.monotonic())
        else:
            yield case


SUITES = {"tests": tests, "speed": speed, "feed": feed, "memory": memory}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kit", default="target/cuda-kit", help="the folder that `make cuda` makes")
    p.add_argument("--fixtures", default="tests/fixtures")
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--suite", action="append", choices=SUITES, help="default: all, in this order")
    p.add_argument("--precision", choices=["f32", "tf32", "bf16", "f16"], default="bf16")
    p.add_argument("--batch", type=int, action="append", help="default: 64; more than once to find the best")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--images", help="a folder of images for the loader (default: drawn ones)")
    p.add_argument("--no-torch", action="store_true")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--peak-tflops", type=float, help="the GPU's dense bf16 peak, where this script does not know it")
    p.add_argument("--seconds", type=float, help="time for all")
    p.add_argument("--out", default="test-cuda.json")
    a = p.parse_args()
    a.batch = a.batch or [64]
    a.fixtures = str(Path(a.fixtures).resolve())

    find_libraries(a)
    table = Table()
    print(subprocess.run([f"{a.kit}/medft", "doctor"], capture_output=True, text=True).stdout, file=sys.stderr)
    try:
        for name in a.suite or SUITES:
            SUITES[name](a, table)
    finally:
        print(table.markdown(), flush=True)
        Path(a.out).write_text(json.dumps(table.rows, indent=1) + "\n")
    sys.exit(any(r[3] == "does not hold" for r in table.rows))


if __name__ == "__main__":
    main()
