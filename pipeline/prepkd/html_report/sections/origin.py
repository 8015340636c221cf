"""Provenance: data, teachers, stores, students, commit, versions."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version

from prepkd.display.text import counted
from prepkd.errors import InputError
from prepkd.html_report.parts import Facts, PageSection
from prepkd.html_report.results import Results
from prepkd.models.checkpoint import load_card
from prepkd.settings.yaml import yaml_value

PACKAGES = ("prepkd", "torch", "torchvision", "numpy", "zarr", "h5py", "dvc")
Fact = tuple[str, list[str]]


def origin(results: Results) -> PageSection:
    """The origin of the results: data, teachers, stores, commit, versions; a note for each missing one."""
    parts = [
        Facts("Data", [*_data(results)]),
        Facts("Teachers and their stores", [*_teachers(results)]),
        Facts("Students", [*_students(results)]),
        Facts("Software", [*_software()]),
        Facts("Settings of the students", _settings(results), folded=True),
    ]
    lead = "Fingerprints are SHA-256 of canonical content; equal inputs have equal ones on every machine."
    return PageSection("provenance", "Provenance", lead, parts)


def _data(results: Results) -> Iterator[Fact]:
    try:
        info = results.info
    except InputError as error:
        yield "data", [str(error)]
        return
    yield "data set", [f"{info.dataset}, {len(info.class_names)} classes"]
    yield "file", [str(results.data), f"fingerprint {info.fingerprint}"]
    yield "images", ["of several sizes" if info.image_shape is None else " x ".join(map(str, info.image_shape))]
    yield (
        "splits",
        [f"{name}: {count:,} samples, {info.split_fingerprints[name][:12]}" for name, count in info.splits.items()],
    )


def _teachers(results: Results) -> Iterator[Fact]:
    for name, folder in results.teachers.items():
        try:
            card = load_card(folder)
            given = card.get("weights_from")
            source = [f"given weights: {given}"] if given else []
            yield f"teacher {name}", [str(card["model"]), f"weights {card['weights_fingerprint']}", *source]
        except InputError as error:
            yield f"teacher {name}", [str(error)]
    for name, url in results.stores.items():
        try:
            store = results.opened[name]
        except InputError as error:
            yield f"store {name}", [str(error)]
            continue
        made = store.attributes
        yield (
            f"store {name}",
            [
                f"{url}: {counted(store.views, 'view')} x {store.samples:,} samples x {store.classes} classes",
                f"encoding {made.encoding.name}, {made.precision.arithmetic}, {made.precision.device}",
                f"manifest {store.manifest_sha256}",
                f"teacher's error on these views {store.summary['teacher_error']:.2%}",
            ],
        )


def _students(results: Results) -> Iterator[Fact]:
    yield "method", [results.settings.method]
    for seed, folder in results.students.items():
        try:
            card = load_card(folder, "run `prepkd distill`")
            yield f"seed {seed}", [f"{card['model']}, weights {card['weights_fingerprint']}"]
        except InputError as error:
            yield f"seed {seed}", [str(error)]


def _software() -> Iterator[Fact]:
    yield "commit", [commit()]
    yield "versions", [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    yield "system", [f"{platform.system()} {platform.machine()}"]


def commit() -> str:
    """The commit of the project, marked if tracked files have changes; a note if there is no commit."""
    if not shutil.which("git"):
        return "unknown: git is not installed"
    found = _git("rev-parse", "HEAD")
    if found is None:
        return "none: not a git repository with a commit"
    return found + (" with changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


def _settings(results: Results) -> list[Fact]:
    """The settings as YAML, which can be pasted into params.yaml."""
    return [(key, [yaml_value(value)]) for key, value in sorted(results.settings.used(but=frozenset()).items())]
