"""The temperatures that DTD would give a store's rows, for a trained student."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.prepared.file import Split
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError, refuse_differences
from prepkd.methods.dynamic_temperature import DTD, FlswTemperature
from prepkd.methods.kl import upcast
from prepkd.models import Normalised, load_checkpoint
from prepkd.runtime.torch_state import arithmetic
from prepkd.store import LogitStore
from prepkd.store.encodings import add_maximum, as_tensors
from prepkd.verification.answers import check_answers
from prepkd.views.order import sample_order

METHODS = ("dtd-flsw", "dtd-cwsm")
BINS = 40


@dataclass(frozen=True)
class RowTemperatures:
    """The temperature of each row, float32 (rows,), whether it was clamped, bool (rows,), and its sample, int64 (rows,)."""

    tau: NDArray[np.float32]
    clamped: NDArray[np.bool_]
    sample: NDArray[np.int64]


@dataclass(frozen=True)
class MethodTemperatures:
    """A method's temperatures: statistics, the shares of clamped rows (at either bound), and a histogram."""

    mean: float
    min: float
    max: float
    clamped: float
    at_floor: float
    at_ceiling: float
    histogram: list[int]


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of `rows` rows for one student, by DTD method, in common bins; `settings` is `distill.dtd`.

    `doubt` is the reason why `distill` would refuse the store at least for dtd-flsw, which reads the logits' zero.
    """

    student: str
    batch_size: int
    settings: dict[str, Any]
    rows: int
    edges: list[float]
    methods: dict[str, MethodTemperatures]
    doubt: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def dtd_temperatures(
    store: LogitStore, views: Sequence[int], student: Path, split: Split, settings: Distill, device: torch.device
) -> Temperatures:
    """The temperatures that `distill.dtd` would give a student in some views; raises InputError if the two do not fit."""
    model, card = load_checkpoint(student, device=device, hint="run `prepkd distill`")
    samples = Samples.of(split, device, store.plan.recipe)
    refuse_differences(
        {
            "num_classes": (card["num_classes"], store.classes),
            "in_channels": (card["in_channels"], samples.channels),
        },
        student,
        "name a student of this data set",
    )
    found = row_temperatures(store, views, model, samples, settings)
    every = np.concatenate([rows.tau for rows in found.values()])
    if not np.isfinite(every).all():
        raise InputError("the student's logits are not finite, and so its temperatures; expected a trained student")
    edges = np.histogram_bin_edges(every.astype(np.float64), BINS)
    return Temperatures(
        student=str(student),
        batch_size=settings.batch_size,
        settings=settings.section(DTD).model_dump(mode="json"),
        rows=len(every) // len(found),
        edges=edges.tolist(),
        methods={method: summarise(rows, edges, settings.section(DTD)) for method, rows in found.items()},
        doubt=flsw_refusal(store, views[0]),
    )


def flsw_refusal(store: LogitStore, view: int) -> str | None:
    """Why `distill` would refuse the store for dtd-flsw, which reads every class and the logits' zero; None if it would not."""
    if store.encoding.draws:
        return f"{store.url}: keeps a draw of the classes; dtd-flsw: {FlswTemperature.every_class}"
    try:
        check_answers(store, view, raw=True)
    except InputError as error:
        return str(error)
    return None


@torch.inference_mode()
def row_temperatures(
    store: LogitStore,
    views: Sequence[int],
    student: Normalised,
    samples: Samples,
    settings: Distill,
    most: int | None = None,
) -> dict[str, RowTemperatures]:
    """The temperature of each row of some views, by DTD method; of each view the first `most` rows, if given.

    Computed by the methods' own terms: the weights' mean is over batches of `distill.batch_size`, drawn as in training
    with seed 0. The student is in evaluation mode.
    """
    student.eval()
    device = samples.device
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {method: [] for method in METHODS}
    terms = {method: settings.model_copy(update={"method": method}).terms.temperature for method in METHODS}
    for view in views:
        stored = {name: array.to(device) for name, array in as_tensors(store.stored(view)).items()}
        raw = add_maximum(store.encoding.decode(stored))
        rows = torch.from_numpy(store.plan.parameters(view)).to(device)
        order = torch.from_numpy(sample_order(0, view, store.samples)[:most]).to(device)
        for batch in torch.split(order, settings.batch_size):
            shown = store.plan, batch, rows[batch]
            with arithmetic("ieee", device):
                logits = student(samples.pixels(*shown).contiguous(memory_format=torch.channels_last))
            for method, term in terms.items():
                _, log = term.temperature(upcast(logits), raw[batch])
                found[method].append((log["tau"].cpu(), log["tau_clamped"].bool().cpu(), batch.cpu()))
    return {
        method: RowTemperatures(*(torch.cat([*column]).numpy() for column in zip(*parts, strict=True)))
        for method, parts in found.items()
    }


def summarise(rows: RowTemperatures, edges: NDArray[np.float64], settings: DTD) -> MethodTemperatures:
    """Statistics and histogram of finite temperatures."""
    at_floor = rows.clamped & (rows.tau <= settings.tau_min)
    return MethodTemperatures(
        mean=float(rows.tau.mean(dtype=np.float64)),
        min=float(rows.tau.min()),
        max=float(rows.tau.max()),
        clamped=float(rows.clamped.mean()),
        at_floor=float(at_floor.mean()),
        at_ceiling=float((rows.clamped & ~at_floor).mean()),
        histogram=np.histogram(rows.tau, edges)[0].tolist(),
    )
