"""The student's objective: the weighted sum of a method's terms, and its statistics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prepkd.methods.kl import upcast
from prepkd.methods.term import (
    Adjustment,
    Divergence,
    FeatureTerm,
    LabelTerm,
    Perturbation,
    Shapes,
    Standardisation,
    State,
    Target,
    Temperature,
    Term,
    Values,
)
from prepkd.models.features import STRONG, Answers
from prepkd.runtime.streams import DrawContext


@dataclass(frozen=True)
class MethodTerms:
    """A method's terms with their settings, and the weights of the labels' loss and of the divergence."""

    ce_weight: float
    kd_weight: float
    labels: LabelTerm
    temperature: Temperature
    perturbation: Perturbation | None = None
    adjustment: Adjustment | None = None
    standardisation: Standardisation | None = None
    divergence: Divergence | None = None
    feature_terms: Sequence[FeatureTerm] = ()
    views: int = 1  # of each sample in a step: 2 are a weak and a strong one

    @property
    def all(self) -> tuple[Term, ...]:
        """Every term, in the order in which they act."""
        logit_side = self.perturbation, self.adjustment, self.standardisation, self.temperature, self.divergence
        return self.labels, *(term for term in logit_side if term), *self.feature_terms

    @property
    def needs_raw(self) -> bool:
        """Whether a term changes if a constant is added to a row of the teacher's logits."""
        return any(term.needs_raw for term in self.all)

    @property
    def student_features(self) -> tuple[str, ...]:
        """The student's named features that the terms read."""
        return tuple(dict.fromkeys(name for term in self.feature_terms for name in term.features))

    @property
    def teacher_features(self) -> tuple[str, ...]:
        """The teacher's named features that the terms read."""
        alone = (name for term in self.feature_terms for name in term.teacher_features)
        return tuple(dict.fromkeys([*self.student_features, *alone]))

    @property
    def drawn(self) -> tuple[str, ...]:
        """The names of the terms' draws for an epoch."""
        return tuple(name for term in self.all for name in term.drawn)

    def draw(self, at: DrawContext) -> dict[str, NDArray[np.generic]]:
        """The terms' draws for an epoch, by name, (N, ...)."""
        return {name: array for term in self.all for name, array in term.draw(at).items()}


