"""A teacher with given weights, from settings to store: records, messages, and detection of a changed file."""

import hashlib
import json
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
from commands import ROOT, enter, run
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.models import build_model
from prepkd.models.library import Pretrained
from prepkd.models.weight_layouts import PREPROCESSING
from prepkd.store import LogitStore
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = "weights/ckpt_epoch_240.pth"
SETTINGS = dict(
    prepare__subset=12,
    teachers__large__model="convnet4",
    teachers__large__epochs=0,
    teachers__large__weights=WEIGHTS,
    distill__student="convnet4",
    distill__epochs=1,
    distill__seeds=1,
)
prepkd = partial(commands.prepkd, **SETTINGS)


def publish(seed: int) -> None:
    """Write a file in RepDistiller's form, with other weights for each seed."""
    torch.manual_seed(seed)
    Path(WEIGHTS).parent.mkdir(exist_ok=True)
    state = build_model("convnet4", 10, in_channels=1).state_dict()
    torch.save({"epoch": 240, "model": state, "accuracy": torch.tensor([79.4])}, WEIGHTS)


def card() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("models/teachers/large/model.json").read_text())
    return content


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    publish(0)
    prepkd("prepare")
    return tmp_path


def test_the_card_and_inspect_say_where_weights_came_from_and_the_store_is_as_before(project: Path) -> None:
    prepkd("train-teacher", "large")
    digest = hashlib.sha256(Path(WEIGHTS).read_bytes()).hexdigest()
    assert card()["weights_from"] == {"file": WEIGHTS, "sha256": digest, "format": "repdistiller", "key": "model"}
    assert card()["inputs"]["given_weights"] == digest
    prepkd("cache-logits", "large")
    teacher = LogitStore.open("data/logits/large.zarr").attributes.teacher.model_dump()
    assert sorted(teacher) == ["model", "name", "preprocessing", "weights_fingerprint"]
    report = commands.invoke("inspect", "data/logits/large.zarr", "--json")
    assert json.loads(report.stdout)["facts"]["weights_from"] == card()["weights_from"]
    printed = commands.invoke("inspect", "data/logits/large.zarr").stdout
    assert f"{WEIGHTS}, sha256 {digest[:12]}, format repdistiller, key model" in printed

    publish(1)
    for changes in ({}, {"teachers__large__epochs": 1, "teachers__large__weights": "null"}):
        prepkd("train-teacher", "large", "--replace", **changes)
        assert ("weights_from" in card()) == ("given_weights" in card()["inputs"]) == (not changes)
        report = commands.invoke("inspect", "data/logits/large.zarr", "--json")
        assert "weights_from" not in json.loads(report.stdout)["facts"], "another teacher's weights under the same name"


