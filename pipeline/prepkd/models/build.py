"""Build a model from its name."""

from torch import nn

from prepkd.errors import InputError
from prepkd.models.factory import build_from_factory, load_factory
from prepkd.models.library import Pretrained
from prepkd.models.names import is_factory, library_model, problem
from prepkd.models.zoo import MODELS


def build_model(name: str, num_classes: int, *, in_channels: int = 3) -> nn.Module:
    """Build a model: float images (B, in_channels, H, W) to logits (B, num_classes).

    `name` is a key of `MODELS`; `torchvision:NAME[:WEIGHTS]` or `timm:NAME[:pretrained]`; or `package.module:factory`, which
    is imported (from the working directory, too) and called as `factory(num_classes=..., in_channels=...)`. Weights are
    freshly initialised unless the name has pretrained ones. Raises InputError for an unknown name, for a failed download of
    weights, and for a factory that can't be imported, can't be called so, or returns no nn.Module.

    >>> build_model("convnet8", 10, in_channels=1).fc.out_features
    10
    """
    _check_spelling(name)
    if model := library_model(name):
        return model.build(num_classes, in_channels)
    if is_factory(name):
        return build_from_factory(name, num_classes, in_channels)
    return MODELS[name](num_classes=num_classes, in_channels=in_channels)


def check_model(name: str, in_channels: int = 3) -> None:
    """Raise the InputError that `build_model` would raise for the name alone; builds and downloads nothing."""
    _check_spelling(name)
    if model := library_model(name):
        model.check(in_channels)
    elif is_factory(name):
        load_factory(name)


def pretrained(name: str) -> Pretrained | None:
    """Describe the pretrained weights in a model's name; None if it has none. Raises InputError for unknown weights."""
    model = library_model(name)
    return model.pretrained() if model else None


def _check_spelling(name: str) -> None:
    if wrong := problem(name):
        raise InputError(f"model {name!r}: {wrong}")
