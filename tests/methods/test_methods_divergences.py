"""Contract of all divergences: symmetries, precision, extreme logits, and their results under KA and DTD."""

from collections.abc import Callable

import pytest
import torch
from divergences import LABELS, gradient, logits, of_objective, settings
from prepkd import losses
from prepkd.errors import InputError
from prepkd.losses import probability_shift
from prepkd.methods.grammar import parse_method
from prepkd.methods.objective import Objective
from prepkd.methods.term import Target
from torch import Tensor

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "logit-mse": lambda v, t, y, tau=4.0: losses.logit_mse(v, t),
    "dist": lambda v, t, y, tau=4.0: losses.dist(v, t, tau=tau, beta=1.0, gamma=1.0),
    "dkd": lambda v, t, y, tau=4.0: losses.dkd(v, t, y, tau=tau, alpha=1.0, beta=8.0),
    "nkd": lambda v, t, y, tau=4.0: losses.nkd(v, t, y, tau=tau, gamma=1.5),
    "wttm": lambda v, t, y, tau=4.0: losses.wttm(v, t, gamma=1 / tau),
    "rld": lambda v, t, y, tau=4.0: losses.rld(v, t, y, tau=tau, tau_a=1.0, alpha=1.0, beta=8.0),
    "luminet": lambda v, t, y, tau=4.0: losses.luminet(v, t, tau=tau, alpha=33.0),
    "sld": lambda v, t, y, tau=4.0: losses.sld(v, t, y, temperatures=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
}
OF_THE_SHIFT = {"logit-mse", "luminet"}
OF_THE_BATCH = {"dist", "luminet"}
every = pytest.mark.parametrize("name", LOSSES)


@every
def test_a_shift_of_a_row_matters_only_where_raw_logits_are_asked(name: str) -> None:
    student, teacher, shift = logits(0), logits(1), torch.arange(5.0).unsqueeze(1)
    plain = LOSSES[name](student, teacher, LABELS)
    for moved in ((student + shift, teacher), (student, teacher - 3 * shift)):
        same = torch.allclose(LOSSES[name](*moved, LABELS), plain, rtol=1e-9, atol=1e-9)
        assert same == (name not in OF_THE_SHIFT)
    assert settings(name).terms.needs_raw == (name in OF_THE_SHIFT)


