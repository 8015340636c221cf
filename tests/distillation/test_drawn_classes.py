"""Stores of drawn classes give unbiased gradients of kd and KA; other methods are refused with the reason."""

from pathlib import Path

import pytest
import torch
from prepkd.catalogue.requirements import example
from prepkd.catalogue.rows import needs, rows
from prepkd.distillation.drawn_classes import check_encoding, draw_note, encoding_conflict
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.objective import Objective
from prepkd.methods.terms import TERMS
from prepkd.project.method_check import contradictions
from prepkd.project.params import load_params
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.topk import TopK
from prepkd.teacher.settings import Cache
from torch import Tensor

PARAMS = Path(__file__).parents[2] / "params.yaml"
SERVED = {"ce", "kd", "dtd-cwsm", "ka-ps", "ka-lsr"}
CLASSES, GRID = 12, 2**11


def settings_of(method: str, **changes: object) -> Distill:
    return Distill.model_validate({"teacher": "t", "student": "resnet8x4", "epochs": 1, "method": method} | changes)


def cache_of(encoding: str, **changes: object) -> Cache:
    return Cache.model_validate({"views": 1, "encoding": encoding} | changes)


def gradient(method: str, student: Tensor, labels: Tensor, answers: dict[str, Tensor], tau: float = 4.0) -> Tensor:
    """Gradient of the method's loss with respect to each row of logits, (N, K)."""
    logits = student.clone().requires_grad_()
    objective = Objective(settings_of(method, kd={"tau": tau}).terms)
    objective({"logits": logits}, labels, answers)["loss"].sum().backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("method", ["kd", "ka-ps", "ka-lsr"])
@pytest.mark.parametrize("right", [True, False])
def test_the_expected_gradient_is_the_full_answers(method: str, right: bool) -> None:
    """The mean gradient over a grid of draws is that of full logits; topk with as many classes is over ten times as biased."""
    generator = torch.Generator().manual_seed(4)
    row, student = (3 * torch.randn(1, CLASSES, generator=generator, dtype=torch.float64).float() for _ in range(2))
    label = row.argmax(1) if right else row.argsort(1)[:, 4]
    full = {"logits": row - row.amax(1, keepdim=True), "row_max": row.amax(1)}
    wanted = gradient(method, student, label, full)
    encoding = Sampled(CLASSES, n=5)
    words = torch.arange(GRID) * (2**40 // GRID) + 2**28
    stored = encoding.encode(row.expand(GRID, -1), label.expand(GRID), words)
    each = gradient(method, student.expand(GRID, -1), label.expand(GRID), encoding.decode(stored))
    bias = (each.mean(0) - wanted[0]).norm().item()
    topk = TopK(CLASSES, k=5)
    truncated = gradient(method, student, label, topk.decode(topk.encode(row, label)))
    if method == "ka-lsr" and not right:
        assert bias < 1e-6, "the target is the label's"
        return
    assert bias < 2e-3 * wanted.norm().item()
    assert (truncated - wanted).norm().item() > 10 * bias
    assert each.std(0).norm() > 20 * bias, "a draw is not the mean"


def test_another_temperature_is_reweighted_with_a_bias_that_falls_with_n() -> None:
    generator = torch.Generator().manual_seed(5)
    row, student = 4 * torch.randn(1, 100, generator=generator), torch.zeros(1, 100)
    label = row.argmax(1)
    wanted = gradient("kd", student, label, {"logits": row - row.amax(), "row_max": row.amax(1)}, tau=2.0)
    words = torch.arange(GRID) * (2**40 // GRID) + 2**28
    biases = []
    for n in (5, 20, 80):
        encoding = Sampled(100, n=n)
        answers = encoding.decode(encoding.encode(row.expand(GRID, -1), label.expand(GRID), words))
        each = gradient("kd", student.expand(GRID, -1), label.expand(GRID), answers, tau=2.0)
        biases.append((each.mean(0) - wanted[0]).norm().item() / wanted.norm().item())
    assert biases[0] > 2 * biases[1] > 4 * biases[2] and biases[2] < 0.01


def test_every_term_is_served_or_refused_with_its_reason() -> None:
    listed = {row.name: row for row in rows(example()) if row.slot != "schemes"}
    for name, term in TERMS.items():
        on_features_or_labels = listed[name].slot in ("features", "labels")
        assert (term.every_class == "") == (name in SERVED or on_features_or_labels), name
        said = any("not encoding `sampled`: " in line for line in needs(listed[name]))
        assert said == bool(term.every_class), name


@pytest.mark.parametrize("method", ["ce", "kd", "dtd-cwsm", "ka-ps", "ka-lsr", "ka-ps+dtd-cwsm", "ka-ps+at", "at"])
def test_methods_that_are_served(method: str) -> None:
    assert encoding_conflict(settings_of(method), cache_of("sampled")) is None


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("dkd", "dkd: it reads every class's logit"),
        ("ka-ps+dtd-flsw", "dtd-flsw: its weight is the cosine of all logits of student and teacher"),
        ("ls", "ls: it reads every class's logit"),
        ("dist+at", "dist: it reads every class's logit"),
    ],
)
def test_methods_that_are_refused(method: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        check_encoding(settings_of(method), cache_of("sampled"))
    text = str(caught.value)
    assert (
        text.startswith("cache.encoding is sampled, which keeps a draw of the classes, and method ") and reason in text
    )
    assert "\n" not in text
    check_encoding(settings_of(method), cache_of("topk"))


def test_several_teachers_are_refused() -> None:
    text = encoding_conflict(settings_of("kd", teachers=["t", "u"]), cache_of("sampled"))
    assert text is not None and "2 teachers are combined class by class: name one teacher" in text


def test_a_note_says_if_the_temperature_is_another() -> None:
    cache = cache_of("sampled")
    assert (
        draw_note(settings_of("kd"), cache) is None
        and draw_note(settings_of("kd", kd={"tau": 2}), cache_of("f16")) is None
    )
    assert "at kd.tau 2 their weights" in (draw_note(settings_of("kd", kd={"tau": 2}), cache) or "")
    assert "at dtd-cwsm's temperatures" in (draw_note(settings_of("dtd-cwsm"), cache) or "")
    assert draw_note(settings_of("kd", kd={"tau": 2}), cache_of("sampled", sampled={"tau": 2})) is None


def test_methods_check_says_it_too() -> None:
    params = load_params(PARAMS, ["cache.encoding=sampled"])
    assert list(contradictions(params, "kd")) == []
    (text,) = contradictions(params, "dkd")
    assert "cache.encoding is sampled" in text and "dkd" in text
