"""Sources: what is read, and everything that is refused."""

import functools
import hashlib
import http.server
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crafted_images import cinic10, tiny_imagenet
from prepkd.data.settings import Prepare
from prepkd.data.sources import SOURCES
from prepkd.data.sources.archive import Archive
from prepkd.data.sources.archived_folder import ArchivedFolder
from prepkd.data.sources.cifar import CIFAR10, CIFAR100, Cifar
from prepkd.data.sources.unpickle import unpickle
from prepkd.errors import InputError
from prepkd.settings.validation import validated

CLASSES = 3
OFFICIAL_KEYS = {"labels": "fine_labels", "names": "fine_label_names"}


def content(**entry: object) -> bytes:
    return pickle.dumps(entry, protocol=2)  # the protocol of the official files


def batch(seed: int, rows: int = 4, **changes: object) -> dict[str, object]:
    data = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return {"data": data, "fine_labels": [i % CLASSES for i in range(rows)], **changes}


def write(raw: Path, files: dict[str, bytes], **changes: object) -> Cifar:
    """Craft a small data set of the official form, and the source that holds its checksums."""
    folder = raw / "mini-python"
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
    source = replace(
        CIFAR100,
        name="mini",
        place="mini-python",
        train=tuple((name, md5[name]) for name in ("train_1", "train_2")),
        test=(("test", md5["test"]),),
        meta=("meta", md5["meta"]),
        classes=CLASSES,
    )
    return replace(source, **changes)  # type: ignore[arg-type]


def mini() -> dict[str, bytes]:
    return {
        "train_1": content(**batch(1)),
        "train_2": content(**batch(2, rows=3)),
        "test": content(**batch(3)),
        "meta": content(fine_label_names=["ant", "bee", "cat"]),
    }


def refusal(raw: Path, source: Cifar) -> str:
    with pytest.raises(InputError) as caught:
        source.read(raw)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_digits_are_the_whole_file_split_evenly_by_class() -> None:
    from sklearn.datasets import load_digits

    data, bunch = SOURCES["digits"].read(Path("not-there")), load_digits()
    assert data.dataset == "digits"
    assert data.class_names == tuple("0123456789")
    assert data.train_images.shape == (901, 8, 8, 1)
    assert data.test_images.shape == (896, 8, 8, 1)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    # A naive reference: walk through the file and deal each class's samples alternately.
    dealt: dict[int, int] = dict.fromkeys(range(10), 0)
    expected: tuple[list[tuple[int, list[int]]], list[tuple[int, list[int]]]] = ([], [])
    for label, pixels in zip(bunch.target, bunch.data, strict=True):
        expected[dealt[label] % 2].append((label, [round(v * 255 / 16) for v in pixels]))
        dealt[label] += 1
    for (images, labels), rows in zip(
        ((data.train_images, data.train_labels), (data.test_images, data.test_labels)), expected, strict=True
    ):
        assert labels.tolist() == [label for label, _ in rows]
        assert images.reshape(-1, 64).tolist() == [pixels for _, pixels in rows]
    assert data.train_images.max() == 255  # 16 becomes white
    halves = [{image.tobytes() for image in images} for images in (data.train_images, data.test_images)]
    assert len(halves[0]) + len(halves[1]) == 1797  # no two digits are equal, so the halves can be told to be disjoint
    assert not halves[0] & halves[1]


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


def test_bytes_of_python_2_are_read(tmp_path: Path) -> None:
    # As in the official files: Python 2 strings (opcode U) as keys, names and pixels; an old global; an integer `align`.
    old = (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\x00\xfftbU\x05names](U\x03\xe9teeu."
    )
    entry = unpickle(old, tmp_path)
    assert isinstance(entry["data"], np.ndarray)
    assert entry["data"].tolist() == [[0, 255]]
    assert entry["data"].dtype == np.uint8
    assert entry["names"] == [b"\xe9te"]


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_todays_numpy_are_read_too(protocol: int, order: str, tmp_path: Path) -> None:
    array = np.array(np.arange(12).reshape(3, 4), dtype=np.uint8, order=order)  # type: ignore[call-overload]
    entry = unpickle(pickle.dumps({"data": array}, protocol=protocol), tmp_path)
    assert np.array_equal(entry["data"], array)  # type: ignore[arg-type]


