"""The parts of a method: a term owns its name, its settings, the tensors that it needs of a model, and its per-sample loss."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prepkd.methods.kl import column
from prepkd.models.features import Answers
from prepkd.runtime.streams import DrawContext
from prepkd.settings.section import Section

Values = dict[str, Tensor]  # per sample, (B,)
Shapes = Mapping[str, torch.Size]  # of a model's named features, without the batch


@dataclass(frozen=True)
class Target:
    """The student's target: logits (B, K), which a divergence tempers, or probabilities (B, K), taken as they are.

    Probabilities are the answer at the sample's temperature; a repaired answer is the same at every temperature. `adjusted` marks
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

    def logits_at(self, other: float, tau: float | Tensor) -> Tensor:
        """Logits (B, K) whose softmax is the target at the temperature `other`, for a divergence that is tempered by `tau`.

        For probabilities p they are ln p where the answer was repaired, and (tau / other) ln p where it is the teacher's.
        """
        if self.logits is not None:
            return self.logits / other
        log_p = self.log_probs(tau)
        if self.adjusted is None:  # unknown whether it was repaired: taken as it is
            return log_p
        return torch.where(self.adjusted.unsqueeze(-1), log_p, column(tau) / other * log_p)

    def as_logits(self, tau: float | Tensor) -> Tensor:
        """Logits (B, K) whose softmax at `tau`, and at no other temperature, is the target: tau ln p for probabilities p."""
        return column(tau) * self.log_probs(tau) if self.logits is None else self.logits

    def with_row_max(self, row_max: Tensor) -> "Target":
        """Return the target with raw logits: add the maximum (B, 1) to logits that lack it; probabilities stay."""
        return self if self.logits is None else replace(self, logits=self.logits + row_max)

    def for_drawn_classes(self, teacher_logits: Tensor, log_weights: Tensor, tau: float | Tensor) -> "Target":
        """Return the target for a draw of the classes: the weighted softmax at `tau` of the drawn classes' logits (B, K).

        `log_weights` (B, K) are -inf for the others. Adjusted rows of probabilities stay; the other rows are the softmax of
        `teacher_logits`, which is estimated. At the temperature of the draw the expected value is the full row's target.
        """
        logits = teacher_logits if self.logits is None else self.logits
        probs = torch.softmax(logits / column(tau) + log_weights, dim=-1)
        if self.probs is not None and self.adjusted is not None:
            probs = torch.where(self.adjusted.unsqueeze(-1), self.probs, probs)
        return replace(self, logits=None, probs=probs)

    def standardised(self, standardise: Callable[[Tensor], Tensor]) -> "Target":
        """Return the target with standardised logits, to be tempered; for probabilities it standardises their logarithms."""
        return replace(
            self, logits=standardise(self.log_probs(1.0) if self.logits is None else self.logits), probs=None
        )


def unchanged(logits: Tensor) -> Tensor:
    """The logits as they are."""
    return logits


@dataclass(frozen=True)
class State:
    """A term's other inputs: the epoch from 0, a tensor (); the adapter that the term trains; its draws for this batch.

    `standardise` is for a divergence that standardises logits (B, K) itself; without a standardisation it changes nothing.
    """

    epoch: Tensor
    adapter: nn.Module | None = None
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    standardise: Callable[[Tensor], Tensor] = unchanged

    def warmup(self, epochs: int) -> Tensor:
        """The weight, (), of a loss that rises linearly to 1 over `epochs` epochs."""
        return ((self.epoch + 1) / max(epochs, 1)).clamp(max=1)


