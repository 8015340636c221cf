"""Dynamic temperatures: their spread by epoch, and the samples with the sharpest and the softest targets."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.html_report.charts.epochs import spread
from prepkd.html_report.names import sample_name
from prepkd.html_report.parts import Bar, Card, Figure, Gallery, PageSection, Table, columns, number
from prepkd.html_report.pictures import view_pictures
from prepkd.html_report.results import Results
from prepkd.html_report.sections.training import logged
from prepkd.inspection.temperatures import METHODS, RowTemperatures, flsw_refusal, row_temperatures
from prepkd.models import Normalised, load_checkpoint
from prepkd.runtime.torch_state import arithmetic
from prepkd.store import LogitStore

CARDS = 12  # of each kind
MAX_ROWS = 20_000  # samples for which the student is run at most: seconds on a CPU
TOP = 3
ENDS = ("min", "p5", "p25", "p50", "p75", "p95", "max")


def temperatures(results: Results) -> PageSection:
    """The spread over epochs if the temperature is dynamic, and the extreme samples; raises InputError without either."""
    notes: list[str] = []
    parts: list[Figure | Gallery] = []
    for what, part in PARTS.items():
        try:
            parts += part(results)
        except InputError as error:
            notes.append(f"{what} are left out: {error}")
    if not parts:
        raise InputError("; ".join(notes))
    name = results.settings.terms.temperature.name
    used = name in METHODS
    lead = (
        f"{name} gives every sample its own temperature in each step: a high one softens the teacher's answer, a low one "
        "sharpens it."
        if used
        else f"The method {results.settings.method} has one temperature, {results.settings.teacher_tau:g}, for all samples; "
        "the cards show those of a dynamic one."
    )
    return PageSection("temperatures", "Temperatures", lead, parts, notes)


def by_epoch(results: Results) -> list[Figure]:
    """The temperatures' percentiles by epoch, averaged over the seeds; raises InputError if they were not logged."""
    settings = results.settings
    if settings.terms.temperature.name not in METHODS:
        raise InputError(
            f"method {settings.method} has one for all; run `dvc exp run -S distill.method=ka-ps+dtd-flsw`"
        )
    seeds = settings.seed_list
    logs = {name: logged(results.training, "train", f"tau_{name}", seeds) for name in ENDS}
    logs["mean"] = logged(results.training, "train", "tau", seeds)
    if not all(logs[name] for name in ("mean", "min", "max")):
        raise InputError(f"{results.training}: no log of tau; run `prepkd distill`")
    means = {name: pd.DataFrame(dict(one)).mean(axis=1) for name, one in logs.items() if one}
    frame = pd.DataFrame(means)
    frame.index += 1  # a page counts epochs from 1, as the terminal does
    records = frame.rename_axis("epoch").reset_index().to_dict("records")
    rows = [{str(name): value for name, value in record.items()} for record in records]
    whole = all(name in means for name in ENDS)
    caption = "Line: mean. " + ("Bands: the middle half and the middle 90 % of the samples. " if whole else "")
    caption += "Dotted: lowest and highest sample." + (f" Means over {len(seeds)} seeds." if len(seeds) > 1 else "")
    heads = ["epoch", *(name for name in ("mean", *ENDS) if name in means)]
    table = Table(
        "Temperature by epoch",
        columns(*heads, numeric=heads),
        [[number(row[name], "{:.0f}" if name == "epoch" else "{:.3f}") for name in heads] for row in rows],
    )
    return [Figure("tau", "Temperature by epoch", caption, spread(rows, "temperature"), table)]


def extremes(results: Results) -> list[Gallery]:
    """Cards of the samples with the lowest and the highest temperature under one view; raises InputError."""
    if not results.settings.parsed_method.needs_teacher:
        raise InputError(f"method {results.settings.method} uses no teacher")
    settings, seed = results.settings, next(iter(results.students))
    _ = results.student_logits  # checks that the students belong to these data and teachers
    if len(results.opened) > 1:
        raise InputError("they are shown for one teacher, and the students have several")
    (store,) = results.opened.values()
    view = store.present[0]
    wanted = settings.terms.temperature.name
    problem = flsw_refusal(store, view)
    method = wanted if wanted in METHODS else ("dtd-cwsm" if problem else "dtd-flsw")
    if problem and method == "dtd-flsw":
        raise InputError(problem)
    model, _card = load_checkpoint(results.students[seed], device=results.device, hint="run `prepkd distill`")
    samples = Samples.of(results.train, results.device, store.plan.recipe)
    found = row_temperatures(store, [view], model, samples, settings, MAX_ROWS)[method]
    if not np.isfinite(found.tau).all():
        raise InputError(f"{results.students[seed]}: its temperatures are not finite; run `prepkd distill`")
    order = np.lexsort((found.sample, found.tau))
    count = min(CARDS, len(order) // 2)
    part = "" if len(order) == store.samples else f" of the {store.samples:,}"
    caption = f"By {method} with the trained student of seed {seed} under view {view}; of {len(order):,}{part} samples."
    kinds = {
        "Sharpest targets": (order[:count], "The lowest temperatures. "),
        "Softest targets": (order[::-1][:count], "The highest temperatures. "),
    }
    galleries = []
    for title, (chosen, said) in kinds.items():
        cards = _cards(results, store, view, model, samples, found, chosen)
        galleries.append(Gallery(title, said + caption, cards))
    return galleries


@torch.inference_mode()
def _cards(
    results: Results,
    store: LogitStore,
    view: int,
    model: Normalised,
    samples: Samples,
    found: RowTemperatures,
    chosen: NDArray[np.int64],
) -> list[Card]:
    """The cards of some rows of `found`: picture, temperature, the most probable classes of teacher and student."""
    rows = [int(found.sample[place]) for place in chosen]
    pictures = view_pictures(samples, store.plan, [(view, row) for row in rows])
    shown = torch.tensor(rows, device=samples.device)
    integers = torch.from_numpy(store.plan.parameters(view, np.array(rows))).to(samples.device)
    with arithmetic("ieee", samples.device):
        ours = model(samples.pixels(store.plan, shown, integers)).float().softmax(dim=-1).cpu()
    theirs = torch.from_numpy(store.lookup(np.full(len(rows), view), np.array(rows))).softmax(dim=-1)
    names = results.names
    cards = []
    for place, row, picture, student, teacher in zip(chosen, rows, pictures, ours, theirs, strict=True):
        y, name = int(results.train.labels[row]), sample_name(results.train, row)
        tau = float(found.tau[place])
        held = ", held at the bound" if found.clamped[place] else ""
        bars = {
            who: [
                Bar(names[k], float(probs[k]), k == y)
                for k in probs.argsort(descending=True, stable=True)[:TOP].tolist()
            ]
            for who, probs in (("teacher", teacher), ("student", student))
        }
        description = f"{name} under view {view}, labelled {names[y]}, temperature {tau:.2f}"
        cards.append(Card(picture, description, f"temperature {tau:.2f}", [f"label {names[y]}{held}", name], bars))
    return cards


PARTS: dict[str, Callable[[Results], Sequence[Figure | Gallery]]] = {
    "Temperatures by epoch": by_epoch,
    "Extreme samples": extremes,
}
