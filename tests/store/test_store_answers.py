"""A store's answers are the teacher's own, bit for bit, for every caller and order."""

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_writing
import torch
from numpy.typing import NDArray
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models.features import Answers
from prepkd.provenance.stores import check_pixels, check_store
from prepkd.runtime.devices import device_name
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings.f16 import F16
from prepkd.store.encodings.u8 import U8
from prepkd.store.layout import Layout
from prepkd.store.unfinished import work_fingerprint
from prepkd.teacher.cached import CachedFeatures, CachedTeacher
from prepkd.teacher.caching import FirstBatches, first_batches, plan_store, teacher_answers
from prepkd.teacher.forward_pass import SampleViews, raw_logits
from prepkd.teacher.online import OnlineTeacher
from prepkd.teacher.supply import Supply
from prepkd.views import ViewPlan
from prepkd.views.order import random
from store_checks import Example, reference_encoding, refused

CPU = torch.device("cpu")


@contextlib.contextmanager
def computing(example: Example) -> Iterator[None]:
    bf16 = example.settings.precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        yield


def direct(example: Example, view: int) -> NDArray[np.float32]:
    """Return the teacher's logits of one view, float32 (N, K), batched image by image; the last batch is filled with black."""
    images, plan, size = example.dataset.samples.images, example.dataset.plan, example.settings.batch_size
    rows = torch.from_numpy(plan.parameters(view))
    found = []
    for start in range(0, len(images), size):
        batch = torch.zeros(size, *images.shape[1:]).contiguous(memory_format=torch.channels_last)
        for place, sample in enumerate(range(start, min(start + size, len(images)))):
            batch[place] = plan.render(images[sample : sample + 1], rows[sample : sample + 1])[0]
        with computing(example):
            found.append(example.teacher(batch).float())
    return torch.cat(found)[: len(images)].numpy()


def test_shuffled_lookups_equal_the_direct_teacher(example: Example) -> None:
    store = example.store
    order = np.random.Generator(np.random.Philox(1)).permutation(store.views * store.samples)
    views, samples = order % store.views, order // store.views
    raw = np.stack([direct(example, view) for view in range(store.views)])
    encoded = [reference_encoding(one) for one in raw]
    expected = np.stack([offsets.astype(np.float32) + row_max[:, None] for offsets, row_max in encoded])
    assert np.array_equal(store.lookup(views, samples), expected[views, samples])
    # They differ from the raw logits by no more than the encoding's rounding.
    assert np.abs(store.lookup(views, samples) - raw[views, samples]).max() <= 2.0**-11 * np.ptp(raw)


def test_views_differ_and_precision_matters(example: Example) -> None:
    first, second = (direct(example, view) for view in (0, 1))
    assert not np.array_equal(first, second)
    other = "bf16" if example.settings.precision == "ieee" else "ieee"
    changed = replace(example, settings=example.settings.model_copy(update={"precision": other}))
    assert not np.array_equal(first, direct(changed, 0))


def test_an_answer_does_not_depend_on_its_neighbours(example: Example) -> None:
    samples, plan = example.dataset.samples, example.dataset.plan
    everyone, rows = samples.view_rows(plan, 0, slice(None))
    settings: dict[str, Any] = {"batch_size": example.settings.batch_size, "precision": example.settings.precision}
    whole = raw_logits(example.teacher, SampleViews(samples, plan, everyone, rows), **settings)
    for sample in (0, 5, 21):
        others = torch.full_like(samples.images, 255)
        others[sample] = samples.images[sample]
        elsewhere = torch.zeros_like(rows)
        elsewhere[sample] = rows[sample]
        changed = SampleViews(Samples(others, samples.labels), plan, everyone, elsewhere)
        alone = raw_logits(example.teacher, changed, **settings)
        assert torch.equal(alone[sample], whole[sample])


