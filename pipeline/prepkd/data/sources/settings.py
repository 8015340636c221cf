"""The section `prepare` of params.yaml."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, create_model, model_validator

from prepkd.data.sources import SOURCES
from prepkd.data.sources.source import RAW, Source
from prepkd.settings.section import FilesOrUrl, Section, Seed, one_of

S = TypeVar("S", bound=Section)


def _with_sources(section: type[S]) -> type[S]:
    """Add the keys of individual sources to the section."""
    own: Any = {
        name: (field.annotation, field)
        for source in SOURCES.values()
        for name, field in type(source.settings).model_fields.items()
    }
    return create_model(
        section.__name__, __base__=section, __doc__=section.__doc__, __module__=section.__module__, **own
    )


@_with_sources
class Prepare(Section):
    """The data set, and the share of it that is used."""

    dataset: Annotated[str, one_of(SOURCES)]
    raw: FilesOrUrl = Path(RAW)
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    subset: int | None = Field(default=None, ge=1)
    seed: Seed = 0

    @model_validator(mode="after")
    def _split_is_read(self) -> "Prepare":
        if (
            getattr(self, "split", None) is not None
            and "split" not in type(SOURCES[self.dataset].settings).model_fields
        ):
            raise ValueError(f"split is set, and dataset {self.dataset!r} has a test set of its own; expected null")
        return self

    @property
    def source(self) -> Source:
        """The data source with its own settings."""
        source = SOURCES[self.dataset]
        own = type(source.settings)
        return replace(source, settings=own(**{key: getattr(self, key) for key in own.model_fields}))
