"""fetch-views: a store at a URL or path -> data/logits/<its name>, all views or some of them."""

from typing import Annotated

import typer
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._console import advance, console, progress, say, show
from prepkd.stages._options import AsJson, Quiet
from prepkd.store import fetch


def fetch_views(
    url: Annotated[str, typer.Argument(metavar="URL", help="A store: s3://bucket/large.zarr, or a path.")],
    sha256: Annotated[
        str | None,
        typer.Option(help="The manifest's SHA-256, as cache-logits and inspect state it; another is refused."),
    ] = None,
    select: Annotated[
        str | None, typer.Option(metavar="VIEWS", help="The views to bring, as 0:8 or 0,4:6; all if not given.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Where to: a path or URL; data/logits/NAME.zarr or data/features/TEACHER/NAME.zarr, as at URL."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Copy a store, or some of its views, to `data/logits/`: a partial copy can train on the views that it holds.

    A store of features goes to `data/features/`. Stopped? Run it again: existing files are checked and kept. Run it with other
    views to add them.
    """
    name = fetch.copy_name(url) if to is None else ""
    source = fetch.open_source(url, sha256)
    target = f"{fetch.copy_folder(source)}/{name}" if to is None else to
    with progress() as bar:
        task = bar.add_task(source.attributes.teacher.name, start=False, total=None, visible=False, note="files")

        def start(files: int) -> None:
            bar.update(task, total=files, visible=True)
            bar.start_task(task)

        fetched = fetch.fetch_views(
            source,
            target,
            select,
            scratch_root(),
            on_wait=say,
            on_start=start,
            on_file=lambda: advance(bar, task, "files"),
        )
    console.print(
        f"{fetched.place}: {fetched.files} files, {fetched.bytes:,} bytes fetched, {fetched.kept} files were there; "
        f"it holds views {fetch.views_text(fetched.views)} of {fetched.total}"
    )
    if as_json:
        counts = {"files": fetched.files, "bytes": fetched.bytes, "files_kept": fetched.kept}
        show({"store": str(fetched.place), **counts, "views": fetch.views_text(fetched.views), "of": fetched.total})
