"""Signs of a wrong teacher: answers no better than chance, classes in another order, a file's claimed accuracy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.models.agreement import agreement
from prepkd.models.weight_claims import find_claims, order_problem
from torch import Tensor

CLASSES = 20
LABELS = torch.arange(400) % CLASSES


def logits(right: float, order: Tensor | None = None, seed: int = 0) -> Tensor:
    """Return one-hot answers, right for a share of the samples and random for the rest, with classes mapped by `order`."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randint(CLASSES, LABELS.shape, generator=generator)
    known = torch.rand(LABELS.shape, generator=generator) < right
    answers[known] = LABELS[known]
    return torch.nn.functional.one_hot(answers if order is None else order[answers], CLASSES).float()


REVERSED = torch.arange(CLASSES).flip(0)
SHIFTED = (torch.arange(CLASSES) + 1) % CLASSES


@pytest.mark.parametrize(
    "order", [REVERSED, SHIFTED, torch.randperm(CLASSES, generator=torch.Generator().manual_seed(1))]
)
@pytest.mark.parametrize("right", [0.7, 1.0])
def test_classes_in_another_order_are_told_by_the_order_that_fits(right: float, order: Tensor) -> None:
    found = agreement(logits(right, order), LABELS)
    assert found.out_of_order and found.poor
    assert found.permuted == pytest.approx(right, abs=0.1)


def test_samples_sorted_by_class_are_no_obstacle() -> None:
    sorting = LABELS.argsort(stable=True)
    assert agreement(logits(1.0, SHIFTED)[sorting], LABELS[sorting]).permuted == 1


@pytest.mark.parametrize("seed", range(10))
def test_random_answers_fit_in_no_order(seed: int) -> None:
    """The order is fitted on one half and judged on the other: with 20 samples per class, chance would fit otherwise."""
    found = agreement(logits(0.0, seed=seed), LABELS)
    assert found.doubtful and found.poor and not found.out_of_order


def test_one_answer_to_everything_is_chance() -> None:
    found = agreement(torch.eye(CLASSES)[torch.zeros_like(LABELS)], LABELS)
    assert found.top1 == found.chance == 1 / CLASSES and found.doubtful and not found.out_of_order


@pytest.mark.parametrize(("right", "poor"), [(0.05, True), (0.3, False), (1.0, False)])
def test_hardly_better_than_chance(right: float, poor: bool) -> None:
    found = agreement(logits(right), LABELS)
    assert found.poor == poor and not found.out_of_order


def test_too_few_samples_tell_no_order() -> None:
    assert agreement(logits(1.0, SHIFTED)[:100], LABELS[:100]).permuted is None


def test_far_below_a_claim() -> None:
    found = agreement(logits(0.5), LABELS)
    assert found.below(0.8) and not found.below(0.6)


@pytest.mark.parametrize(
    ("content", "top1"),
    [
        ({"model": {}, "accuracy": torch.tensor([79.42])}, 0.7942),
        ({"net": {}, "acc": 93.5}, 0.935),
        ({"best_acc1": torch.tensor(0.75, dtype=torch.float64)}, 0.75),
        ({"state": {"best_acc": 71}}, 0.71),
        ({"Accuracy": "93"}, None),
        ({"accuracy": float("nan"), "acc": 1000, "best_acc": True}, None),
        ({"accuracy": torch.rand(3), "acc": torch.empty((), device="meta")}, None),
        ([1, 2], None),
    ],
)
def test_the_accuracy_that_a_file_claims(content: Any, top1: float | None, tmp_path: Path) -> None:
    found = find_claims(content, tmp_path / "w.pth").top1
    assert found == (None if top1 is None else pytest.approx(top1))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"class_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"meta": {"CLASSES": ("cat", "dog")}}, ("cat", "dog")),
        ({"class_to_idx": {"dog": 1, "cat": 0}}, ("cat", "dog")),
        ({"idx_to_class": {1: "dog", 0: "cat"}}, ("cat", "dog")),
        ({"id2label": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"classes": 100}, None),
        ({"classes": [1, 2]}, None),
        ({"class_to_idx": {"dog": 1, "cat": 7}}, None),
        ({"id2label": {"a": "b"}}, None),
    ],
)
def test_the_class_names_that_a_file_states(content: Any, names: tuple[str, ...] | None, tmp_path: Path) -> None:
    assert find_claims(content, tmp_path / "w.pth").class_names == names


def test_the_card_beside_prepkds_own_weights_is_read(tmp_path: Path) -> None:
    card = {"test_top1": 0.9, "class_names": ["a", "b"], "preprocessing": {"mean": [0.5], "std": [0.1]}}
    (tmp_path / "model.json").write_text(json.dumps(card))
    found = find_claims({}, tmp_path / "model.safetensors")
    assert (found.top1, found.class_names, found.preprocessing) == (0.9, ("a", "b"), card["preprocessing"])
    for damaged in ("[" * 100_000, "\xff", "[1]", '{"preprocessing": 3}'):
        (tmp_path / "model.json").write_text(damaged)
        found = find_claims({}, tmp_path / "model.safetensors")
        assert (found.top1, found.class_names, found.preprocessing) == (None, None, None)


def test_an_order_is_compared_where_the_names_are_the_same() -> None:
    ours = ("Aquarium fish", "bear", "orange")
    assert order_problem(("aquarium_fish", "Bear", "orange"), ours) is None
    assert order_problem(("orange", "bear", "aquarium-fish"), ours) == (
        "2 of 3 classes are in another order: class 0 is 'orange', the data's is 'aquarium fish'"
    )
    for others in (None, (), ("fish", "bear", "orange"), ("bear", "orange"), ("bear", "bear", "orange")):
        assert order_problem(others, ours) is None
