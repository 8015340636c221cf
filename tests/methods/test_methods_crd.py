"""CRD: against loops in float64, the bank's state, the negatives, and the traps of public code."""

import math
from typing import Any

import pytest
import torch
from feature_losses import EPOCH, answers, asked_names, objective, randn, settings
from prepkd.errors import InputError
from prepkd.losses import info_nce, noise_contrastive
from prepkd.methods.contrastive import INDEX, ContrastiveRepresentation
from prepkd.methods.embeddings import Bank, Embeddings
from prepkd.methods.term import State
from prepkd.runtime.streams import DrawContext
from prepkd.training.trial import try_student
from small_training import COUNT as COUNT_OF_TRAINING
from small_training import DATASET
from torch import Tensor, nn

SAMPLES, DIM, COUNT, CLASSES = 12, 4, 30, 3
LABELS = torch.arange(SAMPLES) % CLASSES


def term(**changes: Any) -> ContrastiveRepresentation:
    return ContrastiveRepresentation(**{"dim": DIM, "count": COUNT} | changes)


def bank(samples: int = SAMPLES, sizes: tuple[int, int] = (5, 6), dim: int = DIM, seed: int = 0) -> Bank:
    torch.manual_seed(seed)
    return Bank(*sizes, dim, samples).double()


def step(
    adapter: nn.Module,
    index: Tensor,
    *,
    chosen: ContrastiveRepresentation | None = None,
    features: tuple[Tensor, Tensor] | None = None,
    labels: Tensor | None = None,
    seed: int = 3,
) -> Tensor:
    """Return the values of a batch whose negatives are drawn with `seed`."""
    chosen = chosen or term()
    own, theirs = features or (randn(len(index), 5, seed=1), randn(len(index), 6, seed=2))
    torch.manual_seed(seed)
    given = LABELS[index] if labels is None else labels
    return chosen.loss({"pooled": own}, {"pooled": theirs}, given, State(EPOCH, adapter, {INDEX: index}))


def embedded(layer: nn.Linear, features: Tensor) -> list[list[float]]:
    rows = []
    for row in features.tolist():
        out = [
            sum(w * x for w, x in zip(weights, row, strict=True)) + b
            for weights, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        ]
        length = math.sqrt(sum(x * x for x in out))
        rows.append([x / length for x in out])
    return rows


