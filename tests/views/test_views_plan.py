"""View plans: golden values, slices, completeness, uniformity, and errors."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.runtime.streams import Purpose, raw_words
from prepkd.views import AUGMENTATIONS, ViewPlan, parse_recipe
from prepkd.views.order import cycle, random, sample_order

CIFAR: list[Any] = [{"crop": {"padding": 4}}, "flip"]
RECIPES: dict[str, list[Any]] = {
    "cifar": CIFAR,
    "digits": [{"crop": {"padding": 1}}],
    "flips": ["flip"],
    "twice": ["flip", {"crop": {"padding": 2}}, "flip"],
    "wide": [{"crop": {"padding": 100}}],
    "nothing": [],
}
quick = settings(deadline=None, max_examples=80, derandomize=True)


# Golden values: a finished store stays readable only as long as these hold.


def test_golden_sampled_plan() -> None:
    plan = ViewPlan(CIFAR, 32, 7, 1000)
    assert plan.parameters(0, slice(0, 4)).tolist() == [[4, 5, 0], [1, 1, 1], [6, 0, 0], [1, 5, 1]]
    last = [[6, 4, 1], [7, 3, 1], [5, 1, 1], [1, 3, 1], [5, 3, 0]]
    assert plan.parameters(3, slice(995, 1000)).tolist() == last
    assert plan.fingerprint == "fd7e4d2fab1ba46560aa43601b17760f0d57031d018f5bfaa3ae70ce8628333a"


def test_golden_exhaustive_plan() -> None:
    plan = ViewPlan(CIFAR, "all", 7, 1000)
    assert plan.views == 162
    assert plan.parameters(0, slice(0, 5)).tolist() == [[5, 1, 0], [1, 1, 0], [7, 2, 0], [1, 2, 1], [1, 7, 0]]
    last = [[7, 4, 1], [6, 0, 0], [0, 3, 0], [5, 2, 0], [5, 2, 0]]
    assert plan.parameters(161, slice(995, 1000)).tolist() == last
    assert plan.fingerprint == "790862f16b60f366edbc6858bf34ca1ec5d155368c1a4210e9c313d1d31149cc"


def test_golden_orders() -> None:
    assert sample_order(5, 0, 12).tolist() == [5, 4, 10, 3, 7, 0, 8, 6, 9, 1, 2, 11]
    assert sample_order(5, 1, 12).tolist() == [9, 8, 6, 7, 0, 1, 4, 10, 3, 5, 2, 11]
    assert sample_order(5, 0, 12, Purpose.TEACHER_ORDER).tolist() == [8, 4, 6, 7, 5, 9, 0, 3, 1, 11, 2, 10]
    assert [cycle(seed, 0, 162, 10) for seed in range(6)] == [18, 85, 127, 81, 114, 90]
    assert [cycle(5, epoch, 9, 10) for epoch in range(10)] == [5, 6, 7, 8, 0, 1, 2, 3, 4, 5]
    assert random(5, 0, 162, 10).tolist() == [144, 141, 63, 7, 14, 20, 47, 132, 90, 25]
    assert random(5, 3, 9, 10).tolist() == [3, 3, 3, 6, 6, 2, 7, 7, 1, 8]


# A second implementation of the stream


def philox4x64(key: tuple[int, int], block: int) -> list[int]:
    """Return four words of Philox4x64-10 (Salmon et al. 2011); NumPy increments the counter before drawing: blocks start at 1."""
    mask = 2**64 - 1
    k0, k1 = key
    counter = block + 1
    c0, c1, c2, c3 = (counter >> shift & mask for shift in (0, 64, 128, 192))
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c0, 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c2, 2**64)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


def words(seed: int, stream: int, start: int, count: int) -> list[int]:
    """Return words of a stream; a purpose's stream has the purpose as its highest byte, plus an index."""
    return [philox4x64((seed, stream), word // 4)[word % 4] for word in range(start, start + count)]


@quick
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 9))
def test_raw_words_are_philox(seed: int, stream: int, start: int, count: int) -> None:
    assert raw_words(seed, stream, start, count).tolist() == words(seed, stream, start, count)


