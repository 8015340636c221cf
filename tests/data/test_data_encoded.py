"""Prepared files of encoded images: contents, determinism, and bounded memory."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import preloaded
import pytest
import torch
from crafted_images import folder, image, write
from prepkd.data.images.channels import channel_statistics
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.faults import Faults
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.prepared.sparse_file import SparseFile
from prepkd.data.sources import SOURCES
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.runtime.files import array_fingerprint, fingerprint

SIZES = ((6, 8), (9, 5), (20, 7))
SETTINGS = {"val_fraction": 0.25, "subset": None, "seed": 0}


def prepared(raw: Path, path: Path, **changes: object) -> Path:
    prepare(SOURCES["folder"].read(raw), **SETTINGS | changes, path=path, replace=True)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("raw"), {"train": 8, "test": 4}, SIZES)


def test_the_file_is_plain_hdf5(raw: Path, tmp_path: Path) -> None:
    path = prepared(raw, tmp_path / "x.h5")
    with h5py.File(path) as file:
        assert set(file) == {"train", "val", "test"}
        assert set(file.attrs) == {"format", "dataset", "class_names", "source", "fingerprint", "mean", "std"}
        for group in file.values():
            assert set(group) == {"content", "offsets", "names", "orientations", "labels"}
            assert group["orientations"].dtype == np.uint8 and set(group["orientations"][:]) == {1}
            assert group["content"].dtype == np.uint8 and group["content"].chunks is None
            assert group["offsets"].dtype == group["labels"].dtype == np.dtype("<i8")
            for i, name in enumerate(group["names"][:]):
                part = slice(group["offsets"][i], group["offsets"][i + 1])
                assert group["content"][part].tobytes() == (raw / name.decode()).read_bytes()
        names = [name for group in file.values() for name in group["names"][:]]
        assert len(set(names)) == len(names) == 24
    prepared(folder(tmp_path / "one size"), tmp_path / "y.h5")
    with h5py.File(tmp_path / "y.h5") as file:
        assert set(file["train"]) == {"images", "labels"} and set(file.attrs) >= {"source"} and "mean" not in file.attrs


def test_fingerprints_and_statistics_are_those_of_a_naive_reading(raw: Path, tmp_path: Path) -> None:
    path = prepared(raw, tmp_path / "x.h5")
    info = describe(path)
    for name in info.splits:
        split = load_split(path, name)
        files = np.empty(len(split.labels), object)
        files[:] = [(raw / split.images.name(i)).read_bytes() for i in range(len(files))]
        expected = array_fingerprint({"images": files, "labels": split.labels})
        assert split.fingerprint == info.split_fingerprints[name] == expected
    train = load_split(path, "train").images
    values = (
        torch.cat([image.whole().reshape(3, -1) for image in train.decode(range(len(train)))], dim=1).double() / 255
    )
    mean, std = values.mean(dim=1), values.std(dim=1, correction=0)
    assert channel_statistics(train).mean == pytest.approx(mean.tolist(), abs=1e-6)
    assert channel_statistics(train).std == pytest.approx(std.tolist(), abs=1e-6)
    statistics = {"mean": list(info.statistics.mean), "std": list(info.statistics.std)}  # type: ignore[union-attr]
    assert info.fingerprint == fingerprint(
        {
            "dataset": "folder",
            "class_names": list(info.class_names),
            "splits": info.split_fingerprints,
            "statistics": statistics,
        }
    )
    with pytest.raises(InputError, match="a selection of encoded images has no statistics"):
        channel_statistics(train[:3])


def test_files_become_the_arrays_that_memory_would_make(tmp_path: Path) -> None:
    """Image files and arrays of their pixels give prepared files of equal content, fingerprints and statistics."""
    data = SOURCES["folder"].read(folder(tmp_path / "raw", {"train": 8, "test": 4}))
    arrays = {
        name: np.stack([one.pixels for one in images.read(Faults())]) for name, (images, _) in data.splits.items()
    }  # type: ignore[union-attr]
    memory = RawData(
        "folder", arrays["train"], data.train_labels, arrays["test"], data.test_labels, data.class_names, data.source
    )
    summaries = [prepare(d, **SETTINGS, path=tmp_path / f"{i}.h5") for i, d in enumerate((data, memory))]  # type: ignore[arg-type]
    assert summaries[0] == summaries[1]
    for split in ("train", "val", "test"):
        ours, theirs = (load_split(tmp_path / f"{i}.h5", split) for i in range(2))
        assert np.array_equal(ours.images, theirs.images) and ours.fingerprint == theirs.fingerprint
    with h5py.File(tmp_path / "0.h5") as ours, h5py.File(tmp_path / "1.h5") as theirs:
        assert dict(ours.attrs.items()).keys() == dict(theirs.attrs.items()).keys()


def test_equal_files_give_equal_bytes(raw: Path, tmp_path: Path) -> None:
    first = prepared(raw, tmp_path / "a.h5").read_bytes()
    # Prepare a copy in another folder and another process, its files created in another order.
    for path in sorted(raw.rglob("*.png"), reverse=True):
        write(tmp_path / "copy", {str(path.relative_to(raw)): path.read_bytes()})
    code = (
        "import sys; from pathlib import Path\n"
        "from prepkd.data.prepared.prepare import prepare; from prepkd.data.sources import SOURCES\n"
        "prepare(SOURCES['folder'].read(Path(sys.argv[1])), val_fraction=0.25, subset=None, seed=0, path=Path(sys.argv[2]))"
    )
    subprocess.run(
        [preloaded.commands() / "python", "-W", "error", "-c", code, tmp_path / "copy", tmp_path / "b.h5"], check=True
    )
    assert (tmp_path / "b.h5").read_bytes() == first


def test_an_image_that_changes_changes_the_fingerprints(raw: Path, tmp_path: Path) -> None:
    before = describe(prepared(raw, tmp_path / "a.h5"))
    copy = shutil.copytree(raw, tmp_path / "raw")
    (copy / "test/ant/1.png").write_bytes(image(99, 6, 8))
    after = describe(prepared(copy, tmp_path / "a.h5"))
    assert before.fingerprint != after.fingerprint
    assert before.split_fingerprints["train"] == after.split_fingerprints["train"]
    assert before.split_fingerprints["test"] != after.split_fingerprints["test"]


def test_loaded_bytes_are_mapped_not_read(raw: Path, tmp_path: Path) -> None:
    images = load_split(prepared(raw, tmp_path / "x.h5"), "train").images
    assert isinstance(images.content, np.memmap) and not images.content.flags.writeable
    (tmp_path / "x.h5").unlink()  # as DVC does before it checks another version out
    assert images.decode([0])[0].shape[0] == 3


def test_a_box_of_a_picture_is_that_of_its_tensor(raw: Path, tmp_path: Path) -> None:
    images = load_split(prepared(raw, tmp_path / "x.h5"), "train").images
    for picture in images.decode(range(len(images))):
        whole = picture.whole()
        assert whole.dtype == torch.uint8 and whole.shape == picture.shape
        _, height, width = picture.shape
        box = picture.box(1, 2, height - 1, width - 3)
        assert torch.equal(box, whole[:, 1:, 2 : width - 1])


def changed(path: Path, edit: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)


def refit(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        array = change(file[f"train/{name}"][:])
        del file[f"train/{name}"]
        file[f"train/{name}"] = array

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda file: file["train/content"].__setitem__(70, 255 ^ file["train/content"][70]), "train.fingerprint: recorded"),
        (lambda file: file["train/labels"].__setitem__(0, 1), "train.fingerprint: recorded"),
        (lambda file: file["train/offsets"].__setitem__(1, file["train/offsets"][1] + 1), "train.fingerprint: recorded"),
        (lambda file: file["train/offsets"].__setitem__(1, 10**9), "/train/offsets don't fit the"),
        (lambda file: file["train/offsets"].__setitem__(0, 1), "/train/offsets don't fit the"),
        (refit("offsets", lambda a: a[:-1]), "/train/offsets don't fit the"),
        (refit("content", lambda a: a[:-1]), "/train/offsets don't fit the"),
        (refit("content", lambda a: a.astype(np.int16)), "/train/content is not one block of bytes"),
        (lambda file: file.attrs.__setitem__("mean", np.full(3, 0.4)), "fingerprint: recorded"),
        (lambda file: file.attrs.__delitem__("std"), "not a whole HDF5 file of prepared data"),
        (lambda file: file.__delitem__("train/names"), "not a whole HDF5 file of prepared data"),
    ],
)  # fmt: skip
def test_files_that_were_changed_are_refused(
    edit: Callable[[h5py.File], object], message: str, raw: Path, tmp_path: Path
) -> None:
    path = prepared(raw, tmp_path / "x.h5")
    changed(path, edit)
    with pytest.raises(InputError) as caught:
        load_split(path, "train")
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "run `prepkd prepare` again" in str(caught.value)


def test_a_file_that_was_cut_off_is_refused(raw: Path, tmp_path: Path) -> None:
    path = prepared(raw, tmp_path / "x.h5")
    whole = path.read_bytes()
    for end in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"x.h5: not a whole HDF5 file of prepared data: "):
            load_split(path, "train")


def test_more_names_than_an_attribute_holds(tmp_path: Path) -> None:
    """A thousand long class names are kept, although HDF5 limits attributes to 64 KiB."""
    names = tuple(f"{i:04} {'a long name ' * 6}" for i in range(1000))
    labels = np.arange(1000)
    images = np.zeros((1000, 2, 2, 1), np.uint8)
    data = RawData("many", images, labels, images, labels, names, "made up")
    prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "x.h5")
    assert describe(tmp_path / "x.h5").class_names == names
    assert sorted(load_split(tmp_path / "x.h5", "test").labels.tolist()) == list(range(1000))


MEMORY = r"""
import json, re, sys
from pathlib import Path
from prepkd.data.images.channels import channel_statistics
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.faults import Faults
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources.raw import RawData
from prepkd.data.sources import SOURCES

