"""Labels that are shares of two classes: the losses against loops, and their equality with plain labels if nothing is mixed."""

import math

import pytest
import torch
from naive_losses import distillation_loss, kl, log_softmax, softmax
from prepkd.data.samples.labels import has_share, is_wrong, main_class, mixture
from prepkd.distillation.student_settings import Distill
from prepkd.losses import label_smooth, probability_shift, teacher_wrong
from torch import Tensor

TAU = 4.0
METHODS = ["ce", "kd", "ka-ps", "ka-lsr", "dtd-flsw", "ka-ps+dtd-cwsm"]


def case(seed: int = 0, rows: int = 60, classes: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return student and teacher logits in float64, both labels, and the first label's share: 0, 1, a tie and values between."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    first, second = (torch.randint(classes, (rows,), generator=generator) for _ in range(2))
    share = torch.rand(rows, generator=generator)
    share[:4] = torch.tensor([0.0, 1.0, 0.5, 0.25])
    return student, teacher, first, second, share


def naive_wrong(t: list[float], a: int, b: int, share: float) -> bool:
    seen = {a} if share == 1 else {b} if share == 0 else {a, b}
    return all(t[k] < max(t) for k in seen)


def naive_loss(method: str, v: list[float], t: list[float], a: int, b: int, share: float) -> float:
    log_q = log_softmax(v, 1.0)
    if method == "ce":
        return -share * log_q[a] - (1 - share) * log_q[b]
    target = softmax(t, TAU)
    if method != "kd" and naive_wrong(t, a, b, share):
        if method == "ka-ps":
            main = a if share > 0.5 or a == b else b if share < 0.5 else min(a, b)
            top = t.index(max(t))
            target[main], target[top] = target[top], target[main]
        else:
            target = [0.1 / len(v) + 0.9 * (share * (k == a) + (1 - share) * (k == b)) for k in range(len(v))]
    return kl(v, target, TAU)


@pytest.mark.parametrize("method", ["ce", "kd", "ka-ps", "ka-lsr"])
def test_losses_are_those_of_loops(method: str) -> None:
    student, teacher, first, second, share = case()
    settings = Distill.model_validate(
        {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method, "kd": {"tau": TAU}}
        | ({} if method == "ce" else {"ce_weight": 0.0, "kd_weight": 1.0})
    )
    labels = mixture(first, second, share, 6)
    row_max = teacher.amax(dim=-1)
    found = distillation_loss(settings, student, labels, teacher - row_max.unsqueeze(-1), row_max)["loss"]
    rows = zip(student.tolist(), teacher.tolist(), first.tolist(), second.tolist(), share.tolist(), strict=True)
    expected = [naive_loss(method, *row) for row in rows]
    torch.testing.assert_close(found.tolist(), expected, rtol=1e-6, atol=1e-7)
    wrong = teacher_wrong(teacher, labels)
    assert 5 < wrong.sum() < 55  # both right and wrong answers occur


@pytest.mark.parametrize("method", METHODS)
def test_shares_of_one_class_are_that_class(method: str) -> None:
    """The values are equal to the last bit, except for the cross-entropy, which sums over more terms."""
    student, teacher, first, _, _ = case(1)
    settings = Distill(teacher="t", student="convnet4", epochs=1, method=method, label_smoothing=0.1)
    row_max = teacher.amax(dim=-1)
    answers = teacher - row_max.unsqueeze(-1), row_max
    whole = mixture(first, first, torch.full((60,), 0.3), 6)
    assert torch.equal(whole, torch.nn.functional.one_hot(first, 6).float())
    ours, theirs = (distillation_loss(settings, student, labels, *answers) for labels in (whole, first))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-12, equal_nan=True)
        assert name in ("loss", "ce") or torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num())


def test_a_teacher_that_names_the_smaller_share_is_right() -> None:
    labels = torch.tensor([[0.9, 0.1, 0.0]])
    named_second, named_third = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    assert not is_wrong(named_second, labels) and is_wrong(named_third, labels)
    assert torch.equal(probability_shift(named_second, labels), named_second)
    assert probability_shift(named_third, labels).tolist() == [[2.0, 1.0, 0.0]]
    smooth = label_smooth(named_third, labels, tau=TAU, eps=0.3)
    torch.testing.assert_close(smooth, torch.tensor([[0.1 + 0.63, 0.1 + 0.07, 0.1]]))
    assert math.isclose(label_smooth(named_second, labels, tau=TAU, eps=0.3).sum().item(), 1, rel_tol=1e-6)


def test_labels_of_either_kind() -> None:
    single, shares = torch.tensor([2, 0]), torch.tensor([[0.0, 0.4, 0.6], [0.5, 0.5, 0.0]])
    assert main_class(single) is single and main_class(shares).tolist() == [2, 0]
    assert has_share(single, 3).tolist() == [[False, False, True], [True, False, False]]
    assert has_share(shares, 3).tolist() == [[False, True, True], [True, True, False]]
    tie = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert is_wrong(tie, torch.tensor([1, 0])).tolist() == [False, True]
