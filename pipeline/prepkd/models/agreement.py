"""Agreement of a model's answers with labels: no better than chance, or far better with the classes in another order."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SKILL = 0.1  # a share of the range from chance to 1: below it a model has learnt hardly anything of these classes
PERMUTED = 0.2  # a share of the range from chance to 1: the gain from which the classes count as reordered
PER_CLASS = 4  # samples per class, at least, to find another order of the classes
MAX_CLASSES = 2000  # for which another order is searched: the time grows with the cube of their number


@dataclass(frozen=True)
class LabelAgreement:
    """The share of samples whose largest logit is the label's, and its expectation with the samples shuffled.

    `permuted` is that share with the classes in the order that fits the other half of the samples best; None if it was not
    measured.
    """

    top1: float
    chance: float
    samples: int
    permuted: float | None = None

    @property
    def doubtful(self) -> bool:
        """True unless `top1` exceeds chance by four standard deviations."""
        deviation = math.sqrt(self.chance * (1 - self.chance) / self.samples)
        return self.top1 <= self.chance + 4 * deviation

    @property
    def poor(self) -> bool:
        """True unless `top1` is clearly better than chance, by the share `SKILL` of the range from chance to 1."""
        return self.doubtful or self.top1 < self.chance + SKILL * (1 - self.chance)

    @property
    def out_of_order(self) -> bool:
        """Whether another order of the classes fits far better."""
        return self.permuted is not None and self.permuted > self.top1 + PERMUTED * (1 - self.chance)

    def below(self, claimed: float) -> bool:
        """Whether `top1` is far below a claimed one: by 5 points and four standard deviations."""
        return self.top1 < claimed - 0.05 - 4 * math.sqrt(claimed * (1 - claimed) / self.samples)


def agreement(raw: Tensor, labels: Tensor) -> LabelAgreement:
    """Compare raw logits (N, K) with labels int64 (N,)."""
    answers, classes = raw.argmax(dim=-1), raw.shape[-1]
    shares = [torch.bincount(values, minlength=classes).double() / len(labels) for values in (answers, labels)]
    found = LabelAgreement((answers == labels).double().mean().item(), float(shares[0] @ shares[1]), len(labels))
    # Otherwise no order of the classes can be far better.
    return replace(found, permuted=_permuted(answers, labels, classes)) if found.top1 < 1 - PERMUTED else found


def _permuted(answers: Tensor, labels: Tensor, classes: int) -> float | None:
    """Return the accuracy on half of the samples of the one-to-one order of classes that fits the other half best."""
    if len(labels) < 2 * PER_CLASS * classes or classes > MAX_CLASSES:
        return None
    from scipy.optimize import linear_sum_assignment  # late: takes 0.3 s

    # Halves drawn at random: samples sorted by class, or alternating, would not have every class in each.
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(labels.device)
    fitted, judged = drawn[::2], drawn[1::2]
    pairs = answers[fitted] * classes + labels[fitted]
    counts = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    _, order = linear_sum_assignment(counts.cpu().numpy(), maximize=True)
    found = torch.from_numpy(order).to(labels.device)[answers[judged]]
    return (found == labels[judged]).double().mean().item()
