"""Compare encodings of equal bytes as targets: bias and spread of kd's gradient, KL at tau 1, 2, 4, and students' top-1."""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.models.features import Answers
from prepkd.runtime.streams import Purpose, raw_words
from prepkd.store.encodings import LogitEncoding, make_encoding
from prepkd.store.encodings.base import DRAW_BITS, LOG_WEIGHTS
from torch import Tensor, nn

from benchmarks._datasets import SEED
from benchmarks._measure import environment, report

TAUS, DRAWN_AT = (1, 2, 4), 4.0
# By number of classes: the settings of `topk` and `sampled` whose bytes per row come closest to those of `u8` from below.
BUDGETS = {
    100: {"u8": {}, "topk": {"k": 32}, "sampled": {"n": 30}},
    1000: {"u8": {}, "topk": {"k": 249}, "sampled": {"n": 247}},
}
SMALL = {100: {"topk": {"k": 16}, "sampled": {"n": 14}}, 1000: {"topk": {"k": 22}, "sampled": {"n": 20}}}
BATCH = 250


@dataclass(frozen=True)
class Case:
    """A form of targets: its bytes per row, and a function of raw logits (N, K), labels (N,) and the number of a draw."""

    bytes: int
    answers: Callable[[Tensor, Tensor, int], Answers]


@dataclass(frozen=True)
class Data:
    """A teacher's logits (V, N, K) with labels, and the inputs of students or None."""

    logits: Tensor
    labels: Tensor
    named: dict[str, Any]
    features: Tensor | None = None
    test: tuple[Tensor, Tensor] | None = None


