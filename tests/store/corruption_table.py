"""Which check finds which damage, in every file of every encoding; as a script: the tables of docs/explanation/crash-safety.md.

`python tests/store/corruption_table.py` prints them as markdown.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import Encoding, words_of
from prepkd.store.encodings.f16 import F16
from prepkd.store.encodings.i16 import I16
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.topk import TopK
from prepkd.store.encodings.u8 import U8
from prepkd.store.integrity import damages
from prepkd.store.layout import Layout
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.views import ViewPlan
from store_writing import LABELS, RECIPE, contents, raw, sections

ENCODINGS: list[Encoding] = [F16(5), U8(5), I16(5), TopK(5, 2), Sampled(5, 3)]
HERE, THERE = (1, 0), (0, 0)  # (view, chunk): the damaged chunk, and its partner in swaps


@dataclass(frozen=True)
class Outcome:
    """The checks that found one damage: each alone, then `damages` and the reader in their normal form."""

    encoding: str
    file: str
    mutation: str
    found_by: (
        str  # C: Zarr alone; M: SHA-256 of the manifest; P: the content, with the manifest remade after the damage
    )
    damaged: frozenset[str]
    named: frozenset[str]  # the files that `damages` names
    refusal: str  # the reader's message; '' if it reads on


def write_store(folder: Path, encoding: Encoding, teacher: str = "large", seed: int = 7) -> Path:
    """Write a finished store of made-up logits: 2 views of 12 samples, one chunk per view."""
    layout = Layout(ViewPlan(RECIPE, 2, seed, 12), encoding, 12)
    made = sections(layout)
    made["teacher"] |= {"name": teacher}
    described = Attributes.made_from(made)
    writer = StoreWriter(open_place(folder, write=True), layout, described, folder)

    def answer(view: int, part: slice) -> dict[str, torch.Tensor]:
        logits = raw(view, part) if teacher == "large" else 2 * raw(view, part).roll(1, dims=1)
        return encoding.encode(logits, torch.from_numpy(LABELS[part]), words_of(encoding, layout.plan, view, part))

    for view, chunk in writer.pending():
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    writer.finish(LABELS[:12])
    return folder


def flip(content: bytes) -> bytes:
    """Flip one bit: in a word that every `zarr.json` has, at any place in the file, else in the middle byte."""
    place = content.find(b"node_type") if b'"node_type"' in content else len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


# Content -> content; None deletes the file.
OF_ONE_FILE: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flip,
    "truncated": lambda content: content[: len(content) // 2],
    "zero-length": lambda _: b"",
    "deleted": lambda _: None,
}
EDITS = [
    ('"seed": 7', '"seed": 8'),
    ('"fill_value": ', '"fill_value": 1, "was": '),
    ('"teacher_error": 0', '"teacher_error": 9'),
]


def edit(content: bytes) -> bytes:
    """Change a setting or a number in JSON; the result is still JSON."""
    old, new = next((old, new) for old, new in EDITS if old.encode() in content)
    return content.replace(old.encode(), new.encode(), 1)


def mutated(
    store: dict[str, bytes], other: dict[str, bytes], file: str
) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Yield each mutation of a file: its name, and the new content of each file that it changes."""
    for name, function in OF_ONE_FILE.items():
        yield name, {file: function(store[file])}
    if "/c/" in file:
        partner = file.replace(f"/c/{HERE[0]}/{HERE[1]}", f"/c/{THERE[0]}/{THERE[1]}")
        yield "swapped", {file: store[partner], partner: store[file]}
    elif file != "manifest.json":
        yield "edited", {file: edit(store[file])}
    if store[file] != other[file]:
        yield "stale", {file: other[file]}


def outcomes(root: Path) -> list[Outcome]:
    """Damage every file of a store of every encoding in every way, one at a time."""
    found = []
    for encoding in ENCODINGS:
        folder = write_store(root / encoding.name, encoding)
        store = contents(folder)
        # An earlier store with another teacher and seed; its chunks are whole, each with its right checksum.
        other = contents(write_store(root / f"{encoding.name}-earlier", encoding, "larger", 8))
        # The files outside the arrays are alike for all encodings, so those of the first encoding are enough.
        shared = store.keys() if encoding is ENCODINGS[0] else [file for file in store if "/" in file]
        chosen = [file for file in shared if "/c/" not in file or f"/c/{HERE[0]}/{HERE[1]}" in file]
        for file in chosen:
            for mutation, changes in mutated(store, other, file):
                write_files(folder, changes)
                found.append(_outcome(folder, encoding, file, mutation, frozenset(changes)))
                write_files(folder, {changed: store[changed] for changed in changes})
        assert contents(folder) == store
    return found


def write_files(folder: Path, files: dict[str, bytes | None]) -> None:
    """Write files, or delete them."""
    for file, content in files.items():
        if content is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(content)


def _outcome(folder: Path, encoding: Encoding, file: str, mutation: str, damaged: frozenset[str]) -> Outcome:
    named = frozenset(damage.chunk for damage in damages(folder))
    refusal = _refusal(folder)
    found_by = "C" * _zarr_refuses(folder, {"params", *encoding.fields}) + "M" * _differs_from_manifest(folder)
    if file != "manifest.json":
        files = contents(folder)
        listing = files.pop("manifest.json")
        anew = {key: hashlib.sha256(content).hexdigest() for key, content in files.items()}
        (folder / "manifest.json").write_text(json.dumps(anew))
        found_by += "P" * bool(damages(folder))
        (folder / "manifest.json").write_bytes(listing)
    return Outcome(encoding.name, file, mutation, found_by, damaged, named, refusal)


def _refusal(folder: Path) -> str:
    try:
        store = LogitStore.open(folder)
        for view in range(store.views):
            store.stored(view)
    except InputError as error:
        return str(error)
    return ""


def _zarr_refuses(folder: Path, arrays: set[str]) -> bool:
    """Return whether reading the arrays with Zarr alone raises."""
    try:
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        for name in sorted(arrays):
            np.asarray(group[name][:])  # type: ignore[index]
    except (ValueError, TypeError, KeyError, OSError, RuntimeError):
        return True
    return False


def _differs_from_manifest(folder: Path) -> bool:
    files = contents(folder)
    try:
        manifest = json.loads(files.pop("manifest.json", b""))
    except ValueError:
        return True
    return {key: hashlib.sha256(content).hexdigest() for key, content in files.items()} != manifest


def table(found: list[Outcome], *, chunks: bool) -> str:
    """Return a Markdown table: files down, mutations across, and the checks that find each."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for outcome in found:
        if chunks == ("/c/" in outcome.file):
            array = outcome.file.split("/")[0] if chunks else outcome.file
            rows.setdefault((outcome.encoding, array), {})[outcome.mutation] = outcome.found_by
    mutations = list(dict.fromkeys(outcome.mutation for outcome in found if chunks == ("/c/" in outcome.file)))
    lines = ["| encoding | file | " + " | ".join(mutations) + " |", "| --- " * (len(mutations) + 2) + "|"]
    for (encoding, file), cells in rows.items():
        lines.append(f"| {encoding} | `{file}` | " + " | ".join(cells.get(name, "–") for name in mutations) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(Path(folder))
    print(table(found, chunks=True), table(found, chunks=False), sep="\n\n")


if __name__ == "__main__":
    main()
