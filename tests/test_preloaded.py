"""The preloaded commands of other tests behave like the installed ones: same output, same exit code."""

import subprocess
from pathlib import Path

import pytest
from commands import environment


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("prepkd --version", 0),
        ("prepkd distill", 2),
        ("prepkd nonsense", 2),
        ("dvc --version", 0),
        ("dvc repro", 253),
        ("dvc nonsense", 254),
        ("python ../file.py 3", 3),
        ("python -c 'import sys; print(sys.argv, sys.path[0]); sys.exit(4)' a", 4),
        ("echo 'import sys; print(sys.argv, sys.path[0])' | python - a", 0),
        ("python -W error ../warns.py a", 5),
        ("cd ..; python -m file 3", 3),
    ],
)
def test_it_is_told_from_the_installed_one_by_its_speed_alone(command: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(
        "import sys\nprint(sys.argv, sys.path[0], __name__)\nsys.exit(int(sys.argv[1]))\n"
    )
    (tmp_path / "warns.py").write_text(
        "import sys, warnings\nprint(sys.argv)\ntry: warnings.warn('w')\nexcept UserWarning: sys.exit(5)\n"
    )
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    found = [
        subprocess.run(
            f"cd {place}; {command}",
            shell=True,
            cwd=tmp_path,
            env=environment(installed=place == "a"),
            capture_output=True,
        )
        for place in ("a", "b")
    ]
    assert [(done.returncode, done.stdout, done.stderr) for done in found] == [
        (code, found[0].stdout, found[0].stderr)
    ] * 2
    assert found[0].stdout or found[0].stderr