def test_a_teacher_answers_in_evaluation_mode(example: Example) -> None:
    """Batch norms use their running statistics and keep them, even if the teacher comes in training mode."""
    statistics = {key: value.clone() for key, value in example.teacher.state_dict().items()}
    expected = direct(example, 0)
    ask = partial(teacher_answers, example.teacher.train(), example.dataset, example.store.encoding, example.settings)
    assert torch.equal(ask(0, slice(0, 22))["row_max"], torch.from_numpy(expected.max(axis=1)))
    assert np.array_equal(
        online(replace(example, teacher=example.teacher.train()))(0)["row_max"].numpy(), expected.max(axis=1)
    )
    assert all(torch.equal(value, statistics[key]) for key, value in example.teacher.state_dict().items())


def test_the_teacher_only_ever_sees_one_batch_shape(example: Example) -> None:
    """Where kernels are chosen by shape, a short batch would change the last bits; on this machine it may not."""
    seen: list[tuple[torch.Size, bool, float]] = []

    class Watching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            channels_last = x.is_contiguous(memory_format=torch.channels_last)
            seen.append((x.shape, channels_last, x[2:].abs().sum().item()))
            return x.flatten(1)[:, :5]

    dataset = example.dataset
    logits = raw_logits(Watching(), SampleViews.of(dataset, 0, slice(None)), batch_size=4, precision="ieee")
    assert [(shape, channels_last) for shape, channels_last, _ in seen] == [((4, 1, 8, 8), True)] * 6
    assert seen[-1][2] == 0 < seen[0][2], "22 samples: the last batch's second half is black"
    assert len(logits) == 22


def test_any_part_that_starts_at_a_batch_equals_the_whole(example: Example) -> None:
    size = example.settings.batch_size
    ask = partial(teacher_answers, example.teacher, example.dataset, example.store.encoding, example.settings)
    whole = ask(2, slice(0, 22))
    for part in (slice(0, size), slice(size, 3 * size), slice(5 * size, 22)):
        found = ask(2, part)
        assert all(torch.equal(found[name], array[part]) for name, array in whole.items())


def online(example: Example) -> OnlineTeacher:
    settings = example.settings
    return OnlineTeacher(
        example.teacher,
        example.dataset,
        example.store.encoding,
        batch_size=settings.batch_size,
        precision=settings.precision,
    )


def same(ours: Answers, theirs: Answers) -> bool:
    assert set(ours) == set(theirs) == {"logits", "row_max"}
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("precision", "depth"), [("ieee", 1), ("bf16", 1), ("tf32", 0)])
def test_no_thread_switches_the_process_to_tf32(example: Example, precision: str, depth: int) -> None:
    """Computing features in TF32 beside a training would change its arithmetic: the switch is the process's."""
    features = CachedFeatures(Supply([], [], {}), {}, 8, precision)
    teacher = CachedTeacher(example.store, CPU, resident=False, resident_gib=0, features=features)
    assert teacher.prefetch_depth == depth


def test_streamed_slabs_equal_the_online_teacher(example: Example) -> None:
    cached = CachedTeacher(example.store, CPU, resident=False, resident_gib=0)
    for view in range(example.store.views):
        assert same(cached(view), online(example)(view))


def test_views_of_their_own_equal_the_online_teacher(example: Example) -> None:
    store = example.store
    cached = CachedTeacher(store, CPU, resident=True, resident_gib=1)
    for epoch in range(3):
        views = random(3, epoch, store.views, store.samples)
        assert len(set(views.tolist())) == store.views, "the example must mix views"
        found = cached(views)
        assert same(found, online(example)(views))
        slabs = [store.slab(view) for view in range(store.views)]
        for sample, view in enumerate(views):
            assert np.array_equal(found["logits"][sample].numpy(), slabs[view][0][sample])
            assert found["row_max"][sample].item() == slabs[view][1][sample]
    assert same(cached(1), CachedTeacher(store, CPU, resident=False, resident_gib=0)(1))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("cpu, 64 threads", "views are rendered differently; run cache-logits again"),
        (
            "cuda",
            "the store was written on cuda, this is {here}, and `resized-crop` rounds pixels differently there "
            "(docs/reference/views.md); train on that kind of device, or run cache-logits again",
        ),
    ],
)
def test_other_pixels_are_refused_with_both_devices_if_they_differ(made: str, reason: str, example: Example) -> None:
    store, samples = copy.copy(example.store), example.dataset.samples
    check_pixels(store, samples)
    described = store.attributes.model_dump()
    changed = {"pixels": {"sha256": "0" * 64}, "precision": {"device": made}}
    store.attributes = Attributes.model_validate(
        described | {name: described[name] | values for name, values in changed.items()}
    )
    found = described["pixels"]["sha256"][:12]
    expected = f"{store.url}: pixels.sha256 is {'0' * 12}, expected {found}; {reason}"
    assert refused(InputError, check_pixels, store, samples) == expected.format(here=device_name(CPU))


