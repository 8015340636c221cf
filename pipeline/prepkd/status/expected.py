"""The stages that the settings require, with their commands and outputs."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prepkd.project.params import Params
from prepkd.report.run_logits import RunFile
from prepkd.status.by_files import Expected


def expected_stages(
    params: Params,
    *,
    data: Path,
    teachers: Mapping[str, Path],
    stores: Mapping[str, str],
    students: Iterable[Path],
    figures: Iterable[Path],
    grid: Mapping[str, Mapping[str, RunFile]],
    added: Mapping[str, Path],
    table: Path,
    page: Path,
) -> dict[str, Expected]:
    """The stages in order, as DVC names them; `teachers` are folders and `stores` URLs by name, `grid` the runs by pair.

    `added` are the files of students from other training loops by name.
    """
    found = {"prepare": _making("prepkd prepare", data)}
    for name, folder in teachers.items():
        kind = "generation" if name in params.generations else "teacher"
        found[f"train-{kind}@{name}"] = _making(params.command_of(name), folder)
        found[f"cache-logits@{name}"] = _making(f"prepkd cache-logits {name}", stores[name])
        for entry in params.cache.features:
            command, url = f"prepkd cache-features {name} --only {entry}", params.cache.feature_url(name, entry)
            found[f"cache-features@{name}-{entry}"] = _making(command, url)
    found["distill"] = _making("prepkd distill", *students)
    found["evaluate"] = _making("prepkd evaluate", *figures)
    for pair, runs in grid.items():
        found |= {f"compare {run}, {pair}": _making(one.command, one.path) for run, one in runs.items()}
    found |= {f"added@{name}": _making(f"prepkd compare --measure {name}", path) for name, path in added.items()}
    return found | {"compare": _making("prepkd compare", table), "report": _making("prepkd report", page)}


def _making(command: str, *outputs: Path | str) -> Expected:
    return Expected(command, tuple(map(str, outputs)))
