"""Folders of images: every fault is one line that names the file."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from crafted_images import WNIDS, cinic10, folder, image, pixels, refusal, tiny_imagenet, write
from PIL import Image
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError

Edit = Callable[[Path], object]


def replace_by(content: bytes, name: str = "train/ant/1.png") -> Edit:
    return lambda raw: write(raw, {name: content})


def move(source: str, target: str) -> Edit:
    return lambda raw: (raw / source).rename(raw / target)


def remove(name: str) -> Edit:
    def edit(raw: Path) -> None:
        path = raw / name
        if path.is_dir():
            for inner in path.rglob("*"):
                inner.unlink()
            path.rmdir()
        else:
            path.unlink()

    return edit


def link(name: str, target: str) -> Edit:
    return lambda raw: (raw / name).symlink_to(raw / target)


def folder_copy(raw: Path, name: str, of: str) -> None:
    for split in ("train", "test"):
        shutil.copytree(raw / split / of, raw / split / name)


def animated() -> bytes:
    import io

    stream = io.BytesIO()
    frames = [Image.fromarray(pixels(i, 6, 8)) for i in range(2)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def deep(colour: int) -> bytes:
    """A PNG of 16 bits per channel, built by hand: Pillow writes these in grey only."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = (b"\0" + np.full((8, channels), 40_000, ">u2").tobytes()) * 6
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 8, 6, 16, colour, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    parts = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


