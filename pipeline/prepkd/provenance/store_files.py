"""The files that a store was made from, as far as they are there: its teacher's folder and its prepared data."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StoreFiles:
    """The folders of a project's `teachers` and `datasets`; a `teacher` or `data` that are named replace the store's own."""

    teachers: Path
    datasets: Path
    teacher: Path | None = None
    data: Path | None = None

    def teacher_folder(self, name: str) -> Path:
        """The folder that is named, else that of the teacher of this name."""
        return self.teacher or self.teachers / name

    def data_file(self, dataset: str) -> Path:
        """The file that is named, else that of the data set of this name."""
        return self.data or self.datasets / f"{dataset}.h5"
