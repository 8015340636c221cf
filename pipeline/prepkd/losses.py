"""The losses as pure functions from tensors to values per sample; settings outside their domain raise InputError."""

from prepkd.methods import cross_entropy as ce
from prepkd.methods import dynamic_temperature as dtd
from prepkd.methods import kl
from prepkd.methods import knowledge_adjustment as ka
from prepkd.methods import label_revision as lr
from prepkd.methods import virtual_teacher as tf_kd
from prepkd.methods.disturbed_labels import disturbed_labels
from prepkd.methods.domains import checked
from prepkd.methods.kd import FixedTemperature
from prepkd.methods.logit_standardisation import standardise
from prepkd.methods.noisy_teacher import noisy_logits
from prepkd.methods.smoothed_labels import SmoothedLabels

__all__ = [
    "cross_entropy",
    "cwsm_weights",
    "disturbed_labels",
    "dynamic_temperature",
    "flsw_weights",
    "kl_divergence",
    "label_revision",
    "label_smooth",
    "noisy_logits",
    "probability_shift",
    "standardise",
    "teacher_wrong",
    "virtual_teacher_loss",
]

cwsm_weights = dtd.cwsm_weights
dynamic_temperature = checked(dtd.dynamic_temperature, dtd.DTD, dtd.CWSM)
flsw_weights = checked(dtd.flsw_weights, dtd.FLSW)
kl_divergence = checked(kl.kl_divergence, FixedTemperature)
label_smooth = checked(ka.label_smooth, FixedTemperature, ka.KA)
probability_shift = ka.probability_shift
teacher_wrong = ka.teacher_wrong
cross_entropy = checked(ce.cross_entropy, SmoothedLabels)
label_revision = checked(lr.label_revision, lr.LabelRevision)
virtual_teacher_loss = checked(tf_kd.virtual_teacher_loss, tf_kd.VirtualTeacher)
