"""Stores crafted to mislead a reader: each file agrees with the manifest.

`CRAFTED` maps a name to an encoding and a change of a sound store. Checksums, fingerprints and the manifest are remade
after the change, except in `UNSEALED`; `PLANTED` are changes of the folder itself.
"""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
from numpy.typing import NDArray
from prepkd.runtime.files import fingerprint, sha256

Files = dict[str, bytes]
Change = Callable[[Files], object]
CHUNK = "{}/c/1/0"  # a chunk of view 1; `logits` and `params` have a further /0
DTYPES = {
    "f16": {"logits": "<f2", "row_max": "<f4"},
    "u8": {"logits": "u1", "step": "<f4", "row_max": "<f4"},
    "i16": {"logits": "<i2", "row_max": "<f4"},
    "topk": {"logits": "<f2", "ids": "u1", "lse": "<f4", "tail": "<f4", "row_max": "<f4"},
    "sampled": {
        "logits": "<f2",
        "ids": "u1",
        "fixed": "u1",
        "threshold": "<f4",
        "lse": "<f4",
        "tail": "<f4",
        "row_max": "<f4",
    },
}
BLOSC = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)


def seal(files: Files) -> Files:
    """Remake the sections' fingerprints and the manifest."""
    try:
        group = json.loads(files["zarr.json"])
        attributes = group["attributes"]["prepkd"]
        made = {key: fingerprint(attributes[key]) for key in attributes["fingerprints"] if key in attributes}
        attributes["fingerprints"] |= made
        # It parses as infinity without the word Infinity.
        files["zarr.json"] = json.dumps(group).replace('"1e999"', "1e999").encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # no attributes are left to fingerprint
    files["manifest.json"] = json.dumps(
        {key: sha256(files[key]) for key in sorted(files) if key != "manifest.json"}
    ).encode()
    return files


def edited(key: str, change: Callable[[Any], object]) -> Change:
    """Change a JSON file's object in place, or replace it by the function's result."""

    def edit(files: Files) -> None:
        content = json.loads(files[key])
        found = change(content)
        files[key] = json.dumps(content if found is None else found).encode()

    return edit


def replaced(key: str, content: bytes) -> Change:
    return lambda files: files.update({key: content})


def put(path: str, value: object) -> Change:
    """Set an attribute of the store, such as `views.seed`."""

    def change(group: dict[str, Any]) -> None:
        *parents, leaf = path.split(".")
        place = group["attributes"]["prepkd"]
        for parent in parents:
            place = place[parent]
        place[leaf] = value

    return edited("zarr.json", change)


def described(array: str, **fields: Any) -> Change:
    """Set fields of an array's description."""
    return edited(f"{array}/zarr.json", lambda content: content.update(fields))


def chunk_key(array: str) -> str:
    return CHUNK.format(array) + ("/0" if array in ("logits", "params", "ids") else "")


def packed(content: bytes) -> bytes:
    """Return a chunk's file: content, then its crc32c."""
    return content + struct.pack("<I", google_crc32c.value(content))


def values(encoding: str, array: str, change: Callable[[NDArray[Any]], object]) -> tuple[str, Change]:
    """Change the rows of one chunk in place: (samples, width)."""

    def edit(files: Files) -> None:
        content = files[chunk_key(array)][:-4]
        compressed = (encoding, array) == ("i16", "logits")
        raw = BLOSC.decode(content) if compressed else content
        rows = np.frombuffer(raw, DTYPES[encoding][array]).reshape(16, -1).copy()
        change(rows)
        files[chunk_key(array)] = packed(BLOSC.encode(rows.ravel()) if compressed else rows.tobytes())

    return encoding, edit


def at(value: object, row: int = 3, column: int = 0) -> Callable[[NDArray[Any]], object]:
    def change(rows: NDArray[Any]) -> None:
        rows[row, column] = value

    return change


def whole_row(value: object) -> Callable[[NDArray[Any]], object]:
    def change(rows: NDArray[Any]) -> None:
        rows[3] = value

    return change


