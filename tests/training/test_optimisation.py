"""AdamW, warm-up, clipping, accumulation and averaged weights: each against explicit arithmetic, each resumed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import ROOT
from numpy.typing import NDArray
from prepkd.models.new import new_model
from prepkd.project.params import load_params
from prepkd.project.scaffold import project_files
from prepkd.training.checkpoints import load_state
from prepkd.training.evaluation import predict, top1
from prepkd.training.optimisers import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from small_training import (
    CLASSES,
    COUNT,
    DATASET,
    EPOCHS,
    Watched,
    cross_entropy,
    fit,
    same,
    settings,
    stop_after,
    timeless,
)
from torch import Tensor, nn
from torch.nn import functional as F

Arrays = dict[str, NDArray[np.float64]]
PLAIN = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
WHOLE = {"batch_size": COUNT, "schedule": "multi-step", "milestones": [99]}  # one step per epoch, all with the same lr


pytestmark = pytest.mark.usefixtures("one_thread")


def start() -> Arrays:
    return {name: value.detach().double().numpy().copy() for name, value in Watched(CLASSES).fc.named_parameters()}


def gradient(w: Arrays, epoch: int) -> Arrays:
    """Return the gradient of softmax regression on the whole set, sample by sample, float64."""
    rows = torch.from_numpy(DATASET.plan.parameters(epoch))
    x = DATASET.plan.render(DATASET.samples.images, rows).double().flatten(1).numpy()
    found = {name: np.zeros_like(value) for name, value in w.items()}
    for pixels, label in zip(x, DATASET.samples.labels.tolist(), strict=True):
        logits = w["weight"] @ pixels + w["bias"]
        error = np.exp(logits) / np.exp(logits).sum() - np.eye(CLASSES)[label]
        found["weight"] += np.outer(error, pixels) / COUNT
        found["bias"] += error / COUNT
    return found


def check(found: dict[str, Tensor], expected: Arrays, rtol: float = 2e-5) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(found[f"fc.{name}"].numpy(), value, rtol=rtol, atol=1e-6)


def test_adamw_by_hand(tmp_path: Path) -> None:
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2: the decay applies to the weights, not to the gradient."""
    (first, second), eps, lr, decay = (0.8, 0.95), 1e-3, 0.05, 0.3
    w = start()
    mean, square = ({name: np.zeros_like(value) for name, value in w.items()} for _ in range(2))
    for step in range(1, 4):
        for name, g in gradient(w, step - 1).items():
            w[name] = w[name] * (1 - lr * decay)
            mean[name] = first * mean[name] + (1 - first) * g
            square[name] = second * square[name] + (1 - second) * g**2
            right = mean[name] / (1 - first**step), square[name] / (1 - second**step)
            w[name] = w[name] - lr * right[0] / (np.sqrt(right[1]) + eps)
    own = {"optimizer": "adamw", "adamw": {"betas": [first, second], "eps": eps}}
    found, _ = fit(
        tmp_path / "run.pt", settings(**WHOLE | own, epochs=3, lr=lr, weight_decay=decay), model=Watched(CLASSES)
    )
    check(found, w)


