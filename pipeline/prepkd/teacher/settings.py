"""The section `cache` of params.yaml."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, create_model

from prepkd.settings.section import Section, Seed, one_of, place
from prepkd.store.encodings import ENCODINGS
from prepkd.teacher.forward_pass import PRECISIONS

S = TypeVar("S", bound=Section)


def _with_encodings(section: type[S]) -> type[S]:
    """Add a section per encoding that has settings of its own, under its name."""
    own = {name: encoding.section() for name, encoding in ENCODINGS.items() if encoding.settings}
    fields: Any = {name: (kind, kind()) for name, kind in own.items()}
    return create_model(
        section.__name__, __base__=section, __doc__=section.__doc__, __module__=section.__module__, **fields
    )


@_with_encodings
class Cache(Section):
    """The cached views, how the teacher computes its logits, and how and where they are stored."""

    root: Annotated[str, BeforeValidator(place)] = "data/logits"

    views: Annotated[int, Field(ge=1, lt=2**31)] | Literal["all"]
    seed: Seed = 0
    precision: Annotated[str, one_of(PRECISIONS)] = "ieee"
    batch_size: int = Field(default=256, ge=1)
    chunk: int = Field(default=65536, ge=1)
    encoding: Annotated[str, one_of(ENCODINGS)] = "f16"
