"""The losses as pure functions from tensors to values per sample.

Settings outside their domain and tensors of mismatched shapes raise InputError. No gradient flows into the teacher's tensors,
except into the embeddings of `info_nce` and the scores of `noise_contrastive`, which are trained. Every name assigned here is
public: type checkers export it, and `help(prepkd.losses)` lists it.
"""

from inspect import isfunction

from prepkd.methods import activation_boundaries as ab
from prepkd.methods import attention_transfer as at
from prepkd.methods import contrastive as crd
from prepkd.methods import correlation_congruence as cc
from prepkd.methods import crld as _crld
from prepkd.methods import cross_entropy as ce
from prepkd.methods import dist as _dist
from prepkd.methods import disturbed_labels as _disturbed
from prepkd.methods import dkd as _dkd
from prepkd.methods import dynamic_temperature as dtd
from prepkd.methods import fitnet, fsp, kl
from prepkd.methods import knowledge_adjustment as ka
from prepkd.methods import label_revision as lr
from prepkd.methods import logit_mse as _logit_mse
from prepkd.methods import logit_standardisation as ls
from prepkd.methods import luminet as _luminet
from prepkd.methods import mlkd as _mlkd
from prepkd.methods import neuron_selectivity as nst
from prepkd.methods import nkd as _nkd
from prepkd.methods import noisy_teacher as noisy
from prepkd.methods import overhaul as ofd
from prepkd.methods import pkt as probabilistic
from prepkd.methods import relational as rkd
from prepkd.methods import rld as _rld
from prepkd.methods import similarity_preserving as sp
from prepkd.methods import sld as _sld
from prepkd.methods import variational_information as vid
from prepkd.methods import virtual_teacher as tf_kd
from prepkd.methods import wttm as _wttm
from prepkd.methods.domains import checked
from prepkd.methods.kd import FixedTemperature
from prepkd.methods.smoothed_labels import SmoothedLabels

# Of KA and DTD
cwsm_weights = dtd.cwsm_weights
dynamic_temperature = checked(dtd.dynamic_temperature, dtd.DTD, dtd.CWSM)
flsw_weights = checked(dtd.flsw_weights, dtd.FLSW)
kl_divergence = checked(kl.kl_divergence, FixedTemperature)
label_smooth = checked(ka.label_smooth, FixedTemperature, ka.KA)
probability_shift = ka.probability_shift
teacher_wrong = ka.teacher_wrong
# Of logits
dist = checked(_dist.dist, FixedTemperature, _dist.DIST)
dkd = checked(_dkd.dkd, FixedTemperature, _dkd.DKD)
logit_mse = _logit_mse.logit_mse
luminet = checked(_luminet.luminet, FixedTemperature, _luminet.LumiNet)
nkd = checked(_nkd.nkd, FixedTemperature, _nkd.NKD)
noisy_logits = noisy.noisy_logits
rld = checked(_rld.rld, FixedTemperature, _rld.RLD)
sld = checked(_sld.sld, _sld.SLD)
standardise = ls.standardise
wttm = checked(_wttm.wttm, _wttm.Power)
# Of the logits of two views
crld = checked(_crld.crld, FixedTemperature, _crld.CRLD)
mlkd = checked(_mlkd.mlkd, _mlkd.MLKD)
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
# Of labels
cross_entropy = checked(ce.cross_entropy, SmoothedLabels)
disturbed_labels = _disturbed.disturbed_labels
label_revision = checked(lr.label_revision, lr.LabelRevision)
virtual_teacher_loss = checked(tf_kd.virtual_teacher_loss, tf_kd.VirtualTeacher)
# Of pre-activations, flows and embeddings
activation_boundary = checked(ab.activation_boundary, ab.ActivationBoundaries)
flow = fsp.flow
flow_difference = fsp.flow_difference
info_nce = checked(crd.info_nce, crd.ContrastiveRepresentation)
margin_relu = ofd.margin_relu
negative_mean = ofd.negative_mean
noise_contrastive = crd.noise_contrastive
overhaul = ofd.overhaul

__all__ = sorted(name for name, value in globals().items() if isfunction(value) and value not in (checked, isfunction))


def __dir__() -> list[str]:
    return __all__