def dot(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


def test_the_loss_is_the_papers_with_a_tiny_bank() -> None:
    adapter, index = bank(), torch.tensor([1, 4, 7])
    adapter.labels.copy_(LABELS)
    student_rows, teacher_rows = (rows.tolist() for rows in adapter.rows)
    features = randn(3, 5, seed=1), randn(3, 6, seed=2)
    torch.manual_seed(3)
    drawn = torch.randint(SAMPLES, (COUNT,)).tolist()
    found = step(adapter, index, features=features)
    own, theirs = embedded(adapter.student, features[0]), embedded(adapter.teacher, features[1])
    expected = [0.0] * 3
    for anchors, rows in ((own, teacher_rows), (theirs, student_rows)):
        every = [math.exp(dot(e, rows[j]) / 0.07) for i, e in enumerate(anchors) for j in [int(index[i]), *drawn]]
        z = SAMPLES * sum(every) / len(every)
        c = COUNT / SAMPLES
        for i, e in enumerate(anchors):
            h = math.exp(dot(e, rows[int(index[i])]) / 0.07) / z
            expected[i] -= math.log(h / (h + c))
            others = [j for j in drawn if LABELS[j] != LABELS[index[i]]]
            costs = [-math.log(c / (math.exp(dot(e, rows[j]) / 0.07) / z + c)) for j in others]
            expected[i] += COUNT * sum(costs) / len(costs)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_noise_contrastive_is_the_loops() -> None:
    positive, negatives = randn(3, seed=0), randn(3, 5, seed=1)
    others = torch.tensor([[1, 1, 0, 1, 0], [1] * 5, [0, 0, 0, 0, 1]]).bool()
    plain = noise_contrastive(positive, negatives, samples=20)
    marked = noise_contrastive(positive, negatives, samples=20, others=others)
    c = 5 / 20
    for i in range(3):
        h = math.exp(positive[i])
        costs = [-math.log(c / (math.exp(x) + c)) for x in negatives[i].tolist()]
        first = -math.log(h / (h + c))
        assert float(plain[i]) == pytest.approx(first + sum(costs), rel=1e-12)
        kept = [cost for cost, other in zip(costs, others[i].tolist(), strict=True) if other]
        assert float(marked[i]) == pytest.approx(first + 5 * sum(kept) / len(kept), rel=1e-12)
    none = noise_contrastive(positive, negatives, samples=20, others=torch.zeros(3, 5, dtype=torch.bool))
    torch.testing.assert_close(none, torch.nn.functional.softplus(math.log(c) - positive))


def test_noise_contrastive_is_finite_where_the_exponential_is_not() -> None:
    """exp(1 / 0.07) is beyond float16, exp(8000) beyond float64."""
    for size in (14.3, 8000.0):
        positive = torch.tensor([-size, size], requires_grad=True)
        negatives = torch.tensor([[size, -size], [size, -size]], requires_grad=True)
        found = noise_contrastive(positive, negatives, samples=4)
        found.sum().backward()
        for values in (found, positive.grad, negatives.grad):
            assert values is not None and values.isfinite().all()


def test_in_the_batch_it_is_a_softmax_over_other_classes_in_both_directions() -> None:
    own, theirs = randn(4, DIM, seed=0), randn(4, DIM, seed=1)
    labels = torch.tensor([0, 1, 0, 2])
    found = info_nce(own, theirs, labels, temperature=0.5)
    unit = [[[x / math.sqrt(dot(row, row)) for x in row] for row in each.tolist()] for each in (own, theirs)]
    for i in range(4):
        expected = 0.0
        for anchors, rows in (unit, unit[::-1]):
            scores = {j: math.exp(dot(anchors[i], rows[j]) / 0.5) for j in range(4) if j == i or labels[j] != labels[i]}
            expected -= math.log(scores[i] / sum(scores.values()))
        assert float(found[i]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(InputError, match="temperature"):
        info_nce(own, theirs, labels, temperature=0.0)


def test_a_rotation_of_both_embeddings_changes_nothing() -> None:
    turn, _ = torch.linalg.qr(randn(DIM, DIM, seed=9))
    adapter, turned, index = bank(), bank(), torch.tensor([0, 5, 10])
    turned.rows.copy_(adapter.rows @ turn.T)
    with torch.no_grad():
        for layer, source in ((turned.student, adapter.student), (turned.teacher, adapter.teacher)):
            layer.weight.copy_(turn @ source.weight)
            layer.bias.copy_(turn @ source.bias)
    torch.testing.assert_close(step(turned, index), step(adapter, index))
    torch.testing.assert_close(turned.rows, adapter.rows @ turn.T)


def test_shown_rows_are_drawn_to_their_embeddings_and_others_stay() -> None:
    adapter, index = bank(), torch.tensor([2, 9])
    before = adapter.rows.clone()
    features = randn(2, 5, seed=1), randn(2, 6, seed=2)
    step(adapter, index, features=features)
    embeddings = [embedded(adapter.student, features[0]), embedded(adapter.teacher, features[1])]
    for k in range(2):
        for i, sample in enumerate(index.tolist()):
            mixed = [0.5 * m + 0.5 * e for m, e in zip(before[k, sample].tolist(), embeddings[k][i], strict=True)]
            length = math.sqrt(dot(mixed, mixed))
            assert adapter.rows[k, sample].tolist() == pytest.approx([x / length for x in mixed], rel=1e-12)
    untouched = [i for i in range(SAMPLES) if i not in index]
    assert torch.equal(adapter.rows[:, untouched], before[:, untouched])
    assert ((adapter.rows[:, untouched].norm(dim=-1) - 1).abs() > 1e-3).any(), "uniform at first, not of length 1"
    assert adapter.labels.tolist() == [int(LABELS[i]) if i in index else -1 for i in range(SAMPLES)]
    assert not adapter.rows.requires_grad


def test_z_is_of_the_first_batch_and_stays() -> None:
    adapter = bank()
    assert adapter.log_z.isinf().all()
    step(adapter, torch.tensor([0, 1]))
    first = adapter.log_z.clone()
    assert first.isfinite().all()
    step(adapter, torch.tensor([2, 3]), features=(5 * randn(2, 5, seed=7), randn(2, 6, seed=8)))
    assert torch.equal(adapter.log_z, first)


def test_random_embeddings_have_the_papers_first_loss() -> None:
    """For random unit embeddings of 128 numbers and 16,384 of 50,000 rows, Z / N is 2.22 and the loss 11.6 per direction."""
    torch.manual_seed(0)
    adapter = Bank(128, 128, 128, 50_000)
    chosen = ContrastiveRepresentation()
    index = torch.arange(16)
    own, theirs = torch.randn(16, 128), torch.randn(16, 128)
    values = chosen.loss({"pooled": own}, {"pooled": theirs}, index % 10, State(EPOCH, adapter, {INDEX: index}))
    # Z's estimate has 16 anchors: each score's exponential has a relative spread of 2.
    torch.testing.assert_close(adapter.log_z.exp() / 50_000, torch.full((2,), 2.22), rtol=0.15, atol=0.0)
    # The positive's logarithm has a standard deviation of 1.26, in 32 directions.
    assert float(values.detach().mean() / 2) == pytest.approx(11.6, abs=4 * 1.26 / math.sqrt(32))


def test_negatives_are_of_other_classes_and_never_the_sample_itself() -> None:
    """With a bank of two classes, other rows of a sample's own class have no influence on the sample's value."""
    adapter, changed, index = bank(), bank(), torch.tensor([0, 1])
    labels = torch.arange(SAMPLES) % 2
    for each in (adapter, changed):
        each.labels.copy_(labels)
        each.log_z.zero_()
    changed.rows[:, 2::2] += 1.0  # rows of class 0, except sample 0's
    one, other = (step(each, index, labels=labels[index]) for each in (adapter, changed))
    assert one[0] == other[0] and one[1] != other[1]
    # A sample that was never shown has no class in the bank; its own row is still not a negative.
    fresh, again = bank(), bank()
    for each in (fresh, again):
        each.log_z.zero_()
    drawn = bank().scores(torch.zeros(2, 1, DIM).double(), torch.tensor([4]), torch.tensor([1]), COUNT, 1.0)
    torch.manual_seed(3)
    rows = torch.randint(SAMPLES, (COUNT,))
    torch.manual_seed(3)
    others = fresh.scores(torch.zeros(2, 1, DIM).double(), torch.tensor([4]), torch.tensor([1]), COUNT, 1.0)[2]
    assert torch.equal(others[0], rows != 4) and drawn[2].shape == (1, COUNT)


def test_draws_follow_torchs_seed_and_cover_the_bank() -> None:
    first, again, other = (step(bank(), torch.tensor([0, 1]), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(0)
    seen = torch.zeros(SAMPLES)
    adapter = bank()
    adapter.labels.fill_(0)
    for _ in range(50):
        state = torch.get_rng_state()
        drawn = torch.randint(SAMPLES, (COUNT,))
        torch.set_rng_state(state)
        others = adapter.scores(torch.zeros(2, 1, DIM).double(), torch.tensor([0]), torch.tensor([1]), COUNT, 1.0)[2][0]
        seen += torch.bincount(drawn[others], minlength=SAMPLES)
    # 1,500 uniform draws of 12 rows: 125 each, a standard deviation of 10.7; sample 0 is the anchor itself.
    assert seen[0] == 0 and ((seen[1:] - 125).abs() < 5 * 10.7).all()


def test_the_index_is_the_sample_in_every_epoch() -> None:
    for epoch in (0, 3):
        assert term().draw(DrawContext(1, epoch, 5, 2))[INDEX].tolist() == [0, 1, 2, 3, 4]
    assert settings("crd").terms.drawn == (INDEX,)


def test_both_layers_are_trained_and_neither_the_features_of_the_teacher_nor_the_bank() -> None:
    for negatives in ("bank", "batch"):
        made = objective(
            "crd",
            {"pooled": randn(3, 5, seed=0)},
            {"pooled": randn(3, 6, seed=0)},
            SAMPLES,
            crd={"negatives": negatives, "dim": DIM, "count": COUNT},
        )
        own, theirs = randn(3, 5, seed=1).requires_grad_(), randn(3, 6, seed=2)
        drawn = {INDEX: torch.tensor([0, 1, 2])}
        logits = randn(3, 2, seed=3)
        values = made(
            {"pooled": own, "logits": logits},
            torch.tensor([0, 1, 0]),
            answers(made, {"pooled": theirs}, logits, **drawn),
        )
        values["loss"].sum().backward()
        assert own.grad is not None and own.grad.abs().sum() > 0
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in made.parameters())
        assert len(list(made.parameters())) == 4
        state = {key.removeprefix("adapters.crd.") for key in made.state_dict()} - {
            "student.weight",
            "student.bias",
            "teacher.weight",
            "teacher.bias",
        }
        assert state == ({"rows", "labels", "log_z"} if negatives == "bank" else set())


def test_a_batch_of_one_dead_features_and_half_precision_are_finite() -> None:
    adapter = Bank(5, 6, DIM, SAMPLES)
    nn.init.zeros_(adapter.student.bias)
    dead = torch.zeros(1, 5).requires_grad_()
    step(adapter, torch.tensor([3]), features=(dead, torch.randn(1, 6))).sum().backward()
    assert dead.grad is not None and dead.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())
    half = (8000 * torch.randn(3, 5)).bfloat16().requires_grad_()
    found = step(adapter, torch.tensor([0, 1, 2]), features=(half, torch.randn(3, 6).bfloat16()))
    found.sum().backward()
    assert found.dtype == torch.float32 and half.grad is not None and half.grad.isfinite().all()
    assert adapter.rows.isfinite().all()


def test_mixed_labels_count_by_their_larger_share() -> None:
    index, mixed = torch.tensor([0, 1, 2]), torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.0, 0.3, 0.7]])
    one, other = bank(), bank()
    assert torch.equal(step(one, index, labels=mixed), step(other, index, labels=torch.tensor([0, 1, 2])))
    assert torch.equal(one.labels, other.labels)


