"""The commands and loops of docs/ run as printed, page by page; docs_pages.py has the rules."""

import doctest
import os
import re
import shutil
import subprocess
from pathlib import Path

import commands
import crafted_cifar100
import docs_pages
import pytest
import torch
from docs_pages import PAGES, ROOT, Step

# Settings that take seconds.
FEWER = ["prepare.subset=12", "distill.epochs=4", "distill.seeds=2", "compare.runs=[kd,ka-ps]"]
PRELUDE = """set -euo pipefail
export PATH=${FIRST_ON_PATH:+$FIRST_ON_PATH:}$PATH
settings() { python "$TESTS/settings.py" "$@"; }
wait_for_queue() {
    while dvc queue status | grep -qE 'Queued|Running'; do sleep 1; done
    ! dvc queue status | grep Failed
}
"""


def shell(script: str, folder: Path, **environment: str) -> str:
    """Run a script with this interpreter's commands first on the path; return its output."""
    return commands.run(PRELUDE + script, folder, TESTS=str(Path(__file__).parent), **environment)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the working tree and reduce its settings."""
    folder = tmp_path_factory.mktemp("clone") / "prepkd"
    commands.copy_working_tree(folder)
    models = [
        f"teachers.{teacher}.{change}" for teacher in ("large", "small") for change in ("model=convnet4", "epochs=2")
    ]
    changes = " ".join(f"'{change}'" for change in [*FEWER, *models])
    shell(f"settings {changes}; git init -q -b main; git add -A; git commit -qm clone", folder)
    return folder


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """$CIFAR100 as the folder of the official files: the real ones if PREPKD_CIFAR100 is set, else synthetic ones."""
    if real := os.environ.get("PREPKD_CIFAR100"):
        return {"CIFAR100": str(Path(real) / "cifar-100-python")}
    folder = tmp_path_factory.mktemp("crafted")
    made_up = crafted_cifar100.write(folder / "cifar-100-python")
    shim = folder / "bin" / "prepkd"  # the real command checks md5 sums
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec python {crafted_cifar100.__file__} "$@"\n')
    shim.chmod(0o755)
    return {"CIFAR100": str(made_up), "FIRST_ON_PATH": str(shim.parent)}


@pytest.fixture(scope="session")
def finished(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone after `dvc repro`."""
    folder = shutil.copytree(clone, tmp_path_factory.mktemp("finished") / "prepkd", symlinks=True)
    shell("dvc repro -q; git add -A; git commit -qm 'first run'", folder)
    return folder


def prepared(place: str, folder: Path, request: pytest.FixtureRequest) -> Path:
    """Make a fresh folder in which a page's commands run."""
    if fixture := {"clone": "clone", "clone, after dvc repro": "finished"}.get(place):
        return shutil.copytree(request.getfixturevalue(fixture), folder / "prepkd", symlinks=True)
    if place.startswith("init"):
        changes = [
            *FEWER,
            "cache.views=4",
            "teachers.teacher.model=convnet4",
            "teachers.teacher.epochs=2",
            "distill.student=convnet4",
        ]
        quoted = " ".join(f"'{change}'" for change in changes)
        shell(f"prepkd {place}; settings {quoted}; git commit -qam settings", folder)
        return folder
    assert place == "empty", place
    return folder


def as_shell(number: int, step: Step, page: str) -> str:
    """Turn a step into a part of the page's script, after a line that announces it."""
    announced, text = f"echo; echo '=== {number} {page}:{step.line}'\n", step.text
    if step.language == "python":
        file = f"block-{number}.py"
        text = f"cat > {file} <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\npython {file}; rm {file}"
    return f"{announced}{text}\n"


def plain(line: str) -> str:
    """Remove the parts of a line that differ between runs: numbers, hashes, spaces, the length of rules."""
    return " ".join(
        re.sub(r"\b[0-9a-f]{7,}\b|[0-9][0-9.,:]*(e[+-][0-9]+)?", "#", re.sub(r"[-─━=]{2,}", "--", line)).split()
    )


def check_output(step: Step, printed: str, page: str) -> None:
    """Check that every line of the page's output block is printed, in that order."""
    lines = iter([plain(line) for line in printed.splitlines()])
    for promised in step.output.splitlines():
        wanted = plain(promised)
        if wanted and wanted != "...":
            assert any(wanted in line for line in lines), f"{page}:{step.line} does not print {promised!r}\n{printed}"


def test_promised_output_is_compared_but_for_numbers() -> None:
    step = Step("bash", "", 1, "a   1.5e+01 done\n...\n--- b 12%\n")
    check_output(step, "a 0.1 done\nx\n------- b 7%\n", "page")
    for printed in ("a 1 done\n", "-- b 12%\na 1 done\n", "a 1 failed\n-- b 1%\n"):
        with pytest.raises(AssertionError, match="page:1 does not print"):
            check_output(step, printed, "page")


RUN = [page for page in PAGES if not (docs_pages.place(page) or "none").startswith("none")]


@pytest.mark.parametrize("page", RUN, ids=docs_pages.name)
def test_the_pages_commands_run(
    page: Path, tmp_path: Path, cifar100: dict[str, str], request: pytest.FixtureRequest
) -> None:
    where, name = docs_pages.place(page), docs_pages.name(page)
    assert where is not None
    folder = tmp_path / "here"
    folder.mkdir()
    folder = prepared(where, folder, request)
    typed = [step for step in docs_pages.steps(page) if step.language != "pycon"]
    script = "".join(as_shell(number, step, name) for number, step in enumerate(typed))
    printed = shell(script, folder, PREPKD_SCRATCH=str(tmp_path / "scratch"), **cifar100)
    parts = re.split(r"^=== \d+ .*$", printed, flags=re.M)[1:]
    for step, part in zip(typed, parts, strict=True):
        check_output(step, part, name)


@pytest.mark.parametrize("page", PAGES, ids=docs_pages.name)
def test_no_block_is_skipped_unsaid(page: Path) -> None:
    typed = [step for step in docs_pages.steps(page) if step.language in ("bash", "python")]
    where = docs_pages.place(page)
    assert where or not typed, f"line {typed[0].line}: expected a comment `commands:`; see docs_pages.py"
    if where and where.startswith("none"):
        assert where.startswith("none, because ")
        tests = re.findall(r"tests/\S+\.py", where)
        assert tests or "no command of prepkd" in where
        for test in tests:
            assert docs_pages.name(page) in (ROOT / test).read_text(), f"{test} does not name the page"
    for block in [step.text for step in typed if step.language == "bash"]:
        subprocess.run(["bash", "-n", "-c", block], check=True)


@pytest.mark.parametrize("page", PAGES, ids=docs_pages.name)
def test_worked_numbers(page: Path) -> None:
    """Each result in a page's Python sessions is as printed; the sessions share their names."""
    text = "\n".join(step.text for step in docs_pages.steps(page) if step.language == "pycon")
    test = doctest.DocTestParser().get_doctest(text, {"torch": torch}, docs_pages.name(page), str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(test).failed
    torch.set_printoptions(profile="default")  # pages may set another precision
    assert failed == 0
