"""Folders of images: skipped files and followed links are reported, and faults are listed together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crafted_images import cinic10, folder, image, prepared, refusal, tiny_imagenet, write
from prepkd.data.images.faults import Faults
from prepkd.data.prepared.file import describe
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError

HIDDEN = {
    "train/.ipynb_checkpoints/0-checkpoint.png": image(1),
    "test/@eaDir/ant/SYNOPHOTO_THUMB_M.jpg": b"?",
    "test/.DS_Store": b"?",
    "train/ant/.DS_Store": b"?",
    "train/ant/._0.png": b"?",
    "train/ant/Thumbs.db": b"?",
    "train/ant/DESKTOP.INI": b"?",
    "train/ant/deep/.ipynb_checkpoints/x.png": image(2),
    "train/ant/deep/x.png": image(3),
}


def test_hidden_and_system_files_are_no_data(tmp_path: Path) -> None:
    raw = write(folder(tmp_path / "raw"), HIDDEN)
    data = SOURCES["folder"].read(raw)
    assert data.class_names == ("ant", "bée") and len(data.train_labels) == 9
    # Capital letters sort first.
    first = "train/.ipynb_checkpoints, train/ant/.DS_Store, train/ant/._0.png, ..."
    assert data.notes == (f"8 files and folders skipped, hidden or of a system: {first}",)
    summary = prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "x.h5")
    assert summary["notes"] == list(data.notes) and describe(tmp_path / "x.h5").splits == {"train": 9, "test": 4}


@pytest.mark.parametrize(("dataset", "make"), [("cinic10", cinic10), ("tiny-imagenet", tiny_imagenet)])
def test_the_rule_is_that_of_every_source(dataset: str, make: object, tmp_path: Path) -> None:
    raw = make(tmp_path / "raw")  # type: ignore[operator]
    before = describe(prepared(dataset, raw, tmp_path / "a.h5"))
    for split in ("train", "val/images", "train/cat", f"train/{'n01443537'}/images"):
        if (raw / split).is_dir():
            write(raw / split, {".DS_Store": b"?", "@eaDir/x.png": image(1)})
    data = SOURCES[dataset].read(raw)
    assert "files and folders skipped, hidden or of a system: train/.DS_Store, train/@eaDir" in data.notes[0]
    assert describe(prepared(dataset, raw, tmp_path / "b.h5")).fingerprint == before.fingerprint


def test_a_class_of_hidden_files_only_has_no_images(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw")
    for path in (raw / "train/ant").iterdir():
        path.rename(path.with_name(f".{path.name}"))
    assert "raw/train/ant: a class without images" in refusal("folder", raw, tmp_path / "out" / "x.h5")


@pytest.mark.parametrize("tracked", ["raw.dvc", "../deep.dvc", None])
def test_linked_folders_are_followed_and_named_below_a_tracked_one(tracked: str | None, tmp_path: Path) -> None:
    tmp_path = tmp_path / "deep"
    raw = folder(tmp_path / "raw")
    if tracked:
        (tmp_path / tracked).touch()
    assert SOURCES["folder"].read(raw).notes == ()
    (raw / "train/ant").rename(tmp_path / "ants")
    (raw / "train/ant").symlink_to(tmp_path / "ants")
    (raw / "test/bée/0.png").rename(tmp_path / "0.png")
    (raw / "test/bée/0.png").symlink_to(tmp_path / "0.png")  # a file is read like any other
    data = SOURCES["folder"].read(raw)
    assert len(data.train_labels) == 8
    if not tracked:
        assert data.notes == ()
        return
    (note,) = data.notes
    assert note.startswith(
        "1 folder is a link: train/ant; `dvc add` does not follow links and misses changes behind them"
    )
    (tmp_path / "tests").mkdir()
    (raw / "test").rename(tmp_path / "tests" / "test")
    (raw / "test").symlink_to(tmp_path / "tests" / "test")
    assert SOURCES["folder"].read(raw).notes[0].startswith("2 folders are links: train/ant, test;")


def test_what_is_no_image_is_listed_beside_other_faults(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw")
    (raw / "train/ant/notes.txt").write_text("a fault of the folder")
    (raw / "train/ant/x.png").write_bytes(b"no image")
    (raw / "train/ant/cat.jpg").write_bytes(b"of another ending: listed once")
    text = refusal("folder", raw, tmp_path / "out" / "x.h5")
    assert text.startswith(f"{raw}: 3 faults:\n") and "notes.txt: a .txt file among the images" in text
    assert "x.png: not a JPEG, PNG, WebP or BMP image" in text and text.count("cat.jpg: ") == 1


def test_faults_are_listed_together(tmp_path: Path) -> None:
    raw = write(folder(tmp_path / "raw"), {"train/ant/a.txt": b"?", "train/cat/0.png": b"", "test/x.png": image(1)})
    (raw / "test/bée/y.png").symlink_to(tmp_path / "gone")
    lines = refusal("folder", raw, tmp_path / "out" / "x.h5").split("\n")
    assert lines[0] == f"{raw}: 5 faults:"
    assert [line.split(": ")[0].removeprefix(f"  {raw}/") for line in lines[1:]] == [
        "train/ant/a.txt",
        "train/cat/0.png",
        "test/x.png",
        "test/bée/y.png",
        "test/cat",
    ]


def test_damaged_images_of_every_split_are_listed_together(tmp_path: Path) -> None:
    for sizes in (((6, 8),), ((6, 8), (9, 5))):
        raw = folder(tmp_path / f"raw{len(sizes)}", {"train": 8, "test": 3}, sizes)
        for i in range(8):
            (raw / f"train/ant/{i}.png").write_bytes((raw / f"train/ant/{i}.png").read_bytes()[:-60])
        for i in range(3):
            (raw / f"test/bée/{i}.png").write_bytes(b"no image")
        lines = refusal("folder", raw, tmp_path / "out" / "x.h5").split("\n")
        assert lines[0] == f"{raw}: 11 faults, the first 10 of them:" and len(lines) == 11
        assert lines[1].startswith(f"  {raw}/train/ant/0.png: damaged or cut off: ")
        assert lines[10].startswith(f"  {raw}/test/bée/1.png: not a JPEG, PNG, WebP or BMP image")


def test_files_of_another_format_are_listed_together(tmp_path: Path) -> None:
    raw = write(
        folder(tmp_path / "raw", {"train": 20, "test": 1}),
        {f"test/bée/{i}.jpg": image(i, kind="JPEG") for i in range(9, 21)},
    )
    lines = refusal("folder", raw, tmp_path / "out" / "x.h5").split("\n")
    assert lines[0] == f"{raw}: 12 faults, the first 10 of them:" and len(lines) == 11
    assert all(": is JPEG, named .jpg; expected PNG" in line for line in lines[1:])


def test_one_fault_is_one_line() -> None:
    faults = Faults()
    faults.refuse(Path("raw"))
    with faults.collecting():
        raise InputError("raw/x: wrong")
    with pytest.raises(InputError, match=r"^raw/x: wrong$"):
        faults.refuse(Path("raw"))


def test_names_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """Class names are read as UTF-8 in an ASCII locale, too, where Python decodes file names by the locale."""
    raw = folder(tmp_path / "raw", sizes=((6, 8), (9, 5)))
    code = (
        "import sys; from pathlib import Path\n"
        "from prepkd.data.prepared.prepare import prepare; from prepkd.data.sources import SOURCES\n"
        "assert sys.getfilesystemencoding() == 'ascii', sys.getfilesystemencoding()\n"
        "data = SOURCES['folder'].read(Path(sys.argv[1]))\n"
        "prepare(data, val_fraction=0, subset=None, seed=0, path=Path(sys.argv[2]))\n"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code, raw, tmp_path / "a.h5"], check=True, env=environment)
    prepared("folder", raw, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert describe(tmp_path / "a.h5").class_names == ("ant", "bée")
