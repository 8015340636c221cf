"""Decoupled Knowledge Distillation: separate losses for the target class and for the other classes."""

from pydantic import Field
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.methods.kl import label_and_rest, paired
from prepkd.methods.term import Divergence, State, Target, Values


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, tau: float | Tensor, alpha: float, beta: float
) -> Tensor:
    """tau^2 [alpha KL(b^t || b^s) + beta KL(q^t || q^s)] of each sample, (B,), for logits (B, K).

    b is (p[y], 1 - p[y]) and q the distribution of the other classes, at `tau`, a number or (B,). Labels are int64 (B,), or
    shares (B, K), of which the largest counts. Source: Zhao et al. 2022, arXiv 2203.08679, equation 7.
    >>> dkd(v := Tensor([[2.0, 0.0, 1.0]]), v, v.argmax(dim=1), tau=4.0, alpha=1.0, beta=8.0)
    tensor([0.])
    """
    both = paired("dkd", student_logits, teacher_logits, tau, labels)
    student, teacher = (Target(logits).log_probs(tau) for logits in both)
    own, others = dkd_parts(student, teacher, labels, tau=tau)
    return alpha * own + beta * others


def dkd_parts(student: Tensor, teacher: Tensor, labels: Tensor, *, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """tau^2 KL of (p[y], 1 - p[y]), and of the other classes' q; (B,) each, for log-probabilities (B, K): equations 5 to 7.
    tau^2 KL(p^t || p^s) is the first plus (1 - p^t[y]) times the second."""
    label = main_class(labels)
    (own_s, rest_s), (own_t, rest_t) = (label_and_rest(log_p, label) for log_p in (student, teacher))
    own = own_t.exp() * (own_t - own_s) + rest_t.exp() * (rest_t - rest_s)
    of_rest = (log_p - rest.unsqueeze(-1) for log_p, rest in ((student, rest_s), (teacher, rest_t)))
    q_s, q_t = (log_q.scatter(1, label.unsqueeze(1), 0) for log_q in of_rest)  # 0 at the label, in logarithms
    return tau**2 * own, tau**2 * (q_t.exp() * (q_t - q_s)).sum(dim=-1)


class DKD(Divergence):
    """Decoupled KD: separate weights for the target class against the rest and for the distribution of the others."""

    name = section = "dkd"
    source = "Zhao et al. 2022, arXiv 2203.08679"
    equation = "tau^2 [alpha KL((p^t[y], rest) || (p^s[y], rest)) + beta KL(q^t || q^s)],  q: p without y"
    ce_weight = kd_weight = 1.0
    full_after = "warmup_epochs"
    alpha: float = Field(default=1.0, ge=0, description="weight of the target class's part")
    beta: float = Field(default=8.0, ge=0, description="weight of the other classes' part")
    warmup_epochs: int = Field(default=20, ge=0, description="epochs over which the weight of both parts rises to 1")

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """alpha * target + beta * others, (B,), scaled linearly up to 1 during the warm-up."""
        own, others = dkd_parts(Target(student_logits).log_probs(tau), target.log_probs(tau), labels, tau=tau)
        loss = state.warmup(self.warmup_epochs) * (self.alpha * own + self.beta * others)
        return loss, {"target_class": own, "other_classes": others}
