"""The files that a store was made from: its teacher's folder and its prepared data."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StoreFiles:
    """The folders of a project's `teachers` and `datasets`; an explicit `teacher` or `data` overrides the store's own."""

    teachers: Path
    datasets: Path
    teacher: Path | None = None
    data: Path | None = None

    def teacher_folder(self, name: str) -> Path:
        """The explicit folder, else the one of the teacher with this name."""
        return self.teacher or self.teachers / name

    def data_file(self, dataset: str) -> Path:
        """The explicit file, else the one of the data set with this name."""
        return self.data or self.datasets / f"{dataset}.h5"
