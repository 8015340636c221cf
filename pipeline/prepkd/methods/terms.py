"""All terms: adding one is a file and an entry here; grammar, settings, schema and reference page are derived."""

from prepkd.methods.activation_boundaries import ActivationBoundaries
from prepkd.methods.attention_transfer import AttentionTransfer
from prepkd.methods.contrastive import ContrastiveRepresentation
from prepkd.methods.correlation_congruence import CorrelationCongruence
from prepkd.methods.crld import CRLD
from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.dist import DIST
from prepkd.methods.disturbed_labels import DisturbedLabels
from prepkd.methods.dkd import DKD
from prepkd.methods.dynamic_temperature import CwsmTemperature, FlswTemperature
from prepkd.methods.fitnet import FitNet
from prepkd.methods.fsp import FlowOfSolution
from prepkd.methods.kd import KD, FixedTemperature
from prepkd.methods.knowledge_adjustment import LabelSmoothing, ProbabilityShift
from prepkd.methods.label_revision import LabelRevision
from prepkd.methods.logit_mse import LogitMSE
from prepkd.methods.logit_standardisation import LogitStandardisation
from prepkd.methods.luminet import LumiNet
from prepkd.methods.mlkd import MLKD
from prepkd.methods.neuron_selectivity import NeuronSelectivity
from prepkd.methods.nkd import NKD
from prepkd.methods.noisy_teacher import NoisyTeacher
from prepkd.methods.overhaul import Overhaul
from prepkd.methods.pkt import ProbabilisticTransfer
from prepkd.methods.relational import Relational
from prepkd.methods.rld import RLD
from prepkd.methods.similarity_preserving import PooledSimilarity, SimilarityPreserving
from prepkd.methods.sld import SLD
from prepkd.methods.smoothed_labels import SmoothedLabels
from prepkd.methods.term import Term
from prepkd.methods.variational_information import VariationalInformation
from prepkd.methods.virtual_teacher import VirtualTeacher
from prepkd.methods.wttm import WTTM
from prepkd.settings.section import Section

TERMS: dict[str, type[Term]] = {
    "ce": CrossEntropy,
    "kd": KD,
    "dkd": DKD,
    "logit-mse": LogitMSE,
    "dist": DIST,
    "nkd": NKD,
    "wttm": WTTM,
    "rld": RLD,
    "luminet": LumiNet,
    "sld": SLD,
    "mlkd": MLKD,
    "crld": CRLD,
    "ka-ps": ProbabilityShift,
    "ka-lsr": LabelSmoothing,
    "dtd-flsw": FlswTemperature,
    "dtd-cwsm": CwsmTemperature,
    "lsr": SmoothedLabels,
    "disturb-label": DisturbedLabels,
    "tf-kd-virtual": VirtualTeacher,
    "noisy-teacher": NoisyTeacher,
    "label-revision": LabelRevision,
    "ls": LogitStandardisation,
    "at": AttentionTransfer,
    "fitnet": FitNet,
    "nst": NeuronSelectivity,
    "sp": SimilarityPreserving,
    "sp-pooled": PooledSimilarity,
    "rkd": Relational,
    "pkt": ProbabilisticTransfer,
    "vid": VariationalInformation,
    "cc": CorrelationCongruence,
    "fsp": FlowOfSolution,
    "ab": ActivationBoundaries,
    "ofd": Overhaul,
    "crd": ContrastiveRepresentation,
}

# The settings under `distill`, by key; the fixed temperature is the default of its slot and has no name in a method.
_WITH_SETTINGS: tuple[type[Term], ...] = (FixedTemperature, *TERMS.values())
SECTIONS: dict[str, type[Section]] = {term.section: term.section_class() for term in _WITH_SETTINGS if term.section}
