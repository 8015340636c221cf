"""README's first screen has a short introduction and two commands; the report's picture and the demo's table follow."""

import json
import re

from commands import ROOT
from PIL import Image, ImageChops

TEXT = (ROOT / "README.md").read_text()
WORDS = 190  # at most, above the commands: with 16 px text and 830 px width, both fit 900 px of height


def test_the_commands_stand_on_the_first_screen() -> None:
    above, _, below = TEXT.partition("## Two commands\n")
    assert len(above.split()) <= WORDS
    commands = re.findall(r"^    (make \w+)", below[: below.index("## ")], re.M)
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{command.split()[1]}:" in makefile for command in commands)


def test_one_picture_and_the_table_follow() -> None:
    _, _, below = TEXT.partition("## Two commands\n")
    screen, _, rest = below.partition("## What the demo prints\n")
    assert re.findall(r"!\[[^\]]+\]\((.+?)\)", TEXT) == ["docs/images/report-head.png"]
    assert "docs/images/report-head.png" in screen
    assert rest.lstrip().startswith("<!-- demo: made by make docs -->\n| run")


def test_the_picture_is_the_top_of_the_reports() -> None:
    head, whole = (Image.open(ROOT / f"docs/images/{name}.png").convert("RGB") for name in ("report-head", "report"))
    assert ImageChops.difference(head, whole.crop((0, 0, *head.size))).getbbox() is None


def test_the_bytes_of_a_row() -> None:
    sentence = re.search(r"a row of 100 logits in (.+?), or keeps", " ".join(TEXT.split()))
    assert sentence, "README no longer states the bytes of a row of 100 logits"
    stated = {name: int(size) for size, name in re.findall(r"(\d+)(?: bytes)? \(`(\w+)`", sentence[1])}
    measured = json.loads((ROOT / "benchmarks/results/encodings.json").read_text())["encodings"]
    assert stated == {name: round(measured[name]["bytes_per_row"]) for name in ("f16", "i16", "u8")}
