"""The attributes of a store: where its logits come from and how they are kept, as one validated model."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint
from prepkd.settings.messages import expected, shown
from prepkd.store.encodings import Encoding, make_encoding
from prepkd.views import ViewPlan

FORMAT = 3
# The exceptions that Zarr, NumPy and this package raise for malformed metadata.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, StopIteration, RuntimeError)


class _Section(BaseModel):
    """A section of the attributes; `model_dump` returns the keys that were given, unknown ones included."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class Dataset(_Section):
    """The prepared data, and the fingerprints of the whole file and of the split."""

    name: str
    classes: int = Field(ge=1)
    fingerprint: str
    split_fingerprint: str


class Teacher(_Section):
    """The teacher; the weights of an imported store are unknown, and `source` names the imported file."""

    name: str
    model: str
    weights_fingerprint: str | None
    preprocessing: dict[str, Any] | None = None
    source: dict[str, str] | None = None


class Views(_Section):
    """The view plan, as `ViewPlan.describe` returns it."""

    recipe: list[Any]
    views: int | Literal["all"]
    seed: int = Field(ge=0, lt=2**64)
    samples: int = Field(ge=1)
    version: int


class Pixels(_Section):
    """SHA-256 of the rendered pixels of the first `samples` samples in some views."""

    views: list[int]
    samples: int = Field(ge=1)
    sha256: str


class Named(_Section):
    """The encoding: its name, and its settings as further keys."""

    name: str


class Precision(_Section):
    """How the teacher computed its logits; unknown for an imported store."""

    arithmetic: Literal["ieee", "tf32", "bf16", "unknown"]
    batch_size: int | None
    device: str


class Measured(_Section):
    """The encoding's size and error on `rows` rows of the teacher's first batches; KL by temperature."""

    rows: int
    bytes_per_row: float
    kl_mean: dict[str, float]
    kl_max: dict[str, float]
    argmax_flips: int


class Attributes(_Section):
    """All attributes of a store. Its JSON, `model_dump()`, is stored in `zarr.json` under the key `prepkd`."""

    format: int
    dataset: Dataset
    split: Literal["train"]
    teacher: Teacher
    views: Views
    pixels: Pixels | None = None
    encoding: Named
    precision: Precision
    fingerprints: dict[str, str]
    measured: Measured | None = None
    unverified: list[str] | None = None

    @classmethod
    def made_from(cls, sections: Mapping[str, Any], **others: Any) -> "Attributes":
        """Attributes of this format, with a fingerprint per section so that an error can name the one that differs.

        `others` (`measured`, `unverified`) have no fingerprint.
        """
        fingerprints = {key: fingerprint(value) for key, value in sorted(sections.items())}
        return cls.model_validate({**sections, **others, "fingerprints": fingerprints, "format": FORMAT})

    @property
    def sections(self) -> dict[str, Any]:
        """The sections that have a fingerprint, as JSON."""
        return {key: value for key, value in self.model_dump().items() if key in self.fingerprints}

    def same_store(self, other: "Attributes") -> bool:
        """Whether two stores have the same format and fingerprints; `measured` may differ between machines."""
        return (self.format, self.fingerprints) == (other.format, other.fingerprints)


def check_format(found: int, where: object) -> None:
    """Refuse a store of another format; raises InputError."""
    if found != FORMAT:
        remedy = "update prepkd" if found > FORMAT else "run cache-logits again"
        raise InputError(f"{where}: format is {found}, this version of prepkd reads {FORMAT}; {remedy}")


def read_attributes(stored: object, where: object) -> Attributes:
    """Validate the JSON of a store's attributes; raises InputError that names another format, or the first wrong key."""
    if isinstance(stored, dict) and isinstance(stored.get("format"), int):
        check_format(stored["format"], where)
    try:
        return Attributes.model_validate(stored)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        key = ".".join(map(str, first["loc"]))
        problem = (
            "is missing" if first["type"] == "missing" else f"is {shown(first['input'])}; expected {expected(first)}"
        )
        raise InputError(f"{where}: attributes: {key} {problem}") from None


def plan_and_encoding(attributes: Attributes, where: object) -> tuple[ViewPlan, Encoding]:
    """Build the view plan and the encoding that the attributes describe; raises InputError."""
    try:
        encoding = make_encoding(attributes.encoding.model_dump(), attributes.dataset.classes)
        return ViewPlan.from_description(attributes.views.model_dump()), encoding
    except InputError as error:
        raise InputError(f"{where}: attributes: {error}") from None
    except MALFORMED as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: attributes describe no views, or no encoding: {reason}") from None
