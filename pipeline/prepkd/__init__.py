"""prepkd: knowledge distillation for image classifiers: cache a teacher's logits once, train any number of students.

Stores and data
    LogitStore    a teacher's logits for every view: open(url), logits(view), plan
    FeatureStore  the same of a teacher's features
    ViewDataset   training images under a view, their labels, and the teacher's logits for exactly these pixels
    ViewSampler   samples and views in the order of `prepkd distill`, for a DataLoader
    ViewPlan      the views of a recipe, as integers, and their pixels

Training and trained models
    losses        distillation losses as functions of tensors: kl_divergence, probability_shift, ...
    build_model   a model by its name: the zoo's, torchvision:NAME, timm:NAME, package.module:factory
    save          save a student of any training loop for load, predict, export and compare --add
    load          a trained model with its preprocessing, as a module that takes images

    InputError    raised for wrong input, with a message of one line

The commands: `prepkd --help`. Each name's own page: help(prepkd.ViewDataset).
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prepkd import losses as losses
    from prepkd.deployment.classifier import load as load
    from prepkd.deployment.save import save as save
    from prepkd.distillation.view_dataset import ViewDataset as ViewDataset
    from prepkd.distillation.view_dataset import ViewSampler as ViewSampler
    from prepkd.errors import InputError as InputError
    from prepkd.models import build_model as build_model
    from prepkd.store import FeatureStore as FeatureStore
    from prepkd.store import LogitStore as LogitStore
    from prepkd.views import ViewPlan as ViewPlan

__version__ = version("prepkd")
__all__ = [
    "FeatureStore",
    "InputError",
    "LogitStore",
    "ViewDataset",
    "ViewPlan",
    "ViewSampler",
    "__version__",
    "build_model",
    "load",
    "losses",
    "save",
]

# Lazy (PEP 562), so that `import prepkd` and `prepkd --help` never import torch.
_HOMES = {
    "FeatureStore": "prepkd.store",
    "InputError": "prepkd.errors",
    "LogitStore": "prepkd.store",
    "ViewDataset": "prepkd.distillation.view_dataset",
    "ViewPlan": "prepkd.views",
    "ViewSampler": "prepkd.distillation.view_dataset",
    "build_model": "prepkd.models",
    "load": "prepkd.deployment.classifier",
    "save": "prepkd.deployment.save",
}


def __getattr__(name: str) -> object:
    if name == "losses":
        return import_module("prepkd.losses")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'prepkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
