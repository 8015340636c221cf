"""The state of stages according to DVC: `dvc status --json`, and the inputs and outputs in the lock files."""

import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from prepkd.errors import InputError
from prepkd.runtime.dvc import dvc_root, run_dvc, said
from prepkd.settings.yaml import parse_yaml
from prepkd.status.state import StageState, StageStatus


def is_dvc_project(folder: Path) -> bool:
    """Whether a folder has a pipeline and belongs to a DVC project."""
    return (folder / "dvc.yaml").is_file() and dvc_root(folder) is not None


def stages_by_dvc(folder: Path) -> list[StageStatus]:
    """Ask DVC for the stages of a project, in the order of its pipelines; raises InputError with DVC's message if it fails."""
    asked = ("stage", "list", "--all", "--name-only"), ("status", "--json")
    with ThreadPoolExecutor(2) as pool:  # each is a process that takes a second to start
        listed, status = pool.map(lambda words: _dvc(folder, *words), asked)
    lines = map(str.strip, listed.splitlines())
    names = [line for line in lines if line and not line.endswith(".dvc")]  # .dvc files of `dvc add` are not stages
    return classified(names, json.loads(status), lock_entries(folder, names), lambda path: (folder / path).exists())


def has_remote(folder: Path) -> bool:
    """Whether DVC has a default remote."""
    return run_dvc(folder, "config", "core.remote").returncode == 0


def lock_entries(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The lock-file entries of the stages that have run, by name; paths are relative to `folder`.

    DVC writes paths relative to a stage's `wdir`. A `wdir` with a template, ${...}, is not resolved.
    """
    found: dict[str, dict[str, Any]] = {}
    for pipeline in dict.fromkeys(name.rpartition(":")[0] for name in names):
        path = folder / (pipeline or "dvc.yaml")
        declared, ran = _stages(path), _stages(path.with_name("dvc.lock"))
        for name, entry in ran.items():
            here = posixpath.join(posixpath.dirname(pipeline), _wdir(declared.get(name.partition("@")[0])))
            found[f"{pipeline}:{name}" if pipeline else name] = _placed(entry, here)
    return found


def _stages(path: Path) -> dict[str, Any]:
    """The stages of a pipeline or lock file; empty if the file does not exist."""
    if not path.is_file():
        return {}
    # A lock repeats the settings of each stage, in a comparison those of each run.
    limits = {"max_bytes": 1 << 26, "max_values": 10_000_000} if path.suffix == ".lock" else {}
    content = parse_yaml(path.read_text(encoding="utf-8"), str(path), **limits)
    return (content or {}).get("stages") or {}


def _wdir(stage: Any) -> str:
    """The folder in which a stage runs, relative to its pipeline's folder; with `foreach` it is declared below `do`."""
    declared = stage if isinstance(stage, dict) else {}
    found = str((declared.get("do") or declared).get("wdir") or ".")
    return "." if "${" in found else found


def _placed(entry: Mapping[str, Any], here: str) -> dict[str, Any]:
    """A lock file's entry with its paths prefixed by the folder `here`; URLs stay unchanged."""
    moved = {
        key: [one | {"path": _from(here, str(one["path"]))} for one in entry.get(key) or ()] for key in ("deps", "outs")
    }
    return {**entry, **moved}


def _from(here: str, path: str) -> str:
    return path if "://" in path else posixpath.normpath(posixpath.join(here, path))


def classified(
    names: Iterable[str],
    status: Mapping[str, Any],
    locks: Mapping[str, Mapping[str, Any]],
    exists: Callable[[str], bool],
) -> list[StageStatus]:
    """The state of each stage, from its own changes and those of the stages that make its inputs.

    DVC lists only stages whose own inputs, settings or outputs have changed. It lists a downstream stage only once the upstream
    stage has run. Of an output that is not in its cache it does not say whether it `exists`.
    """
    found: list[StageStatus] = []
    for name in names:
        entry = locks.get(name)
        if entry is None:
            found.append(StageStatus(name, StageState.MISSING, why="never run"))
            continue
        outputs, changes = _paths(entry, "outs"), list(_changes(status.get(name, [])))
        outs = [(path, how) for kind, path, how in changes if kind == "changed outs"]
        elsewhere = [path for path, how in outs if how == "not in cache" and not exists(path)]
        if gone := elsewhere or [path for path, how in outs if how == "deleted"]:
            found.append(StageStatus(name, StageState.MISSING, outputs, f"no {gone[0]}", bool(elsewhere)))
        elif changes:
            found.append(StageStatus(name, StageState.OUT_OF_DATE, outputs, _reason(changes)))
        else:
            found.append(StageStatus(name, StageState.DONE, outputs))
    return _waiting(found, locks)


def _waiting(stages: list[StageStatus], locks: Mapping[str, Mapping[str, Any]]) -> list[StageStatus]:
    """Mark a finished stage as out of date if a stage that makes its inputs is not done; stages may be in any order."""
    state = {one.name: one for one in stages}
    changed = True
    while changed:
        changed = False
        for one in state.values():
            if one.state is not StageState.DONE:
                continue
            inputs = _paths(locks[one.name], "deps")
            before = next((other for other in state.values() if _feeds(other, inputs)), None)
            if before is not None:
                state[one.name] = StageStatus(one.name, StageState.OUT_OF_DATE, one.outputs, f"waits for {before.name}")
                changed = True
    return list(state.values())


def _feeds(stage: StageStatus, inputs: Iterable[str]) -> bool:
    return stage.state is not StageState.DONE and any(_overlap(out, one) for out in stage.outputs for one in inputs)


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are equal, or one contains the other."""
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _paths(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(one["path"]) for one in entry.get(key) or ())


def _changes(entries: Iterable[Any]) -> Iterable[tuple[str, str, str]]:
    """Yield the changes of one stage as (kind, what, how); a changed command or an always-changed stage is a single word."""
    for entry in entries:
        if not isinstance(entry, dict):
            yield str(entry), "", ""
            continue
        for kind, parts in entry.items():
            for path, how in parts.items():
                yield from (
                    ((kind, key, str(one)) for key, one in how.items())
                    if isinstance(how, dict)
                    else [(kind, path, str(how))]
                )


def _reason(changes: list[tuple[str, str, str]]) -> str:
    kind, what, how = changes[0]
    more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{what} {how}{more}" if what else f"{kind}{more}"


def _dvc(folder: Path, *words: str) -> str:
    done = run_dvc(folder, *words)
    if done.returncode:
        raise InputError(f"`dvc {' '.join(words)}` failed: {said(done)}")
    return done.stdout