@every
def test_the_order_of_classes_and_of_samples_does_not_matter(name: str) -> None:
    student, teacher = logits(0), logits(1)
    plain = LOSSES[name](student, teacher, LABELS)
    classes, samples = torch.tensor([3, 1, 0, 5, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(LOSSES[name](student[:, classes], teacher[:, classes], classes.argsort()[LABELS]), plain)
    torch.testing.assert_close(LOSSES[name](student[samples], teacher[samples], LABELS[samples]), plain[samples])


@every
def test_a_sample_depends_on_the_others_only_in_losses_of_the_batch(name: str) -> None:
    student, teacher = logits(0), logits(1)
    alone = LOSSES[name](student[:2], teacher[:2], LABELS[:2])
    assert torch.allclose(alone, LOSSES[name](student, teacher, LABELS)[:2]) == (name not in OF_THE_BATCH)


@every
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    assert torch.autograd.gradcheck(lambda v: LOSSES[name](v, teacher, LABELS), student)
    if name not in OF_THE_SHIFT:
        rows = gradient(LOSSES[name](student, teacher, LABELS), student).sum(1)
        assert float(rows.abs().max()) < 1e-10


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_full_precision_stays(name: str, dtype: torch.dtype) -> None:
    student, teacher = logits(0).to(dtype).requires_grad_(), logits(1).to(dtype)
    loss = LOSSES[name](student, teacher, LABELS)
    assert torch.equal(loss, LOSSES[name](student.float(), teacher.float(), LABELS)) and loss.dtype == torch.float32
    assert gradient(loss, student).isfinite().all()
    for full in (torch.float32, torch.float64):
        assert LOSSES[name](logits(0).to(full), logits(1).to(full), LABELS).dtype == full


def extremes(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return all pairs of rows among zeros, one and two peaks, and pits; the label is the third class of five."""
    rows = torch.zeros(7, 5)
    for i, (k, value) in enumerate([(2, 8000.0), (2, -8000.0), (1, 8000.0), (1, -8000.0), (2, 80.0), (2, -1000.0)]):
        rows[i, k] = value
    count = len(rows)
    return rows.repeat_interleave(count, 0).to(dtype), rows.repeat(count, 1).to(dtype), torch.full((count**2,), 2)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tau", [0.5, 4.0])
def test_extreme_logits_and_rows_of_zeros_stay_finite(name: str, dtype: torch.dtype, tau: float) -> None:
    """Naive code gives infinities and NaN here: log(softmax), finite masks, powers of probabilities, and square roots of 0."""
    student, teacher, labels = extremes(dtype)
    student.requires_grad_()
    loss = LOSSES[name](student, teacher, labels, tau)
    assert loss.isfinite().all() and gradient(loss, student).isfinite().all()
    flat = torch.zeros(4, 5, requires_grad=True)  # a classifier that begins at 0
    loss = LOSSES[name](flat, teacher[:4].float(), labels[:4], tau)
    slopes = gradient(loss, flat)
    assert loss.isfinite().all() and slopes.isfinite().all()


@every
def test_two_classes_are_enough(name: str) -> None:
    student, teacher = logits(0, 5, 2).requires_grad_(), logits(1, 5, 2)
    loss = LOSSES[name](student, teacher, LABELS % 2)
    assert loss.shape == (5,) and loss.isfinite().all() and gradient(loss, student).isfinite().all()


@every
def test_a_batch_of_one_is_refused_where_it_has_no_meaning(name: str) -> None:
    student, teacher, labels = logits(0)[:1], logits(1)[:1], LABELS[:1]
    assert settings(name).terms.divergence.smallest_batch == (2 if name in OF_THE_BATCH else 1)
    if name in OF_THE_BATCH:
        with pytest.raises(InputError, match=f"{name} .*a batch of one sample; expected two or more"):
            LOSSES[name](student, teacher, labels)
    else:
        assert LOSSES[name](student, teacher, labels).shape == (1,)


@every
def test_labels_that_are_shares_stand_for_the_largest(name: str) -> None:
    """sld also counts a teacher that prefers the smaller share as right; here no teacher prefers it."""
    student, teacher = logits(0), logits(1)
    shares = 0.7 * torch.nn.functional.one_hot(LABELS, 6) + 0.3 * torch.nn.functional.one_hot(teacher.argmin(1), 6)
    torch.testing.assert_close(LOSSES[name](student, teacher, shares), LOSSES[name](student, teacher, LABELS))


# In a method


@every
def test_the_objective_is_the_function_on_raw_logits(name: str) -> None:
    student, teacher = logits(0), logits(1)
    values = of_objective(name, student, teacher)
    torch.testing.assert_close(values["kd"], LOSSES[name](student, teacher, LABELS))
    ce_weight, kd_weight = settings(name).loss_weights
    torch.testing.assert_close(values["loss"], ce_weight * values["ce"] + kd_weight * values["kd"])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "sld"])
def test_probability_shift_comes_first(name: str) -> None:
    student, teacher = logits(0), logits(1)
    assert (teacher.argmax(1) != LABELS).any()
    expected = LOSSES[name](student, probability_shift(teacher, LABELS), LABELS)
    torch.testing.assert_close(of_objective(f"ka-ps+{name}", student, teacher)["kd"], expected)


@pytest.mark.parametrize("name", ["dkd", "nkd", "wttm", "rld", "luminet"])
@pytest.mark.parametrize("adjustment", ["", "ka-ps+"])
@pytest.mark.parametrize("temperature", ["dtd-flsw", "dtd-cwsm"])
def test_each_sample_has_its_own_temperature(name: str, adjustment: str, temperature: str) -> None:
    student, teacher = logits(0), logits(1)
    values = of_objective(f"{adjustment}{name}+{temperature}", student, teacher)
    target = probability_shift(teacher, LABELS) if adjustment else teacher
    assert len(set(values["tau"].tolist())) == 5
    torch.testing.assert_close(values["kd"], LOSSES[name](student, target, LABELS, values["tau"]))


def test_a_target_as_logits() -> None:
    probs = torch.softmax(logits(0), -1)
    for tau in (0.5, 4.0, torch.linspace(1, 9, 5).double()):
        log_p = Target(Target(probs=probs).as_logits(tau)).log_probs(tau)
        torch.testing.assert_close(log_p.exp(), probs)
    given = logits(1)
    assert Target(given).as_logits(4.0) is given


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("logit-mse+dtd-flsw", "logit-mse and dtd-flsw exclude each other: logit-mse has no temperature"),
        ("ka-lsr+logit-mse", "logit-mse needs logits, ka-lsr gives probabilities"),
        ("dist+dtd-flsw", "dist and dtd-flsw exclude each other: dist correlates a class over the samples of a batch"),
        ("ka-ps+dtd-cwsm+dist", "dist and dtd-cwsm exclude each other: dist correlates a class over the samples"),
        ("rld+ka-lsr", "rld needs logits, ka-lsr gives probabilities"),
        ("luminet+ka-lsr", "luminet needs logits, ka-lsr gives probabilities"),
        ("ka-lsr+sld", "sld needs logits, ka-lsr gives probabilities"),
        ("ka-ps+sld", "sld and ka-ps exclude each other: sld swaps the teacher's wrong answers itself"),
        ("sld+dtd-flsw", "sld and dtd-flsw exclude each other: sld has a set of temperatures of its own"),
        ("dtd-cwsm+sld", "sld and dtd-cwsm exclude each other: sld has a set of temperatures of its own"),
        ("rld+luminet", "rld and luminet exclude each other; one of them"),
    ],
)
def test_a_combination_without_meaning_is_refused_and_says_why(method: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_method(method)
    assert why in str(caught.value)


def test_auto_weights_are_the_literatures() -> None:
    found = {name: settings(name).loss_weights for name in LOSSES}
    assert found == {
        "logit-mse": (1.0, 0.1),
        "dist": (1.0, 2.0),
        "dkd": (1.0, 1.0),
        "nkd": (1.0, 1.0),
        "wttm": (1.0, 4.0),
        "rld": (1.0, 1.0),
        "luminet": (2.0, 1.0),
        "sld": (0.1, 0.9),
    }
    assert settings("ka-ps+dist").loss_weights == (0.0, 2.0), "all targets are right: no cross-entropy"


@pytest.mark.parametrize("name", ["dkd", "rld", "luminet"])
@pytest.mark.parametrize(("epoch", "share"), [(0, 0.05), (9, 0.5), (19, 1.0), (100, 1.0)])
def test_some_warm_up(name: str, epoch: int, share: float) -> None:
    student, teacher = logits(0), logits(1)
    objective = Objective(settings(name, **{name: {"warmup_epochs": 20}}).terms)
    objective.epoch.fill_(epoch)
    answers = {"logits": teacher - teacher.amax(1, keepdim=True), "row_max": teacher.amax(1)}
    found = objective({"logits": student}, LABELS, answers)["kd"]
    torch.testing.assert_close(found, share * LOSSES[name](student, teacher, LABELS))
