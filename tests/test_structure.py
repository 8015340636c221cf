"""dvc.yaml agrees with the code: a stage depends on the folders that can change its result; `OUTSIDE` lists exceptions."""

import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp
import pytest
from prepkd.teacher.settings import Cache
from ruamel.yaml import YAML
from settings_code import modules_through_params

ROOT = Path(__file__).parents[1]
FILES = ("dvc.yaml", "compare/dvc.yaml")
OURS = ("pipeline", "stages")

# Neither these modules nor their imports are dependencies of a stage: they can't change a result.
OUTSIDE = {
    "prepkd.errors": "exceptions and how they are worded",
    "prepkd.settings": "checks values and words errors; DVC follows the values themselves through `params:`",
    "prepkd.project.outputs": "recognises what a command may replace",
    "prepkd.project.params": "composes every folder's settings; what is called through them counts as imported",
    "prepkd.display": "how text is shown",
    "prepkd.engines": "where tasks run, which are the same anywhere",
    "prepkd.tracking": "reports epochs beside the results",
    "prepkd.stages._console": "the console and the progress bar",
    "prepkd.stages._options": "how options are read",
    "prepkd.stages._progress": "how progress is shown",
    "prepkd.stages._summary": "what commands sum up",
    "prepkd.stages._destination": "the place of a store, and its progress bar",
    "prepkd.stages._grid": "runs the comparison's trainings without DVC, where each is a stage of its own",
    "prepkd.stages._devices": "how many processes train: the same result but for rounding",
}
# Not dependencies themselves, but their imports are.
THROUGH = {
    "prepkd.losses": "names the functions of methods for users, and defines none",
    "prepkd.stages._project": "paths and the scratch folder",
}
# Imported by a stage's file or by a module shared with other stages, but not used by this stage.
ASKED = "what an entry asks is in data/asked/, its code is not: a change of a method would run the teacher again"
TRIED = "students are tried on a batch before a teacher is trained, which may refuse them and changes no teacher"
CHECKED = "compares finished runs with the settings of now, for the table"
UNUSED = {
    "dvc.yaml:train-teacher": {"prepkd.distillation": TRIED},
    # `distill` compares the first batch of stored features with the live teacher's.
    "dvc.yaml:cache-features": {"prepkd.distillation": ASKED, "prepkd.methods": ASKED},
    "dvc.yaml:cache-generation-features": {
        "prepkd.distillation": ASKED,
        "prepkd.methods": ASKED,
    },
    "compare/dvc.yaml:run": {
        "prepkd.report": "`prepkd compare --run` makes no table",
        "prepkd.stages._trained_on": CHECKED,
    },
    "compare/dvc.yaml:added": {"prepkd.stages._trained_on": CHECKED},
}


def stages() -> Iterator[tuple[str, str, list[str]]]:
    """Yield (file:stage, module, our files and folders among its dependencies) for every stage."""
    for file in FILES:
        for name, entry in YAML(typ="safe").load(ROOT / file)["stages"].items():
            stage = entry.get("do", entry)
            command = stage["cmd"].split()[1]
            ours = [dep for dep in stage["deps"] if dep.split("/")[0] in OURS]
            yield f"{file}:{name}", f"prepkd.stages.{command.replace('-', '_')}", ours


STAGES = {name: (module, ours) for name, module, ours in stages()}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Every import between our modules, also within functions; imports for type checking don't count."""
    return grimp.build_graph("prepkd", cache_dir=None, exclude_type_checking_imports=True)


def within(name: str, parents: Iterable[str], separator: str = ".") -> bool:
    """Whether a name is one of `parents` or lies below one."""
    return any(f"{name}{separator}".startswith(f"{parent}{separator}") for parent in parents)


def reached(imports: grimp.ImportGraph, stage: str, outside: Iterable[str]) -> dict[str, str]:
    """Map every module that a stage imports, directly or not, to its importer; don't follow modules of `outside`."""
    first = STAGES[stage][0]
    found, waiting = {first: "DVC"}, [first]
    while waiting:
        importer = waiting.pop()
        for module in sorted(imports.find_modules_directly_imported_by(importer) | through_params(importer)):
            if module not in found and not within(module, outside):
                found[module] = importer
                waiting.append(module)
    return {module: importer for module, importer in found.items() if module not in THROUGH}


def through_params(module: str) -> set[str]:
    """The library's modules that a module of stages/ uses through `Params`; empty for other modules."""
    return modules_through_params(ROOT / path_of(module)) if module.startswith("prepkd.stages.") else set()


