"""Images of the four data sets' original sizes, for compare_images.py: smooth fields, edges and film grain, drawn from a seed.

    python3 benches/make_images.py FOLDER          (an interpreter with numpy and Pillow)

They are no medical images: what a decoder's time depends on is the size, the coding and how many coefficients or bytes are not
zero, and these are chosen near what such files have (about 1 bit a pixel in JPEGs of quality 90; grain of 12 bits in the 16-bit PNGs).
"""

import pathlib
import sys

import numpy
from PIL import Image

# Folder, count, width, height, kind.
SETS = [
    ("isic-1024", 6, 1024, 1024, "rgb"),
    ("chexpert-390", 24, 390, 320, "grey"),
    ("chexpert-2828", 4, 2828, 2320, "grey"),
    ("ddsm-8", 3, 3000, 5000, "png8"),
    ("ddsm-16", 3, 3000, 5000, "png16"),
    ("aptos-3216", 3, 3216, 2136, "rgb"),
]


def field(draw, width, height):
    """Values from 0 to 1: a coarse random surface, enlarged, with an ellipse's edge and grain."""
    coarse = Image.fromarray((draw.random((height // 64 + 2, width // 64 + 2)) * 255).astype("uint8"))
    smooth = numpy.asarray(coarse.resize((width, height), Image.BICUBIC), dtype="float32") / 255
    y, x = numpy.mgrid[0:height, 0:width].astype("float32")
    inside = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) < 0.2
    grain = draw.normal(0, 0.012, (height, width)).astype("float32")
    return numpy.clip(numpy.where(inside, 0.25 + 0.6 * smooth + grain, 0.02), 0, 1)


def main(to):
    for folder, count, width, height, kind in SETS:
        out = pathlib.Path(to) / folder
        out.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            draw = numpy.random.default_rng([width, height, i])
            grey = field(draw, width, height)
            name = out / f"{i:02}"
            if kind == "png16":
                Image.fromarray((grey * 65520).astype("uint16")).save(f"{name}.png")
            elif kind == "png8":
                Image.fromarray((grey * 255).astype("uint8")).save(f"{name}.png")
            elif kind == "grey":
                Image.fromarray((grey * 255).astype("uint8")).save(f"{name}.jpg", quality=90)
            else:
                tint = numpy.stack([grey, grey**1.3 * 0.8, grey**1.7 * 0.6], axis=-1)
                Image.fromarray((tint * 255).astype("uint8")).save(f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main(sys.argv[1])
