"""Models are tried before any work: a model that cannot be trained is refused before the teacher's cost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.models import build_model
from prepkd.project.params import load_params
from prepkd.training import trial
from prepkd.training.teacher_run import run_teacher
from prepkd.training.trial import batch_sizes, try_student, try_students
from small_training import CLASSES, DATASET, context_in, teacher_of

PARAMS = ROOT / "params.yaml"
COUNT = len(DATASET.samples)
MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Pair(Net):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


class Small(Net):
    def forward(self, x):
        y = super().forward(x)
        return y[:, 1:] if self.training else y


class Frozen(Net):
    def forward(self, x):
        return super().forward(x).detach()


class Squeezed(Net):
    def forward(self, x):
        if self.training:
            raise KeyError("no\\nreason")
        return super().forward(x)


class OneSize(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.fc = nn.Linear(in_channels * 32 * 32, num_classes)

    def forward(self, x):
        return self.fc(x.flatten(1))


class OneByOne(Net):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).mean((2, 3), keepdim=True)).flatten(1))


class Squeezing(Net):
    def forward(self, x):
        return super().forward(x).squeeze()


class NotANumber(Net):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y * float("nan")


class NotANumberWhileTrained(Net):
    def forward(self, x):
        y = super().forward(x)
        return y / 0 if self.training else y


class Panic(BaseException):
    pass


class Panics(Net):
    error = Panic("boom")

    def forward(self, x):
        raise self.error


class Leaves(Panics):
    error = GeneratorExit()


class Exits(Panics):
    error = SystemExit(0)


class PanicsWhileTrained(Net):
    def forward(self, x):
        if self.training:
            raise Panic("boom")
        return super().forward(x)


class Unspeakable(Panics):
    class Error(Exception):
        def __str__(self):
            raise ValueError

    error = Error()


class Half(Net):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.register_buffer("scale", torch.ones(1, dtype=torch.bfloat16))
"""


@pytest.fixture(autouse=True, scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("models")
    (folder / "tried_models.py").write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def student(**changes: Any) -> Distill:
    small = {"student": "convnet4", "batch_size": 16}
    text = [f"distill.{key}={value}" for key, value in (small | changes).items()]
    return load_params(PARAMS, text).distill


def refusal(**changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        try_student(student(**changes), DATASET)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tried_models:Pair",
            "student 'tried_models:Pair': a training batch of 16 images (1, 8, 8) gave tuple; expected ",
        ),
        ("tried_models:Small", "gave Tensor of shape (16, 3); expected logits, a float tensor of shape (16, 4)"),
        ("tried_models:Squeezed", "failed: KeyError: 'no\\nreason' (tried_models.py, line "),
        ("tried_models:Frozen", "failed: RuntimeError: element 0 of tensors does not require grad"),
        (
            "tried_models:Squeezing",
            "forward returned Tensor of shape (4,); expected logits, a float tensor of shape (1, 4), for one image",
        ),
        ("tried_models:NotANumber", "forward returned 8 of 8 values that are NaN or infinite; expected finite logits"),
        (
            "tried_models:NotANumberWhileTrained",
            "gave 64 of 64 values that are NaN or infinite; expected finite logits",
        ),
        ("tried_models:Panics", "forward failed for two images (1, 8, 8): Panic: boom (tried_models.py, line "),
        ("tried_models:PanicsWhileTrained", "images (1, 8, 8) failed: Panic: boom (tried_models.py, line "),
        ("tried_models:Leaves", "forward failed for two images (1, 8, 8): GeneratorExit:"),
        ("tried_models:Exits", "model 'tried_models:Exits': forward called sys.exit(0) (tried_models.py, line "),
        ("tried_models:Unspeakable", "Error: (its message can't be shown: ValueError) (tried_models.py, line "),
        (
            "tried_models:OneSize",
            "model 'tried_models:OneSize': forward failed for two images (1, 8, 8): RuntimeError: addmm: mat1",
        ),
        ("timm:vit_tiny_patch16_224", "failed: AssertionError: Input height (8) doesn't match model (224).; is it"),
        (
            "timm:vit_tiny_patch16_224",
            "; is it made for images of this size? `preprocessing` with a `size` resizes them",
        ),
        ("timm:vgg11", "a training batch of 16 images (1, 8, 8) failed: "),
        ("tried_models:Half", "expected a kind of number that NumPy has"),
    ],
)
def test_a_student_that_cannot_be_trained_is_refused(name: str, message: str) -> None:
    assert message in refusal(student=name)


def test_the_advice_on_images_is_for_the_forward_pass() -> None:
    text = refusal(student="tried_models:Frozen")
    assert "the backward pass of a training batch" in text and "size" not in text and ".py" not in text


def test_a_size_in_preprocessing_makes_it_fit() -> None:
    sized = "{mean: [0.5], std: [0.25], size: 32}"
    try_student(student(student="tried_models:OneSize", preprocessing=sized), DATASET)


def test_a_last_batch_of_one_is_refused_where_the_student_cannot_take_it() -> None:
    last = COUNT - 1
    assert COUNT % last == 1
    assert refusal(student="tried_models:OneByOne", batch_size=last).endswith(
        "; the last batch of an epoch has one image, choose another batch_size"
    )
    assert "; each batch has one image, choose" in refusal(student="tried_models:OneByOne", batch_size=1)
    for fine in (last - 1, COUNT, COUNT + 5):
        try_student(student(student="tried_models:OneByOne", batch_size=fine), DATASET)
    try_student(student(student="convnet4", batch_size=last), DATASET)  # its maps are larger than 1x1


