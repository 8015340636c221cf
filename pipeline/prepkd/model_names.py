"""What a model's name says: `resnet8`, `package.module:factory`, `torchvision:NAME[:WEIGHTS]`, `timm:NAME[:pretrained]`."""

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
