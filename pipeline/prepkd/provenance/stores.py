"""Checks that a store is the expected one: its teacher, data, views, encoding, pixels."""

from collections.abc import Set
from typing import Any

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.runtime.devices import device_name
from prepkd.store import AnswerStore, LogitStore
from prepkd.store.attributes import PixelsAttributes
from prepkd.store.encodings import LogitEncoding
from prepkd.store.fetch import views_text
from prepkd.teacher.caching import pixel_hash
from prepkd.views import ViewPlan


def check_store(
    store: LogitStore,
    *,
    teacher: str,
    plan: ViewPlan,
    dataset: str,
    encoding: LogitEncoding,
    precision: str,
    batch_size: int,
) -> None:
    """Refuse a store of another teacher (by name), other samples (the split's fingerprint), plan, encoding or precision.

    The precision of an imported store is unknown and not compared. Raises InputError.
    """
    found = store.attributes
    views, kept = found.views.model_dump(), found.encoding.model_dump()
    wanted = plan.describe()
    computed = {
        "precision.arithmetic": (found.precision.arithmetic, precision),
        "precision.batch_size": (found.precision.batch_size, batch_size),
    }
    refuse_differences(
        {
            "teacher.name": (found.teacher.name, teacher),
            "dataset.split_fingerprint": (found.dataset.split_fingerprint, dataset),
            "dataset.classes": (found.dataset.classes, encoding.classes),
            **{f"views.{key}": (views.get(key), wanted.get(key)) for key in dict.fromkeys([*wanted, "strong"])},
            **{f"encoding.{key}": (kept.get(key), value) for key, value in encoding.describe().items()},
            **(computed if found.precision.arithmetic != "unknown" else {}),
        },
        store.url,
        f"change the settings, or run `prepkd cache-logits {teacher}` again",
    )


def check_teacher(store: AnswerStore, card: dict[str, Any], where: object, remedy: str | None = None) -> None:
    """Refuse a checkpoint other than the one from which the store was made; raises InputError."""
    made = store.attributes.teacher
    refuse_differences(
        {
            "teacher.weights_fingerprint": (made.weights_fingerprint, card["weights_fingerprint"]),
            "teacher.model": (made.model, card["model"]),
            "teacher.preprocessing": (made.preprocessing, card["preprocessing"]),
        },
        f"{store.url} against {where}",
        remedy or f"run `prepkd {store.command} {made.name}` again",
    )


def check_data(
    store: AnswerStore, fingerprint: str, classes: int, samples: int, where: object, remedy: str | None = None
) -> None:
    """Refuse samples other than the store's, by the split's fingerprint and both counts; raises InputError."""
    made = store.attributes.dataset
    refuse_differences(
        {
            "dataset.split_fingerprint": (made.split_fingerprint, fingerprint),
            "dataset.classes": (made.classes, classes),
            "views.samples": (store.samples, samples),
        },
        f"{store.url} against {where}",
        remedy or "name the file that the store was made from with --data",
    )


def check_num_classes(store: AnswerStore, card: dict[str, Any], where: object) -> None:
    """Refuse a checkpoint with another number of classes; raises InputError."""
    refuse_differences(
        {"num_classes": (card["num_classes"], store.attributes.dataset.classes)},
        f"{where} against {store.url}",
        "name the folder of the store's teacher with --teacher",
    )


def check_pixels(store: AnswerStore, samples: Samples) -> None:
    """Refuse a store whose views this version or this kind of device renders differently; raises InputError."""
    pixels = recorded_pixels(store)
    found = pixel_hash(store.plan, samples, pixels.views, pixels.samples)
    refuse_differences(
        {"pixels.sha256": (pixels.sha256, found)},
        store.url,
        _other_rendering(store.attributes.precision.device, device_name(samples.device), store.command),
    )


def _other_rendering(made: str, here: str, command: str) -> str:
    """Say why views rendered on two devices, by name, differ, and what to do."""
    if made == "unknown" or made.split(",")[0] == here.split(",")[0]:
        return f"views are rendered differently; run {command} again"
    return (
        f"the store was written on {made}, this is {here}, and `resized-crop` rounds pixels differently there "
        f"(docs/reference/views.md); train on that kind of device, or run {command} again"
    )


def recorded_pixels(store: AnswerStore) -> PixelsAttributes:
    """The hash of rendered pixels that a store records; raises InputError if it has none."""
    if store.attributes.pixels is None:
        raise InputError(f"{store.url}: records no hash of its pixels; run {store.command} again")
    return store.attributes.pixels


def check_views(store: AnswerStore, shown: Set[int]) -> None:
    """Refuse a partly fetched store that lacks a view needed for training; raises InputError."""
    if absent := sorted(shown - set(store.present)):
        raise InputError(
            f"{store.url}: {len(absent)} of the {len(shown)} views that training shows were not fetched, view "
            f"{absent[0]} first; `prepkd fetch-views URL --select {views_text(absent)}` brings them"
        )
