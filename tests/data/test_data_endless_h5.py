"""Values of variable length, which HDF5 reads without end if one byte is damaged: the command ends with one line."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.project.outputs import _is_data

# Each reading runs in a process of its own, which is killed if it hangs: no signal but SIGKILL ends it.
BEGIN = """
import sys
from pathlib import Path
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError
from prepkd.project.outputs import _is_data
from prepkd.runtime import hdf5
hdf5.STRINGS_SECONDS = 5
path = Path(sys.argv[1])
try:
    print("read:", """
END = """)
except InputError as error:
    print(error)
"""


def said(reading: str, path: Path) -> str:
    """The result of an expression of `path`, or the line with which the file is refused."""
    command = [sys.executable, "-c", BEGIN + reading + END, str(path)]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def damage(path: Path) -> None:
    """Shorten the free space at the end of the global heap, of 4,096 bytes: an object of no bytes follows it."""
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    objects = range(heap + 16, heap + 4096, 8)
    (free,) = [at for at in objects if int.from_bytes(content[at : at + 8], "little") == heap + 4096 - at + 8]
    content[free] ^= 64
    path.write_bytes(content)


def raw(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for split, count in (("train", 4), ("test", 2)):
            file[f"{split}/images"] = np.full((count, 4, 4, 1), count, np.uint8)
            file[f"{split}/labels"] = np.arange(count) % 2
        file["class_names"] = ["cat", "dog"]
    return path


def prepared(path: Path) -> Path:
    source = SOURCES["h5"].read(raw(path.with_name("raw.h5")))
    prepare(source, val_fraction=0, subset=None, seed=0, path=path)
    return path


def test_class_names_without_end(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.h5")
    damage(path)
    expected = "not a whole HDF5 file: class_names: its strings were not read within 5 seconds; write it again"
    assert said('SOURCES["h5"].read(path)', path) == f"{path}: {expected}"


@pytest.mark.parametrize("name", ["format", "dataset", "fingerprint", "class_names"])
def test_attributes_without_end(name: str, tmp_path: Path) -> None:
    path = prepared(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file.attrs[name] = ["cat", "dog"]
    damage(path)
    assert f"attribute {name} of / holds values of variable length; expected a fixed one; run" in said(
        "describe(path)", path
    )


def test_labels_without_end(tmp_path: Path) -> None:
    path = prepared(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        del file["test/labels"]
        file["test/labels"] = ["cat", "dog"]
    damage(path)
    assert "/test/labels holds values of variable length; expected a fixed one; run" in said(
        'load_split(path, "test")', path
    )


def test_another_file_in_the_place_of_an_output_is_none(tmp_path: Path) -> None:
    path = prepared(tmp_path / "x.h5")
    assert _is_data(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "prepkd-data-1"
    damage(path)
    assert said("_is_data(path)", path) == "read: False"
