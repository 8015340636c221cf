"""CIFAR: pixels and labels in order, and errors that name the file."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from crafted_cifar import batch, content, mini, refusal, write
from prepkd.data.sources import SOURCES
from prepkd.data.sources.cifar import CIFAR10, CIFAR100, Cifar
from prepkd.errors import InputError


def test_cifar_files_become_pixels_in_order(tmp_path: Path) -> None:
    source = write(tmp_path, mini())
    data = source.read(tmp_path)
    rows = np.concatenate([batch(1)["data"], batch(2, rows=3)["data"]])  # type: ignore[list-item]
    assert data.train_images.shape == (7, 32, 32, 3)
    assert data.train_images.flags.c_contiguous
    for sample, y, x, channel in [(0, 0, 0, 0), (3, 5, 31, 2), (6, 31, 7, 1)]:
        assert data.train_images[sample, y, x, channel] == rows[sample, channel * 1024 + y * 32 + x]
    assert data.train_labels.tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert data.train_labels.dtype == np.int64
    assert data.test_images.shape == (4, 32, 32, 3)
    assert data.class_names == ("ant", "bee", "cat")


def test_raw_may_be_the_official_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, mini())
    outer, inner = source.read(tmp_path), source.read(tmp_path / "mini-python")
    assert np.array_equal(outer.train_images, inner.train_images)
    monkeypatch.chdir(tmp_path / "mini-python")
    assert len(source.read(Path()).train_labels) == 7


class Malice:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    evil = pickle.dumps({"data": Malice(marker)}, protocol=protocol)
    source = write(tmp_path, mini() | {"train_2": evil})  # with a correct md5: the checksum does not stop it
    text = refusal(tmp_path, source)
    assert f"{tmp_path}/mini-python/train_2: the pickle asks for {os.system.__module__}.system" in text
    assert not marker.exists()
    pickle.loads(evil)  # noqa: S301 - the control: plain pickle runs the command
    assert marker.exists()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    files = mini()
    source = write(tmp_path, files | {"train_1": files["train_1"][:5000]})
    assert f"{tmp_path}/mini-python/train_1: not a whole pickle of CIFAR data: " in refusal(tmp_path, source)


@pytest.mark.parametrize("name", ["train_1", "train_2", "test", "meta"])
def test_a_wrong_md5_is_refused_before_reading(name: str, tmp_path: Path) -> None:
    source = write(tmp_path, mini())
    path = tmp_path / "mini-python" / name
    wanted = hashlib.md5(path.read_bytes()).hexdigest()
    path.write_bytes(pickle.dumps(Malice(tmp_path / "ran")))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    text = refusal(tmp_path, source)
    assert text.startswith(f"{path}: expected md5 {wanted}, found {found}; ")
    assert "`prepkd prepare --download`" in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["train_1", "train_2", "test", "meta"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    source = write(tmp_path, mini())
    (tmp_path / "mini-python" / name).unlink()
    text = refusal(tmp_path, source)
    assert text.startswith(f"{tmp_path}/mini-python/{name}: no such file; expected the official one (md5 ")
    assert text.endswith("run `prepkd prepare --download` or put it there")


@pytest.mark.parametrize(("dataset", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_missing_folder_is_named(dataset: str, folder: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        SOURCES[dataset].read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/{folder}: no such folder; expected the official {dataset} files in it; "
        "run `prepkd prepare --download` or put them there"
    )


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("train_1", batch(1, fine_labels=[0, 1, 2, 3]), "expected fine_labels from 0 to 2, found 3 at 3"),
        ("test", batch(1, fine_labels=[0, -1, 2, 1]), "expected fine_labels from 0 to 2, found -1 at 1"),
        ("test", batch(1, fine_labels=[0, 2**70, 2, 1]), f"expected fine_labels from 0 to 2, found {2**70} at 1"),
        ("train_2", batch(1, fine_labels=[0, 1.0, 2, 1]), "expected fine_labels from 0 to 2, found 1.0 at 1"),
        ("train_2", batch(1, fine_labels=[0, 1, True, 1]), "expected fine_labels from 0 to 2, found True at 2"),
        ("train_1", batch(1, fine_labels=[0, 1, 2]), "expected fine_labels, a list of 4 labels, found 3 labels"),
        ("train_1", batch(1, fine_labels=None), "expected fine_labels, a list of 4 labels, found NoneType"),
        ("test", {"data": batch(1)["data"]}, "expected fine_labels, a list of 4 labels, found NoneType"),
        ("test", batch(1, data=np.zeros((4, 3071), np.uint8)), "expected data of shape (N, 3072), found (4, 3071)"),
        ("test", batch(1, data=np.zeros(3072, np.uint8)), "expected data of shape (N, 3072), found (3072,)"),
        ("train_2", {"fine_labels": [0]}, "expected data of shape (N, 3072), found NoneType"),
        ("meta", {}, "expected fine_label_names, a list of class names, found none"),
        ("meta", {"fine_label_names": [1, 2, 3]}, "expected fine_label_names, a list of class names, found none"),
        ("meta", {"fine_label_names": ["a", "b"]}, "expected 3 different class names, found 2 (2 different)"),
        ("meta", {"fine_label_names": ["a", "b", "a"]}, "expected 3 different class names, found 3 (2 different)"),
    ],
)
def test_contents_that_do_not_fit_are_refused(
    name: str, entry: dict[str, object], message: str, tmp_path: Path
) -> None:
    source = write(tmp_path, mini() | {name: content(**entry)})
    assert refusal(tmp_path, source) == f"{tmp_path}/mini-python/{name}: {message}"


def test_pixels_that_are_not_bytes_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, mini() | {"test": content(**batch(1, data=np.zeros((4, 3072), np.float32)))})
    assert "mini-python/test: not a whole pickle of CIFAR data: an array of" in refusal(tmp_path, source)


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_cifar_facts_agree_with_torchvision(source: Cifar) -> None:
    from torchvision import datasets

    theirs = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[source.name]
    archive = source.archive
    assert (source.place, archive.url, archive.md5) == (theirs.base_folder, theirs.url, theirs.tgz_md5)
    assert archive.file == theirs.filename
    assert [list(file) for file in source.train] == theirs.train_list
    assert [list(file) for file in source.test] == theirs.test_list
    assert theirs.meta == {"filename": source.meta[0], "key": source.names_key, "md5": source.meta[1]}


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:dtype.*align:numpy.exceptions.VisibleDeprecationWarning")
def test_real_cifar100_is_what_torchvision_reads() -> None:
    root = os.environ.get("PREPKD_CIFAR100")
    if root is None:
        pytest.skip("set PREPKD_CIFAR100 to the folder that holds cifar-100-python")
    from torchvision.datasets import CIFAR100 as Theirs

    data = SOURCES["cifar100"].read(Path(root))
    for train, images, labels in (
        (True, data.train_images, data.train_labels),
        (False, data.test_images, data.test_labels),
    ):
        theirs = Theirs(root, train=train, download=False)
        assert np.array_equal(images, theirs.data)
        assert labels.tolist() == theirs.targets
        assert list(data.class_names) == theirs.classes
    assert np.bincount(data.train_labels).tolist() == [500] * 100
