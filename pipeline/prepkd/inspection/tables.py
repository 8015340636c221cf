"""What `prepkd inspect` prints: the report as tables that fit a narrow terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

WORST = 5
Section = tuple[Text, Table]


def tables(report: dict[str, Any]) -> Group:
    """Every table that there are figures for."""
    return Group(*_tables(report))


def _tables(report: dict[str, Any]) -> Iterator[RenderableType]:
    yield from _pairs("What it is", _what(report["facts"]))
    if measured := report["facts"]["attributes"].get("measured"):
        yield from _measured(measured)
    yield from _pairs("Where it came from", _whence(report["facts"]))
    if "teacher_error" in report:
        yield from _pairs("Teacher error per view, all views", _views(report["teacher_error"]))
    if "class_error" in report:
        yield from _classes(report["class_error"], report["views_read"])
    if "ka" in report:
        title = f"What KA would change (the teacher is wrong), {views_text(report)}"
        yield from _pairs(title, _adjustment(report["ka"]))
    if "confidence" in report:
        yield from _histogram(report, "confidence", "Confidence (largest softmax)")
        yield from _histogram(report, "entropy", "Entropy, nats")
    if "dtd" in report:
        yield from _temperatures(report)
    for line in report["left_out"]:
        yield Text(f"\nLeft out: {line}")


def views_text(report: dict[str, Any]) -> str:
    """Which views were read, as `views 0, 3, 6` or `all 9 views`."""
    read, there = report["views_read"], report["facts"]["views"]
    if len(read) == there:
        return f"all {there} views"
    return f"{len(read)} of {there} views ({_ranges(read)})"


def _ranges(numbers: list[int]) -> str:
    """Numbers in ascending order with runs drawn together: `0-3, 6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _what(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    attributes, chunks, row = facts["attributes"], facts["chunks"], facts["bytes_per_row"]
    yield "store", facts["store"]
    there = f"{chunks['there']:,} of {chunks['total']:,} chunks are there"
    if not facts["finished"]:
        yield "state", f"UNFINISHED: {there}; run cache-logits again to go on"
    elif chunks["there"] < chunks["total"]:
        views = f"views {_ranges(facts['views_there'])}" if facts["views_there"] else "no views"
        yield "state", f"fetched in part: {views} of {facts['views']}; {there}"
    else:
        yield "state", f"finished: {there}"
    yield "size", f"{facts['views']:,} views x {facts['samples']:,} samples x {facts['classes']:,} classes"
    settings = [f"{key} {value:g}" for key, value in attributes["encoding"].items() if key != "name"]
    yield "encoding", ", ".join([attributes["encoding"]["name"], *settings])
    yield "precision", _settings(attributes.get("precision", {}), "arithmetic", "batch_size")
    yield "format", str(attributes["format"])
    stated = "not stated" if row["stated"] is None else f"{row['stated']:.1f} stated"
    on_disk = "none on disk" if row["on_disk"] is None else f"{row['on_disk']:.1f} on disk"
    yield "bytes a (view, sample)", f"{stated}, {on_disk}"
    yield "on disk", f"{facts['bytes']:,} bytes in {facts['files']:,} files"


def _measured(measured: dict[str, Any]) -> Section:
    rows, flips = measured["rows"], measured["argmax_flips"]
    table = _table()
    for column in ("tau", "KL, mean", "KL, max"):
        table.add_column(column, justify="right")
    for tau in sorted(measured["kl_mean"], key=float):
        table.add_row(tau, f"{measured['kl_mean'][tau]:.2e}", f"{measured['kl_max'][tau]:.2e}")
    return _titled(f"What the encoding changes, measured on {rows:,} rows: {flips:,} argmax flips", table)


def _whence(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    attributes = facts["attributes"]
    dataset, teacher, views = attributes["dataset"], attributes["teacher"], attributes["views"]
    yield "dataset", f"{dataset['name']}, split {attributes['split']}"
    yield "", f"file {dataset['fingerprint'][:12]}, split {dataset['split_fingerprint'][:12]}"
    yield "teacher", f"{teacher['name']}, model {teacher['model']}"
    yield "weights", teacher["weights_fingerprint"][:12] if teacher.get("weights_fingerprint") else "not stated"
    if given := facts.get("weights_from"):
        known = given.get("source") or f"{given['file']}, sha256 {given['sha256'][:12]}, format {given['format']}"
        yield "weights from", known
    if source := teacher.get("source"):
        yield "imported from", f"{source['file']}, sha256 {source['sha256'][:12]}"
    preprocessing = teacher.get("preprocessing") or {}
    for key, values in preprocessing.items():
        yield f"preprocessing {key}", ", ".join(f"{v:g}" for v in values) if isinstance(values, list) else str(values)
    yield "view recipe", "; ".join(map(_step, views["recipe"])) or "none: the images as they are"
    yield "view plan", f"{views['views']} views, seed {views['seed']}"
    yield "device", _settings(attributes.get("precision", {}), "device")
    prints = attributes.get("fingerprints", {})
    yield "fingerprints", "\n".join(f"{key} {value[:12]}" for key, value in sorted(prints.items()))
    if unverified := attributes.get("unverified"):
        yield "UNVERIFIED", "\n".join(map(str, unverified)) if isinstance(unverified, list) else str(unverified)


def _settings(section: dict[str, Any], *keys: str) -> str:
    """The settings that are known: an imported store's are not."""
    known = {key: section[key] for key in keys if section.get(key) is not None}
    return ", ".join(f"batches of {v}" if k == "batch_size" else str(v) for k, v in known.items()) or "not stated"


def _step(step: str | dict[str, Any]) -> str:
    if isinstance(step, str):
        return step
    ((name, settings),) = step.items()
    return " ".join([name, *(f"{key} {value}" for key, value in (settings or {}).items())])


def _views(error: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("min", "median", "mean", "max"):
        at = f", view {error['per_view'].index(error[key])}" if key in ("min", "max") else ""
        yield key, f"{error[key]:.2%}{at}"


def _classes(errors: list[dict[str, Any]], views: list[int]) -> Section:
    table = _table()
    table.add_column("class", overflow="fold")
    table.add_column("error", justify="right")
    table.add_column("most often taken for", overflow="fold")
    for row in errors[:WORST]:
        table.add_row(row["class"], f"{row['error']:.2%}", row["taken_for"] or "")
    worst = f", the worst {WORST} of {len(errors)}" if len(errors) > WORST else ""
    return _titled(f"Teacher error per class{worst}, over {_count(len(views), 'view')}", table)


def _adjustment(ka: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def share(count: int, of: int) -> str:
        return f"{count:,} of {of:,} ({count / of:.2%})"

    yield "(view, sample) rows", share(ka["rows_wrong"], ka["rows"])
    yield "samples, in any view", share(ka["samples_wrong_in_a_view"], ka["samples"])
    yield "samples, in every view", share(ka["samples_wrong_in_all_views"], ka["samples"])


def _histogram(report: dict[str, Any], name: str, title: str) -> Section:
    """Ten bins, two of the report's each, so that they fit a screen."""
    found = report[name]
    taus = [tau for tau in found if tau != "edges"]
    means = ", ".join(f"{found[tau]['mean']:.3f} at tau {tau}" for tau in taus)
    table = _table()
    table.add_column("from - to")
    for tau in taus:
        table.add_column(f"tau {tau}", justify="right")
        table.add_column("")
    edges = found["edges"][::2]
    for low, high, place in zip(edges, edges[1:], range(0, 2 * len(edges), 2), strict=False):
        cells = []
        for tau in taus:
            counts = found[tau]["histogram"]
            share = sum(counts[place : place + 2]) / sum(counts)
            cells += [f"{share:.1%}", "█" * round(10 * share)]
        table.add_row(f"{low:.2f} - {high:.2f}", *cells)
    return _titled(f"{title}, {views_text(report)}; mean {means}", table)


def _temperatures(report: dict[str, Any]) -> Section:
    dtd, settings = report["dtd"], report["dtd"]["settings"]
    table = _table()
    title = (
        f"Temperatures under DTD for {dtd['student']}, {views_text(report)}; tau_0 {settings['tau_0']:g}, clamped to "
        f"{settings['tau_min']:g} - {settings['tau_max']:g}; the weights' mean is over batches of {dtd['batch_size']}"
    )
    table.add_column("")
    for method in dtd["methods"]:
        key = method.removeprefix("dtd-")
        table.add_column(f"{method}\n" + "\n".join(f"{k} {v:g}" for k, v in settings[key].items()), justify="right")
    for label, key, form in (
        ("min", "min", ".3f"),
        ("mean", "mean", ".3f"),
        ("max", "max", ".3f"),
        ("held by the floor", "at_floor", ".2%"),
        ("held by the ceiling", "at_ceiling", ".2%"),
    ):
        table.add_row(label, *(format(values[key], form) for values in dtd["methods"].values()))
    return _titled(title, table)


def _pairs(title: str, rows: Iterator[tuple[str, str]]) -> Section:
    table = _table()
    table.show_header = False
    table.add_column(style="dim", max_width=22)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, Text(value))
    return _titled(title, table)


def _titled(title: str, table: Table) -> Section:
    # Not the table's own title: that one is wrapped to the table's width.
    return Text(f"\n{title}", style="bold"), table


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
