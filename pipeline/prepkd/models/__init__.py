"""Models: the CIFAR zoo, torchvision, timm, a user's own `package.module:factory`; features and checkpoints."""

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.models.build import build_model, check_model, pretrained
from prepkd.models.checkpoint import load_card, load_checkpoint, save_checkpoint
from prepkd.models.features import WithFeatures, feature_names, feature_shapes
from prepkd.models.normalised import Normalised
from prepkd.models.weights import load_weights
from prepkd.models.zoo import MODELS

__all__ = [
    "MODELS",
    "Normalised",
    "Preprocessing",
    "WithFeatures",
    "build_model",
    "check_model",
    "feature_names",
    "feature_shapes",
    "load_card",
    "load_checkpoint",
    "load_weights",
    "pretrained",
    "save_checkpoint",
]
