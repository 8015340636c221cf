"""Folders of images: what is read from each layout, and every fault in one line that names the file."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from crafted_images import CINIC, WNIDS, cinic10, folder, image, pixels, tiny_imagenet, write
from PIL import Image
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.settings import Prepare
from prepkd.data.sources import SOURCES
from prepkd.data.sources import folder as folder_module
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from torchvision.datasets import ImageFolder

Edit = Callable[[Path], object]


def prepared(dataset: str, raw: Path, path: Path, **changes: object) -> Path:
    settings: dict[str, object] = {"val_fraction": 0, "subset": None, "seed": 0} | changes
    source = Prepare(dataset=dataset, mixed_formats=bool(settings.pop("mixed_formats", False))).source
    data = source.read(raw)
    prepare(data, **settings, path=path)  # type: ignore[arg-type]
    return path


def refusal(dataset: str, raw: Path, path: Path, **changes: object) -> str:
    with pytest.raises(InputError) as caught:
        prepared(dataset, raw, path, **changes)
    assert not path.parent.exists() or list(path.parent.iterdir()) == [], "something was left"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_is_image_folder(path: Path, split: str, root: Path) -> None:
    """Equal pixels, labels, order and class names as torchvision's reader."""
    theirs, ours = ImageFolder(root), load_split(path, split)
    assert list(describe(path).class_names) == theirs.classes
    assert ours.labels.tolist() == theirs.targets
    for i in range(len(theirs)):
        expected = np.asarray(theirs[i][0])
        if isinstance(ours.images, EncodedImages):
            assert np.array_equal(ours.images.decode([i])[0].whole().permute(1, 2, 0).numpy(), expected)
            assert bytes(ours.images.file(i)) == Path(theirs.samples[i][0]).read_bytes()
            assert root.parent / ours.images.name(i) == Path(theirs.samples[i][0])
        else:
            assert np.array_equal(ours.images[i], expected)


