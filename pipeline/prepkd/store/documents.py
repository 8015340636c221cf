"""The JSON files of a store, which are untrusted: read up to a limit, and parsed into typed, bounded values."""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from zarr.abc.store import Store

from prepkd.errors import InputError, one_line
from prepkd.settings.messages import expected, shown
from prepkd.store.attributes import Attributes, check_format, read_attributes
from prepkd.store.encodings.tensors import MAX_TENSORS, Tensors
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY, Layout
from prepkd.store.place import get

# Bytes. A manifest has up to 120 per file, and a layout at most 2**19 files; a summary and a list of views about 25 per view.
LIMITS = {MANIFEST: 2**26, SUMMARY: 2**26, PARTIAL: 2**26, "zarr.json": 2**20}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
SHA256 = re.compile("[0-9a-f]{64}")


Share = Annotated[float, Field(ge=0, le=1)]


class _Document(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class SummaryDocument(_Document):
    """`summary.json`: the teacher's error rate on all views, and on each."""

    teacher_error: Share
    teacher_error_per_view: list[Share] = Field(min_length=1)


class RangeDocument(_Document):
    """The smallest and the largest value of a tensor under each view."""

    min: list[float] = Field(min_length=1)
    max: list[float] = Field(min_length=1)


class RangesDocument(_Document):
    """`summary.json` of a store of features: the ranges of its tensors."""

    ranges: dict[str, RangeDocument] = Field(max_length=MAX_TENSORS)


class PartialDocument(_Document):
    """`partial.json` of a partial copy: the views that were fetched."""

    views: list[int] = []


M = TypeVar("M", bound=_Document)


def read_document(store: Store, key: str) -> bytes | None:
    """Read a JSON file, up to one byte beyond its size limit; None if it does not exist."""
    return get(store, key, LIMITS[key.rpartition("/")[2]] + 1)


def is_web_page(content: bytes | bytearray | memoryview) -> bool:
    """Whether a file is an HTML page, which some web servers send in place of a missing file."""
    start = bytes(content[:256]).lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def parse(content: bytes, key: str, where: object) -> dict[str, Any]:
    """Parse a JSON object of bounded size and nesting, without numbers that are not finite; raises InputError."""
    limit = LIMITS[key.rpartition("/")[2]]
    if len(content) > limit:
        raise InputError(f"{where}: {key}: it has more than {limit:,} bytes")
    if is_web_page(content):
        raise InputError(f"{where}: {key}: it is an HTML page; the server does not have this file")
    try:
        found = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"{where}: {key}: it is no JSON: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise InputError(f"{where}: {key}: it is no JSON object")
    return found


def parse_manifest(content: bytes, where: object) -> dict[str, str]:
    """Parse `manifest.json`: path -> SHA-256 of each file; raises InputError."""
    manifest = parse(content, MANIFEST, where)
    if not manifest:
        raise InputError(f"{where}: {MANIFEST}: it lists no files")
    for key, value in manifest.items():
        if not isinstance(value, str) or not SHA256.fullmatch(value):
            raise InputError(f"{where}: {MANIFEST}: {word(key)} has no SHA-256")
    return manifest


def parse_attributes(content: bytes, where: object) -> Attributes:
    """Parse the group's `zarr.json`; raises InputError for another format, and names the first wrong key."""
    group = parse(content, "zarr.json", where)
    if other := sorted(group.keys() - {"attributes", "zarr_format", "node_type", "consolidated_metadata"}):
        raise InputError(f"{where}: zarr.json: unknown key {word(other[0])}")
    if group.get("consolidated_metadata") is not None:
        raise InputError(f"{where}: zarr.json: has consolidated metadata; expected none")
    if (group.get("zarr_format"), group.get("node_type")) != (3, "group"):
        raise InputError(f"{where}: zarr.json: describes no Zarr v3 group")
    attributes = group.get("attributes")
    stored = attributes.get("prepkd") if isinstance(attributes, dict) else None
    if not isinstance(stored, dict):
        raise InputError(f"{where}: not a store of prepkd: zarr.json has no attributes `prepkd`")
    check_format(stored, where)
    if not _is_finite(stored):
        raise InputError(f"{where}: attributes: a number is not finite")
    return read_attributes(stored, where)


def parse_chunk_length(content: bytes, key: str, where: object) -> int:
    """Read the samples per chunk from `key`, the `zarr.json` of an array; raises InputError."""
    description = parse(content, key, where)
    try:
        chunk = description["chunk_grid"]["configuration"]["chunk_shape"][1]
    except (KeyError, IndexError, TypeError):
        chunk = None
    if type(chunk) is not int or chunk < 1:
        raise InputError(f"{where}: {key}: has no chunk shape; expected [1, samples, ...]")
    return chunk


def differences(content: bytes, name: str, layout: Layout, where: object) -> Iterator[str]:
    """Yield a phrase per field in which an array's `zarr.json` differs from the layout's; raises InputError for invalid JSON."""
    key = f"{name}/zarr.json"
    found, wanted = _plain(parse(content, key, where)), _plain(layout.description(name))
    codecs = found.get("codecs")
    # Older versions of Zarr state the byte order of single bytes.
    if layout.fields[name].dtype.itemsize == 1 and isinstance(codecs, list) and codecs[:1] == [BYTES]:
        found["codecs"] = [{"name": "bytes"}, *codecs[1:]]
    for field in sorted({*found, *wanted}):
        if found.get(field) != wanted.get(field):
            yield f"{word(field)} is {_value(found.get(field))}, expected {_value(wanted.get(field))}"


def parse_summary(content: bytes, layout: Layout | None, where: object) -> dict[str, Any]:
    """Parse `summary.json`, and compare it with the layout if that is known; raises InputError."""
    views = layout.plan.views if layout else None
    if isinstance(layout.encoding, Tensors) if layout else "ranges" in parse(content, SUMMARY, where):
        return _parse_ranges(content, layout, where)
    summary = _validated(SummaryDocument, content, SUMMARY, where)
    errors = summary.teacher_error_per_view
    if views is not None and len(errors) != views:
        raise InputError(f"{where}: {SUMMARY}: has the error of {len(errors):,} views, expected {views:,}")
    if not math.isclose(math.fsum(errors) / len(errors), summary.teacher_error, rel_tol=0, abs_tol=1e-9):
        raise InputError(f"{where}: {SUMMARY}: teacher_error is not the mean of teacher_error_per_view")
    return summary.model_dump()


def _parse_ranges(content: bytes, layout: Layout | None, where: object) -> dict[str, Any]:
    summary = _validated(RangesDocument, content, SUMMARY, where)
    if layout and isinstance(layout.encoding, Tensors):
        names = {one.name for one in layout.encoding.tensors}
        if summary.ranges.keys() != names:
            raise InputError(f"{where}: {SUMMARY}: has the ranges of other tensors than the store's")
        for one in summary.ranges.values():
            if {len(one.min), len(one.max)} != {layout.plan.views}:
                raise InputError(
                    f"{where}: {SUMMARY}: has ranges of {len(one.min):,} views, expected {layout.plan.views:,}"
                )
    if any(low > high for one in summary.ranges.values() for low, high in zip(one.min, one.max, strict=False)):
        raise InputError(f"{where}: {SUMMARY}: a smallest value is above the largest one")
    return summary.model_dump()


def parse_partial(content: bytes, views: int, where: object) -> list[int]:
    """Parse `partial.json`: the views that were fetched, sorted; raises InputError for a view outside 0 to `views` - 1."""
    found = sorted(set(_validated(PartialDocument, content, PARTIAL, where).views))
    if found and not 0 <= found[0] <= found[-1] < views:
        raise InputError(f"{where}: {PARTIAL}: lists other views than 0 to {views - 1}")
    return found


def word(text: str) -> str:
    """Return an untrusted name in a form that fits a one-line message."""
    return text if len(text) <= 80 and text.isprintable() else shown(text)


def _validated(model: type[M], content: bytes, key: str, where: object) -> M:
    try:
        return model.model_validate(parse(content, key, where))
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors(include_url=False)[0])
        name = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: {key}: {word(name)} is {shown(first['input'])}; expected {expected(first)}"
        ) from None


def _plain(value: Any) -> Any:
    """A description without its empty settings, which some versions of Zarr write and others leave out."""
    if isinstance(value, dict):
        return {key: plain for key, one in value.items() if (plain := _plain(one)) not in (None, {}, [])}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _value(value: object) -> str:
    return "missing" if value is None else shown(value)