def bomb(files: Files) -> None:
    """Claim 2 GiB in Blosc's header."""
    content = bytearray(BLOSC.encode(np.zeros(16 * 5, np.int16)))
    struct.pack_into("<I", content, 4, 2**31 - 64)
    files[chunk_key("logits")] = packed(bytes(content))


def garbled(files: Files) -> None:
    """Keep Blosc's header and replace the content after it by noise."""
    content = bytearray(files[chunk_key("logits")][:-4])
    content[16:] = bytes(255 - byte for byte in content[16:])
    files[chunk_key("logits")] = packed(bytes(content))


def many_files(files: Files) -> None:
    """Set another key encoding in consolidated metadata: every chunk would read as the fill value."""
    array = json.loads(files["logits/zarr.json"])
    array["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
    array["fill_value"] = 0
    consolidated = {"kind": "inline", "must_understand": False, "metadata": {"logits": array}}
    edited("zarr.json", lambda group: group.update(consolidated_metadata=consolidated))(files)


def long_views(count: int) -> Change:
    def change(files: Files) -> None:
        put("views.views", count)(files)
        for array in [key.split("/")[0] for key in list(files) if key.endswith("/zarr.json")]:
            edited(f"{array}/zarr.json", lambda content: content["shape"].__setitem__(0, count))(files)

    return change


def more_samples(samples: int, chunk: int | None = None) -> Change:
    """Promise more samples, consistently in all descriptions; in chunks of `chunk` if given."""

    def change(files: Files) -> None:
        put("views.samples", samples)(files)
        for array in [key.split("/")[0] for key in list(files) if key.endswith("/zarr.json")]:

            def grow(content: dict[str, Any]) -> None:
                content["shape"][1] = samples
                if chunk:
                    content["chunk_grid"]["configuration"]["chunk_shape"][1] = chunk

            edited(f"{array}/zarr.json", grow)(files)
        if chunk:
            for key in [key for key in files if "/c/" in key and key.split("/")[3] != "0"]:
                del files[key]

    return change


def deep(depth: int) -> bytes:
    return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"


GZIP = {"name": "gzip", "configuration": {"level": 9}}
LITTLE, CRC = {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}
SHARDS = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [1, 16, 5],
        "codecs": [LITTLE],
        "index_codecs": [LITTLE, CRC],
        "index_location": "end",
    },
}


def codecs(*chosen: object) -> Change:
    return described("logits", codecs=list(chosen))


def grid(*shape: int) -> Change:
    return described("logits", chunk_grid={"name": "regular", "configuration": {"chunk_shape": list(shape)}})