FOLDER: list[tuple[str, Edit, str]] = [
    ("no train", move("train", "training"), "raw/train: no such folder; expected train/<class>/<image>"),
    ("no test", move("test", "Test"), "raw: has train/, but neither test/ nor val/"),
    (
        "val and valid",
        lambda raw: (folder(raw, {"val": 1}), folder(raw, {"valid": 1})),
        "raw: has val/ and valid/; expected one",
    ),
    (
        "no class",
        lambda raw: (raw / "train").rename(raw / "t") and (raw / "train").mkdir(),
        "raw/train: 0 class folders; expected two",
    ),
    ("truncated", replace_by(image(1)[:-60]), "raw/train/ant/1.png: damaged or cut off: "),
    ("truncated header", replace_by(image(1)[:12]), "raw/train/ant/1.png: "),
    ("truncated jpeg", replace_by(image(1, 60, 80, "JPEG")[:-900]), "raw/train/ant/1.png: damaged or cut off: "),
    ("a bit of a PNG", replace_by(image(1)[:60] + b"?" + image(1)[61:]), "raw/train/ant/1.png: damaged or cut off: "),
    ("empty", replace_by(b""), "raw/train/ant/1.png: the file is empty; replace it, or take it out"),
    (
        "text",
        replace_by(b"no image"),
        "raw/train/ant/1.png: not a JPEG, PNG, WebP or BMP image (the content counts, not the name)",
    ),
    (
        "a GIF by another name",
        replace_by(image(1, kind="GIF")),
        "raw/train/ant/1.png: not a JPEG, PNG, WebP or BMP image",
    ),
    ("moving pictures", replace_by(animated()), "raw/train/ant/1.png: an animated image; expected a single one"),
    *(
        (
            f"16 bits, {kind}",
            replace_by(deep(colour)),
            "raw/train/ant/1.png: 16 bits per channel; expected 8; convert it",
        )
        for kind, colour in {"grey": 0, "RGB": 2, "LA": 4, "RGBA": 6}.items()
    ),
    ("in test", replace_by(image(1)[:-60], "test/bée/0.png"), "raw/test/bée/0.png: damaged or cut off: "),
    ("a .txt", replace_by(b"?", "train/ant/deep/a.txt"), "raw/train/ant/deep/a.txt: a .txt file among the images"),
    (
        "a .tif",
        replace_by(image(1, kind="TIFF"), "train/ant/a.tif"),
        "raw/train/ant/a.tif: a .tif file among the images",
    ),
    (
        "an image beside classes",
        replace_by(image(1), "test/0.png"),
        "raw/test/0.png: a file outside the class folders; expected test/<class>/<image>",
    ),
    (
        "a class without images",
        lambda raw: [p.unlink() for p in (raw / "train/ant").iterdir()],
        "raw/train/ant: a class without images; expected at least one",
    ),
    (
        "a class without a test",
        move("test/ant", "ant"),
        "raw/test/ant: no such folder; expected every split to have the same classes",
    ),
    (
        "a class only in test",
        replace_by(image(1), "test/cat/0.png"),
        "raw/test/cat: not one of the 2 classes; expected every split to have",
    ),
    ("a loop of folders", link("train/ant/up", "train"), "raw/train/ant/up: is the same folder as "),
    (
        "test is train",
        lambda raw: ((raw / "test").rename(raw / "t"), (raw / "test").symlink_to(raw / "train")),
        "raw/test: is the same folder as ",
    ),
    (
        "a class twice",
        lambda raw: [(raw / s / "cat").symlink_to(raw / s / "ant") for s in ("train", "test")],
        "raw/train/cat: is the same folder as ",
    ),
    (
        "a link to nothing",
        link("train/ant/x.png", "gone.png"),
        "raw/train/ant/x.png: can't be read: No such file or directory",
    ),
    (
        "a link to itself",
        link("train/ant/x.png", "train/ant/x.png"),
        "raw/train/ant/x.png: can't be read: Too many levels of symbolic links",
    ),
    ("a pipe", lambda raw: os.mkfifo(raw / "train/ant/x.png"), "raw/train/ant/x.png: neither a file nor a folder"),
    (
        "not UTF-8",
        lambda raw: Path(os.fsdecode(os.fsencode(raw) + b"/train/ant/\xff.png")).write_bytes(b"?"),
        r"raw/train/ant: the name b'\xff.png' is not UTF-8; rename it",
    ),
    (
        "a class that is not UTF-8",
        lambda raw: Path(os.fsdecode(os.fsencode(raw) + b"/train/\xff")).mkdir(),
        r"raw/train: the name b'\xff' is not UTF-8; rename it",
    ),
    *(
        (
            f"{second} beside {first}",
            lambda raw, first=first, second=second: write(raw / "test/bée", dict.fromkeys((first, second), image(1))),
            f"raw/test/bée/{second}: has the name of {Path(first).name} beside it, but for case, ending or Unicode normal form;",
        )
        for first, second in (
            ("1.PNG", "1.png"),
            ("1.jpg", "1.png"),
            ("d/IMG.b.PNG", "d/img.B.png"),
            ("Ä.png", "ä.png"),
            ("d/A\u0308.png", "d/\u00c4.png"),
        )
    ),
    (
        "a class in another normal form",
        move("test/bée", "test/be\u0301e"),
        "raw/test/be\u0301e: be\u0301e differs from class bée in its Unicode normal form only (NFD here, NFC there)",
    ),
    (
        "two classes that look equal",
        lambda raw: folder_copy(raw, "be\u0301e", "bée"),
        "raw/train/bée: bée differs from class be\u0301e in its Unicode normal form only (NFC here, NFD there)",
    ),
    (
        "folders without end",
        replace_by(image(1), "train/ant/" + "d/" * 70 + "x.png"),
        "raw/train/ant/" + "d/" * 63 + "d: more than 64 folders deep",
    ),
    (
        "a line break",
        replace_by(image(1), "train/ant/a\nb.png"),
        r"raw/train/ant: the name 'a\nb.png' has a line break; rename it",
    ),
]


