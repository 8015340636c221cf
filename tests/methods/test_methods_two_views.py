"""MLKD and CRLD: against loops in float64, fixed points, symmetries, the published code's traps, and as parts of a method."""

import math
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from divergences import LABELS, logits, settings
from naive_losses import kl, softmax
from prepkd.losses import crld, cross_entropy, kl_divergence, mlkd, probability_shift, standardise
from prepkd.methods.grammar import parse_method
from prepkd.methods.objective import Objective
from torch import Tensor

TEMPERATURES = [4.0, 3.0, 5.0, 2.0, 6.0]
CRLD = {"tau": 4.0, "same_view": 2.0, "cross_view": 0.5, "weak_threshold": 0.9, "strong_threshold": 0.2}
Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "mlkd": lambda *views: mlkd(*views, temperatures=TEMPERATURES),
    "as-published": lambda *views: mlkd(*views, temperatures=TEMPERATURES, form="as-published"),
    "crld": lambda *views: crld(*views, **{**CRLD, "weak_threshold": 0.6, "strong_threshold": 0.8}),
}
every = pytest.mark.parametrize("name", LOSSES)


def four(samples: int = 5, classes: int = 6) -> list[Tensor]:
    """Return the logits of student and teacher in the weak view, then in the strong one."""
    return [logits(seed, samples, classes) for seed in range(4)]


def rows_of(probs: list[list[float]]) -> list[list[float]]:
    """Return P P'."""
    return [[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in probs] for p in probs]


def naive_mlkd(views: list[Tensor], *, published: bool) -> list[float]:
    v, t, strong_v, strong_t = (view.tolist() for view in views)
    batch, classes = len(v), len(v[0])
    confidence = [max(softmax(row, 1.0)) for row in t]
    mass = [math.fsum(softmax(row, 1.0)[k] for row in t) for k in range(classes)]
    rows = [float(one <= median(confidence)) for one in confidence]
    columns = [float(one <= median(mass)) for one in mass]
    if published:  # the published order: the batch's mean times the mask, then the mean
        rows, columns = [sum(rows) / batch] * batch, [sum(columns) / classes] * classes
    total = [0.0] * batch
    for place, tau in enumerate(TEMPERATURES):
        p, q = ([softmax(row, tau) for row in one] for one in (v, t))
        samples = zip(rows_of(p), rows_of(q), strict=True)
        of_samples = [math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for x, y in samples]
        across = zip(rows_of(list(zip(*p, strict=True))), rows_of(list(zip(*q, strict=True))), strict=True)
        of_classes = [math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for x, y in across]
        shared = math.fsum(n * one for n, one in zip(columns, of_classes, strict=True)) / classes
        other = (v, t) if published and place > 2 else (strong_v, strong_t)
        for i in range(batch):
            own, again = kl(v[i], q[i], tau), kl(other[0][i], softmax(other[1][i], tau), tau)
            total[i] += rows[i] * (own + of_samples[i]) + shared + again
    return total


@pytest.mark.parametrize("shape", [(5, 6), (4, 6), (6, 7), (2, 2), (1, 5)])
@pytest.mark.parametrize("form", ["as-intended", "as-published"])
def test_mlkd_is_the_loop(form: str, shape: tuple[int, int]) -> None:
    views = four(*shape)
    found = mlkd(*views, temperatures=TEMPERATURES, form=form)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(naive_mlkd(views, published=form == "as-published"), rel=1e-10)


def test_the_published_mean_is_the_authors_arithmetic() -> None:
    """The authors multiply a level's mean over the batch by the mask, so only the masked share of rows matters."""
    views = four()
    v, t, strong_v, strong_t = views
    confidence, expected = torch.softmax(t, 1).amax(1), torch.zeros((), dtype=torch.float64)
    mass = torch.softmax(t, 1).sum(0)
    rows, columns = confidence <= confidence.quantile(0.5), mass <= mass.quantile(0.5)
    for tau in TEMPERATURES:
        p, q = torch.softmax(v / tau, 1), torch.softmax(t / tau, 1)
        weak = kl_divergence(v, target_logits=t, tau=tau).mean()
        other = kl_divergence(strong_v, target_logits=strong_t, tau=tau).mean()
        pairs = ((p @ p.T - q @ q.T) ** 2).sum() / len(v)
        classes = ((p.T @ p - q.T @ q) ** 2).sum() / v.shape[1]
        expected += (weak * rows).mean() + (pairs * rows).mean() + (classes * columns).mean()
        expected += weak if tau in (2.0, 6.0) else other
    torch.testing.assert_close(mlkd(*views, temperatures=TEMPERATURES, form="as-published").mean(), expected)


