"""What the student is taught: pure functions from tensors to per-sample values."""

from prepkd.losses.adjustment import label_smooth, probability_shift, teacher_wrong
from prepkd.losses.kd import kl_divergence
from prepkd.losses.objective import distillation_loss
from prepkd.losses.temperature import cwsm_weights, dynamic_temperature, flsw_weights

__all__ = [
    "cwsm_weights",
    "distillation_loss",
    "dynamic_temperature",
    "flsw_weights",
    "kl_divergence",
    "label_smooth",
    "probability_shift",
    "teacher_wrong",
]
