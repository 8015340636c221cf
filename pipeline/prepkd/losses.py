"""The losses as pure functions from tensors to values per sample; settings outside their domain raise InputError."""

from prepkd.methods import activation_boundaries as ab
from prepkd.methods import attention_transfer as at
from prepkd.methods import contrastive as crd
from prepkd.methods import correlation_congruence as cc
from prepkd.methods import dynamic_temperature as dtd
from prepkd.methods import fitnet, fsp, kl
from prepkd.methods import knowledge_adjustment as ka
from prepkd.methods import neuron_selectivity as nst
from prepkd.methods import overhaul as ofd
from prepkd.methods import pkt as probabilistic
from prepkd.methods import relational as rkd
from prepkd.methods import similarity_preserving as sp
from prepkd.methods import variational_information as vid
from prepkd.methods.domains import checked
from prepkd.methods.kd import FixedTemperature

__all__ = [
    "activation_boundary",
    "attention_map",
    "attention_transfer",
    "correlation_congruence",
    "cwsm_weights",
    "dynamic_temperature",
    "flow",
    "flow_difference",
    "flsw_weights",
    "hint",
    "info_nce",
    "kl_divergence",
    "label_smooth",
    "margin_relu",
    "negative_mean",
    "neuron_selectivity",
    "noise_contrastive",
    "overhaul",
    "pkt",
    "probability_shift",
    "relational",
    "selectivity_kernel",
    "similarity_preserving",
    "teacher_wrong",
    "variational_information",
]

cwsm_weights = dtd.cwsm_weights
dynamic_temperature = checked(dtd.dynamic_temperature, dtd.DTD, dtd.CWSM)
flsw_weights = checked(dtd.flsw_weights, dtd.FLSW)
kl_divergence = checked(kl.kl_divergence, FixedTemperature)
label_smooth = checked(ka.label_smooth, FixedTemperature, ka.KA)
probability_shift = ka.probability_shift
teacher_wrong = ka.teacher_wrong

# Of features
attention_map = at.attention_map
attention_transfer = at.attention_transfer
correlation_congruence = checked(cc.correlation_congruence, cc.CorrelationCongruence)
hint = fitnet.hint
neuron_selectivity = nst.neuron_selectivity
pkt = probabilistic.pkt
relational = checked(rkd.relational, rkd.Relational)
selectivity_kernel = nst.selectivity_kernel
similarity_preserving = sp.similarity_preserving
variational_information = vid.variational_information
# Of pre-activations, flows and embeddings
activation_boundary = checked(ab.activation_boundary, ab.ActivationBoundaries)
flow = fsp.flow
flow_difference = fsp.flow_difference
info_nce = checked(crd.info_nce, crd.ContrastiveRepresentation)
margin_relu = ofd.margin_relu
negative_mean = ofd.negative_mean
noise_contrastive = crd.noise_contrastive
overhaul = ofd.overhaul
