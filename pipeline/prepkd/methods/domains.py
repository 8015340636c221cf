"""Check a loss's settings against the domain that params.yaml declares for them."""

import inspect
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import ParamSpec

from torch import Tensor

from prepkd.errors import InputError
from prepkd.settings.section import Section
from prepkd.settings.validation import validated

P = ParamSpec("P")


def checked(function: Callable[P, Tensor], *sections: type[Section]) -> Callable[P, Tensor]:
    """Wrap a function so that it raises InputError for keyword arguments outside the domain of the sections' fields.

    Arguments and fields are matched by name. An argument is a number, or a tensor with one number per sample. Reading a tensor
    synchronises a GPU, so the training step, whose settings were validated once, calls the plain function.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        arguments = signature.bind(*args, **kwargs).arguments
        for section in sections:
            given = {key: arguments[key] for key in section.model_fields if key in arguments}
            numbers = {key: _number(value, f"{function.__name__}: {key}") for key, value in given.items()}
            validated(section, numbers, function.__name__)
        return function(*args, **kwargs)

    return wrapped


def _number(value: object, what: str) -> object:
    """Return a setting as a number or a list; for a tensor its smallest value, since temperatures have no upper limit."""
    if isinstance(value, Tensor):
        if not bool(value.isfinite().all()):
            raise InputError(f"{what} is not finite for every sample; expected finite numbers")
        return value.min().item() if value.numel() else 1.0
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, Real) or isinstance(value, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value)