@pytest.mark.parametrize("sizes", [((6, 8),), ((6, 8), (9, 5), (20, 7))], ids=["one size", "several"])
@pytest.mark.parametrize("second", ["test", "val", "valid"])
def test_a_folder_is_what_torchvision_reads(sizes: tuple[tuple[int, int], ...], second: str, tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", {"train": 4, second: 3}, sizes)
    path = prepared("folder", raw, tmp_path / "out" / "x.h5")
    assert describe(path).splits == {"train": 8, "test": 6}
    assert describe(path).encoded == (len(sizes) > 1)
    assert describe(path).image_shape == ((6, 8, 3) if len(sizes) == 1 else None)
    assert_is_image_folder(path, "train", raw / "train")
    assert_is_image_folder(path, "test", raw / second)


def test_test_and_val_beside_train_are_what_they_say(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", {"train": 4, "val": 3, "test": 2})
    path = prepared("folder", raw, tmp_path / "x.h5")
    assert describe(path).splits == {"train": 8, "val": 6, "test": 4}
    for split in ("train", "val", "test"):
        assert_is_image_folder(path, split, raw / split)


def test_images_of_one_size_stay_encoded_where_arrays_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = folder(tmp_path / "raw")
    monkeypatch.setattr(folder_module, "ARRAY_BYTES", 12 * 6 * 8 * 3)
    assert not describe(prepared("folder", raw, tmp_path / "x.h5")).encoded
    monkeypatch.setattr(folder_module, "ARRAY_BYTES", 12 * 6 * 8 * 3 - 1)
    info = describe(prepared("folder", raw, tmp_path / "x.h5"))
    assert info.encoded and info.image_shape == (6, 8, 3)
    assert_is_image_folder(tmp_path / "x.h5", "train", raw / "train")


def test_formats_colours_and_folders_below_a_class_may_be_mixed(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", sizes=((6, 8), (9, 5)))
    write(
        raw / "train/ant",
        {
            "deep/er/a.JPG": image(50, kind="JPEG"),
            "deep/b.bmp": image(51, kind="BMP"),
            "deep/c.webp": image(52, kind="WEBP"),
            "grey.png": image(53, mode="L"),
            "palette.png": image(54, mode="P"),
            "black and white.png": image(55, mode="1"),
            "cmyk.jpeg": image(56, kind="JPEG", mode="CMYK"),
            "alpha.png": image(57, mode="RGBA"),
            "a png.JPEG": image(58),  # ImageNet has one
        },
    )
    (raw / "train/ant/link.png").symlink_to(raw / "train/ant/0.png")
    path = prepared("folder", raw, tmp_path / "x.h5", mixed_formats=True)
    ours = load_split(path, "train")
    assert len(ours.labels) == 8 + 10
    for i in range(len(ours.labels)):
        expected = Image.open(raw / ours.images.name(i)).convert("RGB")
        assert np.array_equal(ours.images.decode([i])[0].whole().permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("sizes", [((6, 8),), ((6, 8), (9, 5))], ids=["arrays", "encoded"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/ant/00.bmp", "BMP"),  # the first of all: it is the odd one, not those after it
        ("test/bée/x.webp", "WEBP"),
        ("test/bée/x.jpg", "JPEG"),
        ("train/ant/x.png", "JPEG"),
        ("train/ant/x.JPEG", "PNG"),
    ],
)
def test_one_image_of_another_format_is_named(
    name: str, kind: str, sizes: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    raw = write(folder(tmp_path / "raw", sizes=sizes), {name: image(61, *sizes[0], kind)})
    assert refusal("folder", raw, tmp_path / "out" / "x.h5") == (
        f"{raw / name}: is {kind}, named {Path(name).suffix}; expected PNG, and named so, as the other images here; "
        "convert it, or set prepare.mixed_formats: true, which reads all formats, whatever their names"
    )
    prepared("folder", raw, tmp_path / "out" / "x.h5", mixed_formats=True)


@pytest.mark.parametrize(
    ("endings", "kind"), [(("jpg", "JPEG"), "JPEG"), (("webp", "WebP"), "WEBP"), (("bmp", "bmp"), "BMP")]
)
def test_any_one_format_will_do(endings: tuple[str, str], kind: str, tmp_path: Path) -> None:
    names = [f"{split}/{label}/{i}.{endings[i]}" for split in ("train", "test") for label in "ab" for i in range(2)]
    raw = write(tmp_path / "raw", {name: image(i, kind=kind) for i, name in enumerate(names)})
    assert describe(prepared("folder", raw, tmp_path / "x.h5")).splits == {"train": 4, "test": 4}


def test_names_may_be_alike_in_folders_of_their_own(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw")
    write(raw / "train/ant", {f"{name}.png": image(60) for name in ("deep/0", "deep/er/0", "0.1", "0.2", "10")})
    assert len(SOURCES["folder"].read(raw).train_labels) == 8 + 5


def test_cinic10_has_its_authors_three_splits(tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw" / "cinic10")
    outer, inner = (prepared("cinic10", root, tmp_path / f"{i}.h5") for i, root in enumerate([raw, raw.parent]))
    assert outer.read_bytes() == inner.read_bytes()
    info = describe(outer)
    assert info.class_names == CINIC and info.image_shape == (32, 32, 3) and not info.encoded
    assert info.splits == {"train": 20, "val": 20, "test": 20}
    for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert_is_image_folder(outer, ours, raw / theirs)


def test_tiny_imagenets_val_is_the_test(tmp_path: Path) -> None:
    raw = tiny_imagenet(tmp_path / "raw" / "tiny-imagenet-200")
    outer, inner = (prepared("tiny-imagenet", root, tmp_path / f"{i}.h5") for i, root in enumerate([raw, raw.parent]))
    assert outer.read_bytes() == inner.read_bytes()
    info = describe(outer)
    assert info.class_names == tuple(f"{wnid} word {wnid}" for wnid in sorted(WNIDS))
    assert info.splits == {"train": 9, "test": 9} and info.image_shape == (64, 64, 3) and not info.encoded
    theirs, train, test = ImageFolder(raw / "train"), load_split(outer, "train"), load_split(outer, "test")
    assert train.labels.tolist() == theirs.targets
    assert all(np.array_equal(train.images[i], np.asarray(theirs[i][0])) for i in range(9))
    # A naive reading of the annotations.
    lines = [line.split("\t") for line in (raw / "val/val_annotations.txt").read_text().splitlines()]
    expected = sorted((sorted(WNIDS).index(wnid), name) for name, wnid, *_ in lines)
    assert test.labels.tolist() == [label for label, _ in expected]
    for ours, (_, name) in zip(test.images, expected, strict=True):
        assert np.array_equal(ours, np.asarray(Image.open(raw / "val/images" / name).convert("RGB")))


def test_val_subset_and_seed_hold_for_files_as_for_arrays(tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", {"train": 10, "test": 5}, ((6, 8), (9, 5)))
    names = {}
    for seed in (0, 1):
        path = prepared("folder", raw, tmp_path / f"{seed}.h5", subset=8, val_fraction=0.25, seed=seed)
        assert describe(path).splits == {"train": 12, "val": 4, "test": 10}
        split = load_split(path, "val")
        names[seed] = [split.images.name(i) for i in range(4)]
        assert split.labels.tolist() == [0, 0, 1, 1] == [int("bée" in name) for name in names[seed]]
    assert names[0] != names[1]
    # The same choice as among arrays of as many images a class.
    labels = np.repeat([0, 1], 10)
    arrays = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    data = RawData("x", arrays, labels, arrays[:2], labels[[0, 10]], ("ant", "bée"), "made up")
    prepare(data, val_fraction=0.25, subset=8, seed=0, path=tmp_path / "a.h5")
    chosen = load_split(tmp_path / "a.h5", "val").images[:, 0, 0, 0].tolist()
    assert names[0] == [f"train/{'ant' if i < 10 else 'bée'}/{i % 10}.png" for i in chosen]


def test_a_val_of_ones_own_takes_no_second(tmp_path: Path) -> None:
    raw = cinic10(tmp_path / "raw", 3)
    text = refusal("cinic10", raw, tmp_path / "out" / "x.h5", val_fraction=0.1)
    assert text == "prepare.val_fraction is 0.1: cinic10 has its own val; expected 0"
    whole, part = (load_split(prepared("cinic10", raw, tmp_path / "x.h5", subset=n), "val") for n in (None, 1))
    # The rule written out, with a stream of its own.
    chosen = []
    for label in range(10):
        of_class = np.flatnonzero(whole.labels == label).tolist()
        words = np.random.Philox(key=np.array([0, 5 * 2**61 + label], dtype=np.uint64)).random_raw(len(of_class))
        chosen.append(min(zip(words.tolist(), of_class, strict=True))[1])
    assert np.array_equal(part.images, whole.images[chosen])


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


def moving() -> bytes:
    import io

    stream = io.BytesIO()
    frames = [Image.fromarray(pixels(i, 6, 8)) for i in range(2)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def deep(colour: int) -> bytes:
    """A PNG of 16 bits per channel, written out: Pillow writes none but grey ones."""
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
    ("moving pictures", replace_by(moving()), "raw/train/ant/1.png: an animated image; expected a single one"),
    *(
        (
            f"16 bits, {kind}",
            replace_by(deep(colour)),
            "raw/train/ant/1.png: 16 bits per channel; expected 8; convert it",
        )
        for kind, colour in {"grey": 0, "RGB": 2, "LA": 4, "RGBA": 6}.items()
    ),
    ("in test", replace_by(image(1)[:-60], "test/bée/0.png"), "raw/test/bée/0.png: damaged or cut off: "),
    (
        "Thumbs.db",
        replace_by(b"?", "train/ant/Thumbs.db"),
        "raw/train/ant/Thumbs.db: a .db file among the images; expected only .bmp",
    ),
    (
        ".DS_Store",
        replace_by(b"?", "train/ant/.DS_Store"),
        "raw/train/ant/.DS_Store: a file among the images; expected only .bmp",
    ),
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
            f"raw/test/bée/{second}: has the name of {Path(first).name} beside it, but for case or ending; expected",
        )
        for first, second in (
            ("1.PNG", "1.png"),
            ("1.jpg", "1.png"),
            ("d/IMG.b.PNG", "d/img.B.png"),
            ("Ä.png", "ä.png"),
        )
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
def test_what_may_not_be_read_is_named(method: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every file can be read: the refusal is made up."""
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
    with pytest.raises(InputError, match=r"raw/test/ant/1.png: has \d+ bytes, had \d+ before; it was changed"):
        prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "out" / "x.h5")
    assert list((tmp_path / "out").iterdir()) == []
