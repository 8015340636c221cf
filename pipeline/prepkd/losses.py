"""The losses as pure functions from tensors to values per sample; settings outside their domain raise InputError."""

from prepkd.methods import dynamic_temperature as dtd
from prepkd.methods import kl
from prepkd.methods import knowledge_adjustment as ka
from prepkd.methods.domains import checked
from prepkd.methods.kd import FixedTemperature

__all__ = [
    "cwsm_weights",
    "dynamic_temperature",
    "flsw_weights",
    "kl_divergence",
    "label_smooth",
    "probability_shift",
    "teacher_wrong",
]

cwsm_weights = dtd.cwsm_weights
dynamic_temperature = checked(dtd.dynamic_temperature, dtd.DTD, dtd.CWSM)
flsw_weights = checked(dtd.flsw_weights, dtd.FLSW)
kl_divergence = checked(kl.kl_divergence, FixedTemperature)
label_smooth = checked(ka.label_smooth, FixedTemperature, ka.KA)
probability_shift = ka.probability_shift
teacher_wrong = ka.teacher_wrong
