"""The real Tiny ImageNet: the prepared folder equals what Pillow and torchvision read."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepkd.data.prepared.file import Split, describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from torchvision.datasets import ImageFolder

pytestmark = pytest.mark.real
SAMPLE = 300


@pytest.fixture(scope="module")
def root() -> Path:
    folder = os.environ.get("PREPKD_TINY_IMAGENET")
    if not folder:
        pytest.skip("set PREPKD_TINY_IMAGENET to the folder that holds tiny-imagenet-200")
    return Path(folder) / "tiny-imagenet-200"


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("tiny") / "tiny-imagenet.h5"
    prepare(SOURCES["tiny-imagenet"].read(root.parent), val_fraction=0, subset=None, seed=0, path=path)
    yield path
    path.unlink()  # half a gigabyte


def is_grey(file: str) -> bool:
    with Image.open(file) as image:
        return image.mode == "L"


def sample(count: int, files: list[str]) -> list[int]:
    """Random positions and those of the first three grey images."""
    drawn = np.random.Generator(np.random.Philox(0)).permutation(count)[:SAMPLE].tolist()
    grey = list(islice((i for i, file in enumerate(files) if is_grey(file)), 3))
    assert len(grey) == 3
    return drawn + grey


def test_train_is_what_torchvision_reads(root: Path, whole: Path) -> None:
    theirs, ours = ImageFolder(root / "train"), load_split(whole, "train")
    info = describe(whole)
    assert info.image_shape == (64, 64, 3) and len(info.class_names) == 200
    assert [name.split(" ")[0] for name in info.class_names] == theirs.classes
    assert ours.labels.tolist() == theirs.targets
    for i in sample(len(theirs), [file for file, _ in theirs.samples]):
        assert np.array_equal(ours.images[i], np.asarray(theirs[i][0]))


def test_test_is_what_the_annotations_say(root: Path, whole: Path) -> None:
    wnids = sorted((root / "wnids.txt").read_text().split())
    rows = [line.split("\t")[:2] for line in (root / "val/val_annotations.txt").read_text().splitlines()]
    expected = sorted((wnids.index(wnid), name) for name, wnid in rows)
    ours: Split = load_split(whole, "test")
    assert ours.labels.tolist() == [label for label, _ in expected]
    assert np.bincount(ours.labels).tolist() == [50] * 200
    files = [str(root / "val/images" / name) for _, name in expected]
    for i in sample(len(files), files):
        with Image.open(files[i]) as image:
            assert np.array_equal(ours.images[i], np.asarray(image.convert("RGB")))


def test_a_subset_is_a_part_of_the_whole(root: Path, whole: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.h5"
    data = SOURCES["tiny-imagenet"].read(root)
    for path in (part, tmp_path / "again.h5"):
        prepare(data, val_fraction=0.5, subset=4, seed=0, path=path)
    assert part.read_bytes() == (tmp_path / "again.h5").read_bytes()
    assert describe(part).splits == {"train": 400, "val": 400, "test": 800}
    for split, source in (("train", "train"), ("val", "train"), ("test", "test")):
        ours, theirs = load_split(part, split), load_split(whole, source)
        known = {image.tobytes() for image in theirs.images}
        assert all(image.tobytes() in known for image in ours.images)
