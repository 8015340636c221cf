"""The comparison's picture, the data for DVC's plots, and the offline page."""

import csv
import io
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from dvc_render import VegaRenderer
from PIL import Image
from prepkd.display.text import csv_cell
from prepkd.errors import InputError
from prepkd.report.bars import bars
from prepkd.report.metrics import confusion_counts
from prepkd.report.page import offline_page
from prepkd.report.plot_data import charts, confusion, learning_curves, seed_curves


def table(seeds: int) -> pd.DataFrame:
    runs = ["ce", "kd", "kd,ce_weight=0", "ka-ps+dtd-flsw"]
    spread = [None] * 4 if seeds == 1 else [0.5, 0.4, 0.0, 0.3]
    return pd.DataFrame({"run": runs, "n": seeds, "top1_percent": [93.1, 94.2, 94.5, 94.9], "top1_std_percent": spread})


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("seeds", [1, 5])
def test_bars_are_a_picture_with_the_same_bytes_each_time(seeds: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        bars({"a -> b": (table(seeds), {"a": 97.3})}, tmp_path / "new" / f"{name}.png")
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()
    picture = pixels(tmp_path / "new/a.png")
    assert picture.shape == (round(150 * (0.45 * 4 + 1.4)), 150 * 7, 3)
    blue, red = ((np.abs(picture.astype(int) - c).sum(-1) < 20) for c in ([0x4C, 0x78, 0xA8], [0xE4, 0x57, 0x56]))
    # Four bars with lengths proportional to their figures, and the teacher's line to the right of them.
    lengths = blue.sum(1)
    starts = np.flatnonzero((lengths[1:] > 0) & (lengths[:-1] == 0))
    assert len(starts) == 4
    ends = [int(np.flatnonzero(blue[row + 3]).max()) for row in starts]
    assert ends == sorted(ends)
    steps = np.diff(ends) / np.diff([93.1, 94.2, 94.5, 94.9])
    assert steps == pytest.approx(steps.mean(), rel=0.05)
    assert np.flatnonzero(red[starts[0] : starts[-1]].any(0)).min() > max(ends)  # the line is dashed


@pytest.mark.timeout(60)
def test_a_pipe_at_the_pictures_place_does_not_hang_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "top1.png")
    bars({"a -> b": (table(5), {"a": 97.3})}, tmp_path / "top1.png")
    assert pixels(tmp_path / "top1.png").size


def test_runs_that_are_never_right_have_an_axis_too(tmp_path: Path) -> None:
    bars({"a -> b": (table(1).assign(top1_percent=0.0), {"a": 0.0})}, tmp_path / "top1.png")
    assert pixels(tmp_path / "top1.png").std() > 0


def test_only_several_seeds_have_error_bars(tmp_path: Path) -> None:
    dark = []
    for seeds in (1, 5):
        bars({"a -> b": (table(seeds), {"a": 97.3})}, tmp_path / f"{seeds}.png")
        picture = pixels(tmp_path / f"{seeds}.png").astype(int)
        plot = picture[90 : round(0.75 * len(picture)), 300:]  # right of the names, above the axis
        dark.append(int((np.abs(plot - 0x22).sum(-1) < 15).sum()))
    assert dark[0] == 0 < dark[1]


def test_bars_of_runs_with_one_and_with_many_seeds(tmp_path: Path) -> None:
    mixed = pd.concat([table(1).head(2), table(5).tail(2)], ignore_index=True)
    bars({"a -> b": (mixed, {"a": 20.0})}, tmp_path / "mixed.png")
    assert pixels(tmp_path / "mixed.png").std() > 0


@pytest.mark.parametrize("far", [60.0, 96.0], ids=["below all runs", "among the others"])
def test_each_teacher_has_a_line_of_its_own(far: float, tmp_path: Path) -> None:
    """If a run has another teacher, both teachers' lines are drawn, at any distance from the bars."""
    bars({"a -> b": (table(5), {"large": 97.3, "small": far})}, tmp_path / "two.png")
    picture = pixels(tmp_path / "two.png").astype(int)[120:-90, 200:]
    places = [
        np.flatnonzero((np.abs(picture - colour).sum(-1) < 20).sum(0) > 40)
        for colour in ([0xE4, 0x57, 0x56], [0xF5, 0x85, 0x18])
    ]
    assert all(len(columns) for columns in places)
    assert places[1].max() < places[0].min(), "the weaker teacher is to the left"


def test_each_pair_has_a_panel(tmp_path: Path) -> None:
    pairs = {f"teacher{i} -> student": (table(5), {f"teacher{i}": 90.0 + i}) for i in range(2)}
    bars(pairs, tmp_path / "two.png")
    blue = np.abs(pixels(tmp_path / "two.png").astype(int) - [0x4C, 0x78, 0xA8]).sum(-1) < 20
    filled = blue.sum(1) > 60
    assert int((np.diff(filled.astype(int)) == 1).sum()) == 8, "four bars in each of two panels"


def test_confusion_names_each_samples_classes() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    counts = confusion_counts(logits, torch.tensor([0, 1, 1]))
    rows = list(csv.reader(io.StringIO(confusion(counts, ["cat", "dog, wild", "never"]).decode())))
    assert rows == [
        ["actual", "predicted", "samples", "share"],
        ["cat", "cat", "1", "1.0"],
        ["dog, wild", "cat", "1", "0.5"],
        ["dog, wild", "dog, wild", "1", "0.5"],
        ["never", "never", "0", "0.0"],  # a class without samples has its place on both axes
    ]


