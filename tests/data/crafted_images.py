"""Write small folders of images in the layouts that sources read, and prepare them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources.settings import Prepare
from prepkd.errors import InputError

CINIC = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WNIDS = ("n02124075", "n01443537", "n04067472")  # not sorted, like the official file


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).integers(256, size=(height, width, 3), dtype=np.uint8)


def image(seed: int, height: int = 6, width: int = 8, kind: str = "PNG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, height, width)).convert(mode).save(stream, kind)
    return stream.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def folder(root: Path, splits: dict[str, int] | None = None, sizes: tuple[tuple[int, int], ...] = ((6, 8),)) -> Path:
    """Write classes `ant` and `bée` with images of alternating sizes in each split."""
    files, seed = {}, 0
    for split, count in (splits or {"train": 4, "test": 2}).items():
        for label in ("ant", "bée"):
            for i in range(count):
                seed += 1
                files[f"{split}/{label}/{i}.png"] = image(seed, *sizes[seed % len(sizes)])
    return write(root, files)


def cinic10(root: Path, count: int = 2) -> Path:
    """Write every class and split with `count` images each, the first of each class grey."""
    files = {}
    for s, split in enumerate(("train", "valid", "test")):
        for c, label in enumerate(CINIC):
            for i in range(count):
                content = image(1000 * s + 10 * c + i, 32, 32, mode="RGB" if i else "L")
                files[f"{split}/{label}/n0_{i}.png"] = content
    return write(root, files)


def tiny_imagenet(root: Path, count: int = 3) -> Path:
    """Write three classes of JPEGs in the official layout, the first of each class grey, and an unlabelled test folder."""
    files, lines = {"test/images/test_0.JPEG": image(0, 64, 64, "JPEG")}, []
    for c, wnid in enumerate(WNIDS):
        for i in range(count):
            mode = "RGB" if i else "L"
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = image(100 * c + i, 64, 64, "JPEG", mode)
            number = i * len(WNIDS) + c
            files[f"val/images/val_{number}.JPEG"] = image(500 + number, 64, 64, "JPEG")
            lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t62\t62\n".encode()
    files["wnids.txt"] = "".join(f"{wnid}\n" for wnid in WNIDS).encode()
    files["words.txt"] = b"n00001740\tentity\n" + b"".join(f"{wnid}\tword {wnid}, another\n".encode() for wnid in WNIDS)
    files["val/val_annotations.txt"] = "".join(lines).encode()
    return write(root, files)


def prepared(dataset: str, raw: Path, path: Path, **changes: object) -> Path:
    """Read and prepare a source's raw data with changed settings of `prepare`; return the prepared file's path."""
    settings: dict[str, object] = {"val_fraction": 0, "subset": None, "seed": 0} | changes
    own = {key: settings.pop(key) for key in ("mixed_formats", "upright", "max_pixels", "split") if key in settings}
    source = Prepare(dataset=dataset, **own).source  # type: ignore[arg-type]
    data = source.read(raw)
    prepare(data, **settings, path=path, replace=True)  # type: ignore[arg-type]
    return path


def refusal(dataset: str, raw: Path, path: Path, **changes: object) -> str:
    """Return the message with which reading or preparing fails; assert that nothing is written."""
    with pytest.raises(InputError) as caught:
        prepared(dataset, raw, path, **changes)
    assert not path.parent.exists() or list(path.parent.iterdir()) == [], "something was left"
    assert all("\n" not in line for line in caught.value.lines)
    return str(caught.value)
