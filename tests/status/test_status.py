"""The state of a pipeline: from DVC, from files alone, and the next command."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, enter, invoke, prepkd, run
from prepkd.errors import InputError
from prepkd.project.params import load_params
from prepkd.settings import yaml
from prepkd.stages._comparison import grid, run_of
from prepkd.status.by_dvc import classified, is_dvc_project, lock_entries, stages_by_dvc
from prepkd.status.by_files import Expected, stages_by_files
from prepkd.status.expected import expected_stages
from prepkd.status.project_status import BY_FILES, project_status
from prepkd.status.state import StageState, StageStatus, Status, next_commands, present
from prepkd.status.status_table import status_tables
from rich.console import Console

NAMES = ["prepare", "distill", "evaluate", "compare/dvc.yaml:table"]


def entry(deps: list[str], outs: list[str]) -> dict[str, Any]:
    return {"deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}


LOCKS = {
    "prepare": entry(["raw"], ["data/x.h5"]),
    "distill": entry(["data/x.h5"], ["models/student", "results/training"]),
    "evaluate": entry(["models"], ["results/metrics.json"]),
    "compare/dvc.yaml:table": entry(["data/x.h5"], ["results/compare/table.csv"]),
}


def exists(path: str) -> bool:
    return path == "data/x.h5"


def states(status: dict[str, Any], locks: dict[str, Any] = LOCKS) -> dict[str, tuple[str, str]]:
    return {one.name: (str(one.state), one.why) for one in classified(NAMES, status, locks, exists)}


def test_the_lock_of_many_stages_is_read(tmp_path: Path) -> None:
    """DVC repeats the settings of a stage for each of its runs: the lock is larger than any params.yaml may be."""
    (tmp_path / "dvc.yaml").write_text("stages: {run: {foreach: [], do: {cmd: x}}}\n")
    stages = {f"run@{i}": {"cmd": "x" * 10_000, **entry(["a"], [f"b{i}"])} for i in range(40)}
    stages["run@0"]["params"] = {"params.yaml": {f"k{i}": i for i in range(2_000)}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    assert (tmp_path / "dvc.lock").stat().st_size > yaml.MAX_BYTES
    found = lock_entries(tmp_path, list(stages))
    assert {name: one["outs"] for name, one in found.items()} == {f"run@{i}": [{"path": f"b{i}"}] for i in range(40)}


def test_what_dvc_does_not_list_is_done() -> None:
    assert set(states({}).values()) == {("done", "")}


def test_a_stage_that_waits_for_another_is_out_of_date_too() -> None:
    """DVC lists only `distill`, since the students have not changed yet. `models` holds models/student."""
    found = states({"distill": [{"changed deps": {"params.yaml": {"distill": "modified"}}}]})
    assert found["distill"] == ("out of date", "distill modified")
    assert found["evaluate"] == ("out of date", "waits for distill")
    assert found["prepare"] == found["compare/dvc.yaml:table"] == ("done", "")


def test_all_that_follow_wait_whatever_the_order_of_the_pipelines() -> None:
    found = states({"prepare": ["changed command"]})
    assert found["prepare"] == ("out of date", "changed command")
    assert found["evaluate"] == ("out of date", "waits for distill")
    assert found["compare/dvc.yaml:table"] == ("out of date", "waits for prepare")


def test_outputs_that_are_gone_and_stages_that_never_ran_are_missing() -> None:
    gone = {
        "evaluate": [{"changed deps": {"models": "modified"}}, {"changed outs": {"results/metrics.json": "deleted"}}]
    }
    assert states(gone)["evaluate"] == ("missing", "no results/metrics.json")
    never = {name: one for name, one in LOCKS.items() if name != "evaluate"}
    assert states({"evaluate": [{"changed deps": {"models": "new"}}]}, never)["evaluate"] == ("missing", "never run")


def test_an_output_that_is_only_in_another_clones_cache_is_missing() -> None:
    absent = [{"changed deps": {"models": "deleted"}}, {"changed outs": {"results/metrics.json": "not in cache"}}]
    assert states({"evaluate": absent})["evaluate"] == ("missing", "no results/metrics.json")
    here = [{"changed outs": {"data/x.h5": "not in cache"}}]
    assert states({"prepare": here})["prepare"] == ("out of date", "data/x.h5 not in cache")


def test_several_changes_are_counted() -> None:
    changed = {"distill": [{"changed deps": {"data/x.h5": "modified", "params.yaml": {"distill": "modified"}}}]}
    assert states(changed)["distill"] == ("out of date", "data/x.h5 modified, and 1 more")


def test_without_dvc_outputs_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/x.h5").touch()
    expected = {
        "prepare": Expected("prepkd prepare", ("data/x.h5",)),
        "cache": Expected("prepkd cache-logits a", ("s3://bucket/a.zarr",)),
        "distill": Expected("prepkd distill", ("data/x.h5", "models/student/seed0")),
    }
    found = stages_by_files(expected)
    assert [one.state for one in found] == [StageState.DONE, StageState.DONE, StageState.MISSING]
    assert found[2].why == "no models/student/seed0"
    assert present({"data": Path("data"), "none": Path("models"), "file": Path("data/x.h5")}) == {
        "data": "data",
        "file": "data/x.h5",
    }


def test_what_comes_next(tmp_path: Path) -> None:
    commands = {"distill": "prepkd distill", "table": "prepkd compare"}
    page = tmp_path / "report.html"

    def following(
        *stages: StageStatus, by_dvc: bool = True, first: list[str] | None = None, remote: bool = False
    ) -> list[str]:
        return next_commands(stages, by_dvc=by_dvc, commands=commands, first=first or [], page=page, remote=remote)

    done, waits = StageStatus("distill", StageState.DONE), StageStatus("distill", StageState.OUT_OF_DATE)
    assert following(done) == ["prepkd report"]
    page.touch()
    assert following(done) == [f"python -m webbrowser {page}"]
    assert following(done, StageStatus("compare/dvc.yaml:report", StageState.MISSING)) == ["prepkd report"]
    assert following(waits) == ["dvc repro"]
    assert following(waits, first=["dvc add data/raw/x"]) == ["dvc add data/raw/x", "dvc repro"]
    assert following(done, StageStatus("compare/dvc.yaml:table", StageState.MISSING)) == ["dvc repro compare/dvc.yaml"]
    own = StageStatus("compare/dvc.yaml:run@timm:resnet18-kd", StageState.MISSING)  # the run's own name holds a colon
    assert following(done, own) == ["dvc repro compare/dvc.yaml"]
    assert following(done, StageStatus("table", StageState.MISSING), by_dvc=False) == ["prepkd compare"]
    pulled = StageStatus("compare/dvc.yaml:table", StageState.MISSING, elsewhere=True)
    assert following(done, pulled) == ["dvc repro compare/dvc.yaml"]
    assert following(done, pulled, remote=True) == ["dvc pull compare/dvc.yaml", "dvc repro compare/dvc.yaml"]


PIPELINE = """
stages:
  first:
    cmd: cp raw.txt first.txt
    deps: [raw.txt]
    outs: [first.txt]
  second:
    cmd: cp first.txt second.txt
    deps: [first.txt]
    outs: [second.txt]
