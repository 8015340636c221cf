"""Two `distill` processes with the same outputs, started at once."""

import json
import shutil
import subprocess
from pathlib import Path

from commands import environment
from whole_project import SETTINGS


def test_two_distills_at_once_leave_the_students_of_one(whole_project: Path, tmp_path: Path) -> None:
    """The second process waits, then replaces all of the first's students, or is refused without --replace."""
    project = shutil.copytree(whole_project, tmp_path / "project", ignore=shutil.ignore_patterns("scratch"))
    shutil.rmtree(project / "models/student")
    shutil.rmtree(project / "results/training")
    options = [part for key, value in SETTINGS.items() for part in ("-S", f"{key.replace('__', '.')}={value}")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    def both(*more: str) -> tuple[list[int], list[str]]:
        running = [
            subprocess.Popen(
                ["prepkd", "distill", *options, "-S", "distill.epochs=3", "--method", method, *more],
                cwd=project,
                env=environment(PREPKD_SCRATCH=str(project / "scratch")),
                **streams,  # type: ignore[call-overload]
            )
            for method in ("kd", "ka-ps")
        ]
        said = [one.communicate(timeout=300)[0] for one in running]
        assert not any("Traceback" in one for one in said), said
        return sorted(one.returncode for one in running), said

    def methods() -> set[str]:
        cards = sorted(project.glob("models/student/seed*/model.json"))
        assert [card.parent.name for card in cards] == ["seed0", "seed1"]
        return {json.loads(card.read_text())["training"]["method"] for card in cards}

    codes, said = both()
    assert codes == [0, 2] and len(methods()) == 1, said
    assert any("holds a finished student: training.method is " in one for one in said), said
    codes, said = both("--replace")
    assert codes == [0, 0] and len(methods()) == 1, said
