"""The files of the project's teachers."""

from prepkd.errors import InputError
from prepkd.models.checkpoint import load_card
from prepkd.project.params import Params
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.settings.sameness import check_trained_by
from prepkd.stages._console import say
from prepkd.stages._project import store_url, teacher_folder


def teacher_files(params: Params, name: str, generation: str | None = None) -> TeacherFiles:
    """Return the files of a key of `teachers` or `generations`.

    `generation` is the generation that it teaches; None for the students of `distill`.
    """
    weights, command = params.all_teachers[name].weights, params.command_of(name)
    return TeacherFiles(teacher_folder(name), store_url(params, name), weights, command, generation)


def note_other_settings(params: Params, name: str) -> None:
    """Say so if a teacher was trained with other settings than those of params.yaml; it is used as it is."""
    settings, folder = params.all_teachers[name], teacher_folder(name)
    command = params.command_of(name)
    remedy = f"it is used as it is; `{command} --replace` trains it anew"
    training = load_card(folder, f"run `{command}`").get("training") if folder.exists() else None
    try:
        if training is not None:
            check_trained_by(training, settings, folder, remedy, but=settings.keys_without_effect)
    except InputError as difference:
        say(f"note: {difference}")
