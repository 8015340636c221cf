"""The prepared file: contents, determinism, errors."""

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import preloaded
import pytest
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.runtime.files import array_fingerprint, fingerprint

TRAIN_COUNTS, TEST_COUNTS = (20, 11, 15), (6, 2, 4)
GOLDEN_VAL = [0, 5, 13, 25, 29, 33, 34, 42, 44]


def raw_data() -> RawData:
    """Three interleaved classes; every image is filled with its own number, which identifies it."""

    def split(counts: tuple[int, ...], first: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.random.Generator(np.random.Philox(first)).permutation(np.repeat(np.arange(len(counts)), counts))
        images = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None] + np.zeros(
            (5, 4, 3), np.uint8
        )
        return images, labels.astype(np.int64)

    return RawData("mini", *split(TRAIN_COUNTS, 0), *split(TEST_COUNTS, 100), ("ant", "bée", "cat"), "made up")


def written(path: Path, **changes: object) -> Path:
    settings: dict[str, object] = {"val_fraction": 0.2, "subset": None, "seed": 0} | changes
    prepare(raw_data(), **settings, path=path, replace=True)  # type: ignore[arg-type]
    return path


def numbers(path: Path, split: str) -> list[int]:
    return load_split(path, split).images[:, 0, 0, 0].tolist()


def counts(path: Path, split: str) -> list[int]:
    return np.bincount(load_split(path, split).labels, minlength=3).tolist()


def test_without_val_or_subset_everything_is_kept_in_order(tmp_path: Path) -> None:
    data, path = raw_data(), tmp_path / "new" / "mini.h5"
    summary = prepare(data, val_fraction=0, subset=None, seed=0, path=path)
    for name, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        split = load_split(path, name)
        assert np.array_equal(split.images, images)
        assert np.array_equal(split.labels, labels)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.fingerprint == array_fingerprint({"images": images, "labels": labels})
    info = describe(path)
    assert info.dataset == "mini"
    assert info.class_names == ("ant", "bée", "cat")
    assert info.image_shape == (5, 4, 3)
    assert info.splits == {"train": 46, "test": 12}
    assert info.split_fingerprints == {name: load_split(path, name).fingerprint for name in ("train", "test")}
    assert info.fingerprint == fingerprint(
        {"dataset": "mini", "class_names": ["ant", "bée", "cat"], "splits": info.split_fingerprints}
    )
    assert summary == {
        "dataset": "mini",
        "classes": 3,
        "image_shape": [5, 4, 3],
        "splits": {"train": 46, "test": 12},
        "fingerprint": info.fingerprint,
        "notes": [],
    }


def test_the_file_is_plain_hdf5(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "mini.h5")) as file:
        assert set(file) == {"train", "val", "test"}
        assert set(file.attrs) == {"format", "dataset", "class_names", "source", "fingerprint"}
        assert file.attrs["format"] == b"prepkd-data-1"
        assert file.attrs["source"] == b"made up"
        for group in file.values():
            assert set(group) == {"images", "labels"}
            assert group["images"].chunks is None
            assert group["images"].dtype == np.uint8
            assert group["labels"].dtype == np.dtype("<i8")


def test_val_is_carved_from_train_class_by_class(tmp_path: Path) -> None:
    path = written(tmp_path / "mini.h5")
    assert counts(path, "val") == [round(n * 0.2) for n in TRAIN_COUNTS] == [4, 2, 3]
    assert counts(path, "train") == [16, 9, 12]
    train, val = numbers(path, "train"), numbers(path, "val")
    assert sorted(train + val) == list(range(46))  # disjoint, nothing lost
    assert train == sorted(train)
    assert val == sorted(val)
    labels = raw_data().train_labels
    for split in ("train", "val"):  # each image kept its label
        assert load_split(path, split).labels.tolist() == labels[numbers(path, split)].tolist()
    assert numbers(path, "test") == list(range(100, 112))


def test_the_seed_chooses_and_only_the_seed(tmp_path: Path) -> None:
    val = {seed: numbers(written(tmp_path / f"{seed}.h5", seed=seed), "val") for seed in (0, 1, 2**63 - 1)}
    assert len({tuple(chosen) for chosen in val.values()}) == 3
    # Golden: Philox words are stable, so a change here means that users' splits change.
    assert val[0] == GOLDEN_VAL


def test_val_follows_the_rule_written_out(tmp_path: Path) -> None:
    chosen = []
    for label, count in enumerate((4, 2, 3)):
        of_class = np.flatnonzero(raw_data().train_labels == label).tolist()
        words = np.random.Philox(key=np.array([7, 2**62 + label], dtype=np.uint64)).random_raw(len(of_class)).tolist()
        chosen += [index for _, index in sorted(zip(words, of_class, strict=True))[:count]]
    assert numbers(written(tmp_path / "mini.h5", seed=7), "val") == sorted(chosen)


