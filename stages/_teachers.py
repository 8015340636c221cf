"""The files of the project's teachers."""

from prepkd.project.params import Params
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.stages._project import store_url, teacher_folder


def teacher_files(params: Params, name: str, generation: str | None = None) -> TeacherFiles:
    """Return the files of a key of `teachers` or `generations`.

    `generation` is the generation that it teaches; None for the students of `distill`.
    """
    weights, command = params.all_teachers[name].weights, params.command_of(name)
    return TeacherFiles(teacher_folder(name), store_url(params, name), weights, command, generation)
