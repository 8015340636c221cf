"""Probabilities in place of logits are refused, doubtful values are named, and real logits pass."""

import math

import pytest
import torch
from prepkd.errors import InputError
from prepkd.models.logit_checks import are_log_probabilities, are_probabilities, check_logits
from prepkd.store.encodings import ENCODINGS, make_encoding
from torch import Tensor

RAW = 3 * torch.randn(60, 12, generator=torch.Generator().manual_seed(4))


def top5(values: Tensor) -> Tensor:
    """Keep the five largest values of each row and set the others to zero."""
    best = values.topk(5, dim=-1)
    return torch.zeros_like(values).scatter(1, best.indices, best.values)


REFUSED = {
    "softmax": (RAW.softmax(-1), "every row's sum is at most 1: probabilities"),
    "half precision": (RAW.softmax(-1).half().float(), "probabilities"),
    "bfloat16": (RAW.softmax(-1).bfloat16().float(), "probabilities"),
    "two classes": (RAW[:, :2].softmax(-1), "probabilities"),
    "one hot": (torch.eye(12), "probabilities"),
    "top 5": (top5(RAW.softmax(-1)), "every row's sum is at most 1: probabilities"),
    "percent": (100 * RAW.softmax(-1), "every row's sum is 100: percentages"),
    "rounded percent": ((100 * RAW.softmax(-1)).round(decimals=1), "percentages"),
}
DOUBTFUL = {
    "relu": (RAW.relu(), "no value of 60 rows is negative"),
    "sigmoid": (RAW.sigmoid(), "no value of 60 rows is negative"),
    "top 5 in percent": (100 * top5(RAW.softmax(-1)), "no value of 60 rows is negative"),
    "log-probabilities": (
        RAW.log_softmax(-1),
        "every row's log-sum-exp is 0: log-probabilities, which methods that compare raw logits refuse (`prepkd methods`",
    ),
    "log-probabilities in bfloat16": (RAW.log_softmax(-1).bfloat16().float(), "log-probabilities"),
    "uniform log-probabilities in bfloat16": (
        torch.full((60, 21349), -math.log(21349)).bfloat16().float(),
        "every row's log-sum-exp is 0",
    ),
    "one raw row": (torch.cat([RAW[:59].softmax(-1), RAW[59:]]), "98.3% of the rows are probabilities"),
    "one raw row among percentages": (torch.cat([100 * RAW[:59].softmax(-1), RAW[59:]]), "98.3% of the rows"),
    "one raw row among log-probabilities": (torch.cat([RAW[:59].log_softmax(-1), RAW[59:]]), "98.3% of the rows"),
    "missing rows of -1": (RAW.softmax(-1).index_fill(0, torch.arange(20), -1), "66.7% of the rows are"),
    "missing rows of 0 and one raw": (
        torch.cat([RAW[:59].softmax(-1).index_fill(0, torch.arange(5), 0), RAW[59:]]),
        "90.0% of the rows are",
    ),
    "rounded log-probabilities": (RAW.log_softmax(-1).half().float(), "log-probabilities"),
}
LOGITS = {
    "logits": RAW,
    "one negative value": RAW.softmax(-1).index_fill(1, torch.tensor([3]), -0.1),
    "small": RAW / 1000,
    "all zero": torch.zeros(60, 12),
    "few rows of probabilities": torch.cat([RAW[:20].softmax(-1), RAW[20:]]),
    "one class": torch.ones(60, 1),
    "shifted to a maximum of 0": RAW - RAW.amax(-1, keepdim=True),
    "tempered log-probabilities": 4 * (RAW / 4).log_softmax(-1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_probabilities_are_refused(case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        check_logits(values, "teacher 'large'")
    text = str(caught.value)
    assert (
        text.startswith("teacher 'large': ") and message in text and "expected raw logits" in text and "\n" not in text
    )


@pytest.mark.parametrize("case", DOUBTFUL)
def test_doubtful_values_are_named(case: str) -> None:
    values, message = DOUBTFUL[case]
    found = check_logits(values, "large.npy")
    assert found is not None and found.startswith("large.npy: ") and message in found


@pytest.mark.parametrize("case", LOGITS)
def test_logits_pass(case: str) -> None:
    assert check_logits(LOGITS[case], "large") is None
    assert not are_probabilities(LOGITS[case]) and not are_log_probabilities(LOGITS[case])


def test_an_untrained_classifier_with_small_positive_logits_is_no_softmax() -> None:
    positive = 0.1 + 0.01 * RAW[:, :3].abs()
    assert (positive.sum(-1) < 1).all() and not are_probabilities(positive)
    assert are_probabilities(RAW.softmax(-1)) and are_probabilities(RAW[:2].softmax(-1))


@pytest.mark.parametrize("name", ENCODINGS)
def test_log_probabilities_are_known_after_the_round_trip_through_a_store(name: str) -> None:
    settings = {"topk": {"k": 4}, "sampled": {"n": 4}}.get(name, {})
    encoding = make_encoding({"name": name} | settings, 12)
    labels = torch.arange(60) % 12
    for values, expected in ((RAW.log_softmax(-1), True), (RAW, False), (RAW.log_softmax(-1) + 1, False)):
        stored = encoding.encode(values, labels, torch.arange(60) << 34)
        decoded = encoding.decode(stored)
        raw = decoded["logits"].float() + decoded["row_max"].unsqueeze(-1)
        assert are_log_probabilities(raw, encoding.largest_error(stored)) is expected