def main(arguments: list[str] | None = None) -> None:
    """Measure, train, print tables, write JSON."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    result = environment() | {
        "command": "python -m benchmarks.drawn_classes",
        "settings": {"rows": options.rows, "draws": options.draws, "seeds": options.seeds, "epochs": options.epochs},
        "sets": {},
    }
    for data in (real(options.answers) if options.answers else made_up(100, options.rows), made_up(1000, options.rows)):
        classes = data.logits.shape[-1]
        rows = data.logits[0, : options.rows], data.labels[: options.rows]
        found = {name: measure(case, *rows, options.draws) for name, case in cases(classes).items()}
        result["sets"][str(classes)] = data.named | {"rows": len(rows[0]), "targets": found}
        if data.features is not None:
            result["sets"][str(classes)]["students"] = students(data, cases(classes), options.seeds, options.epochs)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.drawn_classes", description=__doc__)
    found.add_argument(
        "--answers", type=Path, help="a file of benchmarks.public_answers; without it logits are made up"
    )
    found.add_argument("--rows", type=int, default=200, help="rows whose gradients are measured")
    found.add_argument("--draws", type=int, default=400, help="draws per row")
    found.add_argument("--seeds", type=int, default=3, help="students per case")
    found.add_argument("--epochs", type=int, default=20)
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def cases(classes: int) -> dict[str, Case]:
    """Return the compared targets by name; `counts` is the published form: N draws with replacement, weights count / N."""
    made = {"full": Case(4 * classes, lambda raw, labels, draw: {"logits": raw, "row_max": raw[:, 0] * 0})}
    for budget in (BUDGETS, SMALL):
        for name, settings in budget[classes].items():
            encoding = make_encoding({"name": name} | settings, classes)
            size = sum(field.bytes_per_row for field in encoding.fields.values())
            label = ", ".join([name, *(f"{key} = {value}" for key, value in settings.items())])
            made[label] = Case(size, partial(encoded, encoding))
            if name == "sampled":
                width = encoding.fields["ids"].dtype.itemsize
                count = (size - 8) // width  # label, maximum and its value beside the drawn ids
                made[f"counts, N = {count}"] = Case(count * width + 8, partial(counted, count))
    return made


def encoded(encoding: LogitEncoding, raw: Tensor, labels: Tensor, draw: int) -> Answers:
    """Encode and decode the logits; each draw has its own random words."""
    words = raw_words(SEED, Purpose.DRAWN_CLASSES.stream(draw), 0, len(raw)) >> np.uint64(64 - DRAW_BITS)
    return encoding.decode(encoding.encode(raw, labels, torch.from_numpy(words.astype(np.int64))))


def counted(count: int, raw: Tensor, labels: Tensor, draw: int) -> Answers:
    """Draw N classes with replacement, each with the weight count / N at the temperature of the draw."""
    p = torch.softmax(raw.double() / DRAWN_AT, dim=-1)
    ids = torch.multinomial(p, count, replacement=True, generator=torch.Generator().manual_seed(draw))
    counts = torch.zeros_like(p).scatter_add(1, ids, torch.ones_like(ids, dtype=p.dtype))
    offsets = raw - raw.amax(dim=-1, keepdim=True)
    return {"logits": offsets, "row_max": raw.amax(dim=-1), LOG_WEIGHTS: counts.log().float() - offsets / DRAWN_AT}


def target(answers: Answers, tau: float) -> Tensor:
    """Return the target probabilities (N, K) of `kd`, float64."""
    return torch.softmax(answers["logits"].double() / tau + answers.get(LOG_WEIGHTS, torch.zeros(())).double(), dim=-1)


def measure(case: Case, raw: Tensor, labels: Tensor, draws: int) -> dict[str, Any]:
    """Compare a case's targets with the full row's, by temperature; the figures are means over rows.

    Per sample the gradient of tau^2 KL is tau (softmax(v / tau) - target), so its error does not depend on the student.
    `bias` is the norm of its expected error, `bias_resolution` the uncertainty of that due to the number of draws, `spread` the
    root of its summed variances; both also relative to the gradient's norm for a student of equal logits. `kl_draw` is
    KL(target || teacher) of one draw, `kl_expected` KL(teacher || mean target of all draws), in which a class that no draw
    kept counts as 1e-300.
    """
    found: dict[str, Any] = {"bytes_per_row": case.bytes}
    sums = {tau: torch.zeros_like(raw, dtype=torch.float64) for tau in TAUS}
    squares, divergences = dict.fromkeys(TAUS, 0.0), dict.fromkeys(TAUS, 0.0)
    true = {tau: torch.softmax(raw.double() / tau, dim=-1) for tau in TAUS}
    for draw in range(draws):
        answers = case.answers(raw, labels, draw)
        for tau in TAUS:
            one = target(answers, tau)
            sums[tau] += one
            squares[tau] = squares[tau] + one.square().sum(dim=-1)
            divergences[tau] += kl(one, true[tau]).mean().item() / draws
    for tau in TAUS:
        mean = sums[tau] / draws
        variance = ((squares[tau] - draws * mean.square().sum(dim=-1)) / (draws - 1)).clamp(min=0)
        squared = ((mean - true[tau]).square().sum(dim=-1) - variance / draws).clamp(min=0)
        norm = (true[tau] - 1 / raw.shape[-1]).norm(dim=-1)
        found[str(tau)] = {
            "bias": tau * squared.sqrt().mean().item(),
            "bias_resolution": tau * (variance / draws).sqrt().mean().item(),
            "spread": tau * variance.sqrt().mean().item(),
            "relative_bias": (squared.mean().sqrt() / norm.square().mean().sqrt()).item(),
            "relative_spread": (variance.mean().sqrt() / norm.square().mean().sqrt()).item(),
            "kl_draw": max(0.0, divergences[tau]),
            "kl_expected": max(0.0, kl(true[tau], mean).mean().item()),
        }
    return found


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of each row."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q.clamp(min=1e-300))).sum(dim=-1)


def students(data: Data, chosen: dict[str, Case], seeds: int, epochs: int) -> dict[str, Any]:
    """Train students with `kd` alone at the temperature of the draw, from V views in each form; returns their top-1."""
    assert data.features is not None and data.test is not None
    settings = Distill.model_validate(
        {
            "teacher": "t",
            "student": "resnet8x4",
            "epochs": epochs,
            "method": "kd",
            "ce_weight": 0,
            "kd": {"tau": DRAWN_AT},
        }
    )
    found: dict[str, Any] = {}
    for name, case in chosen.items():
        views = [case.answers(raw, data.labels, view) for view, raw in enumerate(data.logits)]
        top1 = [trained(data, views, Objective(settings.terms), seed, epochs) for seed in range(seeds)]
        spread = statistics.stdev(top1) if seeds > 1 else 0.0
        found[name] = {"top1": top1, "mean": statistics.mean(top1), "std": spread}
    return {"test_images": len(data.test[1]), "top1": found}


def trained(data: Data, views: list[Answers], objective: Objective, seed: int, epochs: int) -> float:
    """Return a student's top-1 after its last epoch; the seed fixes initialisation and sample order for every case."""
    assert data.features is not None and data.test is not None
    torch.manual_seed(seed)
    width, classes = data.features.shape[-1], data.logits.shape[-1]
    student = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, classes))
    optimiser = torch.optim.Adam(student.parameters(), 1e-3)
    steps = epochs * -(-len(data.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        features, answers = data.features[epoch % len(views)], views[epoch % len(views)]
        for rows in torch.randperm(len(data.labels)).split(BATCH):
            teacher = {name: value[rows] for name, value in answers.items()}
            loss = objective({"logits": student(features[rows])}, data.labels[rows], teacher)["loss"].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.inference_mode():
        return (student(data.test[0]).argmax(dim=-1) == data.test[1]).double().mean().item()


def real(path: Path) -> Data:
    """Read the answers of public networks."""
    with np.load(path, allow_pickle=False) as found:
        named = {name: str(found[name]) for name in ("images", "teacher", "student")}
        arrays = {name: torch.from_numpy(found[name]) for name in found.files if name not in named}
    top1 = (arrays["test_logits"].argmax(-1) == arrays["test_labels"][: len(arrays["test_logits"])]).double().mean()
    named |= {"teacher_top1": top1.item(), "teacher_tested": len(arrays["test_logits"])}
    test = arrays["test_features"], arrays["test_labels"]
    return Data(arrays["logits"], arrays["labels"], named, arrays["features"], test)


def made_up(classes: int, rows: int) -> Data:
    """Make logits like a trained network's: normal, with those of the label and of a few other classes raised."""
    generator = torch.Generator().manual_seed(SEED)
    labels = torch.randint(classes, (rows,), generator=generator)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    near = torch.randint(classes, (rows, 5), generator=generator)
    logits.scatter_add_(1, near, 4 * torch.rand(rows, 5, generator=generator))
    logits.scatter_add_(1, labels.unsqueeze(1), 8 + 2 * torch.randn(rows, 1, generator=generator))
    images = "synthetic logits: normal with std 2, five classes raised by up to 4, the label's by 8 +- 2"
    return Data(logits.unsqueeze(0), labels, {"images": images, "teacher": "none"})


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    found = {}
    for classes, one in result["sets"].items():
        header = ["target", "bytes per row"]
        for tau in TAUS:
            header += [f"bias, tau {tau}", f"spread, tau {tau}", f"KL, tau {tau}"]
        rows = []
        for name, values in one["targets"].items():
            row = [name, str(values["bytes_per_row"])]
            for tau in TAUS:
                at = values[str(tau)]
                # The bias that this number of draws cannot tell from 0.
                least = at["relative_spread"] / result["settings"]["draws"] ** 0.5
                bias = f"{at['relative_bias']:.2g}" if at["relative_bias"] > 2 * least else f"below {2 * least:.1g}"
                spread = f"{at['relative_spread']:.2g}" if at["relative_spread"] > 1e-6 else "0"
                row += [bias, spread, f"{at['kl_draw']:.2g}"]
            rows.append(row)
        found[
            f"K = {classes}: {one['rows']} rows, {result['settings']['draws']} draws; {one['images']}; {one['teacher']}"
        ] = (
            header,
            rows,
        )
        if "students" in one:
            students = one["students"]
            chosen = result["settings"]
            title = f"{one['student']}: {chosen['seeds']} seeds, "
            title += f"{chosen['epochs']} epochs, {students['test_images']:,} test images"
            found[title] = (
                ["target", "top-1"],
                [[n, f"{100 * s['mean']:.2f} +- {100 * s['std']:.2f}"] for n, s in students["top1"].items()],
            )
    return found


if __name__ == "__main__":
    main()