def peak():  # of this program: getrusage's is inherited from the one that started it
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

raw, path = map(Path, sys.argv[1:])
data = SOURCES["folder"].read(raw)
next(data.test_images.read(Faults()))  # what Pillow and the threads take
before = peak()
prepare(data, val_fraction=0, subset=None, seed=0, path=path)
print(json.dumps([before, peak()]))
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    large = [image(seed, 500, 700 + seed) for seed in range(2)]  # 1 MB each, noise
    counts = {"train": 120, "test": 4}
    files = {f"{split}/{c}/{i}.png": large[i % 2] for split in counts for c in "ab" for i in range(counts[split])}
    write(tmp_path / "raw", files)
    command = [sys.executable, "-c", MEMORY, tmp_path / "raw", tmp_path / "x.h5"]
    before, after = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = (tmp_path / "x.h5").stat().st_size
    assert size > 256e6
    assert (after - before) * 1024 < size / 2, "at most 64 files ahead, and what decodes them"


def test_a_full_disk_leaves_what_was_there_and_does_not_crash(raw: Path, tmp_path: Path) -> None:
    """Writes that fail at a file size limit, which stands for a full disk, keep the old file."""
    path = prepared(raw, tmp_path / "out" / "x.h5")
    whole = path.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from prepkd.data.prepared.prepare import prepare; from prepkd.data.sources import SOURCES\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))\n"
        "prepare(SOURCES['folder'].read(Path(sys.argv[1])), val_fraction=0.25, subset=None, seed=0, path=Path(sys.argv[2]))"
    )
    for limit in (1000, len(whole) // 2, len(whole) - 1):
        done = subprocess.run(
            [preloaded.commands() / "python", "-c", code, raw, path, str(limit)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and "OSError: [Errno 27] File too large" in done.stderr
        assert [file.name for file in path.parent.iterdir()] == ["x.h5"] and path.read_bytes() == whole


def test_hdf5_finds_in_a_file_with_holes_what_it_finds_in_a_real_one(tmp_path: Path) -> None:
    holes = SparseFile()
    generator = np.random.Generator(np.random.Philox(1))
    for file in (holes, tmp_path / "real.h5"):
        with h5py.File(file, "w") as made:
            for i in range(40):
                made.create_dataset(f"group{i % 7}/{i}", data=np.arange(i), track_times=False)
    with h5py.File(holes, "r") as ours, h5py.File(tmp_path / "real.h5") as theirs:
        for i in generator.permutation(40).tolist():
            assert np.array_equal(ours[f"group{i % 7}/{i}"][:], theirs[f"group{i % 7}/{i}"][:])
    with (tmp_path / "copy.h5").open("wb") as copy:
        holes.copy_to(copy)
    with h5py.File(tmp_path / "copy.h5") as ours:
        assert ours["group3/31"][:].tolist() == list(range(31))


@pytest.mark.parametrize("shape", [(70, 32, 32, 3), (9, 8, 8, 1), (2, 300, 301, 3)], ids=str)
def test_statistics_are_those_of_the_pixels(shape: tuple[int, ...]) -> None:
    images = np.random.Generator(np.random.Philox(0)).integers(256, size=shape, dtype=np.uint8)
    pixels = images.reshape(-1, shape[-1]).astype(np.float64) / 255
    found = channel_statistics(images)
    assert found == Statistics(
        *(tuple(round(float(one), 6) for one in many) for many in (pixels.mean(axis=0), pixels.std(axis=0)))
    )
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(images, -1, 0)])
    assert Statistics.of_counts(counts) == found
    assert channel_statistics(np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 3, 1)), 1, 3)) == found


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (4, 0, 0, 3)])
def test_nothing_has_no_statistics(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no pixels"):
        channel_statistics(np.zeros(shape, np.uint8))


def test_statistics_are_exact() -> None:
    counts = np.zeros((3, 256), np.int64)
    counts[:, 255] = 10**12
    assert Statistics.of_counts(counts) == Statistics((1.0,) * 3, (0.0,) * 3)
    white = np.full((3, 260, 260, 1), 255, np.uint8)  # the sum of one image's squares exceeds 2^32
    assert channel_statistics(white) == Statistics((1.0,), (0.0,))
    white[0, 0, 0] = 0
    pixels = 3 * 260**2
    assert channel_statistics(white).std == (round(((pixels - 1) / pixels**2) ** 0.5, 6),)


def test_a_selection_has_the_files_that_were_chosen(raw: Path, tmp_path: Path) -> None:
    images = load_split(prepared(raw, tmp_path / "x.h5"), "train").images
    assert isinstance(images, EncodedImages)
    for chosen in (slice(2, 5), [4, 0, 0], np.array([False, True] * (len(images) // 2))):
        rows = np.arange(len(images))[chosen].tolist()
        part = images[chosen]
        assert [part.name(i) for i in range(len(part))] == [images.name(row) for row in rows]
        assert [bytes(part.file(i)) for i in range(len(part))] == [bytes(images.file(row)) for row in rows]
