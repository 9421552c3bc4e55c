"""Difference hashes by imagehash (with Pillow's bilinear filter) and distances of 16 x 16 copies by NumPy.

pip install "pillow<13" numpy imagehash; run: python looks.py (Pillow 13 may resize the height first)
"""

import itertools
import json
import platform
import sys
from pathlib import Path

import imagehash
import numpy as np
import PIL
from PIL import Image

HERE = Path(__file__).parent.parent
imagehash.ANTIALIAS = Image.Resampling.BILINEAR


def small(image):
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float64)
    return grey - grey.mean()


def hexa(bits):
    return f"{int(''.join(str(int(b)) for b in bits.ravel()), 2):016x}"


names = [p.name for p in sorted((HERE / "pillow").iterdir()) if p.suffix in (".jpg", ".png")]
images = {}
for name in names:
    image = Image.open(HERE / "pillow" / name)
    # Kept to what Pillow converts to RGB without a choice of its own.
    if min(image.size) >= 8 and image.mode in ("L", "RGB") and name != "arith.jpg":
        images[name] = image.convert("RGB")
files = {}
for name, image in images.items():
    both = [imagehash.dhash(image).hash, imagehash.dhash_vertical(image).hash]
    files[name] = {"hash": hexa(both[0]) + hexa(both[1])}
pairs = []
for a, b in itertools.combinations(images, 2):
    bits = (int(files[a]["hash"], 16) ^ int(files[b]["hash"], 16)).bit_count()
    mean = float(np.abs(small(images[a]) - small(images[b])).mean())
    pairs.append({"a": a, "b": b, "bits": bits, "mean": round(mean, 6), "same": bits <= 10 and mean <= 2})
versions = {"python": platform.python_version(), "pillow": PIL.__version__, "numpy": np.__version__, "imagehash": imagehash.__version__}
with open(HERE / "looks.json", "w") as out:
    head = {"recipe": "make/looks.py", "versions": versions, "files": files}
    out.write(json.dumps(head)[:-1] + ', "pairs": [\n' + ",\n".join(json.dumps(p) for p in pairs) + "\n]}\n")


def medmnist(path):
    """Images of an npz file that look the same: pairs, images, clusters (joined through others), images of val and test whose
    cluster has an image of train."""
    data = np.load(path)
    parts = ["train", "val", "test"]
    part = np.concatenate([[p] * len(data[f"{p}_images"]) for p in parts])
    every = [Image.fromarray(x) for p in parts for x in data[f"{p}_images"]]
    bits = np.array([np.concatenate([imagehash.dhash(i).hash.ravel(), imagehash.dhash_vertical(i).hash.ravel()]) for i in every])
    bits = bits.astype(np.float32)
    far = bits @ (1 - bits).T
    near = np.argwhere(np.triu(far + far.T <= 10, 1))
    looks = np.array([small(i) for i in every])
    same = [(a, b) for a, b in near if np.abs(looks[a] - looks[b]).mean() <= 2]
    clusters = []
    for pair in same:
        joined = [c for c in clusters if c & set(pair)]
        clusters = [c for c in clusters if not c & set(pair)] + [set(pair).union(*joined)]
    held = {p: sum(sum(part[i] == p for i in c) for c in clusters if any(part[i] == "train" for i in c)) for p in parts[1:]}
    return {"pairs": len(same), "images": sum(map(len, clusters)), "clusters": len(clusters)} | held


for path in sys.argv[1:]:
    print(path, medmnist(path))
print(len(files), len(pairs), sum(p["same"] for p in pairs), sorted(p["mean"] for p in pairs if 1.5 < p["mean"] < 2.5))
