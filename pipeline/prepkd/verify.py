"""Is what the store holds what the teacher would say? The live teacher is asked again, and controls must be found out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prepkd.caching import pixel_hash
from prepkd.errors import InputError, refuse_differences
from prepkd.models import Normalised
from prepkd.models.preprocessing import Preprocessing
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors
from prepkd.store.encodings.measure import added_divergence
from prepkd.store.teacher_pass import raw_logits, ready
from prepkd.train import Samples
from prepkd.views.plan import below, raw_words

MOST_VIEWS = 8  # a view is read whole, so a sample draws from a few of them


@dataclass(frozen=True)
class Tolerance:
    """How far live logits may be from stored ones.

    `dz`: the largest |difference| beyond what the encoding may change; `kl`: the mean KL at tau 4 beyond four times what the
    encoding was measured to add; `top1`: the least agreement.
    """

    dz: float
    kl: float
    top1: float


# On one machine type, with the same versions, differences are zero. Another machine's kernels differ in rounding:
# float32 by 1e-4 or less; TF32 and bf16 have 10 and 8 bits of mantissa, and a network has many layers.
TOLERANCES = {
    "ieee": Tolerance(1e-3, 1e-6, 0.999),
    "tf32": Tolerance(5e-2, 1e-4, 0.99),
    "bf16": Tolerance(0.5, 1e-3, 0.95),
}


@dataclass(frozen=True)
class Agreement:
    """Stored against live logits: max |dz| where the encoding keeps a class, the part of it that the encoding does not
    explain, mean KL at tau 1 and 4, the share of rows with a common maximum, and whether all is within tolerance."""

    dz: float
    excess: float
    kl_1: float
    kl_4: float
    top1: float
    within: bool


def verdict(store: LogitStore, teacher: Normalised, samples: Samples, *, count: int, seed: int) -> dict[str, Any]:
    """Compare `count` random (view, sample) of a store with the live teacher, and with controls that must differ.

    `verdict` is PASS, FAIL, or WITHHELD where a control (samples shuffled, flip inverted, next view, no normalisation) is
    within the tolerance as well: then the comparison proves nothing.
    """
    views, chosen = draw(store, count, seed)
    stored = gather(store, views, chosen)
    rows = store.plan.parameters(views, chosen)
    images = samples.images[torch.from_numpy(chosen).to(samples.images.device)]
    teacher = ready(teacher)  # type: ignore[assignment]

    def compare(model: nn.Module, pictures: Tensor, parameters: NDArray[Any]) -> Agreement:
        return agreement(store, stored, live(store, model, pictures, parameters))

    controls = {"samples shuffled": compare(teacher, images.roll(1, dims=0), rows)}
    if (column := flip_column(store)) is not None:
        inverted = rows.copy()
        inverted[:, column] = 1 - inverted[:, column]
        controls["flip inverted"] = compare(teacher, images, inverted)
    if store.views > 1:
        following = store.plan.parameters((views + 1) % store.views, chosen)
        controls["next view"] = compare(teacher, images, following)
    channels = images.shape[1]
    plain = ready(Normalised(teacher.body, Preprocessing((0.0,) * channels, (1.0,) * channels)).to(images.device))
    if teacher.preprocessing != plain.preprocessing:
        controls["no normalisation"] = compare(plain, images, rows)

    real = compare(teacher, images, rows)
    pixels = store.attributes["pixels"]
    replayed = pixel_hash(store.plan, samples, pixels["views"], pixels["samples"])
    passed = real.within and replayed == pixels["sha256"]
    fooled = [name for name, control in controls.items() if control.within]
    return {
        "verdict": ("WITHHELD" if fooled else "PASS") if passed else "FAIL",
        "fooled": fooled,
        "store": store.url,
        "seed": seed,
        "samples": len(chosen),
        "views": sorted({int(view) for view in views}),
        "encoding": store.attributes["encoding"]["name"],
        "precision": store.attributes["precision"]["arithmetic"],
        "tolerance": asdict(tolerance(store)),
        "teacher": asdict(real),
        "controls": {name: asdict(control) for name, control in controls.items()},
        "pixels": {**pixels, "replayed": replayed},
    }


def draw(store: LogitStore, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`count` random (view, sample) pairs, both int64 (count,), of at most 8 of the views that are present."""
    if not store.present:
        raise InputError(f"{store.url}: holds no view; `prepkd fetch-views` brings them")
    words = raw_words(seed, 0, 0, 2 * count + MOST_VIEWS)
    few = np.array(store.present)[below(words[:MOST_VIEWS], len(store.present))]
    views = few[below(words[MOST_VIEWS : MOST_VIEWS + count], MOST_VIEWS)]
    return views, below(words[MOST_VIEWS + count :], store.samples)


