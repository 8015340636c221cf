"""Is what the store holds what the teacher would say? The live teacher is asked again, and controls must be found out."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.labels import has_share
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models import Normalised
from prepkd.runtime.streams import raw_words
from prepkd.store import LogitStore
from prepkd.store.attributes import Pixels
from prepkd.store.encodings import Encoding, as_tensors
from prepkd.store.encodings.measure import added_divergence
from prepkd.teacher.caching import pixel_hash
from prepkd.verification.controls import CONTROLS, Question, changed, live

# A view is read whole, so a sample is drawn from as many views as fit in READ bytes, and from no fewer than FEWEST_VIEWS.
READ, FEWEST_VIEWS = 2**28, 8
DRAW_STREAM = 2**61  # of the verdict's seed; apart from the streams of plans and runs


@dataclass(frozen=True)
class Tolerance:
    """How far live logits may be from stored ones, where the arithmetic's rounding is the only difference.

    `dz`: |difference| as a share of the rows' mean largest |logit|; `kl`: mean KL at tau 4; `flips`: the share of rows with
    another maximum.
    """

    dz: float
    kl: float
    flips: float


# Rounding as measured (docs/how-to/verify.md), with room for deeper networks and for two machines that both round: 100 times
# what float32 does, 5 times what TF32 and bf16 do to a logit, so 25 times and more to KL, which grows with the square.
TOLERANCES = {
    "ieee": Tolerance(1e-4, 1e-7, 0.001),
    "tf32": Tolerance(1e-2, 1e-5, 0.01),
    "bf16": Tolerance(1e-1, 5e-4, 0.03),
}
TOLERANCES["unknown"] = TOLERANCES["bf16"]  # an imported store, whoever computed it


@dataclass(frozen=True)
class Agreement:
    """Stored against live logits, over `rows` rows: max |dz| where the encoding keeps a class, the part of it that the
    encoding does not explain, mean KL at tau 1 and 4, the share of rows with a common maximum, what is allowed of
    `excess`, `kl_4` and `top1`, and whether all of it is within."""

    rows: int
    dz: float
    excess: float
    kl_1: float
    kl_4: float
    top1: float
    allowed: dict[str, float]
    within: bool


def verdict(store: LogitStore, teacher: Normalised, samples: Samples, *, count: int, seed: int) -> dict[str, Any]:
    """Compare `count` random (view, sample) of a store with the live teacher, and with controls that must differ; as JSON.

    `verdict` is FAIL where logits, pixels or kept labels are not what they should be; else WITHHELD where a control is
    within the tolerance as well, or none applies: then the comparison proves nothing; else PASS. `why` says it in words.
    Raises InputError where no view is present.
    """
    views, chosen = draw(store, count, seed)
    stored = gather(store, views, chosen)
    question = Question.of(teacher, store.plan, samples, views, chosen)
    labels = question.labels(store)
    raw = live(store, question)
    own = own_divergence(store.encoding, raw, labels)
    real = agreement(store, stored, raw, own)
    controls, absent = {}, {}
    for name, make in CONTROLS.items():
        other = make(store, question)
        if isinstance(other, str):
            absent[name] = other
        elif not (rows := changed(store, question, other)).any():
            absent[name] = "no drawn picture changes"
        else:
            few = {key: array[rows] for key, array in stored.items()}
            controls[name] = agreement(store, few, live(store, other)[rows], own[rows])
    left_out = store.encoding.largest_error(stored) == torch.inf
    dropped = int((left_out & has_share(labels, store.classes)).any(dim=-1).sum())
    report = {
        "store": store.url,
        "seed": seed,
        "samples": len(chosen),
        "views": sorted({int(view) for view in views}),
        "encoding": store.attributes.encoding.name,
        "precision": store.attributes.precision.arithmetic,
        "teacher": _json(real),
        "controls": {name: _json(control) for name, control in controls.items()},
        "not_applicable": absent,
        "labels_left_out": dropped,
        "pixels": replayed(store, samples, views),
    }
    return report | dict(zip(("verdict", "why"), conclude(report), strict=True))


def conclude(report: dict[str, Any]) -> tuple[str, str]:
    """The verdict on what was measured, and one sentence why."""
    teacher, pixels, allowed = report["teacher"], report["pixels"], report["teacher"]["allowed"]
    faults = []
    if pixels["sha256"] != pixels["replayed"]:
        faults.append(f"the replayed pixels' hash is {pixels['replayed'][:12]}, the store says {pixels['sha256'][:12]}")
    if not teacher["within"]:
        found = (
            f"{words} {math.nan if teacher[key] is None else teacher[key]:.3g} (allowed {allowed[key]:.3g})"
            for key, words in (
                ("excess", "|dz| beyond the encoding's error"),
                ("kl_4", "KL at tau 4"),
                ("top1", "top-1"),
            )
        )
        faults.append(f"the live teacher's logits are not the stored ones: {', '.join(found)}")
    if report["labels_left_out"]:
        faults.append(f"{report['labels_left_out']} rows lack their label's logit")
    if faults:
        return "FAIL", "; ".join(faults)
    if fooled := [name for name, control in report["controls"].items() if control["within"]]:
        return "WITHHELD", f"{' and '.join(fooled)} went unnoticed, so agreement with this teacher proves nothing"
    if not report["controls"]:
        return "WITHHELD", "no control applies, so nothing shows that a wrong store would be noticed"
    return "PASS", (
        f"{report['samples']} stored rows of {len(report['views'])} views are what the live teacher says, "
        f"and {len(report['controls'])} of {len(report['controls'])} controls were found out"
    )


def draw(store: LogitStore, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Up to `count` different (view, sample) pairs, both int64 (n,), of views that are present; raises InputError."""
    if not store.present:
        raise InputError(f"{store.url}: holds no view; `prepkd fetch-views` brings them")
    most = max(FEWEST_VIEWS, READ * store.views // store.nbytes)
    views = np.array(store.present)[_order(seed, DRAW_STREAM, len(store.present))[:most]]
    picked = _order(seed, DRAW_STREAM + 1, len(views) * store.samples)[:count]
    return views[picked // store.samples], picked % store.samples


def _order(seed: int, stream: int, count: int) -> NDArray[np.int64]:
    return np.argsort(raw_words(seed, stream, 0, count), kind="stable")


def gather(store: LogitStore, views: NDArray[np.int64], chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    """The stored rows of (view, sample) pairs, each view read once."""
    found: dict[str, NDArray[Any]] = {}
    for view in np.unique(views):
        here = views == view
        for name, array in store.stored(int(view)).items():
            found.setdefault(name, np.empty((len(views), *array.shape[1:]), array.dtype))[here] = array[chosen[here]]
    return as_tensors(found)


def own_divergence(encoding: Encoding, raw: Tensor, labels: Tensor) -> Tensor:
    """The KL at tau 4 that the encoding adds to raw logits (N, K) of samples with these labels, (N,) or (N, K); float64 (N,)."""
    return added_divergence(raw, encoding.decode(encoding.encode(raw, labels))["logits"], 4)


def agreement(store: LogitStore, stored: dict[str, Tensor], raw: Tensor, own: Tensor) -> Agreement:
    """How well stored rows agree with live raw logits (N, K), where the encoding itself adds a KL of `own` (N,)."""
    answers = store.encoding.decode(stored)
    offsets, row_max = answers["logits"].double(), answers["row_max"].double()
    given, decoded = raw.double(), offsets + row_max.unsqueeze(-1)
    bound = store.encoding.largest_error(stored)
    kept = bound < torch.inf
    difference = (decoded - given).abs()
    excess = (difference - bound)[kept].max().clamp(min=0)
    if not kept.all():  # of classes that were left out the log-sum-exp is kept
        tails = [values.masked_fill(kept, -torch.inf).logsumexp(dim=-1) for values in (decoded, given)]
        excess = torch.maximum(excess, (tails[0] - tails[1]).abs().max())
    if "lse" in stored:  # decoding does not need it, other readers may
        true = given.logsumexp(dim=-1) - given.amax(dim=-1)
        excess = torch.maximum(excess, (stored["lse"] - true).abs().max())
    kl_1, kl_4 = (added_divergence(raw, offsets, tau).mean().clamp(min=0).item() for tau in (1, 4))
    common = int(((offsets == 0) & (given == given.amax(dim=-1, keepdim=True))).any(dim=-1).sum())
    tolerance, count = TOLERANCES[store.attributes.precision.arithmetic], len(raw)
    allowed = {
        "excess": tolerance.dz * decoded.abs().amax(dim=-1).mean().item(),
        # Divergences are squares: what two causes do together is at most twice the sum of what each does.
        "kl_4": 2 * (tolerance.kl + own.mean().item()),
        "top1": 1 - math.ceil(tolerance.flips * count) / count,
    }
    within = excess.item() <= allowed["excess"] and kl_4 <= allowed["kl_4"] and common / count >= allowed["top1"]
    return Agreement(
        count, difference[kept].max().item(), excess.item(), kl_1, kl_4, common / count, allowed, bool(within)
    )


def _json(found: Agreement) -> dict[str, Any]:
    """An agreement as JSON, in which there are neither NaN nor infinities."""
    values = asdict(found)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def recorded_pixels(store: LogitStore) -> Pixels:
    """The hash of rendered pixels that a store records; raises InputError where it records none."""
    if store.attributes.pixels is None:
        raise InputError(f"{store.url}: records no hash of its pixels; run cache-logits again")
    return store.attributes.pixels


def replayed(store: LogitStore, samples: Samples, views: NDArray[np.int64]) -> dict[str, Any]:
    """What the store says of its pixels, beside the hash of the same pixels rendered now, and one for each of some views."""
    pixels = recorded_pixels(store)
    count = pixels.samples
    return {
        **pixels.model_dump(),
        "replayed": pixel_hash(store.plan, samples, pixels.views, count),
        "by_view": {str(view): pixel_hash(store.plan, samples, [int(view)], count) for view in np.unique(views)},
    }
