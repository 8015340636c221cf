"""The student's whole loss: a method's terms put together, with what is worth logging."""

import torch
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.adjustment import label_smooth, probability_shift, teacher_wrong
from prepkd.methods.kd import column, kl_divergence, upcast
from prepkd.methods.settings import DTD
from prepkd.methods.temperature import cwsm_weights, flsw_weights, unclamped_temperature
from prepkd.training.student_settings import Distill


def distillation_loss(
    settings: Distill,
    student_logits: Tensor,
    labels: Tensor,
    teacher_offsets: Tensor | None,
    teacher_row_max: Tensor | None,
) -> dict[str, Tensor]:
    """ce_weight CE + kd_weight tau_i^2 KL(A(softmax(t_i / tau_i)) || softmax(v_i / tau_i)): `loss`, its parts, statistics.

    Student logits (B, K), labels int64 (B,) or shares of the classes (B, K); the teacher comes as z - max(z) (B, K) and
    max(z) (B,), as the store keeps it, or None for method `ce`. All values of the result are per sample, (B,).
    Source: Wen et al., arXiv 1911.07471.
    """
    method, (ce_weight, kd_weight) = settings.parsed, settings.weights
    student = upcast(student_logits)
    given = labels if labels.ndim == 1 else labels.to(student.dtype)
    ce = F.cross_entropy(student, given, reduction="none", label_smoothing=settings.label_smoothing)
    if not method.teacher:
        return {"loss": ce_weight * ce, "ce": ce.detach()}

    assert teacher_offsets is not None and teacher_row_max is not None
    offsets = upcast(teacher_offsets)
    tau: float | Tensor = settings.kd.tau
    log: dict[str, Tensor] = {}
    if method.temperature:
        raw = offsets + teacher_row_max.unsqueeze(-1)
        tau, log = _temperature(settings.dtd, method.temperature, student, raw)

    if method.adjustment is None:
        kd = kl_divergence(student, target_logits=offsets, tau=tau)
    else:
        # Right or wrong is decided on the offsets: on the sum with the row's maximum a tiny gap would round to a tie.
        wrong = teacher_wrong(offsets, labels)
        log["adjusted"] = wrong.float()
        if method.adjustment == "ps":
            kd = kl_divergence(student, target_logits=probability_shift(offsets, labels), tau=tau)
        else:
            target = label_smooth(offsets, labels, tau=tau, eps=settings.ka.eps)
            weight = torch.ones_like(ce)
            if settings.ka.lsr_weight == "1/tau":
                weight = torch.where(wrong, weight / tau, weight)
            kd = weight * kl_divergence(student, target_probs=target, tau=tau)
            log |= _gradient_norms(student, target, tau, weight, wrong)
    return {"loss": ce_weight * ce + kd_weight * kd, "ce": ce.detach(), "kd": kd.detach(), **log}


def _temperature(settings: DTD, weighting: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Each sample's temperature, and how it is spread."""
    if weighting == "flsw":
        weights, beta = flsw_weights(student, teacher, gamma=settings.flsw.gamma), settings.flsw.beta
    else:
        weights, beta = cwsm_weights(student), settings.cwsm.beta
    wanted = unclamped_temperature(weights, tau_0=settings.tau_0, beta=beta)
    tau = wanted.clamp(settings.tau_min, settings.tau_max)
    return tau, {"tau": tau, "tau_clamped": (wanted != tau).float()}


def _gradient_norms(
    student: Tensor, target: Tensor, tau: float | Tensor, weight: Tensor, wrong: Tensor
) -> dict[str, Tensor]:
    """The norm of each sample's gradient tau (softmax(v / tau) - target), NaN outside its group: LSR's beside KD's."""
    student = student.detach()
    difference = torch.softmax(student / column(tau), dim=-1) - target
    norms = weight * tau * difference.norm(dim=-1)
    return {
        "gradient_adjusted": norms.masked_fill(~wrong, torch.nan),
        "gradient_untouched": norms.masked_fill(wrong, torch.nan),
    }
