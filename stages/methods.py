"""methods: the terms and the schemes of generations, or the requirements of one method in this project; writes nothing."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.catalogue.requirements import example
from prepkd.catalogue.rows import method_summary, rows, with_defaults
from prepkd.catalogue.tables import method_table, term_tables
from prepkd.errors import InputError
from prepkd.methods.grammar import parse_method
from prepkd.project.method_check import models_for, obstacles
from prepkd.stages._console import say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, read_params
from prepkd.stages._project import data_file
from prepkd.stages._teachers import teacher_files

PARAMS = Path("params.yaml")


def methods(
    params_file: ParamsFile = PARAMS,
    overrides: Overrides = [],
    check: Annotated[str | None, typer.Option(metavar="METHOD", help="Show one method, as ka-ps+dkd+at.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the terms of a method: slot, meaning, needs, settings with their defaults, source.

    A method is terms joined by `+`, at most one per slot and any number of feature terms: `ka-ps+dtd-flsw`, `ka-ps+dkd+at`.
    A default holds for a key that params.yaml lacks. `--check` shows a method's terms, the weights that `auto` gives them, and
    what is missing in this project. Bytes are for the project's teacher and student; without a project for resnet32x4 and
    resnet8x4 on pictures of 32x32.
    """
    if check is not None:
        try:
            parse_method(check)
        except ValueError as error:
            raise InputError(f"method {check!r} {error}") from None
    params = None if params_file == PARAMS and not params_file.is_file() else read_params(params_file, overrides)
    data = data_file(params) if params else Path()
    models, problem = models_for(params, data) if params else (example(), "")
    if problem:
        say(problem)
    configured = params.distill.configured if params else with_defaults
    if check is None:
        listed = rows(models, configured)
        show([row.as_json() for row in listed], *term_tables(listed))
        return
    found = method_summary(check, models, configured, params.cache.features if params else ())
    teachers = {name: teacher_files(params, name) for name in params.distill.teacher_names} if params else {}
    missing = obstacles(params, found, None if problem else models, data, teachers)
    show(found.as_json() | {"missing": missing}, method_table(found, models, missing))
