"""docs/how-to/generations.md: commands run as printed, recipes equal those of `prepkd methods`, and each runs on digits."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, enter, prepkd
from prepkd.catalogue.requirements import example
from prepkd.catalogue.rows import rows, slots
from prepkd.methods.schemes import SCHEMES
from prepkd.project.params import Params
from prepkd.settings.validation import validated
from ruamel.yaml import YAML

PAGE = (ROOT / "docs/how-to/generations.md").read_text()
RECIPES = dict(re.findall(r"^### `([\w-]+)`.*?^```yaml\n(.*?)^```", PAGE, re.M | re.S))


def merged(text: str) -> dict[str, Any]:
    """params.yaml with the settings of a YAML block; the block replaces sections other than `distill` and `compare`."""
    params: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, changes in YAML(typ="safe").load(text).items():
        params[section] = (params[section] if section in ("distill", "compare") else {}) | changes
    params["compare"] = {"runs": ["kd"]} | (params["compare"] if "compare" in text else {})
    return params


def shrunk(params: dict[str, Any]) -> dict[str, Any]:
    """Make the settings run in seconds on digits: small models, one epoch, the same chain."""
    params["prepare"]["subset"] = 10
    params["cache"].update(views=2, batch_size=64)
    small = {"epochs": 1, "batch_size": 64, "precision": "float32"}
    for teacher in params["teachers"].values():
        teacher.update(small, model="convnet4")
    for generation in params["generations"].values():
        generation.update(small, student="convnet4")
    params["distill"].update(small, student="convnet4", seeds=1)
    if "students" in params["compare"]:
        params["compare"]["students"] = ["convnet4"]
    return params


def flat(section: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= flat(value, f"{prefix}.{key}") if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return found


def in_project(folder: Path, params: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    YAML().dump(params, folder / "params.yaml")
    enter(folder, patch)


def test_the_commands_of_the_page_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_project(tmp_path, shrunk({**merged(PAGE.split("```yaml\n")[1].split("```")[0])} | {}), monkeypatch)
    prepkd("prepare")
    promoted = []
    for line in "".join(re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)).splitlines():
        program, *arguments = shlex.split(line)
        if program == "prepkd":
            text = prepkd(*[one.replace("convnet8", "convnet4") for one in arguments])
            promoted += ["promoted" in line]
            assert "Traceback" not in text
        else:
            assert program == "mkdir" and "cp" in arguments
            (tmp_path / "weights").mkdir()
            (tmp_path / "models/student/seed0").rename(tmp_path / "weights/promoted")
    assert promoted.count(True) == 2 and len(promoted) == 10
    assert (tmp_path / "data/logits/promoted.zarr/manifest.json").is_file()


def test_the_page_has_a_recipe_for_every_scheme() -> None:
    assert RECIPES.keys() == SCHEMES.keys()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_recipe_is_the_schemes_settings(name: str) -> None:
    params = merged(RECIPES[name])
    validated(Params, params, name)
    given = [flat(params["distill"], "distill")]
    given += [flat(one, "generations.NAME") for one in params["generations"].values()]
    for key, value in SCHEMES[name].settings.items():
        found = [one[key] for one in given if key.split(".")[0] in next(iter(one))]
        assert found and all(one == value for one in found), (key, found)
    alike = {one["student"] for one in params["generations"].values()} | {params["distill"]["student"]}
    if name in ("ban", "tf-kd"):
        assert alike == {params["teachers"]["large"]["model"]}, "one architecture"
    seeds = [one["seed"] for one in params["generations"].values()]
    assert len(set(seeds)) == len(seeds), "generations of one architecture and seed start alike"


@pytest.mark.parametrize("name", SCHEMES)
def test_a_recipe_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = shrunk(merged(RECIPES[name]))
    in_project(tmp_path, params, monkeypatch)
    prepkd("prepare")
    prepkd("train-teacher", "large")
    prepkd("cache-logits", "large")
    for generation in params["generations"]:
        prepkd("train-generation", generation)
        prepkd("cache-logits", generation)
    prepkd("distill")
    if name == "ban":
        assert params["compare"]["teachers"] == ["ban1", "ban1+ban2+ban3"]
        prepkd("compare", "--run", "kd", "--teacher", "ban1+ban2+ban3")


def test_schemes_are_listed_with_the_terms() -> None:
    assert list(slots())[-1] == "schemes"
    listed = [row for row in rows(example()) if row.slot == "schemes"]
    assert [row.name for row in listed] == list(SCHEMES)
    for row in listed:
        assert row.source and row.teacher and row.settings and "arXiv" in row.source
        assert row.as_json()["slot"] == "schemes"
