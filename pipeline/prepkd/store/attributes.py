"""The attributes of a store: where its logits come from and how they are kept, as one validated model."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from prepkd.errors import InputError, one_line
from prepkd.runtime.files import fingerprint
from prepkd.settings.messages import expected, shown
from prepkd.store.encodings import Encoding, Tensors, read_encoding
from prepkd.views import ViewPlan, read_plan, view_side

FORMAT = 3
IMPORTED = "imported"  # in place of a model's name: the model that computed the logits is unknown
# A store is untrusted input. Bounds keep a reader from spending memory or time on a false value before it has checked that the
# chunks, whose sizes follow from the attributes, exist.
PIXEL_SAMPLES = 64  # rendered for the hash of pixels
MAX_SIDE = 2048  # of rendered pictures
MAX_BATCH_SIZE = 2**20
# The exceptions that Zarr, NumPy and this package raise for malformed metadata.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, StopIteration, RuntimeError)


# Shown to people: one line without control characters. A name becomes a part of a path.
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
FileName = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029/\\]+$")]
Number = int | float
Setting = Number | Text | None
TensorShape = Annotated[list[Annotated[int, Field(ge=1, le=2**24)]], Field(max_length=4)]
TemperatureKey = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]


class _Section(BaseModel):
    """A section of the attributes; `model_dump` returns the keys that were given, unknown ones included."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class DatasetAttributes(_Section):
    """The prepared data, and the fingerprints of the whole file and of the split."""

    name: FileName
    classes: int = Field(ge=1, le=2**24)
    fingerprint: Text
    split_fingerprint: Text


class TeacherAttributes(_Section):
    """The teacher; the weights of an imported store are unknown, and `source` names the imported file."""

    name: FileName
    model: Text
    weights_fingerprint: Text | None
    preprocessing: dict[Text, Setting | list[Number]] | None = Field(default=None, max_length=32)
    source: dict[Literal["file", "sha256"], Text] | None = Field(default=None, min_length=2)


class ViewsAttributes(_Section):
    """The view plan, as returned by its `describe`; `strong` is the recipe of the strong views, if any."""

    recipe: list[Any] = Field(max_length=32)
    strong: list[Any] = Field(default=[], max_length=32)
    views: Annotated[int, Field(ge=1, lt=2**31)] | Literal["all"]
    seed: int = Field(ge=0, lt=2**64)
    samples: int = Field(ge=1, lt=2**31)
    version: int


class PixelsAttributes(_Section):
    """SHA-256 of the rendered pixels of the first `samples` samples in some views."""

    views: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=2)
    samples: int = Field(ge=1, le=PIXEL_SAMPLES)
    sha256: Text


class EncodingAttributes(_Section):
    """The encoding: its name, and its settings as further keys."""

    name: Text


class PrecisionAttributes(_Section):
    """Conditions under which the teacher computed its logits; unknown for an imported store."""

    arithmetic: Literal["ieee", "tf32", "bf16", "unknown"]
    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)] | None
    device: Text


class MeasuredAttributes(_Section):
    """The encoding's size and error on `rows` rows of the teacher's first batches; KL by temperature."""

    rows: int = Field(ge=0)
    bytes_per_row: float = Field(ge=0)
    kl_mean: dict[TemperatureKey, float] = Field(max_length=32)
    kl_max: dict[TemperatureKey, float] = Field(max_length=32)
    argmax_flips: int = Field(ge=0)

    @model_validator(mode="after")
    def _equal_temperatures(self) -> "MeasuredAttributes":
        if self.kl_mean.keys() != self.kl_max.keys():
            raise ValueError("the same temperatures in kl_mean and kl_max")
        return self


class EntryAttributes(_Section):
    """The entry of `cache.features` that a store holds, and the inputs of its tensors besides teacher and views.

    `settings` are the settings of the entry's term that change its tensors, None for a feature without a term; `sizes` the
    height and width to which maps are reduced; `teacher` the shapes of the teacher's features that were read.
    """

    entry: FileName
    settings: dict[Text, Any] | None = Field(max_length=64)
    sizes: dict[Text, TensorShape] = Field(max_length=64)
    teacher: dict[Text, TensorShape] = Field(min_length=1, max_length=64)


