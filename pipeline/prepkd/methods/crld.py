"""Cross-view consistency: each view's student learns from the teacher's answer to its own view and to the other one."""

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import kl_divergence, paired
from prepkd.methods.term import Divergence, State, Target, Values, unchanged


def crld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    strong_student_logits: Tensor,
    strong_teacher_logits: Tensor,
    *,
    tau: float | Tensor,
    same_view: float,
    cross_view: float,
    weak_threshold: float,
    strong_threshold: float,
    standardise: Callable[[Tensor], Tensor] = unchanged,
) -> Tensor:
    """same_view m_w [KL(t_w, v_w) + KL(t_s, v_s)] + cross_view m_s [KL(t_w, v_s) + KL(t_s, v_w)], (B,), KL times tau^2.

    Logits (B, K) of student v and teacher t in a weak (w) and a strong (s) view. m_w and m_s are 1 where the teacher's
    confidence in the weak or strong view, at temperature 1, reaches its threshold, else 0. As in the published code, m_w also
    gates the strong view's own KL(t_s, v_s), and m_s also gates KL(t_w, v_s). `tau` is a number or (B,). `standardise` changes
    the logits of the KL, not those of the confidence.
    Source: Zhang et al. 2024, arXiv 2412.16493; scx-822/CRLD-main, CRLD.py.
    """
    in_weak = paired("crld", student_logits, teacher_logits, tau)
    in_strong = paired("crld", strong_student_logits, strong_teacher_logits, tau)
    student, teacher = zip(in_weak, in_strong, strict=True)
    weak, strong = (
        (torch.softmax(logits, dim=-1).amax(dim=-1) >= threshold).to(logits.dtype)
        for logits, threshold in zip(teacher, (weak_threshold, strong_threshold), strict=True)
    )
    same, cross = (
        sum(
            kl_divergence(standardise(v), target_logits=standardise(t), tau=tau)
            for v, t in zip(student, answers, strict=True)
        )
        for answers in (teacher, teacher[::-1])
    )
    return same_view * weak * same + cross_view * strong * cross


class CRLD(Divergence):
    """KL within a weak and a strong view and across them, where the teacher is confident."""

    name = "crld"
    section = "crld"
    source = "Zhang et al. 2024, arXiv 2412.16493"
    equation = (
        "tau^2 { same_view m_w [KL(t_w || v_w) + KL(t_s || v_s)] + cross_view m_s [KL(t_w || v_s) + KL(t_s || v_w)] }\n"
        "w, s: weak and strong view,  m_w = [max softmax(t_w) >= weak_threshold],  m_s likewise"
    )
    takes_probs = False
    standardises = True
    views = 2
    # The authors weigh CE by 1 in each of two views; here CE is the mean over both.
    ce_weight = 2.0
    kd_weight = 1.0
    same_view: float = Field(default=2.0, ge=0, description="weight of both views' KL with their own answers")
    cross_view: float = Field(default=0.5, ge=0, description="weight of both views' KL with the other view's answers")
    weak_threshold: float = Field(
        default=0.9, ge=0, le=1, description="teacher's confidence in the weak view from which same_view counts"
    )
    strong_threshold: float = Field(
        default=0.2, ge=0, le=1, description="teacher's confidence in the strong view from which cross_view counts"
    )

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The weighted sum of four KL, (B,), times tau^2; logits are (2, B, K), `tau` is the weak view's."""
        (weak, strong), (teacher, strong_teacher) = student_logits, target.as_logits(tau)
        loss = crld(weak, teacher, strong, strong_teacher, tau=tau, standardise=state.standardise, **dict(self))
        return loss, {}
