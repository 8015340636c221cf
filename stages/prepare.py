"""prepare: raw files -> data/<dataset>.h5."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.data.prepared.prepare import prepare as write_prepared
from prepkd.data.sources.local_copy import local_files
from prepkd.errors import InputError
from prepkd.project.outputs import prepared_data
from prepkd.runtime.services import is_remote
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import console, say, show
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, Replace, may_replace, read_params
from prepkd.stages._project import data_file, writing


def prepare(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    fetch: Annotated[bool, typer.Option("--download", help="Fetch the official files into prepare.raw first.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read the raw images, from disk or a URL, and write `data/<dataset>.h5`, which everything else reads.

    Sources: digits (bundled, nothing to fetch), cifar10, cifar100 (official python files, md5-checked), cinic10, tiny-imagenet
    (official folders), and your own: folder (images in `train/<class>/` and `test/<class>/`), h5 (arrays in an HDF5 file).
    """
    params = read_params(params_file, overrides)
    settings, path = params.prepare, data_file(params)
    if fetch and is_remote(settings.raw):
        raise InputError(f"--download fetches into prepare.raw, which is {settings.raw}; expected a folder; name one")
    with writing(prepared_data(path)), local_files(settings.raw, scratch_root(), say) as raw:
        if fetch:
            settings.source.download(raw)
        summary = write_prepared(
            settings.source.read(raw),
            val_fraction=settings.val_fraction,
            subset=settings.subset,
            seed=settings.seed,
            path=path,
            replace=may_replace(replace),
        )
    for note in summary["notes"]:
        console.print(f"note: {note}")
    console.print(f"{path}: {summary['splits']}")
    if as_json:
        show({"data": str(path), **summary})