class Attributes(_Section):
    """All attributes of a store. Its JSON, `model_dump()`, is stored in `zarr.json` under the key `prepkd`."""

    format: int
    dataset: DatasetAttributes
    split: Literal["train"]
    teacher: TeacherAttributes
    views: ViewsAttributes
    pixels: PixelsAttributes | None = None
    encoding: EncodingAttributes
    asked: EntryAttributes | None = None
    precision: PrecisionAttributes
    fingerprints: dict[Text, Text] = Field(max_length=32)
    measured: MeasuredAttributes | None = None
    unverified: list[Text] | None = Field(default=None, max_length=32)

    @model_validator(mode="after")
    def _fit(self) -> "Attributes":
        for key, part in (("dataset", self.dataset), ("teacher", self.teacher)):
            if part.name in (".", ".."):
                raise ValueError(f"{key}.name is {part.name!r}; expected a name that is no folder")
        # `unknown` is verified with the loosest tolerance: a store must not get it by claiming not to know its arithmetic.
        if self.precision.arithmetic == "unknown" and self.teacher.model != IMPORTED:
            raise ValueError(
                f"precision.arithmetic is 'unknown' and teacher.model is {shown(self.teacher.model)}; only stores of "
                "imported logits may leave it open"
            )
        if self.pixels and self.pixels.samples > self.views.samples:
            raise ValueError(
                f"pixels.samples is {self.pixels.samples}; expected <= views.samples, {self.views.samples}"
            )
        return self

    @classmethod
    def made_from(cls, sections: Mapping[str, Any], **others: Any) -> "Attributes":
        """Build attributes of this format, with a fingerprint per section so that an error can name the one that differs.

        `others` (`measured`, `unverified`) have no fingerprint. Raises InputError.
        """
        fingerprints = {key: fingerprint(value) for key, value in sorted(sections.items())}
        made = {**sections, **others, "fingerprints": fingerprints, "format": FORMAT}
        return read_attributes(made, "the store to write")

    @property
    def sections(self) -> dict[str, Any]:
        """The sections that have a fingerprint, as JSON."""
        return {key: value for key, value in self.model_dump().items() if key in self.fingerprints}

    def same_store(self, other: "Attributes") -> bool:
        """Whether two stores have the same format and fingerprints; `measured` may differ between machines."""
        return (self.format, self.fingerprints) == (other.format, other.fingerprints)


def store_command(asked: object) -> str:
    """Return the command that writes a store with this section `asked`, which stores of features have."""
    return "cache-features" if asked else "cache-logits"


def check_format(stored: Mapping[str, Any], where: object) -> None:
    """Refuse attributes of another format, whose other keys may be anything; raises InputError."""
    found = stored.get("format")
    if type(found) is int and found != FORMAT:
        remedy = "update prepkd" if found > FORMAT else f"run {store_command(stored.get('asked'))} again"
        raise InputError(f"{where}: format is {shown(found)}, this version of prepkd reads {FORMAT}; {remedy}")


def read_attributes(stored: object, where: object) -> Attributes:
    """Validate the JSON of a store's attributes; raises InputError that names another format, or the first wrong key."""
    if isinstance(stored, dict):
        check_format(stored, where)
    try:
        return Attributes.model_validate(stored)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors(include_url=False)[0])
        key = ".".join(map(str, first["loc"]))
        key = key if len(key) <= 80 and key.isprintable() else shown(key)
        if not key and isinstance(stored, dict):  # keys that don't fit each other; the message names them
            problem = expected(first)
        elif first["type"] == "missing":
            problem = f"{key} is missing"
        else:
            problem = f"{key} is {shown(first['input'])}; expected {_expected(first)}".lstrip()
        raise InputError(f"{where}: attributes: {problem}") from None


def _expected(error: Mapping[str, Any]) -> str:
    return "text of one line" if error["type"] == "string_pattern_mismatch" else expected(error)


def plan_and_encoding(attributes: Attributes, where: object) -> tuple[ViewPlan, Encoding]:
    """Build the view plan and the encoding that the attributes describe; raises InputError."""
    try:
        encoding = read_encoding(attributes.encoding.model_dump(), attributes.dataset.classes)
        plan = read_plan(attributes.views.model_dump())
    except InputError as error:
        raise InputError(f"{where}: attributes: {error}") from None
    except MALFORMED as error:
        reason = one_line(error, 300)  # it may quote the attributes
        raise InputError(f"{where}: attributes describe no views, or no encoding: {reason}") from None
    if isinstance(encoding, Tensors) != (attributes.asked is not None):
        raise InputError(f"{where}: attributes: only stores of features have `asked`, and each has it")
    side = view_side(plan.recipe)
    if side is not None and side > MAX_SIDE:
        raise InputError(f"{where}: attributes: views.recipe makes pictures of {side} pixels; expected <= {MAX_SIDE}")
    if attributes.pixels and max(attributes.pixels.views) >= plan.views:
        raise InputError(
            f"{where}: attributes: pixels.views is {attributes.pixels.views}; expected 0 to {plan.views - 1}"
        )
    return plan, encoding
