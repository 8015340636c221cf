"""The preloaded `prepkd` that other tests use is the installed one: same output, same exit code."""

import subprocess
from pathlib import Path

import pytest
from commands import environment


@pytest.mark.parametrize(("command", "code"), [("--version", 0), ("distill", 2), ("nonsense", 2)])
def test_it_is_told_from_the_installed_one_by_its_speed_alone(command: str, code: int, tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    found = [
        subprocess.run(
            f"cd {place}; prepkd {command}",
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
