"""Distillation as a whole: check that data, stores and teachers belong together, then train the students."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

from prepkd.data.samples.dataset import Dataset
from prepkd.display.text import counted
from prepkd.distillation.asked_teachers import cached_teacher, check_strong_views, joint_answers, live_teacher
from prepkd.distillation.drawn_classes import check_encoding, draw_note
from prepkd.distillation.feature_supply import student_shapes
from prepkd.distillation.student import train_students
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.context import RunContext, Trained
from prepkd.training.initial import given_weights, loading_notes, weights_from
from prepkd.training.stopping import card_entry
from prepkd.training.trial import try_student


@contextlib.contextmanager
def distill(
    settings: Distill,
    cache: Cache,
    dataset: Dataset,
    teachers: Mapping[str, TeacherFiles],
    context: RunContext,
) -> Iterator[Iterator[Trained]]:
    """Train one student per seed; yield an iterator of the trained students.

    `teachers` are the files of each teacher by name. The work of every seed is kept until the caller leaves the context, so
    that an interrupted run resumes. Raises InputError if files do not belong together, or if a student cannot be trained.
    """
    check_encoding(settings, cache)
    check_strong_views(settings, dataset)
    loaded = try_student(settings, dataset)
    notes = loading_notes(settings, loaded, f"student {settings.student!r}")
    for line in [*notes, *late_terms(settings), *filter(None, [draw_note(settings, cache)])]:
        context.say(line)
    student = student_shapes(settings, dataset)
    open_one = cached_teacher if settings.source == "cached" else live_teacher
    asked = {
        name: open_one(settings, cache, name, files, dataset, student)
        for name, files in (teachers.items() if settings.parsed_method.needs_teacher else ())
    }
    supply = next((one.supply for one in asked.values()), None)  # feature terms have a single teacher
    shapes = (student, supply.teacher, len(dataset.samples)) if supply else ()
    made_from = dict(dataset.origin) | {"teacher": {name: one.made_from for name, one in asked.items()} or None}
    if settings.weights:
        made_from |= given_weights(settings, settings.student, "distill")
    context.on_inputs(made_from)
    with contextlib.ExitStack() as held:
        trained = train_students(
            settings,
            dataset,
            joint_answers(list(asked.values()), settings),
            objective=partial(Objective, settings.terms, *shapes),
            inputs=made_from,
            scratch=lambda run: held.enter_context(context.scratch(run)),
            context=context,
        )
        card = {
            "model": settings.student,
            "num_classes": dataset.classes,
            "class_names": list(dataset.class_names),
            "in_channels": dataset.samples.channels,
            "evaluation": dataset.framing.model_dump(),
            "training": settings.model_dump(mode="json"),
            "training_version": TRAINING_VERSION,
            "inputs": made_from,
            **weights_from(settings, made_from, loaded),
        }
        yield (
            Trained(seed, student, history, card | {"seed": seed} | card_entry(settings, history))
            for seed, student, history in trained
        )


def late_terms(settings: Distill) -> list[str]:
    """Return a note on every term that does not act in full before the training ends."""
    notes = []
    for term in settings.terms.all:
        if term.full_after and (after := getattr(term, term.full_after)) >= settings.epochs:
            key = f"{term.section}.{term.full_after}"
            notes.append(
                f"{key} {after} leaves none of {counted(settings.epochs, 'epoch')} in which {term.name} acts in full; lower it"
            )
    return notes
