"""Photographs with an EXIF orientation: a folder's are turned upright unless `upright` is false, and are counted."""

import io
from pathlib import Path

import numpy as np
import pytest
from crafted_images import cinic10, image, pixels, prepared, write
from PIL import Image, ImageOps
from prepkd.data.images.decode import apply_orientation, decode_image, orientation_of
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources.settings import Prepare
from prepkd.runtime.files import array_fingerprint


def photograph(seed: int, orientation: int | None, height: int = 12, width: int = 16, kind: str = "JPEG") -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels(seed, height, width)).save(stream, kind, exif=exif)
    return stream.getvalue()


def upright(content: bytes) -> np.ndarray:
    """The image turned by Pillow's `exif_transpose`."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def photographs(root: Path, orientations: list[int | None], **size: int) -> Path:
    files = {}
    for split in ("train", "test"):
        for c, label in enumerate(("ant", "bée")):
            for i, orientation in enumerate(orientations):
                files[f"{split}/{label}/{i}.jpg"] = photograph(10 * i + c, orientation, **size)
    return write(root, files)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_pillows(orientation: int, kind: str) -> None:
    content = photograph(1, orientation, kind=kind)
    with Image.open(io.BytesIO(content)) as opened:
        assert orientation_of(opened) == orientation
    assert np.array_equal(np.asarray(apply_orientation(decode_image(content, "x"), orientation)), upright(content))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\xff\xff\xff\xff", b"?" * 60])
def test_damaged_exif_is_none(exif: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels(1, 6, 8)).save(stream, "JPEG", exif=exif)
    with Image.open(io.BytesIO(stream.getvalue())) as opened:
        assert orientation_of(opened) == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    with Image.open(io.BytesIO(photograph(1, value))) as opened:
        assert orientation_of(opened) == 1


def test_photographs_of_a_folder_are_upright(tmp_path: Path) -> None:
    """For photographs of several sizes the prepared file keeps the encoded bytes and the orientation to turn them by."""
    raw = photographs(tmp_path / "raw", [1, 6, 3, None])
    path = prepared("folder", raw, tmp_path / "x.h5")
    split = load_split(path, "train")
    assert describe(path).encoded and split.images.orientations.tolist() == [1, 6, 3, 1] * 2
    for i in range(8):
        content = (raw / split.images.name(i)).read_bytes()
        assert split.images.file(i) == content
        assert np.array_equal(split.images.decode([i])[0].whole().permute(1, 2, 0).numpy(), upright(content))
    some = split.images[[5, 1, 0]]
    assert some.orientations.tolist() == [6, 6, 1] and some.decode([0])[0].shape == (3, 16, 12)
    files = np.empty(8, object)
    files[:] = [bytes(split.images.file(i)) for i in range(8)]
    expected = {"images": files, "labels": split.labels, "orientations": split.images.orientations}
    assert split.fingerprint == array_fingerprint(expected)


def test_photographs_of_one_upright_size_become_arrays(tmp_path: Path) -> None:
    """Photographs that have one size only after turning are stored as arrays."""
    raw = write(
        tmp_path / "raw",
        {
            f"{split}/{label}/{i}.jpg": photograph(i, 6 if i else 1, *((12, 16) if i else (16, 12)))
            for split in ("train", "test")
            for label in "ab"
            for i in range(2)
        },
    )
    path = prepared("folder", raw, tmp_path / "x.h5")
    assert describe(path).image_shape == (16, 12, 3) and not describe(path).encoded
    images = load_split(path, "train").images
    assert np.array_equal(images[1], upright((raw / "train/a/1.jpg").read_bytes()))
    assert describe(prepared("folder", raw, tmp_path / "y.h5", upright=False)).encoded, "12 x 16 and 16 x 12 as stored"


@pytest.mark.parametrize("setting", [True, False])
def test_rotated_photographs_are_counted(setting: bool, tmp_path: Path) -> None:
    raw = photographs(tmp_path / "raw", [1, 6, 3, 1])
    data = Prepare(dataset="folder", upright=setting).source.read(raw)
    summary = prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "x.h5")
    assert summary["notes"] == [
        "8 images have an EXIF orientation and are turned upright; prepare.upright: false keeps stored pixels"
        if setting
        else "8 images have an EXIF orientation that is not applied: they are read as stored, sideways or mirrored"
    ]
    if not setting:
        assert load_split(tmp_path / "x.h5", "train").images[0].shape == (12, 16, 3)


def test_the_setting_changes_fingerprints_only_if_an_image_is_turned(tmp_path: Path) -> None:
    """The orientation enters the fingerprints: pixel statistics and bytes are equal, so a store would fit both settings."""
    for name, orientations, same in (("plain", [None, 1], True), ("turned", [None, 3], False)):
        raw = write(photographs(tmp_path / name, orientations), {"test/ant/x.jpg": image(1, 20, 20, "JPEG")})
        found = [describe(prepared("folder", raw, tmp_path / f"{name}{k}.h5", upright=k)) for k in (True, False)]
        assert found[0].encoded and found[1].encoded
        assert (found[0].fingerprint == found[1].fingerprint) is same
        assert (found[0].split_fingerprints["train"] == found[1].split_fingerprints["train"]) is same


def test_official_data_sets_stay_as_the_field_reads_them(tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw")
    (raw / "train/cat/n0_1.png").write_bytes(photograph(5, 3, 32, 32, "PNG"))
    data = Prepare(dataset="cinic10").source.read(raw)
    summary = prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "x.h5")
    assert "1 image has an EXIF orientation that is not applied: it is read as stored" in summary["notes"][0]
    images = load_split(tmp_path / "x.h5", "train").images
    assert np.array_equal(images[2 * 3 + 1], pixels(5, 32, 32))
