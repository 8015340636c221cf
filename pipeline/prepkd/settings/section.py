"""The base of every section of params.yaml, and the types that several sections use."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import core_schema


class Section(BaseModel):
    """A section of params.yaml: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def place(text: object) -> object:
    """The text of a path or URL; raises ValueError for one without a name, which would be another folder than is meant."""
    if isinstance(text, str) and not text.rpartition("://")[2].strip():
        raise ValueError("expected a path, or a URL with more than its protocol")
    return text


FilePath = Annotated[Path, BeforeValidator(place), Field(strict=False)]  # YAML has no paths
# Names become folders, stage names and keys on DVC's command line.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def once(entries: list[str]) -> list[str]:
    """The entries, if each is there once; raises ValueError."""
    if twice := sorted({one for one in entries if entries.count(one) > 1}):
        raise ValueError(f"names {twice[0]!r} twice; expected each once")
    return entries


def one_of(names: Iterable[str]) -> Any:
    """Annotate text that must be one of `names`: the keys of the dict that dispatches on it.

    >>> Annotated[str, one_of({"sgd": 1, "adamw": 2})].__metadata__[0].names
    ('sgd', 'adamw')
    """
    return _OneOf(tuple(names))


@dataclass(frozen=True)
class _OneOf:
    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.literal_schema(list(self.names))
