"""All terms: adding one is a file and an entry here; grammar, settings, schema and reference page are derived."""

from prepkd.methods.activation_boundaries import ActivationBoundaries
from prepkd.methods.attention_transfer import AttentionTransfer
from prepkd.methods.contrastive import ContrastiveRepresentation
from prepkd.methods.correlation_congruence import CorrelationCongruence
from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.dkd import DKD
from prepkd.methods.dynamic_temperature import CwsmTemperature, FlswTemperature
from prepkd.methods.fitnet import FitNet
from prepkd.methods.fsp import FlowOfSolution
from prepkd.methods.kd import KD, FixedTemperature
from prepkd.methods.knowledge_adjustment import LabelSmoothing, ProbabilityShift
from prepkd.methods.neuron_selectivity import NeuronSelectivity
from prepkd.methods.overhaul import Overhaul
from prepkd.methods.pkt import ProbabilisticTransfer
from prepkd.methods.relational import Relational
from prepkd.methods.similarity_preserving import PooledSimilarity, SimilarityPreserving
from prepkd.methods.term import Term
from prepkd.methods.variational_information import VariationalInformation
from prepkd.settings.section import Section

TERMS: dict[str, type[Term]] = {
    "ce": CrossEntropy,
    "kd": KD,
    "dkd": DKD,
    "ka-ps": ProbabilityShift,
    "ka-lsr": LabelSmoothing,
    "dtd-flsw": FlswTemperature,
    "dtd-cwsm": CwsmTemperature,
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
