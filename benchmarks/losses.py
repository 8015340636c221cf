"""Time that each logit term adds to a training step, on a linear student, whose noise is smaller than the differences."""

from functools import partial
from typing import Any

from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import TERMS
from torch import nn

from benchmarks._measure import Case, environment, interleaved, interval, median, ratio, report
from benchmarks._steps import Pair, chosen_device, taught
from benchmarks.methods import COMBINED, DRAWS, ONE_VIEW, parser

BAR = 0.03  # the upper limit of the added time as a share of a step of plain CE
LINEAR = "benchmarks.losses:linear"
LOGITS = [name for name in ONE_VIEW if not issubclass(TERMS[name], FeatureTerm) and name not in DRAWS]


def linear(num_classes: int, in_channels: int) -> nn.Module:
    """Build a student of one layer: its step is little more than the batch, the loss and the optimiser."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, num_classes))


def main(arguments: list[str] | None = None) -> None:
    """Measure every logit term of one view, print the table, write JSON."""
    options = parser("python -m benchmarks.losses", __doc__, rounds=31).parse_args(arguments)
    device = chosen_device(options.device, options.threads)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "only")}
    result = environment() | {"command": "python -m benchmarks.losses", "settings": settings}
    common = (options.batch_size, options.steps, device, options.precision)
    pairs = [Pair(options.teacher, student, *common) for student in (LINEAR, options.student)]
    result |= measure(*pairs, options.rounds, options.only or [*LOGITS, *COMBINED])
    report(result, tables(result), options.out)


def measure(light: Pair, pair: Pair, rounds: int, methods: list[str]) -> dict[str, Any]:
    """Measure the milliseconds that a term adds to a step of plain CE, also as a share of the step of the pair's student."""
    cases: dict[str, Case] = {
        method: taught(method, partial(Pair.cached_for, method=method))(light)
        for method in dict.fromkeys(["ce", *methods])
    }
    seconds = interleaved(cases, rounds)
    [step] = interleaved({"ce": taught("ce", lambda pair: None)(pair)}, max(rounds // 4, 1)).values()
    whole = median(step)
    found = {}
    for method in methods:
        added = [own - plain for own, plain in zip(seconds[method], seconds["ce"], strict=True)]
        found[method] = {
            "milliseconds": 1000 * median(added) / light.steps,
            "share": ratio(added, [whole] * len(added)),
        }
    return {"step_milliseconds": 1000 * whole / pair.steps, "methods": found}


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings = result["settings"]
    title = (
        f"added to a step of {result['step_milliseconds']:,.0f} ms: plain CE, {settings['student']}, "
        f"batch {settings['batch_size']}; {settings['rounds']} rounds of {settings['steps']} steps"
    )
    rows = [
        [method, f"{one['milliseconds']:.2f}", interval(one["share"]), f"{BAR:.3g}"]
        for method, one in result["methods"].items()
    ]
    return {title: (("under", "ms", "share of the step (95 % interval)", "to reach"), rows)}


if __name__ == "__main__":
    main()
