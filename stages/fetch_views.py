"""fetch-views: a store at a URL or path -> data/logits/<its name>, whole or some views of it."""

from typing import Annotated

import typer
from prepkd.errors import InputError
from prepkd.stages._console import advance, console, progress, say
from prepkd.stages._project import scratch_root
from prepkd.store import AnswerStore, FeatureStore, fetch


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
) -> None:
    """Copy a store, or some of its views, to `data/logits/`: a partial copy can train on the views that it holds.

    Stopped? Run it again: what is there is checked and kept. Call it with other views to add them.
    """
    name = url.rstrip("/").rsplit("/", 1)[-1]
    if to is None and name in ("", ".", ".."):
        raise InputError(f"{url}: has no name for the copy; choose its place with --to")

    def target(source: AnswerStore) -> str:
        of_features = isinstance(source, FeatureStore)
        folder = f"data/features/{source.attributes.teacher.name}" if of_features else "data/logits"
        return f"{folder}/{name}" if to is None else to

    with progress() as bar:
        task = bar.add_task("", start=False, total=None, visible=False, note="files")

        def start(source: AnswerStore, files: int) -> None:
            bar.update(task, description=source.attributes.teacher.name, total=files, visible=True)
            bar.start_task(task)

        fetched = fetch.fetch_views(
            url,
            target,
            select,
            scratch_root(),
            sha256=sha256,
            on_wait=say,
            on_start=start,
            on_file=lambda: advance(bar, task, "files"),
        )
    console.print(
        f"{fetched.place}: {fetched.files} files, {fetched.bytes:,} bytes fetched, {fetched.kept} files were there; "
        f"it holds views {fetch.views_text(fetched.views)} of {fetched.total}"
    )
