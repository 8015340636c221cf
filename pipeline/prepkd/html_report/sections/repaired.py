"""The teacher's errors that Knowledge Adjustment repairs: pictures, labels, and probabilities before and after."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.html_report.names import sample_name
from prepkd.html_report.parts import Bar, Card, Gallery, PageSection
from prepkd.html_report.pictures import view_pictures
from prepkd.html_report.results import Results
from prepkd.inspection.logit_statistics import choose_views
from prepkd.losses import teacher_wrong
from prepkd.methods.knowledge_adjustment import LabelSmoothing, ProbabilityShift
from prepkd.methods.term import Adjustment
from prepkd.store.encodings import as_tensors
from prepkd.teacher.ensemble import combine

MAX_CARDS = 24
MAX_VALUES = 2**28  # logits to read at most, which takes a few seconds
TOP = 5
PARTIAL = "topk", "sampled"  # encodings that do not keep every class


@dataclass(frozen=True)
class Repaired:
    """A teacher's error: its view and sample, z - max(z) (K,), the label (or shares, K), and the wrong class's probability."""

    view: int
    sample: int
    offsets: Tensor
    label: Tensor
    confidence: float


def repaired(results: Results) -> PageSection:
    """The teacher's most confident errors, one per sample, before and after repair; raises InputError."""
    if not results.settings.parsed_method.needs_teacher:
        raise InputError(f"method {results.settings.method} uses no teacher; run `dvc exp run -S distill.method=ka-ps`")
    adjustment, used = _adjustment(results)
    stores = list(results.opened.values())
    views = [view for view in choose_views(None, stores[0]) if all(view in store.present for store in stores)]
    views = views[: max(1, MAX_VALUES // (stores[0].samples * stores[0].classes * len(stores)))]
    samples = Samples.of(results.train, torch.device("cpu"), stores[0].plan.recipe)
    found, rows, wrong_rows, wrong = _errors(results, samples, views)
    if not found:
        raise InputError(f"{stores[0].url}: the teacher has no error in {_views(views)}: KA changes nothing")
    tau = results.settings.teacher_tau
    names = results.names
    pictures = view_pictures(samples, stores[0].plan, [(one.view, one.sample) for one in found])
    cards = [
        _card(one, picture, adjustment, tau, names, sample_name(results.train, one.sample))
        for one, picture in zip(found, pictures, strict=True)
    ]
    lead = (
        f"The teacher is wrong in {wrong_rows:,} of {rows:,} (view, sample) rows ({wrong_rows / rows:.2%}), which concern "
        f"{wrong:,} of {stores[0].samples:,} training samples; {_views(views)} were read. "
    )
    lead += (
        f"The students were taught the repaired answers of {adjustment.name}."
        if used
        else f"The method {results.settings.method} does not repair them; the cards show the repair by {adjustment.name}."
    )
    caption = (
        f"The {len(cards)} most confident errors, one per sample, as the student sees them: the five most probable "
        f"classes at temperature {tau:g}. The label is marked."
    )
    if partial := [store.encoding.name for store in stores if store.encoding.name in PARTIAL]:
        caption += f" The encoding {partial[0]} keeps some classes of each row; in it the others share the rest evenly."
    gallery = Gallery("Before and after", caption, cards, filtered=True)
    return PageSection("repaired", "Teacher errors that KA repairs", lead, [gallery])


def _adjustment(results: Results) -> tuple[Adjustment, bool]:
    """The method's own adjustment and True, or probability shift and False."""
    own = results.settings.terms.adjustment
    if isinstance(own, ProbabilityShift | LabelSmoothing):
        return own, True
    return results.settings.configured(ProbabilityShift), False


def _errors(results: Results, samples: Samples, views: list[int]) -> tuple[list[Repaired], int, int, int]:
    """The most confident errors, one per sample, and the numbers of rows read, of wrong rows, and of samples with an error."""
    best: dict[int, Repaired] = {}
    rows, wrong_rows = 0, 0
    ever = torch.zeros(len(samples), dtype=torch.bool)
    for view, offsets, labels in _answers(results, samples, views):
        wrong = teacher_wrong(offsets, labels)
        rows, wrong_rows = rows + len(offsets), wrong_rows + int(wrong.sum())
        ever |= wrong
        here = wrong.nonzero().flatten()
        confidence = offsets[here].softmax(dim=-1).amax(dim=-1)
        order = confidence.argsort(descending=True, stable=True)[:MAX_CARDS]
        for sample, value in zip(here[order].tolist(), confidence[order].tolist(), strict=True):
            if sample not in best or best[sample].confidence < value:
                best[sample] = Repaired(view, sample, offsets[sample].clone(), labels[sample].clone(), value)
    found = sorted(best.values(), key=lambda one: (-one.confidence, one.sample))[:MAX_CARDS]
    return found, rows, wrong_rows, int(ever.sum())


def _answers(results: Results, samples: Samples, views: list[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each view with the teachers' combined logits z - max(z), float32 (N, K), and the labels."""
    settings = results.settings
    stores = list(results.opened.values())
    for view in views:
        decoded = [store.encoding.decode(as_tensors(store.stored(view))) for store in stores]
        offsets = decoded[0]["logits"].float()
        if len(decoded) > 1:
            offsets = combine(decoded, settings.ensemble.combine, settings.teacher_weights, tau=settings.teacher_tau)[
                "logits"
            ]
        plan = stores[0].plan
        yield view, offsets, samples.targets(plan, *samples.view_rows(plan, view, slice(None)), stores[0].classes)


def _card(one: Repaired, picture: str, adjustment: Adjustment, tau: float, names: tuple[str, ...], sample: str) -> Card:
    offsets, label = one.offsets.unsqueeze(0), one.label.unsqueeze(0)
    after = adjustment.adjust(offsets, label, tau).log_probs(tau).exp()[0]
    before = (offsets / tau).softmax(dim=-1)[0]
    y = int(main_class(label)[0])
    bars = {title: _top(probs, y, names) for title, probs in (("before", before), ("after", after))}
    facts = [f"{sample}, view {one.view}", f"teacher says {names[int(before.argmax())]}"]
    return Card(picture, f"{sample} under view {one.view}, labelled {names[y]}", f"label {names[y]}", facts, bars)


def _top(probs: Tensor, label: int, names: tuple[str, ...]) -> list[Bar]:
    """The five most probable classes; among ties the label comes first, then the order of classes."""
    order = sorted(range(len(probs)), key=lambda k: (-float(probs[k]), k != label, k))[:TOP]
    return [Bar(names[k], float(probs[k]), k == label) for k in order]


def _views(views: list[int]) -> str:
    return f"view {views[0]}" if len(views) == 1 else f"{len(views)} views"
