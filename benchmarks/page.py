"""Insert the tables of benchmarks/results/*.json into docs/benchmarks.md, between `<!-- NAME.json -->` and `<!-- end -->`."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from benchmarks._measure import ROOT, interval, rendered
from benchmarks.losses import BAR as LOSS_BAR

PAGE = ROOT / "docs/benchmarks.md"
BLOCK = re.compile(r"(?<=<!-- )(?!end )(\w[\w-]*)(\.json)? -->\n.*?(?=<!-- end -->)", re.DOTALL)
VERDICTS = "verdicts"  # the block that lists every bar and whether it was reached
STEPS = ("step", "step-pairs", "step-float32")
EPOCHS = {"epoch": "", "epoch-two-threads": " with two torch threads", "start": " with 45,000 images"}


def filled(page: str) -> str:
    """Fill a page's blocks with the latest results."""
    return BLOCK.sub(lambda block: f"{block[1]}{block[2] or ''} -->\n\n{content(block[1])}\n", page)


def content(name: str) -> str:
    """Return a block's content: the verdicts, or a result's tables."""
    if name == VERDICTS:
        return rendered(("on a CPU", "to reach", "median (95 % interval)", ""), list(verdicts())) + "\n"
    return tables(name)


def tables(name: str) -> str:
    """Return a result's tables as its benchmark prints them, with its machine, versions and settings."""
    result = read(name)
    module = import_module(result["command"].removeprefix("python -m "))
    parts = [f"*{title}*\n\n{rendered(*table)}" for title, table in module.tables(result).items()]
    machine, versions = result["machine"], result["versions"]
    place = f"{machine['processor']}, {machine['cores']} cores, torch {versions['torch']}, {commit(result['commit'])}"
    chosen = " ".join(
        f"{key}={value}"
        for key, value in result["settings"].items()
        if isinstance(value, int | str) and value is not False
    )
    source = f"[{name}.json](../benchmarks/results/{name}.json): `{result['command']}` with {chosen}; {place}.\n"
    return "\n\n".join([*parts, source])


def commit(found: str) -> str:
    """Format a result's commit, abbreviated, and whether the tree had changes."""
    name, _, changes = found.partition(" ")
    return f"commit `{name[:7]}`{f' {changes}' if changes else ''}"


def verdicts() -> Iterator[list[str]]:
    """Yield one row per bar: the measured quantity, the bar, the result, and whether the median reaches the bar."""
    for name in STEPS:
        result = read(name)
        for pair, found in result["pairs"].items():
            kind = ", float32" if result["settings"]["precision"] == "float32" else ""
            for case, one in found["ratios"].items():
                if case != "cached KD":
                    yield verdict(f"{pair}{kind}: a step of {case} / {one['of']}", one["bar"], one["ratio"])
    for name, kind in EPOCHS.items():
        for one in read(name)["ratios"]:
            if one["bar"] is not None:
                yield verdict(f"{one['time']} / {one['of']}{kind}", one["bar"], one["ratio"])
    for method, one in read("losses")["methods"].items():
        yield verdict(f"time that {method} adds / a step of plain CE", LOSS_BAR, one["share"])
    decode = read("decode")
    yield verdict("decoding, as a share of a DataLoader's speed", decode["bar"], decode["ratio"], least=True)
    cached = read("overheads")["cache_logits"]
    outside = {"median": cached["outside"]}
    yield verdict("cache-logits on digits outside the teacher, seconds", cached["bar"], outside)


def verdict(what: str, bar: float, found: dict[str, float], *, least: bool = False) -> list[str]:
    """Return one row; the bar is an upper limit of the median, or a lower limit with `least`."""
    reached = found["median"] >= bar if least else found["median"] <= bar
    shown = interval(found) if "low" in found else f"{found['median']:.3g}"
    return [what, f"{'>=' if least else '<='} {bar:.3g}", shown, "reached" if reached else "**missed**"]


def read(name: str) -> dict[str, Any]:
    """Read a result's JSON file."""
    found: dict[str, Any] = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    return found


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
