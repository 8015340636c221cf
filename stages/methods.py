"""methods: the terms of methods and the schemes of generations, or what one method uses and is missing; writes nothing."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.catalogue import requirements
from prepkd.catalogue.rows import by_default, rows, used
from prepkd.catalogue.tables import method_table, term_tables
from prepkd.data.prepared.file import describe
from prepkd.display.console import TextConsole
from prepkd.errors import InputError
from prepkd.methods.grammar import parse_method
from prepkd.models import load_card
from prepkd.project.method_check import contradictions, open_features, open_store, project_pair, unreadable
from prepkd.project.params import Params
from prepkd.stages._console import console, print_json
from prepkd.stages._options import Overrides, ParamsFile, read_params
from prepkd.stages._project import data_file, store_url, teacher_folder

PARAMS = Path("params.yaml")


def methods(
    params_file: ParamsFile = PARAMS,
    overrides: Overrides = [],
    check: Annotated[str | None, typer.Option(metavar="METHOD", help="Show one method, as ka-ps+dkd+at.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: one list, or with --check one object.")] = False,
) -> None:
    """List the terms of a method: slot, meaning, what it asks, settings with their defaults, source.

    A method is terms joined by `+`, at most one per slot and any number of feature terms: `ka-ps+dtd-flsw`, `ka-ps+dkd+at`.
    `--check` shows a method's terms, the weights that `auto` gives them, and what is missing in this project. Bytes are for the
    project's teacher and student; without a project for resnet32x4 and resnet8x4 on pictures of 32x32.
    """
    if check is not None:
        try:
            parse_method(check)
        except ValueError as error:
            raise InputError(f"method {check!r} {error}") from None
    params, models, prepared = _project(params_file, overrides)
    configured = params.distill.configured if params else by_default
    if check is None:
        listed = rows(models, configured)
        if as_json:
            typer.echo(json.dumps([row.as_json() for row in listed], indent=2))
        for part in () if as_json else term_tables(listed):
            TextConsole().print(part)
        return
    found = used(check, models, configured, params.cache.features if params else ())
    missing = [*contradictions(params, check), *(row.asked.problem for row in found.rows if row.asked.problem)]
    # A method that cannot be has no stores to look for.
    missing += unreadable(_files(params, check, models if prepared else None, bool(missing))) if params else []
    missing = list(dict.fromkeys(missing))
    if as_json:
        print_json(found.as_json() | {"missing": missing})
    else:
        TextConsole().print(method_table(found, models, missing))


def _project(params_file: Path, overrides: list[str]) -> tuple[Params | None, requirements.Pair, bool]:
    """The project's settings and models, and True; without a project, or before its data are prepared, the example's models."""
    if params_file == PARAMS and not params_file.is_file():
        return None, requirements.example(), False
    params = read_params(params_file, overrides)
    try:
        return params, project_pair(params, describe(data_file(params))), True
    except InputError as error:
        models = requirements.example()
        console.print(f"{error}; bytes are for {models.described}")
        return params, models, False


def _files(
    params: Params, method: str, models: requirements.Pair | None, contradicted: bool
) -> Iterator[Callable[[], object]]:
    """Readers of the files that the method needs: the prepared data, each teacher's store or card, and stores of features."""
    yield partial(describe, data_file(params))
    parsed, cached = parse_method(method), params.distill.source == "cached"
    for name in params.distill.teacher_names if parsed.teacher else ():
        read = partial(open_store, store_url(params, name), name, parsed.views)
        yield read if cached else partial(load_card, teacher_folder(name))
        if cached and parsed.features and not contradicted:
            yield partial(open_features, params, method, name, models, store_url(params, name))
