"""Time and memory of a data set's commands against its number of images: a set in CheXpert's layout, made of hard links.

    python3 benches/scale_data.py --medft target/release/medft --images 20000 80000

For every size a folder is made below --dir (patients of three studies, one or two films each, `train.csv` with labels
that mean nothing; every film is a hard link to one of the few that `medft data synth` draws) and these are timed in a process
each: lock, verify, verify --since-lock, plan when nothing changed since the lock, and audit (which decodes every image). One Markdown row a command and
size: wall and processor seconds and the largest memory, the same for 100,000 images. What is linear has the same seconds for
100,000 images in both sizes; memory has a part that does not grow, so what it grows by is shown.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
STUDY = """title = "Nothing is trained"
expected = "Nothing."
preset = "corrected"
datasets = ["chexpert"]
backbones = ["dinov2-s"]
freeze = ["frozen"]
heads = ["linear"]
seeds = [0]
"""


def films(medft, work):
    """A few drawn films to link to."""
    out = work / "drawn"
    if not out.exists():
        quiet([medft, "data", "synth", "chexpert", "--data-dir", out])
    return sorted(out.rglob("*.jpg"))[:32]


def quiet(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command} failed:\n{done.stderr}")


def make(work, sources, images):
    """`images` films of patients with three studies, every fifth of two films."""
    data = work / f"data-{images}"
    root = data / "CheXpert"
    if (root / "train.csv").exists():
        return data
    draw = random.Random(1)
    rows, patient = [], 0
    while len(rows) < images:
        patient += 1
        for study in (1, 2, 3):
            folder = f"train/patient{patient:05}/study{study}"
            (root / folder).mkdir(parents=True)
            marks = ",".join(draw.choice(["", "0.0", "1.0", "1.0", "-1.0"]) for _ in range(14))
            for view in (1, 2)[: 2 if draw.random() < 0.2 else 1]:
                name = f"{folder}/view{view}_frontal.jpg"
                if len(rows) < images:
                    os.link(sources[len(rows) % len(sources)], root / name)
                    rows.append(f"CheXpert-v1.0-small/{name},Male,60,Frontal,AP,{marks}")
    head = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}"
    (root / "train.csv").write_text("\n".join([head, *rows, ""]))
    return data


def measure(command, codes=(0,)):
    """Wall and processor seconds, and MiB."""
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in codes:
            said.seek(0)
            sys.exit(f"{command} ended with {child.returncode}:\n{said.read().decode(errors='replace')}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--medft", default="target/release/medft")
    p.add_argument("--dir", type=pathlib.Path, help="where the folders are made and kept (default: a temporary one)")
    p.add_argument("--images", type=int, nargs="+", default=[20_000, 80_000])
    p.add_argument("--only", nargs="+", help="these commands alone; lock comes first where a set is new")
    a = p.parse_args()
    a.medft = os.path.abspath(a.medft)
    work = a.dir or pathlib.Path(tempfile.mkdtemp(prefix="medft-scale-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        run(a, work.resolve())
    finally:
        if a.dir is None:
            shutil.rmtree(work)


def run(a, work):
    sources = films(a.medft, work)
    study = work / "links.toml"
    study.write_text(STUDY)
    print("| command | images | wall s | CPU s | MiB | wall s for 100,000 | CPU s for 100,000 |")
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    before = {}
    for images in a.images:
        data = make(work, sources, images)
        at = ["--data-dir", data, "--results-dir", data / "results"]
        reports = ["--reports-dir", data / "reports"]
        commands = {
            "lock": (["data", "lock", "chexpert", "--accept-labels"], (0,)),
            "verify": (["data", "verify", "chexpert"], (0,)),
            "verify --since-lock": (["data", "verify", "chexpert", "--since-lock"], (0,)),
            "plan": (["plan", study, *reports, "--weights-dir", work / "no-weights"], (0, 1)),
            "audit": (["data", "audit", "chexpert", *reports], (0, 1)),
        }
        if not (data / "chexpert.sha256").exists() and a.only and "lock" not in a.only:
            measure([a.medft, *commands["lock"][0], *at])
            # What was touched just before it was hashed is hashed again once.
            measure([a.medft, *commands["verify --since-lock"][0], *at])
        for name, (words, codes) in commands.items():
            if a.only and name not in a.only:
                continue
            wall, cpu, mib = measure([a.medft, *words, *at], codes)
            share = 100_000 / images
            row = [name, f"{images:,}", f"{wall:.2f}", f"{cpu:.2f}", f"{mib:.0f}", f"{wall * share:.2f}", f"{cpu * share:.2f}"]
            print("| " + " | ".join(row) + " |", flush=True)
            if name in before:
                fewer, less = before[name]
                growth = (mib - less) / (images - fewer) * 100_000
                print(f"|  |  |  |  | {growth:+.0f} for 100,000 more | | |", flush=True)
            before[name] = (images, mib)


if __name__ == "__main__":
    main()
