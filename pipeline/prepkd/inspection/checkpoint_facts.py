"""Facts about a trained model's folder: its card, and the teachers that it was distilled from."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from prepkd.display.tables import pairs
from prepkd.models.checkpoint import load_card
from prepkd.models.weight_claims import CARD
from prepkd.provenance.descent import Chain, descents, format_chains

OUTSIDE = "not known: trained in a loop outside prepkd"
TRAINING = ("method", "epochs", "seed")


@dataclass(frozen=True)
class CheckpointFacts:
    """A teacher's or a student's card; `distilled_from` has one chain per teacher, the nearest teacher first.

    `training` has the method, epochs and seed that the card records. `by_prepkd`: prepkd trained the model, not another loop.
    """

    folder: str
    model: str
    num_classes: int
    weights_fingerprint: str
    preprocessing: dict[str, Any]
    training: dict[str, Any]
    distilled_from: list[Chain]
    by_prepkd: bool
    test_top1: float | None = None

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def table(self) -> Group:
        """The facts as a table for a terminal."""
        return Group(*pairs("What it is", self._rows()))

    def _rows(self) -> Iterator[tuple[str, str | list[str]]]:
        yield "folder", self.folder
        yield "model", f"{self.model}, {self.num_classes:,} classes"
        yield "weights", self.weights_fingerprint[:12]
        yield from ((key, str(value)) for key, value in self.training.items())
        if self.test_top1 is not None:
            yield "test top-1", f"{self.test_top1:.2%}"
        no_teacher = "no teacher: trained with the labels, or given" if self.by_prepkd else OUTSIDE
        yield "distilled from", format_chains(self.distilled_from) or no_teacher


def is_checkpoint(folder: str) -> bool:
    """Whether a path is a trained model's folder."""
    return "://" not in folder and (Path(folder) / CARD).is_file()


def read_checkpoint(folder: Path, teachers: Path) -> CheckpointFacts:
    """Read a card; `teachers` holds the teachers' folders. Raises InputError for a damaged card."""
    card = load_card(folder, "expected a folder that prepkd wrote")
    training = card.get("training", {})
    described = {key: value for key in TRAINING if (value := training.get(key, card.get(key))) is not None}
    top1 = card.get("test_top1")
    return CheckpointFacts(
        folder=str(folder),
        model=card["model"],
        num_classes=card["num_classes"],
        weights_fingerprint=card["weights_fingerprint"],
        preprocessing=card["preprocessing"],
        training=described,
        distilled_from=descents(card, teachers),
        by_prepkd="training" in card,  # `prepkd.save` writes no settings: it does not know the training loop
        test_top1=top1 if isinstance(top1, float) else None,
    )
