"""The cost of a cache and of training from it, by arithmetic on layouts and rates."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prepkd.errors import InputError
from prepkd.store.layout import MANIFEST, SUMMARY, Layout

MIN_RATE, MAX_RATE = 1e-3, 1e12  # limits of a rate, per second


@dataclass(frozen=True)
class Rates:
    """Rates of the machine; None for an unknown one.

    `teacher` and `student` are images per second on one of the `gpus`: of the teacher's answers, and of the student's training.
    `disk` is the reading rate in bytes per second.
    """

    gpus: int = 1
    teacher: float | None = None
    student: float | None = None
    disk: float | None = None

    @classmethod
    def given(cls, gpus: int, teacher: float | None, student: float | None, disk_megabytes: float | None) -> "Rates":
        """Rates from the options of `prepkd plan`; raises InputError for one outside `MIN_RATE` to `MAX_RATE`."""
        options = {"teacher-images": teacher, "student-images": student, "disk-megabytes": disk_megabytes}
        for name, value in options.items():
            if value is not None and not MIN_RATE <= value <= MAX_RATE:
                raise InputError(f"--{name}-per-second is {value:g}; expected {MIN_RATE:g} to {MAX_RATE:g}")
        return cls(gpus, teacher, student, disk_megabytes and disk_megabytes * 1e6)


@dataclass(frozen=True)
class StoreCost:
    """One store: its bytes and files, the views that it holds and how many of them an epoch reads, bytes per (view, sample).

    `entry` is the entry of `cache.features`, None for a store of logits. `compressed`: the bytes are an upper bound.
    """

    name: str
    teacher: str
    entry: str | None
    views: int
    views_read: int
    row_bytes: int
    bytes: int
    epoch_bytes: int
    files: int
    compressed: bool

    @classmethod
    def of(cls, teacher: str, entry: str | None, layout: Layout, views_read: int) -> "StoreCost":
        """The cost of a store of this layout."""
        return cls(
            f"{entry or 'logits'} of {teacher}",
            teacher,
            entry,
            layout.plan.views,
            views_read,
            layout.bytes_per_row,
            layout.bytes,
            views_read * layout.view_bytes,
            layout.files + len((SUMMARY, MANIFEST)),
            layout.compressed,
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. `caching` and `training` exclude images, models and libraries.

    `images`: the prepared images if they are held in memory, 0 if they are read when needed, None if unknown.
    """

    caching: int
    training: int
    images: int | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of caching for `teachers`, and of an epoch of `samples` that trains from the cache.

    `views` counts those of one kind. `views_per_step` is the number of views of each sample that an epoch shows a student, 0 if
    its method uses no teacher; `epochs` are a student's, None if unknown. `recipe` and `encoding` are text to print.
    """

    samples: int
    classes: int
    views: int
    recipe: str
    encoding: str
    teachers: tuple[str, ...]
    views_per_step: int
    epochs: int | None
    stores: Sequence[StoreCost]
    memory: Memory
    rates: Rates

    @property
    def bytes(self) -> int:
        """Bytes on disk, of all stores."""
        return sum(one.bytes for one in self.stores)

    @property
    def files(self) -> int:
        """Files of all stores."""
        return sum(one.files for one in self.stores)

    @property
    def epoch_bytes(self) -> int:
        """Bytes that an epoch reads."""
        return sum(one.epoch_bytes for one in self.stores)

    @property
    def compressed(self) -> bool:
        """Whether the bytes are an upper bound."""
        return any(one.compressed for one in self.stores)

    @property
    def teacher_images(self) -> int:
        """Images that teachers answer to fill the stores: each store takes its own passes."""
        return self.samples * sum(one.views for one in self.stores)

    @property
    def teacher_hours(self) -> float | None:
        """Hours of caching, all GPUs at work."""
        return hours(self.teacher_images, self.rates.gpus, self.rates.teacher)

    @property
    def online_hours(self) -> float | None:
        """Hours that live teachers would add to an epoch, all GPUs at work."""
        return hours(self.online_images, self.rates.gpus, self.rates.teacher)

    @property
    def online_images(self) -> int:
        """Images that live teachers would answer in an epoch."""
        return self.samples * self.views_per_step * len(self.teachers)

    @property
    def student_images(self) -> int | None:
        """Images that a student trains on, each in as many views as a step shows, if the number of its epochs is known."""
        return None if self.epochs is None else self.samples * self.epochs

    @property
    def student_hours(self) -> float | None:
        """Hours of training a student, all GPUs at work, if its epochs and its rate are known."""
        images = self.student_images
        return None if images is None else hours(images, self.rates.gpus, self.rates.student)

    @property
    def reading_hours(self) -> float | None:
        """Hours that the disk takes to read an epoch's bytes."""
        return None if self.rates.disk is None else self.epoch_bytes / self.rates.disk / 3600

    @property
    def bytes_per_second(self) -> float | None:
        """Reading rate at which no student waits, all GPUs training together."""
        if self.rates.student is None:
            return None
        return self.epoch_bytes / self.samples * self.rates.student * self.rates.gpus

    @property
    def break_even_epochs(self) -> float | None:
        """Epochs of students after which the cache has cost as much as live teachers would have; None if it never does.

        A live teacher answers `online_images` in each epoch; the cache costs `teacher_images` once, and reading in each epoch.
        """
        saved = float(self.online_images)
        if self.rates.disk is not None and self.rates.teacher is not None:
            # Images that the teachers would answer while an epoch is read.
            saved -= self.epoch_bytes / self.rates.disk * self.rates.teacher * self.rates.gpus
        return self.teacher_images / saved if saved > 0 else None

    @property
    def break_even_students(self) -> int | None:
        """The number of whole students after which the cache has paid for itself, if their epochs are known."""
        if self.break_even_epochs is None or self.epochs is None:
            return None
        return max(1, math.ceil(round(self.break_even_epochs / self.epochs, 9)))  # a rounding error could add a student

    @property
    def reading_counted(self) -> bool:
        """Whether the break-even counts the cache's reading."""
        return self.rates.disk is not None and self.rates.teacher is not None

    def as_json(self) -> dict[str, Any]:
        """All fields and figures; times in hours, sizes in bytes, rates per second."""
        figures = (
            "bytes",
            "files",
            "epoch_bytes",
            "compressed",
            "teacher_images",
            "teacher_hours",
            "online_hours",
            "student_images",
            "student_hours",
            "reading_hours",
            "bytes_per_second",
            "break_even_epochs",
            "break_even_students",
            "reading_counted",
        )
        return asdict(self) | {name: getattr(self, name) for name in figures}


def hours(images: int, gpus: int, rate: float | None) -> float | None:
    """Hours for this number of images at `rate` images per second and GPU."""
    return None if rate is None else images / (rate * gpus) / 3600