def path_of(module: str) -> str:
    """The path of a module, or the folder of a package, as written in dvc.yaml."""
    path = module.replace("prepkd.stages", "stages") if module.startswith("prepkd.stages") else f"pipeline.{module}"
    path = path.replace(".", "/")
    return path if (ROOT / path).is_dir() else f"{path}.py"


def used(imports: grimp.ImportGraph, stage: str) -> dict[str, str]:
    """Map the path of every module that a stage must depend on to its importer."""
    modules = reached(imports, stage, {*OUTSIDE, *UNUSED.get(stage, {})})
    return {path_of(module): importer for module, importer in modules.items()}


def missing(modules: dict[str, str], ours: list[str]) -> list[str]:
    """One line per folder with a module that no dependency covers."""
    lacking = [path for path in modules if not within(path, ours, "/")]
    return [
        f"missing {one}, imported by {modules[one]}" for one in {str(Path(one).parent): one for one in lacking}.values()
    ]


def test_a_stage_depends_on_what_it_imports(imports: grimp.ImportGraph) -> None:
    """List all differences: `missing` modules lie in no dependency, `idle` dependencies hold no imported module."""
    problems = []
    for stage, (_, ours) in STAGES.items():
        modules = used(imports, stage)
        idle = [f"idle {dep}" for dep in ours if not any(within(path, [dep], "/") for path in modules)]
        problems += [f"{stage}: {line}" for line in [*missing(modules, ours), *idle]]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("stage", STAGES)
def test_a_dependency_that_is_left_out_is_found(imports: grimp.ImportGraph, stage: str) -> None:
    ours, modules = STAGES[stage][1], used(imports, stage)
    for left_out in ours:
        found = missing(modules, [dep for dep in ours if dep != left_out])
        assert [line for line in found if line.startswith(f"missing {left_out}")] == found != [], left_out


@pytest.mark.parametrize("stage", ["dvc.yaml:gather", "compare/dvc.yaml:gather", "dvc.yaml:ask-features"])
def test_code_that_runs_through_the_settings_is_a_dependency(imports: grimp.ImportGraph, stage: str) -> None:
    """Methods of the section `distill` decide which entries a method reads and what they hold, so their code is followed."""
    assert not any(
        "student_settings" in module for module in imports.find_modules_directly_imported_by(STAGES[stage][0])
    )
    assert "prepkd.distillation.student_settings" in reached(imports, stage, OUTSIDE)
    assert {"pipeline/prepkd/distillation", "pipeline/prepkd/methods"} <= set(STAGES[stage][1])


def test_a_section_that_is_read_counts_as_imported(tmp_path: Path) -> None:
    sources = {
        "params = read_params()\nparams.distill.epochs": set(),
        "params = read_params()\nparams.distill.kd.tau": set(),
        "read_params().distill.entries_read([])": {"prepkd.distillation.student_settings"},
        "def f(params: Params | None): params.distill.own_preprocessing": {"prepkd.training.settings"},
        "def f(given: Params): given.variant('kd')": {"prepkd.distillation.compared_runs"},
        "def f(given: Params): return given.pairs": {"prepkd.distillation.compared_runs"},
        "def f(given: Params): return given.all_teachers": set(),
        "def f(given: Params): return [one.seed for one in given.teachers.values()]": {
            "prepkd.training.teacher_settings",
            "prepkd.training.settings",
            "prepkd.training.optimisers",
        },
        "def f(other): other.distill.entries_read([])": set(),
    }
    for number, (source, expected) in enumerate(sources.items()):
        (path := tmp_path / f"{number}.py").write_text(source)
        assert {one for one in modules_through_params(path) if not within(one, OUTSIDE)} == expected, source


def test_dependencies_are_folders_and_there() -> None:
    for stage, (_, ours) in STAGES.items():
        assert ours == sorted(set(ours)), stage
        for dep in ours:
            assert (ROOT / dep).is_dir() if dep.startswith("pipeline/") else (ROOT / dep).is_file(), (stage, dep)


def test_every_exception_is_needed(imports: grimp.ImportGraph) -> None:
    everything = {module for stage in STAGES for module in reached(imports, stage, ())} | THROUGH.keys()
    needless = [module for module in [*OUTSIDE, *THROUGH] if not any(within(one, [module]) for one in everything)]
    for stage, modules in UNUSED.items():
        for module in modules:
            others = {*OUTSIDE, *modules} - {module}
            if not any(within(one, [module]) for one in reached(imports, stage, others)):
                needless.append(f"{stage}: {module}")
    assert not needless


