"""Commands replace only files written by prepkd, finished work only on demand, and never write to one place at once."""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import enter, prepkd
from prepkd.cli import COMMANDS
from prepkd.errors import InputError
from prepkd.runtime.outputs import Output, claimed, locked
from prepkd.stages._console import console
from prepkd.store.ownership import refuse_foreign_store
from prepkd.store.place import get, keys, open_place, put

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, precision: float32}}
generations: {next: {teacher: large, student: convnet4, epochs: 1, precision: float32}}
cache: {views: 2, batch_size: 32, chunk: 64}
distill: {teacher: large, student: convnet4, epochs: 1, seeds: [0, 1], precision: float32}
compare: {runs: [kd]}
"""
RUN = "results/compare/runs/large/convnet4/kd.safetensors"
ADDED = ["compare", "--add", "again=models/student"]
FEATURES = ["cache-features", "large", "-S", "cache.features=[pooled]"]

# (arguments, path of an output), for every output of every command that writes.
OUTPUTS = [
    (["prepare"], "data/digits.h5"),
    (["train-teacher", "large"], "models/teachers/large"),
    (["train-generation", "next"], "models/teachers/next"),
    (["cache-logits", "large"], "data/logits/large.zarr"),
    (FEATURES, "data/features/large/pooled.zarr"),
    ([*FEATURES, "--only", "pooled", "--plan"], "data/asked/large/pooled.json"),
    (["import", "logits.npy", "large"], "data/logits/large.zarr"),
    (["import", "logits.npy", "large", "--to", "thesis"], "thesis"),
    (["fetch-views", "data/logits/large.zarr", "--to", "thesis"], "thesis"),
    (["gather"], "data/lesson.json"),
    (["gather", "--teachers", "large"], "data/lessons/large"),
    (["distill"], "models/student"),
    (["distill"], "results/training"),
    (["evaluate"], "results/metrics.json"),
    (["evaluate"], "results/details.json"),
    (["evaluate"], "results/plots"),
    (["compare", "--run", "kd"], RUN),
    ([*ADDED, "--measure", "again"], "results/compare/runs/added/again.safetensors"),
    *(
        (["compare"], f"results/compare/{name}")
        for name in ("table.csv", "long.csv", "wide.csv", "table.md", "top1.png")
    ),
    (["report"], "results/report.html"),
    (["inspect", "data/logits/large.zarr"], "results/inspect/large.png"),
    (["export", "models/student/seed0"], "exports/student-seed0"),
    (["init", "."], "params.yaml"),
    (["init", "new"], "new/dvc.yaml"),
    (["init", "new"], "new/.dvcignore"),
]
WRITES_NOTHING = {"plan", "predict", "verify", "methods", "schema", "status", "doctor"}


def everything(root: Path = Path()) -> dict[str, bytes | None]:
    """Map every path below `root` except scratch to the file's bytes; to None for folders, pipes and dangling links."""
    found = [path for path in root.rglob("*") if "scratch" not in path.parts]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every command has been run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Path("params.yaml").write_text(PARAMS)
        for arguments in (
            ["prepare"],
            ["train-teacher", "large"],
            ["cache-logits", "large"],
            ["train-generation", "next"],
            FEATURES,
            [*FEATURES, "--only", "pooled", "--plan"],
            ["gather"],
            ["gather", "--teachers", "large"],
            ["distill"],
            ["evaluate"],
            ["compare", "--run", "kd"],
            ["compare"],
            [*ADDED, "--measure", "again"],
            ["report"],
            ["inspect", "data/logits/large.zarr"],
            ["export", "models/student/seed0"],
        ):
            prepkd(*arguments)
        np.save("logits.npy", np.random.Generator(np.random.Philox(0)).normal(size=(100, 10)).astype(np.float32))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` without scratch, as the current folder."""
    return enter(shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns("scratch")), monkeypatch)


def refused(*arguments: str, says: str) -> None:
    """Assert that a command is refused in one line containing `says` and changes nothing."""
    before = everything()
    line = prepkd(*arguments, code=2)
    assert line.startswith("error: ") and line.count("\n") == 1 and says in line, line
    assert everything() == before


def clear(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)


def test_every_command_is_tried() -> None:
    assert {arguments[0] for arguments, _ in OUTPUTS} == COMMANDS.keys() - WRITES_NOTHING


def folder_of_somebody(place: Path) -> None:
    (place / "chapters").mkdir(parents=True)
    (place / "chapters" / "1.tex").write_text("years of work")
    (place / "model.json").write_text('{"format": "mine"}')


def file_of_somebody(place: Path) -> None:
    place.write_text("years of work")


def empty_file(place: Path) -> None:
    place.touch()


LIKE_OURS = [
    (["evaluate"], "results/metrics.json", '{"n": 3, "top1": 5}'),
    (["evaluate"], "results/details.json", '{"n": 3, "top1": 5, "classes": []}'),
    (["evaluate"], "results/plots/confusion.csv", "actual,predicted\nmine"),
    (["evaluate"], "results/plots/confusion.csv", "actual,predicted,samples\na,b,1\n"),
    (["evaluate"], "results/plots/confusion.json", '{"mark": "rect"}'),
    (["evaluate"], "results/plots/confusion.csv", "actual,predicted,by\na,b,c\n"),
    (["evaluate"], "results/plots/learning_curves.csv", "epoch,mine\n1,2\n"),
    (["evaluate"], "results/plots/seed_curves.csv", "seed,mine\n1,2\n"),
    (["compare"], "results/compare/wide.csv", "run,mine\n"),
    (["report"], "results/report.html", "<html><title>mine</title></html>"),
    (["compare"], "results/compare/table.csv", "teacher,student,run,n,mine\n"),
    (["compare"], "results/compare/long.csv", "teacher,student,run,seed,mine\n"),
    (["gather"], "data/lesson.json", '{"teachers": ["Ada"]}'),
    (["train-teacher", "large", "--replace"], "models/teachers/large/history.csv", ""),
    (["distill", "--replace"], "results/training/seed0/metrics.json", '{"step": 3}'),
    (["distill", "--replace"], "results/training/seed0/plots/metrics/mine.tsv", "step\tother\n1\t2\n"),
]


@pytest.mark.parametrize(("arguments", "place", "content"), LIKE_OURS, ids=lambda value: str(value)[:40])
def test_a_file_that_begins_as_one_of_ours_is_somebodys(
    project: Path, arguments: list[str], place: str, content: str
) -> None:
    if "teacher" in arguments[0]:
        clear(Path("models/teachers/large"))
        Path("models/teachers/large").mkdir()
    Path(place).write_text(content)
    refused(*arguments, says=Path(place).name)


def pipe(place: Path) -> None:
    os.mkfifo(place)


def link_to_a_device(place: Path) -> None:
    place.symlink_to("/dev/null")


def link_to_somebodys(place: Path) -> None:
    other = place.parent / "somebody's"
    folder_of_somebody(other)
    place.symlink_to(other.name)


@pytest.mark.parametrize(
    "put_there", [folder_of_somebody, file_of_somebody, empty_file, pipe, link_to_a_device, link_to_somebodys]
)
@pytest.mark.parametrize(("arguments", "place"), OUTPUTS, ids=lambda value: str(value))
def test_what_somebody_has_at_an_outputs_place_stays(
    project: Path, arguments: list[str], place: str, put_there: object
) -> None:
    clear(Path(place))
    assert callable(put_there)
    put_there(Path(place))
    # Foreign files stay even with --replace.
    replace = ["--replace"] if "--replace" in prepkd(arguments[0], "--help") else []
    refused(*arguments, *replace, says=place)


@pytest.mark.parametrize(("arguments", "place"), OUTPUTS, ids=lambda value: str(value))
def test_a_file_where_the_outputs_folder_belongs_stays(project: Path, arguments: list[str], place: str) -> None:
    parent = Path(place).parent
    if parent == Path():
        pytest.skip("the project's own folder")
    clear(parent)
    parent.write_text("years of work")
    refused(*arguments, says=f"{parent}")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [one for one in OUTPUTS[:-3] if Path(one[1]).suffix in ("", ".zarr")],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "seed0/notes.txt", "logits/notes.txt", "seed7/model.json"])
def test_somebodys_file_among_ones_own_stays(project: Path, arguments: list[str], place: str, name: str) -> None:
    if place == "thesis":
        shutil.copytree("data/logits/large.zarr", place)
    path = Path(place, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work")
    refused(*arguments, says=f"{place}: holds {name}, which is no")


@pytest.mark.parametrize("arguments", {tuple(one): None for one, _ in OUTPUTS[:-3]}, ids=" ".join)
def test_ones_own_output_is_written_again_once_no_other_process_writes_there(
    project: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command run again on the same inputs waits for another writer and needs no --replace.

    Imported logits do need it: they make another store than the teacher's.
    """
    other = arguments == ("import", "logits.npy", "large")
    before, said = everything(), []
    places = [place for one, place in OUTPUTS if tuple(one) == arguments if one[0] != "inspect"]
    with contextlib.ExitStack() as other_process:
        for place in places:
            other_process.enter_context(locked(Path(place), project / "scratch", print))

        def printed(text: object, **options: object) -> None:
            said.append(str(text))
            if "waiting" in str(text):
                other_process.close()

        monkeypatch.setattr(console, "print", printed)
        prepkd(*arguments, *(["--replace"] if other else []))
    waited = f"{min(places, default='')}: another process is writing there; waiting for it to end"
    assert not places or any(line.endswith(waited) for line in said), said
    assert before.keys() <= everything().keys() or other
    locks = (project / "scratch").glob("*.lock")
    assert all(lock.with_suffix("").is_dir() for lock in locks), "only finished seeds, which are kept, have theirs"


def bucket(name: str, content: Mapping[str, bytes]) -> str:
    """Write objects to a bucket in this process's memory; return its URL."""
    url = f"memory://{name}"
    for key, value in content.items():
        put(open_place(url, write=True), key, value)
    return url


def objects(url: str) -> dict[str, bytes | None]:
    return {key: get(open_place(url), key) for key in sorted(keys(open_place(url)))}


THEIRS = {"thesis.pdf": b"years", "data/a/1.npy": b"of", "zarr.json": b'{"zarr_format": 3, "attributes": {}}'}


@pytest.mark.parametrize("command", ["cache-logits", "cache-features", "import", "fetch-views"])
@pytest.mark.parametrize(
    "case", ["objects", "one object", "another group", "a folder of stores", "an object in a store"]
)
def test_what_somebody_has_in_a_bucket_stays(project: Path, command: str, case: str, tmp_path: Path) -> None:
    root = f"{tmp_path.name}-{command}"
    features = command == "cache-features"
    own = Path("data/features/large/pooled.zarr" if features else "data/logits/large.zarr")
    store = {path.relative_to(own).as_posix(): path for path in own.rglob("*")}
    ours = {key: path.read_bytes() for key, path in store.items() if path.is_file()}
    place = f"{root}/large/pooled.zarr" if features else f"{root}/large.zarr"
    content = {
        "objects": THEIRS,
        "one object": {},
        "another group": {"zarr.json": THEIRS["zarr.json"], "logits/c/0/0/0": b"x"},
        "a folder of stores": {f"large.zarr/{key}": value for key, value in ours.items()},
        "an object in a store": {**ours, "logits/notes.txt": b"x"},
    }[case]
    bucket(place, content)
    if case == "one object":
        bucket(root, {place.removeprefix(f"{root}/"): b"an object of this very name"})
    before = objects(f"memory://{root}")
    arguments = {
        "cache-logits": ["cache-logits", "large", "--replace", "-S", f"cache.root=memory://{root}"],
        "cache-features": [*FEATURES, "--replace", "-S", f"cache.features_root=memory://{root}"],
        "import": ["import", "logits.npy", "large", "--replace", "--to", f"memory://{place}"],
        "fetch-views": ["fetch-views", "data/logits/large.zarr", "--to", f"memory://{place}"],
    }[command]
    refused(*arguments, says="which is no part of a store that prepkd wrote")
    assert objects(f"memory://{root}") == before


def test_a_store_in_a_bucket_is_replaced_key_by_key_and_its_neighbours_stay(project: Path, tmp_path: Path) -> None:
    root = f"memory://{tmp_path.name}"
    bucket(tmp_path.name, {"notes.txt": b"x", "large.zarr.old/logits/c/0/0/0": b"y"})
    prepkd("cache-logits", "large", "-S", f"cache.root={root}")
    before = objects(f"{root}/large.zarr")
    line = prepkd("cache-logits", "large", "-S", f"cache.root={root}", "--views", "1", code=2)
    assert "holds another store, of teacher 'large', 2 views, f16 (different: pixels, views); --replace" in line
    assert objects(f"{root}/large.zarr") == before
    prepkd("cache-logits", "large", "-S", f"cache.root={root}", "--views", "1", "--replace")
    after = objects(f"{root}/large.zarr")
    assert "manifest.json" in after and "logits/c/1/0/0" not in after and "logits/c/1/0/0" in before
    assert get(open_place(root), "notes.txt") == b"x" and get(open_place(root), "large.zarr.old/logits/c/0/0/0") == b"y"


OTHERS = [
    (
        ["prepare", "-S", "prepare.subset=9"],
        "data/digits.h5: holds other data (100 in test, 100 in train; fingerprint ",
    ),
    (
        ["train-teacher", "large", "-S", "teachers.large.lr=0.02"],
        "models/teachers/large: holds a finished teacher: training.lr is ",
    ),
    (["train-teacher", "large", "--epochs", "2"], "training.epochs is 1, expected 2; --replace replaces it"),
    (
        ["train-generation", "next", "-S", "generations.next.kd.tau=2.0"],
        "models/teachers/next: holds a finished teacher: training.kd.tau is ",
    ),
    (["cache-logits", "large", "--views", "1"], "2 views, f16 (different: pixels, views); --replace replaces it"),
    (["cache-logits", "large", "-S", "cache.encoding=u8"], "2 views, f16 (different: encoding); --replace replaces it"),
    (
        [*FEATURES, "-S", "cache.views=1"],
        "data/features/large/pooled.zarr: holds another store, of teacher 'large', 2 views, tensors (different: ",
    ),
    (
        ["import", "logits.npy", "large"],
        "data/logits/large.zarr: holds another store, of teacher 'large', 2 views, f16",
    ),
    (
        ["distill", "--method", "ka-ps"],
        "models/student/seed0: holds a finished student: training.method is kd, expected ka-ps",
    ),
    (
        ["distill", "--seeds", "[0]"],
        "models/student: holds finished students of seed 1, which these settings leave out",
    ),
    (
        ["compare", "--run", "kd", "-S", "distill.epochs=2"],
        f"{RUN}: holds a finished run: training.epochs is 1, expected 2",
    ),
    (
        ["compare", "--run", "kd", "-S", "distill.seeds=[1]"],
        f"{RUN}: holds a finished run of seed 0, which these settings",
    ),
]


@pytest.mark.parametrize(("arguments", "says"), OTHERS, ids=lambda value: str(value))
@pytest.mark.parametrize("asked", ["--replace", "DVC"])
def test_finished_work_of_other_settings_is_replaced_only_as_asked(
    project: Path, arguments: list[str], says: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(*arguments, says=says)
    refused(*arguments, says="--replace replaces it")
    before = everything()
    if asked == "DVC":  # as in `dvc repro`, which keeps the old output of a stage with `persist: true`
        monkeypatch.setenv("DVC_STAGE", "any")
        prepkd(*arguments)
    else:
        prepkd(*arguments, "--replace")
    assert everything() != before


# (arguments, outputs, an input): outputs that are rewritten without --replace, since their inputs give them in seconds.
DERIVED = [
    (["gather"], ["data/lesson.json"], "data/logits/large.zarr"),
    (["gather", "--teachers", "large"], ["data/lessons/large"], "data/logits/large.zarr"),
    (["evaluate"], ["results/metrics.json", "results/details.json", "results/plots"], "models/student/seed0"),
    (
        ["compare"],
        [f"results/compare/{name}" for name in ("table.csv", "long.csv", "wide.csv", "table.md", "top1.png")],
        RUN,
    ),
    ([*ADDED, "--measure", "again"], ["results/compare/runs/added/again.safetensors"], "models/student"),
    (["inspect", "data/logits/large.zarr"], ["results/inspect/large.png"], "data/logits/large.zarr"),
    ([*FEATURES, "--only", "pooled", "--plan"], ["data/asked/large/pooled.json"], "models/teachers/large"),
]
NEVER_REPLACED = {"init", "fetch-views"}  # their outputs are a project's files and copies of other stores
SHOWS_WHAT_IS_THERE = {"report"}  # its page is made again in seconds


@pytest.mark.parametrize(("arguments", "places", "source"), DERIVED, ids=lambda value: str(value)[:40])
def test_what_is_rewritten_unasked_is_made_again_from_what_is_there(
    project: Path, arguments: list[str], places: list[str], source: str
) -> None:
    """A removed output is made again with equal bytes; without its input the command is refused and the output kept."""
    before = everything()
    for place in places:
        clear(Path(place))
    assert everything() != before
    prepkd(*arguments)
    assert everything() == before
    clear(Path(source))
    refused(*arguments, says=Path(source).name)


def test_every_command_asks_or_writes_only_what_can_be_made_again() -> None:
    asks = {name for name in COMMANDS if "--replace" in prepkd(name, "--help")}
    derived = {arguments[0] for arguments, _, _ in DERIVED}
    assert asks | derived | NEVER_REPLACED | SHOWS_WHAT_IS_THERE | WRITES_NOTHING == COMMANDS.keys()
    assert asks & derived == {"compare", "cache-features"}, "with --run, and without --plan"
    changed = {arguments[0] for arguments, _ in OTHERS}
    assert changed == asks - {"export"}, "each is tried with other settings; exports are in tests/deployment"


def test_added_students_that_are_those_of_a_run_do_not_differ_from_it(project: Path) -> None:
    prepkd(*ADDED)
    table = pd.read_csv("results/compare/table.csv").set_index("run")
    assert table.index.to_list() == ["kd", "again"]
    same = ["student", "n", "top1_percent", "top1_std_percent", "agreement_percent", "genetic_errors_percent"]
    assert table.loc["again", same].to_list() == pytest.approx(table.loc["kd", same].to_list())
    assert table.loc["again", "minus_kd_points"] == 0
    assert "Not trained here: `again` (models/student)." in Path("results/compare/table.md").read_text()
    prepkd("report", "-S", "compare.add.again=models/student")
    assert "Students from another training loop: again (models/student)." in Path("results/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--add", "again"], "--add 'again'; expected NAME=FOLDER, e.g. mine=students/mine"),
        (["--add", "a.b=models/student"], "--add 'a.b=models/student'; expected NAME=FOLDER"),
        (["--add", "kd=models/student"], "compare.add has 'kd', which is a method; expected another name"),
        (["--add", "again=nowhere"], "nowhere: no such folder; expected one folder per seed in it: seed0, seed1"),
        (
            ["--measure", "again"],
            "--measure is 'again'; expected a key of compare.add, or a name of --add: it is empty",
        ),
    ],
)
def test_wrong_additions_are_explained(project: Path, arguments: list[str], says: str) -> None:
    refused("compare", *arguments, says=says)


def test_students_of_other_data_are_other_students(project: Path) -> None:
    prepkd("prepare", "-S", "prepare.seed=1", "--replace")
    prepkd("train-teacher", "large", "--replace")
    prepkd("cache-logits", "large", "--replace")
    refused("distill", says="models/student/seed0: holds a finished student: inputs.dataset_fingerprint is ")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_linked_store_is_replaced_where_the_link_leads(project: Path, dangling: bool) -> None:
    big = project / "big" / "large.zarr"
    link = project / "data/logits/large.zarr"
    big.parent.mkdir()
    shutil.rmtree(link) if dangling else link.rename(big)
    link.symlink_to(big)
    prepkd("cache-logits", "large", "--views", "1", "--replace")
    assert link.is_symlink() and sorted(path.name for path in big.parent.iterdir()) == ["large.zarr"]
    assert not (big / "logits/c/1").exists() and (big / "manifest.json").is_file()


def test_linked_students_are_written_where_the_link_leads(project: Path) -> None:
    shutil.move("models/student", "big")
    Path("models/student").symlink_to("../big")
    prepkd("distill", "--method", "ka-ps", "--replace")
    assert Path("models/student").is_symlink()
    assert json.loads(Path("big/seed1/model.json").read_bytes())["training"]["method"] == "ka-ps"


def test_a_file_that_dvc_linked_to_its_cache_is_replaced_and_the_cache_stays(project: Path) -> None:
    data, cached = Path("data/digits.h5"), Path("cache/ab/cdef")
    cached.parent.mkdir(parents=True)
    data.rename(cached)
    data.symlink_to(cached.resolve())
    content = cached.read_bytes()
    prepkd("prepare", "-S", "prepare.subset=9", "--replace")
    assert cached.read_bytes() == content and not data.is_symlink()


@pytest.mark.parametrize("place", ["", " ", "s3://", "memory://"])
def test_a_place_without_a_name_is_refused(project: Path, place: str) -> None:
    refused("cache-logits", "large", "-S", f"cache.root='{place}'", says=f"cache.root is '{place}': expected a path")
    for command in (["import", "logits.npy", "large"], ["fetch-views", "data/logits/large.zarr"]):
        refused(*command, "--to", place, says=f"the store's place is '{place}'; expected a path")


@pytest.mark.parametrize("place", ["s3://AKIA1:se/cret@bucket/x.zarr", "memory://x.zarr?token=hush"])
def test_a_place_with_a_login_is_refused(project: Path, place: str) -> None:
    """A store's place with a login or a query is refused, and no file or message contains the secret."""
    for command in (["import", "logits.npy", "large"], ["fetch-views", "data/logits/large.zarr"]):
        line = prepkd(*command, f"--to={place}", code=2)
        assert "***" in line and "has a login or a query, where secrets stand" in line, line
        assert "AKIA1" not in line and "secret" not in line.replace("where secrets stand", ""), line
    assert not any(content and b"AKIA1" in content for content in everything().values())


@pytest.mark.parametrize("place", ["~", "~/x.zarr", "~other/x.zarr", "a\x1bb"])
def test_a_place_that_would_be_another_than_it_seems_is_refused(project: Path, place: str) -> None:
    for command in (["import", "logits.npy", "large"], ["fetch-views", "data/logits/large.zarr"]):
        refused(*command, f"--to={place}", says="the store's place is ")
    with pytest.raises(InputError, match="the store's place is "):
        refuse_foreign_store(place)


def test_one_process_at_a_time_and_each_sees_what_the_one_before_it_left(tmp_path: Path) -> None:
    """Outputs are checked after waiting: a foreign file that another process left meanwhile is refused."""
    output = Output(tmp_path / "out", {"": lambda path: path.read_bytes() == b"ours"})
    seen, waits, goes_on = [], threading.Event(), threading.Event()

    def second() -> None:
        try:
            with claimed([output], tmp_path / "locks", lambda line: waits.set()):
                seen.append("claimed")
        except InputError as error:
            seen.append(str(error))
        goes_on.set()

    for left, expected in (
        (b"ours", "claimed"),
        (b"theirs", "out: expected a file that prepkd wrote, or nothing; found"),
    ):
        output.path.unlink(missing_ok=True)
        waits.clear(), goes_on.clear(), seen.clear()
        with claimed([output], tmp_path / "locks", print):
            threading.Thread(target=second).start()
            assert waits.wait(60) and not seen
            output.path.write_bytes(left)
        assert goes_on.wait(60) and expected in seen[0]
    assert not list((tmp_path / "locks").iterdir())
