"""Folders of images: the images, labels and splits that are read from each layout."""

from pathlib import Path

import numpy as np
import pytest
from crafted_images import CINIC, WNIDS, cinic10, folder, image, prepared, refusal, tiny_imagenet, write
from PIL import Image
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.data.sources import folder as folder_module
from prepkd.data.sources.raw import RawData
from torchvision.datasets import ImageFolder


def assert_is_image_folder(path: Path, split: str, root: Path) -> None:
    """Assert the pixels, labels, order and class names of torchvision's ImageFolder."""
    theirs, ours = ImageFolder(root), load_split(path, split)
    assert list(describe(path).class_names) == theirs.classes
    assert ours.labels.tolist() == theirs.targets
    for i in range(len(theirs)):
        expected = np.asarray(theirs[i][0])
        if isinstance(ours.images, EncodedImages):
            assert np.array_equal(ours.images.decode([i])[0].whole().permute(1, 2, 0).numpy(), expected)
            assert bytes(ours.images.file(i)) == Path(theirs.samples[i][0]).read_bytes()
            assert root.parent / ours.images.name(i) == Path(theirs.samples[i][0])
        else:
            assert np.array_equal(ours.images[i], expected)


@pytest.mark.parametrize("sizes", [((6, 8),), ((6, 8), (9, 5), (20, 7))], ids=["one size", "several"])
@pytest.mark.parametrize("second", ["test", "val", "valid"])
def test_a_folder_is_read_as_torchvision_reads_it(
    sizes: tuple[tuple[int, int], ...], second: str, tmp_path: Path
) -> None:
    raw = folder(tmp_path / "raw", {"train": 4, second: 3}, sizes)
    path = prepared("folder", raw, tmp_path / "out" / "x.h5")
    assert describe(path).splits == {"train": 8, "test": 6}
    assert describe(path).encoded == (len(sizes) > 1)
    assert describe(path).image_shape == ((6, 8, 3) if len(sizes) == 1 else None)
    assert_is_image_folder(path, "train", raw / "train")
    assert_is_image_folder(path, "test", raw / second)


ORDERED = ["10.png", "9.png", "B.png", "a/1.png", "a.b/1.png", "a.png", "c.png", "é.png"]  # docs/how-to/own-data.md


@pytest.mark.parametrize(
    ("settings", "total"),
    [
        ({}, 32),
        ({"val_fraction": 0.25}, 32),
        ({"subset": 5}, 20),
        ({"subset": 6, "val_fraction": 0.5}, 24),
        ({"split": {"val": 0.25, "test": 0.25}}, 16),
    ],
    ids=str,
)
def test_the_documented_order(settings: dict[str, object], total: int, tmp_path: Path) -> None:
    """By class, then by name, folders among files; the settings select images and keep their order."""
    root, classes = tmp_path / "raw", ("Zebra", "ant")
    for split in ("",) if "split" in settings else ("train/", "test/"):
        names = [f"{split}{label}/{name}" for label in classes for name in ORDERED]
        write(root, {name: image(i, 6 + i % 2) for i, name in enumerate(reversed(names))})
    path = prepared("folder", root, tmp_path / "x.h5", **settings)
    info = describe(path)
    for split, count in info.splits.items():
        images = load_split(path, split).images
        assert isinstance(images, EncodedImages)
        found = [images.name(i).split("/", 0 if "split" in settings else 1)[-1] for i in range(count)]
        expected = [f"{label}/{name}" for label in classes for name in ORDERED]
        assert found == [name for name in expected if name in found]
    assert sum(info.splits.values()) == total