class Term(Section):
    """One part of a method. Its fields are its settings."""

    name: ClassVar[str]
    section: ClassVar[str | None] = None  # the key of its settings under `distill`; None: it has none
    ignored_settings: ClassVar[frozenset[str]] = frozenset()  # settings of the section that only its other terms read
    source: ClassVar[str] = ""  # the paper
    equation: ClassVar[str] = ""  # per sample; v, t: logits of student and teacher, y: label, p: softmax, K: classes
    excludes: ClassVar[Mapping[str, str]] = {}  # the names of terms that it cannot be combined with, and why
    # Why a store that keeps a draw of each row's classes cannot serve it; empty: it can.
    every_class: ClassVar[str] = "it reads every class's logit"
    needs_raw: ClassVar[bool] = False  # it changes if a constant is added to a row of the teacher's logits
    views: ClassVar[int] = 1  # of each sample in a step: 2 are a weak and a strong one
    drawn: ClassVar[tuple[str, ...]] = ()  # the names of the arrays that `draw` returns
    # The weights that `auto` means; None leaves the decision to the method's other terms.
    ce_weight: ClassVar[float | None] = None
    kd_weight: ClassVar[float | None] = None
    published_tau: ClassVar[float | None] = None  # `kd.tau` of the published setting that the other defaults are from
    full_after: ClassVar[str] = ""  # the setting that is the number of epochs before the term acts in full

    @classmethod
    def section_class(cls) -> type[Section]:
        """The class that declares the settings, which terms of one section share; without settings the term itself."""
        return next(base for base in reversed(cls.__mro__) if getattr(base, "section", None) == cls.section)

    @property
    def smallest_batch(self) -> int:
        """The smallest batch for which the loss has a meaning: above 1 if it compares the samples of a batch."""
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
    def features_of_teacher(self) -> tuple[str, ...]:
        """All named features that it reads of the teacher."""
        return (*self.features, *self.teacher_features)

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """The tensors that the term computes from the teacher's features, by name; a store holds them.

        `other` has the shapes of the same features of the other model; only heights and widths below the model's own may change
        the result. A sample's tensors do not depend on the rest of the batch.
        """
        return {}

    def student_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Compute the student's tensors, by the same names; a term that reduces both models differently overrides this."""
        return self.teacher_tensors(features, other)

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module | None:
        """Make a module that is trained with the student and is not part of it; None if the term trains nothing.

        `samples` is the number of training samples, for a module with state per sample.
        """
        return None

    def draw(self, at: DrawContext) -> dict[str, NDArray[Any]]:
        """Draw arrays (N, ...) for one epoch, under the names of `drawn`, one row per training sample."""
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
        """Perturb raw logits (B, K); the result is raw logits (B, K)."""


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
        """Return a number or (B,), and the values to log; logits are (B, K), the teacher's raw."""


class Divergence(Term):
    """Compares the student with the target.

    `tempered`: it has a temperature, so that dtd-* has a meaning; `takes_probs`: the target may be probabilities;
    `standardises`: it gets the logits as they are, also for what is not compared, such as the teacher's confidence, and
    standardises those that it compares by `State.standardise`. With `views` 2 it gets the logits of both views stacked,
    (2, B, K), the weak ones first; its target is logits then.
    """

    tempered: ClassVar[bool] = True
    takes_probs: ClassVar[bool] = True
    standardises: ClassVar[bool] = False

    @abstractmethod
    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """Return values (B,) and the values to log; student logits (B, K), `tau` a number or (B,).

        The target's logits are counted from each row's maximum, unless the divergence sets `needs_raw`.
        """


class FeatureTerm(Term):
    """A loss on features, added to the rest.

    A loss on the relations within a batch returns each sample's share; the batch has `batch_size` samples.
    """

    store_dtype: ClassVar[str] = (
        "float32"  # the type of its tensors in a store: float16 or bits if these keep the meaning
    )
    every_class: ClassVar[str] = ""  # it reads features
    loss_only: ClassVar[frozenset[str]] = frozenset({"weight"})  # settings that do not change `teacher_tensors`
    stores_features: ClassVar[bool] = False  # its tensors are the features themselves: one store serves several terms
    weight: float

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """The features as they are, under their own names, unless a term needs less of them: see `Term.teacher_tensors`."""
        return {name: features[name] for name in self.features_of_teacher}

    @abstractmethod
    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Return unweighted values (B,) of the tensors that `student_tensors` and `teacher_tensors` returned."""
