"""Put the tables of benchmarks/results/*.json into docs/benchmarks.md, between `<!-- NAME.json -->` and `<!-- end -->`."""

import json
import re
from importlib import import_module

from benchmarks._measure import ROOT, rendered

PAGE = ROOT / "docs/benchmarks.md"
BLOCK = re.compile(r"(?<=<!-- )(\w[\w-]*)\.json -->\n.*?(?=<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page whose blocks hold what was measured last."""
    return BLOCK.sub(lambda block: f"{block[1]}.json -->\n\n{tables(block[1])}\n", page)


def tables(name: str) -> str:
    """A result's tables as its benchmark prints them, and where they were measured."""
    result = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    module = import_module(result["command"].removeprefix("python -m "))
    parts = [f"*{title}*\n\n{rendered(*table)}" for title, table in module.tables(result).items()]
    machine, versions = result["machine"], result["versions"]
    place = (
        f"{machine['processor']}, {machine['cores']} cores, torch {versions['torch']}, commit `{result['commit'][:7]}`"
    )
    chosen = " ".join(
        f"{key}={value}"
        for key, value in result["settings"].items()
        if isinstance(value, int | str) and value is not False
    )
    source = f"[{name}.json](../benchmarks/results/{name}.json): `{result['command']}` with {chosen}; {place}.\n"
    return "\n\n".join([*parts, source])


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
