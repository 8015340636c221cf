"""Crafted stores: every reader refuses them in one line, without much memory or time."""

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import crafted_stores
import elsewhere_files
import numpy as np
import pytest
from crafted_stores import CRAFTED, PLANTED, UNSEALED, Files, seal
from prepkd import LogitStore, ViewDataset
from prepkd.cli import app
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from store_checks import refused
from store_writing import contents

VIEWS = 2
ROOM = 2**30  # bytes that a reader may allocate beyond those of the tests
# Only with the data can a reader check the pixels' hash.
SOUND_BY_THEMSELVES = {"pixels: another hash"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(5)
    images = {part: random.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8) for part in ("train", "test")}
    labels = np.arange(20) % 5
    raw = RawData(
        dataset="noise",
        train_images=images["train"],
        train_labels=labels,
        test_images=images["test"],
        test_labels=labels,
        class_names=tuple("abcde"),
        source="made up",
    )
    return elsewhere_files.write_data(tmp_path_factory.mktemp("data") / "noise.h5", raw)


@pytest.fixture(scope="module")
def sound(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """Return the files of a sound store in each encoding: 2 views of 20 samples, 2 chunks each."""
    folder = tmp_path_factory.mktemp("stores")
    dataset = elsewhere_files.dataset_of(data, [{"crop": {"padding": 1}}, "flip"], VIEWS)
    for encoding in crafted_stores.DTYPES:
        elsewhere_files.write_store(folder / encoding, data, dataset, encoding=encoding)
    return {encoding: contents(folder / encoding) for encoding in crafted_stores.DTYPES}


@pytest.fixture
def little_room() -> Iterator[None]:
    """Make large allocations fail at once, as the system would grant them and kill the process later."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def write(folder: Path, files: Files) -> Path:
    for key, content in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)
    return folder


def read(data: Path, folder: Path) -> None:
    """Read every view and its pixels, as training does."""
    store = LogitStore.open(folder)
    if store.encoding.draws:  # a store that draws classes has no data set of views
        for view in range(VIEWS):
            store.logits(view)
        return
    dataset = ViewDataset(data, folder)
    for view in range(VIEWS):
        dataset[0, view]


def ask(*arguments: object, capsys: pytest.CaptureFixture[str]) -> int:
    """Return a command's exit code; its error must be one line that a terminal can show."""
    capsys.readouterr()
    code = int(app([*map(str, arguments)], standalone_mode=False) or 0)
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err
    if code == 2:
        *progress, error = output.err.splitlines()  # the lines before report copied files
        assert error.startswith("error: ") and len(error) < 1000, output.err
        assert all(re.fullmatch(r"large: \d+/\d+ files", line) for line in progress), output.err
    return code


def ask_all(data: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, int, int]:
    """Return the exit codes of inspect, verify --integrity and fetch-views."""
    return (
        ask("inspect", folder, "--data", data, "--json", "--out", folder.with_name("out"), capsys=capsys),
        ask("verify", folder, "--integrity", capsys=capsys),
        ask("fetch-views", folder, "--to", folder.with_name("copy"), capsys=capsys),
    )


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a scratch folder, and skip the picture of the store, which takes longer than the rest."""
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("prepkd.inspection.inspect.draw", lambda inspection, out: str(out))


def crafted(name: str, sound: dict[str, Files], folder: Path) -> Path:
    made = UNSEALED.get(name) or CRAFTED[name]
    encoding, change = made if isinstance(made, tuple) else ("f16", made)
    files = dict(sound[encoding])
    change(files)
    return write(folder, files if name in UNSEALED else seal(files))


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("name", [*CRAFTED, *UNSEALED])
def test_a_crafted_store(
    name: str, data: Path, sound: dict[str, Files], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = crafted(name, sound, tmp_path / "store")
    text = refused(InputError, read, data, folder)
    assert text.startswith(str(folder)) and text.isprintable() and len(text) < 1000
    inspected, intact, fetched = ask_all(data, folder, capsys)
    assert inspected in (0, 2) and fetched in (0, 2)
    assert intact == 0 if name in SOUND_BY_THEMSELVES else intact in (1, 2)
    # A refused store is not copied as finished, and a copied store is refused in its new place.
    if fetched == 2:
        assert not (tmp_path / "copy" / "manifest.json").exists()
    else:
        refused(InputError, read, data, tmp_path / "copy")


@pytest.mark.parametrize("encoding", ["topk", "sampled"])
def test_a_class_that_is_none_is_refused_by_those_that_report_wrong_values(
    encoding: str, sound: dict[str, Files], tmp_path: Path
) -> None:
    """`verify` reads wrong values as they are, but a class id out of range cannot be decoded."""
    store = LogitStore.open(crafted(f"{encoding}: a class that is none", sound, tmp_path / "store"))
    with store.values_as_they_are():
        assert "1 of its class ids are not below 5" in refused(InputError, store.stored, 1)
    store = LogitStore.open(crafted(f"{encoding}: tail 0", sound, tmp_path / "other"))
    with store.values_as_they_are():
        assert store.stored(1)["tail"].max() == 0


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_no_regular_file_inside_the_store(
    name: str, data: Path, sound: dict[str, Files], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "store", sound["f16"])
    PLANTED[name](folder)
    assert refused(InputError, read, data, folder).startswith(str(folder))
    inspected, intact, fetched = ask_all(data, folder, capsys)
    assert (inspected, fetched) == (2, 2) and intact in (1, 2)


def test_the_sound_stores_are_read(
    data: Path, sound: dict[str, Files], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sealing them anew changes nothing, so that only the crafted changes cause the refusals."""
    for encoding, files in sound.items():
        for place, written in (("as written", files), ("sealed", seal(dict(files)))):
            folder = write(tmp_path / encoding / place / "store", written)
            read(data, folder)
            assert ask_all(data, folder, capsys) == (0, 0, 0)


HARMLESS = {
    "threads: 10^8": crafted_stores.put("precision.device", "cpu, 99999999 threads"),
    "a section of a later version": crafted_stores.put("more", {"x": [1, 2]}),
    "settings that are empty": crafted_stores.described("logits", dimension_names=None),
    "a checksum with no settings": crafted_stores.codecs(
        crafted_stores.LITTLE, crafted_stores.CRC | {"configuration": {}}
    ),
    "single bytes with an order": crafted_stores.described(
        "params", codecs=[crafted_stores.LITTLE, crafted_stores.CRC]
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_read(name: str, data: Path, sound: dict[str, Files], tmp_path: Path) -> None:
    files = dict(sound["f16"])
    HARMLESS[name](files)
    read(data, write(tmp_path / "store", seal(files)))


def test_links_to_a_cache_of_dvc_are_followed(data: Path, sound: dict[str, Files], tmp_path: Path) -> None:
    """`dvc config cache.type symlink` makes such links."""
    folder = write(tmp_path / "store", sound["f16"])
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        cached = tmp_path / "cache" / "files" / "md5" / "0f" / f"{number:030x}"
        cached.parent.mkdir(parents=True, exist_ok=True)
        file.rename(cached)
        file.symlink_to(cached)
    read(data, folder)
    assert LogitStore.open(folder).present == [0, 1]