"""


def test_dvc_itself_is_asked(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "raw.txt").write_text("1")
    assert not is_dvc_project(tmp_path)
    run("dvc init -q --no-scm && dvc config core.analytics false", tmp_path)
    assert is_dvc_project(tmp_path)
    assert [one.why for one in stages_by_dvc(tmp_path)] == ["never run", "never run"]
    run("dvc repro -q", tmp_path)
    assert [(one.name, one.state, one.outputs) for one in stages_by_dvc(tmp_path)] == [
        ("first", StageState.DONE, ("first.txt",)),
        ("second", StageState.DONE, ("second.txt",)),
    ]
    (tmp_path / "raw.txt").write_text("2")
    assert [(str(one.state), one.why) for one in stages_by_dvc(tmp_path)] == [
        ("out of date", "raw.txt modified"),
        ("out of date", "waits for first"),
    ]
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"^`dvc .*` failed: "):
        stages_by_dvc(tmp_path)


ELSEWHERE = """
stages:
  table:
    cmd: cp second.txt ../table.txt
    wdir: ../parts
    deps: [second.txt]
    outs: [../table.txt]
  each:
    foreach: [a]
    do:
      wdir: ..
      cmd: cp parts/second.txt ${item}.txt
      deps: [parts/second.txt]
      outs: ["${item}.txt"]