def stale(path: Path) -> set[str]:
    """The stages made stale by a change of a file."""
    name = path.relative_to(ROOT).as_posix()
    return {stage for stage, (_, ours) in STAGES.items() if within(name, ours, "/")}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "path", [*files("pipeline/prepkd/methods"), *files("pipeline/prepkd/distillation")], ids=lambda path: path.name
)
def test_a_change_of_a_method_runs_no_teacher(path: Path) -> None:
    quiet = ("prepare", "train-teacher", "cache-logits", "cache-features")
    assert not stale(path) & {f"dvc.yaml:{stage}" for stage in quiet}
    assert {"dvc.yaml:distill", "compare/dvc.yaml:run"} <= stale(path)


SHOWN = ("catalogue", "display", "html_report", "inspection", "tracking")


@pytest.mark.parametrize(
    "path",
    [*(path for folder in SHOWN for path in files(f"pipeline/prepkd/{folder}")), ROOT / "stages/_console.py"],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_a_change_of_what_is_shown_runs_nothing_but_the_report(path: Path) -> None:
    assert path.is_file() and not stale(path) - {"dvc.yaml:report", "compare/dvc.yaml:report"}


@pytest.mark.parametrize("folder", ["report", "verification"])
def test_a_change_of_a_table_runs_no_teacher(folder: str) -> None:
    for path in files(f"pipeline/prepkd/{folder}"):
        assert not {
            stage for stage in stale(path) if stage.removeprefix("dvc.yaml:").startswith(("cache-", "train-teacher"))
        }


def test_adding_an_entry_of_cache_features_makes_nothing_else_stale() -> None:
    """Stages follow every setting of `cache` except `features`; a new entry of `cache.features` has a stage of its own."""
    pipelines = {file: YAML(typ="safe").load(ROOT / file)["stages"] for file in FILES}
    followed = {"views", "seed", "precision", "batch_size", "encoding", "topk", "sampled", "root", "features_root"}
    wanted = {
        "dvc.yaml:cache-logits": followed - {"features_root"} | {"chunk"},
        "dvc.yaml:cache-features": followed - {"root", "encoding", "topk", "sampled"} | {"chunk"},
        "dvc.yaml:distill": followed,
        "compare/dvc.yaml:run": followed,
    }
    assert set(Cache.model_fields) == followed | {"chunk", "features"}, "is a new setting followed?"
    for name, keys in wanted.items():
        file, stage = name.split(":")
        entry = pipelines[file][stage].get("do", pipelines[file][stage])
        assert {one for one in entry["params"] if one.startswith("cache")} == {f"cache.{key}" for key in keys}, name
    both = [pipelines["dvc.yaml"][stage] for stage in ("ask-features", "cache-features")]
    assert all(one["matrix"] == {"teacher": "${teachers}", "entry": "${cache.features}"} for one in both)
    assert all("${item.entry}" in path for one in both for path in one["outs"])
    for ours, theirs in (("cache-logits", "cache-generation"), ("ask-features", "ask-generation-features")):
        mine, other = (pipelines["dvc.yaml"][stage] for stage in (ours, theirs))
        several = ("foreach", "matrix")
        assert {k: v for k, v in mine.items() if k not in several} == {
            k: v for k, v in other.items() if k not in several
        }
    for settings in (ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")):
        here = set(YAML(typ="safe").load(settings)["cache"])
        assert followed | {"chunk", "features"} <= here, f"{settings}: DVC fails on a parameter that is not there"


def test_comparison_depends_on_every_setting_but_those_that_a_run_sets() -> None:
    """compare/dvc.yaml follows each of these settings: otherwise DVC would keep runs made with other values."""
    docs = runpy.run_path(str(ROOT / "docs/comparison_params.py"))
    committed = (ROOT / "compare/dvc.yaml").read_text()
    assert committed == docs["rewritten"](committed), "compare/dvc.yaml is out of date: run `make docs`"
    yaml = YAML(typ="safe")
    run = yaml.load(committed)["stages"]["run"]["params"]
    watched = {name.removeprefix("distill.") for name in run if name.startswith("distill.")}
    assert watched == {*docs["followed"]()}
    for settings in (ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")):
        assert watched <= set(yaml.load(settings)["distill"]), f"{settings}: DVC fails on a parameter that is not there"
