"""Makes the small files beside it with NumPy and pandas (see README.md). Run: python make.py"""

import io
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib import format as npy

HERE = Path(__file__).parent


def chexpert_case(patients: int, seed: int) -> dict:
    """A Path column whose order inside a patient is disturbed, and what pandas' label slices make of it."""
    rng = random.Random(seed)
    paths = []
    for p in range(1, patients + 1):
        own = [
            f"CheXpert-v1.0-small/train/patient{p:05d}/study{s}/view{v}_{side}.jpg"
            for s in range(1, rng.choice([1, 1, 2, 3, 11]) + 1)
            for v, side in enumerate(["frontal", "lateral"][: rng.choice([1, 2])], start=1)
        ]
        rng.shuffle(own)
        paths += own
    frame = pd.DataFrame({"Path": paths})
    frame = frame.sort_values(by="Path")
    k = int(0.2 * len(frame)) + 15
    held = frame.loc[:k]
    h = len(held) // 2
    case = {"paths": paths, "train": frame.loc[k:].index.tolist()}
    try:
        case |= {"val": held.loc[:h].index.tolist(), "test": held.loc[h:].index.tolist()}
    except KeyError:
        case |= {"key_error": h}
    return case


def save(name: str, members: dict, version=None, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(HERE / name, "w", compression) as z:
        for member, array in members.items():
            out = io.BytesIO()
            npy.write_array(out, array, version=version)
            info = zipfile.ZipInfo(member + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            z.writestr(info, out.getvalue())


def toy(label_dtype="<u1", order="C", image_dtype="|u1", width=1, classes=2, inner=()) -> dict:
    """4/2/3 images of 3 x 2 pixels counting up from 0, labels 0, 1, 0, 1, ..."""
    per_image = int(np.prod((3, 2, *inner)))
    members, at = {}, 0
    for split, n in (("train", 4), ("val", 2), ("test", 3)):
        pixels = np.arange(at, at + n * per_image).reshape(n, 3, 2, *inner)
        at += n * per_image
        members[f"{split}_images"] = np.asarray(pixels, dtype=image_dtype, order=order)
        members[f"{split}_labels"] = (np.arange(n * width).reshape(n, width) % classes).astype(label_dtype)
    return members


def main():
    cases = [chexpert_case(60, 1), chexpert_case(90, 2)]
    # A sorted file: labels are monotonic and the same formulas hold with p(l) = l.
    whole = pd.DataFrame({"Path": sorted(chexpert_case(40, 4)["paths"])}).sort_values(by="Path")
    k = int(0.2 * len(whole)) + 15
    held = whole.loc[:k]
    h = len(held) // 2
    cases.append(
        {
            "paths": whole["Path"].tolist(),
            "train": whole.loc[k:].index.tolist(),
            "val": held.loc[:h].index.tolist(),
            "test": held.loc[h:].index.tolist(),
        }
    )
    # A file whose halves are swapped: label H is not inside the first part and pandas raises KeyError.
    paths = sorted(chexpert_case(40, 5)["paths"])
    paths = paths[len(paths) // 2 :] + paths[: len(paths) // 2]
    swapped = pd.DataFrame({"Path": paths}).sort_values(by="Path")
    held = swapped.loc[: int(0.2 * len(swapped)) + 15]
    h = len(held) // 2
    try:
        held.loc[:h]
        raise SystemExit("no KeyError")
    except KeyError:
        cases.append({"paths": paths, "key_error": h})
    made = {"pandas": pd.__version__, "cases": cases}
    (HERE / "chexpert_label_slices.json").write_text(json.dumps(made, indent=0) + "\n")

    save("v1_u1.npz", toy())
    save("v1_stored.npz", toy(), compression=zipfile.ZIP_STORED)
    save("v2_i8.npz", toy("<i8"), version=(2, 0))
    save("v3_i4_big_endian.npz", toy(">i4"), version=(3, 0))
    save("bool_labels.npz", toy("|b1"))
    save("labels14.npz", toy(width=14, classes=3))
    save("labels14_bits.npz", toy(width=14))
    save("rgb.npz", toy(inner=(3,), classes=5))
    save("fortran.npz", toy(order="F"))
    save("float_labels.npz", toy("<f4"))
    save("u2_images.npz", toy(image_dtype="<u2"))
    save("label_2.npz", toy(classes=3))
    short = toy()
    del short["val_labels"]
    save("no_val_labels.npz", short)
    uneven = toy()
    uneven["test_labels"] = uneven["test_labels"][:2]
    save("uneven.npz", uneven)


main()
