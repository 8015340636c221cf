"""What a model's name says: `resnet8`, `package.module:factory`, `torchvision:NAME[:WEIGHTS]`, `timm:NAME[:pretrained]`."""

import difflib

# The keys of `MODELS` in models/build.py, here once more because settings are validated without torch; a test compares them.
ZOO = (
    *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4", "resnet32x4"),
    *("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", "wrn_28_10"),
    *("vgg8", "vgg11", "vgg13", "vgg16", "vgg19"),
    *("mobilenetv2", "shufflenetv1", "shufflenetv2"),
    *("resnet18", "resnet34", "resnet50"),
    *("convnet4", "convnet8", "convnet16", "convnet32", "convnet64"),
)
LIBRARIES = ("torchvision", "timm")


def split_name(name: str) -> tuple[str, str, str]:
    """The library, the model's name there, and the weights that are asked for; empty where there are none.

    >>> split_name("torchvision:resnet18:DEFAULT"), split_name("resnet8")
    (('torchvision', 'resnet18', 'DEFAULT'), ('', 'resnet8', ''))
    """
    library, _, rest = name.partition(":")
    if library not in LIBRARIES:
        return "", name, ""
    model, _, weights = rest.partition(":")
    return library, model, weights


def architecture(name: str) -> str:
    """The name without its weights: what a checkpoint, which has its own, is built as."""
    library, model, _ = split_name(name)
    return f"{library}:{model}" if library else name


def is_factory(name: str) -> bool:
    """Whether a name is meant for somebody's own `package.module:factory`."""
    return ":" in name and not split_name(name)[0]


def problem(name: str) -> str | None:
    """Why no model can have this name, as far as the name alone tells; None where one may.

    Whether a factory can be imported, and whether a library has a model, is found when the model is built.

    >>> problem("wrn-40-2")[:31], problem("torchvision:no_such"), problem("my/model.py:net")
    ('unknown; did you mean wrn_40_2?', None, 'expected package.module:factory')
    """
    module, colon, attribute = name.partition(":")
    if is_factory(name):
        spelled = all(part.isidentifier() for part in [*module.split("."), attribute])
        return None if spelled else "expected package.module:factory"
    if colon:
        return None
    if name in ZOO:
        return None
    close = difflib.get_close_matches(name.lower().replace("-", "_"), ZOO, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"unknown; {guess}known: {', '.join(ZOO)}, torchvision:NAME, timm:NAME, or package.module:factory"
