"""What the student is taught: pure functions from tensors to per-sample values."""

from prepkd.methods.adjustment import label_smooth, probability_shift, teacher_wrong
from prepkd.methods.kd import kl_divergence
from prepkd.methods.objective import distillation_loss
from prepkd.methods.temperature import cwsm_weights, dynamic_temperature, flsw_weights

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
