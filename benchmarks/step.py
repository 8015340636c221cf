"""Speed of a training step: with cached answers, without a teacher, and with a live teacher."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks._measure import environment, interleaved, interval, median, ratio, report
from benchmarks._steps import CASES, COMPILED, Pair, chosen_device, profile_of

PAIRS = {
    name: tuple(name.split("->"))
    for name in ("resnet56->resnet20", "resnet32x4->resnet8x4", "wrn_40_2->wrn_16_2", "resnet20->resnet8")
}
# A case's time as a multiple of the sum of other cases' times, and the upper limit of that multiple.
BARS = {
    "cached KD": (("plain CE",), 1.03),
    "cached KA+DTD": (("plain CE",), 1.03),
    "plain CE": (("ceiling",), 1.08),
    "online KD": (("teacher's forward", "plain CE"), 1.05),
    "cached KA+DTD, compiled": (("cached KA+DTD",), 1 / 1.3),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure every pair at every batch size, print tables and one step's profile, write JSON."""
    options = parser().parse_args(arguments)
    device = chosen_device(options.device, options.threads)
    pairs = options.pair or (["resnet20->resnet8"] if device.type == "cpu" else list(PAIRS))
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "profile")}
    result = environment() | {"command": "python -m benchmarks.step", "settings": settings | {"pair": pairs}}
    result |= {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu", "pairs": {}}
    for name in pairs:
        for size in options.batch_size or [128]:
            pair = Pair(*PAIRS[name], size, options.steps, device, options.precision)
            result["pairs"][f"{name}, batch {size}"] = measure(pair, options.rounds, options.compile)
            if options.profile:
                result["profile"], options.profile = profile_of(pair, "cached KA+DTD"), False
    print(result.get("profile", ""))
    report({key: value for key, value in result.items() if key != "profile"}, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--steps` and `--rounds` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    found.add_argument("--pair", action="append", choices=PAIRS, help="teacher->student; repeatable")
    found.add_argument("--batch-size", action="append", type=int, help="repeatable; 128 if none is named")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--steps", type=int, default=10, help="steps of each case in a round")
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--device", help="cpu or cuda; else a GPU if available")
    found.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    found.add_argument(
        "--compile", action="store_true", help="measure compiled steps as well; compiling takes up to 40 s on a CPU"
    )
    found.add_argument("--no-profile", dest="profile", action="store_false", help="leave the profile out")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measure(pair: Pair, rounds: int, compile: bool) -> dict[str, Any]:
    """Measure samples per second of every case, the ratios of time that have a bar, and the seconds of compiling."""
    cases: dict[str, Callable[[int], object]] = {name: make(pair) for name, make in CASES.items()}
    compiling = 0.0
    if compile:
        cases |= {name: make(pair) for name, make in COMPILED.items()}
        started = time.perf_counter()
        for name in COMPILED:  # the first steps compile
            cases[name](0)
        compiling = time.perf_counter() - started
    seconds = interleaved(cases, rounds)
    found: dict[str, Any] = {
        "samples": pair.samples,
        "compiling_seconds": compiling,
        "cases": {
            name: {"samples_per_second": pair.samples / median(times), "rounds": len(times)}
            for name, times in seconds.items()
        },
        "ratios": {},
    }
    for name, (others, bar) in BARS.items():
        if name not in cases:
            continue
        base = [sum(times) for times in zip(*(seconds[other] for other in others), strict=True)]
        found["ratios"][name] = {"of": " + ".join(others), "bar": bar, "ratio": ratio(seconds[name], base)}
    return found


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    found: dict[str, Any] = {}
    for title, pair in result["pairs"].items():
        rows = []
        for name, case in pair["cases"].items():
            against = pair["ratios"].get(name)
            shown = [interval(against["ratio"]), against["of"], f"{against['bar']:.3g}"] if against else ["", "", ""]
            rows.append([name, f"{case['samples_per_second']:,.0f}", *shown])
        spent = f", {pair['compiling_seconds']:.0f} s of compiling before" if pair["compiling_seconds"] else ""
        found[f"{title}: {result['settings']['rounds']} rounds of {pair['samples']:,} samples{spent}"] = (
            ("a step", "samples/s", "time as a multiple (95 % interval)", "of", "to reach"),
            rows,
        )
    return found


if __name__ == "__main__":
    main()
