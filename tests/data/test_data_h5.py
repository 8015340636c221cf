"""Users' own arrays: accepted layouts; nothing is cast, scaled or left out silently."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError

Arrays = dict[str, object]


def arrays(count: int = 6, shape: tuple[int, ...] = (5, 4, 3)) -> Arrays:
    generator = np.random.Generator(np.random.Philox(4))
    made: Arrays = {}
    for split, n in (("train", count), ("test", count // 2)):
        made[f"{split}/images"] = generator.integers(256, size=(n, *shape), dtype=np.uint8)
        made[f"{split}/labels"] = np.arange(n, dtype=np.int32) % 3
    return made


def write(path: Path, content: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            file[name] = array
    return path


def refusal(raw: Path) -> str:
    with pytest.raises(InputError) as caught:
        SOURCES["h5"].read(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 1), (5, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["i1", "u1", "i8", ">i4", "u8"])
def test_arrays_are_taken_as_they_are(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    content = arrays(shape=shape)
    for split in ("train", "test"):
        content[f"{split}/labels"] = np.asarray(content[f"{split}/labels"]).astype(dtype)
    content |= {"val/images": content["test/images"], "val/labels": content["test/labels"]}
    prepare(
        SOURCES["h5"].read(write(tmp_path / "x.h5", content)),
        val_fraction=0,
        subset=None,
        seed=0,
        path=tmp_path / "y.h5",
    )
    info = describe(tmp_path / "y.h5")
    assert info.splits == {"train": 6, "val": 3, "test": 3} and info.class_names == ("0", "1", "2")
    assert info.image_shape == (5, 4, shape[2] if len(shape) == 3 else 1)
    for split in info.splits:
        ours = load_split(tmp_path / "y.h5", split)
        assert ours.labels.dtype == np.int64 and ours.labels.tolist() == np.asarray(content[f"{split}/labels"]).tolist()
        assert np.array_equal(ours.images.reshape(-1, *shape), content[f"{split}/images"])


@pytest.mark.parametrize(
    "names", [["ant", "bée", "cat"], np.array([b"ant", "bée".encode(), b"cat"])], ids=["text", "S"]
)
def test_names_of_classes_are_kept(names: object, tmp_path: Path) -> None:
    data = SOURCES["h5"].read(write(tmp_path / "x.h5", arrays() | {"class_names": names}))
    assert data.class_names == ("ant", "bée", "cat") and data.val is None


def put(name: str, array: object) -> Callable[[Arrays], object]:
    return lambda content: content.__setitem__(name, array)


def cast(name: str, dtype: str) -> Callable[[Arrays], object]:
    return lambda content: content.__setitem__(name, np.asarray(content[name]).astype(dtype))


NAN = np.full((6, 5, 4, 3), np.nan, np.float32)
FAULTS: list[tuple[Callable[[Arrays], object], str]] = [
    (lambda content: content.pop("train/labels"), "train/labels: no such array; expected train/images, train/labels,"),
    (lambda content: [content.pop(f"test/{name}") for name in ("images", "labels")], "test/images: no such array"),
    (put("val/images", np.zeros((2, 5, 4, 3), np.uint8)), "val/labels: no such array"),
    (put("valid/images", np.zeros((2, 5, 4, 3), np.uint8)), "valid: an unknown name; expected train/images"),
    (put("train/weights", np.zeros(6)), "train/weights: an unknown name"),
    (put("train/images/0", np.zeros(6)), "train/images/0: an unknown name"),
    (cast("train/images", "f4"), "train/images: of type float32; expected uint8, from 0 to 255"),
    (put("train/images", NAN), "train/images: of type float32; expected uint8"),
    (cast("test/images", "i1"), "test/images: of type int8; expected uint8"),
    (cast("test/images", "u2"), "test/images: of type uint16; expected uint8"),
    (cast("test/images", "?"), "test/images: of type bool; expected uint8"),
    (
        put("train/images", np.zeros((6, 3, 5, 4), np.uint8)),
        "train/images: of shape (6, 3, 5, 4); expected (N, H, W) or (N, H, W, C)",
    ),
    (put("train/images", np.zeros((6, 60), np.uint8)), "train/images: of shape (6, 60); expected"),
    (put("train/images", np.zeros((0, 5, 4, 3), np.uint8)), "train/images: of shape (0, 5, 4, 3); expected"),
    (
        put("test/images", np.zeros((3, 5, 5, 3), np.uint8)),
        "test/images: images of shape (5, 5, 3); expected (5, 4, 3), as those of train",
    ),
    (cast("train/labels", "f4"), "train/labels: float32 of shape (6,); expected integers of shape (6,)"),
    (put("train/labels", np.full(6, np.nan)), "train/labels: float64 of shape (6,); expected integers"),
    (cast("train/labels", "?"), "train/labels: bool of shape (6,); expected integers"),
    (
        put("train/labels", np.array(["ant"] * 6, dtype=h5py.string_dtype())),
        "train/labels: object of shape (6,); expected integers",
    ),
    (
        put("train/labels", np.zeros(5, int)),
        "train/labels: int64 of shape (5,); expected integers of shape (6,), one per image",
    ),
    (
        put("train/labels", np.zeros((6, 1), int)),
        "train/labels: int64 of shape (6, 1); expected integers of shape (6,)",
    ),
    (
        put("train/labels", np.array([0, 1, 2, -1, 0, 1])),
        "train/labels: -1 at 3; expected 0 to 2, the classes of train",
    ),
    (put("test/labels", np.array([0, 3, 1])), "test/labels: 3 at 1; expected 0 to 2, the classes of train"),
    (
        put("test/labels", np.array([0, 2**64 - 1, 1], np.uint64)),
        "test/labels: 18446744073709551615 at 1; expected a class",
    ),
    (
        put("train/labels", np.arange(1, 7)),
        "train/labels: the largest is 6, of 6 images; expected two classes or more, counted from 0",
    ),
    (
        put("train/labels", np.arange(6) % 3 + 1),
        "train/labels: no image of class 0; expected at least one of each, from 0 to 3",
    ),
    (
        put("train/labels", np.zeros(6, int)),
        "train/labels: the largest is 0, of 6 images; expected two classes or more",
    ),
    (put("train/labels", np.array([0, 1, 2, 10**12, 1, 2])), "train/labels: the largest is 1000000000000, of 6 images"),
    (put("class_names", ["a", "b"]), "class_names: 2 names, 2 different; expected 3 different ones"),
    (put("class_names", ["a", "b", "b"]), "class_names: 3 names, 2 different; expected 3 different ones"),
    (put("class_names", ["a", "", "b"]), "class_names: 3 names, 3 different; expected 3 different ones, none empty"),
    (put("class_names", ["a", "b", "c", "d"]), "train/labels: no image of class 3; expected at least one of each"),
    (put("class_names", [0, 1, 2]), "class_names: expected an array of strings, one per class"),
    (put("class_names", "abc"), "class_names: expected an array of strings, one per class"),
    (
        put("class_names", np.array([b"ant", "bée".encode("latin-1"), b"cat"])),
        r"class_names: b'b\xe9e' is not UTF-8; write them as UTF-8",
    ),
    (
        put("class_names", np.array([b"ant", "bée".encode("latin-1"), b"cat"], h5py.string_dtype())),
        r"class_names: b'b\xe9e' is not UTF-8; write them as UTF-8",
    ),
    (put("class_names/0", "abc"), "class_names/0: an unknown name"),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS, ids=[message[:45] for _, message in FAULTS])
def test_a_fault_is_named(edit: Callable[[Arrays], object], message: str, tmp_path: Path) -> None:
    content = arrays()
    edit(content)
    if any(name.startswith("train/images/") for name in content):
        content.pop("train/images")
    raw = write(tmp_path / "x.h5", content)
    assert refusal(raw).startswith(f"{raw}: {message}")


@pytest.mark.parametrize("name", ["test", "test/images", "val/images"])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_images_that_are_those_of_another_split_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    """Two splits may not share images through a link; they may share labels, which can be equal."""
    content = arrays(9) | {"val/labels": np.arange(9) % 3, "val/images": np.ones((9, 5, 4, 3), np.uint8)}
    content["test/labels"], content["test/images"] = np.arange(9) % 3, np.zeros((9, 5, 4, 3), np.uint8)
    raw, source = write(tmp_path / "x.h5", content), name.replace("test", "train").replace("val", "test")
    with h5py.File(raw, "r+") as file:
        del file["test/labels"]
        file["test/labels"] = file["train/labels"]
    assert len(SOURCES["h5"].read(raw).test_labels) == 9
    with h5py.File(raw, "r+") as file:
        del file[name]
        file[name] = h5py.SoftLink(f"/{source}") if kind == "soft" else file[source]
    images, other = name.removesuffix("/images"), source.removesuffix("/images")
    expected = f"{images}/images: is the same array as {other}/images; expected its own; take out the link"
    assert refusal(raw) == f"{raw}: {expected}"


@pytest.mark.parametrize("name", ["extra", "train/extra"])
@pytest.mark.parametrize("target", ["soft", "/", "train", "train/images"])
def test_a_second_name_is_an_unknown_one(name: str, target: str, tmp_path: Path) -> None:
    """A second name of an array or group is refused, too, although HDF5's own walk shows only an object's first name."""
    raw = write(tmp_path / "x.h5", arrays())
    with h5py.File(raw, "r+") as file:
        file[name] = h5py.SoftLink("/train/images") if target == "soft" else file[target]
    assert refusal(raw).startswith(f"{raw}: {name}: an unknown name; expected train/images")


def test_what_is_no_hdf5_file_is_told_apart(tmp_path: Path) -> None:
    assert f"{tmp_path}: a folder; expected an HDF5 file with train/images" in refusal(tmp_path)
    assert "gone.h5: no such file; expected an HDF5 file" in refusal(tmp_path / "gone.h5")
    np.savez(tmp_path / "x.npz", **{"images": np.zeros(3)})
    for content in (b"", b"no HDF5", (tmp_path / "x.npz").read_bytes()):
        (tmp_path / "x.h5").write_bytes(content)
        assert "x.h5: no HDF5 file; expected one with train/images, train/labels, " in refusal(tmp_path / "x.h5")
    whole = write(tmp_path / "y.h5", arrays()).read_bytes()
    for end in (100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.h5").write_bytes(whole[:end])
        assert "x.h5: not a whole HDF5 file: " in refusal(tmp_path / "x.h5")


def test_a_damaged_block_is_named(tmp_path: Path) -> None:
    content = arrays()
    images = content.pop("train/images")
    with h5py.File(write(tmp_path / "x.h5", content), "r+") as file:
        file.create_dataset("train/images", data=images, chunks=(6, 5, 4, 3), fletcher32=True)
        place = file["train/images"].id.get_chunk_info(0).byte_offset
    with (tmp_path / "x.h5").open("r+b") as raw:
        raw.seek(place + 5)
        raw.write(b"??")
    assert "x.h5: not a whole HDF5 file: " in refusal(tmp_path / "x.h5")