@pytest.mark.parametrize(
    ("schedule", "after"),
    [
        ({"schedule": "multi-step", "milestones": [2, 3]}, lambda t: 0.1 ** sum(m * 5 <= t for m in (2, 3))),
        ({"schedule": "cosine"}, None),
    ],
)
@pytest.mark.parametrize(("epochs", "steps"), [(0.2, 1), (1, 5), (1.5, 8)])
def test_the_rate_of_every_step_of_a_warm_up(
    schedule: dict[str, Any], after: Callable[[int], float] | None, epochs: float, steps: int
) -> None:
    total = 5 * EPOCHS
    after = after or (lambda t: (1 + np.cos(np.pi * (t - steps) / (total - steps))) / 2)
    chosen = settings(**schedule, warmup_epochs=epochs)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.05)
    rate = make_schedule(chosen.schedule, optimizer, chosen, steps=5)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        assert rate.get_last_lr() == [found[-1]]
        optimizer.step()
        rate.step()
    expected = [0.05 * ((t + 1) / steps if t < steps else after(t)) for t in range(total)]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("schedule", "warmup", "steps", "expected"),
    [
        # Rounded, the warm-up would leave no step to the cosine: one is left, at the full rate.
        ({"schedule": "cosine", "epochs": 1}, 0.99, 5, [0.25, 0.5, 0.75, 1, 1]),
        ({"schedule": "cosine", "epochs": 1}, 0.6, 1, [1]),
        ({"schedule": "multi-step", "milestones": [1], "epochs": 2}, 0.99, 3, [1 / 3, 2 / 3, 1, 0.1, 0.1, 0.1]),
    ],
)
def test_a_warm_up_leaves_a_step_before_the_rate_falls(
    schedule: dict[str, Any], warmup: float, steps: int, expected: list[float]
) -> None:
    chosen = settings(**schedule, warmup_epochs=warmup, lr=1.0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0)
    rate = make_schedule(chosen.schedule, optimizer, chosen, steps=steps)
    found = []
    for _ in range(chosen.epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rate.step()  # the last one too, as in training
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_a_gradient_is_cut_to_its_norm(limit: float, tmp_path: Path) -> None:
    w = start()
    for epoch in range(2):
        g = gradient(w, epoch)
        norm = np.sqrt(sum((value**2).sum() for value in g.values()))
        assert 0.01 < norm < 1e9
        w = {name: w[name] - 0.3 * g[name] * min(1, limit / norm) for name in w}
    chosen = settings(**WHOLE | PLAIN, epochs=2, lr=0.3, clip_grad_norm=limit)
    found, _ = fit(tmp_path / "run.pt", chosen, model=Watched(CLASSES))
    check(found, w, rtol=1e-4)


@pytest.mark.parametrize("own", [{"momentum": 0.0}, {"momentum": 0.6}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_momentum_of_every_step_is_that_of_the_settings(schedule: str, own: dict[str, Any]) -> None:
    """torch's one-cycle schedule would move the momentum between 0.85 and 0.95."""
    betas = [own["momentum"], 0.99]
    more = {"milestones": [2]} if schedule == "multi-step" else {}
    for optimizer in OPTIMIZERS:
        chosen = settings(**own, **more, schedule=schedule, optimizer=optimizer, adamw={"betas": betas})
        made = make_optimizer(optimizer, nn.Linear(2, 2), chosen)
        rate = make_schedule(schedule, made, chosen, steps=5)
        key, expected = {"sgd": ("momentum", own["momentum"]), "adamw": ("betas", tuple(betas))}[optimizer]
        for _ in range(5 * EPOCHS):
            (group,) = made.param_groups
            assert group[key] == expected and group["weight_decay"] == chosen.weight_decay
            made.step()
            rate.step()


def test_the_defaults_are_those_of_the_literature(tmp_path: Path) -> None:
    """RepDistiller and mdistiller use SGD with momentum 0.9 without Nesterov, and weight decay 5e-4 on all parameters."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    (group,) = make_optimizer("sgd", model, settings()).param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, False, 5e-4)
    assert len(group["params"]) == 4, "biases and batch norm included"
    recipe = load_params(ROOT / "recipes/cifar100.yaml", [])
    (tmp_path / "params.yaml").write_text(project_files("cifar100", None, None, None)["params.yaml"])
    started = load_params(tmp_path / "params.yaml", [])
    for params in (recipe, started):
        for one in (*params.teachers.values(), params.distill):
            assert (one.optimizer, one.momentum, one.nesterov, one.weight_decay) == ("sgd", 0.9, False, 5e-4)
            assert (one.epochs, one.batch_size, one.lr, one.lr_decay) == (240, 64, 0.05, 0.1)
            assert (one.schedule, one.milestones) == ("multi-step", [150, 180, 210])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "recipes").glob("*.yaml")))
def test_every_recipe_has_the_literatures_optimiser(name: str) -> None:
    """This includes the short trial on a CPU, whose epochs and schedule differ."""
    params = load_params(ROOT / "recipes" / name, [])
    for one in (*params.teachers.values(), params.distill):
        assert (one.optimizer, one.momentum, one.nesterov, one.weight_decay) == ("sgd", 0.9, False, 5e-4)


@pytest.mark.parametrize("page", ["docs/how-to/training.md", "recipes/cifar100.yaml"])
def test_a_page_states_the_literatures_settings_as_they_are(page: str) -> None:
    text = re.sub(r"[\s#]+", " ", (ROOT / page).read_text())
    stated = {
        "docs/how-to/training.md": r"SGD with momentum (?P<momentum>[\d.]+), without (?P<plain>Nesterov), and a weight decay of "
        r"(?P<decay>\S+) on all parameters.*? its schedule: (?P<epochs>\d+) epochs, batch size (?P<size>\d+), learning rate "
        r"(?P<lr>[\d.]+), divided by (?P<factor>\d+) after epochs (?P<at>\d+, \d+ and \d+)\.",
        "recipes/cifar100.yaml": r"(?P<epochs>\d+) epochs, lr (?P<lr>[\d.]+) lowered at (?P<at>\d+, \d+, \d+), batch size "
        r"(?P<size>\d+), SGD with momentum (?P<momentum>[\d.]+) \(no (?P<plain>Nesterov)\), weight decay (?P<decay>\S+) on all",
    }
    found = re.search(stated[page], text)
    assert found, "the sentence reads otherwise: read its numbers anew"
    recipe = load_params(ROOT / "recipes/cifar100.yaml", []).distill
    for one in (settings(), recipe):
        said = (float(found["momentum"]), not found["plain"], float(found["decay"]))
        assert (one.momentum, one.nesterov, one.weight_decay) == said
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (
        int(found["epochs"]),
        int(found["size"]),
        float(found["lr"]),
    )
    assert recipe.milestones == [int(number) for number in re.findall(r"\d+", found["at"])]
    assert recipe.lr_decay == 1 / float(found.groupdict().get("factor") or 10)


class Double(Watched):
    """A float64 model, so that differences come from mistakes and not from rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc.double()(x.double().flatten(1))


def exact(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
    return {"loss": F.cross_entropy(logits, labels, reduction="none")}


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_accumulated_batches_make_the_steps_of_a_large_one(schedule: str, tmp_path: Path) -> None:
    """70 samples give steps of 24, 24 and 22, in batches of 8 with a last one of 6."""
    found = {}
    for batch_size, accumulate in ((24, 1), (8, 3), (12, 2), (8, 2)):
        chosen = settings(batch_size=batch_size, accumulate=accumulate, schedule=schedule)
        name = f"{batch_size}-{accumulate}"
        found[name], history = fit(tmp_path / name, chosen, model=Double(CLASSES).double(), loss=exact)
        assert len(history) == EPOCHS
    for name in ("8-3", "12-2"):
        for key, value in found["24-1"].items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-11, atol=1e-13)
    assert (found["8-2"]["fc.weight"] - found["24-1"]["fc.weight"]).abs().max() > 1e-4


def test_the_average_of_the_weights_is_a_recursion(tmp_path: Path) -> None:
    decay, model = 0.7, new_model("convnet4", DATASET, 0)
    before_steps: list[dict[str, Tensor]] = []  # parameters, before each step
    statistics: list[dict[str, Tensor]] = []  # batch norm's statistics, after each step's forward pass

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        before_steps.append({name: p.detach().double().clone() for name, p in model.named_parameters()})
        buffers = {name: b for name, b in model.named_buffers() if "running" in name}
        statistics.append({name: b.double().clone() for name, b in buffers.items()})
        return cross_entropy(logits, labels)

    averaged, history = fit(tmp_path / "run.pt", settings(ema=decay), model=model, loss=loss)
    raw = new_model("convnet4", DATASET, 1)
    load_state(tmp_path / "run.pt", {"model": raw})
    before_steps.append({name: p.detach().double() for name, p in raw.named_parameters()})
    for steps in (before_steps[1:], statistics):
        assert len(steps) == 5 * EPOCHS
        for name, average in steps[0].items():
            for step in steps[1:]:
                average = decay * average + (1 - decay) * step[name]
            torch.testing.assert_close(averaged[name].double(), average, rtol=1e-5, atol=1e-7)
    # The evaluated weights are the returned ones; training itself continues with the weights that are not averaged.
    for name, part in DATASET.held_out.items():
        assert history[-1][f"{name}/top1"] == top1(predict(model, part), part.labels)
    plain, _ = fit(tmp_path / "plain.pt", settings())
    assert same(raw.state_dict(), plain)
    assert not same(averaged, plain)


FEATURES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "warm-up, multi-step": {"warmup_epochs": 1.5, "schedule": "multi-step", "milestones": [2]},
    "warm-up, cosine": {"warmup_epochs": 2.5},
    "clipping": {"clip_grad_norm": 0.5},
    "accumulation": {"accumulate": 2, "schedule": "one-cycle"},
    "average": {"ema": 0.9},
    "early stop": {"early_stop": {"patience": 9}},
}
FEATURES["all"] = {key: value for one in FEATURES.values() for key, value in one.items()} | {"milestones": []}
FEATURES["all"]["schedule"] = "cosine"


@pytest.mark.parametrize(("by", "every"), [(MemoryError, 1), (KeyboardInterrupt, 9)])
@pytest.mark.parametrize("feature", FEATURES)
def test_an_interrupted_run_ends_with_the_same_bits(
    feature: str, by: type[BaseException], every: int, tmp_path: Path
) -> None:
    chosen = settings(**FEATURES[feature], checkpoint_every=every)
    weights, history = fit(tmp_path / "whole.pt", chosen)
    with pytest.raises(by):
        fit(tmp_path / "cut.pt", chosen, on_epoch=stop_after(2, by))
    resumed, rows = fit(tmp_path / "cut.pt", chosen, model=new_model("convnet4", DATASET, 99))
    assert same(resumed, weights)
    assert timeless(rows) == timeless(history)
    again, _ = fit(tmp_path / "cut.pt", chosen, model=new_model("convnet4", DATASET, 98))
    assert same(again, weights), "a finished run is loaded"
    plain, _ = fit(tmp_path / "plain.pt", settings())
    assert feature == "early stop" or not same(weights, plain), "the feature does nothing"


def test_settings_that_are_off_are_off(tmp_path: Path) -> None:
    off = {"accumulate": 1, "clip_grad_norm": None, "warmup_epochs": 0, "ema": None, "early_stop": None}
    ours, _ = fit(tmp_path / "off.pt", settings(**off))
    plain, _ = fit(tmp_path / "plain.pt", settings())
    assert same(ours, plain)
