"""Teacher-free KD by regularisation: the teacher is a distribution made of the label."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.cross_entropy import cross_entropy
from prepkd.methods.kl import kl_divergence, upcast
from prepkd.methods.term import LabelTerm, State

Form = Literal["as-intended", "as-published"]


def virtual_teacher(labels: Tensor, classes: int, *, correct: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """u: `correct` at the label, (1 - correct) / (K - 1) elsewhere; probabilities (B, K), K at least 2.

    `labels` is int64 (B,), or shares of the classes (B, K), which stand for onehot(y).

    >>> virtual_teacher(torch.tensor([1]), 3, correct=0.9)
    tensor([[0.0500, 0.9000, 0.0500]])
    """
    onehot = (F.one_hot(labels, classes) if labels.ndim == 1 else labels).to(dtype)
    return correct * onehot + (1 - correct) / (classes - 1) * (1 - onehot)


def virtual_teacher_loss(
    student_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    tau: float,
    correct: float,
    form: Form = "as-intended",
    multiplier: float = 100.0,
) -> Tensor:
    """(1 - alpha) CE + alpha KD of each sample with the virtual teacher u, (B,), for logits (B, K).

    `as-intended`, the paper's: KD is tau^2 KL(u_tau || softmax(v / tau)), u_tau proportional to u^(1 / tau). `as-published`,
    the authors' code: multiplier / K * KL(softmax(u / tau) || softmax(v)). The softmax of probabilities is nearly uniform.
    Source: Yuan et al. 2020, arXiv 1909.11723, section 4, Tf-KD_reg; yuanli2333/Teacher-free-Knowledge-Distillation.
    """
    logits = upcast(student_logits)
    classes = logits.shape[-1]
    teacher = virtual_teacher(labels, classes, correct=correct, dtype=logits.dtype)
    if form == "as-intended":
        kd = kl_divergence(logits, target_logits=teacher.log(), tau=tau)
    else:
        kd = multiplier / classes * kl_divergence(logits, target_probs=torch.softmax(teacher / tau, dim=-1), tau=1.0)
    return (1 - alpha) * cross_entropy(logits, labels) + alpha * kd


class VirtualTeacher(LabelTerm):
    """Cross-entropy and KD from a virtual teacher u made of the label, in place of `ce`; no teacher is asked."""

    name = "tf-kd-virtual"
    section = "tf_kd_virtual"
    source = "Yuan et al. 2020, arXiv 1909.11723 (Tf-KD_reg)"
    equation = (
        "(1 - alpha) CE + alpha KD,  u[y] = correct,  u[k] = (1 - correct) / (K - 1) for the others\n"
        "as-intended:   KD = tau^2 KL(u_tau || softmax(v / tau)),  u_tau proportional to u^(1 / tau)\n"
        "as-published:  KD = multiplier / K * KL(softmax(u / tau) || softmax(v))"
    )
    replaces_teacher = True
    # Defaults: the authors' settings of ResNet18 on CIFAR-100.
    form: Form = Field(default="as-intended", description="the paper's equation, or the authors' code: as-published")
    alpha: float = Field(default=0.1, ge=0, le=1, description="share of KD in the loss")
    tau: float = Field(default=20.0, gt=0, description="temperature of the virtual teacher")
    correct: float = Field(default=0.99, gt=0, lt=1, description="the virtual teacher's probability of the label")
    multiplier: float = Field(default=100.0, gt=0, description="as-published only: factor of KL / K")

    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """The weighted sum of both parts of each sample, (B,)."""
        return virtual_teacher_loss(student_logits, labels, **dict(self))