class Objective(nn.Module):
    """ce_weight CE + kd_weight D(A(t), v; tau_i) + the weighted feature terms, per sample.

    If a step shows two views of each sample, CE and a divergence of one view are means over both, and feature terms compare the
    weak view. The objective holds the adapters that terms train: they join the optimiser and the checkpoint, and are not part of
    the student. `student` and `teacher` are the shapes of both models' named features, needed if `features` is not empty;
    `samples` is the number of training samples.
    """

    epoch: Tensor

    def __init__(
        self, terms: MethodTerms, student: Shapes | None = None, teacher: Shapes | None = None, samples: int = 0
    ) -> None:
        super().__init__()
        self.terms = terms
        self.shapes: tuple[Shapes, Shapes] = student or {}, teacher or {}
        adapters = {term.name: term.adapter(*self.shapes, samples) for term in terms.feature_terms}
        self.adapters = nn.ModuleDict({name: adapter for name, adapter in adapters.items() if adapter is not None})
        # A tensor, since a replayed CUDA graph would keep a number as it was when the graph was captured.
        self.register_buffer("epoch", torch.zeros(()), persistent=False)

    @property
    def features(self) -> tuple[str, ...]:
        """The student's named features that the terms read."""
        return self.terms.student_features

    def student_tensors(self, features: Answers) -> Answers:
        """The terms' tensors of the student's features, by name."""
        terms, other = self.terms.feature_terms, self.shapes[1]
        return {key: value for term in terms for key, value in term.student_tensors(features, other).items()}

    def forward(self, student: Answers, labels: Tensor, teacher: Answers) -> Values:
        """`loss`, its parts and statistics, all per sample (B,).

        The student's answers are "logits" (B, K) and its named features; labels are int64 (B,) or shares of the classes
        (B, K). The teacher's answers are "logits" and "row_max" as stored, "log_weights" if the classes were drawn, the tensors
        of the feature terms, and the terms' draws. With two views there are also the strong view's, as "strong/logits".
        """
        shown = {view: upcast(student[f"{view}logits"]) for view in ("", STRONG)[: self.terms.views]}
        state = self._state(self.terms.labels, teacher)
        ce = _mean([self.terms.labels.loss(logits, labels, state) for logits in shown.values()])
        loss, parts = self.terms.ce_weight * ce, {"ce": ce.detach()}
        log: Values = {}
        if self.terms.divergence:
            kd, log = self._divergence(self.terms.divergence, shown, labels, teacher)
            loss, parts = loss + self.terms.kd_weight * kd, parts | {"kd": kd.detach()}
        if self.terms.feature_terms:
            own = self.student_tensors(student)
            teacher = {name: upcast(value) for name, value in teacher.items()}  # a store may hold float16
            for term in self.terms.feature_terms:
                values = term.loss(own, teacher, labels, self._state(term, teacher))
                loss, parts = loss + term.weight * values, parts | {term.name: values.detach()}
        return {"loss": loss, **parts, **log}

    def _divergence(
        self, divergence: Divergence, shown: Answers, labels: Tensor, teacher: Answers
    ) -> tuple[Tensor, Values]:
        """Return the divergence (B,) of the student's logits, by view, and the values to log."""
        state = self._state(divergence, teacher)
        if self.terms.standardisation:
            state = replace(state, standardise=self.terms.standardisation.standardise)
        compared = partial(self._compared, divergence, labels, teacher)
        if divergence.views == 1:
            each = [
                (one := compared(view, logits), one.compute(divergence, labels, state))
                for view, logits in shown.items()
            ]
            return _mean([kd for _, (kd, _) in each]), _mean_of_logs([one.log | log for one, (_, log) in each])
        weak = compared("", shown[""])
        strong = compared(STRONG, shown[STRONG], weak.tau)  # one temperature per sample
        kd, logged = weak.stack_views(strong).compute(divergence, labels, state)
        return kd, _mean_of_logs([weak.log, strong.log]) | logged

    def _compared(
        self,
        divergence: Divergence,
        labels: Tensor,
        teacher: Answers,
        view: str,
        logits: Tensor,
        tau: float | Tensor | None = None,
    ) -> "DivergenceInputs":
        """The distributions that the divergence compares in a view; `tau` is computed unless it is given."""
        terms = self.terms
        offsets, row_max = upcast(teacher[f"{view}logits"]), upcast(teacher[f"{view}row_max"]).unsqueeze(-1)
        if terms.perturbation:
            raw = offsets + row_max
            # The change is added to the offsets, so that an answer that is not perturbed keeps its tiny gaps.
            offsets = offsets + (terms.perturbation.perturb(raw, self._state(terms.perturbation, teacher)) - raw)
            top = offsets.amax(dim=-1, keepdim=True)
            offsets, row_max = offsets - top, row_max + top
        log: Values = {}
        if tau is None:
            tau, log = terms.temperature.temperature(logits, offsets + row_max)
        # Right or wrong is decided on the offsets: on the sum with the row's maximum a tiny gap would round to a tie.
        target = terms.adjustment.adjust(offsets, labels, tau) if terms.adjustment else Target(offsets)
        if (log_weights := teacher.get(f"{view}log_weights")) is not None:
            target = target.for_drawn_classes(offsets, log_weights, tau)
        if target.adjusted is not None:
            log["adjusted"] = target.adjusted.float()
        if divergence.needs_raw:
            target = target.with_row_max(row_max)
        if terms.standardisation and not divergence.standardises:
            logits = terms.standardisation.standardise(logits)
            target = target.standardised(terms.standardisation.standardise)
        return DivergenceInputs(logits, target, tau, log)

    def _state(self, term: Term, teacher: Answers) -> State:
        drawn = {name: teacher[name] for name in term.drawn}
        return State(self.epoch, dict(self.adapters.items()).get(term.name), drawn)


@dataclass(frozen=True)
class DivergenceInputs:
    """A view's student logits (B, K), target, temperature (a number or (B,)) and values to log; or two views, stacked."""

    logits: Tensor
    target: Target
    tau: float | Tensor
    log: Values

    def compute(self, divergence: Divergence, labels: Tensor, state: State) -> tuple[Tensor, Values]:
        """Return the divergence (B,), weighted by the target's weights, and its values to log."""
        kd, logged = divergence.divergence(self.logits, self.target, labels, self.tau, state)
        return kd if self.target.weight is None else self.target.weight * kd, logged

    def stack_views(self, strong: "DivergenceInputs") -> "DivergenceInputs":
        """Stack both views, this one first: logits (2, B, K)."""
        targets = [one.target.as_logits(one.tau) for one in (self, strong)]
        return DivergenceInputs(torch.stack([self.logits, strong.logits]), Target(torch.stack(targets)), self.tau, {})


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean over the views."""
    return values[0] if len(values) == 1 else torch.stack([*values]).mean(dim=0)


def _mean_of_logs(logs: Sequence[Values]) -> Values:
    """The means over the views whose value exists and is not NaN."""
    if len(logs) == 1:
        return logs[0]
    names = dict.fromkeys(name for log in logs for name in log)
    return {name: torch.stack([log[name] for log in logs if name in log]).nanmean(dim=0) for name in names}
