"""Speed of a training step with each term of one view, from cached answers, and the bytes of those answers."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from prepkd.catalogue import requirements, rows
from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import TERMS

from benchmarks._measure import Case, environment, interleaved, interval, median, ratio, report
from benchmarks._steps import CLASSES, Pair, chosen_device, taught

BAR = 1.03  # the upper limit of a logit term's time as a multiple of plain CE's
ONE_VIEW = [name for name, term in TERMS.items() if term.views == 1]  # two views take two forward passes
COMBINED = ("ka-ps+dtd-flsw", "ka-ps+ls+dtd-flsw+dkd")
DRAWS = ("noisy-teacher", "disturb-label")  # they draw for a whole epoch, which counts in full for a case's few steps


def main(arguments: list[str] | None = None) -> None:
    """Measure every term, print tables, write JSON."""
    options = parser("python -m benchmarks.methods", __doc__, rounds=9).parse_args(arguments)
    device = chosen_device(options.device, options.threads)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "only")}
    result = environment() | {"command": "python -m benchmarks.methods", "settings": settings}
    result |= {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    pair = Pair(options.teacher, options.student, options.batch_size, options.steps, device, options.precision)
    result |= measure(pair, options.rounds, options.only or [*ONE_VIEW, *COMBINED])
    report(result, tables(result), options.out)


def parser(prog: str, description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options of a benchmark of methods; small `--steps` and `--rounds` shorten a run."""
    found = argparse.ArgumentParser(prog=prog, description=description)
    found.add_argument("--teacher", default="resnet20")
    found.add_argument("--student", default="resnet8")
    found.add_argument("--only", action="append", metavar="METHOD", help="repeatable; every term if none is named")
    found.add_argument("--batch-size", type=int, default=128)
    found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--steps", type=int, default=10, help="steps of each method in a round")
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--device", help="cpu or cuda; else a GPU if available")
    found.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measure(pair: Pair, rounds: int, methods: list[str]) -> dict[str, Any]:
    """Measure a step's time with each method as a multiple of `ce`'s (feature terms: of `kd`'s), and the cached bytes."""
    cases: dict[str, Case] = {}
    for method in dict.fromkeys(["ce", "kd", *methods]):
        cases[method] = taught(method, partial(Pair.cached_for, method=method))(pair)
    seconds = interleaved(cases, rounds)
    shown = requirements.DataShape(
        pair.dataset.samples.size, channels=3, classes=CLASSES, samples=pair.samples, views=1
    )
    models = requirements.untrained_pair(pair.teacher, pair.student, shown)
    found = {}
    for method, times in seconds.items():
        used = rows.method_summary(method, models)
        of_features = any(isinstance(term, FeatureTerm) for term in pair.settings(method, compile=False).terms.all)
        base = "kd" if of_features else "ce"
        found[method] = {
            "samples_per_second": pair.samples / median(times),
            "of": base,
            "ratio": ratio(times, seconds[base]),
            "bytes": used.bytes,
            "adapter_parameters": sum(row.asked.adapter_parameters for row in used.rows),
        }
    return {"samples": pair.samples, "methods": found}


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings, found = result["settings"], result["methods"]
    title = (
        f"{settings['teacher']} teaching {settings['student']}, batch {settings['batch_size']}: "
        f"{settings['rounds']} rounds of {result['samples']:,} samples"
    )
    logit = [
        [method, f"{one['samples_per_second']:,.0f}", interval(one["ratio"]), "" if method in DRAWS else f"{BAR:.3g}"]
        for method, one in found.items()
        if one["of"] == "ce" and method != "ce"
    ]
    features = [
        [
            method,
            f"{one['samples_per_second']:,.0f}",
            interval(one["ratio"]),
            f"{one['bytes']:,}",
            f"{one['adapter_parameters']:,}",
        ]
        for method, one in found.items()
        if one["of"] == "kd"
    ]
    return {
        f"Logit terms, {title}": (
            ("a step under", "samples/s", "time as a multiple of ce's (95 % interval)", "to reach"),
            logit,
        ),
        f"Feature terms, {title}": (
            (
                "a step under",
                "samples/s",
                "time as a multiple of kd's (95 % interval)",
                "bytes per (view, sample)",
                "adapter's parameters",
            ),
            features,
        ),
    }


if __name__ == "__main__":
    main()
