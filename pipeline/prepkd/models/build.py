"""From a name to a model: a plain dict, and `package.module:factory` for everybody else's."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

from torch import nn

from prepkd.errors import InputError
from prepkd.models.convnet import ConvNet
from prepkd.models.library import build_library_model, check_library_model
from prepkd.models.mobilenet import MobileNetV2
from prepkd.models.names import is_factory, problem, split_name
from prepkd.models.resnet import NARROW, WIDE_X4, ResNet
from prepkd.models.resnet_four import Basic, Bottleneck, FourStageResNet
from prepkd.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from prepkd.models.vgg import VGG, VGG8, VGG11, VGG13, VGG16, VGG19
from prepkd.models.wrn import WideResNet

# Each is called with num_classes and in_channels, by keyword.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(ResNet, 8, NARROW),
    "resnet14": partial(ResNet, 14, NARROW),
    "resnet20": partial(ResNet, 20, NARROW),
    "resnet32": partial(ResNet, 32, NARROW),
    "resnet44": partial(ResNet, 44, NARROW),
    "resnet56": partial(ResNet, 56, NARROW),
    "resnet110": partial(ResNet, 110, NARROW),
    "resnet8x4": partial(ResNet, 8, WIDE_X4),
    "resnet32x4": partial(ResNet, 32, WIDE_X4),
    "wrn_16_1": partial(WideResNet, 16, 1),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_1": partial(WideResNet, 40, 1),
    "wrn_40_2": partial(WideResNet, 40, 2),
    "wrn_28_10": partial(WideResNet, 28, 10),
    "vgg8": partial(VGG, VGG8),
    "vgg11": partial(VGG, VGG11),
    "vgg13": partial(VGG, VGG13),
    "vgg16": partial(VGG, VGG16),
    "vgg19": partial(VGG, VGG19),
    "mobilenetv2": partial(MobileNetV2, 0.5),
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
    "resnet18": partial(FourStageResNet, Basic, (2, 2, 2, 2)),
    "resnet34": partial(FourStageResNet, Basic, (3, 4, 6, 3)),
    "resnet50": partial(FourStageResNet, Bottleneck, (3, 4, 6, 3)),
    "convnet4": partial(ConvNet, 4),
    "convnet8": partial(ConvNet, 8),
    "convnet16": partial(ConvNet, 16),
    "convnet32": partial(ConvNet, 32),
    "convnet64": partial(ConvNet, 64),
}


def build_model(name: str, num_classes: int, *, in_channels: int = 3) -> nn.Module:
    """A freshly initialised model: float images (B, in_channels, H, W) to logits (B, num_classes).

    `name` is a key of `MODELS`; `torchvision:NAME[:WEIGHTS]` or `timm:NAME[:pretrained]`; or `package.module:factory`, which
    is imported (the working directory counts) and called as `factory(num_classes=..., in_channels=...)`. Raises InputError
    for an unknown name, for weights that can't be fetched, and for a factory that can't be imported, can't be called so, or
    returns no nn.Module.

    >>> build_model("convnet8", 10, in_channels=1).fc.out_features
    10
    """
    if wrong := problem(name):
        raise InputError(f"model {name!r}: {wrong}")
    if split_name(name)[0]:
        return build_library_model(name, num_classes, in_channels)
    if is_factory(name):
        return _from_factory(name, num_classes, in_channels)
    return MODELS[name](num_classes=num_classes, in_channels=in_channels)


def check_model(name: str, in_channels: int = 3) -> None:
    """Raise InputError where `build_model` would for the name alone: before any work, and without building or fetching."""
    if wrong := problem(name):
        raise InputError(f"model {name!r}: {wrong}")
    if split_name(name)[0]:
        check_library_model(name, in_channels)
    elif is_factory(name):
        _factory(name)


def _factory(name: str) -> Callable[..., object]:
    """What `package.module:factory` names, imported; raises InputError where it can't be called."""
    module_name, _, attribute = name.partition(":")
    try:
        with _working_directory_importable():
            module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"model {name!r}: can't import {module_name}: {_in_one_line(error)}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        # A module without __file__ is often a folder of the same name, found in place of what was meant.
        where = getattr(module, "__file__", None) or f"{module_name}, a folder without __init__.py"
        raise InputError(f"model {name!r}: {where} has no {attribute!r}")
    if not callable(factory):
        raise InputError(
            f"model {name!r}: {attribute} is of type {type(factory).__name__}; expected a function or class"
        )
    return cast(Callable[..., object], factory)


def _from_factory(name: str, num_classes: int, in_channels: int) -> nn.Module:
    factory, attribute = _factory(name), name.partition(":")[2]
    call = f"{attribute}(num_classes={num_classes}, in_channels={in_channels})"
    try:
        model = factory(num_classes=num_classes, in_channels=in_channels)
    except TypeError as error:
        raise InputError(f"model {name!r}: {call} raised TypeError: {_in_one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r}: {call} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


@contextlib.contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Put the working directory on sys.path, as `python -m` does and console scripts don't."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # The imported module may have tidied up sys.path itself.
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
