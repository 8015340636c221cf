"""The result of `prepkd inspect`: a store's facts, statistics of its logits, and a student's temperatures."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from prepkd.inspection.feature_statistics import FeatureStatistics
from prepkd.inspection.logit_statistics import UNFETCHED, LogitStatistics
from prepkd.inspection.store_facts import StoreFacts
from prepkd.inspection.temperatures import Temperatures
from prepkd.store.fetch import views_text

UNFINISHED = "statistics: the store is unfinished and must not be read yet"


@dataclass(frozen=True)
class StoreInspection:
    """A store's inspection: statistics of its `logits` or of its `features`, None for an unfinished store.

    `dtd` is None without a student; `picture` is its path.
    """

    facts: StoreFacts
    logits: LogitStatistics | None = None
    dtd: Temperatures | None = None
    features: FeatureStatistics | None = None
    picture: str | None = None

    @property
    def left_out(self) -> list[str]:
        """The missing parts, and the reasons."""
        if self.logits:
            return self.logits.left_out
        if not self.features:
            return [UNFETCHED if self.facts.finished else UNFINISHED]
        few = len(self.facts.views_there) - len(self.features.views_read)
        return [f"{few} of the views; `--select 0:{self.facts.views}` reads all"] if few else []

    @property
    def views_caption(self) -> str:
        """The views that were read, as `all 9 views` or `3 of 9 views (0:2,6)`."""
        statistics = self.logits or self.features
        read = statistics.views_read if statistics else []
        if len(read) == self.facts.views:
            return f"all {self.facts.views} views"
        return f"{len(read)} of {self.facts.views} views ({views_text(read)})"

    def as_json(self) -> dict[str, Any]:
        """The object that `prepkd inspect --json` prints, with the available sections."""
        facts = asdict(replace(self.facts, attributes=None)) | {"attributes": self.facts.attributes.model_dump()}  # type: ignore[arg-type]
        facts = {key: value for key, value in facts.items() if value or key not in ("weights_from", "distilled_from")}
        sections: dict[str, Any] = {"facts": facts, "left_out": self.left_out}
        if self.logits:
            sections |= self.logits.as_json()
        if self.features:
            sections |= self.features.as_json()
        if self.dtd:
            sections["dtd"] = self.dtd.as_json()
        if self.picture:
            sections["picture"] = self.picture
        return sections