class Malice:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    evil = pickle.dumps({"data": Malice(marker)}, protocol=protocol)
    source = write(tmp_path, mini() | {"train_2": evil})  # with the right md5: the checksum is not what stops it
    text = refusal(tmp_path, source)
    assert f"{tmp_path}/mini-python/train_2: the pickle asks for {os.system.__module__}.system" in text
    assert not marker.exists()
    pickle.loads(evil)  # noqa: S301 - the control: the same bytes do run where nothing stops them
    assert marker.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "codecs.encode"])
def test_other_globals_are_refused_even_where_they_look_harmless(name: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(InputError, match=rf"the pickle asks for {re.escape(name)}; expected plain lists and arrays"):
        unpickle(f"c{module}\n{attribute}\n.".encode(), tmp_path)


def test_a_forged_dtype_cannot_turn_bytes_into_pointers(tmp_path: Path) -> None:
    forged = pickle.dumps({"data": np.array([None])}, protocol=2)
    with pytest.raises(InputError, match=r"an array of .*O8.*, not uint8"):
        unpickle(forged, tmp_path)


def test_a_pickle_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = content(data=np.zeros((2, 3), np.uint8), fine_labels=[0, 1])
    for end in range(len(whole)):
        with pytest.raises(InputError, match=rf"{tmp_path}/f: not a whole pickle of CIFAR data: .*put the official"):
            unpickle(whole[:end], tmp_path / "f")


DAMAGE = """
import pickle, resource
import numpy as np
from pathlib import Path
from prepkd.data.sources.unpickle import unpickle
from prepkd.errors import InputError

resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))  # a damaged memo index asks for gigabytes
whole = pickle.dumps({"data": np.zeros((2, 3), np.uint8), "fine_labels": [0, 1]}, protocol=2)
words = np.random.Philox(key=0).random_raw(3000).tolist()
refused = 0
for where, what in zip(words[::2], words[1::2]):
    damaged = bytearray(whole)
    damaged[where % len(whole)] = what % 256
    try:
        unpickle(bytes(damaged), Path("f"))
    except InputError as error:
        assert "\\n" not in str(error)
        refused += 1
print(refused)
"""


def test_a_damaged_byte_is_read_or_refused_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", DAMAGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 500 < int(done.stdout) < 1500


def test_garbage_is_refused(tmp_path: Path) -> None:
    for body in (b"", b"not a pickle", bytes(1000), pickle.dumps([1, 2]), pickle.dumps({"data": 1})[1:]):
        with pytest.raises(InputError, match="not a whole pickle of CIFAR data"):
            unpickle(body, tmp_path)


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


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100], ids=lambda source: source.name)
def test_cifar_facts_agree_with_torchvision(source: Cifar) -> None:
    from torchvision import datasets

    theirs = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[source.name]
    archive = source.archive
    assert (source.place, archive.url, archive.md5) == (theirs.base_folder, theirs.url, theirs.tgz_md5)
    assert archive.file == theirs.filename
    assert [list(file) for file in source.train] == theirs.train_list
    assert [list(file) for file in source.test] == theirs.test_list
    assert theirs.meta == {"filename": source.meta[0], "key": source.names_key, "md5": source.meta[1]}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder, and the URL under which this machine serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("inside", ["", "mini-python"])
def test_download_puts_the_files_where_the_source_reads_them(
    served: tuple[str, Path], inside: str, tmp_path: Path
) -> None:
    url, folder = served
    write(tmp_path / "made", mini())
    with tarfile.open(folder / "mini.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "mini-python", "mini-python")
    md5 = hashlib.md5((folder / "mini.tar.gz").read_bytes()).hexdigest()
    source = write(tmp_path / "made", mini(), archive=Archive(f"{url}/mini.tar.gz", "mini.tar.gz", md5))
    raw = tmp_path / "raw" / inside
    source.download(raw)
    assert len(source.read(raw).train_labels) == 7
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["mini-python"]  # the archive is gone
    (folder / "mini.tar.gz").unlink()
    source.download(raw)  # all there: nothing is fetched

    (tmp_path / "raw" / "mini-python" / "test").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"mini.tar.gz: download failed: HTTP Error 404"):
        source.download(raw)


