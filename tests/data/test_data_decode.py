"""Decoding: damaged files are either refused or decoded."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from crafted_images import image, pixels
from PIL import Image
from prepkd.data.images.decode import decode_image, image_size
from prepkd.data.images.threads import threaded
from prepkd.errors import InputError


def outcome(content: bytes, whole: bytes) -> str:
    try:
        found = decode_image(content, "the/file.x").tobytes()
    except InputError as error:
        assert str(error).startswith("the/file.x: ") and "\n" not in str(error)
        return "refused"
    return "same" if found == whole else "other"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("BMP", "RGB")]
)
def test_a_damaged_file_is_refused_or_an_image(kind: str, mode: str) -> None:
    good = image(3, 20, 30, kind, mode)
    whole = decode_image(good, "x").tobytes()
    generator = np.random.Generator(np.random.Philox(1))
    flips, cuts = Counter[str](), Counter[str]()
    for place in generator.integers(len(good), size=300).tolist():
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(generator.integers(8))
        flips[outcome(bytes(flipped), whole)] += 1
        cuts[outcome(good[:place], whole)] += 1
    assert cuts["other"] == 0 and cuts["refused"] > 280  # only bytes after the last pixel may be missing
    if kind == "PNG":  # its checksums are checked; the other formats have none
        assert flips["other"] == 0 and flips["refused"] > 250


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    with pytest.raises(InputError, match=r"bomb.png: damaged or cut off: Image size .400000000 pixels. exceeds limit"):
        decode_image(stream.getvalue(), "bomb.png")


def test_an_orientation_is_not_applied(tmp_path: Path) -> None:
    """`decode_image` leaves an EXIF orientation alone, as torchvision does; `image_size` gives the stored size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(1, 6, 8)).save(tmp_path / "x.jpg", exif=exif)
    assert image_size(tmp_path / "x.jpg") == (6, 8)
    assert decode_image((tmp_path / "x.jpg").read_bytes(), "x").size == (8, 6)


def test_threads_keep_the_order_and_do_not_run_far_ahead() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        return item * item

    results = threaded(work, range(1000), 8)
    assert [next(results) for _ in range(10)] == [i * i for i in range(10)]
    assert len(started) <= 16
    assert list(results) == [i * i for i in range(10, 1000)]

    def fail(item: int) -> int:
        if item == 5:
            raise InputError("five")
        return item

    seen = []
    with pytest.raises(InputError, match="five"):
        for item in threaded(fail, range(100), 8):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]
