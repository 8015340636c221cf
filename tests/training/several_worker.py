"""`python several_worker.py FOLDER`: train some students as one of several processes; each writes its results to FOLDER."""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from prepkd.distillation.distill import distill
from prepkd.distillation.student_settings import Distill
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.runtime import distributed
from prepkd.teacher.settings import Cache
from small_training import DATASET, context_in

SMALL = {"teacher": "t", "student": "resnet8", "epochs": 2, "source": "online", "batch_size": 16, "seeds": 1}
SMALL |= {"precision": "float32", "lr": 0.05}
# At lr 0.05 a change of 1e-7 in the first weights, or of a millionth in lr, grows to 4e-3 to 4e-1 in a few of their steps.
UNSTABLE = ("dist", "at", "nst", "ls+dkd")

# Every relation of a batch, adapters, a bank of negatives, random draws; then the loop's settings.
STUDENTS: dict[str, dict[str, Any]] = {
    method: {"method": method, "lr": 1e-4 if method in UNSTABLE else 0.05}
    for method in (
        *("ce", "ka-ps+dtd-flsw", "dtd-cwsm", "noisy-teacher", "ls+dkd", "dist", "rkd", "sp", "crd"),
        *("fitnet", "vid", "at", "nst"),
    )
}
STUDENTS |= {
    "crd in batch": {"method": "crd", "crd": {"negatives": "batch"}},
    # With two or three processes, one of them has no sample of the last batch.
    "a last batch of one": {"method": "kd", "batch_size": 23},
    "accumulated": {"method": "dtd-flsw", "accumulate": 2, "clip_grad_norm": 0.5},
    "averaged": {"method": "kd", "ema": 0.9},
    "stopped early": {"method": "kd", "early_stop": {"patience": 1}, "epochs": 4},
    "local": {"method": "kd", "batch_norm": "local"},
    "local and averaged": {"method": "kd", "batch_norm": "local", "ema": 0.9},
}


def student(folder: Path, teacher: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Train one student and return its weights and figures."""
    files = {"t": TeacherFiles(teacher, "no store", None, "prepkd train-teacher t")}

    def locked(run: str) -> AbstractContextManager[Path]:
        return distributed.lock_in_main_process(lambda: nullcontext(folder), folder)

    context = replace(context_in(folder), scratch=locked)
    with distill(
        Distill.model_validate(SMALL | changes),
        Cache(views=1, batch_size=64),  # two batches of the teacher
        DATASET,
        files,
        context,
    ) as trained:
        [(_, model, history, _)] = trained
    return {"weights": model.state_dict(), "history": history}


def main(teacher: Path, folder: Path) -> None:
    """Train all students, each in a folder of its own."""
    torch.set_num_threads(1)
    with distributed.process_group():
        found = {}
        for name, changes in STUDENTS.items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            found[name] = student(place, teacher, changes)
        torch.save(found, folder / f"{distributed.rank()} of {distributed.world_size()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
