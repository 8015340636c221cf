"""The command line: help, versions, one-line errors, interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from commands import ROOT
from commands import prepkd_process as prepkd
from prepkd.cli import COMMANDS, app, main
from typer.testing import CliRunner

PREPKD = Path(sys.executable).parent / "prepkd"
# Stage -> what its help says that it writes.
STAGES = {
    "prepare": "data/",
    "train-teacher": "models/teachers/NAME",
    "train-generation": "models/teachers/NAME",
    "cache-logits": "data/logits/NAME.zarr",
    "cache-features": "data/features/",
    "gather": "data/lesson.json",
    "distill": "models/student/seed",
    "evaluate": "results/metrics.json",
    "compare": "results/compare/",
    "report": "results/report.html",
}
# Stages whose names differ from their commands': `ask-` stages write only descriptions; others serve `generations`.
VARIANTS = {"ask-features": "cache-features", "cache-generation": "cache-logits"}
VARIANTS |= {"ask-generation-features": "cache-features", "cache-generation-features": "cache-features"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a folder with the default settings, shrunk."""
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("subset: null", "subset: 12").replace("epochs: 30", "epochs: 2").replace("seeds: 5", "seeds: 1")
    (tmp_path / "params.yaml").write_text(text.replace("model: resnet8", "model: convnet4"))
    return tmp_path


@pytest.mark.parametrize("stage", STAGES)
def test_help_says_what_a_stage_reads_and_writes(stage: str, tmp_path: Path) -> None:
    text = prepkd(stage, "--help", cwd=tmp_path)
    assert "--params" in text and "--set" in text
    assert STAGES[stage] in text