@pytest.mark.parametrize("dataset", ["cinic10", "tiny-imagenet"])
@pytest.mark.parametrize("itself", [False, True])
def test_an_archive_of_images_is_unpacked_where_its_source_reads(
    served: tuple[str, Path], dataset: str, itself: bool, tmp_path: Path
) -> None:
    url, folder = served
    source = SOURCES[dataset]
    assert isinstance(source, ArchivedFolder)
    # CINIC-10's archive holds its splits, Tiny ImageNet's a folder.
    made = {"cinic10": cinic10, "tiny-imagenet": tiny_imagenet}[dataset](tmp_path / "made" / source.inside, 1)
    kind = "zip" if source.archive.file.endswith(".zip") else "gztar"
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "made"))
    packed.rename(folder / "content")
    md5 = hashlib.md5((folder / "content").read_bytes()).hexdigest()
    source = replace(source, archive=replace(source.archive, url=f"{url}/content", md5=md5))
    raw = tmp_path / "raw" / (source.place if itself else "")
    left = tmp_path / "raw" / f".{source.place}.partial" / "what a killed one left"
    left.mkdir(parents=True)
    source.download(raw)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [source.place]
    unpacked = tmp_path / "raw" / source.place
    assert {p.relative_to(unpacked) for p in unpacked.rglob("*")} == {p.relative_to(made) for p in made.rglob("*")}
    assert len(source.read(raw).train_labels) == len(source.read(made).train_labels)
    (folder / "content").unlink()
    source.download(raw)  # all there: nothing is fetched
    shutil.rmtree(unpacked / "train")
    with pytest.raises(InputError, match=rf"{unpacked}: expected train, .* in it, or nothing; move it away"):
        source.download(raw)
    shutil.rmtree(unpacked)
    with pytest.raises(InputError, match=rf"content: download failed: HTTP Error 404.*so that {unpacked} exists"):
        source.download(raw)


@pytest.mark.parametrize(("dataset", "what"), [("folder", "a folder of images"), ("h5", "an HDF5 file")])
def test_data_of_ones_own_is_not_downloaded(dataset: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"data of your own, which can't be downloaded; put {what} there"):
        SOURCES[dataset].download(tmp_path)


def test_an_archive_that_is_not_the_official_one_is_refused(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    (folder / "mini.tar.gz").write_bytes(b"a captive portal's login page")
    source = replace(CIFAR100, archive=replace(CIFAR100.archive, url=f"{url}/mini.tar.gz"))
    with pytest.raises(InputError, match=r"download failed: File not found or corrupted"):
        source.download(tmp_path / "raw")
    assert not (tmp_path / "raw" / "cifar-100-python").exists()


def test_a_network_that_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/cifar.tar.gz"  # nobody listens once it is closed
    source = replace(CIFAR10, archive=replace(CIFAR10.archive, url=url))
    with pytest.raises(InputError) as caught:
        source.download(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{url}: download failed: <urlopen error ")
    assert text.endswith(
        "try again, or unpack that archive (md5 c58f30108f718f92721af3b95e74349a) "
        f"so that {tmp_path}/cifar-10-batches-py exists"
    )
    assert "\n" not in text


def test_digits_need_no_download_and_unknown_names_are_refused(tmp_path: Path) -> None:
    SOURCES["digits"].download(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    with pytest.raises(InputError, match=r"dataset is 'mnist'; expected .*digits.*cifar10.*cifar100"):
        validated(Prepare, {"dataset": "mnist"}, "params.yaml")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_a_choice_with_settings_of_its_own(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name
    assert set(source.settings) <= set(Prepare.model_fields)
    assert Prepare(dataset=name).source == source, "the defaults of `prepare` are the source's"
    assert str(source.default_raw).startswith("data/raw")
    assert source.archive is None or source.own is None


def test_the_help_of_prepare_names_every_source() -> None:
    from prepkd.stages.prepare import prepare

    assert all(re.search(rf"\b{name}\b", str(prepare.__doc__)) for name in SOURCES)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, prepkd.data; print({'torch', 'torchvision', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


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
