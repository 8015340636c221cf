"""Write the settings that the comparison's runs depend on into compare/dvc.yaml: `make docs`.

DVC follows settings one by one there: each run sets some of `distill` anew, and a change of these must not make the others stale.
"""

import re
from pathlib import Path

from prepkd.distillation.student_settings import WITHOUT_EFFECT, Distill

FILE = Path(__file__).parents[1] / "compare/dvc.yaml"
BLOCK = re.compile(r"(?:^      - distill\.\w+\n)+", re.MULTILINE)
# Set by each run: `METHOD[,KEY=VALUE...]` for a teacher and a student.
OF_A_RUN = {"method", "ce_weight", "kd_weight", "teacher", "teachers", "student"}
# Evaluations change no weight; with early_stop, which is followed, they do, and the runs check it themselves.
NOT_FOLLOWED = OF_A_RUN | (WITHOUT_EFFECT - {"seeds"}) | {"evaluate_every"}


def followed() -> list[str]:
    """The keys of `distill` that change the result of every run, in the order of their declaration."""
    return [key for key in Distill.model_fields if key not in NOT_FOLLOWED]


def rewritten(pipeline: str) -> str:
    """The text of compare/dvc.yaml with these keys as its one list of `distill.*`; raises ValueError if it has no such list."""
    text, count = BLOCK.subn("".join(f"      - distill.{key}\n" for key in followed()), pipeline)
    if count != 1:
        raise ValueError(f"{FILE}: expected one list of distill.* keys, found {count}")
    return text


if __name__ == "__main__":
    FILE.write_text(rewritten(FILE.read_text()))
