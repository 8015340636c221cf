"""Teachers trained with a new view per epoch, from given weights, or from a user's own model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import build_model
from prepkd.models.new import new_model
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.stages.train_teacher import work_described
from prepkd.training.checkpoints import Row
from prepkd.training.initial import given_weights
from prepkd.training.teacher import teacher_card, teacher_views, train_teacher
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan
from small_training import (
    CLASSES,
    COUNT,
    DATASET,
    ignore,
    same,
    settings,
)
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")


def teacher_settings(**changes: Any) -> Teacher:
    return Teacher.model_validate(
        settings().model_dump(exclude_unset=True) | {"model": "convnet4", "epochs": 2, "seed": 3} | changes
    )


def taught(chosen: Teacher, checkpoint: Path, dataset: Dataset = DATASET) -> tuple[dict[str, Tensor], list[Row]]:
    model, history = train_teacher(chosen, dataset, checkpoint=checkpoint, on_epoch=ignore)
    return model.body.state_dict(), history


def test_given_weights_are_taken_as_they_are_or_started_from(tmp_path: Path) -> None:
    body = build_model("convnet4", CLASSES, in_channels=1)
    torch.save(body.state_dict(), tmp_path / "given.pth")
    given = {"weights": tmp_path / "given.pth"}
    weights, history = taught(teacher_settings(**given, epochs=0), tmp_path / "run.pt")
    assert same(weights, body.state_dict())
    assert history == []
    assert not (tmp_path / "run.pt").exists()
    from_given, _ = taught(teacher_settings(**given), tmp_path / "given.pt")
    from_scratch, history = taught(teacher_settings(), tmp_path / "scratch.pt")
    assert not same(from_given, from_scratch)
    assert len(history) == 2


def test_given_weights_count_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "given.pth"
    assert given_weights(teacher_settings(), "convnet4") == {}
    path.write_bytes(b"abc")
    assert given_weights(teacher_settings(weights=path), "convnet4") == {
        "given_weights": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }


def test_missing_weights_say_which_setting_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "missing.pth"
    with pytest.raises(InputError) as caught:
        given_weights(teacher_settings(weights=path), "convnet4")
    assert str(caught.value) == (f"{path}: no such file; set teachers.NAME.weights to a file of weights, or remove it")
    with pytest.raises(InputError, match=r"no such file; expected a model's weights$"):
        taught(teacher_settings(weights=path), tmp_path / "run.pt")


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("(y, x)", "forward returned tuple; expected logits, a float tensor of shape (2, {classes})"),
        ("y[:, 1:]", "forward returned Tensor of shape (2, {fewer}); expected logits"),
        ("y.argmax(1)", "forward returned Tensor of shape (2,), torch.int64; expected logits"),
        ("y.softmax(-1)", "forward returned probabilities; expected raw logits: the output of the last layer, without"),
        ("y - y.mean(0)", "an image's logits depend on the rest of the batch"),
    ],
)
def test_a_users_own_model_that_answers_otherwise_is_refused_before_training(
    returned: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = f"answers_{abs(hash(returned))}"
    (tmp_path / f"{module}.py").write_text(
        "from torch import nn\n\n"
        "class Own(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(64 * in_channels, num_classes)\n\n"
        "    def forward(self, x):\n"
        "        y = self.layer(x.flatten(1))\n"
        f"        return {returned}\n"
    )
    with pytest.raises(InputError) as caught:
        taught(teacher_settings(model=f"{module}:Own"), tmp_path / "run.pt")
    message = found.format(classes=CLASSES, fewer=CLASSES - 1)
    assert str(caught.value).startswith(f"model '{module}:Own': {message}")
    assert not (tmp_path / "run.pt").exists()


def test_a_users_own_factory_is_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_teachers.py").write_text(
        "from torch import nn\n\n"
        "def flat(*, num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    weights, history = taught(teacher_settings(model="my_teachers:flat"), tmp_path / "run.pt")
    assert weights["1.weight"].shape == (CLASSES, 64)
    assert len(history) == 2
    torch.save(weights, tmp_path / "own.pth")
    taken, _ = taught(
        teacher_settings(model="my_teachers:flat", weights=tmp_path / "own.pth", epochs=0), tmp_path / "no.pt"
    )
    assert same(taken, weights)


def test_a_teacher_sees_a_new_view_each_epoch(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Listening(ViewPlan):
        def parameters(self, view: Any, samples: Any = slice(None)) -> Any:
            asked.append(view)
            return super().parameters(view, samples)

    assert [teacher_views(teacher_settings(epochs=n, weights="w.pth")) for n in (0, 1, 5)] == [1, 1, 5]
    chosen = teacher_settings(epochs=3)
    taught(chosen, tmp_path / "run.pt", replace(DATASET, plan=Listening(["flip"], teacher_views(chosen), 3, COUNT)))
    assert asked == [0, 1, 2]


def test_a_teachers_loss_is_smoothed_cross_entropy(tmp_path: Path) -> None:
    eps = 0.2
    chosen = teacher_settings(epochs=1, batch_size=COUNT, label_smoothing=eps)
    _, [row] = taught(chosen, tmp_path / "run.pt")
    model = new_model("convnet4", DATASET, torch_seed(3, Purpose.TEACHER_WEIGHTS.stream())).train()
    pixels = DATASET.plan.render(DATASET.samples.images, torch.from_numpy(DATASET.plan.parameters(0)))
    expected = 0.0
    for logits, label in zip(model(pixels).detach().double(), DATASET.samples.labels.tolist(), strict=True):
        target = [(1 - eps) * (k == label) + eps / CLASSES for k in range(CLASSES)]
        log_sum = float(logits.exp().sum().log())
        expected -= sum(p * (float(z) - log_sum) for p, z in zip(target, logits, strict=True)) / COUNT
    assert row["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_teachers_card_says_what_it_is() -> None:
    chosen = teacher_settings()
    card = teacher_card(new_model("convnet4", DATASET, 0), chosen, DATASET, {"dataset": "noise"})
    # convolutions 4 * 9 and 8 * 4 * 9, two batch norms, the classifier
    assert card["parameters"] == 4 * 9 + 8 * 4 * 9 + 2 * 4 + 2 * 8 + 8 * CLASSES + CLASSES
    assert (card["model"], card["num_classes"], card["in_channels"]) == ("convnet4", CLASSES, 1)
    assert card["training"] == chosen.model_dump(mode="json")
    assert card["inputs"] == {"dataset": "noise"}


def test_the_first_line_tells_training_from_given_weights(tmp_path: Path) -> None:
    images = f"of {COUNT} images on cpu, 1 thread"
    assert work_described(teacher_settings(), DATASET) == f"training convnet4, 2 epochs {images}"
    assert work_described(teacher_settings(epochs=1), DATASET) == f"training convnet4, 1 epoch {images}"
    given = teacher_settings(epochs=0, weights=tmp_path / "given.pth")
    assert work_described(given, DATASET) == "convnet4 with the given weights, unchanged, on cpu, 1 thread"
