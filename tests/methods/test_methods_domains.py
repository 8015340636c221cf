"""Precision of the losses' functions, settings outside of their domain, and the examples of their docstrings."""

import doctest
import importlib
import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from loss_examples import example
from prepkd import losses
from prepkd.errors import InputError
from prepkd.losses import (
    cwsm_weights,
    dynamic_temperature,
    flsw_weights,
    kl_divergence,
    label_smooth,
    probability_shift,
)
from torch import Tensor

HALVES = [torch.bfloat16, torch.float16]


# Precision


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher, labels = example(6, 7)
    v, t = student.to(dtype), teacher.to(dtype)
    pairs = [
        (kl_divergence(v, target_logits=t, tau=4.0), kl_divergence(v.float(), target_logits=t.float(), tau=4.0)),
        (label_smooth(t, labels, tau=4.0, eps=0.1), label_smooth(t.float(), labels, tau=4.0, eps=0.1)),
        (flsw_weights(v, t, gamma=1.0), flsw_weights(v.float(), t.float(), gamma=1.0)),
        (cwsm_weights(v), cwsm_weights(v.float())),
    ]
    probabilities = torch.softmax(t.float(), -1).to(dtype)
    expected = kl_divergence(v.float(), target_probs=probabilities.float(), tau=4.0)
    pairs.append((kl_divergence(v, target_probs=probabilities, tau=4.0), expected))
    for ours, theirs in pairs:
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
    shifted = probability_shift(t, labels)
    assert shifted.dtype == dtype and torch.equal(shifted.float(), probability_shift(t.float(), labels))
    tau = dynamic_temperature(cwsm_weights(v).to(dtype), tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
    assert tau.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_stays_as_it_is(dtype: torch.dtype) -> None:
    student, teacher, labels = example(6, 7)
    v, t = student.to(dtype), teacher.to(dtype)
    weights = flsw_weights(v, t, gamma=1.0)
    for values in (
        kl_divergence(v, target_logits=t, tau=4.0),
        probability_shift(t, labels),
        label_smooth(t, labels, tau=4.0, eps=0.1),
        weights,
        cwsm_weights(v),
        dynamic_temperature(weights, tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0),
    ):
        assert values.dtype == dtype


def test_float32_is_close_to_float64_up_to_the_default_ceiling() -> None:
    """tau^2 KL is a small number times a large one; at tau_max 40 float32 still holds three digits."""
    student, teacher, _ = example(64, 100)
    exact = kl_divergence(student, target_logits=teacher, tau=40.0)
    single = kl_divergence(student.float(), target_logits=teacher.float(), tau=40.0).double()
    torch.testing.assert_close(single, exact, rtol=1e-3, atol=0)


def test_the_widest_gaps_that_a_store_holds_give_finite_losses() -> None:
    teacher = torch.tensor([[0.0, -65504.0, -1.0]])
    student = torch.tensor([[-300.0, 500.0, 0.0]], requires_grad=True)
    loss = kl_divergence(student, target_logits=teacher, tau=1.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()


# Documentation and errors


@pytest.mark.parametrize("targets", [{}, {"target_logits": torch.zeros(1, 2), "target_probs": torch.ones(1, 2) / 2}])
def test_kl_divergence_takes_exactly_one_target(targets: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="exactly one of target_logits and target_probs"):
        kl_divergence(torch.zeros(1, 2), **targets, tau=1.0)


V, Y = torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([0, 1])
INFINITE, NAN = float("inf"), float("nan")
CALLS: dict[str, Callable[..., Tensor]] = {
    "kl_divergence": lambda **given: kl_divergence(V, target_logits=V, **{"tau": 4.0, **given}),
    "label_smooth": lambda **given: label_smooth(V, Y, **{"tau": 4.0, "eps": 0.1, **given}),
    "flsw_weights": lambda **given: flsw_weights(V, -V, **{"gamma": 1.0, **given}),
    "dynamic_temperature": lambda **given: dynamic_temperature(
        V[0], **{"tau_0": 4.0, "beta": 1.0, "tau_min": 1.0, "tau_max": 40.0, **given}
    ),
    "dkd": lambda **given: losses.dkd(V, -V, Y, **{"tau": 4.0, "alpha": 1.0, "beta": 8.0, **given}),
    "dist": lambda **given: losses.dist(V, -V, **{"tau": 4.0, "beta": 1.0, "gamma": 1.0, **given}),
    "nkd": lambda **given: losses.nkd(V, -V, Y, **{"tau": 4.0, "gamma": 1.5, **given}),
    "wttm": lambda **given: losses.wttm(V, -V, **{"gamma": 0.25, **given}),
    "rld": lambda **given: losses.rld(V, -V, Y, **{"tau": 4.0, "tau_a": 1.0, "alpha": 1.0, "beta": 8.0, **given}),
    "luminet": lambda **given: losses.luminet(V, -V, **{"tau": 4.0, "alpha": 33.0, **given}),
    "sld": lambda **given: losses.sld(V, -V, Y, **{"temperatures": [1.0, 2.0], **given}),
    "mlkd": lambda **given: losses.mlkd(V, -V, V, -V, **{"temperatures": [1.0, 2.0], **given}),
    "crld": lambda **given: losses.crld(
        V,
        -V,
        V,
        -V,
        **{"tau": 4.0, "same_view": 2.0, "cross_view": 0.5, "weak_threshold": 0.9, "strong_threshold": 0.2, **given},
    ),
    "activation_boundary": lambda **given: losses.activation_boundary(V, V > 0, **{"margin": 1.0, **given}),
    "info_nce": lambda **given: losses.info_nce(V, -V, Y, **{"temperature": 0.07, **given}),
    "correlation_congruence": lambda **given: losses.correlation_congruence(
        V, -V, **{"gamma": 0.4, "order": 2, **given}
    ),
    "relational": lambda **given: losses.relational(
        torch.cat([V, 2 * V]), torch.cat([-V, V]), **{"distance": 25.0, "angle": 50.0, **given}
    ),
    "cross_entropy": lambda **given: losses.cross_entropy(V, Y, **{"eps": 0.1, **given}),
    "label_revision": lambda **given: losses.label_revision(V, Y, **{"eta": 0.8, **given}),
    "virtual_teacher_loss": lambda **given: losses.virtual_teacher_loss(
        V, Y, **{"alpha": 0.1, "tau": 20.0, "correct": 0.9, **given}
    ),
}
TEMPERATURES = [0, 0.0, -1.0, INFINITE, NAN, None, "4", True]
SAMPLES = [torch.tensor([4.0, 0.0]), torch.tensor([4.0, -1.0]), torch.tensor([4.0, NAN]), torch.tensor([INFINITE, 4.0])]
OUTSIDE: dict[tuple[str, str], list[object]] = {
    ("kl_divergence", "tau"): [*TEMPERATURES, *SAMPLES, torch.tensor(0.0)],
    ("label_smooth", "tau"): [*TEMPERATURES, *SAMPLES],
    ("label_smooth", "eps"): [-0.1, 1.1, INFINITE, NAN, None],
    ("flsw_weights", "gamma"): [0.0, -1.0, INFINITE, NAN, None],
    ("dynamic_temperature", "tau_0"): [*TEMPERATURES, 0.5, 41.0],
    ("dynamic_temperature", "tau_min"): [*TEMPERATURES, 5.0],
    ("dynamic_temperature", "tau_max"): [*TEMPERATURES, 3.0],
    ("dynamic_temperature", "beta"): [-1.0, INFINITE, NAN, None],
    **{(name, "tau"): [*TEMPERATURES, *SAMPLES] for name in ("dkd", "dist", "nkd", "rld", "luminet", "crld")},
    ("rld", "tau_a"): TEMPERATURES,
    ("correlation_congruence", "gamma"): TEMPERATURES,
    ("activation_boundary", "margin"): TEMPERATURES,
    ("info_nce", "temperature"): TEMPERATURES,
    ("correlation_congruence", "order"): [0, 33, 2.5, INFINITE, NAN, None, "2", True],
    ("wttm", "gamma"): [*TEMPERATURES, *SAMPLES],
    **{
        (name, "temperatures"): [[], [0.0], [4.0, -1.0], [INFINITE], [NAN], ["4"], None, 4.0, ()]
        for name in ("sld", "mlkd")
    },
    ("mlkd", "form"): ["published", None, 1],
    ("crld", "weak_threshold"): [-0.1, 1.1, INFINITE, NAN, None],
    ("crld", "strong_threshold"): [-0.1, 1.1, INFINITE, NAN, None],
    **{
        (name, weight): [-1.0, INFINITE, NAN, None]
        for name, weights in {
            "dkd": ("alpha", "beta"),
            "dist": ("beta", "gamma"),
            "nkd": ("gamma",),
            "rld": ("alpha", "beta"),
            "luminet": ("alpha",),
            "crld": ("same_view", "cross_view"),
            "relational": ("distance", "angle"),
        }.items()
        for weight in weights
    },
    ("cross_entropy", "eps"): [-0.1, 1.1, INFINITE, NAN, None],
    ("label_revision", "eta"): [-0.1, 1.1, INFINITE, NAN, None],
    ("virtual_teacher_loss", "alpha"): [-0.1, 1.1, INFINITE, NAN, None],
    ("virtual_teacher_loss", "tau"): TEMPERATURES,
    ("virtual_teacher_loss", "correct"): [0.0, 1.0, INFINITE, NAN, None],
    ("virtual_teacher_loss", "form"): ["published", None, 1],
    ("virtual_teacher_loss", "multiplier"): [0.0, -1.0, INFINITE, NAN, None],
}


@pytest.mark.parametrize(("name", "setting"), OUTSIDE)
def test_settings_outside_their_domain_are_refused_by_name_in_one_line(name: str, setting: str) -> None:
    assert torch.isfinite(CALLS[name]()).all()
    for value in OUTSIDE[name, setting]:
        with pytest.raises(InputError) as caught:
            CALLS[name](**{setting: value})
        message = str(caught.value)
        assert message.startswith(f"{name}: ") and setting in message and "\n" not in message, (value, message)


def test_no_public_loss_has_a_setting_that_is_not_tried() -> None:
    for name in losses.__all__:
        parameters = inspect.signature(getattr(losses, name)).parameters.values()
        settings = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY and "target" not in one.name}
        settings -= {"standardise"}  # a function, which has no domain
        assert settings == {setting for function, setting in OUTSIDE if function == name}, name


def test_settings_at_the_edge_of_their_domain_are_taken() -> None:
    for tau in (1e-3, 4, np.float32(4), torch.tensor(4.0), torch.ones(2)):
        for name in ("kl_divergence", "label_smooth"):
            assert torch.isfinite(CALLS[name](tau=tau)).all()
    assert kl_divergence(V[:0], target_logits=V[:0], tau=torch.ones(0)).shape == (0,)
    for eps in (0, 1.0):
        torch.testing.assert_close(CALLS["label_smooth"](eps=eps).sum(-1), torch.ones(2))
    assert CALLS["dynamic_temperature"](beta=0, tau_min=4, tau_max=4).tolist() == [4.0, 4.0]
    with pytest.raises(TypeError, match="tau_min"):
        dynamic_temperature(V[0], tau_0=50.0, beta=1.0)


DOCUMENTED = ["dkd", "kl", "knowledge_adjustment", "dynamic_temperature", "vectors"]
DOCUMENTED += ["cross_entropy", "disturbed_labels", "virtual_teacher", "logit_standardisation", "label_revision"]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"prepkd.methods.{name}"))
    assert tried > 0 and failed == 0
