"""docs/reference/models.md and docs/how-to/pretrained-teacher.md agree with the code."""

import re

import pytest
import third_party as theirs
import torch
from commands import ROOT
from prepkd.models import MODELS, build_model
from prepkd.models.weight_layouts import LAYOUTS, PREPROCESSING

DOCS = ROOT / "docs"


def rows(page: str, columns: int) -> list[list[str]]:
    """Return the cells of the page's table rows that have `columns` columns and code in the first cell."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ZOO = {code(row[0])[0]: row for row in rows("reference/models.md", 5)}


def test_the_table_has_every_model_in_the_codes_order() -> None:
    assert list(ZOO) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_models_row_is_right(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 100)
    assert ZOO[name][1] == f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    assert code(ZOO[name][3]) == [one for one, (ours, _) in theirs.MODELS.items() if ours == name]
    assert ("K" in ZOO[name][4].split()) == bool(code(ZOO[name][3]))


def test_the_key_map_is_the_codes() -> None:
    """One row per layout: format, keys, prefix."""
    table = [(code(row[1])[0], sorted(code(row[2])), code(row[3])) for row in rows("how-to/pretrained-teacher.md", 4)]
    wanted = [
        (layout.project, sorted((*layout.beside, "model")), [layout.prefix] * bool(layout.prefix)) for layout in LAYOUTS
    ]
    assert sorted(table) == sorted(wanted)


def test_the_pixels_of_both_projects_are_the_codes() -> None:
    text = (DOCS / "how-to/pretrained-teacher.md").read_text()
    for known in PREPROCESSING.values():
        assert f"mean: {known['mean']}" in text and f"std: {known['std']}" in text