def gather(store: LogitStore, views: NDArray[np.int64], chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    """The stored rows of (view, sample) pairs, each view read once."""
    found: dict[str, NDArray[Any]] = {}
    for view in np.unique(views):
        here = views == view
        for name, array in store.stored(int(view)).items():
            found.setdefault(name, np.empty((len(views), *array.shape[1:]), array.dtype))[here] = array[chosen[here]]
    return as_tensors(found)


def live(store: LogitStore, teacher: nn.Module, images: Tensor, rows: NDArray[Any]) -> Tensor:
    """The teacher's raw logits (N, K) of images under parameters (N, p), in the store's precision and batch shape, on the CPU."""
    precision = store.attributes["precision"]
    parameters = torch.from_numpy(rows).to(images.device)
    settings = {"batch_size": precision["batch_size"], "precision": precision["arithmetic"]}
    return raw_logits(teacher, store.plan, images, parameters, **settings).cpu()


def agreement(store: LogitStore, stored: dict[str, Tensor], raw: Tensor) -> Agreement:
    """How well stored rows agree with live raw logits (N, K)."""
    offsets, row_max = store.encoding.decode(stored)
    offsets = offsets.float()
    difference = (offsets + row_max.unsqueeze(-1) - raw).abs()
    bound = store.encoding.largest_error(stored)
    kept = bound < torch.inf
    dz = difference[kept].max().item()
    excess = (difference - bound)[kept].max().item()
    kl_1, kl_4 = (added_divergence(raw, offsets, tau).mean().item() for tau in (1, 4))
    common = ((offsets == 0) & (raw == raw.amax(dim=-1, keepdim=True))).any(dim=-1).float().mean().item()
    allowed = tolerance(store)
    within = excess <= allowed.dz and kl_4 <= allowed.kl + 4 * encoding_divergence(store) and common >= allowed.top1
    return Agreement(dz, excess, kl_1, kl_4, common, within)


def tolerance(store: LogitStore) -> Tolerance:
    """What the store's precision allows."""
    return TOLERANCES[store.attributes["precision"]["arithmetic"]]


def encoding_divergence(store: LogitStore) -> float:
    """The mean KL at tau 4 that the store's encoding was measured to add."""
    return float(store.attributes["measured"]["kl_mean"]["4"])


def flip_column(store: LogitStore) -> int | None:
    """Which of a view's integers says whether it is mirrored; None where the recipe does not flip."""
    start = 0
    for name, step in store.plan.recipe:
        if name == "flip":
            return start
        start += len(step.ranges)
    return None


def check_teacher(store: LogitStore, card: dict[str, Any], where: object) -> None:
    """Refuse a checkpoint that is not the one that the store was made with; raises InputError."""
    made = store.attributes["teacher"]
    keys: Sequence[str] = ("weights_fingerprint", "model", "preprocessing")
    refuse_differences(
        {f"teacher.{key}": (made[key], card[key]) for key in keys},
        f"{store.url} against {where}",
        f"run `prepkd cache-logits {made['name']}` again",
    )


def check_pixels(store: LogitStore, samples: Samples) -> None:
    """Refuse a store whose pixels are not those that this version renders; raises InputError."""
    pixels = store.attributes["pixels"]
    found = pixel_hash(store.plan, samples, pixels["views"], pixels["samples"])
    refuse_differences(
        {"pixels.sha256": (pixels["sha256"], found)},
        store.url,
        "views are rendered differently; run cache-logits again",
    )


def check_first_batch(store: LogitStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Ask the live teacher for one batch of a view; raises InputError where the store says something else."""
    count = min(store.attributes["precision"]["batch_size"], store.samples)
    chosen = np.arange(count)
    stored = gather(store, np.full(count, view), chosen)
    rows = store.plan.parameters(view, slice(0, count))
    found = agreement(store, stored, live(store, ready(teacher), samples.images[:count], rows))
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {count - 1}: the live teacher's logits differ by {found.dz:.3g}, "
            f"{found.excess:.3g} more than {store.attributes['encoding']['name']} explains, KL(tau=4) {found.kl_4:.1e}, "
            f"common top-1 {found.top1:.1%}; `prepkd verify {store.url}` looks closer"
        )
