"""Every output of a project except its stores, with tests by which prepkd recognises its own files: by content, not only by name.

The tests read only the beginning of a file, and accept files of older versions. Of a text they compare the whole first line,
because other programs' files may share a column or a key.
"""

import csv
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from prepkd.runtime.files import MAX_JSON_BYTES, json_object
from prepkd.runtime.hdf5 import attribute, refuse_locked
from prepkd.runtime.outputs import Output

BEGINNING = 4096  # bytes read from a text or a picture


def prepared_data(path: Path) -> Output:
    """The prepared data, one HDF5 file."""
    return Output(path, {"": _is_data})


def teacher(folder: Path) -> Output:
    """A teacher's folder: checkpoint, history, test logits."""
    others = {r"history\.csv": _is_history, r"test_logits\.safetensors": _is_tensors}
    return Output(folder, _CHECKPOINT | others)


def students(folder: Path) -> Output:
    """The students, one checkpoint per seed."""
    return Output(folder, {rf"seed\d+/{name}": test for name, test in _CHECKPOINT.items()})


def curves(folder: Path) -> Output:
    """DVCLive's curves, one folder per seed."""
    return Output(
        folder, {r"seed\d+/metrics\.json": _has("step", "train"), r"seed\d+/plots/metrics/.+\.tsv": _is_curve}
    )


def run_output(path: Path) -> Output:
    """The test logits of one run of the comparison."""
    return Output(path, {"": _is_tensors})


def lesson(path: Path) -> Output:
    """The file of store identities that `gather` writes."""
    return Output(path, {"": _is_lesson})


def lessons(folder: Path) -> Output:
    """The files of store identities of a comparison's runs, which `gather --teachers` writes."""
    return Output(folder, {r".+\.json": _is_lesson})


def entry_plan(path: Path) -> Output:
    """The plan of an entry of `cache.features`, written by `cache-features --plan`."""
    return Output(path, {"": _has("entry", "settings", "sizes", "teacher")})


def metrics(path: Path) -> Output:
    """The students' metrics."""
    return Output(path, {"": _is_metrics})


def details(path: Path) -> Output:
    """The students' figures by seed and class."""
    return Output(path, {"": _has("n", "top1", "seeds", "classes", "confusions")})


def plots(folder: Path) -> Output:
    """The files that `dvc plots show` draws."""
    curves, seeds = (_table(f"{index}(,(train|val|test))+") for index in ("epoch", "seed,epoch"))
    files = {"learning_curves.csv": curves, "seed_curves.csv": seeds}
    files["confusion.csv"] = _table("actual,predicted(,samples,share)?")
    files |= dict.fromkeys(("confusion.json", "learning_curves.json"), _holds("<DVC_METRIC_DATA>"))
    return Output(folder, files | {"page.html": _holds("<title>prepkd</title>")})


def exported(folder: Path) -> Output:
    """A folder of `prepkd export`."""
    return Output(
        folder,
        {
            r"model(-\w+)*\.onnx": _holds("\x12\x06prepkd"),  # the producer's name, with its protobuf tag and length
            r"model\.pt2": _is_program,
            r"model\.safetensors": _is_tensors,
            r"config\.json": _is_card,
            r"check\.json": _has("formats", "prepkd", "student"),
            r"README\.md": _holds("library_name: prepkd"),
        },
    )


def tables(folder: Path) -> list[Output]:
    """The comparison's tables and picture; other files in the folder belong to the runs."""
    files = {
        "table.csv": _table("(pair,)?teacher,student,run,n,top1.*"),
        "long.csv": _table("(pair,)?teacher,student,run,seed,top1.*"),
        "wide.csv": _table("run(,.+ -> .+, top1[a-z0-9_]*)+"),
        "table.md": _holds("| run "),
    }
    named = [Output(folder / name, {"": test}) for name, test in files.items()]
    return [*named, picture(folder / "top1.png")]


def page(path: Path) -> Output:
    """The report, recognised by its generator, `prepkd report`."""
    return Output(path, {"": _holds('<meta name="generator" content="prepkd report ')})


def picture(path: Path) -> Output:
    """A picture, recognised by prepkd as its software."""
    return Output(path, {"": _is_picture})


def _is_data(path: Path) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return bytes(attribute(file, "format")).startswith(b"prepkd-data-")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # no HDF5, or another one
        refuse_locked(error, path)
        return False


def _is_card(path: Path) -> bool:
    return str(_json(path).get("format")).startswith("prepkd-checkpoint-")


def _is_tensors(path: Path) -> bool:
    """Whether a safetensors file's metadata has the key prepkd."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = _parsed(file.read(size)) if size < MAX_JSON_BYTES else {}
    about = header.get("__metadata__")
    return isinstance(about, dict) and "prepkd" in about


def _is_program(path: Path) -> bool:
    """Whether a file is an archive of torch.export with prepkd's entry."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("extra/prepkd.json") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _is_history(path: Path) -> bool:
    """Whether a file has a history's columns, or is pandas' empty table, as written for given weights without training."""
    return path.read_bytes() in (b"\n", b'""\n') if path.stat().st_size < 4 else _columns(path, ".*train/loss.*", ",")


def _is_curve(path: Path) -> bool:
    return _columns(path, f"step\t{re.escape(path.stem)}", "\t")


def _is_metrics(path: Path) -> bool:
    found = _json(path)
    return {"n", "top1", "teacher"} <= found.keys() and _keys(found["top1"]) == {"mean", "std"}


def _is_lesson(path: Path) -> bool:
    """Whether a file has store identities by teacher; those of feature stores, if any, are by teacher and entry."""
    teachers = _json(path).get("teachers")
    if not isinstance(teachers, dict):
        return False
    return all({"manifest", "fingerprints"} <= _keys(store) for store in teachers.values())


def _keys(value: object) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def _is_picture(path: Path) -> bool:
    start = _beginning(path)
    return start.startswith("\x89PNG") and "Software\0prepkd" in start


def _has(*keys: str) -> Callable[[Path], bool]:
    return lambda path: set(keys) <= _json(path).keys()


def _table(columns: str) -> Callable[[Path], bool]:
    return lambda path: _columns(path, columns, ",")


def _columns(path: Path, columns: str, separator: str) -> bool:
    """Whether a text's header matches this pattern of columns, and each row has as many cells."""
    text = _beginning(path)
    lines = text.splitlines()[: None if len(text) < BEGINNING else -1]  # the last line may be cut off
    try:
        first, *rows = csv.reader(lines, delimiter=separator)
    except (ValueError, csv.Error):  # no line at all, or no table
        return False
    return bool(re.fullmatch(columns, separator.join(first))) and all(len(row) == len(first) for row in rows)


def _holds(text: str) -> Callable[[Path], bool]:
    return lambda path: text in _beginning(path)


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(BEGINNING).decode("latin-1")  # any bytes


def _json(path: Path) -> dict[str, Any]:
    return _parsed(path.read_bytes()) if path.stat().st_size < MAX_JSON_BYTES else {}


def _parsed(content: bytes) -> dict[str, Any]:
    """The JSON object in some bytes; an empty one if they are not a JSON object."""
    try:
        return json_object(content)
    except ValueError:
        return {}


_CHECKPOINT: dict[str, Callable[[Path], bool]] = {r"model\.json": _is_card, r"model\.safetensors": _is_tensors}
