"""HDF5 arrays whose values are in other files or were never written are refused by name before anything is read."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError

SECRET = b"aws_secret_access_key = do-not-read-me" * 8  # 304 bytes
Edit = Callable[[h5py.File, str, tuple[int, ...]], object]


def external_storage(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    secret = str(Path(file.filename).with_name("credentials"))
    file.create_dataset(name, shape, "u1", external=[(secret, 0, int(np.prod(shape)))])


def external_link(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["x"] = np.zeros(shape, np.uint8)
    file[name] = h5py.ExternalLink("other.h5", "/x")


def soft_link_through_external_link(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    external_link(file, "val", shape)
    file[name] = h5py.SoftLink("/val")


def virtual(source: str) -> Edit:
    def edit(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
        layout = h5py.VirtualLayout(shape, "u1")
        layout[...] = h5py.VirtualSource(source, name, shape)
        file.create_virtual_dataset(name, layout)

    return edit


def never_written(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    file.create_dataset(name, shape, "u1")


def partly_written(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    file.create_dataset(name, shape, "u1", chunks=(1, *shape[1:]), compression="gzip")[2] = 1


def promised(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    """Declare an array of gigabytes or more in a file of a few kilobytes, without writing values."""
    file.create_dataset(name, (10**9, *shape[1:]), "u1", chunks=(10**3, *shape[1:]), compression="gzip")


FOREIGN: list[tuple[Edit, str]] = [
    (external_storage, "{name}: external storage, values in '{folder}/credentials'; expected values in this file"),
    (external_link, "{name}: an external link to '/x' in 'other.h5'; expected the array itself"),
    (soft_link_through_external_link, "val: an external link to '/x' in 'other.h5'"),
    (virtual("gone.h5"), "{name}: a virtual dataset, made of others; expected an array with values of its own"),
    (virtual("."), "{name}: a virtual dataset"),
    (never_written, "{name}: no values were written"),
    (partly_written, "{name}: 1 of 6 chunks were written"),
    (promised, "{name}: 0 of 1,000,000 chunks were written"),
]
IDS = ["storage", "link", "soft-link", "virtual", "virtual-self", "never", "partly", "promised"]


def arrays(path: Path) -> Path:
    path.with_name("credentials").write_bytes(SECRET)
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            file[f"{split}/images"] = np.full((6, 4, 4, 3), 7 if split == "test" else 9, np.uint8)
            file[f"{split}/labels"] = np.arange(6) % 2
    return path


def put(path: Path, name: str, edit: Edit) -> None:
    with h5py.File(path, "r+") as file:
        shape = file[name].shape
        del file[name]
        edit(file, name, shape)


@pytest.mark.parametrize("name", ["train/images", "test/labels"])
@pytest.mark.parametrize(("edit", "message"), FOREIGN, ids=IDS)
def test_a_users_file_must_hold_its_values(edit: Edit, message: str, name: str, tmp_path: Path) -> None:
    raw = arrays(tmp_path / "x.h5")
    assert len(SOURCES["h5"].read(raw).train_labels) == 6
    put(raw, name, edit)
    with pytest.raises(InputError) as caught:
        SOURCES["h5"].read(raw)
    assert str(caught.value).startswith(f"{raw}: {message.format(name=name, folder=tmp_path)}")
    assert str(caught.value).endswith("; write it anew, as file[name] = array")


@pytest.mark.parametrize(("edit", "message"), FOREIGN, ids=IDS)
def test_prepared_data_must_hold_its_values(edit: Edit, message: str, tmp_path: Path) -> None:
    path = tmp_path / "y.h5"
    prepare(SOURCES["h5"].read(arrays(tmp_path / "x.h5")), val_fraction=0, subset=None, seed=0, path=path)
    put(path, "test/images", edit)
    for read in (describe, lambda path: load_split(path, "test")):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {message.format(name='test/images', folder=tmp_path)}")


def test_groups_that_contain_each_other_end(tmp_path: Path) -> None:
    raw = arrays(tmp_path / "x.h5")
    with h5py.File(raw, "r+") as file:
        file["val/loop"] = file["/"]
    with pytest.raises(InputError, match="val/loop: an unknown name"):
        SOURCES["h5"].read(raw)
