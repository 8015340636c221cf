"""What a store says of itself, checked: whoever reads one begins here."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prepkd.errors import InputError
from prepkd.settings.messages import expected, shown
from prepkd.store.encodings import Encoding, make_encoding
from prepkd.views import ViewPlan

# What metadata of the wrong shape raises, in Zarr, NumPy and here.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, StopIteration, RuntimeError)


class _Section(BaseModel):
    """Some of a section's keys: those that are read. Imported stores have more."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Dataset(_Section):
    name: str
    classes: int = Field(ge=1)
    fingerprint: str
    split_fingerprint: str


class _Teacher(_Section):
    name: str
    model: str
    weights_fingerprint: str | None


class _Views(_Section):
    recipe: list[Any]
    views: int | Literal["all"]
    seed: int = Field(ge=0, lt=2**64)
    samples: int = Field(ge=1)


class _Pixels(_Section):
    views: list[int]
    samples: int = Field(ge=1)
    sha256: str


class _Named(_Section):
    name: str


class _Precision(_Section):
    arithmetic: Literal["ieee", "tf32", "bf16", "unknown"]
    batch_size: int | None
    device: str


class _Attributes(_Section):
    dataset: _Dataset
    split: Literal["train"]
    teacher: _Teacher
    views: _Views
    pixels: _Pixels | None = None
    encoding: _Named
    precision: _Precision
    fingerprints: dict[str, str]
    measured: dict[str, Any] | None = None


def understand(attributes: dict[str, Any], where: object) -> tuple[ViewPlan, Encoding]:
    """The plan and the encoding of a store's attributes; raises InputError that names the first key that is not as it must be."""
    try:
        _Attributes.model_validate(attributes)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        key = ".".join(map(str, first["loc"]))
        problem = (
            "is missing" if first["type"] == "missing" else f"is {shown(first['input'])}; expected {expected(first)}"
        )
        raise InputError(f"{where}: attributes: {key} {problem}") from None
    try:
        encoding = make_encoding(attributes["encoding"], attributes["dataset"]["classes"])
        return ViewPlan.from_description(attributes["views"]), encoding
    except InputError as error:
        raise InputError(f"{where}: attributes: {error}") from None
    except MALFORMED as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: attributes describe no views, or no encoding: {reason}") from None
