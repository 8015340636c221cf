"""Models of torchvision and timm by name, with their pretrained weights and the preprocessing that belongs to these."""

import contextlib
import difflib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.names import split_name

# Their forward pass returns more than logits while training.
AUXILIARY = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Pretrained:
    """Weights that a library offers: where they come from, their classes, and the pixels that they expect."""

    source: str
    classes: int
    preprocessing: Preprocessing


def build_library_model(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A model `torchvision:NAME[:WEIGHTS]` or `timm:NAME[:pretrained]`, with its weights where the name asks for them.

    The classifier is the weights' own where they have `num_classes` classes, and freshly initialised otherwise. Raises
    InputError for an unknown name, channels that the library doesn't offer, and a download that fails.
    """
    return LOADERS[split_name(name)[0]](name, num_classes, in_channels)


def check_library_model(name: str, in_channels: int) -> None:
    """Raise InputError where a library lacks a model, its weights or the channels; nothing is built or fetched."""
    library, model, _ = split_name(name)
    CHECKS[library](name, model, in_channels)
    pretrained(name)


def pretrained(name: str) -> Pretrained | None:
    """What is known of the pretrained weights that a name asks for; None where it asks for none. Raises InputError."""
    library, model, weights = split_name(name)
    return DESCRIPTIONS[library](name, model, weights) if library and weights else None


def _torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    _, model, weights = split_name(name)
    _check_torchvision(name, model, in_channels)
    body = cast(nn.Module, models.get_model(model, weights=None, num_classes=num_classes))
    if weights:
        chosen = _torchvision_weights(name, model, weights)
        state = _downloaded(name, chosen.url, lambda: chosen.get_state_dict(progress=False, check_hash=True))
        _load_but_the_classifier(name, body, state, num_classes, len(chosen.meta["categories"]))
    return body


def _check_torchvision(name: str, model: str, in_channels: int = 3) -> None:
    from torchvision import models

    if model in AUXILIARY:
        raise InputError(
            f"model {name!r}: left out, because it returns auxiliary outputs beside its logits in training"
        )
    _known(name, model, [one for one in models.list_models(module=models) if one not in AUXILIARY])
    if in_channels != 3:
        raise InputError(f"model {name!r} takes 3 channels, the images have {in_channels}; timm's models take any")


def _torchvision_weights(name: str, model: str, weights: str) -> Any:
    from torchvision import models

    _check_torchvision(name, model)
    offered = models.get_model_weights(model)
    if weights not in offered.__members__:
        raise InputError(f"model {name!r}: no weights {weights!r}; offered: {', '.join(offered.__members__)}")
    return offered[weights]


def _describe_torchvision(name: str, model: str, weights: str) -> Pretrained:
    chosen = _torchvision_weights(name, model, weights)
    preset = chosen.transforms()
    # The views have cut the picture out already: it is resized to the size that the weights see.
    preprocessing = Preprocessing(
        tuple(preset.mean), tuple(preset.std), preset.crop_size[0], str(preset.interpolation.value)
    )
    return Pretrained(chosen.url, len(chosen.meta["categories"]), preprocessing)


def _timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    _, model, weights = split_name(name)
    timm = _check_timm(name, model)
    if not weights:
        return cast(
            nn.Module, timm.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels)
        )
    source = _describe_timm(name, model, weights).source

    def create() -> object:
        return timm.create_model(model, pretrained=True, num_classes=num_classes, in_chans=in_channels)

    with _quiet_hub():
        return cast(nn.Module, _downloaded(name, source, create))


def _check_timm(name: str, model: str, _: int = 3) -> ModuleType:
    timm = _imported_timm(name)
    _known(name, model.partition(".")[0], timm.list_models())
    try:
        timm.get_pretrained_cfg(model)
    except RuntimeError:  # a tag that nobody has, which timm refuses also where no weights are asked for
        raise InputError(f"model {name!r}: timm has no weights for it{_guess(model, timm.list_pretrained())}") from None
    return timm


def _describe_timm(name: str, model: str, weights: str) -> Pretrained:
    timm = _check_timm(name, model)
    if weights != "pretrained":
        raise InputError(
            f"model {name!r}: expected timm:NAME, or timm:NAME:pretrained; a tag stands in NAME, after a dot"
        )
    config = timm.get_pretrained_cfg(model)
    if config is None or not config.has_weights:
        raise InputError(f"model {name!r}: timm has no weights for it{_guess(model, timm.list_pretrained())}")
    # Not `crop_pct`: as above, the views have cut the picture out already.
    preprocessing = Preprocessing(
        tuple(config.mean), tuple(config.std), int(config.input_size[-1]), str(config.interpolation)
    )
    return Pretrained(str(config.hf_hub_id or config.url or config.file), int(config.num_classes), preprocessing)


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Leave the Hub's dozen lines about its retries unsaid; our one line says what came of them."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)


def _imported_timm(name: str) -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise InputError(f"model {name!r}: timm is not installed; pip install 'prepkd[timm]'") from None


def _known(name: str, model: str, known: Sequence[str]) -> None:
    if model not in known:
        raise InputError(f"model {name!r}: {name.partition(':')[0]} has no model {model!r}{_guess(model, known)}")


def _guess(model: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(model, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _downloaded(name: str, source: str, fetch: Callable[[], Any]) -> Any:
    """What a library fetches; whatever goes wrong on the way becomes an InputError."""
    try:
        return fetch()
    except Exception as error:  # noqa: BLE001 - urllib, requests, huggingface_hub and a wrong hash raise what they like
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"model {name!r}: its weights, {source}, did not come: {reason}; try again, or drop "
            f"':{split_name(name)[2]}' from the name and set `weights` to a file and `preprocessing` to what they expect"
        ) from None


def _load_but_the_classifier(
    name: str, body: nn.Module, state: Mapping[str, Tensor], num_classes: int, weights_classes: int
) -> None:
    """Load all weights, or where the class counts differ all but those that have the class count as their length."""
    own = body.state_dict()
    head = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
    if head and num_classes == weights_classes:
        raise InputError(f"model {name!r}: weights of another shape: {', '.join(head[:3])}")
    body.load_state_dict({**state, **{key: own[key] for key in head}})


CHECKS: dict[str, Callable[[str, str, int], object]] = {"torchvision": _check_torchvision, "timm": _check_timm}
LOADERS: dict[str, Callable[[str, int, int], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
DESCRIPTIONS: dict[str, Callable[[str, str, str], Pretrained]] = {
    "torchvision": _describe_torchvision,
    "timm": _describe_timm,
}
