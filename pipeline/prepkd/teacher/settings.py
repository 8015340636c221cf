"""What is cached, and how several teachers become one, in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from prepkd.settings.section import Section, Seed


class TopK(Section):
    """How many logits the encoding `topk` keeps of each row."""

    k: int = Field(default=16, ge=2)


class Cache(Section):
    """Which views are cached, how the teacher computes them, and how and where its logits are kept."""

    root: str = "data/logits"

    views: Annotated[int, Field(ge=1, lt=2**31)] | Literal["all"]
    seed: Seed = 0
    precision: Literal["ieee", "tf32", "bf16"] = "ieee"
    batch_size: int = Field(default=256, ge=1)
    chunk: int = Field(default=65536, ge=1)
    encoding: Literal["f16", "u8", "i16", "topk"] = "f16"
    topk: TopK = TopK()


class Ensemble(Section):
    """How several teachers become one."""

    combine: Literal["probabilities", "logits"] = "probabilities"
    weights: list[Annotated[float, Field(gt=0, le=1e6)]] | None = None
