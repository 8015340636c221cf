"""Names of models: `resnet8`, `torchvision:NAME[:WEIGHTS]`, `timm:NAME[:pretrained]`, `package.module:factory`."""

import difflib

from prepkd.models.library import LibraryModel
from prepkd.models.timm_model import TimmModel
from prepkd.models.torchvision_model import TorchvisionModel
from prepkd.models.zoo import MODELS

LIBRARIES: dict[str, type[LibraryModel]] = {"torchvision": TorchvisionModel, "timm": TimmModel}


def split_name(name: str) -> tuple[str, str, str]:
    """Split a name into library, the model's name there, and pretrained weights; missing parts are empty strings.

    >>> split_name("torchvision:resnet18:DEFAULT"), split_name("resnet8")
    (('torchvision', 'resnet18', 'DEFAULT'), ('', 'resnet8', ''))
    """
    library, _, rest = name.partition(":")
    if library not in LIBRARIES:
        return "", name, ""
    model, _, weights = rest.partition(":")
    return library, model, weights


def library_model(name: str) -> LibraryModel | None:
    """Return the library model of a name, which the library may lack; None for other names."""
    library, model, weights = split_name(name)
    return LIBRARIES[library](name, model, weights) if library else None


def architecture(name: str) -> str:
    """Return the name without its pretrained weights, from which a checkpoint, with its own weights, is built.

    >>> architecture("torchvision:resnet18:DEFAULT")
    'torchvision:resnet18'
    """
    library, model, _ = split_name(name)
    return f"{library}:{model}" if library else name


def is_factory(name: str) -> bool:
    """Whether a name has the form of a user's own `package.module:factory`."""
    return ":" in name and not split_name(name)[0]


def problem(name: str) -> str | None:
    """Return why no model can have this name, judged by the name alone; None if one may.

    Building the model checks later whether a factory can be imported and whether a library has the model.

    >>> problem("wrn-40-2")[:31], problem("torchvision:no_such"), problem("my/model.py:net")
    ('unknown; did you mean wrn_40_2?', None, 'expected package.module:factory')
    """
    if is_factory(name):
        module, _, attribute = name.partition(":")
        spelled = all(part.isidentifier() for part in [*module.split("."), attribute])
        return None if spelled else "expected package.module:factory"
    if name in MODELS or split_name(name)[0]:
        return None
    close = difflib.get_close_matches(name.lower().replace("-", "_"), MODELS, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    forms = [*MODELS, *(f"{library}:NAME" for library in LIBRARIES)]
    return f"unknown; {guess}known: {', '.join(forms)}, or package.module:factory"
