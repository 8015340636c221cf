"""The parts of a method: a term owns its name, its settings, what it asks of a model, and its loss per sample."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prepkd.methods.kl import column
from prepkd.models.features import Answers
from prepkd.runtime.streams import Draw
from prepkd.settings.section import Section

Values = dict[str, Tensor]  # per sample, (B,)
Shapes = Mapping[str, torch.Size]  # of a model's named features, without the batch


@dataclass(frozen=True)
class Target:
    """The student's target: logits (B, K), which a divergence tempers, or probabilities (B, K), taken as they are.

    Probabilities are the answer at the sample's temperature; a repaired one is the same at every temperature. `adjusted` marks
    the samples whose answer was repaired, bool (B,); `weight` scales each sample's divergence, (B,).
    """

    logits: Tensor | None = None
    probs: Tensor | None = None
    adjusted: Tensor | None = None
    weight: Tensor | None = None

    def log_probs(self, tau: float | Tensor) -> Tensor:
        """Log-probabilities (B, K) at temperature `tau`, a number or (B,)."""
        if self.logits is not None:
            return torch.log_softmax(self.logits / column(tau), dim=-1)
        assert self.probs is not None
        return self.probs.clamp_min(torch.finfo(self.probs.dtype).tiny).log()

    def at(self, other: float, tau: float | Tensor) -> Tensor:
        """Logits (B, K) whose softmax is the target at the temperature `other`, for a divergence that is tempered by `tau`.

        Of probabilities p they are ln p where the answer was repaired, and (tau / other) ln p where it is the teacher's.
        """
        if self.logits is not None:
            return self.logits / other
        log_p = self.log_probs(tau)
        if self.adjusted is None:  # nothing tells whose answer it is: taken as it is
            return log_p
        return torch.where(self.adjusted.unsqueeze(-1), log_p, column(tau) / other * log_p)

    def as_logits(self, tau: float | Tensor) -> Tensor:
        """Logits (B, K) whose softmax at `tau`, and at no other temperature, is the target: of probabilities p tau ln p."""
        return column(tau) * self.log_probs(tau) if self.logits is None else self.logits

    def plus(self, row_max: Tensor) -> "Target":
        """The same target with raw logits, of logits without their maximum (B, 1); probabilities stay."""
        return self if self.logits is None else replace(self, logits=self.logits + row_max)

    def of_drawn(self, teacher_logits: Tensor, log_weights: Tensor, tau: float | Tensor) -> "Target":
        """The same target where some classes were drawn: the weighted softmax at `tau` of the kept ones' logits (B, K).

        `log_weights` (B, K) are -inf for the others. Adjusted probabilities stay; the rest of their rows, which is the softmax
        of `teacher_logits`, is estimated. At the temperature of the draw its expected value is the full row's target.
        """
        logits = teacher_logits if self.logits is None else self.logits
        probs = torch.softmax(logits / column(tau) + log_weights, dim=-1)
        if self.probs is not None and self.adjusted is not None:
            probs = torch.where(self.adjusted.unsqueeze(-1), self.probs, probs)
        return replace(self, logits=None, probs=probs)

    def standardised(self, standardise: Callable[[Tensor], Tensor]) -> "Target":
        """The same target with standardised logits, which are tempered; of probabilities their logarithms are standardised."""
        return replace(
            self, logits=standardise(self.log_probs(1.0) if self.logits is None else self.logits), probs=None
        )


@dataclass(frozen=True)
class State:
    """A term's other inputs: the epoch from 0, a tensor (); the adapter that the term trains; its draws for this batch."""

    epoch: Tensor
    adapter: nn.Module | None = None
    drawn: Mapping[str, Tensor] = field(default_factory=dict)

    def warmup(self, epochs: int) -> Tensor:
        """The weight, (), of a loss that rises linearly to 1 over `epochs` epochs."""
        return ((self.epoch + 1) / max(epochs, 1)).clamp(max=1)


