"""fetch-views: a store at a URL or path -> data/logits/<its name>, whole or some views of it."""

from pathlib import Path
from typing import Annotated

import typer
from prepkd.errors import InputError
from prepkd.stages._console import advance, console, progress
from prepkd.stages._project import scratch


def fetch_views(
    url: Annotated[str, typer.Argument(metavar="URL", help="A store: s3://bucket/large.zarr, or a path.")],
    views: Annotated[str | None, typer.Option(help="The views to bring, as 0:8 or 0,4:6; all if not given.")] = None,
    to: Annotated[str | None, typer.Option(help="Where to: a path or URL; data/logits/<the store's name>.")] = None,
) -> None:
    """Copy a store, or some of its views, to `data/logits/`: enough to distill from, as far as its views go.

    Stopped? Run it again: what is there is checked and kept. Call it with other views to add them.
    """
    target = to or f"data/logits/{url.rstrip('/').rsplit('/', 1)[-1]}"
    from prepkd.runtime.files import fingerprint
    from prepkd.store import LogitStore
    from prepkd.store.fetch import fetch, parse_views, views_text, wanted
    from prepkd.store.place import is_remote, open_place

    where = target if is_remote(target) else str(Path(target).absolute())
    if where == (url if is_remote(url) else str(Path(url).absolute())):
        raise InputError(f"{url}: is to be copied onto itself; choose another place with --to")
    if not is_remote(target) and Path(target).exists() and not Path(target).is_dir():
        raise InputError(f"{target}: is a file; choose another place with --to")
    source = LogitStore.open(url)
    chosen = parse_views(views, source.views) if views is not None else list(range(source.views))
    with scratch(fingerprint(["fetch-views", where])), progress() as bar:
        task = bar.add_task(f"{source.attributes.teacher.name}", total=len(wanted(source, chosen)), note="files")
        place = open_place(target, write=True)
        fetched = fetch(source, place, chosen, target, lambda: advance(bar, task, "files"))
    console.print(
        f"{target}: {fetched.files} files, {fetched.bytes:,} bytes fetched, {fetched.kept} files were there; "
        f"it holds views {views_text(fetched.views)} of {source.views}"
    )
