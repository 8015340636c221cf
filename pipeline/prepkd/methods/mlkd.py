"""Multi-level logit distillation: samples, pairs of samples and pairs of classes, at several temperatures, in two views."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import kl_divergence, label_and_rest, paired
from prepkd.methods.term import Divergence, State, Target, Values, unchanged

Form = Literal["as-intended", "as-published"]
WEAK_AGAIN = 2  # the authors' code takes the weak view again at the last two temperatures


def mlkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    strong_student_logits: Tensor,
    strong_teacher_logits: Tensor,
    *,
    temperatures: Sequence[float],
    form: Form = "as-intended",
    standardise: Callable[[Tensor], Tensor] = unchanged,
) -> Tensor:
    """The sum over the temperatures of the three levels' losses, (B,), for logits (B, K) of a weak and a strong view.

    The weak view adds m [KL + pairs of samples] + pairs of classes, the strong view KL; each KL is times tau^2. m marks the half
    of the batch on which the teacher is least confident, and only the half of the classes with the least teacher probability
    counts in pairs of classes, both at temperature 1. Pairs of samples are the squared difference of the rows of P P', (B, B);
    pairs of classes that of P' P, (K, K), over K: one value for the batch. `as-published`, the authors' code: the masks scale
    the batch's means by the share that they mark, and the last two temperatures use the weak view in place of the strong one.
    `standardise` changes the logits of the KL alone, as in the code of logit standardisation.
    Source: Jin et al. 2023, "Multi-Level Logit Distillation", CVPR; Jin-Ying/Multi-Level-Logit-Distillation, KD_ours.py.
    """
    weak = paired("mlkd", student_logits, teacher_logits)
    strong = paired("mlkd", strong_student_logits, strong_teacher_logits)
    paired("mlkd, of both views", weak[0], strong[0])
    published, log_p = form == "as-published", torch.log_softmax(weak[1], dim=-1)
    # Confidences that round to 1 are told apart by what is left to the other classes.
    doubt = label_and_rest(log_p, log_p.argmax(dim=-1))[1]
    rows, classes = _lower_half(-doubt), _lower_half(log_p.exp().sum(dim=0))
    if published:
        rows, classes = rows.mean(), classes.mean()
    compared, compared_strong = ((standardise(v), standardise(t)) for v, t in (weak, strong))
    total = torch.zeros_like(weak[0][:, 0])
    for place, tau in enumerate(temperatures):
        student, teacher = (torch.softmax(logits / tau, dim=-1) for logits in weak)
        samples = (student @ student.mT - teacher @ teacher.mT).square().sum(dim=-1)
        pairs = (student.mT @ student - teacher.mT @ teacher).square().sum(dim=-1)
        again = compared if published and place >= len(temperatures) - WEAK_AGAIN else compared_strong
        total = total + rows * (_kl(*compared, tau) + samples) + (classes * pairs).mean() + _kl(*again, tau)
    return total


def _kl(student_logits: Tensor, teacher_logits: Tensor, tau: float) -> Tensor:
    return kl_divergence(student_logits, target_logits=teacher_logits, tau=tau)


def _lower_half(values: Tensor) -> Tensor:
    """1 for values (n,) up to their median, else 0; by sorting, which CUDA graphs and deterministic runs allow."""
    return (values <= values.sort().values[(len(values) - 1) // 2]).to(values.dtype)


_FIXED = "mlkd has a set of temperatures of its own"


class MLKD(Divergence):
    """KL at several temperatures in a weak and a strong view, and in the weak one relations of samples and of classes."""

    name = "mlkd"
    section = "mlkd"
    source = "Jin et al. 2023, Multi-Level Logit Distillation, CVPR"
    equation = (
        "sum_tau m_i [tau^2 KL(w) + ||(P P' - T T')_i||^2] + sum_k n_k ||(P' P - T' T)_k||^2 / K + tau^2 KL(s)\n"
        "w, s: weak and strong view,  P, T: student's and teacher's probabilities of the batch in w, at tau\n"
        "m, n: the less confident half of the batch, the half of the classes with the least mass"
    )
    excludes = {"dtd-flsw": _FIXED, "dtd-cwsm": _FIXED}
    tempered = False
    takes_probs = False
    standardises = True
    views = 2
    # The authors weigh CE by 0.1 in each of two views; here CE is the mean over both.
    ce_weight = 0.2
    kd_weight = 0.9
    temperatures: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = Field(
        default=[4.0, 3.0, 5.0, 2.0, 6.0], description="temperatures whose losses are added up"
    )
    form: Form = Field(
        default="as-intended", description="masks of rows and classes, or the authors' code: as-published"
    )

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The sum over the temperatures, (B,); logits are (2, B, K)."""
        (weak, strong), (teacher, strong_teacher) = student_logits, target.as_logits(tau)
        return mlkd(weak, teacher, strong, strong_teacher, standardise=state.standardise, **dict(self)), {}
