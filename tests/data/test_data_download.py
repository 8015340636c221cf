"""Downloads: archives are checked and unpacked where their source reads them."""

import functools
import hashlib
import http.server
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crafted_cifar import mini, write
from crafted_images import cinic10, tiny_imagenet
from prepkd.data.sources import SOURCES
from prepkd.data.sources.archive import Archive
from prepkd.data.sources.archived_folder import ArchivedFolder
from prepkd.data.sources.cifar import CIFAR10, CIFAR100
from prepkd.errors import InputError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output free of requests."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a local web server, and the folder that it serves."""
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
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["mini-python"]  # the archive is deleted
    (folder / "mini.tar.gz").unlink()
    source.download(raw)  # every file exists: nothing is fetched

    test = tmp_path / "raw" / "mini-python" / "test"
    test.write_bytes(b"somebody's own labels")
    with pytest.raises(
        InputError, match=r"mini-python/test: expected the official file \(md5 \w{32}\), or nothing; move"
    ):
        source.download(raw)
    assert test.read_bytes() == b"somebody's own labels"
    test.unlink()
    with pytest.raises(InputError, match=r"mini.tar.gz: download failed: HTTP Error 404"):
        source.download(raw)


def test_a_users_archive_is_used_and_stays_and_files_beside_it_too(tmp_path: Path) -> None:
    write(tmp_path / "made", mini())
    raw = tmp_path / "raw"
    (raw / "mini-python").mkdir(parents=True)
    (raw / "mini-python" / "notes.txt").write_text("mine")
    with tarfile.open(raw / "mini.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "mini-python", "mini-python")
    content = (raw / "mini.tar.gz").read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    source = write(tmp_path / "made", mini(), archive=Archive("http://127.0.0.1:9/mini.tar.gz", "mini.tar.gz", md5))
    source.download(raw)
    assert len(source.read(raw).train_labels) == 7
    assert (raw / "mini.tar.gz").read_bytes() == content
    assert (raw / "mini-python" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in raw.iterdir()) == ["mini-python", "mini.tar.gz"]


@pytest.mark.parametrize("dataset", ["cinic10", "tiny-imagenet"])
@pytest.mark.parametrize("itself", [False, True])
def test_an_archive_of_images_is_unpacked_where_its_source_reads(
    served: tuple[str, Path], dataset: str, itself: bool, tmp_path: Path
) -> None:
    url, folder = served
    source = SOURCES[dataset]
    assert isinstance(source, ArchivedFolder)
    # CINIC-10's archive holds the splits themselves, Tiny ImageNet's a folder with them.
    made = {"cinic10": cinic10, "tiny-imagenet": tiny_imagenet}[dataset](tmp_path / "made" / source.inside, 1)
    kind = "zip" if source.archive.file.endswith(".zip") else "gztar"
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "made"))
    packed.rename(folder / "content")
    md5 = hashlib.md5((folder / "content").read_bytes()).hexdigest()
    source = replace(source, archive=replace(source.archive, url=f"{url}/content", md5=md5))
    raw = tmp_path / "raw" / (source.place if itself else "")
    left = tmp_path / "raw" / f".{source.place}.partial" / "leftover of a killed download"
    left.mkdir(parents=True)
    source.download(raw)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [source.place]
    unpacked = tmp_path / "raw" / source.place
    assert {p.relative_to(unpacked) for p in unpacked.rglob("*")} == {p.relative_to(made) for p in made.rglob("*")}
    assert len(source.read(raw).train_labels) == len(source.read(made).train_labels)
    (folder / "content").unlink()
    source.download(raw)  # every file exists: nothing is fetched
    shutil.rmtree(unpacked / "train")
    with pytest.raises(InputError, match=rf"{unpacked}: expected train, .* in it, or nothing; move it away"):
        source.download(raw)
    shutil.rmtree(unpacked)
    with pytest.raises(InputError, match=rf"content: download failed: HTTP Error 404.*so that {unpacked} exists"):
        source.download(raw)


@pytest.mark.parametrize(("dataset", "what"), [("folder", "a folder of images"), ("h5", "an HDF5 file")])
def test_users_own_data_is_not_downloaded(dataset: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"data of your own, which can't be downloaded; put {what} there"):
        SOURCES[dataset].download(tmp_path)


def test_an_archive_that_is_not_the_official_one_is_refused(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    (folder / "mini.tar.gz").write_bytes(b"a captive portal's login page")
    source = replace(CIFAR100, archive=replace(CIFAR100.archive, url=f"{url}/mini.tar.gz"))
    with pytest.raises(InputError, match=r"download failed: File not found or corrupted"):
        source.download(tmp_path / "raw")
    assert not (tmp_path / "raw" / "cifar-100-python").exists()


def test_a_network_failure_is_one_line(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/cifar.tar.gz"  # a closed server refuses connections
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