@pytest.mark.parametrize("evil", ["</script><script>alert(1)</script>", "<!--<script>", "</SCRIPT >", "\x1b]0;x\x07"])
def test_names_open_no_script_in_the_page_of_dvc(evil: str, tmp_path: Path) -> None:
    """Class names are escaped, because DVC writes the rows into a script element unchanged."""
    rows = list(csv.DictReader(io.StringIO(confusion(torch.eye(2).long(), [evil, "a < b"]).decode())))
    assert [row["actual"] for row in rows] == [csv_cell(evil), "a < b"]
    (tmp_path / "confusion.json").write_bytes(charts()["confusion.json"])
    made = VegaRenderer(
        [row | {"rev": "workspace"} for row in rows],
        "c",
        template="confusion.json",
        template_dir=str(tmp_path),
        x="predicted",
        y="actual",
    )
    page = made.generate_html()
    assert page.lower().count("</script") == page.lower().count("<script") == 1 and "<!--" not in page
    assert "\x1b" not in page and "\\u001b" not in page


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "\\t=1"),
        (" =1", "' =1"),
        ("a-b", "a-b"),
    ],
)
def test_names_are_no_formulas_of_a_spreadsheet(name: str, cell: str) -> None:
    (_, *rows) = csv.reader(io.StringIO(confusion(torch.eye(2).long(), [name, "x"]).decode()))
    assert [row[:2] for row in rows] == [[cell, cell], ["x", "x"]]


def test_learning_curves_are_the_mean_over_seeds(tmp_path: Path) -> None:
    logged = {
        (0, "train"): [0.25, 0.5],
        (0, "test"): [0.125, 0.25],
        (2, "train"): [0.75, 1.0],
        (2, "test"): [0.375, 0.5],
    }
    for (seed, split), values in logged.items():
        file = tmp_path / f"seed{seed}/plots/metrics/{split}/top1.tsv"
        file.parent.mkdir(parents=True)
        file.write_text("step\ttop1\n" + "".join(f"{epoch}\t{value}\n" for epoch, value in enumerate(values)))
        (file.parent / "loss.tsv").write_text("step\tloss\n0\t9.0\n")
    rows = list(csv.reader(io.StringIO(learning_curves(seed_curves(tmp_path, [0, 2])).decode())))
    assert rows == [["epoch", "test", "train"], ["0", "0.25", "0.5"], ["1", "0.375", "0.75"]]
    seeds = seed_curves(tmp_path, [0, 2])
    assert list(seeds.columns) == ["seed", "epoch", "test", "train"]
    assert seeds.values.tolist() == [[0, 0, 0.125, 0.25], [0, 1, 0.25, 0.5], [2, 0, 0.375, 0.75], [2, 1, 0.5, 1.0]]
    # A seed that stopped early counts in its trained epochs.
    (tmp_path / "seed2/plots/metrics/test/top1.tsv").write_text("step\ttop1\n0\t0.375\n")
    (tmp_path / "seed2/plots/metrics/train/top1.tsv").write_text("step\ttop1\n0\t0.75\n")
    rows = list(csv.reader(io.StringIO(learning_curves(seed_curves(tmp_path, [0, 2])).decode())))
    assert rows == [["epoch", "test", "train"], ["0", "0.25", "0.5"], ["1", "0.25", "0.5"]]
    with pytest.raises(InputError) as caught:
        seed_curves(tmp_path, [0, 1])
    assert str(caught.value) == f"{tmp_path}/seed1/plots/metrics: no top1.tsv; run `prepkd distill`"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step\ttop1\n0\t2.5\n", "damaged: top1 is 2.5; expected 0 to 1"),
        ("step\ttop1\n0\t-0.5\n", "damaged: top1 is -0.5"),
        ("step\ttop1\n0\t\n", "damaged: top1 is nan"),
        ("step\ttop1\n0\t0.5\n0\t0.25\n", "expected one top1 per epoch, found 2 in 1 epochs"),
        ("step\ttop1\nx\t0.5\n", "no curve ("),
        ("step\ttop1\n0\t0.5.5\n", "no curve ("),
        ("step\ttop5\n0\t0.5\n", "no curve ("),
        ("", "no curve ("),
        ("\xff", "no curve ("),
    ],
)
def test_a_log_that_is_no_curve_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "seed0/plots/metrics/test/top1.tsv"
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        seed_curves(tmp_path, [0])
    line = str(caught.value)
    assert line.startswith(f"{file}: {says}") and line.endswith("; run `prepkd distill`") and "\n" not in line


def test_the_page_carries_everything_itself() -> None:
    page = offline_page().decode()
    body = page.replace("<\\/script", "")
    assert page.count("{plot_divs}") == 1
    assert page.count("{refresh_tag}") == 1
    assert "{scripts}" not in page  # DVC would insert its links to a CDN here
    assert page.count("</script") == 1, "the bundle must not end its own element"
    assert not re.findall(r"<(?:script|link|img)\b[^>]*\b(?:src|href)\s*=", body.split("<script", 1)[0])
    assert re.findall(r"<script[^>]*>", page)[0] == "<script>", "a module would run after DVC's calls of vegaEmbed"
    assert not re.findall(r"<script[^>]+src\s*=", page)
    assert not re.search(r"""\bimport\s*(?:[\w{*][^;"']*\bfrom\s*)?["']https?:""", page)
    for name in ("vegaEmbed", "vega", "vegaLite"):
        assert f"window.{name}" in page or f".{name}=" in page