def test_help_fits_a_narrow_terminal(tmp_path: Path) -> None:
    for arguments in (["--help"], *([stage, "--help"] for stage in STAGES)):
        assert max(map(len, prepkd(*arguments, cwd=tmp_path, columns=60).splitlines())) <= 60


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["distil"]])
def test_help_and_version_import_no_command_and_no_heavy_library(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['prepkd', *sys.argv[1:]]\n"
        "from prepkd.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = {'torch', 'torchvision', 'numpy', 'pandas', 'h5py', 'zarr', 'dvc', 'sklearn'} & set(sys.modules)\n"
        "    heavy |= {name for name in sys.modules if name.startswith('prepkd.stages')}\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == (2 if arguments == ["distil"] else 0), done.stderr


def test_help_lists_the_first_lines_of_the_commands_docstrings() -> None:
    for name, entry in COMMANDS.items():
        function = getattr(import_module(f"prepkd.stages.{entry.module}"), entry.module)
        assert entry.help == function.__doc__.splitlines()[0], name
    modules = {path.stem for path in (ROOT / "stages").glob("*.py") if not path.stem.startswith("_")}
    assert sorted(modules) == sorted(entry.module for entry in COMMANDS.values())
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert [name for name in re.findall(r"^│ ([a-z-]+) ", shown, re.M) if name[0] != "-"] == list(COMMANDS)
    assert all(re.sub("`|\\(.*", "", entry.help) in shown for entry in COMMANDS.values())


def test_a_module_of_python_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prepkd", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == prepkd("--version", cwd=tmp_path)


def test_an_interruption_of_a_commands_import_is_reported_as_one_of_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prepkd.cli.import_module", interrupted)
    done = CliRunner().invoke(app, ["prepare"])
    assert done.exit_code == 130 and done.output.startswith("interrupted: ")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        OSError(5000, "no such code"),
        AssertionError(),
        EOFError(),
        GeneratorExit(),
        BaseException("a Rust library's panic"),
    ],
)
def test_a_fault_of_the_program_is_no_verdict(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python exits with 1 after a traceback, which is the exit code of `verify` for FAIL."""

    def broken(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("prepkd.stages.verify.verify_files", broken)
    monkeypatch.setattr(sys, "argv", ["prepkd", "verify", "--integrity", "x.zarr"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 70
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["schema"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([PREPKD, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert re.fullmatch("error: No space left on device; .*: make room, then run the same command again\n", done.stderr)


def test_matplotlib_has_its_backend_from_prepkd(tmp_path: Path) -> None:
    """An unknown MPLBACKEND would end the import of matplotlib; prepkd only writes pictures."""
    code = (
        "import sys; sys.argv = ['prepkd', '--version']\n"
        "from prepkd.cli import main\n"
        "try: main()\n"
        "finally: import matplotlib; print(matplotlib.get_backend())\n"
    )
    environment = os.environ | {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["agg"]), done.stderr


def test_help_has_a_short_option() -> None:
    for arguments in ([], *([name] for name in COMMANDS)):
        short, long = (CliRunner().invoke(app, [*arguments, option]) for option in ("-h", "--help"))
        assert short.exit_code == 0 and short.output == long.output, arguments


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loses_nothing_that_is_written_in_angle_brackets(name: str) -> None:
    """Rich parses `<dataset>` outside of code as an HTML tag and drops it."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    for placeholder in re.findall(r"<\w+>", "\n".join(filter(None, texts))):
        assert placeholder in shown
    assert not re.search(r"//|/\.h5", shown.replace("s3://", ""))


def test_garbage_is_collected_less_often() -> None:
    code = (
        "import gc, sys; sys.argv = ['prepkd', '--version']\n"
        "from prepkd.cli import main\n"
        "try: main()\n"
        "finally: assert gc.isenabled() and all(one > most for one, most in zip(gc.get_threshold(), (2_000, 20, 20)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_stage_file_command_and_dvc_stage_share_a_name() -> None:
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert set(stages) - set(VARIANTS) == set(STAGES) - {"compare"}
    for name, stage in stages.items():
        assert stage.get("do", stage)["cmd"].split()[1] == VARIANTS.get(name, name)
    for stage in STAGES:
        assert (ROOT / "stages" / f"{stage.replace('-', '_')}.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--params", "none.yaml"], "error: none.yaml: no such file"),
        (
            ["prepare", "-S", "prepare.dataset=mnist"],
            "prepare.dataset is 'mnist'; expected 'digits', 'cifar10', 'cifar100', 'cinic10', 'tiny-imagenet', 'folder' or 'h5'",
        ),
        (
            ["prepare", "-S", "prepare.colour=1"],
            "unknown key prepare.colour; allowed: dataset, max_pixels, mixed_formats, raw, seed, split, subset, upright, "
            "val_fraction",
        ),
        (["prepare", "-S", "prepare.dataset=cifar100"], "prepkd prepare --download"),
        (["prepare", "-S", "distill"], "expected KEY=VALUE"),
        (["train-teacher", "huge"], "teacher is 'huge'; expected a key of teachers: large, small"),
        (["train-teacher", "large"], "data/digits.h5: no such file; run `prepkd prepare`"),
        (["cache-logits", "large", "--views", "0"], "cache.views is 0"),
        (
            ["distill", "--method", "ka-ps+ka-lsr"],
            "distill.method is 'ka-ps+ka-lsr': contradicts itself: ka-ps and ka-lsr",
        ),
        (["distill", "--teacher", "huge"], "distill.teacher is 'huge'; expected a key of teachers: large, small"),
        (["distill", "-S", "distill.kd.tau=-1"], "distill.kd.tau is -1"),
        (["compare", "--run", "kd,tau"], "expected METHOD[,KEY=VALUE...]"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(project: Path, arguments: list[str], message: str) -> None:
    text = prepkd(*arguments, cwd=project, code=2)
    assert message in text
    assert text.startswith("error: ") and text.count("\n") == 1, text
    assert not (project / "data").exists()


def test_usage_errors_are_exit_code_2(project: Path) -> None:
    assert "No such option" in prepkd("distill", "--colour", cwd=project, code=2)
    assert "NAME" in prepkd("train-teacher", cwd=project, code=2)


def test_stages_in_order_without_dvc_and_files_that_do_not_belong_together(project: Path) -> None:
    prepkd("prepare", cwd=project)
    prepkd("train-teacher", "large", cwd=project)
    assert "no such store; run `prepkd cache-logits" in prepkd("distill", cwd=project, code=2)
    text = prepkd("cache-logits", "large", cwd=project)
    assert "9 views x 120 samples x 10 classes" in text and "26 bytes per (view, sample)" in text
    assert "the teacher is wrong on" in text
    assert "already finished" in prepkd("cache-logits", "large", cwd=project)
    prepkd("distill", cwd=project)
    before = (project / "models/student/seed0/model.json").read_bytes()
    assert "test top-1" in prepkd("evaluate", cwd=project)
    # A plan unlike the store's is refused with the field and both values; the student is kept.
    text = prepkd("distill", "-S", "cache.seed=7", cwd=project, code=2)
    assert "views.seed is 0, expected 7; change the settings, or run `prepkd cache-logits large` again" in text
    assert (project / "models/student/seed0/model.json").read_bytes() == before
    # Data unlike those of the store and the student are refused.
    assert "holds other data" in prepkd("prepare", "-S", "prepare.seed=1", cwd=project, code=2)
    prepkd("prepare", "-S", "prepare.seed=1", "--replace", cwd=project)
    assert "dataset.split_fingerprint is" in prepkd("distill", cwd=project, code=2)
    assert "inputs.dataset_fingerprint is" in prepkd("evaluate", cwd=project, code=2)
    assert not list(project.rglob("*.partial"))


def test_students_that_need_no_store_are_evaluated_without_one(project: Path) -> None:
    prepkd("prepare", cwd=project)
    for option in ("distill.method=ce", "distill.source=online"):
        prepkd("distill", "-S", option, "--replace", cwd=project)
        assert "test top-1" in prepkd("evaluate", "-S", option, cwd=project)
        assert "training_view_error" not in (project / "results/details.json").read_text()
        prepkd("train-teacher", "large", cwd=project)
    assert "no such store; run `prepkd cache-logits large`" in prepkd("evaluate", cwd=project, code=2)


@pytest.mark.parametrize("command", [["prepare"], ["train-teacher", "large"]])
def test_a_file_where_a_folder_belongs_is_named(project: Path, command: list[str]) -> None:
    if command == ["prepare"]:
        (project / "data").write_text("?")
    else:
        prepkd("prepare", cwd=project)
        shutil.rmtree(project / "scratch", ignore_errors=True)
        (project / "scratch").write_text("?")
    text = prepkd(*command, cwd=project, code=2).splitlines()
    expected = {
        "prepare": "error: data: expected a folder, found a file; move it away, or name another place",
        "train-teacher": r"error: \S*scratch\S*: .*; finished work is kept: move what is in the way, .*",
    }
    assert re.fullmatch(expected[command[0]], text[-1]), text


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(project: Path) -> None:
    prepkd("prepare", cwd=project)
    command = [PREPKD, "train-teacher", "large", "--epochs", "10", "-S", "teachers.large.checkpoint_every=10"]
    scratch = project / "scratch"
    environment = os.environ | {"PREPKD_SCRATCH": str(scratch)}
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        text=True,
        stdout=-1,
        stderr=subprocess.STDOUT,
        # A shell starts a script's background job with SIGINT ignored; the signal must end it all the same.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    lines = []
    while not lines or "2/10" not in lines[-1]:  # a fifth of the training
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.strip().splitlines()[-1].startswith("interrupted: ")
    assert "run the same command again" in output and "Traceback" not in output
    assert list(scratch.glob("*/checkpoint.pt")), "though a checkpoint was not due before the end"
    assert not (project / "models").exists()
    assert "1/10" not in prepkd(*command[1:], cwd=project).replace("10/10", "")
    card = json.loads((project / "models/teachers/large/model.json").read_text())
    shutil.rmtree(project / "models")
    prepkd(*command[1:], cwd=project)
    again = json.loads((project / "models/teachers/large/model.json").read_text())
    assert again["weights_fingerprint"] == card["weights_fingerprint"]


@pytest.mark.real
def test_real_cifar100_from_official_files_to_a_measured_student(tmp_path: Path) -> None:
    folder = os.environ.get("PREPKD_CIFAR100")
    if not folder:
        pytest.skip("set PREPKD_CIFAR100 to the folder that holds cifar-100-python")
    shutil.copy(ROOT / "recipes/cifar100-cpu.yaml", tmp_path / "params.yaml")
    small = ["prepare.subset=4", f"prepare.raw={folder}", "cache.views=2", "distill.epochs=2", "distill.seeds=[3]"]
    small += ["distill.student=convnet4", "distill.method=ka-ps+dtd-cwsm", "teachers.resnet20.epochs=1"]
    options = [part for setting in small for part in ("-S", setting)]
    assert "'train': 400" in prepkd("prepare", *options, cwd=tmp_path)
    prepkd("train-teacher", "resnet20", *options, cwd=tmp_path)
    text = prepkd("cache-logits", "resnet20", *options, cwd=tmp_path)
    assert "2 views x 400 samples x 100 classes" in text and "207 bytes per (view, sample)" in text
    weights = {}
    for source in ("cached", "online"):
        prepkd("distill", "--source", source, "--replace", *options, cwd=tmp_path)
        card = json.loads((tmp_path / "models/student/seed3/model.json").read_text())
        weights[source] = card["weights_fingerprint"]
    assert weights["cached"] == weights["online"]
    assert "test top-1" in prepkd("evaluate", *options, cwd=tmp_path)
