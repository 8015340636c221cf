"""The losses as pure functions from tensors to values per sample."""

from prepkd.methods.dynamic_temperature import cwsm_weights, dynamic_temperature, flsw_weights
from prepkd.methods.kl import kl_divergence
from prepkd.methods.knowledge_adjustment import label_smooth, probability_shift, teacher_wrong

__all__ = [
    "cwsm_weights",
    "dynamic_temperature",
    "flsw_weights",
    "kl_divergence",
    "label_smooth",
    "probability_shift",
    "teacher_wrong",
]
