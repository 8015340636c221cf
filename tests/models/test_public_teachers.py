"""Converged teachers published by another project: `weights:` reads the files unchanged."""

import os
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import ROOT, enter
from prepkd.models import build_model, load_weights

PARAMETERS = {"resnet8": 112_452, "resnet20": 306_884, "resnet32": 501_316}  # without buffers
PARAMS = """
threads: 1
prepare: {{dataset: cifar100, raw: {raw}, subset: 10}}
augment: [flip]
teachers:
  given:
    model: distiller_resnet:resnet8
    epochs: 0
    weights: {weights}
    preprocessing: {{mean: [0.507, 0.487, 0.441], std: [0.267, 0.256, 0.276]}}
cache: {{views: 1}}
distill: {{teacher: given, student: convnet4, epochs: 1, seeds: 1}}
compare: {{runs: [kd]}}
"""


def needed(variable: str, what: str) -> str:
    folder = os.environ.get(variable)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"set {variable} to the folder that holds {what}")
    return folder


@pytest.fixture
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = needed("PREPKD_TEACHERS", "resnet8_cifar100.pth and its like")
    enter(tmp_path, monkeypatch)
    shutil.copy(ROOT / "examples/distiller_resnet.py", tmp_path)
    return Path(folder)


@pytest.mark.real
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_file_loads_as_it_is(teachers: Path, name: str) -> None:
    """The file holds tensors under `model_state_dict` with the prefix `module.`, beside an optimizer and an epoch."""
    model = build_model(f"distiller_resnet:{name}", 100)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    before = model.state_dict()["linear.bias"].clone()
    origin = load_weights(model, teachers / f"{name}_cifar100.pth")
    assert origin.key.split(".")[0] == "model_state_dict"
    state = torch.load(teachers / f"{name}_cifar100.pth", weights_only=True, map_location="cpu")["model_state_dict"]
    assert not torch.equal(before, state["module.linear.bias"])
    assert {f"module.{key}" for key in model.state_dict()} == state.keys()
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in model.state_dict().items())


@pytest.mark.real
def test_a_published_teacher_answers_as_measured(teachers: Path) -> None:
    """64.11 % on the whole test set, so 0.641 +- 0.015 on 1,000 of its images; three deviations are allowed."""
    raw = needed("PREPKD_CIFAR100", "cifar-100-python")
    Path("params.yaml").write_text(PARAMS.format(raw=raw, weights=teachers / "resnet8_cifar100.pth"))
    commands.prepkd("prepare")
    said = commands.prepkd("train-teacher", "given")
    assert "warning" not in said and "in another order" not in said
    top1 = float(said.split("test top-1 ")[1].split("%")[0]) / 100
    assert abs(top1 - 0.6411) < 3 * 0.0152