CRAFTED: dict[str, Change | tuple[str, Change]] = {
    # zarr.json
    "group: no JSON": replaced("zarr.json", b"{"),
    "group: null": replaced("zarr.json", b"null"),
    "group: deep": replaced("zarr.json", deep(100_000)),
    "group: no UTF-8": replaced("zarr.json", b'{"a": "\xff"}'),
    "group: half a character": replaced("zarr.json", b'{"attributes": {"prepkd": {"format": "\\ud800"}}}'),
    "group: a long integer": replaced("zarr.json", b'{"zarr_format": ' + b"9" * 5000 + b"}"),
    "group: large": put("more", "x" * 2**20),
    "group: an array": edited("zarr.json", lambda group: group.update(node_type="array")),
    "group: no attributes": edited("zarr.json", lambda group: group.update(attributes={})),
    "group: attributes of text": edited("zarr.json", lambda group: group.update(attributes={"prepkd": "x"})),
    "group: an unknown key": edited("zarr.json", lambda group: group.update({"\x1b[2J": 1})),
    "group: consolidated": many_files,
    # attributes
    "views: 2^31 - 1": long_views(2**31 - 1),
    "views: 10^6": long_views(10**6),
    "views: 10^300": long_views(10**300),
    "samples: 2^31 - 1": more_samples(2**31 - 1),
    "samples: 2^31 - 1, in one chunk": more_samples(2**31 - 1, 2**31 - 1),
    "samples: 10^8, in one chunk": more_samples(10**8, 10**8),
    "samples: 10^12": more_samples(10**12),
    "samples: 32, which were not written": more_samples(32),
    "classes: 10^7": put("dataset.classes", 10**7),
    "classes: 10^12": put("dataset.classes", 10**12),
    "classes: true": put("dataset.classes", True),
    "seed: 2^64": put("views.seed", 2**64),
    "seed: another": put("views.seed", 8),
    "recipe: long": put("views.recipe", ["flip"] * 10_000),
    "recipe: a wide border": put("views.recipe", [{"crop": {"padding": 10**9}}]),
    "recipe: a large picture": put("views.recipe", [{"resized-crop": {"size": 10**6}}]),
    "recipe: a long name": put("views.recipe", ["x" * 100_000]),
    "batch size: 10^12": put("precision.batch_size", 10**12),
    "batch size: 0": put("precision.batch_size", 0),
    "device: a control character": put("precision.device", "cpu\x1b[2J"),
    "dataset: a path": put("dataset.name", "../../secret"),
    "dataset: two lines": put("dataset.name", "a\nerror: b"),
    "teacher: a folder": put("teacher.name", ".."),
    "teacher: 5 MB": put("teacher.model", "x" * 5_000),
    "preprocessing: text": put("teacher.preprocessing", {"mean": ["a"]}),
    "preprocessing: nested": put("teacher.preprocessing", {"mean": [[[0.1]]]}),
    "source: half": put("teacher.source", {"file": "x"}),
    "measured: infinite": put("measured.bytes_per_row", "1e999"),
    "measured: NaN": put("measured.bytes_per_row", float("nan")),
    "an unknown number: infinite": put("measured.more", ["1e999"]),
    "measured: other temperatures": put("measured.kl_mean", {"four": 0.1}),
    "measured: one is missing": put("measured.kl_max", {}),
    "unverified: long": put("unverified", ["x"] * 1000),
    "pixels: many views": put("pixels.views", [0] * 100_000),
    "pixels: a view that is none": put("pixels.views", [0, 2]),
    "pixels: many samples": put("pixels.samples", 2**40),
    "pixels: another hash": put("pixels.sha256", "0" * 64),
    "encoding: none": put("encoding", {"name": "zstd"}),
    "encoding: a setting": put("encoding", {"name": "f16", "x": 1}),
    "encoding: step 0": ("i16", put("encoding.step", 0.0)),
    "encoding: step text": ("i16", put("encoding.step", "x")),
    "encoding: another step": ("i16", put("encoding.step", -1.0)),
    "encoding: k above classes": ("topk", put("encoding.k", 9)),
    "encoding: half of a k": ("topk", put("encoding.k", 2.5)),
    "encoding: n above classes": ("sampled", put("encoding.n", 9)),
    "encoding: n of 2": ("sampled", put("encoding.n", 2)),
    "encoding: tau 0": ("sampled", put("encoding.tau", 0.0)),
    "encoding: tau infinite": ("sampled", put("encoding.tau", "1e999")),
    "encoding: tau text": ("sampled", put("encoding.tau", "4")),
    "format: text": put("format", "2"),
    "format: newer": put("format", 10**9),
    "fingerprints: many": edited(
        "zarr.json",
        lambda group: group["attributes"]["prepkd"]["fingerprints"].update({str(i): "" for i in range(1000)}),
    ),
    "fingerprints: a number": put("fingerprints.\x1b[2J\n", 5),
    # descriptions of arrays
    "array: no JSON": replaced("logits/zarr.json", b"{"),
    "array: deep": replaced("params/zarr.json", deep(100_000)),
    "array: gzip": codecs(LITTLE, GZIP, CRC),
    "array: zstd": codecs(LITTLE, {"name": "zstd", "configuration": {"level": 3}}),
    "array: another Blosc": codecs(LITTLE, {"name": "blosc", "configuration": {"cname": "zstd"}}, CRC),
    "array: no checksum": codecs(LITTLE),
    "array: big-endian": codecs({"name": "bytes", "configuration": {"endian": "big"}}, CRC),
    "array: transposed": codecs({"name": "transpose", "configuration": {"order": [0, 2, 1]}}, LITTLE, CRC),
    "array: shards": codecs(SHARDS),
    "array: codecs of text": described("logits", codecs="gzip"),
    "array: keys of version 2": described("logits", chunk_key_encoding={"name": "v2"}),
    "array: keys with dots": described(
        "logits", chunk_key_encoding={"name": "default", "configuration": {"separator": "."}}
    ),
    "array: float32": described("row_max", data_type="float64"),
    "array: a type of 10^12 bytes": described(
        "logits", data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 10**12}}
    ),
    "array: another fill value": described("logits", fill_value=0.0),
    "array: another shape": described("logits", shape=[2, 20, 10**9]),
    "array: chunks of 0": grid(1, 0, 5),
    "array: chunks of -1": grid(1, -1, 5),
    "array: chunks of 10^9": grid(1, 10**9, 5),
    "array: chunks of views": grid(2, 16, 5),
    "array: another grid": described("logits", chunk_grid={"name": "rectilinear"}),
    "array: attributes": described("logits", attributes={"scale": 2}),
    "array: transformers": described("logits", storage_transformers=[{"name": "x"}]),
    "array: an unknown key": described("row_max", must_understand=True),
    "array: a group": described("logits", node_type="group"),
    # summary.json
    "summary: no JSON": replaced("summary.json", b"?"),
    "summary: above 1": edited("summary.json", lambda one: one.update(teacher_error=2.0)),
    "summary: NaN": replaced("summary.json", b'{"teacher_error": NaN, "teacher_error_per_view": [NaN, NaN]}'),
    "summary: text": edited("summary.json", lambda one: one.update(teacher_error_per_view="all")),
    "summary: short": replaced("summary.json", b'{"teacher_error": 0.5, "teacher_error_per_view": [0.5]}'),
    "summary: no mean": replaced("summary.json", b'{"teacher_error": 0.5, "teacher_error_per_view": [0.1, 0.2]}'),
    # chunks
    "chunk: empty": replaced(chunk_key("logits"), b""),
    "chunk: a byte short": lambda files: files.update({chunk_key("logits"): files[chunk_key("logits")][:-1]}),
    "chunk: twice": lambda files: files.update({chunk_key("row_max"): files[chunk_key("row_max")] * 2}),
    "chunk: a megabyte": replaced(chunk_key("params"), b"\0" * 2**20),
    "chunk: a wrong checksum": lambda files: files.update(
        {chunk_key("logits"): files[chunk_key("logits")][:-4] + b"\0\0\0\0"}
    ),
    "chunk: missing": lambda files: files.pop(chunk_key("row_max")),
    "chunk: of another view": lambda files: files.update({chunk_key("params"): files["params/c/0/0/0"]}),
    "blosc: 2 GiB": ("i16", bomb),
    "blosc: noise": ("i16", garbled),
    "blosc: no header": ("i16", replaced(chunk_key("logits"), packed(b"\2\1"))),
    # values
    "row_max: infinite": values("f16", "row_max", at(np.inf)),
    "row_max: NaN": values("u8", "row_max", at(np.nan)),
    "row_max: -infinite": values("topk", "row_max", at(-np.inf)),
    "f16: infinite": values("f16", "logits", at(np.inf)),
    "f16: -infinite": values("f16", "logits", at(-np.inf)),
    "f16: NaN": values("f16", "logits", at(np.nan)),
    "f16: above 0": values("f16", "logits", at(0.5)),
    "f16: no maximum": values("f16", "logits", whole_row(-1.0)),
    "u8: missing": values("u8", "logits", at(0)),
    "u8: no maximum": values("u8", "logits", whole_row(7)),
    "u8: step 0": values("u8", "step", at(0)),
    "u8: step below 0": values("u8", "step", at(-1)),
    "u8: step infinite": values("u8", "step", at(np.inf)),
    "i16: below 0": values("i16", "logits", at(-1)),
    "i16: missing": values("i16", "logits", at(-(2**15))),
    "i16: no maximum": values("i16", "logits", whole_row(3)),
    "topk: a class that is none": values("topk", "ids", at(200)),
    "topk: a class twice": values("topk", "ids", whole_row(1)),
    "topk: no maximum": values("topk", "logits", whole_row(-2.0)),
    "topk: lse below 0": values("topk", "lse", at(-0.5)),
    "topk: lse too large": values("topk", "lse", at(9)),
    "topk: lse NaN": values("topk", "lse", at(np.nan)),
    "topk: tail 0": values("topk", "tail", at(0)),
    "topk: tail infinite": values("topk", "tail", at(-np.inf)),
    "sampled: a class that is none": values("sampled", "ids", at(200)),
    "sampled: a class twice": values("sampled", "ids", whole_row(1)),
    "sampled: no maximum": values("sampled", "logits", whole_row(-2.0)),
    "sampled: all fixed": values("sampled", "fixed", at(4)),
    "sampled: none fixed": values("sampled", "fixed", at(0)),
    "sampled: threshold infinite": values("sampled", "threshold", at(np.inf)),
    "sampled: threshold NaN": values("sampled", "threshold", at(np.nan)),
    "sampled: threshold above all mass": values("sampled", "threshold", at(6.5)),
    "sampled: threshold below all mass": values("sampled", "threshold", at(-1e6)),
    "sampled: lse too large": values("sampled", "lse", at(9)),
    "sampled: tail 0": values("sampled", "tail", at(0)),
}


def manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    return edited("manifest.json", change)


UNSEALED: dict[str, Change] = {
    "manifest: no JSON": replaced("manifest.json", b"{"),
    "manifest: a list": replaced("manifest.json", b"[]"),
    "manifest: empty": replaced("manifest.json", b"{}"),
    "manifest: deep": replaced("manifest.json", deep(100_000)),
    "manifest: a page": replaced("manifest.json", b"<!DOCTYPE html><html>not found</html>"),
    "manifest: no digest": manifest(lambda found: found.update({"summary.json": "x" * 64})),
    "manifest: numbers": manifest(lambda found: found.update({"summary.json": 5})),
    "manifest: a path that leads out": manifest(lambda found: found.update({"../../etc/passwd": "0" * 64})),
    "manifest: an absolute path": manifest(lambda found: found.update({"/dev/zero": "0" * 64})),
    "manifest: a file too many": manifest(lambda found: found.update({"logits/c/9/0/0": "0" * 64})),
    "manifest: a control character": manifest(lambda found: found.update({"\x1b[2J\n": "0" * 64})),
    "manifest: a chunk is missing": manifest(lambda found: found.pop(chunk_key("logits"))),
    "manifest: the group is missing": manifest(lambda found: found.pop("zarr.json")),
}


def swapped(key: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Replace a file by the result of `make`."""

    def change(folder: Path) -> None:
        (folder / key).unlink()
        make(folder / key)

    return change


def moved(key: str) -> Callable[[Path], object]:
    """Move a file or folder out of the store, and leave a link."""

    def change(folder: Path) -> None:
        outside = folder.with_name("outside")
        (folder / key).rename(outside)
        (folder / key).symlink_to(outside)

    return change


PLANTED: dict[str, Callable[[Path], object]] = {
    "a pipe for the manifest": swapped("manifest.json", os.mkfifo),
    "a pipe for the group": swapped("zarr.json", os.mkfifo),
    "a pipe for a chunk": swapped(chunk_key("logits"), os.mkfifo),
    "a pipe for the summary": swapped("summary.json", os.mkfifo),
    "a device for a chunk": swapped(chunk_key("row_max"), lambda path: path.symlink_to("/dev/zero")),
    "a device for the manifest": swapped("manifest.json", lambda path: path.symlink_to("/dev/zero")),
    "a link out for a chunk": moved(chunk_key("logits")),
    "a link out for an array": moved("params"),
    "a link out for the manifest": moved("manifest.json"),
    "a link to itself": swapped(chunk_key("params"), lambda path: path.symlink_to(path)),
    "a link to nothing": swapped(chunk_key("params"), lambda path: path.symlink_to("/nothing")),
    "a folder for a chunk": swapped(chunk_key("params"), Path.mkdir),
}