def test_subset_keeps_so_many_a_class_and_what_test_has(tmp_path: Path) -> None:
    path = written(tmp_path / "mini.h5", subset=5, val_fraction=0)
    assert counts(path, "train") == [5, 5, 5]
    assert counts(path, "test") == [5, 2, 4]
    for split in ("train", "test"):
        assert numbers(path, split) == sorted(numbers(path, split))
    assert load_split(path, "train").labels.tolist() == raw_data().train_labels[numbers(path, "train")].tolist()
    larger = written(tmp_path / "larger.h5", subset=8, val_fraction=0)
    assert set(numbers(path, "train")) < set(numbers(larger, "train"))
    # Naive reference: the rule written out, for another seed.
    other = written(tmp_path / "other.h5", subset=5, val_fraction=0, seed=7)
    for split, stream, labels, offset in (
        ("train", 2 * 2**62, raw_data().train_labels, 0),
        ("test", 3 * 2**62, raw_data().test_labels, 100),
    ):
        assert numbers(other, split) != numbers(path, split)
        chosen = []
        for label in range(3):
            of_class = np.flatnonzero(labels == label).tolist()
            words = (
                np.random.Philox(key=np.array([7, stream + label], dtype=np.uint64)).random_raw(len(of_class)).tolist()
            )
            chosen += [offset + index for _, index in sorted(zip(words, of_class, strict=True))[:5]]
        assert numbers(other, split) == sorted(chosen)


def test_val_is_a_part_of_the_subset(tmp_path: Path) -> None:
    path = written(tmp_path / "mini.h5", subset=10)
    assert counts(path, "train") == [8, 8, 8]
    assert counts(path, "val") == [2, 2, 2]
    assert not set(numbers(path, "train")) & set(numbers(path, "val"))
    kept = numbers(written(tmp_path / "whole.h5", subset=10, val_fraction=0), "train")
    assert sorted(numbers(path, "train") + numbers(path, "val")) == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": 12}, "prepare.subset is 12: class 'bée' has 11 training images; expected subset <= 11"),
        ({"subset": 0}, "prepare.subset is 0; expected at least 1 image per class, or null for all"),
        (
            {"val_fraction": 0.04},
            "prepare.val_fraction is 0.04: class 'bée' would have 11 images in train and 0 in val; expected at least 1 in each",
        ),
        (
            {"val_fraction": 0.96},
            "prepare.val_fraction is 0.96: class 'bée' would have 0 images in train and 11 in val; expected at least 1 in each",
        ),
        ({"val_fraction": 1.0}, "prepare.val_fraction is 1; expected 0 <= val_fraction < 1"),
        ({"val_fraction": -0.1}, "prepare.val_fraction is -0.1; expected 0 <= val_fraction < 1"),
        ({"val_fraction": float("nan")}, "prepare.val_fraction is nan; expected 0 <= val_fraction < 1"),
    ],
)
def test_settings_that_the_data_cannot_meet_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        written(tmp_path / "mini.h5", **changes)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from prepkd.data.prepared.prepare import prepare; from prepkd.data.sources import SOURCES\n"
        "prepare(SOURCES['digits'].read(Path()), val_fraction=0.1, subset=40, seed=3, path=Path(sys.argv[1]))"
    )
    began = int(time.time())
    for run in "ab":
        written(tmp_path / f"here_{run}.h5")
        subprocess.run(
            [preloaded.commands() / "python", "-W", "error", "-c", code, tmp_path / f"process_{run}.h5"], check=True
        )
    seconds = [second.to_bytes(4, "little") for second in range(began, int(time.time()) + 1)]
    for path in tmp_path.iterdir():
        assert not any(second in path.read_bytes() for second in seconds), "HDF5 keeps times as seconds in four bytes"
    assert (tmp_path / "here_a.h5").read_bytes() == (tmp_path / "here_b.h5").read_bytes()
    assert (tmp_path / "process_a.h5").read_bytes() == (tmp_path / "process_b.h5").read_bytes()