@pytest.fixture
def coloured() -> Dataset:
    """Return the images in three channels, as torchvision's models take them."""

    def in_colour(samples: Samples) -> Samples:
        assert isinstance(samples.images, torch.Tensor)
        return replace(samples, images=samples.images.repeat(1, 3, 1, 1))

    held_out = {name: in_colour(samples) for name, samples in DATASET.held_out.items()}
    three = Preprocessing((0.3,) * 3, (0.2,) * 3)
    return replace(DATASET, samples=in_colour(DATASET.samples), held_out=held_out, preprocessing=three)


def test_a_student_of_torchvision_is_tried_in_training_mode(coloured: Dataset) -> None:
    """Its last maps are 1x1 for these images, and batch norm takes such maps only of several images."""
    name = "torchvision:shufflenet_v2_x0_5"
    try_student(student(student=name), coloured)
    with pytest.raises(InputError, match=f"student '{name}': .* the last batch of an epoch has one image, choose "):
        try_student(student(student=name, batch_size=COUNT - 1), coloured)


def test_the_sizes_of_an_epochs_batches() -> None:
    assert [batch_sizes(70, size) for size in (16, 35, 69, 70, 100)] == [[16, 6], [35], [69, 1], [70], [70]]


def test_features_that_a_student_lacks_are_found() -> None:
    changes = {"method": "at", "source": "online", "at.stages": "[stage1, stage9]"}
    assert refusal(**changes).startswith(
        "student 'convnet4' of method at, distill.at.stages: model ConvNet has no feature 'stage9'"
    )
    try_student(student(**changes | {"at.stages": "[stage1]"}), DATASET)


def test_a_file_of_weights_that_does_not_fit_is_found(tmp_path: Path) -> None:
    torch.save(build_model("convnet8", CLASSES, in_channels=1).state_dict(), tmp_path / "w.pt")
    assert "% of it fits model convnet8 for 4 classes" in refusal(weights=tmp_path / "w.pt")
    assert "no such file" in refusal(weights=tmp_path / "none.pt")
    try_student(student(student="convnet8", weights=tmp_path / "w.pt"), DATASET)


def test_nothing_is_changed_by_a_trial() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    try_student(student(), DATASET)
    assert torch.equal(torch.rand(3), expected)


def test_students_that_differ_in_nothing_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Distill] = []
    monkeypatch.setattr(trial, "try_student", lambda settings, dataset: tried.append(settings))
    params = load_params(PARAMS)
    runs = [params.variant(run) for run in params.compare.runs]
    several = [params.distill, *runs, params.variant("kd,batch_size=32"), params.variant("kd", student="resnet8")]
    try_students([("distill", one) for one in several], DATASET)
    assert [(one.student, one.batch_size) for one in tried] == [("convnet8", 64), ("convnet8", 32), ("resnet8", 64)]


def test_a_feature_that_the_student_lacks_is_named_with_its_setting() -> None:
    one = student(student="tried_models:Net", method="kd+ofd", source="online")
    expected = "expected the path of a module or of one within it: conv, fc"
    with pytest.raises(InputError) as caught:
        try_students([("generations.two", one)], DATASET)
    assert str(caught.value) == (
        "student 'tried_models:Net' of method kd+ofd, generations.two.ofd.stages: "
        f"model Net has no feature 'stage1.pre'; {expected}"
    )
    assert refusal(student="tried_models:Net", method="rkd", source="online").startswith(
        "student 'tried_models:Net' of method rkd, distill.rkd.feature: model Net has no feature 'pooled'"
    )


def test_an_error_of_a_generation_names_its_own_section() -> None:
    one = student(method="dist", batch_size=COUNT - 1)
    with pytest.raises(InputError, match=r"^generations.two.batch_size is \d+: of \d+ samples the last batch has 1; "):
        try_students([("generations.two", one)], DATASET)


def run(settings: Any, students: list[Distill], tmp_path: Path, said: list[str]) -> dict[str, Any]:
    context = replace(context_in(tmp_path), say=said.append)
    return run_teacher(
        "large",
        settings,
        DATASET,
        context,
        folder=tmp_path / "teacher",
        students=[("distill", one) for one in students],
    )


def test_students_and_the_teacher_are_tried_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prepkd.training.teacher.train", lambda *_, **__: pytest.fail("trained first"))
    good, pair = student(), student(student="tried_models:Pair")
    with pytest.raises(InputError, match=r"^student 'tried_models:Pair': "):
        run(teacher_of(), [good, pair], tmp_path, [])
    with pytest.raises(InputError, match=r"^teacher 'large': a training batch of 16 images"):
        run(teacher_of(model="tried_models:Pair"), [good], tmp_path, [])
    with pytest.raises(InputError, match=r"^teacher 'large': .* the last batch of an epoch has one image"):
        run(teacher_of(model="tried_models:OneByOne", batch_size=COUNT - 1), [good], tmp_path, [])
    assert not (tmp_path / "teacher").exists()


def test_a_teacher_is_doubted_in_one_line(tmp_path: Path) -> None:
    """A random file, then a trained one with its classes in another order, then a card that claims too much."""
    state = build_model("convnet4", CLASSES, in_channels=1).state_dict()
    path = tmp_path / "w.pt"
    torch.save({"model": state, "accuracy": 93.0}, path)
    said: list[str] = []
    run(teacher_of(weights=path, epochs=0), [], tmp_path, said)
    [chance, claim] = said
    assert (
        chance.startswith("warning: teacher 'large' is right on ")
        and "; likely causes: preprocessing (mean, " in chance
    )
    assert "its file claims 93.0%; likely causes: " in claim
