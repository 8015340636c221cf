"""import: logits that somebody else saved -> a logit store, data/logits/NAME.zarr or a URL."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prepkd.errors import InputError
from prepkd.stages._console import console
from prepkd.stages._project import Overrides, ParamsFile, data_file, read_params, store_url
from prepkd.stages.cache_logits import already_written, unfinished

if TYPE_CHECKING:
    from prepkd.teacher.settings import Cache
    from prepkd.views import Recipe, ViewPlan


def import_logits(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .npy, .pt or .safetensors file: (N, K) or (V, N, K).")
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to call the teacher; `distill` wants a key of `teachers`.")
    ],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    data: Annotated[Path | None, typer.Option(help="The prepared data; else that of the settings.")] = None,
    recipe: Annotated[str, typer.Option(help="The views' recipe, JSON; [] is the image itself.")] = "[]",
    views: Annotated[str | None, typer.Option(help="How many views the plan has, or 'all'; else the file's V.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of the views' plan.")] = 0,
    encoding: Annotated[str | None, typer.Option(help="f16, u8, i16 or topk; else cache.encoding.")] = None,
    to: Annotated[str | None, typer.Option(help="The store's path or URL; else NAME.zarr under cache.root.")] = None,
) -> None:
    """Make a store of logits that somebody else cached; writes `data/logits/NAME.zarr`.

    Row i is sample i of the data's train split. Views other than the image itself need the recipe, count and seed of
    prepkd's plan that made them. What can be checked is; the last lines say what cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"NAME is {name!r}; expected letters, digits, '_' and '-'")
    from prepkd.teacher.imported import findings, imported_answers, plan_import, read_dataset
    from prepkd.teacher.logit_files import read_logits

    path, url, settings = places(params_file, overrides, name, data, to, encoding)
    steps, count = parsed_recipe(recipe), parsed_views(views)
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to 2^63 - 1")
    raw, kind = read_logits(file)
    dataset, inputs = read_dataset(path, raw, steps, count, seed)
    layout, attributes, fingerprint = plan_import(name, file, raw, dataset, inputs, settings)
    said = already_written(url, attributes)
    if said is None:
        with unfinished(url, fingerprint, layout, attributes) as writer:
            for view, chunk in list(writer.pending()):
                writer.write(view, chunk, imported_answers(raw, dataset, layout.encoding, view, layout.slice(chunk)))
            summary = writer.finish(dataset.labels)
        said = f"the teacher is wrong on {summary['teacher_error']:.2%} of the training views: KA's share"
    else:
        said = f"already finished; {said}"
    converted = "" if kind == "float32" else f", {kind} converted to float32"
    for line in (
        f"{file}: {layout.plan.views} views x {layout.plan.samples:,} samples x {dataset.classes} classes{converted}",
        *findings(raw, dataset, path),
        f"{url}: {said}",
        f"to learn from it: {recommended(layout.plan, name, path, url if to else None)}",
    ):
        console.print(line, markup=False)


def places(
    params_file: Path, overrides: list[str], name: str, data: Path | None, to: str | None, encoding: str | None
) -> "tuple[Path, str, Cache]":
    """The data, the store's place and how it is written; a settings file is needed only where an option is left out."""
    from prepkd.store.encodings import ENCODINGS
    from prepkd.teacher.settings import Cache

    if encoding is not None and encoding not in ENCODINGS:
        raise InputError(f"--encoding is {encoding!r}; expected one of {', '.join(ENCODINGS)}")
    given = {} if encoding is None else {"encoding": encoding}
    if data is not None and to is not None and not overrides and not params_file.is_file():
        return data, to, Cache(views=1).model_copy(update=given)
    params = read_params(params_file, overrides)
    return data or data_file(params), to or store_url(params, name), params.cache.model_copy(update=given)


def parsed_recipe(text: str) -> "Recipe":
    """A recipe from JSON; raises InputError."""
    from prepkd.views import parse_recipe

    try:
        steps = json.loads(text)
        if not isinstance(steps, list):
            raise ValueError("is not a list")
        return parse_recipe(steps)
    except ValueError as error:
        raise InputError(
            f'--recipe is {text!r}: {error}; expected JSON as \'[{{"crop": {{"padding": 4}}}}, "flip"]\''
        ) from None


def parsed_views(text: str | None) -> int | str | None:
    """A count, or "all"; raises InputError."""
    if text is None or text == "all":
        return text
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise InputError(f"--views is {text!r}; expected a count, or 'all'")
    return int(text)


def recommended(plan: "ViewPlan", name: str, data: Path, url: str | None) -> str:
    """How to use the store: by `distill` where it looks for it, with the settings that show the plan's views."""
    if url:
        return f"prepkd.ViewDataset({str(data)!r}, {url!r})"
    views = plan.describe()
    shown = f"-S 'augment={json.dumps(views['recipe'])}' -S cache.views={views['views']} -S cache.seed={views['seed']}"
    return f"prepkd distill --teacher {name} {shown}"
