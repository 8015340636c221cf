"""A cost as a table of names and values, readable from 60 columns."""

from collections.abc import Iterator

from rich.table import Table

from prepkd.costs.cost import Cost
from prepkd.display.tables import two_columns
from prepkd.display.text import counted, size


def cost_table(cost: Cost) -> Table:
    """One row per figure."""
    table = two_columns()
    for name, lines in cost_rows(cost):
        table.add_row(name, "\n".join(lines))
    return table


def cost_rows(cost: Cost) -> Iterator[tuple[str, list[str]]]:
    """Each figure's name and its lines."""
    at_most = "at most " if cost.compressed else ""
    yield "views", [f"{cost.samples:,} samples x {cost.views:,} views, {cost.classes:,} classes", cost.recipe]
    yield "stores", [f"{one.name}: {one.row_bytes:,} bytes per (view, sample)" for one in cost.stores]
    yield "on disk", [f"{at_most}{size(cost.bytes)} in {cost.files:,} files"]
    yield "teacher", [_teacher(cost)]
    if cost.student_images is not None:
        yield "a student", [_student(cost, cost.student_images)]
    yield (
        "an epoch reads",
        [f"{at_most}{size(cost.epoch_bytes)}, {cost.epoch_bytes / cost.samples:,.0f} bytes per image"],
    )
    yield "reading rate", [_reading(cost)]
    yield "a process holds", list(_memory(cost))
    yield "paid for after", list(_break_even(cost))


def _teacher(cost: Cost) -> str:
    images = f"{cost.teacher_images:,} images"
    if cost.teacher_hours is None:
        return f"{images}; for hours give --teacher-images-per-second, or --measure"
    return _hours(cost, cost.teacher_hours, images, cost.rates.teacher)


def _student(cost: Cost, images: int) -> str:
    if cost.student_hours is None:
        return f"{images:,} images; for hours give --student-images-per-second"
    return _hours(cost, cost.student_hours, f"{images:,} images", cost.rates.student)


def _hours(cost: Cost, spent: float, images: str, rate: float | None) -> str:
    at = f" at {rate:,.0f} images/s"
    return f"{duration(spent)} for {images}" + (at if cost.rates.gpus == 1 else f", {cost.rates.gpus:,} GPUs{at} each")


def _reading(cost: Cost) -> str:
    if cost.bytes_per_second is None:
        rate = 1000 * cost.epoch_bytes / cost.samples
        return f"{size(rate)}/s per 1,000 images/s that train; for a rate give --student-images-per-second"
    return f"{size(cost.bytes_per_second)}/s, so that no student waits"


def _memory(cost: Cost) -> Iterator[str]:
    yield f"about {size(cost.memory.caching)} to cache"
    yield f"about {size(cost.memory.training)} of answers to train"
    if cost.memory.images:
        yield f"{size(cost.memory.images)} of images in both"
    yield f"beside {'images, ' if cost.memory.images is None else ''}model and libraries"


def _break_even(cost: Cost) -> Iterator[str]:
    if not cost.views_per_step:
        yield "never: the method uses no teacher"
        return
    if cost.break_even_epochs is None:
        yield "never: the disk is slower than the teacher"
        return
    epochs = (
        f"{cost.break_even_epochs:,.3g} epochs"
        if cost.break_even_epochs < 1000
        else f"{cost.break_even_epochs:,.0f} epochs"
    )
    if cost.break_even_students is None or cost.epochs is None:
        yield f"{epochs} of students; for students give --epochs"
    else:
        yield f"{counted(cost.break_even_students, 'student')} of {counted(cost.epochs, 'epoch')} ({epochs})"
    if not cost.reading_counted:
        yield "without reading; give --disk-megabytes-per-second"


def duration(hours: float) -> str:
    """Hours, or minutes or seconds where those are more telling.

    >>> duration(5.34), duration(0.5), duration(0.001)
    ('5.3 hours', '30 minutes', '3.6 s')
    """
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 1 / 30 else f"{3600 * hours:.1f} s"
