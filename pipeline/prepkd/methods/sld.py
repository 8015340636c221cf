"""Swapped Logit Distillation: teacher and student, both with their wrong answers swapped, teach the student."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import kl_divergence, paired
from prepkd.methods.knowledge_adjustment import probability_shift
from prepkd.methods.term import Divergence, State, Target, Values


def sld(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperatures: Sequence[float]) -> Tensor:
    """The sum over the temperatures of tau^2 KL(softmax(S(t) / tau) || softmax(v / tau)), (B,), for logits (B, K).

    S swaps the values at the label and at the maximum where the answer is wrong. The second teacher of the method is the
    student itself: pass the student's logits twice. In the authors' code a gradient also flows into that target. Labels are
    int64 (B,), or shares of the classes (B, K).
    Source: Limantoro et al. 2025, arXiv 2504.20108.
    """
    student, teacher = paired("sld", student_logits, teacher_logits, labels=labels)
    target = probability_shift(teacher, labels)
    values = [kl_divergence(student, target_logits=target, tau=tau) for tau in temperatures]
    return sum(values[1:], values[0])


_FIXED = "sld has a set of temperatures of its own"


class SLD(Divergence):
    """KL at several temperatures with the teacher's and later with the student's own answer, wrong ones swapped; one view."""

    name = "sld"
    section = "sld"
    source = "Limantoro et al. 2025, arXiv 2504.20108"
    equation = "sum_tau tau^2 [KL(S(t) || v) + later KL(S(v) || v)],  S: the swap of ka-ps"
    excludes = {
        "ka-ps": "sld swaps the teacher's wrong answers itself",
        "dtd-flsw": _FIXED,
        "dtd-cwsm": _FIXED,
    }
    tempered = False
    takes_probs = False
    ce_weight = 0.1
    full_after = "student_from_epoch"
    temperatures: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = Field(
        default=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], description="temperatures whose KL are added up"
    )
    student_from_epoch: int = Field(
        default=150, ge=0, description="epoch, from 0, since when the student teaches as well"
    )

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The teacher's part and, since `student_from_epoch`, the student's own, (B,)."""
        by_teacher = sld(student_logits, target.as_logits(tau), labels, temperatures=self.temperatures)
        by_student = sld(student_logits, student_logits, labels, temperatures=self.temperatures)
        return by_teacher + (state.epoch >= self.student_from_epoch) * by_student, {}