class Term(Section):
    """One part of a method. Its fields are its settings."""

    name: ClassVar[str]
    section: ClassVar[str | None] = None  # the key of its settings under `distill`; None: it has none
    ignores: ClassVar[frozenset[str]] = frozenset()  # settings of the section that only its other terms read
    source: ClassVar[str] = ""  # the paper
    equation: ClassVar[str] = ""  # per sample; v, t: logits of student and teacher, y: label, p: softmax, K: classes
    excludes: ClassVar[Mapping[str, str]] = {}  # other terms' names, and why the two have no meaning together
    # Why a store that keeps a draw of each row's classes cannot serve it; empty: it can.
    every_class: ClassVar[str] = "it reads every class's logit"
    needs_raw: ClassVar[bool] = False  # it changes if a constant is added to a row of the teacher's logits
    views: ClassVar[int] = 1  # of each sample in a step: 2 are a weak and a strong one
    drawn: ClassVar[tuple[str, ...]] = ()  # the names of what `draw` returns
    # The weights that `auto` means; None leaves the decision to the method's other terms.
    ce_weight: ClassVar[float | None] = None
    kd_weight: ClassVar[float | None] = None
    published_tau: ClassVar[float | None] = None  # `kd.tau` of the published setting that the other defaults are from

    @classmethod
    def section_class(cls) -> type[Section]:
        """The class that declares the settings, which terms of one section share; without settings the term itself."""
        return next(base for base in reversed(cls.__mro__) if getattr(base, "section", None) == cls.section)

    @property
    def smallest_batch(self) -> int:
        """The fewest samples for which the loss means anything: more than 1 where it compares the samples of a batch."""
        return 1

    @property
    def features(self) -> tuple[str, ...]:
        """The named features of student and teacher that the term reads."""
        return ()

    @property
    def teacher_features(self) -> tuple[str, ...]:
        """The named features that it reads of the teacher alone."""
        return ()

    @property
    def of_teacher(self) -> tuple[str, ...]:
        """All named features that it reads of the teacher."""
        return (*self.features, *self.teacher_features)

    def asks(self, features: Answers, other: Shapes) -> Answers:
        """The tensors that the term computes from the teacher's features, by name; a store holds them.

        `other` has the shapes of the same features of the other model; only heights and widths below the model's own may change
        the result. A sample's tensors do not depend on the rest of the batch.
        """
        return {}

    def of_student(self, features: Answers, other: Shapes) -> Answers:
        """The same of the student's features, by the same names; another reduction for a term that compares unlike things."""
        return self.asks(features, other)

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module | None:
        """A module that is trained with the student and is not part of it; None where the term trains nothing.

        `samples` is the number of training samples, for a module that remembers something of each.
        """
        return None

    def draw(self, at: Draw) -> dict[str, NDArray[Any]]:
        """Arrays (N, ...) under the names of `drawn`, one row per training sample, for one epoch."""
        return {}


class LabelTerm(Term):
    """A loss with the labels alone; the default is `ce`.

    `replaces_teacher`: it distils from a teacher made of the labels, and no other term acts on a teacher's logits.
    """

    every_class: ClassVar[str] = ""
    replaces_teacher: ClassVar[bool] = False

    @abstractmethod
    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """Values (B,); student logits (B, K), labels int64 (B,) or shares of the classes (B, K)."""


class Perturbation(Term):
    """Perturbs the teacher's raw answer, before everything else."""

    @abstractmethod
    def perturb(self, teacher_logits: Tensor, state: State) -> Tensor:
        """Raw logits (B, K) of raw logits (B, K)."""


class Adjustment(Term):
    """Repairs the teacher's answer.

    `gives_probs`: the target is probabilities, which no temperature changes.
    """

    gives_probs: ClassVar[bool] = False
    ce_weight: ClassVar[float | None] = 0.0  # all targets are right

    @abstractmethod
    def adjust(self, teacher_logits: Tensor, labels: Tensor, tau: float | Tensor) -> Target:
        """The target of teacher logits (B, K); labels are int64 (B,) or shares of the classes (B, K), `tau` a number or (B,)."""


class Standardisation(Term):
    """Scales the logits of both sides, after the adjustment and before the temperature."""

    @abstractmethod
    def standardise(self, logits: Tensor) -> Tensor:
        """Standardised logits (B, K)."""


class Temperature(Term):
    """Sets each sample's temperature."""

    @property
    @abstractmethod
    def base(self) -> float:
        """The temperature of a typical sample; teachers' probabilities are averaged at it."""

    @abstractmethod
    def temperature(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[float | Tensor, Values]:
        """A number or (B,), and what is logged; logits are (B, K), the teacher's raw."""


class Divergence(Term):
    """Compares the student with the target.

    `tempered`: it has a temperature, so that dtd-* has a meaning; `takes_probs`: the target may be probabilities. With
    `views` 2 it gets the logits of both views stacked, (2, B, K), the weak ones first; its target is logits then.
    """

    tempered: ClassVar[bool] = True
    takes_probs: ClassVar[bool] = True

    @abstractmethod
    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """Values (B,) and what is logged; student logits (B, K), `tau` a number or (B,)."""


class FeatureTerm(Term):
    """A loss on features, added to the rest.

    A loss of the batch's relations returns each sample's share, and is of the batch that a step sees: of `batch_size` samples.
    """

    stored: ClassVar[str] = (
        "float32"  # a store keeps what it asks in this type: float16 or bits where the meaning stays
    )
    every_class: ClassVar[str] = ""  # it reads features
    loss_only: ClassVar[frozenset[str]] = frozenset({"weight"})  # settings that change nothing of what it asks
    as_they_are: ClassVar[bool] = False  # it asks the features that it reads, unchanged: one store serves several terms
    weight: float

    @abstractmethod
    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Values (B,), not weighted, of what `asks` returned for both models."""
