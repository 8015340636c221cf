"""Models of torchvision and timm by name, with their pretrained weights and the preprocessing that belongs to these."""

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.model_names import split_name
from prepkd.models.preprocessing import Preprocessing

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


def pretrained(name: str) -> Pretrained | None:
    """What is known of the pretrained weights that a name asks for; None where it asks for none. Raises InputError."""
    library, model, weights = split_name(name)
    return DESCRIPTIONS[library](name, model, weights) if library and weights else None


def _torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    _, model, weights = split_name(name)
    _known(name, model, [one for one in models.list_models(module=models) if one not in AUXILIARY])
    if in_channels != 3:
        raise InputError(f"model {name!r} takes 3 channels, the images have {in_channels}; timm's models take any")
    body = cast(nn.Module, models.get_model(model, weights=None, num_classes=num_classes))
    if weights:
        chosen = _torchvision_weights(name, model, weights)
        state = _downloaded(name, chosen.url, lambda: chosen.get_state_dict(progress=False, check_hash=True))
        _load_but_the_classifier(body, state, num_classes, len(chosen.meta["categories"]))
    return body


def _torchvision_weights(name: str, model: str, weights: str) -> Any:
    from torchvision import models

    _known(name, model, [one for one in models.list_models(module=models) if one not in AUXILIARY])
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
    timm = _imported_timm(name)
    _, model, weights = split_name(name)
    _known(name, model.partition(".")[0], timm.list_models())
    if not weights:
        return cast(
            nn.Module, timm.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels)
        )
    source = _describe_timm(name, model, weights).source

    def create() -> object:
        return timm.create_model(model, pretrained=True, num_classes=num_classes, in_chans=in_channels)

    return cast(nn.Module, _downloaded(name, source, create))


def _describe_timm(name: str, model: str, weights: str) -> Pretrained:
    timm = _imported_timm(name)
    if weights != "pretrained":
        raise InputError(
            f"model {name!r}: expected timm:NAME, or timm:NAME:pretrained; a tag stands in NAME, after a dot"
        )
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError:  # a tag that nobody has
        config = None
    if config is None or not config.has_weights:
        known = timm.list_pretrained()
        raise InputError(f"model {name!r}: timm has no weights for it{_guess(model, known)}")
    # Not `crop_pct`: as above, the views have cut the picture out already.
    preprocessing = Preprocessing(
        tuple(config.mean), tuple(config.std), int(config.input_size[-1]), str(config.interpolation)
    )
    return Pretrained(str(config.hf_hub_id or config.url or config.file), int(config.num_classes), preprocessing)


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
            f"model {name!r}: its weights, {source}, did not come: {reason}; try again, or name a file by `weights`"
        ) from None


def _load_but_the_classifier(
    body: nn.Module, state: Mapping[str, Tensor], num_classes: int, weights_classes: int
) -> None:
    """Load all weights, or where the class counts differ all but those that have the class count as their length."""
    own = body.state_dict()
    head = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
    if head and num_classes == weights_classes:
        raise InputError(f"weights of another shape: {', '.join(head[:3])}")
    body.load_state_dict({**state, **{key: own[key] for key in head}})


LOADERS: dict[str, Callable[[str, int, int], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
DESCRIPTIONS: dict[str, Callable[[str, str, str], Pretrained]] = {
    "torchvision": _describe_torchvision,
    "timm": _describe_timm,
}