@pytest.mark.parametrize("sizes", [((6, 8),), ((6, 8), (9, 5))], ids=["arrays", "encoded"])
@pytest.mark.parametrize(("edit", "message"), [pytest.param(*row[1:], id=row[0]) for row in FOLDER])
def test_a_fault_in_a_folder_is_named(
    edit: Edit, message: str, sizes: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    raw = folder(tmp_path / "raw", sizes=sizes)
    edit(raw)
    assert f"{tmp_path}/{message}" in refusal("folder", raw, tmp_path / "out" / "x.h5")


CINIC10: list[tuple[str, Edit, str]] = [
    (
        "nothing",
        lambda raw: raw.rename(raw.with_name("r")),
        "raw/train: no such folder; expected CINIC-10's train, valid and test",
    ),
    (
        "no valid",
        move("valid", "v"),
        "raw/valid: no such folder; expected CINIC-10's train, valid and test; run `prepkd prepare --download`",
    ),
    (
        "no frogs",
        move("test/frog", "frog"),
        "raw/test/frog: no such folder; expected every split to have the same classes",
    ),
    ("a panda", replace_by(image(1, 32, 32), "train/panda/a.png"), "raw/train/panda: not one of the 10 classes"),
    (
        "too wide",
        replace_by(image(1, 32, 33), "train/cat/n0_1.png"),
        "raw/train/cat/n0_1.png: 33 x 32 pixels; expected 32 x 32",
    ),
    (
        "a JPEG",
        replace_by(image(1, 32, 32, "JPEG"), "valid/cat/n0_1.png"),
        "raw/valid/cat/n0_1.png: is JPEG, named .png; expected PNG, and named so, as the other images here; put the",
    ),
    (
        "damaged",
        replace_by(image(1, 32, 32)[:-60], "valid/cat/n0_1.png"),
        "raw/valid/cat/n0_1.png: damaged or cut off: ",
    ),
]


@pytest.mark.parametrize(("edit", "message"), [pytest.param(*row[1:], id=row[0]) for row in CINIC10])
def test_a_fault_in_cinic10_is_named(edit: Edit, message: str, tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw")
    edit(raw)
    assert f"{tmp_path}/{message}" in refusal("cinic10", raw, tmp_path / "out" / "x.h5")


def lines(name: str, change: Callable[[list[str]], object]) -> Edit:
    def edit(raw: Path) -> None:
        rows = (raw / name).read_text().splitlines()
        change(rows)
        (raw / name).write_text("".join(f"{row}\n" for row in rows))

    return edit


ANNOTATIONS, FIRST = "val/val_annotations.txt", WNIDS[0]
TINY: list[tuple[str, Edit, str]] = [
    (
        "nothing",
        lambda raw: raw.rename(raw.with_name("r")),
        "raw/wnids.txt: no such file or folder; expected the official layout",
    ),
    ("no words", remove("words.txt"), "raw/words.txt: no such file or folder; expected the official layout"),
    (
        "val in class folders",
        move("val/images", "val/n1"),
        "raw/val/images: no such file or folder; expected the official layout",
    ),
    ("no annotations", remove(ANNOTATIONS), f"raw/{ANNOTATIONS}: no such file or folder"),
    (
        "annotations are a folder",
        lambda raw: ((raw / ANNOTATIONS).unlink(), (raw / ANNOTATIONS).mkdir()),
        f"raw/{ANNOTATIONS}: can't be read: Is a directory",
    ),
    (
        "annotations are binary",
        replace_by(b"\xff\xfe", ANNOTATIONS),
        f"raw/{ANNOTATIONS}: can't be read: it is not UTF-8 text",
    ),
    ("annotations are empty", replace_by(b"", ANNOTATIONS), f"raw/{ANNOTATIONS}: the file is empty"),
    (
        "a field is missing",
        lines(ANNOTATIONS, lambda rows: rows.__setitem__(3, rows[3].replace("\t63", "", 1))),
        f"raw/{ANNOTATIONS}: line 4 is 'val_1.JPEG\\t",
    ),
    (
        "spaces for tabs",
        lines(ANNOTATIONS, lambda rows: rows.__setitem__(1, rows[1].replace("\t", " "))),
        f"raw/{ANNOTATIONS}: line 2 is 'val_3.JPEG {FIRST} 0 0 63 63'; expected 6 fields",
    ),
    (
        "an image twice",
        lines(ANNOTATIONS, lambda rows: rows.append(rows[0])),
        f"raw/{ANNOTATIONS}: line 10: val_0.JPEG appears a second time",
    ),
    (
        "an unknown class",
        lines(ANNOTATIONS, lambda rows: rows.__setitem__(0, rows[0].replace(FIRST, "n9"))),
        f"raw/{ANNOTATIONS}: val_0.JPEG is of class n9, which wnids.txt lacks",
    ),
    (
        "an image is missing",
        remove("val/images/val_4.JPEG"),
        "raw/val/images/val_4.JPEG: no such file, but val_annotations.txt has it",
    ),
    (
        "an image without a line",
        replace_by(image(1, 64, 64), "val/images/val_9.JPEG"),
        "raw/val/images/val_9.JPEG: no line in val_annotations.txt",
    ),
    (
        "a class without val images",
        lambda raw: (
            lines(ANNOTATIONS, lambda rows: rows.__delitem__(slice(0, 3)))(raw),
            [(raw / f"val/images/val_{i}.JPEG").unlink() for i in (0, 3, 6)],
        ),
        f"raw/{ANNOTATIONS}: no image of class {FIRST}",
    ),
    (
        "an unknown class folder",
        replace_by(image(1, 64, 64), "train/n9/images/n9_0.JPEG"),
        "raw/train/n9: not in wnids.txt; take it out",
    ),
    (
        "a class folder is missing",
        move(f"train/{FIRST}", "gone"),
        f"raw/train/{FIRST}: no such folder, but wnids.txt has it",
    ),
    (
        "a class without images",
        lambda raw: [p.unlink() for p in (raw / f"train/{FIRST}/images").iterdir()],
        f"raw/train/{FIRST}/images: a class without images",
    ),
    (
        "no images folder",
        move(f"train/{FIRST}/images", "gone"),
        f"raw/train/{FIRST}/images: can't be listed: No such file or directory",
    ),
    (
        "another class's image",
        move(f"train/{FIRST}/images/{FIRST}_0.JPEG", f"train/{WNIDS[1]}/images/{FIRST}_0.JPEG"),
        f"raw/train/{WNIDS[1]}/images/{FIRST}_0.JPEG: an image of another class",
    ),
    (
        "a wnid twice",
        lines("wnids.txt", lambda rows: rows.append(FIRST)),
        f"raw/wnids.txt: line 4: {FIRST} appears a second time",
    ),
    (
        "an empty line of wnids",
        lines("wnids.txt", lambda rows: rows.insert(1, "")),
        "raw/wnids.txt: line 2 is ''; expected 1 fields",
    ),
    (
        "no word for a class",
        lines("words.txt", lambda rows: rows.pop()),
        f"raw/words.txt: no line for {WNIDS[2]}, which wnids.txt has",
    ),
    (
        "a wrong size",
        replace_by(image(1, 63, 64, "JPEG"), "val/images/val_4.JPEG"),
        "raw/val/images/val_4.JPEG: 64 x 63 pixels; expected 64 x 64",
    ),
    (
        "a PNG",
        replace_by(image(1, 64, 64), "val/images/val_4.JPEG"),
        "raw/val/images/val_4.JPEG: is PNG, named .JPEG; expected JPEG, and named so, as the other images here; put the",
    ),
    (
        "a damaged image",
        replace_by(image(1, 64, 64, "JPEG")[:-500], f"train/{FIRST}/images/{FIRST}_1.JPEG"),
        f"raw/train/{FIRST}/images/{FIRST}_1.JPEG: damaged or cut off",
    ),
]


@pytest.mark.parametrize(("edit", "message"), [pytest.param(*row[1:], id=row[0]) for row in TINY])
def test_a_fault_in_tiny_imagenet_is_named(edit: Edit, message: str, tmp_path: Path) -> None:
    raw = tiny_imagenet(tmp_path / "raw")
    edit(raw)
    assert f"{tmp_path}/{message}" in refusal("tiny-imagenet", raw, tmp_path / "out" / "x.h5")


@pytest.mark.parametrize(("method", "verb"), [("iterdir", "listed"), ("stat", "read"), ("read_bytes", "read")])
def test_an_unreadable_file_is_named(method: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder without permission is named; the error is simulated because root can read every file."""
    raw = folder(tmp_path / "raw", sizes=((6, 8), (9, 5)))
    wrong = raw / "train" / "ant" if method == "iterdir" else raw / "train" / "ant" / "1.png"
    original = getattr(Path, method)

    def refuse(path: Path, *given: object, **named: object) -> object:
        if path == wrong:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *given, **named)

    monkeypatch.setattr(Path, method, refuse)
    assert f"{wrong}: can't be {verb}: Permission denied" in refusal("folder", raw, tmp_path / "out" / "x.h5")


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    data = SOURCES["folder"].read(folder(tmp_path / "raw", sizes=((6, 8), (9, 5))))
    (tmp_path / "raw/test/ant/1.png").write_bytes(image(7, 50, 50))
    with pytest.raises(InputError, match=r"raw/test/ant/1.png: has \d+ bytes, had \d+ before; it changed"):
        prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "out" / "x.h5")
    assert list((tmp_path / "out").iterdir()) == []
