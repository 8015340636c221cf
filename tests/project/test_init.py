"""A new project made by `prepkd init` runs at once."""

import io
import json
import os
import shutil
import threading
from pathlib import Path

import commands
import pandas as pd
import pytest
from commands import ROOT
from prepkd.errors import InputError
from prepkd.project import create, repository
from prepkd.project.create import create_project
from prepkd.project.params import load_params
from prepkd.project.scaffold import DATASETS, project_files, without_our_code
from ruamel.yaml import YAML

# Settings that take seconds.
FEWER = [
    "prepare.subset=12",
    "teachers.teacher.model=convnet4",
    "teachers.teacher.epochs=2",
    "distill.epochs=2",
    "distill.seeds=2",
]


def run(command: str, folder: Path, *, code: int = 0, **environment: str) -> str:
    return commands.run(command, folder, code=code, **{"HOME": str(folder.parent / "home")} | environment)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder after `prepkd init`."""
    folder = tmp_path_factory.mktemp("empty")
    output = run("prepkd init", folder)
    assert output.splitlines() == ["params.yaml: resnet8 teaches convnet8", "next: dvc repro"]
    return folder


def test_it_is_a_clean_repository_with_one_commit(project: Path) -> None:
    assert run("git status --porcelain", project) == ""
    assert len(run("git log --oneline", project).splitlines()) == 1
    assert "dvc.yaml" in run("git ls-files", project).split()


def test_the_pipeline_is_ours_without_our_code(project: Path) -> None:
    for name, ours in (("dvc.yaml", "dvc.yaml"), ("compare/dvc.yaml", "compare/dvc.yaml")):
        theirs, mine = (YAML(typ="safe").load(root / name) for root in (ROOT, project))
        assert mine == YAML(typ="safe").load(without_our_code((ROOT / ours).read_text()))
        assert mine["stages"].keys() == theirs["stages"].keys()
        for stage, entry in mine["stages"].items():
            deps = entry.get("do", entry)["deps"]
            assert deps and not [dep for dep in deps if dep.startswith(("pipeline", "stages"))], stage
            original = theirs["stages"][stage]
            assert deps == [
                dep for dep in original.get("do", original)["deps"] if not dep.startswith(("pipeline", "stages"))
            ]


def test_repro_compare_and_an_experiment_run_there(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "project")
    settings = " ".join(f"-S '{one}'" for one in [*FEWER, "compare.runs=[kd,ka-ps]"])
    output = run(f"dvc exp run {settings} && git add -A && git commit -qm first", folder)
    for stage in ("prepare", "train-teacher@teacher", "cache-logits@teacher", "gather", "distill", "evaluate"):
        assert f"Running stage '{stage}'" in output
    assert "Data and pipelines are up to date." in run("dvc repro", folder)
    assert json.loads((folder / "results/metrics.json").read_text())["n"] == 2
    run("dvc repro compare/dvc.yaml", folder)
    assert list(pd.read_csv(folder / "results/compare/table.csv")["run"]) == ["kd", "ka-ps"]
    run("prepkd verify data/logits/teacher.zarr --integrity", folder)


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "dvc.yaml").write_text("mine")
    before = contents(tmp_path)
    output = run("prepkd init", tmp_path, code=2)
    assert output == "error: compare/dvc.yaml: exists; choose an empty folder: `prepkd init FOLDER`\n"
    assert contents(tmp_path) == before
    (tmp_path / "README.md").write_text("mine")  # a new repository often has a README
    (tmp_path / "compare" / "dvc.yaml").unlink()
    run("prepkd init", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_bad_options_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    assert "expected one of digits, cifar10" in run("prepkd init --dataset mnist", tmp_path, code=2)
    output = run("prepkd init --teacher timm:resnet18", tmp_path)
    assert "next: dvc repro" in output
    shutil.rmtree(tmp_path / ".git")
    output = run("prepkd init", tmp_path, code=2)
    assert "exists" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--raw foo", "--raw is 'foo', and digits are bundled; leave --raw out"),
        ("--student nope", "distill.student"),
        ("--student timm:resnet81", "timm has no model 'resnet81'; did you mean"),
        ("--dataset folder --teacher torchvision:resnet18:V3", "no weights 'V3'; offered: IMAGENET1K_V1"),
    ],
)
def test_a_refusal_leaves_no_folder_either(options: str, message: str, tmp_path: Path) -> None:
    output = run(f"prepkd init {options}; code=$?; prepkd init {options} p && code=0; exit $code", tmp_path, code=2)
    assert len(output.splitlines()) == 2 and message in output.splitlines()[0]
    assert not list(tmp_path.iterdir())


def test_if_git_fails_only_new_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    (tmp_path / "p" / "data").mkdir(parents=True)
    output = run('PATH="$PWD/bin:$PATH"; prepkd init p; code=$?; prepkd init q && code=0; exit $code', tmp_path, code=2)
    assert output.count("`git init --quiet` failed") == 2
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["bin", "bin/git", "p", "p/data"]


def killed_init(folder: Path, *, before: tuple[object, str], at: int, git: bool) -> bool:
    """Run `init` in a fork that dies when it would call a function after `at` calls; return whether it died."""
    child = os.fork()
    if child == 0:
        owner, name = before
        function, calls = getattr(owner, name), 0

        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls > at:
                os._exit(9)
            return function(*arguments, **options)

        setattr(owner, name, call)
        create_project(folder, "digits", teacher=None, student=None, raw=None, git=git)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_killed_before_each_file_it_does_not_stand_in_its_own_way(tmp_path: Path) -> None:
    files = project_files("digits", None, None, None)
    for step in range(20):
        folder = tmp_path / str(step)
        if not killed_init(folder, before=(create, "write_bytes"), at=step, git=False):
            break
        # The second call has other options than the killed one.
        create_project(folder, "digits", teacher="resnet20", student=None, raw=None, git=False)
        assert contents(folder).keys() == files.keys()
        assert load_params(folder / "params.yaml").teachers["teacher"].model == "resnet20"
    assert step == len(files)


def test_of_two_at_once_the_second_waits_and_finds_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `init` waits while the first one writes its files, and does not take its journal for a killed call's."""
    options = {"teacher": None, "student": None, "raw": None, "git": False}
    lines, said, waits, written = [], [], threading.Event(), create.write_bytes

    def second() -> None:
        def on_wait(line: str) -> None:
            lines.append(line)
            waits.set()

        try:
            create_project(tmp_path / "link" / "new", "cifar10", **options, on_wait=on_wait)
        except InputError as error:
            said.append(str(error))
        waits.set()

    def write(path: Path, content: bytes) -> None:
        written(path, content)
        if not thread.ident:
            thread.start()
            assert waits.wait(60)

    thread = threading.Thread(target=second)
    monkeypatch.setattr(create, "write_bytes", write)
    monkeypatch.setattr(create, "locks", lambda: tmp_path / "locks")
    (tmp_path / "link").symlink_to(tmp_path)
    create_project(tmp_path / "new", "digits", **options)
    thread.join(60)
    assert lines == [f"{tmp_path}/new: another process is writing there; waiting for it to end"]
    assert len(said) == 1 and "exists; choose an empty folder" in said[0]
    left = set(project_files("digits", None, None, None)) | {"README.md"}
    assert set(contents(tmp_path / "new")) == left, "the first one's, and no lock"
    assert not list((tmp_path / "locks").iterdir())