def test_maps_are_refused_and_settings_have_domains() -> None:
    with pytest.raises(InputError) as caught:
        term(feature="stage3").adapter({"stage3": torch.Size((4, 2, 2))}, {"stage3": torch.Size((4,))}, 3)
    assert str(caught.value) == "distill.crd.feature is 'stage3': shapes (4, 2, 2) and (4,); expected two vectors"
    for changes in ({"temperature": 0.0}, {"momentum": 1.0}, {"count": 0}, {"dim": 0}, {"negatives": "fifo"}):
        with pytest.raises(ValueError):
            term(**changes)


@pytest.mark.parametrize("method", ["crd", "kd+crd", "ka-ps+dtd-flsw+crd"])
def test_the_objective_adds_it_with_its_weight(method: str) -> None:
    student, teacher = {"pooled": randn(2, 5, seed=1)}, {"pooled": randn(2, 6, seed=2)}
    made = objective(method, student, teacher, SAMPLES, crd={"dim": DIM, "count": COUNT})
    assert asked_names(made) == ("pooled",) and isinstance(made.adapters["crd"], Embeddings)
    given = answers(made, teacher, randn(2, 2, seed=8), **{INDEX: torch.tensor([3, 4])})
    values = made(student | {"logits": randn(2, 2, seed=7)}, torch.tensor([0, 1]), given)
    ce, kd = settings(method).loss_weights
    expected = ce * values["ce"] + kd * values.get("kd", torch.zeros(2)) + 0.8 * values["crd"]
    torch.testing.assert_close(values["loss"], expected)


