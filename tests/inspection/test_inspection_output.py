"""The tables and the picture of `prepkd inspect`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from inspected import printed, read, settings, student, with_attributes
from made_up_store import CLASSES, SAMPLES, VIEWS, MadeUp
from PIL import Image
from prepkd.display.text import printable
from prepkd.inspection.logit_statistics import logit_statistics
from prepkd.inspection.picture import draw_picture
from prepkd.inspection.store_facts import read_facts
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.temperatures import dtd_temperatures


def whole_inspection(made: MadeUp, folder: Path) -> StoreInspection:
    facts, store = read_facts(made.folder)
    assert store is not None
    student(folder / "student")
    split, info = read(made)
    logits = logit_statistics(store, [0, 1, 2], (split, info), 4.0, "")
    dtd = dtd_temperatures(store, [0, 1, 2], folder / "student", split, settings(), torch.device("cpu"))
    return StoreInspection(facts, logits, dtd)


def test_names_are_printed_as_they_are(f16: MadeUp, tmp_path: Path) -> None:
    """Names of classes and teachers are printed as text, even with markup, emoji codes, formulas or control characters."""
    hostile = (
        "[/red]",
        "[bold]x",
        ":cat:",
        "$x_{$",
        "\x1b[2Jx",
        "a\nb",
        "\x9b2J",
        "\u202etxt",
        "bée",
        "\ud800",
        "猫",
        "🐱",
        "பூனை",
    )
    facts, store = read_facts(f16.folder)
    split, info = read(f16)
    assert store is not None
    for first in range(len(hostile)):
        names = (hostile * 2)[first : first + CLASSES]
        # model_copy skips the validation, which would refuse these names: printing must be safe without it.
        teacher = facts.attributes.teacher.model_copy(update={"name": names[0], "model": names[1]})
        made = replace(facts, attributes=facts.attributes.model_copy(update={"teacher": teacher}))
        logits = logit_statistics(store, [0, 1, 2], (split, replace(info, class_names=names)), 4.0, "")
        inspection = StoreInspection(made, logits)
        text = printed(inspection, 100)
        assert all(one.isprintable() for line in text.split("\n") for one in line)
        worst = [name.name for name in logits.class_error[:5]]  # type: ignore[index]
        for name in (*names[:2], *worst):
            assert printable(name) in text, name
        draw_picture(inspection, f"{names[0]}: a title", tmp_path / "x.png")


@pytest.mark.parametrize("columns", [60, 100])
def test_tables_fit_the_terminal_and_hold_the_figures(made: MadeUp, columns: int, tmp_path: Path) -> None:
    inspection = whole_inspection(made, tmp_path)
    unverified = ["that the logits are a teacher's", "their arithmetic"]
    facts = with_attributes(inspection.facts, unverified=unverified)
    inspection = replace(inspection, facts=facts)
    text, report = printed(inspection, columns), inspection.as_json()
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text, "nothing is cut off"
    words = " ".join(text.split())
    ka, facts = report["ka"], report["facts"]
    for part in (
        f"{VIEWS} views x {SAMPLES} samples x {CLASSES} classes",
        "finished: 9 of 9 chunks",
        f"{facts['bytes']:,} bytes in {facts['files']} files",
        f"{ka['rows_wrong']} of {ka['rows']}",
        f"{ka['samples_wrong_in_all_views']} of {ka['samples']}",
        "UNVERIFIED that the logits are a teacher's their arithmetic",
        f"{report['dtd']['methods']['dtd-cwsm']['mean']:.3f}",
        f"measured on {SAMPLES} rows: {facts['attributes']['measured']['argmax_flips']} argmax flips",
        "mean is over batches of 7",
        *(f"{report['facts']['attributes']['measured']['kl_max'][tau]:.2e}" for tau in ("1", "2", "4", "8")),
        *(f"{values['mean']:.3f} at tau {tau}" for tau, values in report["entropy"].items() if tau != "edges"),
    ):
        assert part in words, part
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def dark(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L")) < 200


def test_the_picture_has_a_panel_a_subject(f16: MadeUp, tmp_path: Path) -> None:
    inspection = whole_inspection(f16, tmp_path)
    for name in ("a", "b"):
        draw_picture(inspection, "made-up", tmp_path / "new" / f"{name}.png")
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
    shown = dark(tmp_path / "new/a.png")
    height, width = shown.shape
    thirds = [shown[round(height * i / 3) : round(height * (i + 1) / 3)] for i in range(3)]
    assert all(half.mean() > 0.01 for row in thirds for half in (row[:, : width // 2], row[:, width // 2 :]))
    # Without labels and student there are three panels, and the fourth place is empty.
    assert inspection.logits is not None
    few = replace(inspection, logits=replace(inspection.logits, class_error=None, ka=None), dtd=None)
    draw_picture(few, "made-up", tmp_path / "few.png")
    shown = dark(tmp_path / "few.png")
    corner = shown[round(0.55 * len(shown)) :, round(0.55 * width) :]
    assert not corner.any() and shown.any()
