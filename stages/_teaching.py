"""Students from params: what `distill` and `compare` share."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from prepkd.params import Distill, Params
from prepkd.stages._shared import data_file, read_lesson, scratch, store_folder, teacher_folder

if TYPE_CHECKING:
    from prepkd.models import Normalised
    from prepkd.train import Row


@contextlib.contextmanager
def students(
    params: Params, settings: Distill, on_epoch: "Callable[[int, Row], None]"
) -> "Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]":
    """Train the students that the settings ask for; yields an iterator of (seed, model, history, card).

    The work of every seed is kept until the caller is through with all of them, so that an interrupted run goes on.
    """
    from prepkd.models import load_checkpoint
    from prepkd.store import LogitStore
    from prepkd.students import train_students
    from prepkd.teaching import CachedTeacher, OnlineTeacher, Teacher, check_store

    lesson, inputs = read_lesson(params, params.cache.views, params.cache.seed)
    where = lesson.samples.images.device
    teacher: Teacher | None = None
    if not settings.parsed.teacher:
        inputs["teacher"] = None
    elif settings.source == "cached":
        path = store_folder(settings.teacher)
        store = LogitStore.open(path)
        check_store(store, plan=lesson.plan, dataset=inputs["split_fingerprint"], teacher=None, path=path)
        resident = settings.view_order == "random"
        teacher = CachedTeacher(store, where, resident=resident, resident_gib=settings.resident_gib)
        inputs["teacher"] = store.attributes["fingerprints"]
    else:
        hint = f"run `prepkd train-teacher {settings.teacher}`"
        model, card = load_checkpoint(teacher_folder(settings.teacher), device=where, hint=hint)
        cache = params.cache
        teacher = OnlineTeacher(
            model, lesson.plan, lesson.samples, batch_size=cache.batch_size, precision=cache.precision
        )
        inputs["teacher"] = [card["weights_fingerprint"], cache.model_dump(mode="json")]

    with contextlib.ExitStack() as held:
        trained = train_students(
            settings,
            lesson,
            teacher,
            inputs=inputs,
            scratch=lambda fingerprint: held.enter_context(scratch(fingerprint)),
            on_epoch=on_epoch,
        )
        card = {
            "model": settings.student,
            "num_classes": lesson.classes,
            "in_channels": int(lesson.samples.images.shape[1]),
            "training": settings.model_dump(mode="json"),
            "inputs": inputs | {"data": str(data_file(params))},
        }
        yield ((seed, student, history, card | {"seed": seed}) for seed, student, history in trained)
