"""The files of the project's teachers."""

from prepkd.project.params import Params
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.stages._project import store_url, teacher_folder


def teacher_files(params: Params, name: str) -> TeacherFiles:
    """The files of a key of `teachers` or `generations`."""
    return TeacherFiles(
        teacher_folder(name), store_url(params, name), params.all_teachers[name].weights, params.command_of(name)
    )