def test_the_masks_of_rows_are_not_their_share() -> None:
    """With masked rows, half of the rows get no weak KL; the published code loses this."""
    v, t, *_ = four()
    still = [v, t, t, t]  # no loss in the strong view
    intended = mlkd(*still, temperatures=[4.0])
    p, q = torch.softmax(v / 4, 1), torch.softmax(t / 4, 1)
    mass = torch.softmax(t, 1).sum(0)
    shared = ((p.T @ p - q.T @ q) ** 2).sum(1)[mass <= mass.median()].sum() / 6
    confident = torch.softmax(t, 1).amax(1) > torch.softmax(t, 1).amax(1).median()
    assert confident.sum() == 2
    torch.testing.assert_close(intended[confident], shared.expand(2))
    assert (intended[~confident] > shared + 1e-3).all()
    assert (mlkd(*still, temperatures=[4.0], form="as-published") > shared).all()


def test_the_published_code_shows_the_weak_view_again_at_2_and_6() -> None:
    v, t, strong_v, strong_t = four()
    other = logits(9)
    for form, counted in (("as-published", (4.0, 3.0, 5.0)), ("as-intended", TEMPERATURES)):
        loss = partial(mlkd, temperatures=TEMPERATURES, form=form)
        each = [
            kl_divergence(other, target_logits=strong_t, tau=tau)
            - kl_divergence(strong_v, target_logits=strong_t, tau=tau)
            for tau in counted
        ]
        torch.testing.assert_close(
            loss(v, t, other, strong_t) - loss(v, t, strong_v, strong_t), torch.stack(each).sum(0)
        )


def test_the_standardisation_changes_what_is_compared_and_not_the_confidence() -> None:
    """Standardised rows of few classes have no confidence of 0.9: they would shut crld's gate for good."""
    views = four()
    views[1:4:2] = [60 * torch.eye(6, dtype=torch.float64)[:5] + view for view in views[1:4:2]]
    z = [standardise(view) for view in views]
    assert torch.softmax(views[1], 1).amax(1).min() > 0.9 > torch.softmax(z[1], 1).amax(1).max()
    for weight in ("same_view", "cross_view"):
        one = {**CRLD, "same_view": 0.0, "cross_view": 0.0, weight: 1.0}
        open_gates = {**one, "weak_threshold": 0.0, "strong_threshold": 0.0}
        torch.testing.assert_close(crld(*views, standardise=standardise, **one), crld(*z, **open_gates))
    views = four()
    z = [standardise(view) for view in views]
    v, t = views[:2]
    relations = mlkd(v, t, t, t, temperatures=[3.0]) - mlkd_kl(v, t, t)
    expected = mlkd_kl(z[0], z[1], t) + kl_divergence(z[2], target_logits=z[3], tau=3.0) + relations
    torch.testing.assert_close(mlkd(*views, temperatures=[3.0], standardise=standardise), expected)


def mlkd_kl(student: Tensor, teacher: Tensor, confidence_of: Tensor) -> Tensor:
    """The weak view's KL at temperature 3 for the less confident half of `confidence_of`."""
    confidence = torch.softmax(confidence_of, 1).amax(1)
    return (confidence <= confidence.median()) * kl_divergence(student, target_logits=teacher, tau=3.0)


