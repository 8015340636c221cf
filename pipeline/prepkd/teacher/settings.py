"""The section `cache` of params.yaml."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, create_model

from prepkd.errors import without_login
from prepkd.runtime.torch_state import PRECISIONS
from prepkd.settings.section import Section, Seed, once, one_of, written_out
from prepkd.store.encodings import ENCODINGS

S = TypeVar("S", bound=Section)


def _with_encodings(section: type[S]) -> type[S]:
    """Add a section per encoding that has settings of its own, under its name."""
    own = {name: encoding.section() for name, encoding in ENCODINGS.items() if encoding.settings}
    fields: Any = {name: (kind, kind()) for name, kind in own.items()}
    return create_model(
        section.__name__, __base__=section, __doc__=section.__doc__, __module__=section.__module__, **fields
    )


def _root(root: str) -> str:
    if "://" in root and not root.rpartition("://")[2].strip("/ "):
        raise ValueError("expected a path, or a URL with more than its protocol")
    if not root.strip("/"):
        raise ValueError("expected a folder or a URL, not the root of the file system")
    if "://" not in root and ".." in Path(root).parts:
        raise ValueError(
            "a queued experiment runs in another folder; expected a folder in the project, an absolute path or a URL"
        )
    return root


# The folder or URL of stores.
Root = Annotated[str, AfterValidator(written_out), AfterValidator(_root), AfterValidator(without_login)]


@_with_encodings
class Cache(Section):
    """The cached views, how the teacher computes its logits, and how and where they are stored."""

    root: Root = "data/logits"

    views: Annotated[int, Field(ge=1, lt=2**31)] | Literal["all"]
    seed: Seed = 0
    precision: Annotated[str, one_of(PRECISIONS)] = "ieee"
    batch_size: int = Field(default=256, ge=1)
    chunk: int = Field(default=65536, ge=1)
    encoding: Annotated[str, one_of(ENCODINGS)] = "f16"
    # Not null: DVC makes one stage per entry.
    features: Annotated[list[Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]], AfterValidator(once)] = []
    features_root: Root = "data/features"

    def answer_settings(self) -> dict[str, Any]:
        """The settings that a teacher's logits depend on, as JSON."""
        return self.model_dump(mode="json", exclude={"root", "features", "features_root"})

    def feature_url(self, teacher: str, entry: str) -> str:
        """The place of the store of an entry of `features`: a local path, or a URL."""
        return f"{self.features_root.rstrip('/')}/{teacher}/{entry}.zarr"
