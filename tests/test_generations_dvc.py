"""DVC runs a chain of two generations in order and once, and reruns only generations whose own settings changed."""

import json
import re
from pathlib import Path
from typing import Any

from commands import copy_working_tree, edit_params, run

GENERATION = {"student": "convnet4", "ce_weight": 0.0, "kd": {"tau": 1.0}, "epochs": 1, "precision": "float32"}


def shrink(params: dict[str, Any]) -> None:
    params["prepare"]["subset"] = 10
    params["cache"]["views"] = 1
    params["teachers"].pop("small")
    params["teachers"]["large"].update(model="convnet4", epochs=1)
    # A student is listed before its teacher: DVC finds the order.
    params["generations"] = {
        "two": {**GENERATION, "teacher": "one", "seed": 2},
        "one": {**GENERATION, "teacher": "large", "seed": 1},
    }
    params["distill"].update(teacher="two", student="convnet4", epochs=1, seeds=1)
    params["compare"].update(teachers=["two"], students=["convnet4"], runs=["kd"])


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def stale(folder: Path) -> list[str]:
    lines = run("dvc status dvc.yaml", folder).splitlines()
    return [line.rstrip(":") for line in lines if line.endswith(":") and not line.startswith("\t")]


def test_a_chain_of_two_generations(tmp_path: Path) -> None:
    folder = tmp_path / "prepkd"
    copy_working_tree(folder)
    edit_params(folder, shrink)
    run("git init -q -b main && git add -A && git commit -qm clone", folder)
    chain = ["train-teacher@large", "cache-logits@large", "train-generation@one", "cache-generation@one"]
    chain += ["train-generation@two", "cache-generation@two"]
    assert ran(run("dvc repro", folder)) == ["prepare", *chain, "gather", "distill", "evaluate", "report"]
    assert "Data and pipelines are up to date." in run("dvc repro", folder)
    card = json.loads((folder / "models/student/seed0/model.json").read_text())
    assert list(card["inputs"]["teacher"]) == ["two"]

    edit_params(folder, lambda params: params["distill"].update(lr=0.05))
    assert stale(folder) == ["gather", "distill", "evaluate", "report"], "settings of `distill` are no generation's"
    edit_params(folder, lambda params: params["generations"]["two"].update(seed=3))
    output = run("dvc repro cache-generation", folder)
    assert ran(output) == ["train-generation@two", "cache-generation@two"], "not its teacher"
    edit_params(folder, lambda params: params["generations"].update(three={**GENERATION, "teacher": "two", "seed": 4}))
    edit_params(folder, lambda params: params["cache"].update(features=["pooled"]))
    assert not {"train-generation@one", "train-generation@two", "cache-generation@one"} & set(stale(folder))
    output = run("dvc repro cache-generation-features@one-pooled", folder)
    assert ran(output) == ["ask-generation-features@one-pooled", "cache-generation-features@one-pooled"]
    assert (folder / "data/features/one/pooled.zarr/manifest.json").is_file()
