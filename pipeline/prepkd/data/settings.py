"""The section `prepare` of params.yaml."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from prepkd.data.images.decode import MOST_PIXELS
from prepkd.data.sources import SOURCES
from prepkd.data.sources.source import RAW, Source
from prepkd.settings.section import FilePath, Section, Seed, one_of


class Prepare(Section):
    """The data set, and the share of it that is used."""

    dataset: Annotated[str, one_of(SOURCES)]
    raw: FilePath = Path(RAW)
    mixed_formats: bool = False
    upright: bool = True
    max_pixels: int = Field(default=MOST_PIXELS, ge=1, le=MOST_PIXELS)
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    subset: int | None = Field(default=None, ge=1)
    seed: Seed = 0

    @property
    def source(self) -> Source:
        """The data source with its own settings."""
        source = SOURCES[self.dataset]
        return replace(source, **{key: getattr(self, key) for key in source.settings})