@pytest.mark.parametrize("form", ["as-intended", "as-published"])
def test_a_very_confident_teacher_still_has_a_less_confident_half(form: str) -> None:
    """In float32 a confidence above 1 - 6e-8 is 1."""
    teacher = torch.eye(6)[[0, 0, 0, 1, 1, 2]] * torch.arange(24.0, 30.0).unsqueeze(1)
    student = logits(0, 6, 6).float()
    assert (torch.softmax(teacher, 1).amax(1) == 1).all()
    found = mlkd(student, teacher, teacher, teacher, temperatures=[3.0], form=form)  # type: ignore[arg-type]
    double = [one.double() for one in (student, teacher, teacher, teacher)]
    torch.testing.assert_close(found.double(), mlkd(*double, temperatures=[3.0], form=form), rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_crld_is_the_loop() -> None:
    views = four()
    v, t, strong_v, strong_t = (view.tolist() for view in views)
    expected, gates = [], []
    for i in range(len(v)):
        weak, strong = max(softmax(t[i], 1.0)) >= 0.6, max(softmax(strong_t[i], 1.0)) >= 0.8
        to = softmax(t[i], 4.0), softmax(strong_t[i], 4.0)
        same = kl(v[i], to[0], 4.0) + kl(strong_v[i], to[1], 4.0)
        cross = kl(strong_v[i], to[0], 4.0) + kl(v[i], to[1], 4.0)
        expected.append(2 * weak * same + 0.5 * strong * cross)
        gates.append((weak, strong))
    assert len(set(gates)) > 2, "both gates open and shut"
    assert LOSSES["crld"](*views).tolist() == pytest.approx(expected, rel=1e-10)


def test_without_thresholds_and_with_equal_views_crld_is_kd_times_its_weights() -> None:
    v, t, *_ = four()
    found = crld(v, t, v, t, **{**CRLD, "weak_threshold": 0.0, "strong_threshold": 0.0})
    torch.testing.assert_close(found, (2 * 2 + 0.5 * 2) * kl_divergence(v, target_logits=t, tau=4.0))


def test_the_weak_gate_also_holds_the_strong_views_own_part() -> None:
    """As in the published code, the weak view's gate applies to the strong view's own part; a gate per view is another method."""
    v, _, strong_v, _ = four(1)
    shy, sure = torch.zeros(1, 6, dtype=torch.float64), 50 * torch.eye(6, dtype=torch.float64)[:1]
    only_same = {**CRLD, "cross_view": 0.0}
    assert float(crld(v, shy, strong_v, sure, **only_same)) == 0 < float(crld(v, sure, strong_v, shy, **only_same))
    only_cross = {**CRLD, "same_view": 0.0}
    assert float(crld(v, sure, strong_v, shy, **only_cross)) == 0 < float(crld(v, shy, strong_v, sure, **only_cross))


def test_a_threshold_is_reached_by_equality() -> None:
    even = torch.zeros(2, 2)
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    at = {**CRLD, "weak_threshold": 0.5, "strong_threshold": 0.5}
    assert (crld(v, even, v, even, **at) > 0).all()


def test_crld_takes_a_temperature_for_each_sample() -> None:
    views, taus = four(), torch.linspace(1, 9, 5, dtype=torch.float64)
    alone = [crld(*(view[[i]] for view in views), **{**CRLD, "tau": float(taus[i])}) for i in range(5)]
    torch.testing.assert_close(crld(*views, **{**CRLD, "tau": taus}), torch.cat(alone))


# Both methods


@every
def test_a_student_that_is_its_teacher_in_both_views_is_at_rest(name: str) -> None:
    """CRLD compares across views: it is zero only if the teacher's answers to both views are equal."""
    _, teacher, _, strong_teacher = four()
    strong_teacher = teacher if name == "crld" else strong_teacher
    student, strong = (one.clone().requires_grad_() for one in (teacher, strong_teacher))
    loss = LOSSES[name](student, teacher, strong, strong_teacher)
    assert float(loss.detach().abs().max()) < 1e-12
    assert all(float(one.abs().max()) < 1e-12 for one in torch.autograd.grad(loss.sum(), (student, strong)))


@every
def test_shifts_and_the_order_of_classes_and_samples_do_not_matter(name: str) -> None:
    views = four()
    plain = LOSSES[name](*views)
    moved = [view + (i + 1) * torch.arange(5.0).unsqueeze(1) for i, view in enumerate(views)]
    torch.testing.assert_close(LOSSES[name](*moved), plain)
    classes, samples = torch.tensor([3, 1, 0, 5, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(LOSSES[name](*(view[:, classes] for view in views)), plain)
    torch.testing.assert_close(LOSSES[name](*(view[samples] for view in views)), plain[samples])


@every
def test_no_gradient_flows_into_the_teacher_and_the_students_is_that_of_finite_differences(name: str) -> None:
    v, t, strong_v, strong_t = (view.requires_grad_() for view in four(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: LOSSES[name](a, t.detach(), b, strong_t.detach()), (v, strong_v))
    loss = LOSSES[name](v, t, strong_v, strong_t).sum()
    assert torch.autograd.grad(loss, [t, strong_t], allow_unused=True) == (None, None)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_full_precision_stays(name: str, dtype: torch.dtype) -> None:
    halves = [view.to(dtype).requires_grad_() for view in four()]
    loss = LOSSES[name](*halves)
    assert torch.equal(loss, LOSSES[name](*(half.float() for half in halves))) and loss.dtype == torch.float32
    assert all(one.isfinite().all() for one in torch.autograd.grad(loss.sum(), (halves[0], halves[2])))
    assert LOSSES[name](*four()).dtype == torch.float64


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_extreme_logits_and_rows_of_zeros_stay_finite(name: str, dtype: torch.dtype) -> None:
    rows = torch.zeros(6, 5)
    for i, (k, value) in enumerate([(2, 8000.0), (2, -8000.0), (1, 8000.0), (0, 80.0), (1, -1000.0)]):
        rows[i, k] = value
    v, t = rows.repeat_interleave(6, 0).to(dtype).requires_grad_(), rows.repeat(6, 1).to(dtype)
    strong_v, strong_t = v.detach().flip(0).requires_grad_(), t.roll(1, 0)
    loss = LOSSES[name](v, t, strong_v, strong_t)
    assert loss.isfinite().all()
    assert all(one.isfinite().all() for one in torch.autograd.grad(loss.sum(), (v, strong_v)))


@every
def test_two_classes_and_a_batch_of_one_are_enough(name: str) -> None:
    for shape in ((5, 2), (1, 6), (1, 2)):
        found = LOSSES[name](*four(*shape))
        assert found.shape == (shape[0],) and found.isfinite().all()


# In a method


def of_objective(method: str, views: list[Tensor], labels: Tensor = LABELS, **changes: Any) -> dict[str, Tensor]:
    objective = Objective(settings(method, **{"views_per_step": 2, **changes}).terms)
    v, t, strong_v, strong_t = views
    answers = {}
    for prefix, one in (("", t), ("strong/", strong_t)):
        answers |= {f"{prefix}logits": one - one.amax(1, keepdim=True), f"{prefix}row_max": one.amax(1)}
    return objective({"logits": v, "strong/logits": strong_v}, labels, answers)


def with_swaps(views: list[Tensor]) -> list[Tensor]:
    return [view if i % 2 == 0 else probability_shift(view, LABELS) for i, view in enumerate(views)]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mlkd", lambda views: LOSSES["mlkd"](*views)),
        ("ka-ps+mlkd", lambda views: LOSSES["mlkd"](*with_swaps(views))),
        ("ls+mlkd", lambda views: mlkd(*views, temperatures=TEMPERATURES, standardise=standardise)),
        ("crld", lambda views: crld(*views, **CRLD)),
        ("ls+crld", lambda views: crld(*views, **CRLD, standardise=standardise)),
        ("ka-ps+crld", lambda views: crld(*with_swaps(views), **CRLD)),
    ],
)
def test_the_objective_is_the_function_on_both_views(method: str, expected: Callable[..., Tensor]) -> None:
    views = four()
    values = of_objective(method, views)
    torch.testing.assert_close(values["kd"], expected(views))
    ce = (cross_entropy(views[0], LABELS) + cross_entropy(views[2], LABELS)) / 2
    torch.testing.assert_close(values["ce"], ce)
    ce_weight, kd_weight = settings(method, views_per_step=2).loss_weights
    torch.testing.assert_close(values["loss"], ce_weight * ce + kd_weight * values["kd"])
    assert parse_method(method).views == 2


def test_the_weights_of_auto_are_the_authors_for_both_views() -> None:
    """The authors use 0.1 (CE_w + CE_s) + 0.9 ..., and CE_w + CE_s + ...; here CE is the mean of both views."""
    found = [settings(method, views_per_step=2).loss_weights for method in ("mlkd", "crld")]
    assert found == [(2 * 0.1, 0.9), (2 * 1.0, 1.0)]


def test_one_temperature_of_the_weak_view_serves_both() -> None:
    views = four()
    values = of_objective("dtd-flsw+crld", views)
    alone = Objective(settings("dtd-flsw").terms)
    answers = {"logits": views[1] - views[1].amax(1, keepdim=True), "row_max": views[1].amax(1)}
    tau = alone({"logits": views[0]}, LABELS, answers)["tau"]
    assert torch.equal(values["tau"], tau) and len(tau.unique()) > 1
    torch.testing.assert_close(values["kd"], crld(*views, **{**CRLD, "tau": tau.double()}), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["ce", "kd", "ka-ps+dtd-flsw", "ka-lsr", "dkd", "lsr+kd"])
def test_a_method_of_one_view_is_the_mean_over_both(method: str) -> None:
    views = four()
    values = of_objective(method, views)
    each = [of_objective(method, views[i : i + 2] * 2, views_per_step=1) for i in (0, 2)]
    for name in ("loss", "ce", *(["kd"] if method != "ce" else [])):
        torch.testing.assert_close(values[name], (each[0][name] + each[1][name]) / 2)
    assert values.keys() == each[0].keys()
    if "adjusted" in values:
        torch.testing.assert_close(values["adjusted"], (each[0]["adjusted"] + each[1]["adjusted"]) / 2)


def test_figures_of_a_group_are_means_over_the_views_in_which_a_sample_is_in_it() -> None:
    views = four()
    labels = views[3].argmax(1)  # the teacher is right in the strong view
    values = of_objective("ka-lsr", views, labels)
    each = [of_objective("ka-lsr", views[i : i + 2] * 2, labels, views_per_step=1)["gradient_adjusted"] for i in (0, 2)]
    wrong = [~one.isnan() for one in each]
    only_weak = wrong[0] & ~wrong[1]
    assert only_weak.any() and torch.equal(values["gradient_adjusted"][only_weak], each[0][only_weak])


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("mlkd+dtd-flsw", "mlkd has a set of temperatures of its own"),
        ("ka-lsr+mlkd", "mlkd needs logits, ka-lsr gives probabilities"),
        ("label-revision+crld", "crld needs logits, label-revision gives probabilities"),
        ("mlkd+crld", "one of them"),
    ],
)
def test_combinations_without_a_meaning_are_refused(method: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_method(method)
