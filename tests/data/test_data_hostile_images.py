"""Hostile image files (decompression bombs, lying headers, impossible sizes) are decoded or refused in one line."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from crafted_images import folder, image, prepared, refusal, write
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from prepkd.data.images import files as files_module
from prepkd.data.images.decode import MAX_PIXELS, decode_image, image_size
from prepkd.data.images.faults import Faults
from prepkd.data.prepared.file import describe
from prepkd.data.sources.settings import Prepare
from prepkd.errors import InputError

BASES = [
    image(3, 20, 30, kind, mode)
    for kind, mode in (("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("BMP", "RGB"))
]


def png(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header need not match its data."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    parts = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width: int, height: int, bits: int = 24, data: bytes = b"\0" * 64) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + header + data


LYING = {
    "PNG of nothing": png(0, 0),
    "PNG without width": png(0, 5),
    "PNG of 2^31 columns": png(2**31, 1),
    "PNG of 2^32 - 1 squared": png(2**32 - 1, 2**32 - 1),
    "PNG that promises 170 megapixels": png(13_000, 13_000),
    "PNG of 16 bits": png(4, 1, b"\0" * 25, depth=16),
    "BMP of negative width": bmp(-4, 4),
    "BMP of negative height, and too short": bmp(400, -400),
    "BMP of -2^31": bmp(4, -(2**31)),
    "BMP of 2^31 - 1": bmp(2**31 - 1, 2**31 - 1),
    "BMP of 0 bits": bmp(4, 4, bits=0),
    "BMP of 13 bits": bmp(4, 4, bits=13),
    "WebP that promises": b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
    "JPEG of nothing": b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\0\x03\x01\x11\0\x02\x11\x01\x03\x11\x01\xff\xd9",
    "JPEG of 65535 squared": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\x01\x03\x11\x01\xff\xd9",
}


def outcome(content: bytes) -> str:
    """Decode an image and return its size, or the message of an InputError; other exceptions are raised."""
    try:
        return f"decoded {decode_image(content, 'raw/x').size}"
    except InputError as error:
        assert str(error).startswith("raw/x: ") and "\n" not in str(error)
        return str(error)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", LYING.values(), ids=LYING.keys())
def test_a_lying_header_is_refused(content: bytes, tmp_path: Path) -> None:
    assert not outcome(content).startswith("decoded")
    (tmp_path / "x.png").write_bytes(content)
    try:
        height, width = image_size(tmp_path / "x.png")
    except InputError as error:
        assert str(error).startswith(f"{tmp_path}/x.png: ")
    else:
        assert height > 0 < width


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:Corrupt EXIF data", "ignore:.*EXIF")
@settings(deadline=None)
@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=0, max_size=6)), max_size=4),
    st.integers(0, 3000),
)
@example(BASES[0], [(16, b"\x7f\xff\xff\xff")], 3000)
@example(BASES[4], [(18, b"\xff\xff\xff\xff")], 3000)
def test_any_damage_is_refused_in_one_line_or_an_image(base: bytes, edits: list[tuple[int, bytes]], end: int) -> None:
    content = bytearray(base)
    for place, new in edits:
        content[place : place + len(new)] = new
    outcome(bytes(content[:end]))


@pytest.mark.parametrize(
    "error", [MemoryError(), OverflowError("too large"), struct.error("short"), ZeroDivisionError("division by zero")]
)
def test_what_a_decoder_raises_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    reason = str(error) or "MemoryError"
    assert outcome(BASES[0]) == f"raw/x: damaged or cut off: {reason}; replace it, or take it out"


def test_the_pixel_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write(folder(tmp_path / "raw"), {"train/ant/large.png": image(9, 30, 40)})
    assert describe(prepared("folder", raw, tmp_path / "x.h5", max_pixels=1200)).splits == {"train": 9, "test": 4}
    loads: list[str] = []
    original = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda self: loads.append(str(self.size)) or original(self))
    text = refusal("folder", raw, tmp_path / "out" / "x.h5", max_pixels=1199)
    assert text == (
        f"{raw}/train/ant/large.png: 40 x 30 pixels, 1,200 in all; expected at most prepare.max_pixels, 1,199; make it smaller, "
        "take it out, or raise that"
    )
    assert "(40, 30)" not in loads, "it was not decoded"
    for wrong in (0, -1, MAX_PIXELS + 1):
        with pytest.raises(ValueError, match="max_pixels"):
            Prepare(dataset="folder", max_pixels=wrong)


def test_a_file_larger_than_any_such_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of a terabyte among the images is refused by its size; reading it would fill the memory."""
    raw = folder(tmp_path / "raw", sizes=((6, 8), (9, 5)))
    with (raw / "train/ant/1.png").open("r+b") as file:
        file.truncate(1 << 40)
    text = refusal("folder", raw, tmp_path / "out" / "x.h5", max_pixels=100)
    assert text == (
        f"{raw}/train/ant/1.png: has 1,099,511,627,776 bytes; expected at most {files_module.MAX_BYTES + 800:,}, with "
        "prepare.max_pixels 100; replace it, or take it out"
    )


def test_an_image_of_another_shape_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decompression bomb among images of one size is refused by its header's size."""
    stream = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(stream, "PNG")
    raw = write(folder(tmp_path / "raw"), {"train/ant/0.png": stream.getvalue()})
    data = Prepare(dataset="folder").source.read(raw)
    assert data.train_images.shape is None  # type: ignore[union-attr]
    faults = Faults()
    list(replace(data.train_images, shape=(6, 8, 3)).read(faults))  # type: ignore[type-var]
    with pytest.raises(
        InputError, match=r"train/ant/0.png: 9000 x 9000 pixels; expected 8 x 6, as every image here has"
    ):
        faults.refuse(raw)