"""


def test_paths_are_those_of_each_stages_folder_and_tracked_files_are_no_stages(tmp_path: Path) -> None:
    for name, text in (("parts", PIPELINE), ("compare", ELSEWHERE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dvc.yaml").write_text(text)
    (tmp_path / "parts/raw.txt").write_text("1")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    run("dvc init -q --no-scm && dvc add -q parts/raw.txt && dvc repro -q --all-pipelines", tmp_path)
    found = {one.name: one for one in stages_by_dvc(tmp_path)}
    assert {one.state for one in found.values()} == {StageState.DONE}
    assert {name: one.outputs for name, one in found.items()} == {
        "parts/dvc.yaml:first": ("parts/first.txt",),
        "parts/dvc.yaml:second": ("parts/second.txt",),
        "compare/dvc.yaml:table": ("table.txt",),
        "compare/dvc.yaml:each@a": ("a.txt",),
    }
    (tmp_path / "parts/dvc.yaml").write_text(PIPELINE.replace("cp raw.txt", "cp ./raw.txt"))
    assert {one.name: one.why for one in stages_by_dvc(tmp_path)} == {
        "parts/dvc.yaml:first": "changed command",
        "parts/dvc.yaml:second": "waits for parts/dvc.yaml:first",
        "compare/dvc.yaml:table": "waits for parts/dvc.yaml:second",
        "compare/dvc.yaml:each@a": "waits for parts/dvc.yaml:second",
    }


def test_stages_that_are_expected_are_those_of_the_settings() -> None:
    params = load_params(
        ROOT / "params.yaml",
        ["compare.students=[convnet4, convnet8]", "cache.features=[at]", "compare.add.mine=students/mine"],
    )
    names = list(params.all_teachers)
    expected = expected_stages(
        params,
        data=Path("d.h5"),
        teachers={name: Path("t", name) for name in names},
        stores={name: f"s3://b/{name}.zarr" for name in names},
        students=[Path("s0"), Path("s1")],
        figures=[Path("m.json")],
        grid=grid(params),
        added={"mine": Path("mine.safetensors")},
        table=Path("t.md"),
        page=Path("p.html"),
    )
    assert [*expected][:3] == ["prepare", f"train-teacher@{names[0]}", f"cache-logits@{names[0]}"]
    assert expected[f"cache-logits@{names[0]}"] == Expected(
        f"prepkd cache-logits {names[0]}", (f"s3://b/{names[0]}.zarr",)
    )
    feature = expected[f"cache-features@{names[0]}-at"]
    assert feature == Expected(
        f"prepkd cache-features {names[0]} --only at", (params.cache.feature_url(names[0], "at"),)
    )
    assert expected["added@mine"] == Expected("prepkd compare --measure mine", ("mine.safetensors",))
    assert expected["distill"].outputs == ("s0", "s1") and [*expected][-2:] == ["compare", "report"]
    (run, *others), (teacher, student) = params.compare.runs, params.pairs[-1]
    one = run_of(params, run, teacher, student)
    assert expected[f"compare {run}, {teacher} -> {student}"] == Expected(one.command, (str(one.path),))
    assert sum(name.startswith("compare ") for name in expected) == len(params.pairs) * (1 + len(others))


def test_a_page_that_is_gone_is_missing_though_dvc_does_not_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, page = load_params(ROOT / "params.yaml", []), tmp_path / "report.html"
    done = [StageStatus("distill", StageState.DONE), StageStatus("report", StageState.DONE)]
    monkeypatch.setattr("prepkd.status.project_status.is_dvc_project", lambda folder: True)
    monkeypatch.setattr("prepkd.status.project_status.stages_by_dvc", lambda folder: done)
    found = project_status(tmp_path, params, {}, {}, page)
    assert [(one.name, one.state) for one in found.stages] == [
        ("distill", StageState.DONE),
        ("report", StageState.MISSING),
    ]
    assert list(found.next)[-1] == "prepkd report"
    page.touch()
    table = tmp_path / "table.md"
    results = {"page": page, "comparison": table, "curves": tmp_path}
    for newer in (False, True, False):  # a table that DVC checked out again, then another page
        table.touch()
        os.utime(table, (0, page.stat().st_mtime + (1 if newer else -1)))
        *_, report = project_status(tmp_path, params, {}, results, page).stages
        assert (report.state, report.why) == (
            (StageState.MISSING, f"{page} is older than {table}") if newer else (StageState.DONE, "")
        )


def test_where_dvc_fails_outputs_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").touch()

    def fail(folder: Path) -> list[StageStatus]:
        raise InputError("`dvc status` failed: locked")

    monkeypatch.setattr("prepkd.status.project_status.stages_by_dvc", fail)
    params, expected = load_params(ROOT / "params.yaml", []), {"prepare": Expected("prepkd prepare", ("d.h5",))}
    found = project_status(Path(), params, expected, {}, Path("p.html"))
    assert list(found.notes) == ["`dvc status` failed: locked", BY_FILES] and not found.compared_by_dvc
    assert [one.state for one in found.stages] == [StageState.MISSING] and found.next == ["prepkd prepare"]


def test_settings_that_dvc_does_not_see_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path(".dvc").mkdir()
    Path("dvc.yaml").touch()
    monkeypatch.setattr("prepkd.status.project_status.stages_by_dvc", lambda _: [])
    notes = [json.loads(invoke("status", "--json", *more).stdout)["notes"] for more in ([], ["-S", "distill.epochs=1"])]
    assert notes == [[], ["-S does not reach DVC: the states are those of params.yaml as it is"]]


def test_the_command_without_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = invoke("status", "--json")
    found = json.loads(done.stdout)
    assert found["counts"]["done"] == 0 and not found["compared_by_dvc"] and found["next"] == ["prepkd prepare"]
    assert "no DVC project" in found["notes"][0] and "no DVC project" in done.stderr
    prepkd("prepare", prepare__subset=3)
    found = json.loads(invoke("status", "--json").stdout)
    assert found["stages"][0] == {
        "name": "prepare",
        "state": "done",
        "outputs": ["data/digits.h5"],
        "why": "",
        "elsewhere": False,
    }
    assert found["next"] == ["prepkd train-teacher large"]
    shown = prepkd("status", columns=60)
    assert max(map(len, shown.splitlines()[1:])) <= 60 and "prepkd train-teacher large" in shown
    assert prepkd("status", "--quiet") == ""


def test_stages_of_another_file_have_a_table_of_their_own_that_fits_60_columns() -> None:
    name = "run@large-convnet8-ka-ps+dtd-flsw"
    stages = [
        StageStatus("distill", StageState.DONE),
        StageStatus(f"compare/dvc.yaml:{name}", StageState.MISSING, why="never run"),
    ]
    written = io.StringIO()
    console = Console(width=60, file=written)
    console.print(*status_tables(Status(stages, {}, [], compared_by_dvc=True)))
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert "Stages: 1 done, 1 missing" in lines and "Stages of compare/dvc.yaml" in lines
    assert f"{name}  missing  never run" in lines
