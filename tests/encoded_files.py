"""Random images of several sizes, as arrays and as encoded files."""

import io
from typing import Any

import numpy as np
from PIL import Image
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.file import Split

RECIPE: list[Any] = [{"resized-crop": {"size": 24}}, "flip"]
SIZES = [(30, 40), (24, 24), (9, 70), (64, 33), (41, 41)]


def pictures(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    generator = np.random.Generator(np.random.Philox(2))
    return [generator.integers(256, size=(*size, 3)).astype(np.uint8) for size in sizes]


def encoded(arrays: list[np.ndarray]) -> Split:
    """Encode the arrays losslessly, as PNG files of one split."""
    files = []
    for array in arrays:
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG")
        files.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    names = np.array([b"%d.png" % i for i in range(len(files))])
    images = EncodedImages(np.frombuffer(b"".join(files), np.uint8), offsets, names, Statistics((0.5,) * 3, (0.3,) * 3))
    return Split(images, np.arange(len(files)), "f" * 64)