def test_a_plan_is_its_definition() -> None:
    """The rule of docs/reference/views.md in Python's integers: the word's high half times the range, then the high half."""

    def below(word: int, limit: int) -> int:
        return (word >> 32) * limit >> 32

    def row(view: int, sample: int) -> int:
        """Return the table's row: x and k - x swap if the word and 2 max(x, k - x) + 1 share an odd number of bits."""
        first, *rounds = (words(11, 2 * byte + number, sample, 1)[0] for number in range(13))
        x = (view + below(first, 162)) % 162
        for word in rounds:
            other = (below(word, 162) - x) % 162
            x = other if (word & (2 * max(x, other) + 1)).bit_count() % 2 else x
        return x

    byte = 2**56
    sampled, table = ViewPlan(CIFAR, 5, 11, 40), ViewPlan(CIFAR, "all", 11, 40)
    lesson = ViewPlan(CIFAR, 5, 11, 40, purpose=Purpose.TEACHER_VIEWS)
    for plan, purpose in ((sampled, 0x01), (lesson, 0x10)):
        for view in (0, 4):
            drawn = [words(11, purpose * byte + view, 3 * i, 3) for i in range(40)]
            rows = [[below(w, n) for w, n in zip(one, (9, 9, 2), strict=True)] for one in drawn]
            assert plan.parameters(view).tolist() == rows
    for view in (0, 4, 161):
        shown = [row(view, sample) for sample in range(40)]
        assert table.parameters(view).tolist() == [[n // 18, n // 2 % 9, n % 2] for n in shown]
    for purpose, order in ((0x05, sample_order(11, 6, 40)), (0x11, sample_order(11, 6, 40, Purpose.TEACHER_ORDER))):
        keys = words(11, purpose * byte + 6, 0, 40)
        assert order.tolist() == sorted(range(40), key=lambda i: keys[i])
    assert random(11, 6, 162, 40).tolist() == [below(word, 162) for word in words(11, 4 * byte + 6, 0, 40)]
    assert cycle(11, 6, 162, 40) == (6 + below(words(11, 3 * byte, 0, 1)[0], 162)) % 162


# Slices


@pytest.mark.parametrize("views", [12, "all"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_any_slice_of_a_plan_is_the_slice_of_the_whole(recipe: list[Any], views: Any) -> None:
    plan = ViewPlan(recipe, views, 3, 53)
    chosen = range(min(plan.views, 12))
    whole = np.stack([plan.parameters(view) for view in chosen])
    assert whole.shape == (len(chosen), 53, len(plan.ranges)) and whole.dtype == plan.dtype

    @quick
    @given(st.data())
    def check(data: st.DataObject) -> None:
        view = data.draw(st.sampled_from(chosen))
        part = data.draw(st.slices(53))
        assert np.array_equal(plan.parameters(view, part), whole[view, part])
        indices = np.array(data.draw(st.lists(st.integers(0, 52), max_size=20)), dtype=np.int64)
        assert np.array_equal(plan.parameters(view, indices), whole[view, indices])
        each = np.array([data.draw(st.sampled_from(chosen)) for _ in indices], dtype=np.int64)
        got = plan.parameters(each, indices)
        assert np.array_equal(got, whole[each, indices]) and got.dtype == plan.dtype

    check()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("views", [12, "all"])
def test_the_indices_type_does_not_matter(views: Any, dtype: type) -> None:
    plan = ViewPlan(CIFAR, views, 3, 53)
    v, i = np.array([0, 11, 5]), np.array([52, 0, 7])
    assert np.array_equal(plan.parameters(v.astype(dtype), i.astype(dtype)), plan.parameters(v, i))


def test_more_samples_only_append() -> None:
    for views in (12, "all"):
        small, large = (ViewPlan(CIFAR, views, 3, n) for n in (20, 50))  # type: ignore[arg-type]
        assert np.array_equal(small.parameters(5), large.parameters(5)[:20])


@pytest.mark.parametrize("views", [5, "all"])
@pytest.mark.parametrize("name", ["cifar", "digits", "nothing"])
def test_outside_the_plan_is_an_index_error(name: str, views: Any) -> None:
    plan = ViewPlan(RECIPES[name], views, 0, 10)
    for samples in (np.array([10]), np.array([-1]), np.array([0, 99])):
        with pytest.raises(
            IndexError, match=f"samples {samples.min()} to {samples.max()} are outside the plan's 10 samples"
        ):
            plan.parameters(0, samples)
    for view in (-1, plan.views):
        with pytest.raises(IndexError, match=f"views {view} to {view} are outside the plan's {plan.views} views"):
            plan.parameters(view)
    with pytest.raises(IndexError, match="outside the plan's"):
        plan.parameters(np.array([0, plan.views]), np.array([0, 1]))


# Views of a plan


@pytest.mark.parametrize("name", ["cifar", "digits", "flips", "twice", "nothing"])
def test_each_sample_meets_each_view_exactly_once(name: str) -> None:
    plan = ViewPlan(RECIPES[name], "all", 1, 30)
    table = {tuple(row) for row in np.ndindex(*plan.ranges)}
    assert plan.views == len(table) == math.prod(plan.ranges)
    seen = np.stack([plan.parameters(view) for view in range(plan.views)], axis=1)  # (samples, views, p)
    for rows in seen.tolist():
        assert {tuple(row) for row in rows} == table


def test_every_slab_mixes_many_views() -> None:
    """1000 draws from 162 miss each view with probability 0.2 %: chance cannot give fewer than 155 different views."""
    plan = ViewPlan(CIFAR, "all", 1, 1000)
    for view in range(plan.views):
        assert len(np.unique(plan.parameters(view), axis=0)) >= 155


@pytest.mark.parametrize("name", ["cifar", "digits", "twice"])
def test_consecutive_views_are_draws_without_replacement(name: str) -> None:
    """In e epochs a sample meets at least as many offsets and places as in e independent draws, and no view predicts the next.

    Checked in all disjoint windows of the first 60 epochs. Without replacement from V rows, the correlation is -1 / (V
    - 1).
    """
    count, epochs = 10_000, 60
    plan = ViewPlan(RECIPES[name], "all", 5, count)
    shown = np.stack([plan.parameters(epoch % plan.views) for epoch in range(epochs)]).astype(np.int64)
    cells = [(n, shown[..., column]) for column, n in enumerate(plan.ranges)]
    cells.append((math.prod(plan.ranges[:2]), shown[..., 0] * plan.ranges[1] + shown[..., 1]))  # the place of a crop
    for places, values in cells:
        for window in (3, 10, 30, 60):
            if places == plan.views and window > plan.views:
                continue  # every view was met already
            met = []
            for start in range(0, epochs, window):
                ordered = np.sort(values[start : start + window], axis=0)
                met.append(1 + (np.diff(ordered, axis=0) > 0).sum(axis=0))
            independent = places * (1 - (1 - 1 / places) ** window)
            assert np.mean(met) >= independent, (places, window)
        for lag in (1, 2, 3):
            found = np.corrcoef(values[:-lag].ravel(), values[lag:].ravel())[0, 1]
            error = 1 / math.sqrt(count * min(plan.views, epochs - lag))
            assert abs(found + 1 / (plan.views - 1)) < 5 * error, (places, lag)


def test_samples_have_orders_of_their_own() -> None:
    """Two orders of 162 views agree in one place on average; shifts of a common order agree in all places or in none."""
    plan = ViewPlan(CIFAR, "all", 5, 100)
    orders = np.stack([np.ravel_multi_index(plan.parameters(v).T.astype(np.int64), plan.ranges) for v in range(162)])
    for one in range(1, 100):
        first = int(np.flatnonzero(orders[:, one] == orders[0, 0])[0])
        assert (np.roll(orders[:, one], -first) == orders[:, 0]).sum() < 10


def test_how_many_views_a_recipe_has() -> None:
    counts = {name: ViewPlan(recipe, "all", 0, 1).views for name, recipe in RECIPES.items()}
    assert counts == {"cifar": 162, "digits": 9, "flips": 2, "twice": 100, "wide": 40401, "nothing": 1}


def pearson(cells: np.ndarray, count: int) -> float:
    """Return the deviation of Pearson's statistic from its mean under uniform cells, in standard deviations.

    For n draws into k equal cells: mean k - 1, variance 2 (k - 1) (n - 1) / n.
    """
    n = len(cells)
    observed = np.bincount(cells, minlength=count)
    assert len(observed) == count
    statistic = float(((observed - n / count) ** 2).sum() / (n / count))
    return (statistic - (count - 1)) / math.sqrt(2 * (count - 1) * (n - 1) / n)


def test_sampled_views_are_uniform_and_independent() -> None:
    """The deviation is at most 5 standard deviations in either direction: a distribution that is too even fails as well."""
    plan = ViewPlan(CIFAR, 4, 9, 20_000)
    cells = np.stack(
        [np.ravel_multi_index(plan.parameters(view).astype(np.int64).T, plan.ranges) for view in range(plan.views)]
    )
    for view in range(plan.views):
        assert abs(pearson(cells[view], 162)) < 5
        coarse = cells % 18  # left offset and flip: few enough cells to test pairs
        assert abs(pearson(coarse[view] * 18 + coarse[(view + 1) % 4], 324)) < 5, "one view tells of the next"
        assert abs(pearson(coarse[view][::2] * 18 + coarse[view][1::2], 324)) < 5, "one sample tells of the next"


def test_exhaustive_offsets_and_random_orders_are_uniform() -> None:
    plan = ViewPlan(CIFAR, "all", 9, 20_000)
    cells = np.ravel_multi_index(plan.parameters(17).astype(np.int64).T, plan.ranges)
    drawn = [random(9, epoch, 162, 20_000) for epoch in range(3)]
    for draw in (cells, *drawn):
        assert abs(pearson(draw, 162)) < 5
    for one, other in ((cells, drawn[0]), (drawn[0], drawn[1]), (drawn[1], drawn[2])):
        assert abs(pearson(one % 18 * 18 + other % 18, 324)) < 5


def test_seeds_and_views_make_different_plans() -> None:
    """Two independent draws of a view agree for 1 sample in 162: 6 of 1000, +- 2.5."""
    rows = [ViewPlan(CIFAR, 2, seed, 1000).parameters(view) for seed in (0, 1) for view in (0, 1)]
    rows.append(ViewPlan(CIFAR, "all", 0, 1000).parameters(0))
    for i, one in enumerate(rows):
        for other in rows[:i]:
            assert (one == other).all(axis=1).sum() < 20


# Orders


@pytest.mark.parametrize("views", [1, 9, 162])
def test_cycle_shows_every_view_in_v_epochs(views: int) -> None:
    for seed in range(20):
        for start in (0, 5):
            assert {cycle(seed, start + epoch, views, 10) for epoch in range(views)} == set(range(views))


def test_cycle_starts_anywhere() -> None:
    assert {cycle(seed, 0, 9, 10) for seed in range(100)} == set(range(9))


@quick
@given(st.integers(0, 2**63 - 1), st.integers(0, 500), st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
def test_random_is_a_function_of_seed_epoch_and_sample_alone(
    seed: int, epoch: int, views: int, few: int, more: int
) -> None:
    """A sample's view does not depend on the other samples of a call, or on earlier calls."""
    whole = random(seed, epoch, views, few + more)
    random(seed, epoch + 1, views, 3)
    assert np.array_equal(random(seed, epoch, views, few), whole[:few])
    assert whole.min() >= 0 and whole.max() < views


@quick
@given(st.integers(0, 2**63 - 1), st.integers(0, 500), st.integers(1, 300))
def test_sample_order_is_a_permutation(seed: int, epoch: int, samples: int) -> None:
    order = sample_order(seed, epoch, samples)
    assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(samples))


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = {tuple(sample_order(seed, epoch, 50).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


# Types, descriptions, errors


@pytest.mark.parametrize("padding", [1, 2, 4, 62, 63, 64, 127])
def test_dtype_is_the_smallest_that_leaves_its_minimum_free(padding: int) -> None:
    plan = ViewPlan([{"crop": {"padding": padding}}, "flip"], 1, 0, 1)
    smallest = next(t for t in (np.int8, np.int16, np.int32) if np.iinfo(t).max >= 2 * padding)
    assert plan.dtype == np.dtype(smallest)


def test_the_largest_offset_survives_its_dtype() -> None:
    for padding in (63, 64, 127):
        rows = ViewPlan([{"crop": {"padding": padding}}], 1, 0, 20_000).parameters(0)
        assert (rows.min(), rows.max()) == (0, 2 * padding)


@pytest.mark.parametrize("views", [7, "all"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_description_makes_the_same_plan(recipe: list[Any], views: Any) -> None:
    plan = ViewPlan(recipe, views, 5, 20)
    again = ViewPlan.from_description(plan.describe())
    assert again.describe() == plan.describe() and again.fingerprint == plan.fingerprint
    assert np.array_equal(again.parameters(plan.views - 1), plan.parameters(plan.views - 1))
    parsed = ViewPlan(parse_recipe(recipe), views, 5, 20)
    assert parsed.fingerprint == plan.fingerprint


def test_a_description_writes_defaults_out() -> None:
    short, long = ViewPlan(["crop", "flip"], 3, 0, 5), ViewPlan([{"crop": {"padding": 4}}, {"flip": {}}], 3, 0, 5)
    assert short.describe() == {
        "recipe": [{"crop": {"padding": 4}}, {"flip": {}}],
        "views": 3,
        "seed": 0,
        "samples": 5,
        "version": 2,
    }
    assert short.fingerprint == long.fingerprint


def test_the_fingerprint_changes_with_each_field() -> None:
    plans = [
        ViewPlan(CIFAR, 162, 0, 10),
        ViewPlan(CIFAR, "all", 0, 10),
        ViewPlan(CIFAR, 161, 0, 10),
        ViewPlan(CIFAR, 162, 1, 10),
        ViewPlan(CIFAR, 162, 0, 11),
        ViewPlan([{"crop": {"padding": 3}}, "flip"], 162, 0, 10),
        ViewPlan(["flip", {"crop": {"padding": 4}}], 162, 0, 10),
        ViewPlan(["flip"], 162, 0, 10),
        ViewPlan([], 162, 0, 10),
        ViewPlan(CIFAR, 162, 0, 10, purpose=Purpose.TEACHER_VIEWS),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (["blur"], f"has no augmentation 'blur'; allowed: {', '.join(AUGMENTATIONS)}"),
        ([{"crop": {"padding": 0}}], "step crop: padding is 0; expected >= 1"),
        ([{"crop": {"padding": 128}}], "step crop: padding is 128; expected <= 127"),
        ([{"crop": {"padding": 4.5}}], "step crop: padding is 4.5; expected a whole number"),
        ([{"crop": {"padding": True}}], "step crop: padding is true; expected a whole number"),
        ([{"crop": {"pad": 4}}], "step crop: unknown key pad; allowed: padding"),
        ([{"flip": {"p": 0.5}}], "step flip: unknown key p; allowed: none"),
        ([{"crop": 4}], "step crop is 4; expected keys with settings"),
        ([{"crop": 0}], "step crop is 0; expected keys with settings"),
        (
            [{"crop": {}, "flip": {}}],
            "has the step {'crop': {}, 'flip': {}}; expected a name, or one name with its settings",
        ),
        ([3], "has the step 3; expected a name, or one name with its settings"),
    ],
)
def test_a_bad_recipe_is_explained(recipe: list[Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        ViewPlan(recipe, 1, 0, 1)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("recipe", "views", "samples", "message"),
    [
        (CIFAR, 0, 5, "views is 0 and samples is 5; expected views >= 1 or 'all', samples >= 1"),
        (CIFAR, -1, 5, "views is -1 and samples is 5; expected views >= 1 or 'all', samples >= 1"),
        (CIFAR, 3, 0, "views is 3 and samples is 0; expected views >= 1 or 'all', samples >= 1"),
        (["crop"] * 10, "all", 5, "which makes 12157665459056928801 views; expected fewer than 2147483648"),
    ],
)
def test_an_impossible_plan_is_explained(recipe: list[Any], views: Any, samples: int, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        ViewPlan(recipe, views, 0, samples)
    assert message in str(caught.value)


def test_a_description_of_other_views_is_refused() -> None:
    described = ViewPlan(CIFAR, 3, 0, 5).describe()
    with pytest.raises(ValueError, match=r"^views\.version is 1; expected 2$"):
        ViewPlan.from_description(described | {"version": 1})