def test_negatives_in_the_batch_need_a_batch() -> None:
    assert (term(negatives="batch").smallest_batch, term().smallest_batch) == (2, 1)
    chosen = settings("crd", crd={"negatives": "batch"}, batch_size=COUNT_OF_TRAINING - 1)
    with pytest.raises(
        InputError, match=r"the last batch has 1; crd compares the samples of a batch, at least 2; choose another batch"
    ):
        try_student(chosen, DATASET)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo itself reads .grad
def test_compiled_it_has_the_same_gradients() -> None:
    """The forward pass changes the bank: the backward pass must not read the changed bank again."""
    torch.compiler.reset()
    index, features = torch.arange(6), (randn(6, 5, seed=1), randn(6, 6, seed=2))
    found = []
    for backend in (None, "aot_eager"):
        adapter, chosen = bank(), term()

        def values(own: Tensor, theirs: Tensor, adapter: Bank = adapter, chosen: Any = chosen) -> Tensor:
            given = State(EPOCH, adapter, {INDEX: index})
            return chosen.loss({"pooled": own}, {"pooled": theirs}, LABELS[index], given)

        run = torch.compile(values, backend=backend) if backend else values
        own = features[0].clone().requires_grad_()
        torch.manual_seed(3)
        for _ in range(2):
            run(own, features[1]).sum().backward()
        assert own.grad is not None
        found.append([own.grad, *(p.grad for p in adapter.parameters()), *adapter.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