def test_a_store_larger_than_memory_is_refused(example: Example) -> None:
    assert example.store.nbytes == 3 * 22 * (2 * 5 + 4)
    limit = example.store.nbytes / 2**30
    CachedTeacher(example.store, CPU, resident=True, resident_gib=limit)
    text = refused(InputError, CachedTeacher, example.store, CPU, resident=True, resident_gib=limit / 2)
    assert text == (
        "distill.view_order is random, which needs the whole store in memory: "
        f"{example.store.url} takes 0.00 GiB, distill.resident_gib is {limit / 2:g}; raise it, or use cycle"
    )


def test_raw_logits_are_offsets_plus_row_max(example: Example) -> None:
    store = example.store
    assert (store.views, store.samples, store.classes) == (3, 22, 5)
    assert store.plan.fingerprint == example.dataset.plan.fingerprint
    for view in range(3):
        offsets, row_max = store.slab(view)
        assert (offsets.dtype, row_max.dtype) == (np.float16, np.float32)
        assert (offsets.max(axis=1) == 0).all()
        raw = store.logits(view)
        assert raw.dtype == np.float32
        assert np.array_equal(raw, offsets.astype(np.float32) + row_max[:, None])
    views, samples = np.array([2, 0, 2, 2]), np.array([21, 0, 3, 21])
    assert np.array_equal(store.lookup(views, samples)[1], store.logits(0)[0])
    assert np.array_equal(store.lookup(views, samples)[[0, 3]], store.logits(2)[[21, 21]])
    assert store.lookup(np.array([], int), np.array([], int)).shape == (0, 5)
    for view in (3, -1):
        with pytest.raises(IndexError):
            store.slab(view)


def test_teacher_error_is_the_share_that_ka_corrects(example: Example) -> None:
    labels = example.dataset.samples.labels.numpy()
    wrong = []
    for view in range(3):
        raw = direct(example, view)
        wrong.append(np.mean([row[label] < row.max() for row, label in zip(raw, labels, strict=True)]))
    assert example.store.summary["teacher_error_per_view"] == pytest.approx(wrong)
    assert example.store.summary["teacher_error"] == pytest.approx(np.mean(wrong))


def test_attributes_are_sorted_and_say_nothing_of_when_and_where(example: Example) -> None:
    def sorted_throughout(value: Any) -> bool:
        if isinstance(value, dict):
            return list(value) == sorted(value) and all(map(sorted_throughout, value.values()))
        return not isinstance(value, list) or all(map(sorted_throughout, value))

    attributes = json.loads((Path(example.store.url) / "zarr.json").read_text())["attributes"]
    assert list(attributes) == ["prepkd"]
    assert sorted_throughout(attributes["prepkd"])
    assert attributes["prepkd"] == example.store.attributes.model_dump()
    assert set(example.store.attributes.model_dump()) == {
        *("dataset", "encoding", "fingerprints", "format", "measured", "pixels"),
        *("precision", "split", "teacher", "views"),
    }
    text = json.dumps(attributes).lower()
    assert not any(word in text for word in ("time", "date", "host", "user", "/", "\\"))


