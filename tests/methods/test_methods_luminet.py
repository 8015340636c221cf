"""LumiNet: against loops in float64, its invariance to affine changes of a class, and its dependence on the batch."""

import pytest
import torch
from divergences import LABELS, gradient, kl_of, logits, of_objective, settings
from naive_losses import log_softmax
from prepkd.errors import InputError
from prepkd.losses import luminet
from prepkd.training.trial import check_last_batch
from torch import Tensor


def over_batch(values: Tensor) -> list[list[float]]:
    columns = []
    for column in zip(*values.tolist(), strict=True):
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        columns.append([(x - mean) / (variance + 1e-5) ** 0.5 for x in column])
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_it_is_the_loop(tau: float) -> None:
    student, teacher = logits(0), logits(1)
    pairs = zip(over_batch(student), over_batch(teacher), strict=True)
    expected = [33.0**2 * kl_of(log_softmax(t, tau), log_softmax(v, tau)) for v, t in pairs]
    assert luminet(student, teacher, tau=tau, alpha=33.0).tolist() == pytest.approx(expected, rel=1e-9)


def test_a_temperature_for_each_sample_acts_after_the_standardisation() -> None:
    student, teacher, tau = logits(0), logits(1), torch.linspace(1, 9, 5).double()
    found = luminet(student, teacher, tau=tau, alpha=2.0)
    for i, one in enumerate(tau.tolist()):
        torch.testing.assert_close(found[i], luminet(student, teacher, tau=one, alpha=2.0)[i])


def test_an_equal_student_has_no_loss_and_no_gradient() -> None:
    student = logits(0).requires_grad_()
    loss = luminet(student, logits(0), tau=4.0, alpha=33.0)
    assert float(loss.detach().abs().max()) < 1e-11 and float(gradient(loss, student).abs().max()) < 1e-11


def test_a_positive_affine_change_of_a_class_does_not_matter_and_of_a_row_does() -> None:
    """The invariance is approximate: 1e-5 is added to each variance, here about 9."""
    student, teacher = logits(0), logits(1)
    scale, shift = torch.linspace(0.5, 3, 6).double(), torch.linspace(-5, 9, 6).double()
    plain = luminet(student, teacher, tau=4.0, alpha=33.0)
    for changed in ((scale * student + shift, teacher), (student, scale * teacher + shift)):
        torch.testing.assert_close(luminet(*changed, tau=4.0, alpha=33.0), plain, rtol=1e-4, atol=1e-4)
    row = torch.arange(5.0).double().unsqueeze(1)
    assert (luminet(student, teacher + row, tau=4.0, alpha=33.0) - plain).abs().max() > 0.1


def test_the_stores_offsets_get_their_maximum_back() -> None:
    student, teacher = logits(0), logits(1)
    offsets = teacher - teacher.amax(1, keepdim=True)
    expected = luminet(student, teacher, tau=4.0, alpha=33.0)
    assert (luminet(student, offsets, tau=4.0, alpha=33.0) - expected).abs().max() > 0.1
    torch.testing.assert_close(of_objective("luminet", student, teacher)["kd"], expected)


def test_a_swap_in_one_row_moves_the_others_through_the_batch() -> None:
    student, teacher = logits(0), logits(1)
    labels = teacher.argmax(1)
    labels[0] = (labels[0] + 1) % 6
    plain, swapped = (of_objective(m, student, teacher, labels)["kd"] for m in ("luminet", "ka-ps+luminet"))
    assert ((plain - swapped).abs() > 1e-6).all()


def test_without_the_refusal_a_batch_of_one_would_teach_nothing() -> None:
    with pytest.raises(InputError, match="luminet standardises each class over the batch: a batch of one sample"):
        luminet(logits(0)[:1], logits(1)[:1], tau=4.0, alpha=33.0)


@pytest.mark.parametrize("method", ["luminet", "dist", "ka-ps+luminet+dtd-flsw"])
def test_a_last_batch_of_one_is_refused_before_training(method: str) -> None:
    chosen = settings(method, batch_size=16)
    for samples in (64, 66, 16, 2):
        check_last_batch(chosen, samples)
    name = "dist" if method == "dist" else "luminet"
    for samples in (65, 17, 1):
        with pytest.raises(InputError) as caught:
            check_last_batch(chosen, samples)
        assert str(caught.value) == (
            f"distill.batch_size is 16: of {samples} samples the last batch has 1; {name} compares the samples of a batch, "
            "at least 2; choose another batch size"
        )
    with pytest.raises(InputError, match="the last batch has 1"):
        check_last_batch(settings(method, batch_size=1), 64)
    check_last_batch(settings("kd", batch_size=16), 65)
    check_last_batch(settings("dist", batch_size=16, dist={"gamma": 0.0}), 65)


def test_the_settings_reach_it() -> None:
    student, teacher = logits(0), logits(1)
    own = {"alpha": 3.0, "warmup_epochs": 0}
    found = of_objective("luminet", student, teacher, LABELS, luminet=own, kd={"tau": 2.0})["kd"]
    torch.testing.assert_close(found, luminet(student, teacher, tau=2.0, alpha=3.0))
