"""Statistics of a store's logits: the teacher's errors, its softness, and the rows that KA changes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo, Split
from prepkd.data.samples.samples import Samples
from prepkd.inspection.counts import count_views
from prepkd.inspection.softness import Histograms, confidence_edges, entropy_edges, summarise
from prepkd.inspection.teacher_errors import AdjustedRows, ClassError, ViewErrors, adjustment, class_errors, view_errors
from prepkd.store import AnswerStore, LogitStore
from prepkd.store.fetch import parse_views

MAX_VIEWS = 8
UNFETCHED = "statistics: no view was fetched; run `prepkd fetch-views`"


@dataclass(frozen=True)
class LogitStatistics:
    """Statistics over `views_read`; only `teacher_error` is over all views.

    `confidence` and `entropy` are None if no view was read, `class_error` and `ka` if there are no labels either;
    `left_out` lists the missing parts, with reasons.
    """

    views_read: list[int]
    left_out: list[str]
    teacher_error: ViewErrors
    confidence: Histograms | None = None
    entropy: Histograms | None = None
    class_error: list[ClassError] | None = None
    ka: AdjustedRows | None = None

    def as_json(self) -> dict[str, Any]:
        """The available sections."""
        sections: dict[str, Any] = {
            "views_read": self.views_read,
            "left_out": self.left_out,
            "teacher_error": asdict(self.teacher_error),
        }
        if self.confidence and self.entropy:
            sections |= {"confidence": self.confidence.as_json(), "entropy": self.entropy.as_json()}
        if self.class_error is not None and self.ka:
            sections |= {"class_error": [one.as_json() for one in self.class_error], "ka": asdict(self.ka)}
        return sections


def choose_views(views: str | None, store: AnswerStore) -> list[int]:
    """Parse views such as `0:4,6`, as `fetch-views` does; None chooses at most 8 of the present ones, evenly spread.

    Raises InputError.
    """
    if views is None:
        last, count = len(store.present) - 1, min(MAX_VIEWS, len(store.present))
        return [store.present[round(i * last / max(1, count - 1))] for i in range(count)]
    return parse_views(views, store.views)


def logit_statistics(
    store: LogitStore, views: list[int], read: tuple[Split, DataInfo] | None, tau: float, missing: str
) -> LogitStatistics:
    """Compute errors, confidence and entropy at tau 1 and `tau`, and the rows that KA changes, in some views of a store.

    Without the prepared data, `read`, there are no labels; `left_out` then gives the reason `missing`. Raises InputError
    for a damaged chunk.
    """
    left_out: list[str] = []
    errors = view_errors(store.summary)
    if not views:
        left_out.append(UNFETCHED)
        return LogitStatistics(views, left_out, errors)
    if len(views) < len(store.present):
        left_out.append(f"{len(store.present) - len(views)} of the views; `--select 0:{store.views}` reads all")
    if read is None:
        left_out.append(f"errors per class and KA's share, which need labels: {missing}")
    taus = sorted({1.0, tau})
    counts = count_views(store, views, read and labels_of(store, read[0]), taus)
    return LogitStatistics(
        views,
        left_out,
        errors,
        confidence=summarise(counts.confidence, counts.rows, confidence_edges()),
        entropy=summarise(counts.entropy, counts.rows, entropy_edges(store.classes)),
        class_error=class_errors(counts.errors, read[1].class_names) if counts.errors and read else None,
        ka=adjustment(counts.errors, len(views)) if counts.errors else None,
    )


def labels_of(store: LogitStore, split: Split) -> Callable[[int], Tensor]:
    """Return a function from a view to its labels: int64 (N,), or class shares (N, K) if the store's views mix samples."""
    samples = Samples.of(split, torch.device("cpu"), store.plan.recipe)

    def labels(view: int) -> Tensor:
        return samples.targets(store.plan, *samples.view_rows(store.plan, view, slice(None)), store.classes)

    return labels
