"""LumiNet: logits are standardised per class over the batch before they are compared."""

from pydantic import Field
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import kl_divergence, paired
from prepkd.methods.term import Divergence, State, Target, Values

EPS = 1e-5  # of the authors' code, added to a variance


def luminet(student_logits: Tensor, teacher_logits: Tensor, *, tau: float | Tensor, alpha: float) -> Tensor:
    """alpha^2 KL(softmax(h^t / tau) || softmax(h^s / tau)) of each sample, (B,), for raw logits (B, K).

    h is each class's logit minus its mean over the batch, divided by its standard deviation there (biased, 1e-5 added to the
    variance). A constant added to a row changes it. `tau` is a number or (B,). Raises InputError for a batch of one.
    Source: Hossain et al. 2023, arXiv 2310.03669.
    """
    if len(student_logits) == 1:
        raise InputError("luminet standardises each class over the batch: a batch of one sample; expected two or more")
    student, teacher = map(_over_batch, paired("luminet", student_logits, teacher_logits, tau))
    return (alpha / tau) ** 2 * kl_divergence(student, target_logits=teacher, tau=tau)


def _over_batch(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + EPS).rsqrt()


class LumiNet(Divergence):
    """KL of logits that are standardised per class over the batch."""

    name = "luminet"
    section = "luminet"
    source = "Hossain et al. 2023, arXiv 2310.03669"
    equation = "alpha^2 KL(softmax(h^t / tau) || softmax(h^s / tau)),  h: each class standardised over the batch"
    excludes = {"ls": "luminet standardises the logits itself, per class"}
    takes_probs = False  # a class's mean over the batch would mix logits with logarithms of probabilities
    needs_raw = True
    ce_weight = 2.0
    kd_weight = 1.0
    full_after = "warmup_epochs"
    alpha: float = Field(default=33.0, ge=0, description="its square is the weight of KL, in place of tau^2")
    warmup_epochs: int = Field(default=20, ge=0, description="epochs over which the weight rises to 1")

    @property
    def smallest_batch(self) -> int:
        """Two samples."""
        return 2

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """alpha^2 KL, (B,), scaled linearly up to 1 during the warm-up."""
        loss = luminet(student_logits, target.as_logits(tau), tau=tau, alpha=self.alpha)
        return state.warmup(self.warmup_epochs) * loss, {}
