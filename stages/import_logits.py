"""import: logits saved by other programs -> a logit store, data/logits/NAME.zarr or a URL."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.project.params import Params
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, Replace, may_replace, read_params
from prepkd.stages._project import data_file, store_url, teacher_folder
from prepkd.stages._summary import store_figures
from prepkd.store.destination import Destination
from prepkd.store.ownership import refuse_foreign_store
from prepkd.teacher import imported
from prepkd.teacher.import_options import check_options, parse_json_recipe, parse_view_count, usage
from prepkd.teacher.logit_files import read_logits
from prepkd.teacher.settings import Cache
from prepkd.training.teacher_settings import IMPORTED

PARAMS = Path("params.yaml")


def import_logits(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .npy, .pt or .safetensors file: (N, K) or (V, N, K).")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The teacher's name.")],
    params_file: ParamsFile = PARAMS,
    overrides: Overrides = [],
    replace: Replace = False,
    data: Annotated[Path | None, typer.Option(help="The prepared data; else that of the settings.")] = None,
    recipe: Annotated[str, typer.Option(help="The views' recipe, JSON; [] is the image itself.")] = "[]",
    views: Annotated[
        str | None, typer.Option(metavar="COUNT", help="How many views the plan has, or 'all'; else the file's V.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the views' plan.")] = 0,
    encoding: Annotated[str | None, typer.Option(help="f16, u8, i16, topk or sampled; else cache.encoding.")] = None,
    to: Annotated[str | None, typer.Option(help="The store's path or URL; else NAME.zarr under cache.root.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a store of logits that another program cached; writes `data/logits/NAME.zarr`.

    Row i is sample i of the data's train split. Views other than the image itself need the recipe, count and seed of
    prepkd's plan that made them. Everything that can be checked is checked; the last lines list the rest.
    """
    check_options(name, encoding, seed)
    path, url, settings, options = places(params_file, overrides, name, data, to, encoding)
    refuse_foreign_store(url)
    steps, count = parse_json_recipe(recipe), parse_view_count(views)
    logits = read_logits(file)
    dataset = imported.dataset_for_import(path, logits.raw, steps, count, seed)
    destination = Destination(url, scratch_root(), say, may_replace(replace))
    written = imported.import_logits(name, logits, dataset, settings, destination)
    use = usage(dataset.plan, name, options) if to is None else f"prepkd.ViewDataset({str(path)!r}, {url!r})"
    if to is None and (folder := teacher_folder(name)).exists():
        use = f"import under another name: students of {name!r} are checked against {folder}"
    for line in (*imported.report(logits, dataset, path, url, written), f"to learn from it: {use}"):
        say(line)
    show(store_figures(url, written))


def places(
    params_file: Path, overrides: list[str], name: str, data: Path | None, to: str | None, encoding: str | None
) -> tuple[Path, str, Cache, list[str]]:
    """Return the prepared data, the store's path or URL, the cache settings, and `distill_options`.

    No settings file is needed if --data and --to are given, without overrides.
    """
    given = {} if encoding is None else {"encoding": encoding}
    if data is not None and to is not None and not overrides and not params_file.is_file():
        return data, to, Cache(views=1).model_copy(update=given), []
    params = read_params(params_file, overrides)
    return (
        data or data_file(params),
        store_url(params, name) if to is None else to,
        params.cache.model_copy(update=given),
        distill_options(params_file, overrides, params, name, encoding),
    )


def distill_options(
    params_file: Path, overrides: list[str], params: Params, name: str, encoding: str | None
) -> list[str]:
    """The options of `prepkd distill` with which the settings fit the store, besides those of its views' plan."""
    changes = list(overrides)
    if encoding is not None:
        changes.append(f"cache.encoding={encoding}")
    if params.augment_strong:  # an imported store has one kind of views
        changes.append("augment_strong=[]")
    if params.distill.teachers is not None:  # they count in place of --teacher
        changes.append("distill.teachers=null")
    if params.distill.source != "cached":
        changes.append("distill.source=cached")
    if name not in params.all_teachers:
        changes.append(f"teachers.{name}={{model: {IMPORTED}}}")
    file = [] if params_file == PARAMS else ["--params", str(params_file)]
    return [*file, *(word for change in changes for word in ("-S", change))]
