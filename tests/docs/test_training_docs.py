"""The commands of docs/how-to/training.md run as printed, on a few digits."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from commands import ROOT, prepkd
from ruamel.yaml import YAML


def test_the_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["prepare"]["subset"] = 20
    for teacher in params["teachers"].values():
        teacher.update(model="convnet4", epochs=2)
    params["distill"].update(student="convnet4", epochs=3, seeds=2)
    yaml.dump(params, tmp_path / "params.yaml")
    for key in os.environ:
        if key.startswith(("WANDB", "MLFLOW")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/how-to/training.md").read_text()
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S))
    lines = [shlex.split(line) for line in blocks.replace("\\\n", " ").splitlines()]
    assert len(lines) == 10
    for program, *arguments in lines:
        assert program == "prepkd"
        prepkd(*arguments)
    logs = tmp_path / "results/logs"
    assert sorted(path.name for path in (logs / "tensorboard").iterdir()) == ["kd-seed0", "kd-seed1"]
    assert len(list(logs.glob("wandb/offline-run-*/*.wandb"))) == 2
    assert (logs / "mlflow.db").is_file()
    assert not (tmp_path / "mlruns").exists() and not (tmp_path / "wandb").exists(), "nothing beside results/logs"
    card = json.loads((tmp_path / "models/teachers/small/model.json").read_text())
    assert card["training"]["augment"] == [{"crop": {"padding": 1}}, {"mixup": {"alpha": 0.2}}]
    assert json.loads((tmp_path / "results/metrics.json").read_text())["n"] == 2


def test_every_setting_of_the_page_is_a_setting() -> None:
    from prepkd.distillation.student_settings import Distill

    page = (ROOT / "docs/how-to/training.md").read_text()
    for key in re.findall(r"^\| `(\w+)(?:: \w+)?` \|", page, re.M):
        assert key in {*Distill.model_fields, "logger", "tensorboard", "wandb", "mlflow"}, key
    for key in ("optimizer", "warmup_epochs", "clip_grad_norm", "accumulate", "ema", "early_stop", "augment", "logger"):
        assert key in page