def test_a_librarys_weights_are_recorded_by_their_source(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Pretrained("https://example.invalid/net-0123.pth", 10, Preprocessing((0.5,), (0.25,)))
    for module in ("teacher", "teacher_run", "initial", "plausibility"):
        monkeypatch.setattr(f"prepkd.training.{module}.pretrained", lambda _: known)
    monkeypatch.setattr("prepkd.models.new.pretrained", lambda _: known)
    monkeypatch.setattr("prepkd.training.teacher_run.check_model", lambda *_: None)
    monkeypatch.setattr("prepkd.models.new.build_model", lambda *_, **__: build_model("convnet4", 10, in_channels=1))
    prepkd("train-teacher", "large", teachers__large__model="timm:net:pretrained", teachers__large__weights="null")
    assert card()["weights_from"] == {"source": "https://example.invalid/net-0123.pth"}


def test_a_file_that_has_changed_is_refused_by_whatever_comes_after_the_teacher(project: Path) -> None:
    for stage in (["train-teacher", "large"], ["cache-logits", "large"], ["distill"]):
        prepkd(*stage)
    publish(1)
    for stage in (["cache-logits", "large"], ["distill"], ["distill", "--source", "online"]):
        text = prepkd(*stage, code=2)
        assert f"{WEIGHTS} has changed; run `prepkd train-teacher large`" in text and "weights_from.sha256 is " in text
    prepkd("train-teacher", "large", "--replace")
    prepkd("cache-logits", "large", "--replace")
    Path(WEIGHTS).unlink()  # another user of the teacher lacks the file
    prepkd("distill", "--replace")


def test_pixels_of_published_weights_are_spoken_of_where_they_are_known(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = prepkd("train-teacher", "large")
    # The weights are random, and the file claims 79.4 %.
    assert "note:" not in said and said.count("warning: teacher 'large' is right on ") == 2
    monkeypatch.setitem(PREPROCESSING, "digits", {"mean": [0.5], "std": [0.25]})
    said = prepkd("train-teacher", "large")
    setting = said.split("teachers.large.preprocessing to ")[1].strip()
    assert setting == "{mean: [0.5], std: [0.25]}"
    assert "note:" not in prepkd("train-teacher", "large", "--replace", teachers__large__preprocessing=setting)
    assert card()["preprocessing"] == {"mean": [0.5], "std": [0.25]}


def test_a_teacher_whose_logits_are_not_finite_is_none(project: Path) -> None:
    state = build_model("convnet4", 10, in_channels=1).state_dict()
    torch.save({**state, "fc.weight": torch.full_like(state["fc.weight"], 3e38)}, WEIGHTS)
    text = prepkd("train-teacher", "large", code=2).splitlines()[-1]
    assert text.startswith("error: teacher 'large': two images (1, 8, 8) gave 20 of 20 values that are NaN or infinite")
    assert not Path("models").exists()


def test_a_teacher_whose_answers_may_be_no_logits_is_named_and_one_of_probabilities_is_refused(project: Path) -> None:
    """When trained, a model with its own softmax is refused; here the ending is added to given weights."""
    Path("endings.py").write_text(
        "from prepkd.models import build_model\n"
        "from torch import nn\n\n"
        "ENDING = nn.Softplus()\n\n"
        "class Small(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels):\n"
        "        super().__init__()\n"
        "        self.body, self.ending = build_model('convnet4', num_classes, in_channels=in_channels), ENDING\n\n"
        "    def forward(self, x):\n"
        "        return self.ending(self.body(x))\n"
    )
    state = build_model("convnet4", 10, in_channels=1).state_dict()
    torch.save({f"body.{key}": value for key, value in state.items()}, "own.pth")
    own = {"teachers__large__model": "endings:Small", "teachers__large__weights": "own.pth"}
    warning = r"warning: teacher 'large': no value of \d+ rows is negative; expected raw logits"
    for stage in ("train-teacher", "cache-logits"):
        assert re.search(warning, prepkd(stage, "large", **own)), stage
    sys.modules["endings"].ENDING = nn.LogSoftmax(dim=-1)
    assert "every row's log-sum-exp is 0: log-probabilities" in prepkd("train-teacher", "large", **own)
    changed = {"method": "dtd-flsw", "source": "online"}
    text = prepkd("distill", **own, **{f"distill__{key}": value for key, value in changed.items()}, code=2)
    assert "models/teachers/large: every row's log-sum-exp is 0: log-probabilities, which have lost" in text
    sys.modules["endings"].ENDING = Scaled()
    for stage in ("train-teacher", "cache-logits"):
        assert "error: teacher 'large': no value is negative and every row's sum is at most 1" in prepkd(
            stage, "large", code=2, **own
        )


class Scaled(nn.Module):
    """Probabilities of the top classes only: no row sums to 1, so that a test for sums of 1 on two images cannot detect them."""

    def forward(self, logits: Tensor) -> Tensor:
        best = logits.softmax(dim=-1).topk(3, dim=-1)
        return torch.zeros_like(logits).scatter(1, best.indices, best.values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers__large__model": "timm:resnet81", "teachers__large__weights": "null"}, "did you mean"),
        ({"distill__student": "timm:resnet81"}, "timm has no model 'resnet81'; did you mean"),
        ({"distill__student": "torchvision:resnet18"}, "takes 3 channels, the images have 1"),
        ({"compare__students": "[convnet4, 'timm:resnet18:V1']"}, "expected timm:NAME or timm:NAME:pretrained"),
        ({"compare__students": "['nobodys_models:small']"}, "can't import nobodys_models"),
    ],
)
def test_a_model_that_nobody_has_is_found_before_a_teacher_is_trained(
    changes: dict[str, str], message: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prepkd.training.teacher.train", lambda *_, **__: pytest.fail("trained first"))
    changes = {"teachers__large__epochs": "1", **changes}
    text = prepkd("train-teacher", "large", code=2, **changes).splitlines()
    assert len(text) == 1 and message in text[0]
    assert not Path("models").exists()


def test_dvc_notices_another_file_where_the_stage_depends_on_each_teachers_own(project: Path) -> None:
    """With `${item.weights}`, as in docs/how-to/pretrained-teacher.md, only the teacher whose file changed is rebuilt."""
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    for name in ("large", "small"):
        params["teachers"][name] = {"model": "convnet4", "epochs": 0, "weights": f"weights/{name}.pth"}
        publish(0)
        Path(WEIGHTS).rename(f"weights/{name}.pth")
    params["prepare"]["subset"] = 12
    yaml.dump(params, Path("params.yaml"))
    stage = yaml.load(ROOT / "dvc.yaml")["stages"]["train-teacher"]
    stage["do"]["deps"] = ["data/${prepare.dataset}.h5", "${item.weights}"]
    yaml.dump({"stages": {"train-teacher": stage}}, Path("dvc.yaml"))

    def dvc(*arguments: str) -> str:
        return run(shlex.join(["dvc", *arguments]), Path.cwd())

    dvc("init", "--no-scm", "-q")
    dvc("repro", "-q")
    assert "up to date" in dvc("status")
    publish(1)
    Path(WEIGHTS).replace("weights/small.pth")
    changed = dvc("status")
    assert "train-teacher@small" in changed and "train-teacher@large" not in changed
    dvc("repro", "-q")
    assert "up to date" in dvc("status")


def test_a_student_starts_from_a_file_and_is_refused_once_that_has_changed(project: Path) -> None:
    start = {"distill__weights": "weights/start.pth", "distill__weights_key": "model_ema"}
    torch.manual_seed(5)
    states = [build_model("convnet4", 10, in_channels=1).state_dict() for _ in range(3)]

    def write(average: dict[str, torch.Tensor]) -> str:
        torch.save({"model": states[0], "model_ema": average}, "weights/start.pth")
        return hashlib.sha256(Path("weights/start.pth").read_bytes()).hexdigest()

    digest = write(states[1])
    for stage in (["train-teacher", "large"], ["cache-logits", "large"]):
        prepkd(*stage)
    several = prepkd("distill", code=2, distill__weights="weights/start.pth").splitlines()
    assert len(several) == 1 and "2 sets of weights fit the model: model, model_ema; set weights_key" in several[0]
    prepkd("distill", **start)
    made = json.loads(Path("models/student/seed0/model.json").read_text())
    assert made["weights_from"] == {
        "file": "weights/start.pth",
        "sha256": digest,
        "format": "plain",
        "key": "model_ema",
    }
    assert made["inputs"]["given_weights"] == digest
    started = Path("models/student/seed0/model.safetensors").read_bytes()
    prepkd("evaluate", **start)
    assert "training.weights is weights/start" in prepkd("evaluate", code=2)
    write(states[2])
    assert "weights/start.pth has changed; run `prepkd distill`" in prepkd("evaluate", code=2, **start)
    prepkd("distill", "--replace", **start)
    assert Path("models/student/seed0/model.safetensors").read_bytes() != started
    prepkd("evaluate", **start)
    other = {"distill__preprocessing": "{mean: [0.5], std: [0.25]}", **start}
    prepkd("distill", "--replace", **other)
    made = json.loads(Path("models/student/seed0/model.json").read_text())
    assert made["preprocessing"] == {"mean": [0.5], "std": [0.25]}


def test_a_file_whose_classes_are_in_another_order_is_no_teacher_but_may_be_a_start(project: Path) -> None:
    state = build_model("convnet4", 10, in_channels=1).state_dict()
    torch.save({"model": state, "classes": [str(digit) for digit in range(9, -1, -1)]}, WEIGHTS)
    text = prepkd("train-teacher", "large", code=2).splitlines()
    assert (
        len(text) == 1
        and f"{WEIGHTS}: 10 of 10 classes are in another order: class 0 is '9', the data's is '0'" in text[0]
    )
    assert not Path("models").exists()
    prepkd("train-teacher", "large", teachers__large__epochs=1)


def test_a_permuted_teacher_is_named_as_such(project: Path) -> None:
    """The teacher is trained, then its classifier's rows are moved by one class."""
    prepkd("prepare", "--replace", prepare__subset=80)
    trained = {"teachers__large__epochs": 12, "teachers__large__weights": "null", "prepare__subset": 80}
    prepkd("train-teacher", "large", **trained)
    state = load_file("models/teachers/large/model.safetensors")
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name].roll(1, dims=0)
    torch.save(state, WEIGHTS)
    assert "with the classes in another order: its classes are not in the data's order" in prepkd(
        "train-teacher", "large", "--replace", prepare__subset=80
    )
    assert "warning: data/logits/large.zarr: hardly better than chance" in prepkd(
        "cache-logits", "large", prepare__subset=80, cache__views=1
    )


def test_a_teacher_that_is_handed_on_brings_its_claims(project: Path) -> None:
    """A weights file of prepkd comes with its card: other preprocessing gives a warning."""
    prepkd("train-teacher", "large", teachers__large__epochs=2, teachers__large__weights="null")
    Path("models/teachers/large").rename("weights/given")
    given = {"teachers__large__weights": "weights/given/model.safetensors"}
    own = json.loads(Path("weights/given/model.json").read_text())
    assert own["class_names"] == [str(digit) for digit in range(10)]
    assert "preprocesses otherwise" not in prepkd("train-teacher", "large", **given)
    said = prepkd(
        "train-teacher", "large", "--replace", teachers__large__preprocessing="{mean: [0.9], std: [0.1]}", **given
    )
    assert f"preprocesses otherwise than its file's card says; set preprocessing to {own['preprocessing']}" in said