def test_the_fingerprint_of_the_work_covers_all_that_changes_bytes(example: Example) -> None:
    inputs = {"dataset": "noise", "dataset_fingerprint": "d", "split_fingerprint": "5", "device": "cpu"}
    card = {"name": "large", "model": "convnet4", "weights_fingerprint": "e", "preprocessing": {"mean": [0.3]}}

    def work(settings: dict[str, Any], **changes: Any) -> str:
        card_now = card | {key: value for key, value in changes.items() if key in card}
        inputs_now = inputs | {key: value for key, value in changes.items() if key in inputs}
        now = example.settings.model_copy(update=settings)
        layout, attributes = plan_store(now, replace(example.dataset, origin=inputs_now), card_now, first)
        return work_fingerprint(attributes, layout)

    first = first_batches(example.teacher, example.dataset, example.settings)
    base = work({})
    assert work({}) == base
    others = [
        *(
            work({key: value})
            for key, value in {"precision": "tf32", "batch_size": 2, "chunk": 4, "encoding": "u8"}.items()
        ),
        *(work({}, **{key: {} if key == "preprocessing" else "?"}) for key in (*inputs, *card)),
    ]
    assert len({base, *others}) == len(others) + 1


def test_estimate_counts_pending_batches() -> None:
    first = FirstBatches(torch.zeros(8, 5), torch.zeros(8, dtype=torch.long), seconds=2.0)
    # A whole chunk of 8 and a short one of 6 take two batches of 4 each: a short batch is padded to full size.
    assert first.estimate(store_writing.LAYOUT, [(0, 1), (2, 2)], 4) == 8


def test_a_trial_warms_up_and_times_the_first_batches(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 108.0])
    monkeypatch.setattr("prepkd.teacher.caching.time.perf_counter", lambda: next(clock))
    first = first_batches(example.teacher, example.dataset, example.settings)
    assert first.seconds == 2, "8 s for 16 samples: 4 batches"
    assert np.array_equal(first.raw.numpy(), direct(example, 0)[:16])
    assert torch.equal(first.labels, example.dataset.samples.labels[:16])


def test_check_store_names_the_field_and_both_values(example: Example) -> None:
    plan = example.dataset.plan
    right: dict[str, Any] = {"plan": plan, "dataset": "5" * 64, "encoding": F16(5)}
    precision = example.settings.precision
    right |= {"teacher": "large", "precision": precision, "batch_size": example.settings.batch_size}
    check_store(example.store, **right)

    def other(recipe: Any = plan.recipe, views: Any = 3, seed: int = 7, samples: int = 22) -> dict[str, Any]:
        return {"plan": ViewPlan(recipe, views, seed, samples)}

    crop = "[{'crop': {'padding': 1}}, {'flip': {}}]"
    for change, field, found, expected in [
        ({"dataset": "a" * 64}, "dataset.split_fingerprint", "5" * 12, "a" * 12),
        ({"encoding": F16(6)}, "dataset.classes", 5, 6),
        ({"encoding": U8(5)}, "encoding.name", "f16", "u8"),
        ({"teacher": "small"}, "teacher.name", "large", "small"),
        ({"precision": "tf32"}, "precision.arithmetic", precision, "tf32"),
        ({"batch_size": 7}, "precision.batch_size", 4, 7),
        (other(recipe=["flip"]), "views.recipe", crop, "[{'flip': {}}]"),
        (other(views=2), "views.views", 3, 2),
        (other(views="all"), "views.views", 3, "all"),
        (other(seed=8), "views.seed", 7, 8),
        (other(samples=21), "views.samples", 22, 21),
    ]:
        remedy = f"change the settings, or run `prepkd cache-logits {(right | change)['teacher']}` again"
        text = refused(InputError, check_store, example.store, **right | change)
        assert text == f"{example.store.url}: {field} is {found}, expected {expected}; {remedy}"


def test_without_augmentation_there_are_no_parameters(tmp_path: Path) -> None:
    layout = Layout(ViewPlan([], "all", 0, 22), F16(5), 8)
    store_writing.write(tmp_path / "plain.zarr", layout=layout)
    store = LogitStore.open(tmp_path / "plain.zarr")
    assert not (tmp_path / "plain.zarr" / "params").exists()
    assert np.array_equal(store.slab(0)[0], store_writing.answer(0, slice(0, 22))["logits"])