@pytest.mark.parametrize("before", [None, b"what stood there"])
def test_a_failure_while_writing_leaves_what_was_there(
    before: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mini.h5"
    if before is not None:
        path.write_bytes(before)
    seen = []

    def full(place: Path) -> None:
        seen.append(place.name)
        assert [place] == list(tmp_path.glob(".mini.h5.*.partial"))  # perhaps complete, but not yet renamed
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prepkd.runtime.files.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(path)
    assert len(seen) == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == (
        {} if before is None else {"mini.h5": before}
    )


def test_digits_can_be_prepared(tmp_path: Path) -> None:
    path = tmp_path / "digits.h5"
    prepare(SOURCES["digits"].read(tmp_path), val_fraction=0.1, subset=None, seed=0, path=path)
    info = describe(path)
    assert sum(info.splits.values()) == 1797
    assert info.image_shape == (8, 8, 1)
    assert info.class_names == tuple("0123456789")
    seen = [{image.tobytes() for image in load_split(path, name).images} for name in ("train", "val", "test")]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 1797  # all three disjoint


@pytest.mark.parametrize("read", [describe, lambda path: load_split(path, "train")])
def test_no_file_and_no_hdf5_are_told_apart(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path / "gone.h5")
    assert str(caught.value) == f"{tmp_path}/gone.h5: no such file; run `prepkd prepare`"
    path = tmp_path / "text.h5"
    path.write_text("not HDF5")
    with pytest.raises(
        InputError, match=r"text.h5: not a whole HDF5 file of prepared data: .*; run `prepkd prepare` again"
    ):
        read(path)
    whole = written(tmp_path / "mini.h5").read_bytes()
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"text.h5: not a whole HDF5 file of prepared data: "):
            read(path)


def edited(tmp_path: Path, edit: Callable[[h5py.File], object]) -> Path:
    path = shutil.copy(written(tmp_path / "mini.h5"), tmp_path / "edited.h5")
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


@pytest.mark.parametrize("read", [describe, lambda path: load_split(path, "train")])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda file: file.attrs.__setitem__("format", np.bytes_("prepkd-data-2")),
            "expected format prepkd-data-1, found prepkd-data-2; run `prepkd prepare` again, or use a newer prepkd",
        ),
        (
            lambda file: file.attrs.__delitem__("format"),
            "expected format prepkd-data-1, found none; run `prepkd prepare` again, or use a newer prepkd",
        ),
        (lambda file: file.attrs.__delitem__("dataset"), "not a whole HDF5 file of prepared data: "),
        (lambda file: file.__delitem__("train"), "not a whole HDF5 file of prepared data: "),
        (lambda file: file["val"].attrs.__delitem__("fingerprint"), "not a whole HDF5 file of prepared data: "),
        (lambda file: file.attrs.__setitem__("class_names", np.array([b"x", b"y", b"z"])), "fingerprint: recorded "),
        (lambda file: file["val"].attrs.__setitem__("fingerprint", np.bytes_("0" * 64)), "fingerprint: recorded "),
        (lambda file: file.__delitem__("test"), "fingerprint: recorded "),
    ],
)
def test_files_that_were_changed_are_refused(
    read: Callable[[Path], object], edit: Callable[[h5py.File], object], message: str, tmp_path: Path
) -> None:
    path = edited(tmp_path, edit)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "run `prepkd prepare` again" in str(caught.value)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_a_single_changed_value_is_found(name: str, tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file["val"][name][3] = file["val"][name][3] ^ 1

    path = edited(tmp_path, edit)
    intact = load_split(tmp_path / "mini.h5", "val")
    changed = {"images": intact.images.copy(), "labels": intact.labels.copy()}
    changed[name][3] ^= 1
    with pytest.raises(InputError) as caught:
        load_split(path, "val")
    assert str(caught.value) == (
        f"{path}: val.fingerprint: recorded {intact.fingerprint[:12]}, but the content has {array_fingerprint(changed)[:12]}; "
        "the file was changed or is damaged; run `prepkd prepare` again"
    )
    assert np.array_equal(load_split(path, "train").images, load_split(tmp_path / "mini.h5", "train").images)


def test_a_split_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "mini.h5", val_fraction=0)
    with pytest.raises(InputError) as caught:
        load_split(path, "val")
    assert str(caught.value) == (
        f"{path}: no split 'val', only train, test; set prepare.val_fraction and run `prepkd prepare`"
    )
    with pytest.raises(InputError, match="no split 'dev', only train, test; name one of those"):
        load_split(path, "dev")


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    base = raw_data()

    def whole(data: RawData) -> str:
        path = tmp_path / "x.h5"
        return str(prepare(data, val_fraction=0, subset=None, seed=0, path=path, replace=True)["fingerprint"])

    changed = base.test_labels.copy()
    changed[0] = (changed[0] + 1) % 3
    variants = [
        base,
        replace(base, dataset="other"),
        replace(base, class_names=("ant", "bee", "cat")),
        replace(base, test_labels=changed),
        replace(base, train_images=base.train_images[:, ::-1, :, :] ^ 1),
    ]
    assert len({whole(data) for data in variants}) == len(variants)
    assert whole(base) == whole(replace(base, source="told otherwise"))
