"""`prepkd predict`: any image of any size, equal to `prepkd evaluate` on the test images."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import enter, invoke
from deployed import CPU, Project, make_project, saved
from PIL import Image
from prepkd.data.prepared.file import load_split
from prepkd.deployment.classifier import load
from prepkd.deployment.images import named_images, read_image
from prepkd.deployment.predict import Prediction, predict_images
from prepkd.errors import InputError
from prepkd.models.checkpoint import load_card, write_card
from prepkd.views.framing import Framing

FRAME = Framing(height=16, width=16)
HUES = np.random.Generator(np.random.Philox(5)).integers(256, size=(16, 16, 3), dtype=np.uint8)


@pytest.fixture
def here(digits: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    enter(digits.folder, monkeypatch)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    return digits


def test_the_test_images_get_the_logits_of_evaluate(digits: Project, tmp_path: Path) -> None:
    """Logits are equal bit by bit, because pixels and batches are the same."""
    images = load_split(digits.data, "test").images
    files = [saved(tmp_path / f"{i:04}.png", image) for i, image in enumerate(images)]
    answers = list(predict_images(load(digits.student), files, CPU, top=1))
    assert all(isinstance(one, Prediction) for one in answers) and len(answers) == 896
    assert torch.equal(torch.stack([one.logits for one in answers]), digits.logits)
    names = [digits.dataset.class_names[index] for index in digits.logits.argmax(dim=1)]
    assert [one.classes[0][0] for one in answers] == names


def test_photographs_get_the_logits_of_evaluate(tmp_path: Path) -> None:
    """Encoded images of several sizes and orientations are framed as in evaluation: resized centre crops."""
    sizes = [(30, 40), (24, 24), (9, 70), (64, 33), (27, 27), (200, 3)]
    generator = np.random.Generator(np.random.Philox(2))
    for split in ("train", "test"):
        for label in ("ant", "bée"):
            for i, size in enumerate(sizes):
                exif = Image.Exif()
                exif[0x0112] = 1 + i
                pixels = generator.integers(256, size=(*size, 3)).astype(np.uint8)
                saved(tmp_path / f"raw/{split}/{label}/{i}.jpg", pixels, "JPEG", exif=exif)
    made = make_project(
        tmp_path, "folder", tmp_path / "raw", model="resnet8", recipe=[{"resized-crop": {"size": 24}}], steps=2
    )
    assert load_card(made.student)["evaluation"] == {"height": 24, "width": 24, "resize": 27}
    names = load_split(made.data, "test").images
    files = [tmp_path / "raw" / names.name(i) for i in range(len(names))]
    answers = list(predict_images(load(made.student), files, CPU, top=2))
    assert torch.equal(torch.stack([one.logits for one in answers if isinstance(one, Prediction)]), made.logits)


def deep(mode: str) -> Image.Image:
    """HUES in a mode of Pillow; with 16 bits, the upper 8 hold the values."""
    grey = HUES[..., 0].astype(np.uint16)
    return Image.fromarray((grey << 8) + 255) if mode == "I;16" else Image.fromarray(HUES).convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read(mode: str, channels: int, tmp_path: Path) -> None:
    image = deep(mode)
    path = saved(
        tmp_path / "x", image, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 95} if mode == "CMYK" else {})
    )
    pixels = read_image(path, FRAME, channels)
    if mode == "I;16":
        wanted = np.repeat(HUES[..., :1], channels, axis=2)
    else:
        with Image.open(path) as opened:
            wanted = np.atleast_3d(np.asarray(opened.convert("RGB").convert("L" if channels == 1 else "RGB")))
    assert pixels.dtype == torch.uint8 and pixels.shape == (channels, 16, 16)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.png", HUES, exif=exif)
    from PIL import ImageOps

    with Image.open(path) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(read_image(path, FRAME, 3).permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (2, 9), (16, 17), (700, 500), (5000, 40)])
@pytest.mark.parametrize(
    "framing",
    [FRAME, Framing(height=12, width=20), Framing.centred(24), Framing(height=224, width=224, resize=256)],
    ids=str,
)
def test_every_size_is_framed(size: tuple[int, int], framing: Framing, tmp_path: Path) -> None:
    """An image of one colour keeps it and gets the wanted size: no border of zeros, no size off by one."""
    path = saved(tmp_path / "x.png", np.full((*size, 3), 77, np.uint8))
    pixels = read_image(path, framing, 3)
    assert pixels.shape == (3, *framing.size) and (pixels == 77).all()


def test_a_table_json_and_csv(here: Project, tmp_path: Path) -> None:
    path = saved(tmp_path / "=a.png", np.zeros((40, 30), np.uint8))
    table = invoke("predict", str(path))
    assert table.exit_code == 0 and re.search(r"image +class +probability +then", table.output), table.output
    found = json.loads(invoke("predict", str(path), "--json", "--top", "99").stdout)
    [image] = found["images"]
    assert found["errors"] == [] and image["image"] == str(path) and len(image["top"]) == 10
    assert image["class"] == image["top"][0]["class"] and sum(
        one["probability"] for one in image["top"]
    ) == pytest.approx(1)
    os.chdir(tmp_path)
    done = invoke("predict", "=a.png", "--csv", "--model", str(here.student))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and {row["image"] for row in rows} == {"'=a.png"}
    assert rows[0]["class"] == image["class"]
    assert float(rows[0]["probability"]) == pytest.approx(image["probability"], rel=1e-5)


def test_a_fault_is_one_line_and_the_others_go_on(here: Project, tmp_path: Path) -> None:
    good = saved(tmp_path / "photos/a.png", HUES)
    (tmp_path / "photos/b.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "photos/c.jpg").write_bytes(b"no image")
    (tmp_path / "photos/notes.txt").write_bytes(b"not asked about")
    os.mkfifo(tmp_path / "fifo.png")
    done = invoke("predict", str(tmp_path / "photos"), str(tmp_path / "fifo.png"), str(tmp_path / "gone"), "--json")
    assert done.exit_code == 2
    assert [one["image"] for one in json.loads(done.stdout)["images"]] == [str(good)]
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all(line.startswith(f"error: {tmp_path}/") for line in lines), lines
    assert [line.split(": ")[1].rpartition("/")[2] for line in lines] == ["b.png", "c.jpg", "fifo.png", "gone"]


def test_names_are_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d/b.PNG", "d/a.jpg", "d/deep/c.webp", "d/x.txt", "one", "[1].png", "2.png", "1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("d/loop").symlink_to(".")

    def found(*arguments: str) -> list[str]:
        return [str(one) for one in named_images(arguments) if isinstance(one, Path)]

    assert found("d") == ["d/a.jpg", "d/b.PNG", "d/deep/c.webp"]
    assert found("one", "d/x.txt", "one") == ["one", "d/x.txt", "one"]
    assert found("*.png") == ["1.png", "2.png", "[1].png"] and found("[1].png") == ["[1].png"]
    assert found("d/**/*.webp") == ["d/deep/c.webp"] and found("d*") == found("d")
    for wrong in ("gone", "*.gif", "a" * 300, ""):
        [fault] = named_images([wrong])
        assert isinstance(fault, InputError) and "\n" not in str(fault)


def test_a_model_must_be_there(here: Project, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", HUES)
    (tmp_path / "x.pt").touch()
    (tmp_path / "empty").mkdir()
    for wrong in ("gone", "x.pt", "empty"):
        done = invoke("predict", str(path), "--model", str(tmp_path / wrong))
        assert done.exit_code == 2 and done.output.startswith(f"error: {tmp_path}/{wrong}"), done.output
    assert invoke("predict", str(path), "--json", "--csv").exit_code == 2


def test_a_strangers_factory_is_not_imported(here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(here.student, tmp_path / "student")
    write_card(tmp_path / "student", here.card() | {"model": "stranger:net"})
    (tmp_path / "stranger.py").write_text("import pathlib\npathlib.Path('imported').touch()\ndef net(**given): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"stranger:net.*trust_factory"):
        load("student")
    assert not Path("imported").exists()
    with pytest.raises(InputError):  # the factory returns no module
        load("student", trust_factory=True)
    assert Path("imported").exists()


def test_memory_of_large_images_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each large image holds the only lock while it is decoded, so that one at a time is in memory."""
    from prepkd.deployment import images

    path, held = saved(tmp_path / "x.png", HUES), []
    monkeypatch.setattr(images, "LARGE", 255)
    true = images.apply_orientation
    monkeypatch.setattr(images, "apply_orientation", lambda *given: held.append(images._alone.locked()) or true(*given))
    read_image(path, FRAME, 3)
    monkeypatch.setattr(images, "LARGE", 256)
    read_image(path, FRAME, 3)
    assert held == [True, False] and not images._alone.locked()
