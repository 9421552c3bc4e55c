"""`medft bench hash` against sha256sum and, where it is there, OpenSSL, alternately, on the same files; prints a Markdown table.

    python benches/compare_hash.py --medft target/release/medft      (writes 4 files of 256 MB into a temporary folder)

MB a second of processor time, the median over the rounds, for one big-file folder and one of many small files; and how much
faster medft's 2 threads end than its 1, in wall time.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile


def cpu_of(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--medft", default="target/release/medft")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--megabytes", type=int, default=1024)
    a = p.parse_args()
    tools = {"sha256sum": ["sha256sum"]}
    if shutil.which("openssl"):
        tools["openssl"] = ["openssl", "dgst", "-sha256"]

    print("| files | " + " | ".join(f"{t} MB/cpu s" for t in tools) + " | medft MB/cpu s | " + " | ".join(f"of {t}" for t in tools) + " | 2 threads against 1 |")
    print("|---|" + "--:|" * (2 * len(tools) + 2))
    with tempfile.TemporaryDirectory() as top:
        for name, count, size in [
            ("4 big", 4, a.megabytes * 1_000_000 // 4),
            ("many of 128 kB", a.megabytes * 1_000_000 // 131_072, 131_072),
        ]:
            folder = pathlib.Path(top) / name.split()[0]
            folder.mkdir()
            for i in range(count):
                (folder / str(i)).write_bytes(os.urandom(size))
            files = [str(f) for f in sorted(folder.iterdir())]
            total = count * size / 1e6
            theirs = {t: [] for t in tools}
            ours, scale = [], []
            for _ in range(a.rounds):
                for tool, command in tools.items():
                    theirs[tool].append(total / cpu_of(command + files))
                out = subprocess.run([a.medft, "--json", "bench", "hash", "--steps", "1", "--images", str(folder)], check=True, capture_output=True)
                speeds = {s["threads"]: s for s in json.loads(out.stdout)["speeds"]}
                ours.append(speeds[1]["bytes_per_cpu_s"] / 1e6)
                if 2 in speeds:
                    scale.append(speeds[2]["bytes_per_s"] / speeds[1]["bytes_per_s"])
            medft = statistics.median(ours)
            row = [name, *(f"{statistics.median(theirs[t]):.0f}" for t in tools), f"{medft:.0f}"]
            row += [f"{statistics.median(o / t for o, t in zip(ours, theirs[tool])):.2f}" for tool in tools]
            row.append(f"{statistics.median(scale):.2f}" if scale else "one core")
            print("| " + " | ".join(row) + " |", flush=True)
            shutil.rmtree(folder)
    for command in (["sha256sum", "--version"], ["openssl", "version"]):
        if shutil.which(command[0]):
            print(subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0])


if __name__ == "__main__":
    main()
