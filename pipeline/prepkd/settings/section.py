"""The base of every section of params.yaml, and the types that several sections use."""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from prepkd.errors import without_login
from prepkd.runtime.services import is_remote


class Section(BaseModel):
    """A section of params.yaml: frozen, strict, unknown keys refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def used(self, *, but: Set[str]) -> dict[str, Any]:
        """The settings that are read, as JSON, without the keys `but`; subclasses whose keys exclude others leave those out."""
        return self.model_dump(mode="json", exclude=set(but))


def written_out(path: object) -> object:
    """Return the value unchanged; raises ValueError for text that would name another path than it seems to."""
    if isinstance(path, str):
        if not path.strip():
            raise ValueError("expected a path")  # empty text would be the working directory
        if path.startswith("~"):
            raise ValueError("~ would be a folder of that name; write the home folder's path out")
        if re.search(r"[\x00-\x1f\x7f]", path):
            raise ValueError("expected a path without control characters")
    return path


def _place(place: object) -> object:
    if not isinstance(written_out(place), str | Path):
        raise PydanticCustomError("path_type", "expected a path")
    return place


def _path_or_url(place: Path | str) -> Path | str:
    return without_login(str(place)) if is_remote(place) else Path(place)


FilePath = Annotated[Path, BeforeValidator(written_out), Field(strict=False)]  # YAML has no paths
# A URL stays text, since a Path would lose one of its slashes.
FilesOrUrl = Annotated[str | Path, BeforeValidator(_place), AfterValidator(_path_or_url)]
# Names become folders, stage names and keys on DVC's command line.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def once(entries: list[str]) -> list[str]:
    """Return the entries; raises ValueError if one appears twice."""
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