def test_what_was_changed_after_a_killed_init_is_in_the_way(tmp_path: Path) -> None:
    assert killed_init(tmp_path / "p", before=(create, "write_bytes"), at=4, git=False)
    before = contents(tmp_path / "p")
    changed = next(path for path in (tmp_path / "p").rglob("*") if path.is_file() and path.name != create.JOURNAL)
    changed.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        create_project(tmp_path / "p", "digits", teacher=None, student=None, raw=None, git=False)
    assert contents(tmp_path / "p").keys() == before.keys() and changed.read_text() == "mine"


@pytest.mark.parametrize("step", [3, 5])
def test_killed_between_its_commands_the_next_init_is_as_the_first(
    step: int, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill before DVC's settings (step 3) or before the end (step 5), `init` gives the same project and commit."""
    for name in [name for name in os.environ if name.startswith(("DVC", "GIT"))]:
        monkeypatch.delenv(name)
    for name, value in commands.IDENTITY.items():
        monkeypatch.setenv(name, value)
    before = (repository, "write_bytes") if step == 3 else (Path, "unlink")
    assert killed_init(tmp_path / "p", before=before, at=0, git=True)
    assert run("prepkd init p", tmp_path).splitlines()[-1] == "next: cd p && dvc repro"
    ours, theirs = (
        {name: content for name, content in contents(folder).items() if not name.startswith((".git/", ".dvc/tmp"))}
        for folder in (tmp_path / "p", project)
    )
    assert ours == theirs
    assert run("git status --porcelain", tmp_path / "p") == ""
    assert len(run("git log --oneline", tmp_path / "p").splitlines()) == 1


@pytest.mark.parametrize("name", ["compare", "data", "p"])
def test_a_file_where_a_folder_belongs_is_in_the_way(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    output = run(f"prepkd init {'p' if name == 'p' else ''}", tmp_path, code=2)
    assert output == f"error: {name}: exists; choose an empty folder: `prepkd init FOLDER`\n"
    assert contents(tmp_path) == {name: b"mine"}


def test_the_next_commands_can_be_pasted(tmp_path: Path) -> None:
    output = run("prepkd init --dataset folder --raw 'my images; 1' --student resnet8 'a b' --no-git", tmp_path)
    assert output.splitlines()[-1] == "next: cd 'a b' && dvc add 'my images; 1' && dvc repro"


@pytest.mark.parametrize(
    ("dataset", "step"),
    [
        ("folder", "put train/CLASS/ and test/CLASS/ into {}data/raw/images"),
        ("h5", "write {}data/raw/images.h5, an HDF5 file with train/images, train/labels, test/images and test/labels"),
    ],
)
def test_ones_own_data_come_before_the_next_commands(dataset: str, step: str, tmp_path: Path) -> None:
    output = run(f"prepkd init --dataset {dataset} p --no-git", tmp_path)
    assert output.splitlines()[-2] == f"first: {step.format('p/')}"
    assert step.format("") in (tmp_path / "p" / "README.md").read_text()
    (tmp_path / "there").touch()
    assert "first:" not in run(f"prepkd init --dataset {dataset} . --raw there --no-git", tmp_path)
    url = "s3://bucket/raw"
    assert "first:" not in run(f"prepkd init --dataset {dataset} q --raw {url} --no-git", tmp_path)


def test_without_a_name_for_git_the_commit_is_left_to_you(tmp_path: Path) -> None:
    nobody = dict.fromkeys(commands.IDENTITY, "")
    output = run("prepkd init p", tmp_path, **nobody, GIT_CONFIG_NOSYSTEM="1", EMAIL="")
    assert "nothing is committed yet, which experiments need: set git's user.name and user.email" in output
    assert output.splitlines()[-1] == "next: cd p && dvc repro"


def test_without_git_there_are_files_alone(tmp_path: Path) -> None:
    run("prepkd init p --no-git", tmp_path)
    assert not (tmp_path / "p" / ".git").exists() and not (tmp_path / "p" / ".dvc").exists()
    assert (tmp_path / "p" / "params.yaml").is_file()


def test_within_a_repository_it_is_a_subproject(tmp_path: Path) -> None:
    run("git init -q", tmp_path)
    run("prepkd init experiments/kd", tmp_path)
    folder = tmp_path / "experiments" / "kd"
    assert (folder / ".dvc" / "config").is_file() and not (folder / ".git").exists()
    assert "prepare" in run("dvc status", folder)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_sets_settings_are_valid_and_commented(dataset: str, tmp_path: Path) -> None:
    made = project_files(dataset, None, None, None)
    (tmp_path / "params.yaml").write_text(made["params.yaml"])
    params = load_params(tmp_path / "params.yaml")
    assert params.prepare.dataset == dataset and list(params.teachers) == ["teacher"]
    assert made["params.yaml"].count("#") > 40
    assert ": \n" not in made["params.yaml"]
    assert "&id" not in made["params.yaml"]
    assert not [name for name, text in made.items() if "docs/" in text], "pages that a project doesn't have"
    # DVC's -S edits the file with the same library, which broke it on replacing a block-style list.
    yaml, edited = YAML(), io.StringIO()
    written = yaml.load(made["params.yaml"])
    for section in (written["teachers"]["teacher"], written["distill"]):
        section["milestones"] = []
    yaml.dump(written, edited)
    assert YAML(typ="safe").load(edited.getvalue())["distill"]["milestones"] == []
    for name in written:
        if name in ("threads", "devices", "logger", "augment_strong"):  # sections of one line share a paragraph
            continue
        assert f"\n\n{name}:" in made["params.yaml"], "a line is left free between sections"
    if dataset == "cifar100":
        teacher, student = params.teachers["teacher"], params.distill
        assert (teacher.model, student.student) == ("resnet32x4", "resnet8x4")
        assert teacher.epochs == student.epochs == 240 and teacher.milestones == [150, 180, 210]
        assert params.cache.views == "all" and student.kd.tau == 4


@pytest.mark.parametrize(
    ("teacher", "epochs"),
    [
        ("torchvision:resnet18:DEFAULT", 5),
        ("torchvision:resnet18:", 90),
        ("timm:resnet18", 90),
        ("mine.models:small", 90),
        ("resnet8", 90),
    ],
)
def test_only_a_teacher_with_weights_is_trained_shortly(teacher: str, epochs: int) -> None:
    made = YAML(typ="safe").load(project_files("folder", teacher, None, None)["params.yaml"])
    assert made["teachers"]["teacher"]["epochs"] == epochs


def test_the_choice_is_the_users(tmp_path: Path) -> None:
    run("prepkd init --dataset cifar100 --teacher wrn_40_2 --student mobilenetv2 --raw elsewhere --no-git", tmp_path)
    params = load_params(tmp_path / "params.yaml")
    assert (params.teachers["teacher"].model, params.distill.student) == ("wrn_40_2", "mobilenetv2")
    assert str(params.prepare.raw) == "elsewhere"


@pytest.mark.parametrize("raw", ["{}/cifar-100-python", "../cifar-100-python"])
def test_data_outside_the_project_is_read_where_it_is(raw: str, tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    output = run(f"prepkd init --dataset cifar100 --raw {raw.format(tmp_path)} p", tmp_path)
    assert output.splitlines()[-1] == "next: cd p && dvc repro", (
        "neither fetched nor added: DVC adds only its own folder's"
    )
    assert load_params(tmp_path / "p" / "params.yaml").prepare.raw == tmp_path / "cifar-100-python"
    assert "dvc add" not in (tmp_path / "p" / "README.md").read_text()
    assert run("dvc status prepare", tmp_path / "p").startswith("prepare:")


def test_a_note_on_formats_comes_with_a_folder_of_images(tmp_path: Path) -> None:
    output = run("prepkd init --dataset folder --no-git", tmp_path)
    note = "images of several formats, or misnamed ones (ImageNet has a PNG named .JPEG), need prepare.mixed_formats"
    assert f"note: {note}" in output.splitlines()
    assert note in (tmp_path / "README.md").read_text()
    assert load_params(tmp_path / "params.yaml").prepare.mixed_formats is False


def test_dvc_names_missing_data_and_the_readme_has_the_commands(tmp_path: Path) -> None:
    output = run("prepkd init --dataset cifar100", tmp_path)
    commands = "prepkd prepare --download && dvc add data/raw/cifar-100-python && dvc repro"
    assert output.splitlines()[-1] == f"next: {commands}"
    output = run("dvc repro", tmp_path, code=255)
    assert "failed to reproduce 'prepare'" in output and "data/raw/cifar-100-python" in output
    assert all(f"    {command}" in (tmp_path / "README.md").read_text() for command in commands.split(" && "))
