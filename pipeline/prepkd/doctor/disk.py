"""Check that the disk has room for the planned stores."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from prepkd.costs.cost import Cost, Rates, StoreCost
from prepkd.costs.planned import DataSizes, project_cost
from prepkd.display.text import size
from prepkd.doctor.check import Check, error, ok, warning
from prepkd.errors import InputError
from prepkd.project.params import Params
from prepkd.runtime.services import is_remote

NAME = "disk for the store"
LESS = "smaller: cache.encoding: u8 or topk, fewer cache.views; or another cache.root"


def store_room(params: Params, data: Path, stores: Mapping[str, str], *, copied_by_dvc: bool) -> Check:
    """Whether the disk has room for the missing bytes of the settings' stores.

    `stores` are the paths or URLs of the teachers' logits by name. `copied_by_dvc`: DVC keeps a copy of every store in its
    cache. Without prepared data the bytes are not known.
    """
    if is_remote(params.cache.root):
        return ok(NAME, f"{params.cache.root} is remote, and is not looked at")
    if not data.is_file():
        return warning(
            NAME, f"not known: no {data}", "run `prepkd prepare`, or `prepkd plan --samples ... --classes ...`"
        )
    try:
        cost = project_cost(params, DataSizes(), Rates(), data)
    except InputError as problem:
        return error(NAME, str(problem), "`prepkd plan` says the same; change the settings")
    local = list(planned(cost, params, stores))
    needed = sum(one.bytes for one, _ in local)
    held = sum(min(one.bytes, held_bytes(place)) for one, place in local)
    return room(needed, held, free_bytes(Path(params.cache.root)), copied=copied_by_dvc, compressed=cost.compressed)


def planned(cost: Cost, params: Params, stores: Mapping[str, str]) -> Iterator[tuple[StoreCost, Path]]:
    """The planned stores on this machine's disk, each with its folder."""
    for one in cost.stores:
        url = stores[one.teacher] if one.entry is None else params.cache.feature_url(one.teacher, one.entry)
        if not is_remote(url):
            yield one, Path(url)


def room(needed: int, held: int, free: int, *, copied: bool, compressed: bool = False) -> Check:
    """Whether `needed` bytes minus the `held` ones fit into the `free` ones; with `copied`, also DVC's copy."""
    left = max(0, needed - held)
    found = f"{'at most ' if compressed else ''}{size(needed)} planned, {size(held)} there, {size(free)} free"
    if left > free:
        return error(NAME, f"{found}: {size(left - free)} missing", LESS)
    if copied and 2 * left > free:
        found += f"; with the copy in DVC's cache {size(2 * left - free)} missing, unless the disk has reflinks"
        return warning(NAME, found, f"dvc config cache.type hardlink,copy; {LESS}")
    return ok(NAME, found)


def held_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if it does not exist."""
    held = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process may replace the store meanwhile
                held += Path(inside, name).stat().st_size
    return held


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    above = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
    return shutil.disk_usage(os.fspath(above)).free