def test_test_and_val_beside_train_keep_their_roles(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", {"train": 4, "val": 3, "test": 2})
    path = prepared("folder", raw, tmp_path / "x.h5")
    assert describe(path).splits == {"train": 8, "val": 6, "test": 4}
    for split in ("train", "val", "test"):
        assert_is_image_folder(path, split, raw / split)


def test_images_of_one_size_stay_encoded_if_arrays_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = folder(tmp_path / "raw")
    monkeypatch.setattr(folder_module, "ARRAY_BYTES", 12 * 6 * 8 * 3)
    assert not describe(prepared("folder", raw, tmp_path / "x.h5")).encoded
    monkeypatch.setattr(folder_module, "ARRAY_BYTES", 12 * 6 * 8 * 3 - 1)
    info = describe(prepared("folder", raw, tmp_path / "x.h5"))
    assert info.encoded and info.image_shape == (6, 8, 3)
    assert_is_image_folder(tmp_path / "x.h5", "train", raw / "train")


def test_formats_colours_and_nested_folders_may_be_mixed(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", sizes=((6, 8), (9, 5)))
    write(
        raw / "train/ant",
        {
            "deep/er/a.JPG": image(50, kind="JPEG"),
            "deep/b.bmp": image(51, kind="BMP"),
            "deep/c.webp": image(52, kind="WEBP"),
            "grey.png": image(53, mode="L"),
            "palette.png": image(54, mode="P"),
            "black and white.png": image(55, mode="1"),
            "cmyk.jpeg": image(56, kind="JPEG", mode="CMYK"),
            "alpha.png": image(57, mode="RGBA"),
            "a png.JPEG": image(58),  # ImageNet has one
        },
    )
    (raw / "train/ant/link.png").symlink_to(raw / "train/ant/0.png")
    path = prepared("folder", raw, tmp_path / "x.h5", mixed_formats=True)
    ours = load_split(path, "train")
    assert len(ours.labels) == 8 + 10
    for i in range(len(ours.labels)):
        expected = Image.open(raw / ours.images.name(i)).convert("RGB")
        assert np.array_equal(ours.images.decode([i])[0].whole().permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("sizes", [((6, 8),), ((6, 8), (9, 5))], ids=["arrays", "encoded"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/ant/00.bmp", "BMP"),  # the first file: it is named, not the files after it
        ("test/bée/x.webp", "WEBP"),
        ("test/bée/x.jpg", "JPEG"),
        ("train/ant/x.png", "JPEG"),
        ("train/ant/x.JPEG", "PNG"),
    ],
)
def test_one_image_of_another_format_is_named(
    name: str, kind: str, sizes: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    raw = write(folder(tmp_path / "raw", sizes=sizes), {name: image(61, *sizes[0], kind)})
    assert refusal("folder", raw, tmp_path / "out" / "x.h5") == (
        f"{raw / name}: is {kind}, named {Path(name).suffix}; expected PNG, and named so, as the other images here; "
        "convert it, or set prepare.mixed_formats: true, which reads all formats, whatever their names"
    )
    prepared("folder", raw, tmp_path / "out" / "x.h5", mixed_formats=True)


@pytest.mark.parametrize(
    ("endings", "kind"), [(("jpg", "JPEG"), "JPEG"), (("webp", "WebP"), "WEBP"), (("bmp", "bmp"), "BMP")]
)
def test_any_single_format_is_read(endings: tuple[str, str], kind: str, tmp_path: Path) -> None:
    names = [f"{split}/{label}/{i}.{endings[i]}" for split in ("train", "test") for label in "ab" for i in range(2)]
    raw = write(tmp_path / "raw", {name: image(i, kind=kind) for i, name in enumerate(names)})
    assert describe(prepared("folder", raw, tmp_path / "x.h5")).splits == {"train": 4, "test": 4}


def test_equal_names_in_different_folders_are_read(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw")
    write(raw / "train/ant", {f"{name}.png": image(60) for name in ("deep/0", "deep/er/0", "0.1", "0.2", "10")})
    assert len(SOURCES["folder"].read(raw).train_labels) == 8 + 5


def test_cinic10_has_its_three_official_splits(tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw" / "cinic10")
    outer, inner = (prepared("cinic10", root, tmp_path / f"{i}.h5") for i, root in enumerate([raw, raw.parent]))
    assert outer.read_bytes() == inner.read_bytes()
    info = describe(outer)
    assert info.class_names == CINIC and info.image_shape == (32, 32, 3) and not info.encoded
    assert info.splits == {"train": 20, "val": 20, "test": 20}
    for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert_is_image_folder(outer, ours, raw / theirs)


def test_tiny_imagenets_val_is_the_test(tmp_path: Path) -> None:
    raw = tiny_imagenet(tmp_path / "raw" / "tiny-imagenet-200")
    outer, inner = (prepared("tiny-imagenet", root, tmp_path / f"{i}.h5") for i, root in enumerate([raw, raw.parent]))
    assert outer.read_bytes() == inner.read_bytes()
    info = describe(outer)
    assert info.class_names == tuple(f"{wnid} word {wnid}" for wnid in sorted(WNIDS))
    assert info.splits == {"train": 9, "test": 9} and info.image_shape == (64, 64, 3) and not info.encoded
    theirs, train, test = ImageFolder(raw / "train"), load_split(outer, "train"), load_split(outer, "test")
    assert train.labels.tolist() == theirs.targets
    assert all(np.array_equal(train.images[i], np.asarray(theirs[i][0])) for i in range(9))
    # Naive reference: read the annotations line by line.
    lines = [line.split("\t") for line in (raw / "val/val_annotations.txt").read_text().splitlines()]
    expected = sorted((sorted(WNIDS).index(wnid), name) for name, wnid, *_ in lines)
    assert test.labels.tolist() == [label for label, _ in expected]
    for ours, (_, name) in zip(test.images, expected, strict=True):
        assert np.array_equal(ours, np.asarray(Image.open(raw / "val/images" / name).convert("RGB")))


def test_val_subset_and_seed_apply_to_files_as_to_arrays(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", {"train": 10, "test": 5}, ((6, 8), (9, 5)))
    names = {}
    for seed in (0, 1):
        path = prepared("folder", raw, tmp_path / f"{seed}.h5", subset=8, val_fraction=0.25, seed=seed)
        assert describe(path).splits == {"train": 12, "val": 4, "test": 10}
        split = load_split(path, "val")
        names[seed] = [split.images.name(i) for i in range(4)]
        assert split.labels.tolist() == [0, 0, 1, 1] == [int("bée" in name) for name in names[seed]]
    assert names[0] != names[1]
    # The same images are chosen as from arrays with as many images per class.
    labels = np.repeat([0, 1], 10)
    arrays = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    data = RawData("x", arrays, labels, arrays[:2], labels[[0, 10]], ("ant", "bée"), "made up")
    prepare(data, val_fraction=0.25, subset=8, seed=0, path=tmp_path / "a.h5")
    chosen = load_split(tmp_path / "a.h5", "val").images[:, 0, 0, 0].tolist()
    assert names[0] == [f"train/{'ant' if i < 10 else 'bée'}/{i % 10}.png" for i in chosen]


def test_a_source_with_its_own_val_gets_no_second_one(tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw", 3)
    text = refusal("cinic10", raw, tmp_path / "out" / "x.h5", val_fraction=0.1)
    assert text == "prepare.val_fraction is 0.1: cinic10 has its own val; expected 0"
    whole, part = (load_split(prepared("cinic10", raw, tmp_path / "x.h5", subset=n), "val") for n in (None, 1))
    # Naive reference: the rule written out; the subset of val has its own random stream.
    chosen = []
    for label in range(10):
        of_class = np.flatnonzero(whole.labels == label).tolist()
        words = np.random.Philox(key=np.array([0, 5 * 2**61 + label], dtype=np.uint64)).random_raw(len(of_class))
        chosen.append(min(zip(words.tolist(), of_class, strict=True))[1])
    assert np.array_equal(part.images, whole.images[chosen])
