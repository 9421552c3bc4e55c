"""One measurement of torchvision on Pillow, as JSON: what `medft bench decode|augment` times, on the same images, one thread.

decode    open and decode, convert, Resize((256, 256)), CenterCrop(224); PIL images in the end, as medft's cache holds them
epoch     decode, then the training transform to a normalised float tensor: what an epoch costs without a cache
augment   the training transform on images that were resized before and are held in memory: what it would cost with one

Files are read before the clock starts. The transform is the study's (docs/PROTOCOL.md, section 2).
"""

import argparse
import hashlib
import io
import json
import pathlib
import statistics
import time

import PIL
import torch
import torchvision
from PIL import Image, features
from torchvision import transforms as T


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["decode", "epoch", "augment"])
    p.add_argument("--images", required=True, type=pathlib.Path)
    p.add_argument("--channels", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    # Part by part, as medft sorts paths.
    paths = sorted(f for f in a.images.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    mode = "RGB" if a.channels == 3 else "L"
    resize = T.Compose([T.Resize((256, 256)), T.CenterCrop(224)])
    train = T.Compose([
        T.RandomResizedCrop(224, scale=(0.8, 1.2)),
        T.RandomVerticalFlip(),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(0.2, 0.2, 0.1, 0.1)], p=0.8),
        T.ToTensor(),
        T.Normalize([0.5] * a.channels, [0.25] * a.channels),
    ])

    def decode(data):
        return resize(Image.open(io.BytesIO(data)).convert(mode))

    held = [decode(f.read_bytes()) for f in paths] if a.what == "augment" else None
    pixels = hashlib.sha256()
    seconds, cpu = [], []
    for step in range(a.steps + 1):
        spent = used = 0.0
        for i, f in enumerate(paths):
            data = held[i] if held else f.read_bytes()
            start, before = time.perf_counter(), time.process_time()
            out = {"decode": decode, "epoch": lambda d: train(decode(d)), "augment": train}[a.what](data)
            spent += time.perf_counter() - start
            used += time.process_time() - before
            if step == 0 and a.what == "decode":
                pixels.update(out.tobytes())
        # The first step warms up.
        if step > 0:
            seconds.append(spent)
            cpu.append(used)
    print(json.dumps({
        "engine": f"torchvision {torchvision.__version__}, Pillow {PIL.__version__}, "
        f"libjpeg-turbo {features.version('libjpeg_turbo')}, zlib-ng {features.version('zlib_ng')}",
        "batch": len(paths),
        "seconds_median": statistics.median(seconds),
        "cpu_seconds_median": statistics.median(cpu),
        "pixels_sha256": pixels.hexdigest() if a.what == "decode" else None,
    }))


if __name__ == "__main__":
    main()
