"""Which temperatures DTD would give a store's rows, for a student as it is now."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.losses import distillation_loss
from prepkd.methods.settings import DTD
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors
from prepkd.training.student_settings import Distill
from prepkd.views.order import sample_order

METHODS = ("dtd-flsw", "dtd-cwsm")
BINS = 40
# By method: each row's temperature, and whether the clamp bit it.
Rows = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]


@torch.inference_mode()
def temperatures(
    store: LogitStore, views: Sequence[int], student: Normalised, samples: Samples, settings: Distill
) -> Rows:
    """The temperature of each row of some views, float32 (views * N,), and whether the clamp bit it, by DTD method.

    By `distillation_loss` itself, so the weights' mean is over batches of `distill.batch_size`, drawn as training with seed 0
    draws them; the student is in evaluation mode.
    """
    student.eval()
    device = samples.device
    found: dict[str, list[tuple[Tensor, Tensor]]] = {method: [] for method in METHODS}
    for view in views:
        stored = {name: array.to(device) for name, array in as_tensors(store.stored(view)).items()}
        answers = store.encoding.decode(stored)
        offsets, row_max = answers["logits"], answers["row_max"]
        rows = torch.from_numpy(store.plan.parameters(view)).to(device)
        order = torch.from_numpy(sample_order(0, view, store.samples)).to(device)
        for batch in torch.split(order, settings.batch_size):
            shown = store.plan, batch, rows[batch]
            pixels, labels = samples.pixels(*shown), samples.targets(*shown, store.classes)
            logits = student(pixels.contiguous(memory_format=torch.channels_last))
            for method in METHODS:
                given = settings.model_copy(update={"method": method})
                log = distillation_loss(given, logits, labels, offsets[batch], row_max[batch])
                found[method].append((log["tau"].cpu(), log["tau_clamped"].bool().cpu()))
    return {
        method: (torch.cat([tau for tau, _ in parts]).numpy(), torch.cat([bit for _, bit in parts]).numpy())
        for method, parts in found.items()
    }


def spread(rows: Rows, settings: DTD) -> dict[str, Any]:
    """What `temperatures` found as JSON: mean, min, max, the share of rows that floor and ceiling hold, and a histogram.

    The bins are the same for all methods. Raises InputError for a temperature that is not finite.
    """
    every = np.concatenate([tau for tau, _ in rows.values()])
    if not np.isfinite(every).all():
        raise InputError("the student's logits are not finite, and so its temperatures; expected a trained student")
    edges = np.histogram_bin_edges(every.astype(np.float64), BINS)
    methods = {method: _spread(tau, clamped, edges, settings) for method, (tau, clamped) in rows.items()}
    return {"rows": len(every) // len(rows), "edges": edges.tolist(), "methods": methods}


def _spread(
    tau: NDArray[np.float32], clamped: NDArray[np.bool_], edges: NDArray[np.float64], settings: DTD
) -> dict[str, Any]:
    at_floor = clamped & (tau <= settings.tau_min)
    return {
        "mean": float(tau.mean(dtype=np.float64)),
        "min": float(tau.min()),
        "max": float(tau.max()),
        "clamped": float(clamped.mean()),
        "at_floor": float(at_floor.mean()),
        "at_ceiling": float((clamped & ~at_floor).mean()),
        "histogram": np.histogram(tau, edges)[0].tolist(),
    }
